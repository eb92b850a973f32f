"""The Inception family: GoogLeNet and Inception v3."""

import itertools
from typing import TYPE_CHECKING

import keras

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.layers import BatchNormalization
from keras_psp.models.classifier import Classifier, ClassifierOptions, build_classifier
from keras_psp.models.googlenet import GOOGLENETS, build_googlenet
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Inception v3's batch norms have no factors in `keras.applications`; in torchvision they have, and
# its average poolings count the zeros outside of the map.
V3S = {"inception_v3": False, "inception_v3_torchvision": True}
INCEPTIONS = (*GOOGLENETS, *V3S)


@keras.saving.register_keras_serializable("keras_psp")
@checked
@passes_on(build_classifier, "include_top")
def Inception(
    variant: str = "googlenet",
    *,
    include_top: bool = True,
    naive: bool = False,
    auxiliary_weight: float = 0.3,
    num_classes: int = 1000,
    dropout: float | None = None,
    **kwargs: "Unpack[ClassifierOptions]",
) -> Classifier:
    """Builds GoogLeNet or Inception v3.

    Args:
        variant: `"googlenet"`, the first of the family, or `"inception_v3"`, that of
            `keras.applications`; `"googlenet_torchvision"` and `"inception_v3_torchvision"` are the
            forms in which torchvision has them (GoogLeNet with batch normalization).
        include_top: Whether the fully connected layer is there.
        naive: GoogLeNet with its modules in the naive form, without the 1×1 convolutions that
            reduce the channels.
        auxiliary_weight: Weight of the loss of each of GoogLeNet's two auxiliary classifiers, which
            exist in training only; 0 leaves them out.
        num_classes: Outputs of the fully connected layer.
        dropout: Share of values dropped before the fully connected layer, 0–1; by default 0.4 in
            GoogLeNet (0.2 in torchvision's) and 0 in Inception v3, as in `keras.applications`.
        **kwargs: What every classifier takes, see `build_classifier`: `weights`, `fresh_head`,
            `pooling`, `classifier_activation`, `input_shape`, `name`. GoogLeNet's
            images are 224×224 by default, at least 65×65 (torchvision's: 79×79), and of any size
            without auxiliary classifiers; Inception v3 takes any size from 75×75 on. Nobody
            publishes ImageNet weights of the paper's very GoogLeNet.

    Returns:
        A functional Keras model. It takes RGB images `(batch, height, width, 3)`, 0–255, and
        normalizes them itself. It gives class probabilities `(batch, num_classes)`, or features at
        1/32 of the image. Its attribute `initial_weights` says what it started from.

    Raises:
        ValueError: If there is no such variant, the images are too small, or the weights do not
            fit.

    Reference:
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), table 1;
        [Szegedy et al., 2016](https://arxiv.org/abs/1512.00567), table 1.

    Example:

    ```python
    import keras_psp

    model = keras_psp.Inception("googlenet", include_top=False, weights=None)
    print(model.output.shape)
    ```

    ```text
    (None, None, None, 1024)
    ```
    """
    check_name("variant", variant, INCEPTIONS)
    if variant in GOOGLENETS:
        return build_googlenet(
            variant,
            include_top=include_top,
            naive=naive,
            auxiliary_weight=auxiliary_weight,
            num_classes=num_classes,
            dropout=dropout,
            **kwargs,
        )
    if naive:
        raise ValueError(
            "Only GoogLeNet's modules have a naive form. "
            f"Received: variant={variant!r}, naive=True. Use variant='googlenet'."
        )
    return build_classifier(
        variant,
        lambda x: _v3(x, V3S[variant]),
        normalization="tf",
        image_size=299,
        any_size=True,
        minimum_size=75,
        include_top=include_top,
        num_classes=num_classes,
        dropout=dropout or 0.0,
        **kwargs,
    )


# Inception v3 as rows: a convolution (filters, kernel height, kernel width), with a stride of 2
# (and no padding) where "/2" follows, without padding where "valid" does, or a pooling. A module is
# a list of branches, which may fork once more at their end.
_STEM = [
    (32, 3, 3, "/2"),
    (32, 3, 3, "valid"),
    (64, 3, 3),
    "max/2",
    (80, 1, 1),
    (192, 3, 3, "valid"),
    "max/2",
]


def _module_35(pool):
    """Figure 5 of the paper, but for the 5×5, which here is one layer."""
    return [
        [(64, 1, 1)],
        [(48, 1, 1), (64, 5, 5)],
        [(64, 1, 1), (96, 3, 3), (96, 3, 3)],
        ["average", (pool, 1, 1)],
    ]


def _module_17(n):
    """Figure 6: a 7×7 as a 1×7 and a 7×1."""
    return [
        [(192, 1, 1)],
        [(n, 1, 1), (n, 1, 7), (192, 7, 1)],
        [(n, 1, 1), (n, 7, 1), (n, 1, 7), (n, 7, 1), (192, 1, 7)],
        ["average", (192, 1, 1)],
    ]


def _module_8():
    """Figure 7: branches that fork."""
    return [
        [(320, 1, 1)],
        [(384, 1, 1), [[(384, 1, 3)], [(384, 3, 1)]]],
        [(448, 1, 1), (384, 3, 3), [[(384, 1, 3)], [(384, 3, 1)]]],
        ["average", (192, 1, 1)],
    ]


_MODULES = [
    *(_module_35(pool) for pool in (32, 64, 64)),
    [[(384, 3, 3, "/2")], [(64, 1, 1), (96, 3, 3), (96, 3, 3, "/2")], ["max/2"]],
    *(_module_17(n) for n in (128, 160, 160, 192)),
    [
        [(192, 1, 1), (320, 3, 3, "/2")],
        [(192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, "/2")],
        ["max/2"],
    ],
    _module_8(),
    _module_8(),
]


def _v3(x, torchvision):
    """Builds the rows. Layers are named by their numbers."""
    convolutions, pools, forks = (itertools.count(1) for _ in range(3))
    last = {"data_format": "channels_last"}

    def chain(x, rows):
        for row in rows:
            if isinstance(row, list):
                x = fork(x, row, f"fork{next(forks)}")
            else:
                x = pool(x, row) if isinstance(row, str) else convolve(x, *row)
        return x

    def fork(x, branches, name):
        return keras.layers.Concatenate(name=name)([chain(x, branch) for branch in branches])

    def convolve(x, filters, height, width, kind="same"):
        n = next(convolutions)
        x = keras.layers.Conv2D(
            filters,
            (height, width),
            strides=2 if kind == "/2" else 1,
            padding="same" if kind == "same" else "valid",
            use_bias=False,
            name=f"conv{n}",
            **last,
        )(x)
        bn = BatchNormalization(momentum=0.99, epsilon=1e-3, scale=torchvision, name=f"bn{n}")
        return keras.layers.ReLU(name=f"relu{n}")(bn(x))

    def pool(x, kind):
        name = f"pool{next(pools)}"
        if kind == "max/2":
            return keras.layers.MaxPooling2D(3, 2, name=name, **last)(x)
        if not torchvision:
            return keras.layers.AveragePooling2D(3, 1, padding="same", name=name, **last)(x)
        x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad", **last)(x)
        return keras.layers.AveragePooling2D(3, 1, name=name, **last)(x)

    x = chain(x, _STEM)
    for number, module in enumerate(_MODULES):
        x = fork(x, module, f"mixed{number}")
    return x
