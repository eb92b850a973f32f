"""What SegNet and DeconvNet share: a VGG that tells where its maxima were, and its mirror image."""

import os
from collections.abc import Sequence
from typing import Any, TypedDict

import keras

from keras_psp.choices import check_name
from keras_psp.layers import (
    BatchNormalization,
    ImageNormalization,
    LocalResponseNormalization,
    MaxPoolWithArgmax,
    MaxUnpool,
    PaddedConv2D,
)
from keras_psp.models.classifier import Classifier
from keras_psp.models.fully_connected import copy_weights
from keras_psp.models.segmentation_model import SegmentationModel
from keras_psp.models.vgg import VGGS
from keras_psp.signatures import explains_other_names
from keras_psp.surgery.graph import copy_operation, walk

# What a VGG may have besides convolutions and poolings.
_POINTWISE = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    ImageNormalization,
    LocalResponseNormalization,
)


class MirroredOptions(TypedDict, total=False):
    """What SegNet and DeconvNet pass on to `MirroredVGG`, for editors."""

    backbone_weights: str | os.PathLike[str] | None
    weights: str | os.PathLike[str] | None
    fresh_head: bool
    input_shape: Sequence[int | None]


class MirroredVGG(SegmentationModel):
    """The base of SegNet and DeconvNet: a VGG, and the same backwards.

        image → convolutions → pooling → … → unpooling → convolutions → logits
                                  └─── places of maxima ───→┘

    The encoder is a VGG with batch normalization behind each convolution, also where the VGG that
    it starts from has none. Its poolings tell where the maxima were, and sizes are rounded up. The
    decoder undoes each pooling, and has each convolution backwards: from its outputs to its inputs.

    Args:
        backbone: As the networks take it.
        num_classes: Number of classes K.
        backbone_weights: As in `SegmentationModel`.
        weights: As in `SegmentationModel`.
        fresh_head: As in `SegmentationModel`.
        input_shape: As in `SegmentationModel`.
        name: Name of the model.

    Raises:
        ValueError: If the backbone is no VGG, or the weights are another architecture's.
    """

    @explains_other_names
    def __init__(
        self,
        backbone: str | keras.Model,
        num_classes: int,
        *,
        backbone_weights: str | os.PathLike[str] | None = "auto",
        weights: str | os.PathLike[str] | None = None,
        fresh_head: bool = False,
        input_shape: Sequence[int | None] = (None, None, 3),
        name: str | None = None,
    ):
        super().__init__(
            backbone,
            num_classes,
            backbone_weights=backbone_weights,
            weights=weights,
            fresh_head=fresh_head,
            output_stride=32,
            input_shape=input_shape,
            name=name,
        )

    def build_encoder(self, backbone, weights, input_shape):
        if isinstance(backbone, str):
            check_name("backbone", backbone, VGGS, "SegNet and DeconvNet mirror a VGG: choose one.")
        vgg = super().build_encoder(backbone, weights, input_shape)
        places: list[Any] = []

        def pool(x):
            x, where = MaxPoolWithArgmax(name=f"pool{len(places) + 1}")(x)
            places.append(where)
            return x

        def visit(layer, x, **kwargs):
            _check_layer(layer, vgg)
            if isinstance(layer, keras.layers.MaxPooling2D):
                return pool(x)
            if not isinstance(layer, keras.layers.Conv2D):
                return copy_operation(layer)(x, **kwargs)
            # A convolution with its ReLU in it has no normalization yet.
            complete = layer.activation is keras.activations.linear
            options = {"use_bias": layer.use_bias, "name": layer.name}
            x = PaddedConv2D(layer.filters, layer.kernel_size, **options)(x)
            return x if complete else normalized(x, layer.name)

        image = keras.Input(input_shape, name="image")
        pooled = pool(walk(vgg, visit, image)["P5"])
        maps = [image, *places, pooled]
        encoder = Classifier(image, maps, variant=vgg.variant, name=vgg.name)
        copy_weights(vgg, encoder)
        return encoder

    def mirrored(self, features: Sequence[Any], whole: bool) -> keras.Model:
        """Makes the decoder: the encoder read backwards.

        Args:
            features: What `features` gives.
            whole: Whether the first convolution, which sees the image, has its counterpart, with as
                many channels.

        Returns:
            A model of what `features` gives, or of another map in the place of the last one.
        """
        inputs = [keras.Input(x.shape[1:], dtype=x.dtype) for x in features]
        *maps, x = inputs
        kinds = PaddedConv2D | MaxPoolWithArgmax
        layers = [layer for layer in self.backbone.layers if isinstance(layer, kinds)]
        # A part of the variables' names, by which the recipe knows what learns faster.
        with keras.name_scope("decoder"):
            for layer in reversed(layers):
                if isinstance(layer, MaxPoolWithArgmax):
                    # Before this pooling the map had the size of the places of the one before.
                    places = maps.pop()
                    x = MaxUnpool(name=f"un{layer.name}")(x, places, like=maps[-1])
                elif whole or layer is not layers[0]:
                    filters = layer.filters if layer is layers[0] else layer.input.shape[-1]
                    options = {"kernel_initializer": "he_normal", "name": layer.name}
                    x = PaddedConv2D(filters, layer.kernel_size, **options)(x)
                    x = normalized(x, layer.name)
        return keras.Model(inputs, x, name="decoder")

    def get_config(self):
        config = super().get_config()
        for fixed in ("output_stride", "align_corners", "gradient_checkpointing"):
            config.pop(fixed)  # They are no arguments.
        return config


def normalized(x: Any, name: str) -> Any:
    """Puts batch normalization and ReLU behind a convolution.

    Args:
        x: What the convolution gives.
        name: Its name.
    """
    x = BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _check_layer(layer: Any, network: keras.Model) -> None:
    """Checks that a layer may be one of a VGG."""
    if isinstance(layer, keras.layers.MaxPooling2D):
        fits = layer.pool_size == layer.strides == (2, 2)
    elif isinstance(layer, keras.layers.Conv2D):
        fits = layer.padding == "same" and layer.strides == (1, 1) and layer.groups == 1
    else:
        fits = isinstance(layer, _POINTWISE)
    if not fits:
        raise ValueError(
            "SegNet and DeconvNet mirror a VGG: convolutions that keep the size, and 2×2 max "
            f"poolings, one behind the other. Received: backbone={network.name}, with "
            f"{layer.name}, a {type(layer).__name__}. Choose a VGG by its name, such as 'vgg16_bn'."
        )
