"""What all models share, and all classifiers: their ends, sizes, and what they started from."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_psp import onednn
from keras_psp.choices import check_name


class Model(keras.Model):
    """A Keras model that trains as fast as the backend can."""

    def make_train_function(self, force: bool = False):
        """Makes the step that `fit` and `train_on_batch` take: `keras.Model.make_train_function`.

        Args:
            force: Whether to make it anew.

        Returns:
            The function.
        """
        onednn.say_if_off()
        optimizer = self.optimizer
        if optimizer is not None and not optimizer.built:
            # If TensorFlow's step built it, every step would ask for each variable if it is there.
            with strategy_scope(self):
                optimizer.build(self.trainable_variables)
        return super().make_train_function(force)


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


def strategy_scope(model: keras.Model) -> Any:
    """Returns the scope in which a model's variables are made: that of TensorFlow's strategy.

    Args:
        model: The model.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


def keep_layers(model: keras.Model, layers: Iterable[keras.Layer]) -> None:
    """Makes the layers that a functional model has beside its graph its own.

    Keras does so itself from 3.15 on, and overlooks them before.

    Args:
        model: The model.
        layers: Layers that are attributes of it.
    """
    known = {id(layer) for layer in model._layers}
    model._layers.extend(layer for layer in layers if id(layer) not in known)


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


def add_end(
    x: Any,
    *,
    include_top: bool,
    num_classes: int,
    pooling: str | None,
    classifier_activation: str | None,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> Any:
    """Puts the classifier behind the features, or a pooling, or nothing.

    Args:
        x: The features.
        include_top: Whether the classifier is there.
        num_classes: Its outputs.
        pooling: Without it, `"avg"`, `"max"` or `None`.
        classifier_activation: What the last layer ends in.
        hidden: Widths of the fully connected layers before the last one (AlexNet, VGG), which see
            every place of the features; without any, the last one sees their mean over the places.
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
