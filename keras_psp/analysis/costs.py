"""What a network costs: parameters and multiply-adds, layer by layer, as a table."""

import dataclasses
from collections.abc import Callable, Sequence

import keras

from keras_psp.checked import checked
from keras_psp.surgery.cost import LayerCost, layer_costs


@dataclasses.dataclass(frozen=True)
class Costs:
    """The costs of a network's layers. Printed, it is a table.

    Args:
        layers: One row for every use of a layer, in the order of the computation. A layer made of
            layers comes behind them, with only what it has besides them.
        input_shape: `(height, width, channels)` of the image that they were counted for.
    """

    layers: tuple[LayerCost, ...]
    input_shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Number of values that training changes, in the whole network."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the whole network for one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    def by_block(self, block: Callable[[str], str] | None = None) -> dict[str, LayerCost]:
        """Adds up the layers of each block.

        Args:
            block: Name of a layer → name of its block; by default the part before the first `/`: a
                ResNet's blocks, GoogLeNet's modules, and every other layer by itself.

        Returns:
            Name of the block → its costs, with the shape of its last layer's output.
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


@checked
def count(model: keras.Model, image_size: tuple[int, int] | None = None) -> Costs:
    """Counts what a network costs. Nothing is computed, so it takes a moment only.

    Args:
        model: A functional Keras model with images as its only input, such as every network of this
            package; also nested, also with layers made of layers.
        image_size: `(height, width)` in pixels; it may differ from the model's own input size,
            which `None` stands for.

    Returns:
        The `Costs` for one image. Parts that exist for training only, such as an auxiliary head,
        are not counted.

    Raises:
        ValueError: If the model has not one input, takes images of any size and none is named, or
            cannot take images of the size named: fully connected layers need the size that they
            were built for, and of a small image nothing is left for the last layers.

    Example:

    ```python
    import keras_psp
    from keras_psp import analysis

    costs = analysis.count(keras_psp.VGG("vgg16", weights=None))
    print(f"{costs.parameters:,} parameters")
    print(f"{costs.multiply_adds / 1e9:.1f} billion multiply-adds")
    ```

    ```text
    138,357,544 parameters
    15.5 billion multiply-adds
    ```
    """
    layers = layer_costs(model, image_size)
    *own_size, channels = model.inputs[0].shape[1:]
    return Costs(layers, (*(image_size or own_size), channels))


def format_table(heads: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Formats rows as a table: words to the left, numbers to the right, in groups of three."""
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
