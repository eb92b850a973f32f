"""Networks of few weights, for tests of everything but the networks."""

import keras
import numpy as np

from keras_psp.layers import BatchNormalization
from keras_psp.models.segmentation_model import SegmentationModel


@keras.saving.register_keras_serializable("keras_psp_tests")
class Tiny(SegmentationModel):
    """Backbone, head and auxiliary head of a convolution each, with the names of PSPNet's."""

    def __init__(self, num_classes=3, auxiliary_weight=0.4, regularizer=None, dropout=0.0):
        self.auxiliary_weight = auxiliary_weight
        self.regularizer = regularizer
        self.dropout = dropout
        super().__init__("its own", num_classes)

    def convolution(self, filters, name):
        # Not Glorot's, which tests of models replace by zeros.
        return keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=keras.initializers.RandomNormal(0, 0.2, seed=len(name)),
            kernel_regularizer=self.regularizer,
            name=name,
        )

    def build_encoder(self, backbone, weights, input_shape):
        image = keras.Input(input_shape)
        features = keras.layers.Rescaling(1 / 255)(image)
        features = self.convolution(4, "backbone")(features)
        features = BatchNormalization(name="backbone_bn")(features)
        features = keras.layers.Dropout(self.dropout, seed=0)(features)
        encoder = keras.Model(image, features)
        encoder.initial_weights = "random values"
        return encoder

    def build_decoder(self, features):
        self.head = self.convolution(self.num_classes, "head")
        if self.auxiliary_weight:
            self.auxiliary_head = self.convolution(self.num_classes, "auxiliary_head")

    def decode(self, features, training=None):
        return self.head(features)

    def decode_auxiliary(self, features, training=None):
        return self.auxiliary_head(features)

    def get_config(self):
        own = ("num_classes", "auxiliary_weight", "regularizer", "dropout")
        return {name: getattr(self, name) for name in own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def tiny_backbone(name, weights, output_stride, input_shape):
    """A network of four convolutions, as a row of the table of backbones."""
    image = keras.Input(input_shape)
    maps = [keras.layers.Rescaling(1 / 255)(image)]
    for filters in (4, 8, 12, 16):
        maps.append(keras.layers.Conv2D(filters, 3, 2, "same", activation="relu")(maps[-1]))
    network = keras.Model(image, maps[1:])
    network.initial_weights = "random values"
    return network, maps[1:]


def data(number=8, size=(6, 7), num_classes=3, seed=0):
    """Random images and labels, a fifth of them void."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (number, *size, 3)).astype("float32")
    labels = rng.integers(0, num_classes, (number, *size)).astype("int32")
    labels[rng.random(labels.shape) < 0.2] = 255
    return images, labels
