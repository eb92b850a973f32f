"""A segmentation model of a hundred weights, for tests of everything but the networks."""

import keras
import numpy as np

from keras_psp.layers import BatchNormalization
from keras_psp.models.segmentation_model import SegmentationModel


@keras.saving.register_keras_serializable("keras_psp_tests")
class Tiny(SegmentationModel):
    """Backbone, head and auxiliary head of a convolution each, with the names of PSPNet's."""

    def __init__(self, num_classes=3, auxiliary_weight=0.4, regularizer=None, dropout=0.0):
        def convolution(filters, name):
            # Not Glorot's, which tests of models replace by zeros.
            return keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                kernel_initializer=keras.initializers.RandomNormal(0, 0.2, seed=len(name)),
                kernel_regularizer=regularizer,
                name=name,
            )

        image = keras.Input((None, None, 3), name="image")
        features = keras.layers.Rescaling(1 / 255)(image)
        features = convolution(4, "backbone")(features)
        features = BatchNormalization(name="backbone_bn")(features)
        features = keras.layers.Dropout(dropout, seed=0)(features)
        head = convolution(num_classes, "head")
        logits = keras.layers.Activation("linear", dtype="float32")(head(features))
        super().__init__(image, logits)
        self.features = keras.Model(image, features)
        self.head = head
        if auxiliary_weight:
            self.auxiliary_head = convolution(num_classes, "auxiliary_head")
            self.auxiliary_head.build((None, None, None, 4))
        self.num_classes = num_classes
        self.auxiliary_weight = auxiliary_weight
        self.initial_weights = "random values"
        self.config = {
            "num_classes": num_classes,
            "auxiliary_weight": auxiliary_weight,
            "regularizer": regularizer,
            "dropout": dropout,
        }

    def call(self, inputs, training=None, mask=None):
        features = self.features(inputs, training=training)
        logits = keras.ops.cast(self.head(features), "float32")
        if not training or not self.auxiliary_weight:
            return logits
        auxiliary = keras.ops.cast(self.auxiliary_head(features), "float32")
        return {"logits": logits, "auxiliary": auxiliary}

    def get_config(self):
        return self.config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def data(number=8, size=(6, 7), num_classes=3, seed=0):
    """Random images and labels, a fifth of them void."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (number, *size, 3)).astype("float32")
    labels = rng.integers(0, num_classes, (number, *size)).astype("int32")
    labels[rng.random(labels.shape) < 0.2] = 255
    return images, labels
