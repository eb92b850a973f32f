"""One frame and its label map: reading, checking, resizing. Works without TensorFlow."""

import dataclasses
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.labels import LabelColors

LabelCoding = Callable[[np.ndarray], np.ndarray]
"""Turns the pixels of a label file into labels: `LabelValues`, `LabelColors`, `NumbersOrColors`."""

_MODES = {
    "1": "black and white",
    "L": "grayscale",
    "LA": "grayscale with transparency",
    "P": "a palette image",
    "PA": "a palette image with transparency",
    "RGB": "RGB",
    "RGBA": "RGBA, with transparency",
    "CMYK": "CMYK",
}
_PNG, _PNG_BIT_DEPTH = b"\x89PNG\r\n\x1a\n", 24


@dataclasses.dataclass(frozen=True)
class NumbersOrColors:
    """What label files with one channel mean where the classes have numbers and known colors.

    Grayscale files hold numbers. A palette file has both a number and a color at each pixel, which
    decides where they disagree: whoever reduces a picture to a palette numbers the colors anew.

    Args:
        values: What the numbers mean.
        colors: What the colors mean.
    """

    values: LabelCoding
    colors: LabelColors

    def __call__(self, numbers: np.ndarray, palette: Sequence[int] = ()) -> np.ndarray:
        """Translates one map.

        Args:
            numbers: uint8, `(height, width)`.
            palette: Red, green and blue of the numbers in turn, or nothing.

        Returns:
            Labels, uint8, `(height, width)`.

        Raises:
            ValueError: If a pixel has no meaning, or if two meanings are left.
        """
        table = np.array(palette, np.uint8).reshape(-1, 3)
        used = np.unique(numbers).tolist()
        by_color = {n: self._label(self.colors, table[n : n + 1]) for n in used}
        known = [n for n in used if by_color[n] is not None]
        if all(self._label(self.values, np.array([n])) == by_color[n] for n in known):
            return self.values(numbers)
        if len(known) == len(used):
            return self.colors(table[numbers])
        shown = ", ".join(f"{n} in {tuple(table[n].tolist())}" for n in used[:5] if n < len(table))
        raise ValueError(
            "A palette's colors must all be classes' colors, or its numbers the classes. "
            f"Received: {shown}{', …' if len(used) > 5 else ''}: only some are classes' colors, "
            "which are not those of the numbers. Save the label map as RGB if the colors are "
            "meant, as grayscale if the numbers are."
        )

    @staticmethod
    def _label(coding: LabelCoding, pixel: np.ndarray) -> int | None:
        """Returns the label of one number or color; `None` where there is none."""
        try:
            return int(coding(pixel).item())
        except ValueError:  # No meaning, or no such entry in the palette.
            return None


class DataError(ValueError):
    """A file that cannot be used.

    Args:
        kind: What is wrong with it, in a word or two.
        message: The rule, what was received, and the repair.
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class Sample:
    """A frame and its label map, as files or as the bytes of files.

    Args:
        name: What error messages and outputs call it.
        image: File, or its bytes.
        label: File, or its bytes.
    """

    name: str
    image: Path | bytes
    label: Path | bytes

    def read(
        self,
        coding: LabelCoding,
        size: tuple[int, int] | None = None,
        antialias: bool | str = "auto",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads both, checks that they belong together, and resizes them.

        Args:
            coding: Turns the label file's pixels into labels.
            size: (height, width), or `None` for the size that the files have.
            antialias: See `resize_image`.

        Returns:
            Image `(height, width, 3)`, uint8 RGB, and labels `(height, width)`, uint8.

        Raises:
            DataError: If a file cannot be used; the message names it.
        """
        image = read_image(self.image, self.name)
        label = read_label(self.label, coding, self.name)
        if image.shape[:2] != label.shape:
            raise DataError(
                "size mismatch",
                f"An image and its label map must have the same size. Received: image "
                f"{_where(self.image, self.name)} of {_size(image)}, label map "
                f"{_where(self.label, self.name)} of {_size(label)}. Export the label map again at "
                f"the image's size (never interpolate labels).",
            )
        if size is None:
            return image, label
        return resize_image(image, size, antialias), resize_label(label, size)


