"""From samples to batches: a `tf.data` pipeline that never waits for the disk.

Frames are decoded, checked and resized once, and kept in memory as bytes where they fit. Every
epoch then only shuffles numbers, gathers a batch, augments it, and prepares the next one while
the network works on this one.
"""

import itertools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.classes import ClassList
from keras_psp.data.samples import LabelCoding, Sample

CACHE_SHARE = 0.25
"""`cache="auto"` keeps a split in memory if it takes at most this share of the machine's."""

BYTES_PER_PIXEL = 4
"""Three of the image and one of the label."""

CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much memory a container may use."""

AUTOTUNE = -1
"""`tf.data.AUTOTUNE`, without importing TensorFlow."""


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
):
    """Returns a `tf.data.Dataset` of batches of (image, label) from samples.

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

    Returns:
        A dataset of known cardinality. Images are float32 `(batch, height, width, 3)`, RGB 0–255;
        labels int32 `(batch, height, width)`, 255 void. Its attributes `class_names`,
        `class_colors` and `sample_names` say what is in it, and `shuffled` whether the frames come
        in another order than their names.

    Raises:
        ValueError: If a file cannot be used. Without cache it is read later, in TensorFlow, which
            then raises a `tf.errors.InvalidArgumentError` with this message in its own.
        ImportError: If TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "Batches are made by tf.data, whatever backend Keras computes with. Received: a Python "
            "without TensorFlow. Install it (pip install tensorflow); Keras keeps its backend."
        ) from error

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

    def read(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        image, label = sample.read(coding, image_size and size, antialias)
        if label.shape != size:
            raise ValueError(
                f"Without image_size, all images must have one size. Received: {sample.name} of "
                f"{label.shape}, {samples[0].name} of {size}. Pass image_size=(height, width)."
            )
        return image, label

    passes = Passes()
    numbers = tf.data.Dataset.range(len(samples))
    if shuffle:
        # Not `Dataset.shuffle`, whose order depends on TensorFlow's global seed as well.
        numbers = passes.numbers().map(
            lambda n: tf.random.experimental.stateless_shuffle(tf.range(len(samples)), [seed, n])
        )
        numbers = numbers.unbatch().apply(tf.data.experimental.assert_cardinality(len(samples)))
    if cache == "auto":
        cache = len(samples) * math.prod(size) * BYTES_PER_PIXEL <= CACHE_SHARE * _memory()
    if cache:
        images, labels = _read_all(samples, read, size)
        dataset = numbers.batch(batch_size, drop_remainder)
        dataset = dataset.map(lambda i: (tf.gather(images, i), tf.gather(labels, i)), AUTOTUNE)
    else:

        def frame(number):
            image, label = tf.numpy_function(
                lambda i: read(samples[i]), [number], (tf.uint8, tf.uint8), stateful=False
            )
            return tf.ensure_shape(image, (*size, 3)), tf.ensure_shape(label, size)

        dataset = numbers.map(frame, AUTOTUNE).batch(batch_size, drop_remainder)

    if augment is None:
        dataset = dataset.map(lambda x, y: (_middle(x, output_size), _middle(y, output_size)))
    else:
        from keras_psp.data import augmentation

        dataset = augmentation.get(
            augment,
            output_size,
            seed,
            crop=crop_size is not None,
            num_classes=len(classes),
            input_size=size,
        ).map(dataset, passes)

    dataset = dataset.map(lambda x, y: (tf.cast(x, tf.float32), tf.cast(y, tf.int32)), AUTOTUNE)
    dataset = dataset.prefetch(AUTOTUNE)
    # As keras.utils.image_dataset_from_directory has it; datasets made from this one lack them.
    dataset.class_names = list(classes.names)
    dataset.class_colors = list(classes.colors)
    dataset.sample_names = [sample.name for sample in samples]
    dataset.shuffled = bool(shuffle)
    dataset.passes = passes
    return dataset


class Passes:
    """Numbers the passes over a dataset.

    What is derived from the number and a seed differs from pass to pass, and depends on nothing
    else. A run that goes on after its epoch `n` sets `first` to `n`, so that order and views go on
    as well.
    """

    def __init__(self) -> None:
        self.first = 0

    def numbers(self) -> Any:
        """Returns a `tf.data.Dataset` of one number: `first` and how often it was iterated."""
        import tensorflow as tf

        before = itertools.count()
        return tf.data.Dataset.from_generator(
            lambda: [self.first + next(before)], output_signature=tf.TensorSpec((), tf.int64)
        )


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
        datasets.append(make_dataset(*find(name), classes, **{**options, **chosen}))
    return datasets[0] if isinstance(split, str) else datasets


def _middle(batch: Any, size: tuple[int, int]) -> Any:
    """Cuts `size` from the middle of a batch."""
    top, left = (batch.shape[1] - size[0]) // 2, (batch.shape[2] - size[1]) // 2
    return batch[:, top : top + size[0], left : left + size[1]]


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _read_all(samples: Sequence[Sample], read: Callable, size: tuple[int, int]) -> tuple[Any, Any]:
    """Reads all samples into two tensors, in threads (Pillow decodes without the GIL)."""
    import tensorflow as tf

    images: Any = np.empty((len(samples), *size, 3), np.uint8)
    labels = np.empty((len(samples), *size), np.uint8)

    def fill(number: int) -> None:
        images[number], labels[number] = read(samples[number])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for _ in pool.map(fill, range(len(samples))):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    with tf.device("CPU:0"):  # Not on the accelerator, whose memory is for the network.
        images = tf.convert_to_tensor(images)  # Copies, and so frees the array.
        return images, tf.convert_to_tensor(labels)


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
