"""`load_street_scenes`: street scenes drawn by a program, without a download."""

import dataclasses
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.info import Dataset
from keras_psp.data.options import LoadingOptions
from keras_psp.data.pipeline import load_splits
from keras_psp.data.street_scenes.drawing import street_scene
from keras_psp.signatures import passes_on

SPLITS = {"train": 400, "val": 100, "test": 100}
"""Number of scenes in each split, unless another is asked for."""

SCENES_PER_SPLIT = 1_000_000
"""Scenes that each split may draw from: no scene is in two of them."""


@overload
def load_street_scenes(
    split: str = ...,
    image_size: tuple[int, int] = ...,
    batch_size: int = ...,
    *,
    num_images: int | None = ...,
    **options: Any,
) -> Dataset: ...


@overload
def load_street_scenes(split: Sequence[str], *args: Any, **options: Any) -> list[Dataset]: ...


@checked(num_images=(1, SCENES_PER_SPLIT))
@passes_on(LoadingOptions)
def load_street_scenes(
    split: str | Sequence[str] = "train",
    image_size: tuple[int, int] | None = (180, 240),
    batch_size: int = 8,
    *,
    num_images: int | None = None,
    **options: Any,
) -> "Dataset | list[Dataset]":
    """Loads drawn street scenes as batches: for a first try, and where CamVid cannot be had.

    Nothing is downloaded; the scenes are drawn when the data set is made, some dozens a second.
    What a network learns here is no substitute for real streets.

    Args:
        split: `"train"` (400 scenes), `"val"` (100) or `"test"` (100), or a list of these. No scene
            is in two splits.
        image_size: (height, width) in pixels that scenes are drawn at; `None` is 180×240.
        batch_size: Scenes per batch.
        num_images: Number of scenes instead of the above, at most a million; the first ones are
            always the same.
        **options: `augment`, `crop_size`, `centered_on`, `shuffle`, `seed`, `cache` and
            `drop_remainder`: see
            `keras_psp.data.LoadingOptions`.

    Returns:
        Batches of (image, label), or a list of such data for a list of splits: the same as from
        `load_camvid`, and with the same classes.

    Raises:
        ValueError: If there is no such split, option or number of scenes.

    Example:

    ```python
    import keras_psp

    val = keras_psp.load_street_scenes("val", image_size=(60, 80), batch_size=4, num_images=4)
    images, labels = next(iter(val))
    print(tuple(images.shape), tuple(labels.shape))
    ```

    ```text
    (4, 60, 80, 3) (4, 60, 80)
    ```
    """
    for name in [split] if isinstance(split, str) else split:
        check_name("split", name, SPLITS)

    options |= {"image_size": image_size, "batch_size": batch_size}
    return load_splits(
        split, lambda name: find_scenes(name, num_images or SPLITS[name]), CAMVID, options
    )


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene, drawn where other images are read: a `keras_psp.data.split.Sample`.

    Attributes:
        name: Its split, and its number there.
        seed: Which scene it is, see `street_scene`.
    """

    name: str
    seed: int

    def read(
        self, size: tuple[int, int] | None, antialias: bool | str
    ) -> tuple[np.ndarray, np.ndarray]:
        return street_scene(self.seed, size or (180, 240))


def find_scenes(split: str, count: int) -> list[Scene]:
    """Returns the first scenes of a split.

    Args:
        split: `"train"`, `"val"` or `"test"`.
        count: Their number.
    """
    start = list(SPLITS).index(split) * SCENES_PER_SPLIT
    return [Scene(f"{split}/{number}", start + number) for number in range(count)]
