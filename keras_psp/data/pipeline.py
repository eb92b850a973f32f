"""From images to batches: nothing ever waits for the disk.

Images are decoded, checked and resized once, and kept in memory as bytes where they fit. Every
epoch then only shuffles numbers, gathers a batch, augments it, and prepares the next one while the
network works on this one.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_psp.choices import check_name
from keras_psp.data import augmentation
from keras_psp.data.batches import Batches
from keras_psp.data.epochs import Epochs
from keras_psp.data.info import Dataset, DatasetInfo, attach
from keras_psp.data.options import LoadingOptions, is_trained_on
from keras_psp.data.split import Sample, Split
from keras_psp.labels import ClassList

CACHE_SHARE = 0.25
"""`cache="auto"` keeps a split in memory if it takes at most this share of the machine's."""

BYTES_PER_PIXEL = 4
"""Three of the image and one of the label."""

CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much memory a container may use."""


def load_splits(
    split: str | Sequence[str],
    find: Callable[[str], Sequence[Sample]],
    classes: ClassList,
    options: Mapping[str, Any],
    *,
    merging: str | None = None,
) -> Any:
    """Returns the dataset of a split, or a list of datasets for a list of splits.

    Args:
        split: One split's name, or several.
        find: Returns the images of a split.
        classes: The classes.
        options: Those of `LoadingOptions`, as a user named them.
        merging: How the classes were merged from others, if they were.

    Raises:
        ValueError: If there is no such option; else as `make_dataset`.
    """
    known = [field.name for field in dataclasses.fields(LoadingOptions)]
    for name in options:
        check_name("loading option", name, known)
    own_options = LoadingOptions(**options)  # Checked before anything is read.
    if isinstance(split, str):
        info = DatasetInfo(classes, split=split, merging=merging)
        return make_dataset(find(split), info, own_options)
    unchanged = {**options, "augment": None, "centered_on": ()}
    return [
        load_splits(
            name, find, classes, options if is_trained_on(name) else unchanged, merging=merging
        )
        for name in split
    ]


def make_dataset(samples: Sequence[Sample], info: DatasetInfo, options: LoadingOptions) -> Dataset:
    """Returns batches of (image, label).

    Args:
        samples: The images with their labels.
        info: What the data are, but for the names and whether they are shuffled.
        options: How the batches are made.

    Returns:
        On the TensorFlow backend a `tf.data.Dataset` of known cardinality, elsewhere
        `keras_psp.data.Batches`, a `keras.utils.PyDataset`: with the same order, the same numbers
        behind every `RandomView`, and the same info. Images are float32
        `(batch, height, width, 3)`, RGB 0–255; labels int32 `(batch, height, width)`, 255 void.
        `set_epoch(number)` says which epoch comes next; by itself a `tf.data.Dataset` counts its
        epochs, and `Batches` stay in epoch 0. `label_maps()` gives the label map of every image,
        uint8, without augmentation.

    Raises:
        ValueError: If a file cannot be used. Without cache it is read later, on TensorFlow by
            TensorFlow, which then raises a `tf.errors.InvalidArgumentError` with this message in
            its own.
    """
    options = options.for_split(info.split)
    size = options.image_size or samples[0].read(None, "auto")[1].shape
    output_size = options.crop_size or size
    if output_size[0] > size[0] or output_size[1] > size[1]:
        raise ValueError(
            f"A crop must not be larger than the images. Received: crop_size={output_size}, images "
            f"of {size}. Make the crop smaller or the images larger."
        )
    if options.drop_remainder and len(samples) < options.batch_size:
        raise ValueError(
            f"A split that drops incomplete batches must fill at least one. Received: "
            f"batch_size={options.batch_size}, {len(samples)} samples. Use smaller batches or "
            f"drop_remainder=False."
        )
    names = info.classes.names
    centered_on = [names.index(check_name("class", name, names)) for name in options.centered_on]
    augment = None
    if options.augment is not None or centered_on:
        augment = augmentation.get(
            options.augment,
            output_size,
            options.seed,
            crop=options.crop_size is not None,
            num_classes=len(info.classes),
            input_size=size,
            centered_on=centered_on,
        )
    split = Split(samples, size, output_size, augment, options)
    info = dataclasses.replace(
        info, sample_names=tuple(sample.name for sample in samples), shuffled=bool(options.shuffle)
    )
    in_memory = options.cache
    if in_memory == "auto":
        needed = len(samples) * math.prod(size) * BYTES_PER_PIXEL
        in_memory = needed <= CACHE_SHARE * _memory()
    cached = split.read_all() if in_memory else None
    if keras.backend.backend() == "tensorflow":
        epochs = Epochs()
        dataset = attach(split.batches_of_tensors(cached, epochs), info, epochs.set)
    else:
        dataset = Batches(split.batches_of_arrays(cached), len(split), info)
    # Data made from these may have other labels, and go without.
    labels = cached and cached[1]
    dataset.label_maps = lambda: split.label_maps() if labels is None else labels
    return dataset


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
