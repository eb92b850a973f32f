"""Reading an image and its label map, and saying what is wrong with a file."""

import contextlib
import dataclasses
import io
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.choices import did_you_mean
from keras_psp.data.resizing import resize_image, resize_label
from keras_psp.labels import VOID, LabelCoding, LabelColors, LabelValues
from keras_psp.untrusted import check_regular

_MODES = {
    "1": "black and white",
    "L": "grayscale",
    "LA": "grayscale with transparency",
    "P": "a palette image",
    "PA": "a palette image with transparency",
    "RGBA": "RGBA, with transparency",
}
# Pillow's names of what these endings say. The content decides, and nothing else is tried: Pillow
# would hand some formats to other programs.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jfif")
IMAGE_SUFFIXES = (*LOSSY_SUFFIXES, ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""The endings, in any case of letters, of the files that are read as images and label maps."""

_ORIENTATION = 0x0112
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's number → Pillow's `Transpose`.
_BYTES_A_PIXEL = 16  # More has no file, however badly it compresses.
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
    """The files of an image and its label map.

    Args:
        name: What outputs call it.
        image: File of the image.
        label: File of the label map.
        coding: Turns the pixels of the label map into labels.
    """

    name: str
    image: Path
    label: Path
    coding: LabelCoding

    def read(
        self, size: tuple[int, int] | None = None, antialias: bool | str = "auto"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads both, checks that they belong together, and resizes them.

        Args:
            size: (height, width), or `None` for the size that the files have.
            antialias: See `resize_image`.

        Returns:
            Image `(height, width, 3)`, uint8 RGB, and labels `(height, width)`, uint8.

        Raises:
            DataError: If a file cannot be used; the message names it.
        """
        image, label = read_image(self.image), read_label(self.label, self.coding)
        if image.shape[:2] != label.shape:
            orientation, repair = _open(self.image)[2], "at the image's size"
            turned = ""
            if orientation != 1:
                turned = f" (turned upright by its EXIF orientation {orientation})"
                repair = "from the upright image"
            raise DataError(
                "size mismatch",
                f"An image and its label map must have the same size (height x width). Received: "
                f"image {self.image} of {_size(image)}{turned}, label map {self.label} of "
                f"{_size(label)}. Export the label map again {repair} (never interpolate labels).",
            )
        if size is None:
            return image, label
        return resize_image(image, size, antialias), resize_label(label, size)


def read_image(file: Path, max_pixels: int | None = None) -> np.ndarray:
    """Reads an 8-bit RGB image.

    Args:
        file: The file.
        max_pixels: The most pixels that it may have, by its header; `None` is Pillow's own limit,
            which holds for the whole process.

    Returns:
        uint8, `(height, width, 3)`, RGB, turned upright if the file has an EXIF orientation.

    Raises:
        DataError: If the file is missing, truncated, too large, or not 8-bit RGB.
    """
    image, kind, _ = _open(file, max_pixels)
    if kind != "RGB":
        raise DataError(
            "wrong kind of file",
            f"An image must be 8-bit RGB. Received: {file}, which is {kind}. "
            f'Convert it, for instance with PIL.Image.open(file).convert("RGB").',
        )
    return np.asarray(image)


def read_label(file: Path, coding: LabelCoding) -> np.ndarray:
    """Reads a label map.

    Args:
        file: For `LabelColors` an 8-bit RGB or palette image; for `LabelValues` an 8-bit grayscale,
            palette or black and white image, or one of three equal channels. No JPEG, which changes
            labels.
        coding: Turns its pixels into labels.

    Returns:
        Labels, uint8, `(height, width)`.

    Raises:
        DataError: If the file is missing, truncated, of the wrong kind, or has a label without a
            meaning, or an EXIF orientation.
    """
    image, kind, orientation = _open(file)
    if orientation != 1:
        raise DataError(
            "orientation",
            f"A label map must lie as it is shown. Received: {file} with EXIF orientation "
            f"{orientation}, which some programs obey and others do not. Compare it with its "
            f"image, and save it upright and without this entry.",
        )
    if kind == "RGB" and isinstance(coding, LabelValues) and _is_gray(image):
        image, kind = image.getchannel(0), "grayscale"
    if isinstance(coding, LabelColors):
        modes, rule = ["RGB", "P"], "8-bit RGB, as the classes are told apart by colors"
    else:
        modes, rule = ["L", "P", "1"], "8-bit with one channel, as the classes are numbers"
    if kind not in [_MODES.get(mode, mode) for mode in modes]:
        raise DataError(
            "wrong kind of file",
            f"A label map must be {rule}. Received: {file}, which is {kind}. Save it in that form, "
            f"like the other label maps.",
        )
    if file.suffix.lower() in LOSSY_SUFFIXES:
        raise DataError(
            "wrong kind of file",
            f"A label map must be stored without losses. Received: {file}, a JPEG, whose "
            f"compression changes labels. Save it as PNG, from the original.",
        )
    try:
        if isinstance(coding, LabelColors):
            return coding(np.asarray(image.convert("RGB")))
        palette = image.getpalette() if image.mode == "P" else ()
        pixels = np.asarray(image, np.uint8)
        if image.mode == "1" and coding.table[255] != VOID:
            pixels = 255 * pixels  # White is a class, and what one bit calls 1.
        return coding(pixels, palette)
    except ValueError as error:
        raise DataError("unknown label", f"In {file}: {error}") from None


def has_colors(file: Path) -> bool:
    """Tells whether a label file's pixels are colors (True) or numbers (False)."""
    return _open(file)[0].mode in ("RGB", "RGBA")


def turn_upright(image: Any) -> Any:
    """Returns a Pillow image as viewers show it: turned as its EXIF orientation says."""
    image.load()
    turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    return image if turn is None else image.transpose(turn)


def _open(file: Path, max_pixels: int | None = None) -> tuple[Any, str, int]:
    """Returns the Pillow image, upright, what kind it is, and the EXIF orientation it had."""
    from PIL import Image

    try:
        check_regular(file, _BYTES_A_PIXEL * (max_pixels or Image.MAX_IMAGE_PIXELS or 0) or None)
        data = file.read_bytes()
        image: Any
        if max_pixels is None:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        else:
            image = _open_any(data)
        # Asked first: when Pillow reads the pixels of a TIFF, it turns them and forgets this.
        orientation = image.getexif().get(_ORIENTATION)
        too_large = image.width * image.height > (max_pixels or math.inf)
        if not too_large:
            if max_pixels is not None and image.format == "TIFF":
                # A TIFF asks for that limit by itself, unless there is memory for it.
                ends = [part[1][2:] for part in image.tile]
                image.im = Image.new(image.mode, tuple(map(max, *ends, (0, 0)))).im
            image = turn_upright(image)
    except Image.DecompressionBombError as error:
        raise DataError(
            "too large",
            f"Pillow opens no image this large (a WebP not even where max_pixels allows it). "
            f"Received: {file} ({error}). Save it smaller; or as PNG or TIFF, to segment it with "
            "max_pixels.",
        ) from error
    except FileNotFoundError as error:
        raise DataError(
            "missing",
            f"An image must exist. Received: {file}, which does not. {did_you_mean(file)}Check the "
            "path.",
        ) from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's answers to damaged files.
        reason = "unknown format" if "cannot identify" in str(error) else str(error).rstrip(".")
        raise DataError(
            "unreadable",
            f"An image file must be whole. Received: {file}, which cannot be read ({reason}). Copy "
            f"or download it again, or remove it together with its partner.",
        ) from error
    if too_large:
        raise DataError(
            "too large",
            f"An image has at most max_pixels={max_pixels:,} pixels. Received: {file} of "
            f"{image.height}×{image.width} (height×width). Pass a larger max_pixels, and let the "
            "model see windows of it.",
        )
    orientation = orientation if orientation in _TURNS else 1  # Some cameras write 0.
    # Pillow reads 16-bit color PNGs as if they had 8 bits, so that their header has to be asked.
    if (data.startswith(_PNG) and data[_PNG_BIT_DEPTH] == 16) or image.mode[0] in "IF":
        return image, "16-bit or deeper", orientation
    return image, _MODES.get(image.mode, image.mode), orientation


def _is_gray(image: Any) -> bool:
    red, green, blue = image.split()
    return red == green == blue


def _open_any(data: bytes) -> Any:
    """Opens an image as `Image.open` does, which would ask for the limit of the whole process."""
    from PIL import Image

    Image.init()
    for factory, accepts in (Image.OPEN[name] for name in _FORMATS):
        accepted = accepts is None or accepts(data[:16])
        # It may say in words what is missing to read it.
        if accepted and not isinstance(accepted, str):
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                return factory(io.BytesIO(data), "")
    raise Image.UnidentifiedImageError("cannot identify it")


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"
