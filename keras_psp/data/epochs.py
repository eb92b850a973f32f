"""How `tf.data` reads a data set: which epoch it is, and what TensorFlow shall not do meanwhile."""

from typing import Any

import numpy as np

AUTOTUNE = -1
"""`tf.data.AUTOTUNE`, without importing TensorFlow."""


class Epochs:
    """Numbers the epochs of a `tf.data.Dataset`: 0, 1, 2, … or as `set` says.

    It does without `tf.data.Dataset.from_generator`, which makes TensorFlow return every larger
    piece of memory at once (glibc's M_TRIM_THRESHOLD): whatever the process computes afterward
    takes a third longer.
    """

    def __init__(self) -> None:
        self.next = 0

    def set(self, epoch: int) -> None:
        """Says which epoch comes next."""
        self.next = epoch

    def _take(self) -> np.int64:
        self.next += 1
        return np.int64(self.next - 1)

    def numbers(self) -> Any:
        """Returns a dataset of one element, int64: the number of the epoch that reads it."""
        import tensorflow as tf

        return tf.data.Dataset.range(1).map(
            lambda _: tf.ensure_shape(tf.numpy_function(self._take, [], tf.int64), ())
        )


def without_tuning(dataset: Any) -> Any:
    """Returns a `tf.data.Dataset` that TensorFlow does not tune while it is read.

    At the end of an epoch, TensorFlow wakes the thread that tunes, and waits for it. The thread may
    look whether it shall stop before it can know (TensorFlow 2.21), and sleep on: up to 14 s after
    an epoch of 20 s. Without tuning, `AUTOTUNE` stands for the number of cores, at most 16.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