def read_image(source: Path | bytes, name: str = "") -> np.ndarray:
    """Reads an 8-bit RGB image.

    Args:
        source: File, or its bytes.
        name: What messages call bytes.

    Returns:
        uint8, `(height, width, 3)`, RGB.

    Raises:
        DataError: If the file is missing, truncated, or not 8-bit RGB.
    """
    image, mode = _open(source, name)
    if mode != "RGB":
        raise DataError(
            "wrong kind of file",
            f"An image must be 8-bit RGB. Received: {_where(source, name)}, which is {mode}. "
            f'Convert it, for instance with PIL.Image.open(file).convert("RGB").',
        )
    return np.asarray(image)


def read_label(source: Path | bytes, coding: LabelCoding, name: str = "") -> np.ndarray:
    """Reads a label map.

    Args:
        source: File, or its bytes. Numbers: an 8-bit grayscale, palette (its indices) or black and
            white image. Colors: an 8-bit RGB or palette image. Of `NumbersOrColors`, a palette
            image may have either.
        coding: Turns its pixels into labels.
        name: What messages call bytes.

    Returns:
        Labels, uint8, `(height, width)`.

    Raises:
        DataError: If the file is missing, truncated, of the wrong kind, or has a label without a
            meaning.
    """
    image, mode = _open(source, name)
    if isinstance(coding, LabelColors):
        kinds, rule = ["RGB", "P"], "8-bit RGB, as the classes are told apart by colors"
    else:
        kinds, rule = ["L", "P", "1"], "8-bit with one channel, as the classes are numbers"
    if mode not in [_MODES[kind] for kind in kinds]:
        raise DataError(
            "wrong kind of file",
            f"A label map must be {rule}. Received: {_where(source, name)}, which is {mode}. Save "
            f"it in that form, like the other label maps.",
        )
    if kinds[0] == "RGB":
        image = image.convert("RGB")
    palette = image.getpalette() if image.mode == "P" else []
    try:
        pixels = np.asarray(image, np.uint8)
        return coding(pixels, palette) if isinstance(coding, NumbersOrColors) else coding(pixels)
    except ValueError as error:
        raise DataError("unknown label", f"In {_where(source, name)}: {error}") from None


def resize_image(
    image: np.ndarray, size: tuple[int, int], antialias: bool | str = "auto"
) -> np.ndarray:
    """Resizes an image bilinearly, with half-pixel centers.

    Args:
        image: uint8, `(height, width, 3)`.
        size: (height, width) wanted.
        antialias: Whether an image that shrinks is smoothed first. Without (the convention of
            PyTorch's `interpolate`, OpenCV and the course) a new pixel is made of the four around
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
    from keras_psp.data.reading import interpolation

    numbers, shares = interpolation(2, 4)
    assert numbers[1].tolist() == [0, 1] and shares[1].tolist() == [0.75, 0.25]
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
    parts = zip(numbers.T, shares.T, strict=True)
    number, share = next(parts)
    total = values.take(number, axis) * share.reshape(shape)
    for number, share in parts:
        total += values.take(number, axis) * share.reshape(shape)
    return total


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
    from keras_psp.data.reading import scaled_size
    assert scaled_size(375, 500, 256) == (256, 341)
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


def has_colors(source: Path | bytes, name: str = "") -> bool:
    """Tells whether a label file's pixels are colors (True) or numbers (False)."""
    return _open(source, name)[0].mode in ("RGB", "RGBA")


def _open(source: Path | bytes, name: str) -> tuple[Any, str]:
    """Returns the decoded Pillow image and what kind it is."""
    from PIL import Image

    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        image = Image.open(io.BytesIO(data))
        image.load()
    # Pillow's answers to files that are damaged, or larger than anything but an attack.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error) if isinstance(error, FileNotFoundError) else _reason(error)
        raise DataError(
            "unreadable",
            f"An image file must be whole. Received: {_where(source, name)}, which cannot be read "
            f"({reason}). Copy or download it again, or remove it together with its partner.",
        ) from error
    # Pillow reads 16-bit color PNGs as if they had 8 bits, so that their header has to be asked.
    if (data.startswith(_PNG) and data[_PNG_BIT_DEPTH] == 16) or image.mode[0] in "IF":
        return image, "16-bit or deeper"
    return image, _MODES.get(image.mode, image.mode)


def _reason(error: Exception) -> str:
    return "unknown format" if "cannot identify" in str(error) else str(error).rstrip(".")


def _where(source: Path | bytes, name: str) -> str:
    return name if isinstance(source, bytes) else str(source)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]} (height x width)"
