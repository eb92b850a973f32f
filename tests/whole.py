"""A function or layer called as one program where each operation is compiled by itself: on JAX."""

from collections.abc import Callable

import keras


def whole(function: Callable) -> Callable:
    """Returns the same function, which JAX compiles in one go, in place of each operation.

    What it calls must be built. Whether it changes its variables, such as moving statistics, nobody
    may rely on: on JAX it does not.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    # Another function each time: JAX would find one it knows again, with the weights it had then.
    def stateless(*inputs):
        with keras.StatelessScope():
            return function(*inputs)

    return jax.jit(stateless)
