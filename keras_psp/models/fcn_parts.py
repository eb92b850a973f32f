"""What FCN is made of: a classifier's features, also padded as the authors do, and its layers."""

from typing import Any

import keras

from keras_psp.layers import Bilinear, ImageNormalization
from keras_psp.models.classifier import Classifier
from keras_psp.models.vgg import VGGS
from keras_psp.surgery.graph import copy_operation, walk

PADDINGS = {"same": "same", "paper": "valid"}
"""The paddings of `FCN`, and those of its convolutions."""

_LAST = {"data_format": "channels_last"}


def check_parts(
    backbone: Any, stride: int, head: str, padding: str, output_stride: int, auxiliary_weight: float
) -> None:
    """Checks that arguments of `FCN` go together."""
    received = f"Received: stride={stride}, head={head!r}, output_stride={output_stride}"
    if stride not in (32, 16, 8):
        raise ValueError(
            f"The finest scores are at 1/32, 1/16 or 1/8 of the image. {received}. "
            "Use stride=32, 16 or 8."
        )
    if output_stride != 32 and (stride != 32 or head == "fc"):
        raise ValueError(
            "Skips, fc6 and fc7 need a backbone that is not dilated. "
            f"{received}. Use output_stride=32; or stride=32 with head='convolution' or 'linear'."
        )
    if padding == "paper" and (backbone not in VGGS or head != "fc" or auxiliary_weight):
        raise ValueError(
            "The authors' padding is for their network: a VGG, by its name, with fc6 and fc7. "
            f"{received}, padding='paper', backbone={getattr(backbone, 'name', backbone)!r}, "
            f"auxiliary_weight={auxiliary_weight}. Use backbone='vgg16', head='fc' and "
            "auxiliary_weight=0; or padding='same'."
        )


def with_wide_padding(backbone: keras.Model) -> keras.Model:
    """Copies VGG's features into those of FCN's authors.

    The first convolution pads by 100 places, poolings keep what is left at the border, and images
    are normalized by another mean.

    Args:
        backbone: What `build_backbone` gives for a VGG.
    """

    def visit(operation, *args, **kwargs):
        if isinstance(operation, ImageNormalization):
            image = ImageNormalization("fcn", name=operation.name)(*args, **kwargs)
            return keras.layers.ZeroPadding2D(100, name="pad", **_LAST)(image)
        changes = {}
        if isinstance(operation, keras.layers.MaxPooling2D):
            changes = {"padding": "same"}
        elif operation.name == "block1_conv1":
            # All of its padding is above: OpenVINO leaves out that of a second layer.
            changes = {"padding": "valid"}
        return copy_operation(operation, **changes)(*args, **kwargs)

    image = keras.Input(backbone.inputs[0].shape[1:], name="image")
    copy = Classifier(
        image,
        walk(backbone, visit, image),
        variant=backbone.variant,
        initial_weights=backbone.initial_weights,
        name=backbone.name,
    )
    copy.set_weights(backbone.get_weights())
    return copy


def pooling(backbone: keras.Model, output_stride: int) -> keras.layers.Layer:
    """Makes what brings a backbone's stages to 1/8, 1/16 and 1/32, if its last one ends before.

    Args:
        backbone: What `build_backbone` gives.
        output_stride: The stride that its last stage should have.
    """

    def shape_alone(operation, *args, **kwargs):
        return operation.compute_output_spec(*args, **kwargs)

    # A large image, as maps without padding lack some places at their borders.
    side = 1024
    maps = walk(backbone, shape_alone, keras.KerasTensor((1, side, side, 3)))
    if round(side / maps["P5"].shape[1]) >= output_stride:
        return keras.layers.Identity(name="pool")
    return keras.layers.MaxPooling2D(2, padding="same", name="pool", **_LAST)


def scores(num_classes: int, name: str) -> keras.layers.Conv2D:
    """Makes a 1×1 convolution to the classes, which starts from zero.

    Args:
        num_classes: Number of classes.
        name: Name of the layer.
    """
    return keras.layers.Conv2D(num_classes, 1, kernel_initializer="zeros", name=name, **_LAST)


def upscores(
    factor: int, num_classes: int, padding: str, learned: bool, name: str
) -> keras.layers.Layer:
    """Makes what upsamples scores, before they are cropped or resized.

    Args:
        factor: How much larger they become.
        num_classes: Number of classes.
        padding: `"same"` or `"paper"`.
        learned: Whether it is trained. Otherwise it stays bilinear; where padding is "same", it
            does nothing, as to resize is bilinear itself.
        name: Name of the layer.
    """
    if padding == "same" and not learned:
        return keras.layers.Identity(name=name)
    return keras.layers.Conv2DTranspose(
        num_classes,
        2 * factor,
        factor,
        padding=PADDINGS[padding],
        use_bias=False,
        kernel_initializer=Bilinear(),
        trainable=learned,
        name=name,
        **_LAST,
    )
