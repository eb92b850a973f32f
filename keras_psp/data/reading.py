"""Reading an image and its label map, and saying what is wrong with a file."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.resizing import resize_image, resize_label
from keras_psp.labels import LabelCoding, LabelColors, LabelValuesOrColors

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
class LabeledImage:
    """An image and its label map, as files or as the bytes of files.

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
            white image. Colors: an 8-bit RGB or palette image. With
            `LabelValuesOrColors` a palette image may have either.
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
        return (
            coding(pixels, palette) if isinstance(coding, LabelValuesOrColors) else coding(pixels)
        )
    except ValueError as error:
        raise DataError("unknown label", f"In {_where(source, name)}: {error}") from None


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
