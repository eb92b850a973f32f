"""Counts what each layer of a network costs: parameters and multiply-adds."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_psp.keras_internals import layers_in
from keras_psp.surgery.graph import only_input, output_spec, walk


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one layer costs for one image.

    Args:
        name: Its name, behind those of the layers that it is part of: `"stage2_block1/conv1"`.
        kind: Its class.
        output_shape: Shape of its output for one image, without the batch.
        parameters: Number of values that training changes.
        weights: Number of those that a convolution or a fully connected layer multiplies by:
            GoogLeNet's table counts these. Biases and normalizations are left out.
        multiply_adds: Number of products that are added up: one for each weight and place that it
            is used at. Normalizations, activations, poolings and biases count nothing, as in the
            papers, nor do products of two activations, as in attention. A `PyramidConv2D` counts as
            the paper's convolution, which has the same output.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    weights: int
    multiply_adds: int


def layer_costs(
    model: keras.Model, image_size: tuple[int, int] | None = None
) -> tuple[LayerCost, ...]:
    """Counts what each layer of a network costs. Nothing is computed, so it takes a moment only.

    Args:
        model: A functional Keras model with images as its only input.
        image_size: `(height, width)` in pixels; `None` is the model's own input size.

    Returns:
        One row for every use of a layer, in the order of the computation. A layer made of layers
        comes behind them, with only what it has besides them.

    Raises:
        ValueError: If the model has not one input, takes images of any size and none is named, or
            cannot take images of the size named.
    """
    image = only_input(model)
    shape = tuple(image.shape[1:])
    if image_size is not None:
        shape = (*image_size, shape[-1])
    if None in shape:
        raise ValueError(
            "What a network costs depends on the size of the image. "
            f"Received: image_size=None for {model.name}, which takes any. Name a size."
        )
    noted: list[tuple[keras.Layer, LayerCost]] = []
    try:
        walk(
            model, functools.partial(_visit, noted, ""), keras.KerasTensor((1, *shape), image.dtype)
        )
    except Exception as error:  # of the layer that finds nothing left, or too much
        if image_size is None:
            raise
        raise ValueError(
            "Costs are counted for images that the network can take. "
            f"Received: image_size={tuple(image_size)} for {model.name}. Name another size, or "
            "build the network for this one, or without its fully connected layers."
        ) from error
    return tuple(cost for _, cost in noted)


def _visit(noted: list, prefix: str, operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Finds out the shape of an operation's outputs, and notes what each layer in it costs."""
    if not isinstance(operation, keras.Layer):
        return output_spec(operation, *args, **kwargs)
    name, outputs, before = prefix + operation.name, None, len(noted)
    if layers_in(operation, recursive=False):
        visit = functools.partial(_visit, noted, f"{name}/")
        try:
            outputs = walk(operation, visit, *args, **kwargs)
        except Exception:  # Not every layer can be walked into; this one counts as a whole.
            del noted[before:]
    if outputs is None:
        outputs = output_spec(operation, *args, **kwargs)
    cost = _cost(operation, name, _shape((args, kwargs)), _shape(outputs), noted, noted[before:])
    noted.append((operation, cost))
    return outputs


def _cost(layer, name, inputs, outputs, earlier, inner) -> LayerCost:
    theirs = {id(v) for other, _ in inner for v in other.variables}
    # A model in the model has beside its layers only what trains it.
    variables = [] if isinstance(layer, keras.Model) else layer.variables
    own = [v for v in variables if id(v) not in theirs]
    trainable = {id(v) for v in layer.trainable_variables}
    weights = sum(_size(v.shape) for v in own if v.name in _KERNELS)
    # A layer that is used twice has its parameters once.
    first_use = all(other is not layer for other, _ in earlier)
    return LayerCost(
        name,
        type(layer).__name__,
        tuple(outputs[1:]),
        first_use * sum(_size(v.shape) for v in own if id(v) in trainable),
        first_use * weights,
        weights * _places(layer, inputs, outputs) if weights else 0,
    )


_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


def _shape(values: Any) -> Sequence[int]:
    """The shape of the first tensor among arguments or outputs."""
    return next(v.shape for v in keras.tree.flatten(values) if hasattr(v, "shape"))


def _places(layer: keras.Layer, inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """The number of places at which each weight of a layer is used."""
    if isinstance(layer, keras.layers.EinsumDense):
        # Its kernel has the output's axes of the same letters, and is used along all the others.
        _, kernel, axes = re.split(",|->", layer.equation)
        axes = axes.replace("...", "." * (len(outputs) - len(axes) + 3))
        return _size([n for axis, n in zip(axes, outputs, strict=True) if axis not in kernel])
    places = inputs if isinstance(layer, keras.layers.Conv2DTranspose) else outputs
    channels_first = getattr(layer, "data_format", None) == "channels_first"
    return _size(places[2:] if channels_first else places[1:-1])


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype="int64"))
