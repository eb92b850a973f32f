"""The papers' tables of parameters and multiply-adds, counted again."""

from typing import Any

import keras

from keras_psp.analysis.costs import Costs, count, format_table
from keras_psp.models import VGG, Inception, ResNet

# Szegedy et al., table 1: row, the layers that it stands for, weights (K), multiply-adds (M).
_GOOGLENET: tuple[tuple[str, tuple[str, ...], float, int], ...] = (
    ("convolution 7×7/2", ("conv1",), 2.7, 34),
    ("convolution 3×3", ("conv2_reduce", "conv2"), 112, 360),
    ("inception (3a)", ("inception_3a",), 159, 128),
    ("inception (3b)", ("inception_3b",), 380, 304),
    ("inception (4a)", ("inception_4a",), 364, 73),
    ("inception (4b)", ("inception_4b",), 437, 88),
    ("inception (4c)", ("inception_4c",), 463, 100),
    ("inception (4d)", ("inception_4d",), 580, 119),
    ("inception (4e)", ("inception_4e",), 840, 170),
    ("inception (5a)", ("inception_5a",), 1072, 54),
    ("inception (5b)", ("inception_5b",), 1388, 71),
    ("linear", ("predictions",), 1000, 1),
)

# Simonyan and Zisserman, table 2, in millions.
_VGG = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}

# He et al., table 1 and section 3.3: multiply-adds in 10⁹.
_RESNET = {18: 1.8, 34: 3.6, 50: 3.8, 101: 7.6, 152: 11.3}
_RESNETS_VGG = {16: 15.3, 19: 19.6}


def googlenet_table() -> str:
    """Counts GoogLeNet's table 1 again, row by row.

    Returns:
        The table: the paper's figures, and ours. It marks rows whose printed figure does not follow
        from the row, and says below what is counted.

    Reference:
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), table 1.

    Example:

    ```python
    from keras_psp.experiments import papers

    for line in papers.googlenet_table().splitlines()[1:5]:
        print(line[:54].rstrip())
    ```

    ```text
    row                output      weights: paper  counted
    -----------------  ----------  --------------  -------
    convolution 7×7/2  112×112×64  2.7K            9.2K
    convolution 3×3    56×56×192   112K            112.0K
    ```
    """
    with _without_values():
        model = Inception("googlenet", weights=None)
        costs = count(model)
    blocks = costs.by_block()
    rows = []
    for row, names, printed_weights, printed_work in _GOOGLENET:
        weights = sum(blocks[name].weights for name in names) / 1024
        work = sum(blocks[name].multiply_adds for name in names) / 1e6
        wrong = []
        if abs(weights - printed_weights) > 0.02 * weights:
            wrong.append("weights")
        if abs(work - printed_work) > 1.5:
            wrong.append("multiply-adds")
        rows.append(
            (
                row,
                "×".join(map(str, blocks[names[-1]].output_shape)),
                f"{printed_weights}K",
                f"{weights:.1f}K",
                f"{printed_work}M",
                f"{work:.1f}M",
                f"the paper's {' and '.join(wrong)} are wrong" if wrong else "",
            )
        )
    weights = sum(b.weights for b in blocks.values()) / 1024
    printed = f"{sum(row[2] for row in _GOOGLENET):.0f}K", f"{sum(row[3] for row in _GOOGLENET)}M"
    work = costs.multiply_adds / 1e6
    rows.append(("sum", "", printed[0], f"{weights:.0f}K", printed[1], f"{work:.0f}M", ""))
    heads = ("row", "output", "weights: paper", "counted", "multiply-adds: paper", "counted", "")
    return f"""GoogLeNet: table 1 of Szegedy et al. (2015), for an image of 224×224
{format_table(heads, rows)}
K is 1024 weights, without biases; M is 10⁶ multiply-adds. So counted, the other rows agree within
2 %. The first row's printed figures would fit a depthwise separable convolution: 7·7·3·8 + 24·64
weights. With biases there are {costs.parameters:,} parameters; in training, with the two auxiliary
classifiers, {model.count_params():,}."""


def vgg_table() -> str:
    """Counts VGG's table 2 again: the number of parameters of each configuration.

    Returns:
        The table: the paper's figures, ours, and the multiply-adds for a 224×224 image.

    Reference:
        [Simonyan and Zisserman, 2015](https://arxiv.org/abs/1409.1556), table 2.

    Example:

    ```python
    from keras_psp.experiments import papers
    print(papers.vgg_table())
    ```
    """
    rows = []
    for configuration, millions in _VGG.items():
        costs = _count(VGG, configuration)
        work = f"{costs.multiply_adds / 1e9:.2f}G"
        rows.append((configuration, f"{millions}M", costs.parameters, work))
    heads = ("configuration", "parameters: paper", "counted", "multiply-adds")
    return f"""VGG: table 2 of Simonyan and Zisserman (2015), and the work for an image of 224×224
{format_table(heads, rows)}"""


def resnet_table() -> str:
    """Counts ResNet's table 1 again: the multiply-adds of each depth, and of VGG.

    Returns:
        The table: the paper's figures, and ours; below it a sentence about ResNet-152 and VGG.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), table 1 and section 3.3.

    Example:

    ```python
    from keras_psp.experiments import papers
    print(papers.resnet_table())
    ```
    """
    rows, work = [], {}
    for depth, printed in _RESNET.items():
        costs = _count(ResNet, f"resnet{depth}", input_shape=(224, 224, 3))
        usual, name = costs, f"ResNet-{depth}"
        if depth >= 50:
            # The paper's convolutions have no biases either; where the stride sits is no parameter.
            usual = _count(ResNet, f"resnet{depth}_v1b", input_shape=(224, 224, 3))
        work[name] = costs.multiply_adds
        figures = [f"{c.multiply_adds / 1e9:.2f}G" for c in (costs, usual)]
        rows.append((name, f"{printed}G", *figures, usual.parameters))
    for depth, printed in _RESNETS_VGG.items():
        costs, name = _count(VGG, f"vgg{depth}"), f"VGG-{depth}"
        work[name] = costs.multiply_adds
        rows.append((name, f"{printed}G", f"{work[name] / 1e9:.2f}G", "", costs.parameters))
    heads = ("network", "multiply-adds: paper", "counted", "stride on 3×3", "parameters")
    shares = [work["ResNet-152"] / work[f"VGG-{depth}"] for depth in _RESNETS_VGG]
    return f"""ResNet: table 1 of He et al. (2016), for an image of 224×224
{format_table(heads, rows)}
In the paper the stride of a bottleneck sits on its first 1×1; on the 3×3, as in PyTorch's networks,
it costs a little more. ResNet-152 costs less than VGG: {shares[0]:.0%} of VGG-16 and \
{shares[1]:.0%} of VGG-19."""


def _without_values() -> Any:
    """A scope in which variables get no values: these would be a hundred million random numbers."""
    return keras.StatelessScope(initialize_variables=False)


def _count(builder, variant, **options) -> Costs:
    with _without_values():
        return count(builder(variant, weights=None, **options))
