"""Augmentations that have a name."""

from collections.abc import Callable

import keras

from keras_psp.choices import check_name
from keras_psp.data.augmentation.layers import RandomBlur, RandomColors, RandomView

SINGLE = "float32"
"""Half precision is for networks; the last bits of colors would be lost."""


def _authors(height: int, width: int) -> list[keras.Layer]:
    view = RandomView(height, width, scale=(0.5, 2.0), degrees=10.0, dtype=SINGLE)
    # OpenCV, which the authors use, takes 1.1 for a 5x5 kernel; Keras allows no fixed one above 1.
    blur = RandomBlur(factor=(0.5, 0.5), kernel_size=5, sigma=(1.0, 1.2), dtype=SINGLE)
    return [view, blur]


def _scratch(height: int, width: int) -> list[keras.Layer]:
    colors = RandomColors(0.15, 0.3, saturation_factor=(0.35, 0.65), dtype=SINGLE)
    return [RandomView(height, width, scale=(0.6, 1.5), dtype=SINGLE), colors]


def _scratch_long(height: int, width: int) -> list[keras.Layer]:
    colors = RandomColors(0.2, 0.4, saturation_factor=(0.3, 0.7), dtype=SINGLE)
    return [RandomView(height, width, scale=(0.6, 1.5), degrees=10.0, dtype=SINGLE), colors]


PRESETS: dict[str, Callable[[int, int], list[keras.Layer]]] = {
    "authors": _authors,
    "course": lambda height, width: _authors(height, width)[::-1],
    "flip": lambda height, width: [RandomView(height, width, dtype=SINGLE)],
    "scratch": _scratch,
    "scratch_long": _scratch_long,
}
"""Name → what makes the layers for the height and the width that shall come out."""


def preset_layers(name: str, height: int, width: int) -> list[keras.Layer]:
    """Makes the layers of a preset, in single precision."""
    return PRESETS[check_name("augmentation preset", name, PRESETS)](height, width)
