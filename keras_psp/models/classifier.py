"""What all classifiers share: the size of their images, and their last layers."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_psp.choices import check_name
from keras_psp.models.training import Model


@keras.saving.register_keras_serializable("keras_psp")
class Classifier(Model):
    """A functional model that knows what it is and what it started from, also from a file.

    Args:
        *args: What `keras.Model` takes.
        variant: Its name in the tables.
        initial_weights: What it started from, in words.
        image_size: Side of the images that it is made for, in pixels, where it takes any.
        **kwargs: What `keras.Model` takes.
    """

    def __init__(
        self,
        *args: Any,
        variant: str = "",
        initial_weights: str = "",
        image_size: int = 224,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.variant = variant
        self.initial_weights = initial_weights
        self.image_size = image_size
        # Half precision must not reach the image before it is normalized.
        self.autocast = False

    def get_config(self):
        own = ("variant", "initial_weights", "image_size")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def checked_shape(
    input_shape: Sequence[int | None] | None,
    *,
    default: int | None = None,
    minimum: int = 1,
    fixed_unless: str | None = None,
) -> tuple[int | None, ...]:
    """The shape of the images that a classifier takes.

    Args:
        input_shape: `(height, width, 3)`, or `None` for the default.
        default: Side of the usual image; `None` if any size is usual.
        minimum: Smallest side that leaves something for the last layer.
        fixed_unless: The argument without whose fully connected layers the size need not be known;
            `None` if there are none.

    Returns:
        `(height, width, 3)`.

    Raises:
        ValueError: If it is not the shape of an RGB image, or if a side is too small, or unknown
            where it must be known.
    """
    shape = (default, default, 3) if input_shape is None else tuple(input_shape)
    if len(shape) != 3 or shape[-1] != 3:
        raise ValueError(
            "Images are RGB, (height, width, 3). "
            f"Received: input_shape={shape}. Name all three; gray images repeat their channel."
        )
    height, width, _ = shape
    if any(side is not None and side < minimum for side in (height, width)):
        raise ValueError(
            f"This network needs images of at least {minimum}×{minimum} pixels. "
            f"Received: input_shape={shape}. Enlarge the images."
        )
    if fixed_unless and None in (height, width):
        raise ValueError(
            "Fully connected layers need images of one size. "
            f"Received: input_shape={shape}. Name the size, or pass {fixed_unless}."
        )
    return shape


def add_classifier(
    x: Any,
    *,
    include_top: bool,
    num_classes: int,
    pooling: str | None,
    classifier_activation: str | None,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> Any:
    """Adds a network's last layers: the classifier, or a pooling, or none.

    Args:
        x: The features.
        include_top: Whether there is a classifier.
        num_classes: Its number of outputs.
        pooling: What there is without a classifier: `"avg"`, `"max"` or `None`.
        classifier_activation: Activation of the last layer.
        hidden: Widths of the fully connected layers before the last one (AlexNet, VGG). They see
            every place of the features. Without them, the last layer sees the mean over the places.
        dropout: Share of values dropped behind each hidden layer, or before the only one.

    Returns:
        The output.
    """
    pools = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }
    if pooling is not None:
        check_name("pooling", pooling, pools)
    if not include_top:
        if pooling is None:
            return x
        return pools[pooling](data_format="channels_last", name=f"{pooling}_pool")(x)
    if hidden:
        x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    else:
        x = pools["avg"](data_format="channels_last", name="average_pool")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
    for i, width in enumerate(hidden, 1):
        x = keras.layers.Dense(width, "relu", name=f"fc{i}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout{i}")(x)
    return keras.layers.Dense(num_classes, classifier_activation, name="predictions")(x)
