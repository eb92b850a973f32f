"""What a network costs: parameters and multiply-adds, layer by layer, and the papers' tables."""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_psp.models import VGG, Inception, ResNet


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one layer costs for one image.

    Args:
        name: Its name, behind those of the layers that it is part of: `"stage2_block1/conv1"`.
        kind: Its class.
        output_shape: Shape of what it gives for one image, without the batch.
        parameters: Numbers that training changes.
        weights: Those of them that a value is multiplied by in a convolution or a fully connected
            layer: what GoogLeNet's table counts. Biases and normalizations are left out.
        multiply_adds: Products that are added up: one for each weight and place that it is used at.
            Normalizations, activations, poolings and biases count nothing, as in the papers, nor do
            products of two activations, as in attention. A `PyramidConv2D` counts as the paper's
            convolution, whose answer it gives.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    weights: int
    multiply_adds: int


@dataclasses.dataclass(frozen=True)
class Costs:
    """The costs of a network's layers. Printed, it is a table.

    Args:
        layers: One for every use of a layer, in the order of the computation. A layer made of
            layers comes behind them, with only what it has besides them.
        input_shape: `(height, width, channels)` of the image that they were counted for.
    """

    layers: tuple[LayerCost, ...]
    input_shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Numbers that training changes, in the whole network."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the whole network for one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    def by_block(self, block: Callable[[str], str] | None = None) -> dict[str, LayerCost]:
        """Adds the layers of a block up.

        Args:
            block: Name of a layer → name of its block; by default what stands before the first `/`:
                a ResNet's blocks, GoogLeNet's modules, and every other layer by itself.

        Returns:
            Name of the block → its costs, and the shape that its last layer puts out.
        """
        blocks: dict[str, LayerCost] = {}
        for layer in self.layers:
            name = layer.name.partition("/")[0] if block is None else block(layer.name)
            before = blocks.get(name, LayerCost(name, "block", (), 0, 0, 0))
            blocks[name] = dataclasses.replace(
                before,
                output_shape=layer.output_shape,
                parameters=before.parameters + layer.parameters,
                weights=before.weights + layer.weights,
                multiply_adds=before.multiply_adds + layer.multiply_adds,
            )
        return blocks

    def __str__(self) -> str:
        rows = [
            (c.name, c.kind, "×".join(map(str, c.output_shape)), c.parameters, c.multiply_adds)
            for c in self.layers
            if c.parameters or c.multiply_adds
        ]
        rows.append(("all", "", "", self.parameters, self.multiply_adds))
        heads = ("layer", "kind", "output", "parameters", "multiply-adds")
        return format_table(heads, rows)


def count(model: keras.Model, image_size: tuple[int, int] | None = None) -> Costs:
    """Counts what a network costs. Nothing is computed, and so it takes a moment only.

    Args:
        model: A functional Keras model with images as its only input, such as every network of this
            package; also nested, also with layers made of layers.
        image_size: `(height, width)` in pixels, also another one than the model was built for;
            `None` is the model's own input size.

    Returns:
        The `Costs` for one image. What a model has for its training only, such as an auxiliary
        head, is not counted.

    Raises:
        ValueError: If the model has not one input, takes images of any size and none is named, or
            cannot take images of the size named: its fully connected layers need the one that it
            was built for, its last layers are left nothing of a small one.

    Example:

    ```python
    import keras_psp
    from keras_psp import analysis

    costs = analysis.count(keras_psp.VGG("vgg16", weights=None))
    assert costs.parameters == 138_357_544
    assert round(costs.multiply_adds / 1e9, 1) == 15.5
    ```
    """
    if len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(
            "Costs are counted of a functional model whose only input is an image. "
            f"Received: {model.name}, a {type(model).__name__}. Build it with keras.Model(image, "
            "outputs)."
        )
    shape = tuple(model.inputs[0].shape[1:])
    if image_size is not None:
        shape = (*image_size, shape[-1])
    if None in shape:
        raise ValueError(
            "What a network costs depends on the size of the image. "
            f"Received: image_size=None for {model.name}, which takes any. Name a size."
        )
    rows: list[LayerCost] = []
    try:
        with _recording(model, rows):
            _Trace(model).compute_output_spec(keras.KerasTensor((1, *shape), "float32"))
    except Exception as error:  # of the layer that finds nothing left, or too much
        if image_size is None:
            raise
        raise ValueError(
            "Costs are counted for images that the network can take. "
            f"Received: image_size={tuple(image_size)} for {model.name}. Name another size, or "
            "build the network for this one, or without its fully connected layers."
        ) from error
    return Costs(tuple(rows), shape)


