"""The images that users give: files, folders, Pillow images and arrays."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from keras_psp.data import layouts
from keras_psp.data.reading import IMAGE_SUFFIXES, read_image, turn_upright


def as_pixels(image: Any) -> np.ndarray:
    """Returns the pixels of an image, and checks them.

    Args:
        image: A file, a Pillow image or an array: RGB, 0–255, `(height, width, 3)`.

    Returns:
        Integers or floats `(height, width, 3)`.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    if hasattr(image, "getexif"):
        image = turn_upright(image)
    # Other modes than RGB can have three channels too: YCbCr, LAB, HSV.
    mode = getattr(image, "mode", "RGB")
    pixels = ops.convert_to_numpy(image) if mode == "RGB" else np.asarray(image)
    is_rgb = mode == "RGB" and pixels.ndim == 3 and pixels.shape[-1] == 3
    if not (is_rgb and pixels.size and pixels.min() >= 0 and pixels.max() <= 255):
        values = f"values {pixels.min()} to {pixels.max()}" if pixels.size else "no pixel"
        raise ValueError(
            "An image must be RGB, 0–255, (height, width, 3). "
            f"Received: image of shape {pixels.shape}, mode {mode}, {values}. "
            'Convert it, for instance with Pillow\'s image.convert("RGB").'
        )
    return pixels


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
