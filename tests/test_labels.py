"""Class tables against the public ones, worked-out translations, and the real label maps."""

import re

import numpy as np
import pytest
from PIL import Image

from keras_psp import data, labels
from keras_psp.data.camvid import classes
from keras_psp.data.camvid.classes import camvid_label_colors, segnet_labels
from keras_psp.labels import VOID, ClassList, LabelColors, LabelValues

# Published shares of all pixels of the train split, for SegNet's values 0-10; void has .0395.
PUBLISHED_SHARES = [0.1685, 0.2326, 0.0098, 0.3166, 0.0449, 0.0972, 0.0117, 0.0113, 0.0587, 0.0064]
PUBLISHED_SHARES += [0.0029]


def test_the_eleven_classes_have_their_order():
    assert classes.CAMVID_CLASSES[0] == "Building"
    assert classes.CAMVID_CLASSES[5] == "Road"
    assert classes.CAMVID_CLASSES[10] == "Bicyclist"
    assert sorted(classes.CAMVID_CLASSES) == sorted(classes.SEGNET_CLASSES)
    assert classes.CAMVID.colors[1] == (128, 128, 0)


def test_colors_tell_the_32_classes_apart():
    colors = classes.CAMVID_COLORS_32
    assert len(colors) == 32
    assert len(set(colors.values())) == 32


@pytest.mark.parametrize(("merging", "size"), [("segnet", 31), ("mseg", 11)])
def test_merging_takes_every_class_in_once(merging, size):
    table = classes.CAMVID_MERGINGS[merging]
    sources = [name for names in table.values() for name in names]
    assert list(table) == list(classes.CAMVID_CLASSES)
    assert len(sources) == len(set(sources)) == size
    assert set(sources) <= classes.CAMVID_COLORS_32.keys() - {"Void"}


def test_segnet_values_become_this_order():
    received = segnet_labels()(np.arange(12, dtype="uint8")[None])
    # Sky, Building, Pole, Road, Pavement, Tree, Sign, Fence, Car, Pedestrian, Bicyclist, unlabelled
    assert received.tolist() == [[2, 0, 8, 5, 9, 1, 4, 7, 3, 6, 10, VOID]]


def test_colors_become_labels_by_both_mergings():
    names = ["LaneMkgsDriv", "Road", "Wall", "Child", "Misc_Text", "TrafficCone", "Sky", "Void"]
    mask = np.array([[classes.CAMVID_COLORS_32[name] for name in names]], "uint8")
    segnet = LabelColors(camvid_label_colors("segnet"))(mask)
    mseg = LabelColors(camvid_label_colors("mseg"))(mask)
    assert segnet.tolist() == [[5, 5, 0, 6, 4, 8, 2, VOID]]
    assert mseg.tolist() == [[VOID, 5, VOID, VOID, VOID, VOID, 2, VOID]]


def test_unknown_values_are_named():
    mask = np.array([[0, 1, 7, 7], [3, 0, 255, 1]], "uint8")
    with pytest.raises(ValueError, match=r"0 to 2, or 255.*labels 3 \(1 pixels\), 7 \(2 pixels\)"):
        LabelValues(range(3))(mask)


def test_unknown_colors_are_named():
    mask = np.array([[[1, 2, 3], [0, 0, 0], [9, 9, 9]]], "uint8")
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) \(1 pixels\)\. Add these colors"):
        LabelColors({(9, 9, 9): 0})(mask)


def test_stray_colors_become_void_up_to_a_share():
    mask = np.full((10, 10, 3), 9, "uint8")
    mask[0, 0] = 1
    coding = LabelColors({(9, 9, 9): 4}, stray=0.01)
    assert coding(mask)[0].tolist() == [VOID] + 9 * [4]
    mask[0, 1] = 1
    with pytest.raises(ValueError, match="Every color"):
        coding(mask)


def test_frequencies_agree_with_the_published_shares():
    labeled = np.array(PUBLISHED_SHARES) / (1 - 0.0395)
    order = [classes.SEGNET_CLASSES.index(name) for name in classes.CAMVID_CLASSES]
    np.testing.assert_allclose(classes.CAMVID_FREQUENCIES, labeled[order], atol=1e-4)
    assert sum(classes.CAMVID_FREQUENCIES) == pytest.approx(1, abs=1e-5)


