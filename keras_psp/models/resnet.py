"""ResNet, as classifier and as backbone: a table and a loop."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.layers import (
    BasicBlock,
    BatchNormalization,
    DilatedBottleneck,
    PaddedConv2D,
    PaddedMaxPooling2D,
)
from keras_psp.models.classifier import Classifier, ClassifierOptions, build_classifier
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ResNetOptions(ClassifierOptions, total=False):
    """What `ResNet` passes on, for editors."""

    include_top: bool
    dropout: float


@dataclass(frozen=True)
class Variant:
    """One row of the table of ResNets.

    Attributes:
        blocks: Number of blocks in each stage: conv2_x … conv5_x, or the three of a CIFAR net.
        block: `"basic"` or `"bottleneck"`.
        stem: Filters, kernel size and stride of each convolution before the stages.
        pooled: Whether a 3×3 max pooling with stride 2 follows them.
        filters: Channels of the blocks of the first stage; every other stage has twice as many.
        residual: Whether blocks have shortcuts.
        shortcut: What a shortcut is where the shape changes: the paper's option `"A"` or `"B"`.
        stride_on: Which convolution of a bottleneck has the stride.
        use_bias: Whether convolutions have biases.
        epsilon: Epsilon of the batch normalizations.
        normalization: How its weights need images to be normalized.
        image_size: Side of the images that it is made for.
        contracted: Whether dilation begins late, as torchvision and OpenMMLab have it: the first
            block of a dilated stage has half of the stage's rate, and the second 3×3 of a basic
            block has none.
    """

    blocks: tuple[int, ...]
    block: str = "bottleneck"
    stem: tuple[tuple[int, int, int], ...] = ((64, 7, 2),)
    pooled: bool = True
    filters: int = 64
    residual: bool = True
    shortcut: str = "B"
    stride_on: str = "3x3"
    use_bias: bool = False
    epsilon: float = 1e-5
    normalization: str = "torch"
    image_size: int = 224
    contracted: bool = False


_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    269: (3, 30, 48, 8),
}
_DEEP_STEM = ((64, 3, 2), (64, 3, 1), (128, 3, 1))
_V1C_STEM = ((32, 3, 2), (32, 3, 1), (64, 3, 1))
_APPLICATIONS: dict[str, Any] = {
    "stride_on": "1x1",
    "use_bias": True,
    "epsilon": 1.001e-5,
    "normalization": "caffe",
}

# resnet18 …      the paper's; 50, 101 and 152 in the very form of `keras.applications`
# resnet18_deep … the PSPNet authors': three 3×3 convolutions in the stem
# resnet50_v1b …  torchvision's: 7×7 stem, the stride on the 3×3
# resnet50_torchvision … the same, but dilated as torchvision's: dilation begins late
# resnet18_v1c …  OpenMMLab's: three narrower 3×3 in the stem, and dilation that begins late
# plain18, 34     the paper's without shortcuts
RESNETS: dict[str, Variant] = {}
for _depth, _blocks in _BLOCKS.items():
    _kind = "basic" if _depth < 50 else "bottleneck"
    _same_as_keras: dict[str, Any] = _APPLICATIONS if _depth in (50, 101, 152) else {}
    RESNETS[f"resnet{_depth}"] = Variant(_blocks, _kind, **_same_as_keras)
    RESNETS[f"resnet{_depth}_deep"] = Variant(_blocks, _kind, stem=_DEEP_STEM)
    if _same_as_keras:
        RESNETS[f"resnet{_depth}_v1b"] = Variant(_blocks, _kind)
        RESNETS[f"resnet{_depth}_torchvision"] = Variant(_blocks, _kind, contracted=True)
    if _depth <= 152:
        RESNETS[f"resnet{_depth}_v1c"] = Variant(_blocks, _kind, stem=_V1C_STEM, contracted=True)
    if _kind == "basic":
        RESNETS[f"plain{_depth}"] = Variant(_blocks, _kind, residual=False)

# resnet20 …      the paper's for CIFAR-10, of depth 6n + 2: images of 32×32, three stages
# plain20 …       the same without shortcuts
CIFAR_RESNETS = {
    f"{_name}{6 * _n + 2}": Variant(
        (_n, _n, _n),
        "basic",
        stem=((16, 3, 1),),
        pooled=False,
        filters=16,
        residual=_name == "resnet",
        shortcut="A",
        image_size=32,
    )
    for _name in ("resnet", "plain")
    for _n in (3, 5, 7, 9, 18)
}


@keras.saving.register_keras_serializable("keras_psp")
@checked
@passes_on(build_classifier, "include_top")
def ResNet(
    variant: str = "resnet50",
    *,
    num_classes: int | None = None,
    output_stride: int | None = None,
    residual: bool | None = None,
    shortcut: str | None = None,
    **kwargs: "Unpack[ResNetOptions]",
) -> Classifier:
    """Builds a ResNet.

    Args:
        variant: A name from the table: `"resnet18"`, `34`, `50`, `101`, `152`, `269`, each also
            with `_deep` (the PSPNet authors' stem of three 3×3 convolutions, stride on the 3×3, no
            biases) and, up to 152, with `_v1c` (OpenMMLab's); 50, 101 and 152 are
            `keras.applications`' (stride on the first 1×1, biases), with `_v1b` torchvision's,
            whose 18 and 34 are the paper's, and with `_torchvision` the same with its dilation, in
            which the first block of a stage keeps the rate before it. `"resnet20"`,
            `32`, `44`, `56`, `110` are the nets for CIFAR-10: 32×32 pixels, and three stages of 16,
            32 and 64 channels. `"plain18"`, `34` and, for CIFAR-10, `"plain20"`, `32`, `44`, `56`,
            `110` are the nets without shortcuts.
        num_classes: Outputs of the fully connected layer; by default 1000, and 10 of a CIFAR net.
        output_stride: 32, or 16 or 8: the last stages then keep their resolution and are dilated
            instead, in every block. A CIFAR net's is 4.
        residual: `False` leaves the shortcuts out of any other variant. By default the variant's.
        shortcut: What a shortcut is where the shape changes: `"A"`, every second place and zeros in
            the new channels, without parameters; `"B"`, a 1×1 convolution. By default A in a CIFAR
            net and B in the others.
        **kwargs: What every classifier takes, see `build_classifier`: `include_top`, `weights`,
            `fresh_head`, `pooling`, `dropout`, `classifier_activation`, `input_shape`, `name`.
            Images may have any size by default.

    Returns:
        A functional Keras model. It takes RGB images `(batch, height, width, 3)`, 0–255, and
        normalizes them itself. It gives class probabilities `(batch, num_classes)`, or features
        `(batch, height / output_stride, width / output_stride, channels)`. Its attribute
        `initial_weights` says what it started from.

    Raises:
        ValueError: If there is no such variant or output stride, the images are not RGB, or the
            weights do not fit.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), table 1;
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 3.3, for the dilation.

    Example:

    ```python
    import keras_psp

    model = keras_psp.ResNet("resnet18", weights=None)
    print(f"{model.count_params():,} numbers, 9,600 of them statistics of batch normalization")
    ```

    ```text
    11,699,112 numbers, 9,600 of them statistics of batch normalization
    ```
    """
    variants = RESNETS | CIFAR_RESNETS
    row = usual = variants[check_name("variant", variant, variants)]
    if shortcut is not None:
        row = replace(row, shortcut=check_name("shortcut", shortcut, ["A", "B"]))
    if residual is not None:
        row = replace(row, residual=residual)
    if variant in CIFAR_RESNETS:
        if output_stride not in (None, 4):
            raise ValueError(
                "A CIFAR net's features are at 1/4 of the image. "
                f"Received: output_stride={output_stride}. Leave it out."
            )
        dilations: tuple[int, ...] = (1, 1, 1)
    else:
        dilations = stage_dilations(32 if output_stride is None else output_stride)

    def features(x):
        x = _stem(x, row)
        for stage, (count, dilation) in enumerate(zip(row.blocks, dilations, strict=True), 1):
            for block in range(1, count + 1):
                strides = 2 if stage > 1 and block == 1 and dilation == 1 else 1
                filters = row.filters << (stage - 1)
                rate = -(-dilation // 2) if row.contracted and block == 1 else dilation
                x = _block(row, filters, strides, rate, f"stage{stage}_block{block}")(x)
        return x

    if num_classes is None:
        num_classes = 10 if variant in CIFAR_RESNETS else 1000
    return build_classifier(
        variant,
        features,
        normalization=row.normalization,
        image_size=row.image_size,
        any_size=True,
        usual_shortcuts=row == usual,
        num_classes=num_classes,
        **kwargs,
    )


def _stem(x, row: Variant):
    for i, (filters, kernel_size, strides) in enumerate(row.stem, 1):
        x = PaddedConv2D(
            filters,
            kernel_size,
            strides,
            use_bias=row.use_bias,
            kernel_initializer="he_normal",
            name=f"stem_conv{i}",
        )(x)
        x = BatchNormalization(epsilon=row.epsilon, name=f"stem_bn{i}")(x)
        x = keras.layers.ReLU(name=f"stem_relu{i}")(x)
    return PaddedMaxPooling2D(3, 2, name="stem_pool")(x) if row.pooled else x


def _block(row: Variant, filters, strides, dilation_rate, name):
    options = {
        "strides": strides,
        "dilation_rate": dilation_rate,
        "residual": row.residual,
        "shortcut": row.shortcut,
        "use_bias": row.use_bias,
        "epsilon": row.epsilon,
        "name": name,
    }
    if row.block == "basic":
        return BasicBlock(filters, second_dilation_rate=1 if row.contracted else None, **options)
    return DilatedBottleneck(filters, stride_on=row.stride_on, **options)


def stage_dilations(output_stride: int) -> tuple[int, int, int, int]:
    """The dilation of each of the four stages that keeps the features at this stride.

    Args:
        output_stride: 32, 16 or 8.

    Returns:
        Four dilation rates; a stage with a rate above 1 has no stride.

    Raises:
        ValueError: If the stride is none of the three.

    Example:

    ```python
    from keras_psp.models.resnet import stage_dilations
    print(stage_dilations(8))
    ```

    ```text
    (1, 1, 2, 4)
    ```
    """
    dilations = {32: (1, 1, 1, 1), 16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}
    if output_stride not in dilations:
        raise ValueError(
            "The deepest features are at 1/32, 1/16 or 1/8 of the image. "
            f"Received: output_stride={output_stride}. Use 32, 16 or 8."
        )
    return dilations[output_stride]
