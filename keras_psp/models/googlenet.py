"""GoogLeNet: nine inception modules, and two classifiers more while it learns."""

import functools
from dataclasses import dataclass
from typing import Any

import keras

from keras_psp.keras_internals import add_layers, compiled_loss
from keras_psp.layers import (
    DilatedMaxPooling2D,
    InceptionModule,
    LocalResponseNormalization,
    PaddedConv2D,
)
from keras_psp.layers.batch_normalization import at_least_one_image
from keras_psp.layers.inception_module import convolution
from keras_psp.models.classifier import Classifier, build_classifier
from keras_psp.models.resnet import stage_dilations
from keras_psp.models.training import ModelWithOwnLoss
from keras_psp.signatures import FromArguments

# The paper's table 1: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@dataclass(frozen=True)
class Variant:
    """One row of the table of GoogLeNets.

    Attributes:
        batch_normalization: Whether batch normalization takes the place of biases and of local
            response normalization.
        largest_kernel: Side of the kernel that the paper calls 5×5.
        centered: Whether the poolings with stride 2 pad evenly; otherwise they pad at the end only.
        last_pool: Side of the window of the last pooling.
        dropout: Share of values dropped before the classifier.
        normalization: How its weights need images to be normalized.
    """

    batch_normalization: bool = False
    largest_kernel: int = 5
    centered: bool = True
    last_pool: int = 3
    dropout: float = 0.4
    normalization: str = "torch"


# The paper's, and torchvision's, which came from TensorFlow and kept a mistake: 3×3 for 5×5.
GOOGLENETS = {
    "googlenet": Variant(),
    "googlenet_torchvision": Variant(
        batch_normalization=True,
        largest_kernel=3,
        centered=False,
        last_pool=2,
        dropout=0.2,
        normalization="tf",
    ),
}

# Where the auxiliary classifiers look at the features.
_AUXILIARY = ("inception_4a", "inception_4d")


@keras.saving.register_keras_serializable("keras_psp")
class AuxiliaryClassifier(FromArguments, keras.layers.Layer):
    """The small network that classifies from the middle of GoogLeNet, so that the middle learns.

    Args:
        num_classes: Number of classes.
        activation: Activation of the last layer; `None` for logits.
        dropout: Share of the hidden values dropped, 0–1.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`, height and width known and at least 5.

    Output shape:
        `(batch, num_classes)`

    Reference:
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), section 5.

    Example:

    ```python
    import numpy as np
    from keras_psp.models.googlenet import AuxiliaryClassifier

    features = np.ones((2, 14, 14, 512), "float32")
    print(tuple(AuxiliaryClassifier(10)(features).shape))
    ```

    ```text
    (2, 10)
    ```
    """

    def __init__(
        self,
        num_classes: int,
        activation: str | None = "softmax",
        dropout: float = 0.7,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.activation = activation
        self.dropout = dropout
        policy = {"dtype": self.dtype_policy}
        last = {"data_format": "channels_last", **policy}
        self.chain = [
            keras.layers.AveragePooling2D(5, 3, name="pool", **last),
            keras.layers.Conv2D(128, 1, activation="relu", name="conv", **last),
            keras.layers.Flatten(name="flatten", **last),
            keras.layers.Dense(1024, "relu", name="fc", **policy),
            keras.layers.Dropout(dropout, name="drop", **policy),
            keras.layers.Dense(num_classes, activation, name="predictions", **policy),
        ]

    def build(self, input_shape):
        for layer in self.chain:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        x = inputs
        for layer in self.chain:
            x = layer(x, training=training) if layer.name == "drop" else layer(x)
        return x

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes)


