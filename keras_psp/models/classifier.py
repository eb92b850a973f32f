"""What all classifiers share: their arguments, the size of their images, and their last layers."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import keras

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.layers import ImageNormalization
from keras_psp.models.training import Model
from keras_psp.signatures import explains_other_names
from keras_psp.weights.loading import load_first_weights


@keras.saving.register_keras_serializable("keras_psp")
class Classifier(Model):
    """A functional model that knows what it is and what it started from, also from a file.

    A copy is `type(model).from_config(model.get_config())`, with the weights set by `set_weights`;
    `keras.models.clone_model` gives a plain functional model, in GoogLeNet's case without its
    auxiliary classifiers.

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


class ClassifierOptions(TypedDict, total=False):
    """What classifiers pass on to `build_classifier`, for editors."""

    weights: str | os.PathLike[str] | None
    fresh_head: bool
    pooling: str | None
    classifier_activation: str | None
    input_shape: Sequence[int | None] | None
    name: str | None


class TopOptions(ClassifierOptions, total=False):
    """The same, of those that do not ask for the last layers themselves."""

    include_top: bool
    num_classes: int


_POOLS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


@explains_other_names
@checked
def build_classifier(
    variant: str,
    features: Callable[[Any], Any],
    *,
    normalization: str = "torch",
    image_size: int = 224,
    any_size: bool = False,
    minimum_size: int = 1,
    fixed_unless: str | None = None,
    hidden: Sequence[int] = (),
    usual_shortcuts: bool = True,
    model_class: Callable[..., Classifier] = Classifier,
    include_top: bool = True,
    num_classes: int = 1000,
    weights: str | os.PathLike[str] | None = "auto",
    fresh_head: bool = False,
    pooling: str | None = None,
    dropout: float = 0.0,
    classifier_activation: str | None = "softmax",
    input_shape: Sequence[int | None] | None = None,
    name: str | None = None,
) -> Classifier:
    """Builds a classifier: image → normalization → features → last layers.

    The first arguments say what a network is; those from `include_top` on are what every classifier
    of this package takes.

    Args:
        variant: The network's name in the tables.
        features: Function that calls the network's layers on a normalized image.
        normalization: How its weights need images to be normalized, see `ImageNormalization`.
        image_size: Side of the images that it is made for.
        any_size: Whether it takes images of any size by default; otherwise those of `image_size`.
        minimum_size: Smallest side of an image that leaves something for the last layers.
        fixed_unless: The argument that a network without a known size needs; `None` if it needs
            none.
        hidden: Widths of the fully connected layers before the last one (AlexNet, VGG). They see
            every place of the features. Without them, the last layer sees the mean over the places.
        usual_shortcuts: As in `load_first_weights`.
        model_class: What makes the model of its input and output.
        include_top: Whether the fully connected layers are there. Without them, images may have any
            size.
        num_classes: Outputs of the last one.
        weights: `"auto"` (ImageNet weights where they can be had, otherwise random values and a
            warning that says why), `"imagenet"` (those or an error), `None` (random values), or a
            file that `load_weights` takes.
        fresh_head: Whether a file leaves the last layer as it was made, for other classes.
        pooling: With `include_top=False`, `"avg"` or `"max"` reduces the features to a vector.
        dropout: Share of values dropped behind each hidden layer, or before the only one, 0–1.
        classifier_activation: Activation of the last layer; `None` for logits.
        input_shape: `(height, width, 3)`.
        name: Name of the model; the variant's if `None`.

    Returns:
        A functional Keras model. It takes RGB images `(batch, height, width, 3)`, 0–255, and
        normalizes them itself. It gives class probabilities `(batch, num_classes)`, or the
        features. Its attribute `initial_weights` says what it started from.

    Raises:
        ValueError: If the images are too small, or the weights do not fit.

    Example: (a network of one's own)

    ```python
    from keras_psp.models import build_classifier
    import keras


    def features(x):
        return keras.layers.Conv2D(8, 3, 2, activation="relu", name="conv")(x)


    model = build_classifier("small", features, any_size=True, num_classes=10, weights=None)
    print(model.input.shape, model.output.shape)
    ```

    ```text
    (None, None, None, 3) (None, 10)
    ```
    """
    try:
        keras.activations.get(classifier_activation)
    except ValueError as error:
        raise ValueError(
            "An activation is one of Keras' names, or None for logits. "
            f"Received: classifier_activation={classifier_activation!r}. Pass 'softmax' or None."
        ) from error
    if pooling is not None:
        check_name("pooling", pooling, _POOLS)
    side = image_size if include_top and not any_size else None
    shape = checked_shape((side, side, 3) if input_shape is None else input_shape)
    if any(side is not None and side < minimum_size for side in shape[:2]):
        raise ValueError(
            f"This network needs images of at least {minimum_size}×{minimum_size} pixels. "
            f"Received: input_shape={shape}. Enlarge the images."
        )
    if include_top and fixed_unless and None in shape:
        raise ValueError(
            "Fully connected layers need images of one size. "
            f"Received: input_shape={shape}. Name the size, or pass {fixed_unless}."
        )
    image = keras.Input(shape, name="image")
    x = features(ImageNormalization(normalization, name="normalize")(image))
    last = {"data_format": "channels_last"}
    if not include_top:
        if pooling is not None:
            x = _POOLS[pooling](name=f"{pooling}_pool", **last)(x)
    else:
        if hidden:
            x = keras.layers.Flatten(name="flatten", **last)(x)
        else:
            x = keras.layers.GlobalAveragePooling2D(name="average_pool", **last)(x)
            if dropout:
                x = keras.layers.Dropout(dropout, name="dropout")(x)
        for i, width in enumerate(hidden, 1):
            x = keras.layers.Dense(width, "relu", name=f"fc{i}")(x)
            if dropout:
                x = keras.layers.Dropout(dropout, name=f"dropout{i}")(x)
        x = keras.layers.Dense(num_classes, classifier_activation, name="predictions")(x)
    model = model_class(image, x, variant=variant, image_size=image_size, name=name or variant)
    model.initial_weights = load_first_weights(
        model, weights, fresh_head=fresh_head, usual_shortcuts=usual_shortcuts
    )
    return model


def checked_shape(input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Returns the shape of images as a tuple, if it is one of RGB images."""
    shape = tuple(input_shape)
    if len(shape) != 3 or shape[-1] != 3:
        raise ValueError(
            "Images are RGB, (height, width, 3). "
            f"Received: input_shape={shape}. Name all three; gray images repeat their channel."
        )
    return shape
