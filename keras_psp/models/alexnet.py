"""AlexNet: the eight layers with which it began."""

from typing import TYPE_CHECKING

import keras

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.layers import LocalResponseNormalization
from keras_psp.models.classifier import Classifier, TopOptions, build_classifier
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack

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


@keras.saving.register_keras_serializable("keras_psp")
@checked
@passes_on(build_classifier, "include_top")
def AlexNet(
    variant: str = "alexnet",
    *,
    grouped: bool = True,
    dropout: float = 0.5,
    **kwargs: "Unpack[TopOptions]",
) -> Classifier:
    """Builds AlexNet.

    Args:
        variant: `"alexnet"`, the paper's, or `"alexnet_torchvision"`, which has fewer filters, no
            groups and no normalization.
        grouped: Whether the second, fourth and fifth layer see half of the channels with each half
            of their filters, as they lay on two GPUs in the paper.
        dropout: Share of values dropped behind each of the two hidden layers, 0–1.
        **kwargs: What every classifier takes, see `build_classifier`: `include_top`, `num_classes`,
            `weights`, `fresh_head`, `pooling`, `classifier_activation`, `input_shape`, `name`.
            Images are 227×227 by default (224×224), at least 67×67 (torchvision's: 63×63). Nobody
            publishes ImageNet weights of the paper's very network.

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
    print(model.get_layer("conv1").output.shape, model.output.shape)
    ```

    ```text
    (None, 55, 55, 96) (None, 10)
    ```
    """
    rows = ALEXNETS[check_name("variant", variant, ALEXNETS)]
    # Of both, 6×6 places are left of the usual size, and one of the smallest.
    margin = 2 * rows[0][3]

    def features(x):
        for i, (filters, kernel, strides, padding, groups, normalized, pooled) in enumerate(
            rows, 1
        ):
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
        return x

    return build_classifier(
        variant,
        features,
        image_size=224 if margin else 227,
        minimum_size=67 - margin,
        fixed_unless="include_top=False",
        hidden=(4096, 4096),
        dropout=dropout,
        **kwargs,
    )
