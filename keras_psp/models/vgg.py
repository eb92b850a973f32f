"""VGG: 3×3 convolutions, deeper and deeper; a table and a loop."""

from typing import TYPE_CHECKING

import keras

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.layers import BatchNormalization, LocalResponseNormalization
from keras_psp.models.classifier import Classifier, TopOptions, build_classifier
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack

# The paper's table 1: kernel sizes of the convolutions in each of the five stages.
_A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
_B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
_C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
_D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
_E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))
VGGS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": _A,
    "vgg11_lrn": _A,
    "vgg13": _B,
    "vgg16_c": _C,
    "vgg16": _D,
    "vgg19": _E,
}

# The paper's names of its configurations.
CONFIGURATIONS = dict(zip(("A", "A-LRN", "B", "C", "D", "E"), VGGS, strict=True))

# torchvision's differ in how images are normalized, and some have batch normalization.
_TORCHVISION = {
    f"{name}_{kind}": VGGS[name]
    for kind in ("torchvision", "bn")
    for name in ("vgg11", "vgg13", "vgg16", "vgg19")
}
VGGS |= _TORCHVISION

_FILTERS = (64, 128, 256, 512, 512)
# Width of the two fully connected layers before the last one.
HIDDEN = 4096


@keras.saving.register_keras_serializable("keras_psp")
@checked
@passes_on(build_classifier, "include_top")
def VGG(
    variant: str = "vgg16", *, dropout: float = 0.5, **kwargs: "Unpack[TopOptions]"
) -> Classifier:
    """Builds a VGG network.

    Args:
        variant: A configuration of the paper, by its letter or by a name that tells its depth:
            `"A"` or `"vgg11"`, `"A-LRN"` or `"vgg11_lrn"`, `"B"` or `"vgg13"`, `"C"` or
            `"vgg16_c"`, `"D"` or `"vgg16"`, `"E"` or `"vgg19"`. `"vgg16"` and `"vgg19"` are those
            of `keras.applications`; `"vgg11_torchvision"`, `13`, `16` and `19` see images as
            torchvision's do, and so do `"vgg11_bn"`, `13`, `16` and `19`, which have batch
            normalization behind each convolution.
        dropout: Share of values dropped behind each of the two hidden layers, 0–1.
        **kwargs: What every classifier takes, see `build_classifier`: `include_top`, `num_classes`,
            `weights`, `fresh_head`, `pooling`, `classifier_activation`, `input_shape`, `name`.
            Images are 224×224 by default, at least 32×32.

    Returns:
        A functional Keras model. It takes RGB images `(batch, height, width, 3)`, 0–255, and
        normalizes them itself. It gives class probabilities `(batch, num_classes)`, or the features
        behind the last pooling, 7×7×512 of 224×224. Its attribute `initial_weights` says what it
        started from.

    Raises:
        ValueError: If there is no such variant, the images are too small, or the weights do not
            fit.

    Reference:
        [Simonyan and Zisserman, 2015](https://arxiv.org/abs/1409.1556), table 1.

    Example:

    ```python
    import keras_psp

    model = keras_psp.VGG("vgg16", include_top=False, weights=None)
    print(f"{model.count_params():,} parameters")
    ```

    ```text
    14,714,688 parameters
    ```
    """
    variant = CONFIGURATIONS.get(variant, variant)
    stages = VGGS[check_name("variant", variant, [*VGGS, *CONFIGURATIONS])]
    normalizes = variant.endswith("_bn")

    def features(x):
        for stage, (kernels, filters) in enumerate(zip(stages, _FILTERS, strict=True), 1):
            for i, kernel in enumerate(kernels, 1):
                name = f"block{stage}_conv{i}"
                x = keras.layers.Conv2D(
                    filters,
                    kernel,
                    padding="same",
                    activation=None if normalizes else "relu",
                    data_format="channels_last",
                    name=name,
                )(x)
                if normalizes:
                    x = BatchNormalization(name=f"{name}_bn")(x)
                    x = keras.layers.ReLU(name=f"{name}_relu")(x)
            if stage == 1 and variant == "vgg11_lrn":
                x = LocalResponseNormalization(name="block1_lrn")(x)
            pool = f"block{stage}_pool"
            x = keras.layers.MaxPooling2D(2, 2, data_format="channels_last", name=pool)(x)
        return x

    return build_classifier(
        variant,
        features,
        normalization="torch" if variant in _TORCHVISION else "caffe",
        minimum_size=32,
        fixed_unless="include_top=False",
        hidden=(HIDDEN, HIDDEN),
        dropout=dropout,
        **kwargs,
    )
