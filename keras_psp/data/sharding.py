"""Data for several processes that train together: each takes its part of every batch."""

import dataclasses
import itertools
from typing import Any

import keras
import numpy as np

from keras_psp.checked import checked, short
from keras_psp.data.batches import Batches
from keras_psp.data.info import Datasets, attach, info_of
from keras_psp.labels import VOID


@checked
def shard_batches(
    data: Datasets, batch_size: int, *, num_shards: int | None = None, index: int | None = None
) -> Datasets:
    """Keeps the part of every batch that belongs to this process.

    Where several processes train together by `keras.distribution` on JAX, they then see what one
    process would see: the same images in the same order with the same views, so that losses and
    scores are the same, too. Use it with
    `keras.distribution.DataParallel(auto_shard_dataset=False)`: Keras' own sharding makes a dataset
    of unknown length, with which the learning rate's schedule and a second epoch do not work.

    JAX needs batches that its devices can share equally. A batch with fewer images than
    `batch_size` is therefore filled up with black images that are void all over. They count in no
    score and in no loss of a batch, but batch normalization would learn from them: drop the
    incomplete batch of data to train with, as `load_camvid("train")` does by itself. (The
    `val_loss` of an epoch weighs such a batch as if it were full.)

    Every process still makes whole batches and keeps its own part. Where that is too slow, see
    [Data for many processes](../distributed.md#data-for-many-processes).

    Args:
        data: A dataset of `(images, labels)` as the loaders return it, or a list of them; the same
            in every process.
        batch_size: Images in a whole batch of `data`, that is, on all devices of all processes.
        num_shards: Number of processes. Default: that of `keras.distribution`, or 1.
        index: Number of this process. Default: likewise, or 0.

    Returns:
        Data of the same kind and length, whose batches have `batch_size / num_shards` images each,
        or a list of them. Its info names the images of this process.

    Raises:
        ValueError: If the processes cannot share a batch equally, if there is no process of that
            number, if the data has batches of another size, or if it does not consist of pairs.

    Example:

    ```python
    import keras_psp

    data = keras_psp.load_street_scenes("val", image_size=(24, 32), batch_size=4, num_images=6)
    second = keras_psp.data.shard_batches(data, 4, num_shards=2, index=1)
    print("of all images: batches of", [len(images) for images, labels in data])
    print("in the second process:", [len(images) for images, labels in second])
    ```

    ```text
    of all images: batches of [4, 2]
    in the second process: [2, 2]
    ```
    """
    if isinstance(data, list | tuple):
        return [shard_batches(d, batch_size, num_shards=num_shards, index=index) for d in data]
    if num_shards is None or index is None:
        num_shards, index = processes()
    _check(data, batch_size, num_shards, index)
    share = batch_size // num_shards
    mine = slice(index * share, (index + 1) * share)

    if isinstance(data, Batches):

        def filled(part, fill):
            added = [(0, batch_size - len(part))] + [(0, 0)] * (part.ndim - 1)
            return np.pad(part, added, constant_values=fill)

        sharded = data.map(lambda x, y: (filled(x, 0)[mine], filled(y, VOID)[mine]))
    else:
        import tensorflow as tf

        def own(part, fill):
            added = [[0, batch_size - tf.shape(part)[0]]] + [[0, 0]] * (part.shape.rank - 1)
            part = tf.pad(part, added, constant_values=fill)
            return tf.ensure_shape(part[mine], (share, *part.shape[1:]))

        sharded = data.map(lambda images, labels: (own(images, 0), own(labels, VOID)))
        sharded = sharded.prefetch(tf.data.AUTOTUNE)
    if (info := info_of(data)) is None:
        return sharded
    starts = range(index * share, len(info.sample_names), batch_size)
    own_names = itertools.chain(*(info.sample_names[start:][:share] for start in starts))
    info = dataclasses.replace(info, sample_names=tuple(own_names))
    return attach(sharded, info, getattr(data, "set_epoch", None))


def processes() -> tuple[int, int]:
    """How many processes train together, and the number of this one."""
    if keras.backend.backend() != "jax":
        return 1, 0
    import jax

    return jax.process_count(), jax.process_index()


def _check(data: Any, batch_size: int, num_shards: int, index: int) -> None:
    if not (isinstance(data, Batches) or hasattr(data, "element_spec")):
        raise ValueError(
            "Data to shard are what the loaders return. "
            f"Received: data={short(data)}, a {type(data).__name__}. Pass a tf.data.Dataset or "
            "keras_psp.data.Batches."
        )
    if not 0 <= index < num_shards:
        raise ValueError(
            f"Processes are numbered from 0. Received: index={index}, num_shards={num_shards}. "
            f"Pass 0 to {num_shards - 1}."
        )
    if batch_size % num_shards:
        raise ValueError(
            "Processes must share a batch equally. "
            f"Received: batch_size={batch_size}, {num_shards} processes. Make it a multiple."
        )
    spec = data[0] if isinstance(data, Batches) else data.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise ValueError(
            "Data to shard consists of (images, labels). "
            f"Received: elements of {spec}. Leave the rest out, or shard the data by hand."
        )
    shape = tuple(spec[0].shape)
    is_incomplete = isinstance(data, Batches) and len(data) == 1 and shape[0] < batch_size
    if len(shape) != 4 or not (shape[0] in (None, batch_size) or is_incomplete):
        raise ValueError(
            "Data is sharded batch by batch. Received: "
            f"batch_size={batch_size}, images of shape {shape}. Pass the batch size "
            "that the data was loaded with."
        )
