"""How much of an image a cell of a network sees, by its layers' kernels and strides."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from keras_psp.analysis.costs import format_table
from keras_psp.analysis.windows import NotKnownError, Pixels, Window, pointwise, rule_of
from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.surgery.graph import has_graph, only_input, output_spec, walk

# What the sides of images are taken to be where a model takes any: every usual stride divides it.
_ANY_SIZE = (512, 512)


@dataclasses.dataclass(frozen=True)
class LayerField:
    """What the cells of one layer see of the image; each pair is (vertical, horizontal).

    Cell p sees the pixels from `offset + p * stride` on, `size` of them. They may lie beyond the
    image, in what is padded. Behind an upsampling, not all cells see equally many: then this is the
    smallest box that holds what each cell sees, and the numbers may be fractions.

    Args:
        name: The layer's name, behind those of the layers that it is part of:
            `"stage2_block1/conv1"`.
        kind: Its class.
        output_shape: Shape of its output for one image, without the batch.
        size: Number of pixels that a cell sees. A cell that sees everything sees the image's.
        stride: Number of pixels from what a cell sees to what the next one sees; 0 if both see
            everything.
        offset: The first pixel that the first cell sees; negative in the padding.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    size: tuple[int, int]
    stride: tuple[Pixels, Pixels]
    offset: tuple[Pixels, Pixels]

    def box(self, cell: tuple[int, int] | None = None) -> tuple[int, int, int, int]:
        """The pixels that one cell sees.

        Args:
            cell: `(row, column)` of the layer's output; the one in the middle if `None`.

        Returns:
            `(top, left, bottom, right)`, the last two behind the last pixel. It may reach beyond
            the image.

        Raises:
            ValueError: If there is no such cell.
        """
        cells = self.output_shape[:2] if len(self.output_shape) == 3 else (1, 1)
        row, column = (cells[0] // 2, cells[1] // 2) if cell is None else cell
        if not (0 <= row < cells[0] and 0 <= column < cells[1]):
            raise ValueError(
                "A cell is (row, column) of the layer's output, counted from 0. "
                f"Received: cell={(row, column)} of {self.name}, which has {cells[0]}×{cells[1]}. "
                "Choose one of these."
            )
        top, left = (
            math.ceil(offset + place * stride)
            for offset, place, stride in zip(self.offset, (row, column), self.stride, strict=True)
        )
        return top, left, top + self.size[0], left + self.size[1]


@dataclasses.dataclass(frozen=True)
class ReceptiveField(LayerField):
    """The receptive field of a network or of one of its layers. Printed, it is a table.

    Args:
        layers: What the cells of each layer see, in the order of the computation. A layer made of
            layers comes behind them.
        image_size: `(height, width)` of the image that it was found out for.
    """

    layers: tuple[LayerField, ...]
    image_size: tuple[int, int]

    def __str__(self) -> str:
        rows, before = [], None
        for layer in self.layers:
            numbers = tuple(_pair(one) for one in (layer.size, layer.stride, layer.offset))
            if numbers != before:  # Activations and the like see what their inputs see.
                shape = "×".join(map(str, layer.output_shape))
                rows.append((layer.name, layer.kind, shape, *numbers))
            before = numbers
        return format_table(("layer", "kind", "output", "size", "stride", "offset"), rows)


def _pair(numbers: Sequence[Pixels]) -> int | str:
    """Writes two numbers as one where they are equal."""
    one, other = numbers
    return (one if isinstance(one, int) else str(one)) if one == other else f"{one}×{other}"


@checked
def receptive_field(
    model: keras.Model,
    layer: str | keras.Layer | None = None,
    *,
    image_size: tuple[int, int] | None = None,
) -> ReceptiveField:
    """Finds out how much of the image the cells of a layer see. Nothing is computed.

    From layer to layer, a kernel adds its reach times the stride so far, and a stride multiplies
    the stride. Where branches meet, a cell sees what it sees through any of them. Global pooling,
    pyramid pooling, fully connected layers and normalization over places see everything.

    Args:
        model: A functional Keras model with images as its only input; also nested, also with layers
            made of layers.
        layer: A layer of the model, or its name as the table has it (`"stage2_block1/conv1"`). If
            `None`, that of the outputs that sees most.
        image_size: `(height, width)` in pixels. `"same"` with strides pads other sizes otherwise.
            If `None`, the model's own, or 512×512 where it takes any.

    Returns:
        A `ReceptiveField`.

    Raises:
        ValueError: If the model is not functional, has several inputs, no such layer, a layer of
            which nobody knows what it sees, or layers that are channels first.

    Reference:
        [Araujo et al., 2019](https://distill.pub/2019/computing-receptive-fields).

    Example:

    ```python
    import keras_psp
    from keras_psp import analysis

    model = keras_psp.VGG("vgg11", include_top=False, weights=None, input_shape=(64, 64, 3))
    field = analysis.receptive_field(model, "block2_pool")
    print("size", field.size, "stride", field.stride, "offset", field.offset)
    print("top, left, bottom, right:", field.box((1, 2)))
    ```

    ```text
    size (10, 10) stride (4, 4) offset (-3, -3)
    top, left, bottom, right: (1, 5, 11, 15)
    ```
    """
    image = only_input(model)
    *own_size, channels = image.shape[1:]
    height, width = (
        named or own or usual
        for named, own, usual in zip(image_size or (None, None), own_size, _ANY_SIZE, strict=True)
    )
    fields = _Fields((height, width))
    symbol = keras.KerasTensor((1, height, width, channels), image.dtype)
    fields.add(symbol, "image", image, [_Axis()] * 2)
    outputs = walk(model, functools.partial(fields.visit, ""), symbol)
    if layer is None:
        found = fields.deepest(outputs)
    else:
        name = check_name("layer", getattr(layer, "name", layer), [row.name for row in fields.rows])
        found = next(row for row in reversed(fields.rows) if row.name == name)
    return ReceptiveField(**vars(found), layers=tuple(fields.rows), image_size=(height, width))


class _Axis(NamedTuple):
    """What a cell sees of the image along one axis: cell p the pixels from p·stride + first to
    p·stride + last."""

    stride: Pixels = 1
    first: Any = 0  # −∞ where it sees everything
    last: Any = 0

    def through(self, window: Window) -> "_Axis":
        """What the cells see that see these through a window."""
        return _Axis(
            self.stride * window.stride,
            self.first - window.before * self.stride,
            self.last + window.after * self.stride,
        )


_EVERYTHING = _Axis(0, -math.inf, math.inf)


def _union(axes: Sequence[_Axis], cells: int) -> _Axis:
    """What so many cells see through any of these."""
    if _EVERYTHING in axes or not axes:  # or a constant
        return _EVERYTHING
    stride = axes[0].stride
    # Strides differ a little where a map was upsampled to another's size.
    drifts = [(axis.stride - stride) * (cells - 1) for axis in axes]
    return _Axis(
        stride,
        min(axis.first + min(0, drift) for axis, drift in zip(axes, drifts, strict=True)),
        max(axis.last + max(0, drift) for axis, drift in zip(axes, drifts, strict=True)),
    )


def _numbers(axis: _Axis, pixels: int) -> tuple[int, Pixels, Pixels]:
    """Size, stride and offset of a field along one axis of an image."""
    if axis == _EVERYTHING:
        return pixels, 0, 0
    stride, offset = (int(x) if x == int(x) else x for x in axis[:2])
    return math.floor(axis.last - axis.first) + 1, stride, offset


class _Fields:
    """What the cells of each tensor see, noted on a walk through a network."""

    def __init__(self, image_size: tuple[int, int]):
        self.image_size = image_size
        self.rows: list[LayerField] = []
        # By identity; the tensors are kept, so that no two have the same one.
        self.noted: dict[int, tuple[Any, LayerField, list[_Axis]]] = {}

    def deepest(self, outputs: Any) -> LayerField:
        """Of several outputs, that whose cells see most."""
        rows = (self.noted[id(x)][1] for x in keras.tree.flatten(outputs))
        return max(rows, key=lambda row: (0 in row.stride, math.prod(row.size)))

    def add(self, tensor: Any, name: str, operation: Any, axes: list[_Axis]) -> None:
        size, stride, offset = zip(*map(_numbers, axes, self.image_size), strict=True)
        kind, shape = type(operation).__name__, tuple(tensor.shape[1:])
        row = LayerField(name, kind, shape, size, stride, offset)
        self.noted[id(tensor)] = tensor, row, axes

    def visit(self, prefix: str, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Finds out what the cells of an operation's outputs see, and notes it."""
        name = prefix + operation.name
        if _is_walked_into(operation):
            try:
                outputs = walk(
                    operation, functools.partial(self.visit, f"{name}/"), *args, **kwargs
                )
            except NotKnownError:
                raise
            except Exception as error:
                raise NotKnownError(name, operation) from error
            for output in keras.tree.flatten(outputs):
                self.add(output, name, operation, self.noted[id(output)][2])
        else:
            outputs, given = output_spec(operation, *args, **kwargs), (*args, *kwargs.values())
            for output in keras.tree.flatten(outputs):
                self.add(output, name, operation, self._axes(operation, output, given))
        if isinstance(operation, keras.Layer):
            self.rows.append(self.deepest(outputs))
        return outputs

    def _axes(self, operation, output, args) -> list[_Axis]:
        """What the cells of an output see along both axes."""
        if len(output.shape) != 4:
            return [_EVERYTHING] * 2
        if getattr(operation, "data_format", None) == "channels_first":
            raise ValueError(
                "Receptive fields are found out for channels last. "
                f"Received: layer {operation.name} with data_format='channels_first'. Build the "
                "model after keras.config.set_image_data_format('channels_last')."
            )
        # What is not in the table keeps a map's size and treats each place by itself.
        rule = rule_of(operation) or pointwise
        # Behind its input, an operation may get one of which it needs the size only, or a kernel.
        inputs = args if rule is pointwise else args[0]
        axes = []
        for i, cells in enumerate(output.shape[1:3]):
            through = []
            for x in keras.tree.flatten(inputs):
                if id(x) in self.noted:
                    axis = self.noted[id(x)][2][i]
                    if axis != _EVERYTHING:
                        window = rule(operation, args, x.shape[1 + i], cells, i)
                        axis = axis.through(window) if window else _EVERYTHING
                    through.append(axis)
            axes.append(_union(through, cells))
        return axes


def _is_walked_into(operation: Any) -> bool:
    """Whether an operation is made of others: a model, or a layer of ours or of the user's."""
    if not isinstance(operation, keras.Layer) or has_graph(operation):
        return has_graph(operation)
    if isinstance(operation, keras.layers.Lambda):
        return True
    of_keras = type(operation).__module__.startswith("keras.")
    return not of_keras and rule_of(operation) is None
