"""From samples to batches: nothing ever waits for the disk.

Frames are decoded, checked and resized once, and kept in memory as bytes where they fit. Every
epoch then only shuffles numbers, gathers a batch, augments it, and prepares the next one while
the network works on this one. `Split` describes all that; `tensors` and `batches` are its two ends.
"""

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.data import augmentation as augmentations
from keras_psp.data import tensors
from keras_psp.data.batches import Batches
from keras_psp.data.info import DatasetInfo, attach
from keras_psp.data.reading import LabelCoding, Sample
from keras_psp.labels import ClassList

CACHE_SHARE = 0.25
"""`cache="auto"` keeps a split in memory if it takes at most this share of the machine's."""

BYTES_PER_PIXEL = 4
"""Three of the image and one of the label."""

CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much memory a container may use."""


def make_dataset(
    samples: Sequence[Sample],
    coding: LabelCoding,
    classes: ClassList,
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int = 8,
    augment: Any = None,
    crop_size: tuple[int, int] | None = None,
    shuffle: bool = False,
    seed: int = 0,
    cache: bool | str = "auto",
    drop_remainder: bool = False,
    antialias: bool | str = "auto",
    name: str | None = None,
    merging: str | None = None,
):
    """Returns batches of (image, label) from samples.

    Args:
        samples: The frames and label maps.
        coding: Turns label files into labels.
        classes: The class list.
        image_size: (height, width) that all frames are resized to, or `None` for their own size.
        batch_size: Frames per batch.
        augment: `None`, a preset's name, or a mask-aware layer; see
            `keras_psp.data.augmentation.get`.
        crop_size: (height, width) of the batches, if smaller than the images: cut out by the
            augmentation (behind layers of your own at a random place), or from the middle where
            there is none.
        shuffle: Whether every epoch has its own order.
        seed: Seed of the order and of the augmentation.
        cache: Whether decoded frames stay in memory (4 bytes a pixel, and nearly twice that while
            they are read); `"auto"`: if a quarter of it holds them.
        drop_remainder: Whether a last batch with fewer frames is left out.
        antialias: Whether shrinking smooths; `"auto"`: where it is by more than a factor of two.
        name: The split's, for the info.
        merging: How the classes were merged, likewise.

    Returns:
        On the TensorFlow backend a `tf.data.Dataset` of known cardinality, elsewhere
        `keras_psp.data.Batches`, a `keras.utils.PyDataset`: with the same order, the same numbers
        behind every `RandomView`, and the same info. Images are float32
        `(batch, height, width, 3)`, RGB 0–255; labels int32 `(batch, height, width)`, 255 void.
        `set_epoch(number)` says which epoch comes next; by itself a `tf.data.Dataset` counts its
        epochs, and `Batches` stay in epoch 0. `label_maps()` gives the label map of every frame,
        uint8, without augmentation.

    Raises:
        ValueError: If a file cannot be used. Without cache it is read later, on TensorFlow by
            TensorFlow, which then raises a `tf.errors.InvalidArgumentError` with this message in
            its own.
    """
    _check_positive("batch_size", batch_size)
    if image_size is None:
        size = samples[0].read(coding)[1].shape
    else:
        size = _check_size("image_size", image_size)
    output_size = size if crop_size is None else _check_size("crop_size", crop_size)
    if output_size[0] > size[0] or output_size[1] > size[1]:
        raise ValueError(
            f"A crop must not be larger than the images. Received: crop_size={crop_size}, images "
            f"of {size}. Make the crop smaller or the images larger."
        )
    if drop_remainder and len(samples) < batch_size:
        raise ValueError(
            f"A split that drops incomplete batches must fill at least one. Received: "
            f"batch_size={batch_size}, {len(samples)} samples. Use smaller batches or "
            f"drop_remainder=False."
        )
    if cache == "auto":
        cache = len(samples) * math.prod(size) * BYTES_PER_PIXEL <= CACHE_SHARE * _memory()
    if augment is not None:
        augment = augmentations.get(
            augment,
            output_size,
            seed,
            crop=crop_size is not None,
            num_classes=len(classes),
            input_size=size,
        )
    split = Split(
        samples,
        coding,
        size,
        output_size,
        batch_size,
        augmentation=augment,
        shuffle=bool(shuffle),
        seed=seed,
        drop_remainder=drop_remainder,
        resized=image_size is not None,
        antialias=antialias,
    )
    names = tuple(sample.name for sample in samples)
    info = DatasetInfo(classes, names, name, split.shuffle, merging)
    frames = split.read_all() if cache else None
    if keras.backend.backend() == "tensorflow":
        epochs = tensors.Epochs()
        dataset = attach(tensors.make_dataset(split, frames, epochs), info)
        dataset.set_epoch = epochs.set
    else:
        dataset = Batches(split.batches(frames), len(split), info)
    # Not of data made from these, whose labels may be others.
    label_maps = frames and frames[1]
    dataset.label_maps = lambda: split.label_maps() if label_maps is None else label_maps
    return dataset


@dataclasses.dataclass(frozen=True)
class Split:
    """Which samples there are, in which order they come, and how they are seen.

    A batch is a function of the seed, the epoch and its number in the epoch alone. Arguments as in
    `make_dataset`, and

    Args:
        size: (height, width) of the frames.
        output_size: That of the batches.
        augmentation: An `Augmentation`, or `None`.
        resized: Whether frames of other sizes are resized, or refused.
    """

    samples: Sequence[Sample]
    coding: LabelCoding
    size: tuple[int, int]
    output_size: tuple[int, int]
    batch_size: int
    augmentation: augmentations.Augmentation | None
    shuffle: bool
    seed: int
    drop_remainder: bool
    resized: bool
    antialias: bool | str

    def __len__(self) -> int:
        full, rest = divmod(len(self.samples), self.batch_size)
        return full + bool(rest and not self.drop_remainder)

    @property
    def shape_of_uniforms(self) -> tuple[int, int]:
        """How many random numbers a sample's views are made of: views, numbers for each."""
        return self.augmentation.num_views if self.augmentation else 0, augmentations.UNIFORMS

    def plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the samples' numbers in the order of an epoch, and what their views are made of.

        Args:
            epoch: Its number, 0 or more.

        Returns:
            int64 `(samples,)`, and float32 `(samples, *shape_of_uniforms)`, 0–1, in that order. A
            sample's numbers do not depend on when its turn comes.
        """
        count, seed = len(self.samples), self.seed % 2**64
        order = np.arange(count)
        if self.shuffle:
            order = np.random.default_rng([seed, epoch, 0]).permutation(count)
        rng = np.random.default_rng([seed, epoch, 1])
        return order, rng.random((count, *self.shape_of_uniforms), np.float32)[order]

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads a frame and its label map, both uint8."""
        sample = self.samples[number]
        image, label = sample.read(self.coding, self.size if self.resized else None, self.antialias)
        if label.shape != self.size:
            raise ValueError(
                f"Without image_size, all images must have one size. Received: {sample.name} of "
                f"{label.shape}, {self.samples[0].name} of {self.size}. Pass image_size=(height, "
                f"width)."
            )
        return image, label

    def read_some(
        self, numbers: Sequence[int] | np.ndarray, map: Callable = map
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads frames and label maps into two arrays; `map` may use threads."""
        images = np.empty((len(numbers), *self.size, 3), np.uint8)
        labels = np.empty((len(numbers), *self.size), np.uint8)

        def fill(place: int, number: int) -> None:
            images[place], labels[place] = self.read(number)

        for _ in map(fill, itertools.count(), numbers):
            pass
        return images, labels

    def read_all(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads everything, in threads (Pillow decodes without the GIL)."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                return self.read_some(range(len(self.samples)), pool.map)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def label_maps(self) -> Iterator[np.ndarray]:
        """Reads the label maps of all samples, as they are before any augmentation."""
        return (self.read(number)[1] for number in range(len(self.samples)))

    def middle(self, batch: Any) -> Any:
        """Cuts the output's size from the middle of a batch."""
        height, width = self.output_size
        top, left = (batch.shape[1] - height) // 2, (batch.shape[2] - width) // 2
        return batch[:, top : top + height, left : left + width]

    def batches(
        self, frames: tuple[np.ndarray, np.ndarray] | None
    ) -> Callable[[int, int], tuple[np.ndarray, np.ndarray]]:
        """Returns the function of (epoch, index) that makes a batch of NumPy arrays.

        Args:
            frames: What `read_all` returned, or `None`: then each frame is read when it is needed.
        """
        plan = functools.lru_cache(2)(self.plan)

        def make(epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
            order, uniforms = plan(epoch)
            own = slice(index * self.batch_size, (index + 1) * self.batch_size)
            numbers = order[own]
            if frames:
                images, labels = (part[numbers] for part in frames)
            else:
                images, labels = self.read_some(numbers)
            if self.augmentation is None:
                images, labels = self.middle(images), self.middle(labels)
            else:
                seed = epoch, index
                images, labels = self.augmentation.on_arrays(images, labels, seed, uniforms[own])
            return images.astype(np.float32, copy=False), labels.astype(np.int32)

        return make


def load_splits(
    split: str | Sequence[str],
    find: Callable[[str], tuple[Sequence[Sample], LabelCoding]],
    classes: ClassList,
    **options: Any,
) -> Any:
    """Returns the dataset of a split, or a list of datasets for a list of splits.

    Args:
        split: One split's name, or several.
        find: Returns the samples of a split, and what turns their label files into labels.
        classes: The class list.
        **options: Those of `make_dataset`, all of them. Where `augment`, `shuffle` or
            `drop_remainder` is `"auto"`, the train split is augmented as the PSPNet authors do,
            shuffled, and loses its last incomplete batch; every other split comes as it is. Of
            several splits, any `augment` is for the train split alone: scores on random views
            would change from pass to pass.
    """
    datasets = []
    for name in [split] if isinstance(split, str) else split:
        train = name == "train"
        suits = {"augment": "authors" if train else None, "shuffle": train, "drop_remainder": train}
        chosen = {key: value for key, value in suits.items() if _is_auto(options[key])}
        if not train and not isinstance(split, str):
            chosen["augment"] = None
        datasets.append(make_dataset(*find(name), classes, **options | chosen, name=name))
    return datasets[0] if isinstance(split, str) else datasets


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _memory() -> float:
    """Returns the memory in bytes, of the machine or the container; 8 GiB where none tells."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf.
        memory = 8 * 2**30
    try:
        return min(memory, int(CONTAINER_MEMORY.read_text()))
    except (OSError, ValueError):  # No container, or one without a limit ("max").
        return memory


def _check_positive(name: str, value: Any) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(
            f"{name} must be a positive integer. Received: {name}={value!r}. Pass 1 or more."
        )


def _check_size(name: str, size: Any) -> tuple[int, int]:
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(
            f"{name} must be (height, width) in pixels. Received: {name}={size!r}. Pass two "
            f"positive integers, such as (240, 320)."
        )
    for value in size:
        _check_positive(name, value)
    return int(size[0]), int(size[1])
