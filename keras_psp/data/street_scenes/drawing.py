"""Drawing a street scene: a small world, seen by a camera in a car.

The world is in meters: a road, what stands beside it, what moves on it. `World` collects flat
shapes from far to near, and `street_scene` paints them twice: in colors and in labels. Shape, place
and neighbors tell the classes apart. Colors do not: walls, sky, road, cars and clothes share them,
and light, haze and shadow change them.
"""

import random
from typing import Any

import numpy as np

from keras_psp.checked import checked
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.street_scenes.world import World

_SUPERSAMPLING = 2  # Shapes are painted at twice the size, so that their edges are smooth.


@checked
def street_scene(
    seed: int, image_size: tuple[int, int] = (180, 240)
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a street scene and its label map.

    Args:
        seed: Which scene: an integer, 0 or more. A scene is the same at every size, except for the
            noise; a wider image shows more at its sides.
        image_size: `(height, width)` in pixels.

    Returns:
        The image, uint8 `(height, width, 3)`, RGB; and the labels, uint8 `(height, width)`, of the
        classes of `keras_psp.data.camvid.CAMVID`, 255 void (verges, lorries, traffic lights).

    Example:

    ```python
    import keras_psp

    image, label = keras_psp.street_scene(seed=3, image_size=(90, 120))
    print(image.shape, label.shape)
    print(f"road: {(label == 5).mean():.0%} of the pixels")
    ```

    ```text
    (90, 120, 3) (90, 120)
    road: 36% of the pixels
    ```
    """
    from PIL import Image, ImageDraw

    height, width = image_size
    scale, size = height * _SUPERSAMPLING, (width * _SUPERSAMPLING, height * _SUPERSAMPLING)
    world = World(random.Random(int(seed)))
    scene, labels = _sky(world, size), Image.new("L", size, CAMVID.names.index("Sky"))
    paint, paint_labels = ImageDraw.Draw(scene, "RGBA"), ImageDraw.Draw(labels)
    for shape, xs, ys, color, label in world.shapes:
        pixels = [(size[0] / 2 + x * scale, y * scale) for x, y in zip(xs, ys, strict=True)]
        getattr(paint, shape)(pixels, color)
        if label is not None:
            getattr(paint_labels, shape)(pixels, label)
    # Colors within a pixel are averaged; labels do not mix, so a pixel takes one of them.
    label_map = np.array(labels)[1::_SUPERSAMPLING, 1::_SUPERSAMPLING].copy()
    image = np.array(scene.reduce(_SUPERSAMPLING), np.float32)
    return _expose(world, image, label_map, np.random.default_rng(seed)), label_map


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
    """Returns the image as the camera takes it: grain, light, contrast, white balance, noise."""
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
