"""Street scenes drawn by a program: the eleven classes, without a download.

A scene is a small world in meters (a road, what stands beside it, what moves on it), seen by a
camera in a car. `World` collects flat shapes from far to near, `street_scene` paints them twice:
in colors and in labels. Shape, place and neighbors tell the classes apart. Colors do not: walls,
sky, road, cars and clothes share them, and light, haze and shadow change them.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_psp.choices import check_name
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.pipeline import load_splits
from keras_psp.data.reading import Sample
from keras_psp.data.street_scenes.world import World
from keras_psp.labels import LabelValues

SPLITS = {"train": 400, "val": 100, "test": 100}
"""Number of scenes in each split, unless another is asked for."""

SCENES_PER_SPLIT = 1_000_000
"""Scenes that each split may draw from: no scene is in two of them."""

_SUPERSAMPLING = 2  # Shapes are painted at twice the size, so that their edges are smooth.


def street_scene(
    seed: int, image_size: tuple[int, int] = (180, 240)
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a street scene and its label map.

    Args:
        seed: Which scene: an integer, 0 or more. A scene is the same at every size, but for the
            noise, and what a wider picture shows at its sides.
        image_size: `(height, width)` in pixels.

    Returns:
        The image, uint8 `(height, width, 3)`, RGB; and the labels, uint8 `(height, width)`, of the
        classes of `keras_psp.data.camvid.CAMVID`, 255 void (verges, lorries, traffic lights).

    Example:

    ```python
    from keras_psp.data.street_scenes.loading import street_scene

    image, label = street_scene(3, image_size=(90, 120))
    assert image.shape == (90, 120, 3) and label.shape == (90, 120)
    ```
    """
    from PIL import Image, ImageDraw

    height, width = image_size
    scale, size = height * _SUPERSAMPLING, (width * _SUPERSAMPLING, height * _SUPERSAMPLING)
    world = World(random.Random(seed))
    picture, names = _sky(world, size), Image.new("L", size, CAMVID.names.index("Sky"))
    paint, label = ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(names)
    for shape, xs, ys, color, name in world.shapes:
        pixels = [(size[0] / 2 + x * scale, y * scale) for x, y in zip(xs, ys, strict=True)]
        getattr(paint, shape)(pixels, color)
        if name is not None:
            getattr(label, shape)(pixels, name)
    # A pixel has the mean color of those painted in it, and the label of one: names do not mix.
    labels = np.array(names)[1::_SUPERSAMPLING, 1::_SUPERSAMPLING].copy()
    image = np.array(picture.reduce(_SUPERSAMPLING), np.float32)
    return _expose(world, image, labels, np.random.default_rng(seed)), labels


def load_street_scenes(
    split: str | Sequence[str] = "train",
    image_size: tuple[int, int] = (180, 240),
    batch_size: int = 8,
    *,
    num_images: int | None = None,
    augment: Any = "auto",
    crop_size: tuple[int, int] | None = None,
    shuffle: bool | str = "auto",
    seed: int = 0,
    cache: bool | str = "auto",
    drop_remainder: bool | str = "auto",
) -> Any:
    """Loads drawn street scenes as batches: for a first try, and where CamVid cannot be had.

    Nothing is downloaded; the scenes are drawn when the data set is made, some dozens a second.
    What a network learns here is no substitute for real streets.

    Args:
        split: `"train"` (400 scenes), `"val"` (100) or `"test"` (100), or a list of these. No scene
            is in two splits.
        image_size: (height, width) in pixels that scenes are drawn at.
        batch_size: Scenes per batch.
        num_images: Number of scenes instead of the above, at most a million; the first ones are
            always the same.
        augment: As in `load_camvid`, and so are `crop_size`, `shuffle`, `seed`, `cache` and
            `drop_remainder`.

    Returns:
        Batches of (image, label), or a list of such data for a list of splits: the same as from
        `load_camvid`, and with the same classes.

    Raises:
        ValueError: If there is no such split or no such number of scenes.

    Example:

    ```python
    import keras_psp

    val = keras_psp.load_street_scenes("val", image_size=(60, 80), batch_size=4, num_images=4)
    images, labels = next(iter(val))
    assert images.shape == (4, 60, 80, 3) and labels.shape == (4, 60, 80)
    ```
    """
    for name in [split] if isinstance(split, str) else split:
        check_name("split", name, SPLITS)
    if num_images is not None and not 1 <= num_images <= SCENES_PER_SPLIT:
        raise ValueError(
            f"A split has 1 to {SCENES_PER_SPLIT} scenes. Received: num_images={num_images!r}. "
            f"Pass a number in this range, or None for the usual one."
        )

    def find(name: str) -> tuple[list[Sample], LabelValues]:
        first = list(SPLITS).index(name) * SCENES_PER_SPLIT
        count = num_images or SPLITS[name]
        scenes = [_Scene(f"{name}/{i}", b"", b"", first + i) for i in range(count)]
        return list(scenes), LabelValues(range(len(CAMVID)))

    return load_splits(
        split,
        find,
        CAMVID,
        image_size=image_size,
        batch_size=batch_size,
        augment=augment,
        crop_size=crop_size,
        shuffle=shuffle,
        seed=seed,
        cache=cache,
        drop_remainder=drop_remainder,
        antialias="auto",
    )


