"""Every process has its part of every batch: together they have what one would have."""

import numpy as np
import pytest
import tensorflow as tf

import keras_psp
from keras_psp.data import shard_batches

pytestmark = pytest.mark.usefixtures("without_xla")


def load():
    """What every process loads: two augmented batches of 4, and batches of 4, 4 and 2."""
    options = {"num_images": 10, "seed": 3, "augment": "flip"}
    return keras_psp.load_street_scenes(["train", "val"], (24, 32), 4, **options)


def arrays(data):
    return [tuple(part.numpy() for part in batch) for batch in data]


@pytest.mark.parametrize("num_shards", [1, 2])
def test_shards_make_up_the_batches(num_shards):
    shards = [shard_batches(load(), 4, num_shards=num_shards, index=i) for i in range(num_shards)]
    for split, *parts in zip(load(), *shards, strict=True):
        assert {int(part.cardinality()) for part in parts} == {len(split)}
        for _ in range(2):  # epochs, in other orders and with other views
            for batch, *own in zip(arrays(split), *map(arrays, parts), strict=True):
                assert {len(images) for images, _ in own} == {4 // num_shards}
                for whole, pieces in zip(batch, zip(*own, strict=True), strict=True):
                    together = np.concatenate(pieces)
                    assert together.dtype == whole.dtype
                    np.testing.assert_array_equal(together[: len(whole)], whole)
                    # What there is more is no image, and void.
                    assert np.all(together[len(whole) :] == (0 if whole.ndim == 4 else 255))


def test_a_share_says_what_it_is():
    train, val = load()
    sharded = shard_batches(train, 4, num_shards=2, index=0)
    assert shard_batches(train, 4, num_shards=1, index=0).info == train.info
    for attribute in ("class_names", "class_colors", "set_epoch"):
        assert getattr(sharded, attribute) == getattr(train, attribute)
    assert (sharded.info.split, sharded.info.shuffled) == ("train", True)
    second = shard_batches(val, 4, num_shards=2, index=1)
    assert second.sample_names == ["val/2", "val/3", "val/6", "val/7"]
    assert sharded.element_spec[0] == tf.TensorSpec((2, 24, 32, 3), tf.float32)
    plain = tf.data.Dataset.from_tensors((np.zeros((4, 2, 2, 3)), np.zeros((4, 2, 2))))
    assert len(shard_batches(plain, 4)) == 1  # one process here


@pytest.mark.parametrize(
    "batch_size, num_shards, index, message",
    [
        (4, 3, 0, "Received: batch_size=4, 3 processes. Make it a multiple"),
        (0, 1, 0, r"at least 1\. Received: batch_size=0"),
        (4, 2, 2, "Received: index=2, num_shards=2. Pass 0 to 1"),
        (8, 2, 0, r"Received: batch_size=8, images of shape \(4, 2, 2, 3\)"),
    ],
)
def test_what_cannot_be_shared(batch_size, num_shards, index, message):
    data = tf.data.Dataset.from_tensors((np.zeros((4, 2, 2, 3)), np.zeros((4, 2, 2))))
    with pytest.raises(ValueError, match=message):
        shard_batches(data, batch_size, num_shards=num_shards, index=index)


def test_only_pairs_are_sharded():
    data = tf.data.Dataset.from_tensors(np.zeros((4, 2, 2, 3)))
    with pytest.raises(ValueError, match=r"consists of \(images, labels\)\. Received: elements of"):
        shard_batches(data, 4)
