"""Classes merged into fewer: labels, names, colors, and what is refused."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import keras_psp
from keras_psp.data import DatasetInfo, attach
from keras_psp.data.camvid.classes import CAMVID, CAMVID_CLASSES


@pytest.fixture
def every_label():
    """One image with the labels 0 … 10 and void."""
    labels = np.array([[[*range(11), 255]]], "int32")
    images = np.zeros((1, 1, 12, 3), "float32")
    data = tf.data.Dataset.from_tensors((images, labels))
    data.set_epoch = print
    return attach(data, DatasetInfo(CAMVID, ("one",), "val", shuffled=True, merging="segnet"))


def labels(data):
    return [value.numpy()[0, 0].tolist() for _, value in data]


def test_road_or_not(every_label):
    road = keras_psp.merge_classes(every_label, {"road": ["Road"]}, rest="other")
    assert labels(road) == [[1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 255]]  # Road is the sixth
    assert road.class_names == ["road", "other"]
    assert road.class_colors == [(128, 64, 128), CAMVID.colors[0]]
    assert dataclasses.replace(road.info, classes=CAMVID) == every_label.info
    assert (road.sample_names, road.set_epoch) == (["one"], print)
    assert len(road) == 1
    assert road.element_spec[1].dtype == tf.int32


def test_without_a_rest_the_others_are_void(every_label):
    classes = {"flat": ["Sidewalk", "Road"], "moving": ["Car", "Bicyclist", "Pedestrian"]}
    merged = keras_psp.merge_classes(every_label, classes)
    expected = [255] * 12
    for label, names in enumerate(classes.values()):
        for name in names:
            expected[CAMVID_CLASSES.index(name)] = label
    assert labels(merged) == [expected]


def test_several_splits_at_once(every_label):
    merged = keras_psp.merge_classes([every_label, every_label], {"sky": ["Sky"]}, "other")
    assert [data.class_names for data in merged] == [["sky", "other"]] * 2


@pytest.mark.parametrize(
    "classes, rest, message",
    [
        ({"road": ["road"]}, None, "class='road'. Did you mean 'Road'"),
        ({"a": ["Road"], "b": ["Road", "Sky"]}, None, "Received: 'Road' more than once"),
        ({"a": []}, None, "Received: 'a' of nothing"),
        ({"all": CAMVID_CLASSES}, "other", "Received: 'other' of nothing"),
        ({"road": ["Road"]}, "road", "Class names must differ. Received: 'road' more than once"),
    ],
)
def test_bad_merges(classes, rest, message, every_label):
    with pytest.raises(ValueError, match=message):
        keras_psp.merge_classes(every_label, classes, rest)


def test_the_classes_must_be_known(every_label):
    with pytest.raises(ValueError, match="Only a dataset that knows its classes"):
        keras_psp.merge_classes(tf.data.Dataset.from_tensors(([0], [0])), {"road": ["Road"]})
    taken = keras_psp.merge_classes(every_label.take(1), {"road": ["Road"]})
    assert taken.class_names == ["road"]
