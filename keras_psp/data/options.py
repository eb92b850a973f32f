"""What every loader can be told about its batches."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_psp.checked import checked
from keras_psp.choices import check_name


@checked
@dataclasses.dataclass(frozen=True)
class LoadingOptions:
    """The options that all loaders share: `load_camvid`, `load_folder`, `load_street_scenes`.

    Pass them to a loader by name. `"auto"` depends on the split: `train` (and any whose name begins
    so, such as `trainval`) is augmented as PSPNet's authors do, shuffled, and loses its last batch
    where that is incomplete; every other split comes as it is.

    Args:
        image_size: `(height, width)` in pixels that images are resized to: images bilinearly with
            half-pixel centers, labels to the nearest pixel. `None` leaves them as they are.
        batch_size: Images per batch.
        augment: A preset of `keras_psp.data.augmentation`, a mask-aware layer of Keras or KerasCV,
            a list of such layers, or `None`. If several splits are loaded at once, only the train
            split is augmented: scores on random views would change from epoch to epoch.
        crop_size: `(height, width)` of the batches, if smaller than the images: cut out by the
            augmentation (behind layers of your own at a random place), or from the middle where
            there is none.
        shuffle: Whether every epoch has an order of its own.
        seed: Seed of order and augmentation. The same seed gives the same batches.
        cache: Whether decoded images are kept in memory (4 bytes a pixel, and nearly twice that
            while they are read). `"auto"`: if they take at most a quarter of the memory of the
            machine or container.
        drop_remainder: Whether a last, smaller batch is left out.
        centered_on: Names of classes, such as rare ones, that half of a preset's views show in the
            middle, where the image has one of them: see `augmentation.RandomView`. It matters where
            views are smaller than the images, as scaled.
        antialias: Whether shrinking smooths the image first. `"auto"`: beyond a factor of two,
            where bilinear resizing starts to skip pixels.

    Raises:
        ValueError: If a size is not positive, or `centered_on` no list.
    """

    image_size: tuple[int, int] | None = None
    batch_size: int = 8
    augment: str | keras.Layer | Sequence[keras.Layer] | None = "auto"
    crop_size: tuple[int, int] | None = None
    shuffle: bool | str = "auto"
    seed: int = 0
    cache: bool | str = "auto"
    drop_remainder: bool | str = "auto"
    antialias: bool | str = "auto"
    centered_on: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("image_size", "crop_size"):
            if (size := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(map(int, size)))
        object.__setattr__(self, "seed", int(self.seed))  # NumPy's would overflow.
        for name in ("shuffle", "cache", "drop_remainder", "antialias"):
            if isinstance(value := getattr(self, name), str):
                check_name(name, value, ["auto"], "Or pass True or False.")

    def for_split(self, split: str | None) -> "LoadingOptions":
        """Returns the options with what `"auto"` means for a split, but for `cache`."""
        train = is_trained_on(split)
        meant = {"augment": "authors" if train else None, "shuffle": train, "drop_remainder": train}
        automatic: dict[str, Any] = {
            name: meant[name] for name in meant if getattr(self, name) == "auto"
        }
        return dataclasses.replace(self, **automatic)


def is_trained_on(split: str | None) -> bool:
    """Tells whether a split is one to train on: train, trainval, trainaug, ….

    Args:
        split: Its name, if it has one.
    """
    return split is not None and split.startswith("train")
