"""What data say about themselves, behind whatever `tf.data` made of them; and what they forget."""

import numpy as np
import pytest
import tensorflow as tf

import keras_psp
from keras_psp.data import Batches, DatasetInfo, attach, info_of
from keras_psp.labels import ClassList

CLASSES = ClassList(["horse", "other"])
INFO = DatasetInfo(CLASSES, ("a", "b", "c"), "train", merging="segnet")


def frames(value=0):
    return tf.data.Dataset.range(3).map(lambda n: (n + value, n))


@pytest.fixture
def data():
    return attach(frames(), INFO)


def test_the_info_is_kept_in_keras_words_too(data):
    assert info_of(data) is INFO
    assert data.class_names == ["horse", "other"]
    assert data.class_colors == list(CLASSES.colors)
    assert data.sample_names == ["a", "b", "c"]


IN_ORDER = {
    "take": lambda data: data.take(2),
    "map": lambda data: data.map(lambda x, y: (x, y)),
    "parallel map": lambda data: data.map(lambda x, y: (x, y), num_parallel_calls=2),
    "batch": lambda data: data.batch(2),
    "parallel batch": lambda data: data.batch(2, num_parallel_calls=2),
    "padded batch": lambda data: data.padded_batch(2),
    "other batches": lambda data: data.batch(2).rebatch(3),
    "unbatch": lambda data: data.batch(2).unbatch(),
    "prefetch": lambda data: data.prefetch(2),
    "with_options": lambda data: data.with_options(tf.data.Options()),
    "cache": lambda data: data.cache(),
    "cardinality": lambda data: data.apply(tf.data.experimental.assert_cardinality(3)),
    "several": lambda data: data.take(3).map(lambda x, y: (x, y)).batch(2).prefetch(1),
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_the_info_is_found_behind(name, data):
    assert info_of(IN_ORDER[name](data)) == INFO


@pytest.mark.parametrize("name", ["shuffle", "skip", "filter", "repeat", "shard"])
def test_names_are_forgotten_where_the_order_changes(name, data):
    changed = {
        "shuffle": lambda: data.shuffle(3),
        "skip": lambda: data.skip(1),
        "filter": lambda: data.filter(lambda x, y: x > 0),
        "repeat": lambda: data.repeat(2),
        "shard": lambda: data.shard(2, 1),
    }[name]()
    assert info_of(changed) == DatasetInfo(CLASSES, (), "train", merging="segnet")
    assert info_of(changed.batch(1)).sample_names == ()


def test_joined_data_must_agree(data):
    same = attach(frames(), DatasetInfo(CLASSES, split="val"))
    other = attach(frames(), DatasetInfo(ClassList(["cow", "other"])))
    assert info_of(data.concatenate(same)) == DatasetInfo(CLASSES)
    assert info_of(data.concatenate(other)) is None
    assert info_of(data.concatenate(frames())) is None
    assert info_of(frames().concatenate(data)) is None


def test_a_broken_chain_is_unnamed(data):
    assert info_of(frames()) is None
    assert info_of(tf.data.Dataset.from_tensors(0).flat_map(lambda _: data)) is None
    for arrays in (np.zeros(3), (np.zeros(3), np.zeros(3)), [1], None, iter([])):
        assert info_of(arrays) is None
    assert info_of(Batches(lambda epoch, index: (), 2)) is None


def test_class_names_alone_are_read(tmp_path, write_image):
    for name in CLASSES.names:
        write_image(tmp_path / name / "a.png", np.zeros((4, 4, 3)))
    from keras.utils import image_dataset_from_directory

    data = image_dataset_from_directory(tmp_path, image_size=(4, 4), verbose=False)
    assert info_of(data.take(1)) == DatasetInfo(CLASSES)


def test_the_nearest_info_counts(data):
    merged = keras_psp.merge_classes(data, {"animal": ["horse"]})
    assert info_of(merged.take(1)).classes.names == ("animal",)


def test_data_can_be_told_the_epoch(data):
    assert not hasattr(data, "set_epoch")
    assert attach(data, INFO, set_epoch=print).set_epoch is print


def test_loaders_tell_split_and_merging(camvid):
    train, val = keras_psp.load_camvid(["train", "val"], (24, 32), 4, data_dir=camvid, cache=False)
    assert (info_of(train).split, info_of(val).split) == ("train", "val")
    assert (info_of(train).shuffled, info_of(val).shuffled) == (True, False)
    assert info_of(val).merging == "segnet"
    assert len(info_of(val).sample_names) == 101