@dataclasses.dataclass(frozen=True)
class _Scene(Sample):
    """A scene among the samples: drawn where others are read."""

    seed: int = 0

    def read(
        self, coding: Any, size: tuple[int, int] | None = None, antialias: bool | str = "auto"
    ) -> tuple[np.ndarray, np.ndarray]:
        return street_scene(self.seed, size or (180, 240))


def _sky(world: World, size: tuple[int, int]) -> Any:
    """Returns the background: a gradient from the zenith to the horizon, and clouds."""
    from PIL import Image

    zenith, horizon, cloud, share, _, _ = world.mood
    rng = world.rng
    height, width = 60, 80
    glow, puffs = rng.uniform(0, width), np.random.default_rng(rng.getrandbits(32))
    noise = sum(
        _resize(puffs.uniform(-1, 1, (rows, 2 * rows)), (height, width)) / rows**0.7
        for rows in (4, 8, 16, 32)
    )
    down = np.clip(np.arange(height) / height / world.horizon, 0, 1)[:, None, None] ** 1.3
    sky = np.array(zenith) + (np.array(horizon) - np.array(zenith)) * down
    cover = np.clip((noise + share - 0.45) * 2.2, 0, 1)[..., None] * (1 - 0.7 * down)
    sky = sky + (np.array(cloud) - sky) * cover * 0.9
    across = np.abs(np.arange(width) - glow)[None, :, None] / width
    sky = np.clip(sky + 26 * world.sun * (1 - across) * down, 0, 255)
    return Image.fromarray(sky.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _resize(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(grid.astype(np.float32))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))


# How rough each class looks: deviation of its grain, per class and for void.
_GRAIN = np.full(256, 6.0, np.float32)
_GRAIN[:11] = (4, 10, 1, 2, 2, 5, 4, 6, 3, 5, 4)


def _expose(
    world: World, image: np.ndarray, label: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns what the camera makes of it: grain, light, contrast, white balance, noise."""
    draw = world.rng
    gain, contrast = draw.uniform(0.72, 1.15), draw.uniform(0.8, 1.2)
    balance = [gain * draw.uniform(0.93, 1.07) for _ in range(3)]
    light = np.array([[draw.uniform(0.9, 1.1) for _ in range(5)] for _ in range(4)])
    rough = np.hypot(_GRAIN[label], np.float32(draw.uniform(0.5, 3)))
    image *= _resize(light, label.shape)[..., None]
    image += (rng.standard_normal(label.shape, np.float32) * rough)[..., None]
    image -= 110
    image *= np.array(balance, np.float32) * np.float32(contrast)
    image += 110 * gain + draw.uniform(-12, 12)
    return np.clip(image, 0, 255, out=image).astype(np.uint8)
