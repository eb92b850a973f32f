"""One split: which images there are, in which order they come, and how batches are made of them."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from keras_psp.data.augmentation.augmentation import Augmentation
from keras_psp.data.augmentation.random_numbers import NUMBERS_PER_VIEW
from keras_psp.data.epochs import AUTOTUNE, Epochs, without_tuning
from keras_psp.data.options import LoadingOptions

Arrays = tuple[np.ndarray, np.ndarray]
"""Images and labels."""


class Sample(Protocol):
    """An image with its labels, somewhere: `LabeledImage` finds them in files."""

    @property
    def name(self) -> str:
        """What error messages and outputs call it."""

    def read(self, size: tuple[int, int] | None, antialias: bool | str) -> Arrays:
        """Returns the image `(height, width, 3)` and the labels `(height, width)`, both uint8."""


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of a split, and how batches are made of them.

    A batch is a function of the seed, the epoch and its number in the epoch alone.

    Args:
        samples: The images.
        size: `(height, width)` of the images.
        output_size: That of the batches.
        augmentation: What changes them, if anything.
        options: What the loader was told, as `LoadingOptions.for_split` returns it.
    """

    samples: Sequence[Sample]
    size: tuple[int, int]
    output_size: tuple[int, int]
    augmentation: Augmentation | None
    options: LoadingOptions

    @property
    def num_views(self) -> int:
        """How many random views of an image follow each other."""
        return self.augmentation.num_views if self.augmentation else 0

    def __len__(self) -> int:
        full, rest = divmod(len(self.samples), self.options.batch_size)
        return full + bool(rest and not self.options.drop_remainder)

    def plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the order of an epoch, and the random numbers behind the views in it.

        Args:
            epoch: Its number, 0 or more.

        Returns:
            The images' numbers, int64 `(images,)`, and in the same order float32
            `(images, num_views, NUMBERS_PER_VIEW)`, 0–1. An image's random numbers do not depend on
            when its turn comes.
        """
        count, seed = len(self.samples), self.options.seed % 2**64
        order = np.arange(count)
        if self.options.shuffle:
            order = np.random.default_rng([seed, epoch, 0]).permutation(count)
        rng = np.random.default_rng([seed, epoch, 1])
        return order, rng.random((count, self.num_views, NUMBERS_PER_VIEW), np.float32)[order]

    def read(self, number: int) -> Arrays:
        """Reads an image and its labels, both uint8."""
        sample, options = self.samples[number], self.options
        image, label = sample.read(options.image_size, options.antialias)
        if label.shape != self.size:
            raise ValueError(
                f"Without image_size, all images must have one size. Received: {sample.name} of "
                f"{label.shape}, {self.samples[0].name} of {self.size}. Pass image_size=(height, "
                f"width)."
            )
        return image, label

    def read_some(self, numbers: Sequence[int] | np.ndarray, map: Callable = map) -> Arrays:
        """Reads images and labels into two arrays; `map` may use threads."""
        images = np.empty((len(numbers), *self.size, 3), np.uint8)
        labels = np.empty((len(numbers), *self.size), np.uint8)

        def fill(place: int, number: int) -> None:
            images[place], labels[place] = self.read(number)

        for _ in map(fill, itertools.count(), numbers):
            pass
        return images, labels

    def read_all(self) -> Arrays:
        """Reads everything, in threads (Pillow decodes without the GIL)."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                return self.read_some(range(len(self.samples)), pool.map)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def label_maps(self) -> Iterator[np.ndarray]:
        """Reads the label maps of all images, as they are before any augmentation."""
        return (self.read(number)[1] for number in range(len(self.samples)))

    def batches_of_arrays(self, cached: Arrays | None) -> Callable[[int, int], Arrays]:
        """Returns the function of epoch and number that makes a batch of NumPy arrays.

        Args:
            cached: What `read_all` returned; `None` reads each image when it is needed.
        """
        plan, batch_size = functools.lru_cache(2)(self.plan), self.options.batch_size

        def make(epoch: int, index: int) -> Arrays:
            order, view_numbers = plan(epoch)
            own = slice(index * batch_size, (index + 1) * batch_size)
            if cached:
                images, labels = (part[order[own]] for part in cached)
            else:
                images, labels = self.read_some(order[own])
            if self.augmentation is None:
                images, labels = self._middle(images), self._middle(labels)
            else:
                images, labels = self.augmentation.on_arrays(
                    images, labels, (epoch, index), view_numbers[own]
                )
            return images.astype(np.float32, copy=False), labels.astype(np.int32)

        return make

    def batches_of_tensors(self, cached: Arrays | None, epochs: Epochs) -> Any:
        """Returns the same batches as a `tf.data.Dataset` of known cardinality.

        Args:
            cached: As in `batches_of_arrays`.
            epochs: What numbers the epochs.
        """
        import tensorflow as tf

        count, options = len(self.samples), self.options

        def plan(epoch: Any) -> Any:
            order, numbers = tf.numpy_function(self.plan, [epoch], (tf.int64, tf.float32))
            order = tf.ensure_shape(order, (count,))
            numbers = tf.ensure_shape(numbers, (count, self.num_views, NUMBERS_PER_VIEW))
            return tf.data.Dataset.from_tensor_slices((order, numbers, tf.fill([count], epoch)))

        def read(number: Any, *rest: Any) -> Any:
            types = tf.uint8, tf.uint8
            image, label = tf.numpy_function(self.read, [number], types, stateful=False)
            image = tf.ensure_shape(image, (*self.size, 3))
            return image, tf.ensure_shape(label, self.size), *rest

        def finish(index: Any, batch: Any) -> Any:
            images, labels, view_numbers, epoch = batch
            if self.augmentation is None:
                images, labels = self._middle(images), self._middle(labels)
            else:
                seed = 2**32 * epoch[0] + index
                images, labels = self.augmentation.on_tensors(images, labels, seed, view_numbers)
            return tf.cast(images, tf.float32), tf.cast(labels, tf.int32)

        dataset = epochs.numbers().flat_map(plan)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
        if cached is None:
            dataset = dataset.map(read, AUTOTUNE).batch(options.batch_size, options.drop_remainder)
        else:
            with tf.device("CPU:0"):  # Not on the accelerator, whose memory is for the network.
                images, labels = map(tf.convert_to_tensor, cached)
            dataset = dataset.batch(options.batch_size, options.drop_remainder)
            dataset = dataset.map(
                lambda n, *rest: (tf.gather(images, n), tf.gather(labels, n), *rest), AUTOTUNE
            )
        return without_tuning(dataset.enumerate().map(finish, AUTOTUNE).prefetch(AUTOTUNE))

    def _middle(self, batch: Any) -> Any:
        """Cuts the output's size from the middle of a batch."""
        height, width = self.output_size
        top, left = (batch.shape[1] - height) // 2, (batch.shape[2] - width) // 2
        return batch[:, top : top + height, left : left + width]
