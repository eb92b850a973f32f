"""Drawing pixels of classes by given random numbers, in NumPy or by a backend's functions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Python's numbers would become NumPy's double precision.
_ZERO, _ONE = np.float32(0), np.float32(1)


def split_numbers(np_: Any, numbers: Any, probability: float) -> tuple[Any, Any]:
    """Makes two draws of one random number.

    Args:
        np_: NumPy, or a backend's functions of these names.
        numbers: Random numbers 0–1, float32 `(batch,)`.
        probability: How likely the first draw is, 0–1.

    Returns:
        Whether it happens, and random numbers 0–1 that do not depend on that.
    """
    happens = numbers < probability
    others = (numbers - probability) / max(1 - probability, 1e-6)
    return happens, np_.where(happens, numbers / max(probability, 1e-6), others)


def draw_pixels(
    np_: Any, labels: Any, classes: Sequence[int], which: Any, where: Any
) -> tuple[Any, Any]:
    """Draws one of the classes that each image has, and a pixel of it, each as likely.

    Args:
        np_: As in `split_numbers`.
        labels: `(batch, pixels)`; of a backend float32.
        classes: Those to draw from.
        which: Random numbers 0–1 for the class, float32 `(batch,)`.
        where: The same for the pixel.

    Returns:
        Whether an image has any of the classes, and the places of the pixels, float32 `(batch,)`.
    """
    has = np_.stack([np_.any(labels == number, axis=1) for number in classes], axis=1)
    places = np.arange(len(classes), dtype="float32")
    is_chosen = places == _nth(np_, has, which)[:, None]
    chosen = np_.sum(np_.where(is_chosen, np.array(classes, "float32"), _ZERO), axis=1)
    return np_.any(has, axis=1), _nth(np_, labels == chosen[:, None], where)


def _nth(np_: Any, marks: Any, numbers: Any) -> Any:
    """The place of a mark in each row: of the first for the number 0, of the last for almost 1."""
    counts = np_.cumsum(np_.where(marks, _ONE, _ZERO), axis=1)
    # Of rounded numbers, one may be 1.
    nth = np_.minimum(np_.floor(numbers * counts[:, -1]), counts[:, -1] - 1)
    return np_.sum(np_.where(counts <= nth[:, None], _ONE, _ZERO), axis=1)
