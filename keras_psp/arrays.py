"""Arrays of NumPy from whatever users hold; PyTorch's tensors where it is not the backend."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.checked import short


def to_numpy(values: Any, name: str = "values", axes: Sequence[int] = ()) -> np.ndarray:
    """Returns an array of NumPy, of numbers that any library holds on any device.

    Args:
        values: An array, a list, or a tensor of any backend. PyTorch's may be on an accelerator,
            have gradients, and be in bfloat16.
        name: What the message calls it.
        axes: How many axes it may have; any number by default.

    Raises:
        ValueError: If it holds something else than real numbers, or has other axes.
    """
    try:
        array = _to_numpy(values)
        fault = "" if array.dtype.kind in "biufV" and not array.dtype.names else "no real numbers"
    except (TypeError, ValueError):  # Lists of different lengths, objects.
        fault = "no array"
    if not fault and axes and array.ndim not in axes:  # V is bfloat16.
        fault = f"an array of shape {array.shape}"
    if fault:
        wanted = f", along {' or '.join(map(str, axes))} axes" if axes else ""
        raise ValueError(
            f"{name} must be an array, a tensor or a list of real numbers{wanted}. "
            f"Received: {name}={short(values)}, {fault}. Pass such numbers."
        )
    return array


def _to_numpy(values: Any) -> np.ndarray:
    if _is_of_pytorch(values):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        return (values.float() if "bfloat16" in str(values.dtype) else values).numpy()
    return ops.convert_to_numpy(values)


def from_pytorch(values: Any) -> Any:
    """Returns a tensor of PyTorch's as an array where another backend is in use, which would
    refuse it; anything else as it is."""
    foreign = _is_of_pytorch(values) and keras.backend.backend() != "torch"
    return to_numpy(values) if foreign else values


def _is_of_pytorch(values: Any) -> bool:
    return hasattr(values, "detach") and hasattr(values, "cpu")


def one_program_on_jax(function: Callable, static: Sequence[str] = ()) -> Callable:
    """Returns a function of tensors that JAX compiles as a whole.

    Outside of a compiled step, JAX compiles each operation for each shape, which takes it longer
    than a label map takes it. The other backends get the function as it is.

    Args:
        function: A function of tensors, without variables.
        static: The names of its arguments that are no tensors.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function, static_argnames=static)
