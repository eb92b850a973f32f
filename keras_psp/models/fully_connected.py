"""VGG's fully connected layers as convolutions, fc6 and fc7, with their trained weights."""

import math
import os
from typing import Any

import keras

from keras_psp.models.vgg import HIDDEN, VGG, VGGS


def with_classifier(
    backbone: Any, weights: str | os.PathLike[str] | None, filters: int | None
) -> tuple[Any, str | os.PathLike[str] | None]:
    """Returns the classifier whose fully connected layers are fc6 and fc7, where there is one.

    Args:
        backbone: What the network gets: a name, or a model.
        weights: What the backbone starts from.
        filters: Channels of fc6 and fc7, if the network has them.

    Returns:
        VGG by that name with ImageNet's weights, and `None` as what the encoder starts from:
        `copy_weights` gives it those of the classifier. Or both arguments as they are, where
        nothing is trained, or where fc6 and fc7 have other sizes.
    """
    if backbone in VGGS and weights in ("auto", "imagenet") and filters == HIDDEN:
        return VGG(backbone, weights=weights), None
    return backbone, weights


def copy_weights(classifier: keras.Model, encoder: keras.Model) -> None:
    """Gives an encoder the weights of the classifier that it is the beginning of.

    Args:
        classifier: The classifier, which may have more layers behind its features.
        encoder: The encoder; its layers have the names of the classifier's.
    """
    names = {layer.name for layer in encoder.layers}
    for layer in classifier.layers:
        if layer.weights and layer.name in names:
            encoder.get_layer(layer.name).set_weights(layer.get_weights())
    encoder.initial_weights = classifier.initial_weights


def fully_connected(
    classifier: Any,
    channels: int,
    filters: int,
    *,
    padding: str = "same",
    dilation_rate: int = 1,
    dropout: float = 0.5,
) -> keras.Model:
    """Makes fc6, a 7×7 convolution, and fc7, a 1×1, each with ReLU and dropout.

    Args:
        classifier: See `take_weights`.
        channels: Channels of the map that they see.
        filters: Channels of both.
        padding: Of fc6, as in `keras.layers.Conv2D`.
        dilation_rate: Of fc6.
        dropout: Share of values dropped behind each, 0–1.
    """
    fc6 = convolution(filters, 7, "fc6", "relu", padding=padding, dilation_rate=dilation_rate)
    fc7 = convolution(filters, 1, "fc7", "relu")
    drops = (keras.layers.Dropout(dropout, name=name) for name in ("drop6", "drop7"))
    layers = [fc6, next(drops), fc7, next(drops)]
    model = keras.Sequential([keras.Input((None, None, channels)), *layers], name="fully_connected")
    take_weights([fc6, fc7], classifier)
    return model


def convolution(
    filters: int, kernel_size: int, name: str, activation: str | None = None, **options: Any
) -> keras.layers.Conv2D:
    """Makes fc6 or fc7.

    Args:
        filters: Its channels.
        kernel_size: Its kernel.
        name: Its name.
        activation: What follows it at once.
        **options: What else `keras.layers.Conv2D` takes.
    """
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        activation=activation,
        kernel_initializer="he_normal",
        data_format="channels_last",
        name=name,
        **options,
    )


def take_weights(convolutions: list[keras.layers.Conv2D], classifier: Any) -> None:
    """Gives convolutions the weights of the first fully connected layers of a classifier.

    Args:
        convolutions: fc6 and fc7.
        classifier: A model. They stay random if its layers are of other sizes, or it is none.
    """
    layers = getattr(classifier, "layers", ())
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    given = [value for layer in dense[: len(convolutions)] for value in layer.get_weights()]
    own = [variable for layer in convolutions for variable in layer.weights]
    if [value.size for value in given] == [math.prod(v.shape) for v in own]:
        # A flattened map is height, width, channels: the order of a kernel's axes.
        for variable, value in zip(own, given, strict=True):
            variable.assign(value.reshape(variable.shape))
