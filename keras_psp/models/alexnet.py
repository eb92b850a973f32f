"""AlexNet: the eight layers with which it began."""

from collections.abc import Sequence

import keras

from keras_psp.choices import check_name
from keras_psp.layers import ImageNormalization, LocalResponseNormalization
from keras_psp.models.classifier import Classifier, add_classifier, checked_shape
from keras_psp.weights.loading import load_first_weights

# variant → rows of (filters, kernel size, strides, padding, groups, normalized, pooled). The second
# is torchvision's: the network of "One weird trick" in one column, without normalization.
ALEXNETS = {
    "alexnet": (
        (96, 11, 4, 0, 1, True, True),
        (256, 5, 1, 2, 2, True, True),
        (384, 3, 1, 1, 1, False, False),
        (384, 3, 1, 1, 2, False, False),
        (256, 3, 1, 1, 2, False, True),
    ),
    "alexnet_torchvision": (
        (64, 11, 4, 2, 1, False, True),
        (192, 5, 1, 2, 1, False, True),
        (384, 3, 1, 1, 1, False, False),
        (256, 3, 1, 1, 1, False, False),
        (256, 3, 1, 1, 1, False, True),
    ),
}


def AlexNet(
    variant: str = "alexnet",
    *,
    include_top: bool = True,
    num_classes: int = 1000,
    weights: str | None = "auto",
    fresh_head: bool = False,
    grouped: bool = True,
    pooling: str | None = None,
    dropout: float = 0.5,
    classifier_activation: str | None = "softmax",
    input_shape: Sequence[int | None] | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds AlexNet.

    Args:
        variant: `"alexnet"`, the paper's, or `"alexnet_torchvision"`, which has fewer filters, no
            groups and no normalization.
        include_top: Whether the three fully connected layers are there.
        num_classes: Outputs of the last one.
        weights: `"auto"` (ImageNet weights where they can be had, otherwise random values and a
            warning that says why), `"imagenet"` (those or an error), `None` (random values), or a
            file that `load_weights` takes.
            Nobody publishes ImageNet weights of the paper's very network.
        fresh_head: Whether a file leaves the last layer as it was made, for other classes.
        grouped: Whether the second, fourth and fifth layer see half of the channels with each half
            of their filters, as they lay on two GPUs in the paper.
        pooling: With `include_top=False`, `"avg"` or `"max"` reduces the features to a vector.
        dropout: Share of values dropped behind each of the two hidden layers, 0–1.
        classifier_activation: Activation of the last layer; `None` for logits.
        input_shape: `(height, width, 3)`, at least 67×67 (torchvision's: 63×63); by default 227×227
            (224×224), and any size with `include_top=False`.
        name: Name of the model.

    Returns:
        A functional Keras model. It takes RGB images `(batch, height, width, 3)`, 0–255, and
        normalizes them itself. It gives class probabilities `(batch, num_classes)`, or the features
        behind the last pooling, 6×6×256 of 227×227.

    Raises:
        ValueError: If there is no such variant, the images are too small, or the weights do not
            fit.

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.5 and figure 2. The
        first layer's 55×55 places need images of 227×227, not the 224×224 that the paper names.
        [Krizhevsky, 2014](https://arxiv.org/abs/1404.5997), for torchvision's.

    Example:

    ```python
    import keras_psp

    model = keras_psp.AlexNet(num_classes=10, weights=None)
    assert model.get_layer("conv1").output.shape == (None, 55, 55, 96)
    ```
    """
    rows = ALEXNETS[check_name("variant", variant, ALEXNETS)]
    # Of both, 6×6 places are left of the usual size, and one of the smallest.
    margin = 2 * rows[0][3]
    shape = checked_shape(
        input_shape,
        default=(227 if margin == 0 else 224) if include_top else None,
        minimum=67 - margin,
        fixed_unless="include_top=False" if include_top else None,
    )
    image = keras.Input(shape, name="image")
    x = ImageNormalization("torch", name="normalize")(image)
    for i, (filters, kernel, strides, padding, groups, normalized, pooled) in enumerate(rows, 1):
        if strides > 1 and padding:
            x = keras.layers.ZeroPadding2D(padding, "channels_last", name=f"pad{i}")(x)
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
        if normalized:
            x = LocalResponseNormalization(name=f"lrn{i}")(x)
        if pooled:
            x = keras.layers.MaxPooling2D(3, 2, data_format="channels_last", name=f"pool{i}")(x)
    x = add_classifier(
        x,
        include_top=include_top,
        num_classes=num_classes,
        pooling=pooling,
        classifier_activation=classifier_activation,
        hidden=(4096, 4096),
        dropout=dropout,
    )
    model = Classifier(image, x, variant=variant, name=name or variant)
    model.initial_weights = load_first_weights(model, weights, fresh_head=fresh_head)
    return model
