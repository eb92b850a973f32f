"""A function or layer called as one program where each operation is compiled by itself: on JAX."""

from collections.abc import Callable

import keras


def whole(function: Callable) -> Callable:
    """Returns the same function, which JAX compiles in one go, in place of each operation.

    What it calls must be built, and must not change its variables.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    # Another function each time: JAX would find one it knows again, with the weights it had then.
    return jax.jit(lambda *inputs: function(*inputs))
