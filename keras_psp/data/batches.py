"""Batches of NumPy arrays: what the loaders return on JAX and PyTorch."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras

from keras_psp.checked import checked
from keras_psp.data.epochs import AUTOTUNE, without_tuning
from keras_psp.data.info import DatasetInfo, attach

Batch = tuple[Any, ...]


@checked
class Batches(keras.utils.PyDataset):
    """Batches that depend on the epoch and on their number in it, and on nothing else.

    The loaders return them on JAX and PyTorch, where a `tf.data.Dataset` would need TensorFlow.
    `fit` of this package's models tells them the epoch. `fit` of other models does not, and it
    shuffles the batches by itself; so tell them, and switch that off:

    ```py
    epochs = keras.callbacks.LambdaCallback(on_epoch_begin=lambda n, logs: data.set_epoch(n))
    model.fit(data, epochs=50, shuffle=False, callbacks=[epochs])
    ```

    As long as batches are taken in turn, threads make the next ones ahead. They are threads of this
    class: those of Keras would hand out some batches twice in the first epoch.

    Args:
        make: Returns the batch of an epoch and a number, both from 0 on; several threads may call
            it.
        length: Batches in an epoch.
        info: What the data are, if that is known.

    Example:

    ```python
    import numpy as np
    from keras_psp.data import Batches

    data = Batches(lambda epoch, index: (np.array([epoch]), np.array([index])), length=3)
    data.set_epoch(7)
    print([(int(x[0]), int(y[0])) for x, y in data])
    ```

    ```text
    [(7, 0), (7, 1), (7, 2)]
    ```
    """

    def __init__(
        self, make: Callable[[int, int], Batch], length: int, info: DatasetInfo | None = None
    ):
        super().__init__(workers=1)  # Keras' own threads would hand out batches twice.
        self.epoch = 0
        self.make = make
        self._length = length
        self.info = info
        if info is not None:
            attach(self, info)
        self._threads = min(os.cpu_count() or 1, 16)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(self._threads)
        self._last: tuple[int, int] | None = None
        self._ahead: dict[tuple[int, int], Future] = {}

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch it is, from 0 on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < self._length:
            raise IndexError(f"Batches are numbered 0 … {self._length - 1}. Received: {index}.")
        epoch = self.epoch
        with self._lock:
            # After the first and the second batch, the third will be wanted.
            in_turn, self._last = self._last == (epoch, index - 1), (epoch, index)
            end = min(index + self._threads + 2, self._length) if in_turn else index
            keys = [(epoch, i) for i in range(index, end)]
            self._ahead = {k: self._ahead.get(k) or self._pool.submit(self.make, *k) for k in keys}
            ready = self._ahead.pop((epoch, index), None)
        return self.make(epoch, index) if ready is None else ready.result()

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(self._length))

    def map(self, function: Callable[..., Batch]) -> "Batches":
        """Returns data of the same length and info, whose batches are `function(*batch)`."""
        return Batches(lambda *key: function(*self.make(*key)), self._length, self.info)

    def take(self, count: int) -> "Batches":
        """Returns the first `count` batches of every epoch."""
        return Batches(self.make, min(count, self._length), self.info)


def to_tf_dataset(batches: Batches) -> Any:
    """Returns a `tf.data.Dataset` of the batches of epoch 0, which threads make ahead.

    On TensorFlow, Keras itself would read them by `from_generator`: see `Epochs`.
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

    numbers = tf.data.Dataset.range(len(batches))
    return without_tuning(numbers.map(make, AUTOTUNE).prefetch(AUTOTUNE))
