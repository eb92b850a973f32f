"""The graph walker: how this package rewrites networks, and counts their costs."""

from collections.abc import Callable
from typing import Any

import keras

from keras_psp.keras_internals import run_graph


def walk(model: Any, visit: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a model or layer operation by operation, with `visit` in the place of each call.

    The visit may call the operation, call another one instead (which rewrites the network), walk
    into the operation, or take notes. The walker itself calls none of them.

    Args:
        model: A functional or sequential model, or a layer that is made of layers.
        visit: Function `(operation, *args, **kwargs)` that returns the outputs. The operation is a
            layer, or an operation of `keras.ops`.
        *args: The inputs: tensors with values, symbolic ones, or those within another graph.
        **kwargs: Further arguments of a layer.

    Returns:
        The outputs, made of what the visits returned.
    """
    if has_graph(model):
        return run_graph(model, args[0], visit)
    # A layer has no graph: calling it on symbols makes one.
    tensors = {id(x): x for x in keras.tree.flatten((args, kwargs)) if hasattr(x, "shape")}
    symbols = {
        key: keras.KerasTensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype))
        for key, x in tensors.items()
    }
    own_args, own_kwargs = keras.tree.map_structure(lambda x: symbols.get(id(x), x), (args, kwargs))
    inner = keras.Function([*symbols.values()], model.call(*own_args, **own_kwargs))
    return run_graph(inner, [*tensors.values()], visit)


def operations_of(model: keras.Model) -> list[Any]:
    """Returns the operations of a functional or sequential model, in the order in which they run.

    Args:
        model: The model. Not all of them are `layers`: `x / 2` makes an operation, too.
    """
    return keras.Model(model.inputs, model.outputs).operations


def has_graph(operation: Any) -> bool:
    """Whether an operation is a model with a graph of its own, functional or sequential."""
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def output_spec(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """The outputs of an operation, without values, and without the trace that a call leaves in it.

    Args:
        operation: A layer, or an operation of `keras.ops`.
        *args: Its inputs, of which the shapes are known.
        **kwargs: Further arguments.

    Raises:
        ValueError: If a layer was built for inputs of another length.
    """
    if not isinstance(operation, keras.Layer):
        return operation.compute_output_spec(*args, **kwargs)
    shape = next(v.shape for v in keras.tree.flatten((args, kwargs)) if hasattr(v, "shape"))
    for spec in keras.tree.flatten(operation.input_spec):
        for axis, length in ((spec and spec.axes) or {}).items():
            if length is not None and shape[axis] != length:
                raise ValueError(
                    f"{operation.name} takes {length}, not {shape[axis]}, on axis {axis}."
                )
    if isinstance(operation, keras.layers.EinsumDense):
        # Its own function of shapes has the axes of "..." in the wrong order (Keras 3.15 at least).
        return keras.Operation.compute_output_spec(operation, *args, **kwargs)
    return operation.compute_output_spec(*args, **kwargs)


def only_input(model: keras.Model) -> Any:
    """Returns the symbolic input of a functional model.

    Args:
        model: The model.

    Raises:
        ValueError: If it is not functional, or has several inputs.
    """
    inputs: Any = getattr(model, "inputs", None) or ()
    if len(inputs) != 1:
        raise ValueError(
            "The model must be a functional Keras model with one input. "
            f"Received: model={getattr(model, 'name', model)}, a {type(model).__name__} with "
            f"{len(inputs)} inputs. Build it with keras.Model(image, outputs)."
        )
    return inputs[0]


def copy_operation(operation: Any, **changes: Any) -> Any:
    """Makes an operation with the configuration of another, but new weights.

    Args:
        operation: A layer, or an operation of `keras.ops`.
        **changes: What is different in its configuration. Operations without a name in their
            configuration get none.
    """
    config = operation.get_config()
    if "name" not in config:
        changes.pop("name", None)
    return type(operation).from_config({**config, **changes})
