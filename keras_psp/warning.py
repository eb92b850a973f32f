"""Warnings that name the line of the user's program, however deep in the package they come up."""

import sys
import warnings

# Between a line of the user and the place of a warning there are this package, Keras, its backends,
# and what decorators and context managers are made of.
_PASSED = ("keras_psp", "keras", "tensorflow", "jax", "torch", "contextlib", "functools")


def warn(message: str) -> None:
    """Warns the user, at the innermost line outside of this package and of Keras."""
    level = 1
    while _is_passed(level):
        level += 1
    warnings.warn(message, stacklevel=level + 1)


def _is_passed(level: int) -> bool:
    """Whether a frame, counted from that of `warn`'s caller, is not the user's."""
    try:
        name = sys._getframe(level + 1).f_globals.get("__name__", "")
    except ValueError:  # There are no more: this package is the program.
        return False
    return name.partition(".")[0] in _PASSED
