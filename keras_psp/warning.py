"""Warnings that name the line of the user's program, however deep in the package they come up."""

import sys
import types
import warnings

# Between a line of the user and the place of a warning there are this package, Keras, its backends,
# what decorators and context managers are made of, and threads, which have no line of the user.
_PASSED = {
    *("keras_psp", "keras", "tensorflow", "jax", "torch"),
    *("contextlib", "functools", "concurrent", "threading"),
}


def warn(message: str) -> None:
    """Warns the user, at the innermost line outside of this package and of Keras."""
    level = 2
    frame: types.FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
