"""Resizing images and label maps, in NumPy and Pillow."""

import functools
import math
import operator
from collections.abc import Sequence

import numpy as np


def resize_image(
    image: np.ndarray, size: tuple[int, int], antialias: bool | str = "auto"
) -> np.ndarray:
    """Resizes an image bilinearly, with half-pixel centers.

    Args:
        image: uint8, `(height, width, 3)`.
        size: (height, width) wanted.
        antialias: Whether an image that shrinks is smoothed first. Without (the convention of
            PyTorch's `interpolate` and of OpenCV) a new pixel is made of the four around
            it: up to a factor of two that is every pixel, beyond it pixels are skipped and thin
            poles break into pieces. Therefore `"auto"` smooths beyond a factor of two only.

    Returns:
        uint8, `(*size, 3)`, rounded.
    """
    if image.shape[:2] == tuple(size):
        return image
    if is_smoothed(image.shape[:2], size, antialias):
        from PIL import Image

        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    for axis in (0, 1):
        image = interpolate(image, axis, *interpolation(image.shape[axis], size[axis]))
    return np.rint(image).astype(np.uint8)


def is_smoothed(old: Sequence[int], new: Sequence[int], antialias: bool | str = "auto") -> bool:
    """Tells whether an image that is resized from one (height, width) to another is smoothed."""
    if antialias == "auto":
        return any(before > 2 * after for before, after in zip(old, new, strict=True))
    return bool(antialias)


def interpolation(old: int, new: int, smooth: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Says of which values of a row a shorter or longer row is made: bilinear, half-pixel centers.

    Args:
        old: How many values there are.
        new: How many are wanted.
        smooth: Whether a row that shrinks is averaged over all its values, or made of the two next
            to each place.

    Returns:
        The numbers of the old values, integers `(new, n)`, and their shares, float32 `(new, n)`, of
        which each row's sum is 1.

    Example:

    ```python
    from keras_psp.data.resizing import interpolation

    numbers, shares = interpolation(2, 4)
    print(numbers[1], shares[1])
    ```

    ```text
    [0 1] [0.75 0.25]
    ```
    """
    if old == new:
        return np.arange(new)[:, None], np.ones((new, 1), np.float32)
    reach = max(old / new, 1.0) if smooth else 1.0
    places = (np.arange(new)[:, None] + 0.5) * (old / new) - 0.5
    numbers = np.floor(places - reach).astype(int) + 1 + np.arange(math.ceil(2 * reach))
    shares = np.maximum(1 - np.abs(numbers - places) / reach, 0)
    shares[(numbers < 0) | (numbers >= old)] = 0
    shares /= shares.sum(axis=1, keepdims=True)
    return np.clip(numbers, 0, old - 1), shares.astype(np.float32)


def interpolate(
    values: np.ndarray, axis: int, numbers: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """Resizes an array along an axis, or a part of it, as `interpolation` says.

    Args:
        values: Numbers of any shape.
        axis: Which axis.
        numbers: Of which values each new one is made, `(new, n)`.
        shares: How much of each, `(new, n)`.

    Returns:
        float32, with `new` values along the axis.
    """
    shape = [-1 if a == axis else 1 for a in range(values.ndim)]
    pairs = zip(numbers.T, shares.T, strict=True)
    parts = (values.take(number, axis) * share.reshape(shape) for number, share in pairs)
    return functools.reduce(operator.iadd, parts)  # Adds in place.


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The size of an image whose shorter side becomes `short_side`, with the same aspect ratio.

    Args:
        height: Its height.
        width: Its width.
        short_side: The shorter of the two afterward.

    Returns:
        `(height, width)`, the longer side rounded.

    Example:

    ```python
    from keras_psp.data.resizing import scaled_size
    print(scaled_size(375, 500, 256))
    ```

    ```text
    (256, 341)
    ```
    """
    factor = short_side / min(height, width)
    return round(height * factor), round(width * factor)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a label map: every new pixel takes the label of the nearest old one.

    Args:
        label: `(height, width)`.
        size: (height, width) wanted.

    Returns:
        The same type, `size`.
    """
    if label.shape == tuple(size):
        return label
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(np.int32)
        for new, old in zip(size, label.shape, strict=True)
    )
    return label[rows[:, None], columns]