@keras.saving.register_keras_serializable("keras_psp")
class GoogLeNet(ModelWithOwnLoss, Classifier):
    """GoogLeNet, as `keras_psp.Inception("googlenet")` builds it.

    It has two auxiliary classifiers, whose losses `fit` adds. Calling it gives the predictions
    only, in training and inside other models, too. Inside other models the auxiliary classifiers do
    not train, and Keras warns that they have no gradients. Nor are they part of what
    `keras.models.clone_model` gives: copy by `GoogLeNet.from_config(model.get_config())`, and set
    the weights.

    Args:
        *args: What `Classifier` takes.
        auxiliary_weight: Weight of the loss of each auxiliary classifier; 0 leaves them out.
        **kwargs: What `Classifier` takes.
    """

    def __init__(self, *args: Any, auxiliary_weight: float = 0.3, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.auxiliary_weight = auxiliary_weight
        heads = {}
        for name in _AUXILIARY if auxiliary_weight else ():
            last = self.get_layer("predictions")
            heads[name] = AuxiliaryClassifier(
                last.units,
                keras.activations.serialize(last.activation),
                name=f"auxiliary_{name[-2:]}",
                dtype=last.dtype_policy,
            )
            heads[name].build(self.get_layer(name).output.shape)
        self.auxiliary_heads = heads
        add_layers(self, heads.values())

    def loss_and_outputs(self, x, y, sample_weight, training):
        auxiliary = []
        with at_least_one_image(x) as (predictions, of_real):
            # The network is a chain, and the auxiliary classifiers look at two of its layers.
            for layer in self.layers[1:]:
                predictions = layer(predictions, training=training)
                if training and layer.name in self.auxiliary_heads:
                    head = self.auxiliary_heads[layer.name]
                    auxiliary.append(of_real(head(predictions, training=training)))
            predictions = of_real(predictions)
        loss = self.compute_loss(x, y, predictions, sample_weight, training=training)
        # Not `compute_loss` again: what layers add to the loss (regularizers) counts once.
        for outputs in auxiliary:
            loss += self.auxiliary_weight * compiled_loss(self)(y, outputs, sample_weight)
        return loss, predictions

    def get_config(self):
        return {**super().get_config(), "auxiliary_weight": self.auxiliary_weight}


def build_googlenet(
    variant: str = "googlenet",
    *,
    include_top: bool = True,
    naive: bool = False,
    output_stride: int = 32,
    auxiliary_weight: float = 0.3,
    dropout: float | None = None,
    **kwargs: Any,
) -> Classifier:
    """Builds a GoogLeNet, see `Inception`; `output_stride` is that of `ResNet`."""
    row = GOOGLENETS[variant]
    if not include_top:
        auxiliary_weight = 0.0

    def features(x):
        for layer in _trunk(row, naive, output_stride):
            x = layer(x)
        return x

    return build_classifier(
        variant,
        features,
        normalization=row.normalization,
        minimum_size=1 if not auxiliary_weight else 65 if row.centered else 79,
        fixed_unless="auxiliary_weight=0" if auxiliary_weight else None,
        model_class=functools.partial(GoogLeNet, auxiliary_weight=auxiliary_weight),
        include_top=include_top,
        dropout=row.dropout if dropout is None else dropout,
        **kwargs,
    )


def _trunk(row: Variant, naive: bool, output_stride: int) -> list[keras.layers.Layer]:
    """The layers behind the normalization, one behind the other."""

    def conv(name, *args):
        normalized = row.batch_normalization
        return convolution(PaddedConv2D, *args, batch_normalization=normalized, name=name)

    def normalize(name):
        return [] if row.batch_normalization else [LocalResponseNormalization(name=name)]

    trunk = [
        *conv("conv1", 64, 7, 2),
        *_pool("pool1", row.centered),
        *normalize("lrn1"),
        *conv("conv2_reduce", 64, 1),
        *conv("conv2", 192, 3),
        *normalize("lrn2"),
        *_pool("pool2", row.centered),
    ]
    before, dilations = "3", dict(zip("2345", stage_dilations(output_stride), strict=True))
    for name, filters in MODULES.items():
        stage = name[0]
        if stage != before:
            size = row.last_pool if stage == "5" else 3
            dilation = dilations[before] if dilations[stage] > 1 else None
            trunk += _pool(f"pool{before}", row.centered, size, dilation)
        trunk.append(
            InceptionModule(
                *filters,
                naive=naive,
                dilation_rate=dilations[stage],
                batch_normalization=row.batch_normalization,
                largest_kernel=row.largest_kernel,
                name=f"inception_{name}",
            )
        )
        before = stage
    return trunk


def _pool(
    name: str, centered: bool, size: int = 3, dilation_rate: int | None = None
) -> list[keras.layers.Layer]:
    """A pooling with stride 2, or one that is dilated and keeps every place."""
    if dilation_rate is not None:
        return [DilatedMaxPooling2D(size, dilation_rate, centered, name=name)]
    last: dict[str, Any] = {"data_format": "channels_last"}
    if centered:
        return [keras.layers.MaxPooling2D(size, 2, padding="same", name=name, **last)]
    # Zeros are as good as −∞ around what a ReLU put out.
    pad = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad", **last)
    return [pad, keras.layers.MaxPooling2D(size, 2, name=name, **last)]