def test_weights_resemble_those_of_segnet():
    ratio = np.divide(classes.SEGNET_CLASS_WEIGHTS, classes.CAMVID_CLASS_WEIGHTS)
    sign = classes.CAMVID_CLASSES.index("SignSymbol")
    assert 2 < ratio[sign] < 3
    assert (np.abs(np.delete(ratio, sign) - 1) < 0.17).all()


def test_frequencies_and_weights_of_the_real_label_maps(camvid):
    order = [classes.SEGNET_CLASSES.index(name) for name in classes.CAMVID_CLASSES]
    pixels, present = np.zeros(12), np.zeros(12)
    for file in sorted((camvid / "trainannot").iterdir()):
        counts = np.bincount(np.asarray(Image.open(file)).ravel(), minlength=12)
        pixels += counts
        present += (counts > 0) * counts.sum()
    pixels, present = pixels[order], present[order]
    np.testing.assert_allclose(classes.CAMVID_FREQUENCIES, pixels / pixels.sum(), atol=1e-6)
    frequency = pixels / present
    np.testing.assert_allclose(
        classes.CAMVID_CLASS_WEIGHTS, np.median(frequency) / frequency, atol=1e-4
    )


def test_median_frequency_weights_leave_absent_classes_out():
    # Frequencies .5 and .1, median .3.
    received = labels.median_frequency_weights([50, 0, 10], [100, 0, 100])
    assert received == pytest.approx([0.6, 0, 3])


@pytest.mark.parametrize("wrong", [2, -1])
def test_class_weights_want_classes(wrong):
    batch = None, np.array([[[0, 1, 255, wrong]]])
    with pytest.raises(ValueError, match=rf"one of 0 … 1 or 255 .*Received: label {wrong}\. Set"):
        labels.class_weights([batch], num_classes=2)


def test_distinct_colors_begin_as_in_pascal_voc():
    colors = labels.distinct_colors(254)
    assert colors[:4] == [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert len({*colors, (0, 0, 0)}) == 255


@pytest.mark.parametrize(
    ("names", "colors", "message"),
    [
        ([], None, "needs 1 to 254 names. Received: names=\\[\\]"),
        ("road", None, "Received: names='road'. Pass \\['road'\\]"),
        (["road", "car", "road"], None, "Received: 'road' more than once"),
        (["road"], [(0, 0, 0), (1, 1, 1)], "1 names, 2 colors"),
        (["road"], [(0, 0, 256)], "from 0 to 255. Received: colors=\\[\\(0, 0, 256\\)\\]"),
    ],
)
def test_class_list_rejects_nonsense(names, colors, message):
    with pytest.raises(ValueError, match=message):
        ClassList(names, colors)


def test_numbered_classes_are_numbered():
    assert labels.numbered_classes(3).names == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("model", "received"),
    [
        (3, "num_classes=3, data of 2 classes (road, car). Build the model with num_classes=2"),
        (ClassList(["road", "cow"]), "a model of 2 classes (road, cow), data of 2 classes (road, "),
        (ClassList(["car", "road"]), "a model of 2 classes (car, road), data of 2 classes (road, "),
    ],
)
def test_model_and_data_must_have_the_same_classes(model, received):
    classes = ClassList(["road", "car"])
    with pytest.raises(
        ValueError, match="the classes of the data. Received: " + re.escape(received)
    ):
        labels.check_same_classes(model, classes)
    labels.check_same_classes(2, classes)
    labels.check_same_classes(ClassList(classes.names, [(1, 2, 3), (4, 5, 6)]), classes)


def test_the_class_lists_of_public_data_sets():
    lists = data.CAMVID, data.CITYSCAPES, data.ADE20K, data.VOC2012
    assert [len(classes) for classes in lists] == [11, 19, 150, 21]
    # The color map of PASCAL VOC is a rule: the number's bits in turn.
    assert list(data.VOC2012.colors) == [(0, 0, 0), *labels.distinct_colors(20)]
    last = {classes.names[-1]: classes.colors[-1] for classes in lists[1:3]}
    assert last == {"bicycle": (119, 11, 32), "flag": (92, 0, 255)}
