"""One end of the pipeline: a split as a `tf.data.Dataset`, for the TensorFlow backend."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_psp.data.batches import Batches
    from keras_psp.data.pipeline import Split

AUTOTUNE = -1
"""`tf.data.AUTOTUNE`, without importing TensorFlow."""


def untuned(dataset: Any) -> Any:
    """Returns a `tf.data.Dataset` that TensorFlow does not tune while it is read.

    Where a pass ends, TensorFlow wakes the thread that tunes it, and waits for it. The thread may
    look whether it is to stop before it can know (TensorFlow 2.21), and sleeps on: up to 14 s after
    an epoch of 20 s. Without it `AUTOTUNE` stands for the number of cores, at most 16.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


class Epochs:
    """Numbers the passes over a `tf.data.Dataset`: from 0 on, or as `set` says.

    Not with `tf.data.Dataset.from_generator`: that makes TensorFlow give every larger piece of
    memory back at once (glibc's M_TRIM_THRESHOLD), and whatever the process computes afterward
    takes a third longer.
    """

    def __init__(self) -> None:
        self.next = 0

    def set(self, epoch: int) -> None:
        """Lets the next pass be that of `epoch`."""
        self.next = epoch

    def _take(self) -> np.int64:
        self.next += 1
        return np.int64(self.next - 1)

    def numbers(self) -> Any:
        """Returns a dataset of one element: the number of the pass, int64."""
        import tensorflow as tf

        return tf.data.Dataset.range(1).map(
            lambda _: tf.ensure_shape(tf.numpy_function(self._take, [], tf.int64), ())
        )


def to_dataset(batches: "Batches") -> Any:
    """Returns a `tf.data.Dataset` of the batches of epoch 0, which threads make ahead.

    Keras itself takes a `PyDataset` by `from_generator` on TensorFlow: see `Epochs`.
    """
    import tensorflow as tf

    first = batches[0]
    types = [part.dtype for part in first]

    def make(index: Any) -> Any:
        parts = tf.numpy_function(lambda index: batches.make(0, int(index)), [index], types)
        return tuple(
            tf.ensure_shape(part, (None, *known.shape[1:]))
            for part, known in zip(parts, first, strict=True)
        )

    return untuned(tf.data.Dataset.range(len(batches)).map(make, AUTOTUNE).prefetch(AUTOTUNE))


def make_dataset(
    split: "Split", frames: tuple[np.ndarray, np.ndarray] | None, epochs: Epochs
) -> Any:
    """Returns the batches of a split, of known cardinality: images, float32, and labels, int32.

    Args:
        split: The split.
        frames: All of its frames and label maps; `None` if each is read when it is needed.
        epochs: What numbers the passes.
    """
    import tensorflow as tf

    count, augmentation = len(split.samples), split.augmentation

    def samples(epoch: Any) -> Any:
        """The numbers of an epoch's samples, and what their views are made of."""
        order, uniforms = tf.numpy_function(split.plan, [epoch], (tf.int64, tf.float32))
        order = tf.ensure_shape(order, (count,))
        uniforms = tf.ensure_shape(uniforms, (count, *split.shape_of_uniforms))
        return tf.data.Dataset.from_tensor_slices((order, uniforms, tf.fill([count], epoch)))

    dataset = epochs.numbers().flat_map(samples)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    if frames is not None:
        with tf.device("CPU:0"):  # Not on the accelerator, whose memory is for the network.
            images, labels = map(tf.convert_to_tensor, frames)
        dataset = dataset.batch(split.batch_size, split.drop_remainder)
        dataset = dataset.map(
            lambda i, *rest: (tf.gather(images, i), tf.gather(labels, i), *rest), AUTOTUNE
        )
    else:

        def read(number: Any, *rest: Any) -> Any:
            types = tf.uint8, tf.uint8
            image, label = tf.numpy_function(split.read, [number], types, stateful=False)
            image = tf.ensure_shape(image, (*split.size, 3))
            return image, tf.ensure_shape(label, split.size), *rest

        dataset = dataset.map(read, AUTOTUNE).batch(split.batch_size, split.drop_remainder)

    def finish(index: Any, batch: Any) -> Any:
        images, labels, uniforms, epoch = batch
        if augmentation is None:
            images, labels = split.middle(images), split.middle(labels)
        else:
            seed = 2**32 * epoch[0] + index
            images, labels = augmentation.on_tensors(images, labels, seed, uniforms)
        return tf.cast(images, tf.float32), tf.cast(labels, tf.int32)

    return untuned(dataset.enumerate().map(finish, AUTOTUNE).prefetch(AUTOTUNE))
