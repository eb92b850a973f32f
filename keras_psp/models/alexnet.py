"""AlexNet: the eight layers with which it began."""

from collections.abc import Sequence

import keras

from keras_psp.layers import ImageNormalization, LocalResponseNormalization
from keras_psp.models.classifier import Classifier, add_end, checked_shape
from keras_psp.models.weights import load_imagenet_weights

# (filters, kernel size, strides, groups, normalised, pooled)
_CONVOLUTIONS = (
    (96, 11, 4, 1, True, True),
    (256, 5, 1, 2, True, True),
    (384, 3, 1, 1, False, False),
    (384, 3, 1, 2, False, False),
    (256, 3, 1, 2, False, True),
)


def AlexNet(
    *,
    include_top: bool = True,
    num_classes: int = 1000,
    weights: str | None = "auto",
    grouped: bool = True,
    pooling: str | None = None,
    dropout: float = 0.5,
    classifier_activation: str | None = "softmax",
    input_shape: Sequence[int | None] | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds AlexNet.

    Args:
        include_top: Whether the three fully connected layers are there.
        num_classes: Outputs of the last one.
        weights: `None` (random values) or the path of a file that `save_weights` wrote. Nobody
            publishes ImageNet weights of this very network: `"imagenet"` is an error, and `"auto"`
            gives random values and a warning.
        grouped: Whether the second, fourth and fifth layer see half of the channels with each half
            of their filters, as they lay on two GPUs in the paper.
        pooling: With `include_top=False`, `"avg"` or `"max"` reduces the features to a vector.
        dropout: Share of values dropped behind each of the two hidden layers, 0–1.
        classifier_activation: Activation of the last layer; `None` for logits.
        input_shape: `(height, width, 3)`, at least 67×67; by default 227×227, and any size with
            `include_top=False`.
        name: Name of the model.

    Returns:
        A functional Keras model. It takes RGB images `(batch, height, width, 3)`, 0–255, and
        normalises them itself. It gives class probabilities `(batch, num_classes)`, or the features
        behind the last pooling, 6×6×256 of 227×227.

    Raises:
        ValueError: If the images are too small, or the weights do not fit.

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.5 and figure 2. The
        first layer's 55×55 places need images of 227×227, not the 224×224 that the paper names.

    Example:

    ```python
    import keras_psp

    model = keras_psp.AlexNet(num_classes=10, weights=None)
    assert model.get_layer("conv1").output.shape == (None, 55, 55, 96)
    ```
    """
    shape = checked_shape(
        input_shape,
        default=227 if include_top else None,
        minimum=67,
        fixed_unless="include_top=False" if include_top else None,
    )
    image = keras.Input(shape, name="image")
    x = ImageNormalization("torch", name="normalize")(image)
    for i, (filters, kernel, strides, groups, normalised, pooled) in enumerate(_CONVOLUTIONS, 1):
        x = keras.layers.Conv2D(
            filters,
            kernel,
            strides,
            padding="same" if strides == 1 else "valid",
            groups=groups if grouped else 1,
            activation="relu",
            data_format="channels_last",
            name=f"conv{i}",
        )(x)
        if normalised:
            x = LocalResponseNormalization(name=f"lrn{i}")(x)
        if pooled:
            x = keras.layers.MaxPooling2D(3, 2, data_format="channels_last", name=f"pool{i}")(x)
    x = add_end(
        x,
        include_top=include_top,
        num_classes=num_classes,
        pooling=pooling,
        classifier_activation=classifier_activation,
        hidden=(4096, 4096),
        dropout=dropout,
    )
    model = Classifier(image, x, name=name or "alexnet")
    model.initial_weights = load_imagenet_weights(
        model, "alexnet", weights, top=include_top and num_classes == 1000
    )
    return model