class _Trace(keras.Operation):
    """Runs a model on shapes alone: a functional model asked for shapes skips its inner layers."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, image):
        # Not `self.model(image)`, which would insist on the size that it was built for.
        return self.model.call(image, training=False)


@contextlib.contextmanager
def _recording(model: keras.Model, rows: list[LayerCost]) -> Iterator[None]:
    """Lets every layer write down how it is called, and what it has besides its own layers."""
    patched, seen = [], set()

    def record(layer, own, prefix):
        call = layer.call
        counted: list[bool] = []
        # A layer that is used twice has its parameters once.
        trainable = {id(v) for v in layer.trainable_variables}
        parameters = sum(_size(v.shape) for v in own if id(v) in trainable)
        weights = sum(_size(v.shape) for v in own if v.name in _KERNELS)

        def recording_call(*args, **kwargs):
            outputs = call(*args, **kwargs)
            shape = _shape(outputs)
            places = _places(layer, _shape((args, kwargs)), shape) if weights else 0
            first = not counted
            counted.append(True)
            rows.append(
                LayerCost(
                    prefix + layer.name,
                    type(layer).__name__,
                    tuple(shape[1:]),
                    first * parameters,
                    first * weights,
                    places * weights,
                )
            )
            return outputs

        patched.append(layer)
        # The instance's own attribute comes before its class'.
        object.__setattr__(layer, "call", recording_call)

    def walk(parent, prefix):
        for layer in _inner(parent):
            if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
                continue
            seen.add(id(layer))
            walk(layer, f"{prefix}{layer.name}/")
            theirs = {id(v) for other in _inner(layer) for v in other.variables}
            # What a nested model has besides its layers, it has for its training.
            variables = [] if isinstance(layer, keras.Model) else layer.variables
            record(layer, [v for v in variables if id(v) not in theirs], prefix)

    try:
        walk(model, "")
        yield
    finally:
        for layer in patched:
            object.__delattr__(layer, "call")


_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


def _inner(layer) -> Sequence[keras.layers.Layer]:
    """The layers that a layer is made of."""
    return layer.layers if isinstance(layer, keras.Model) else layer._layers


def _shape(values) -> Sequence[int]:
    """Of the first tensor among arguments or outputs."""
    return next(v.shape for v in keras.tree.flatten(values) if hasattr(v, "shape"))


def _places(layer, inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """At how many places each of its weights is used."""
    if isinstance(layer, keras.layers.EinsumDense):
        # Its kernel has the output's axes of the same letters, and is used along all the others.
        _, kernel, axes = re.split(",|->", layer.equation)
        axes = axes.replace("...", "." * (len(outputs) - len(axes) + 3))
        return _size([n for axis, n in zip(axes, outputs, strict=True) if axis not in kernel])
    places = inputs if isinstance(layer, keras.layers.Conv2DTranspose) else outputs
    first = getattr(layer, "data_format", None) == "channels_first"
    return _size(places[2:] if first else places[1:-1])


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype="int64"))


def format_table(heads: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Writes rows as a table: words to the left, numbers to the right and in groups of three."""
    texts = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
    right = [all(isinstance(row[i], int) for row in rows) for i in range(len(heads))]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    lines = [heads, ["-" * width for width in widths], *texts]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if r else cell.ljust(w)
            for cell, w, r in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


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
    """GoogLeNet's table 1, row by row: the paper's figures, and the same counted here.

    Returns:
        The table. Rows whose printed figure does not follow from the row say so, and the lines
        below it say what is counted.

    Reference:
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), table 1.

    Example:

    ```python
    from keras_psp import analysis
    assert "inception (3a)" in analysis.googlenet_table()
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
    """VGG's table 2, the number of parameters of each configuration, and the same counted here.

    Returns:
        The table, with the multiply-adds of a 224×224 image beside.

    Reference:
        [Simonyan and Zisserman, 2015](https://arxiv.org/abs/1409.1556), table 2.

    Example:

    ```python
    from keras_psp import analysis
    print(analysis.vgg_table())
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
    """ResNet's table 1, the multiply-adds of each depth, and the same counted here; VGG beside.

    Returns:
        The table, and below it a sentence about ResNet-152 and VGG.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), table 1 and section 3.3.

    Example:

    ```python
    from keras_psp import analysis
    print(analysis.resnet_table())
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
    """In this scope networks are shapes: a hundred million random numbers are of no use here."""
    return keras.StatelessScope(initialize_variables=False)


def _count(builder, variant, **options) -> Costs:
    with _without_values():
        return count(builder(variant, weights=None, **options))
