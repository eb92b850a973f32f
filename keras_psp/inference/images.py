"""The images that users give: files, folders, Pillow images and arrays."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.choices import did_you_mean
from keras_psp.data import layouts
from keras_psp.data.each_batch import warn_of_small_values
from keras_psp.data.reading import IMAGE_SUFFIXES, read_image, turn_upright

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
MAX_PIXELS = 178_956_970
"""The most pixels of a file, unless more are allowed: Pillow takes larger ones for an attack."""


def as_pixels(image: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns the pixels of an image, and checks them.

    Args:
        image: A file, a Pillow image, an array, or a tensor of any library: RGB, 0–255,
            `(height, width, 3)`.
        max_pixels: The most pixels that a file may have.

    Returns:
        Integers or floats `(height, width, 3)`.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), max_pixels)
    if isinstance(image, bytes | bytearray):
        raise ValueError(
            "An image is a file, a Pillow image or an array. "
            f"Received: {type(image).__name__}, {len(image)} of them. Decode the content of a file "
            "with PIL.Image.open(io.BytesIO(content))."
        )
    if hasattr(image, "getexif"):
        image = turn_upright(image)
    # Other modes than RGB can have three channels too: YCbCr, LAB, HSV. In PyTorch's tensors the
    # name is a method's.
    mode = getattr(image, "mode", "RGB")
    mode = mode if isinstance(mode, str) else "RGB"
    pixels = to_numpy(image, "image") if mode == "RGB" else np.asarray(image)
    check_pixels(pixels, mode=mode)
    warn_of_small_values(pixels)
    return pixels


def check_pixels(pixels: np.ndarray, axes: int = 3, mode: str = "RGB") -> np.ndarray:
    """Returns the pixels of an image, or of a batch, which has four axes; raises a ValueError if
    they are not RGB, 0–255."""
    is_rgb = mode == "RGB" and pixels.ndim == axes and pixels.shape[-1] == 3
    numbers = np.issubdtype(pixels.dtype, np.number) and pixels.size
    if not (is_rgb and numbers and pixels.min() >= 0 and pixels.max() <= 255):
        values = f"values {pixels.min()} to {pixels.max()}" if numbers else "no numbers"
        repair = 'Convert it, for instance with Pillow\'s image.convert("RGB").'
        if pixels.ndim == axes and pixels.shape[-3] == 3:
            repair = f"Move the channels to the end: numpy.moveaxis(image, {axes - 3}, -1)."
        shape = "(height, width, 3)" if axes == 3 else "in a batch (batch, height, width, 3)"
        raise ValueError(
            f"An image must be RGB, 0–255, {shape}. "
            f"Received: image of shape {pixels.shape}, mode {mode}, {values}. {repair}"
        )
    return pixels


def is_stream(images: Any) -> bool:
    """Whether something is neither an image nor a list of them, but yields images one by one."""
    one = isinstance(images, str | bytes | bytearray | Mapping) or hasattr(images, "shape")
    return isinstance(images, Iterable) and not (one or isinstance(images, list | tuple))


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Lists the images of a folder, in the order of their names.

    Args:
        folder: The folder.

    Returns:
        Their paths.

    Raises:
        ValueError: If there is none.
    """
    files = layouts.image_files(Path(folder))
    if not files:
        raise ValueError(
            f"A folder to segment must hold images ({', '.join(IMAGE_SUFFIXES)}). "
            f"Received: {folder} with {len(os.listdir(folder))} entries, none of them an image. "
            "Pass another folder."
        )
    return files


def find_files(paths: Iterable[str]) -> tuple[list[Path], list[Path], list[str]]:
    """Returns the images and videos that the paths name, and what is wrong with other paths."""
    images: list[Path] = []
    videos: list[Path] = []
    failures: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            try:
                images += image_files(path)
            except ValueError as error:
                failures.append(str(error))
        elif path.exists():
            (videos if path.suffix.lower() in VIDEO_SUFFIXES else images).append(path)
        else:
            failures.append(
                f"What is segmented must exist. Received: {path}. {did_you_mean(path)}Check the "
                "path."
            )
    if failures and not (images or videos):
        raise ValueError("\n".join(failures))
    return images, videos, failures


def no_image(file: Path) -> str | None:
    """Says that a file which could not be read does not even have the ending of an image."""
    endings = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    if file.suffix.lower() in endings:
        return None
    images = [one for one in file.parent.iterdir() if one.suffix.lower() in endings]
    return (
        f"An image or video has one of the endings {', '.join(endings)}. Received: {file}, which "
        f"is no image. {did_you_mean(file, images)}Leave it out."
    )
