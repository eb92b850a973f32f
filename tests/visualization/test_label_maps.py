"""Label maps in color, overlays, errors and image files, pixel by pixel, worked out by hand."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp import visualization
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.reading import read_label
from keras_psp.labels import VOID, ClassList, LabelColors, LabelValues

TWO = ClassList(["road", "other"], [(200, 0, 0), (0, 0, 100)])


def test_classes_have_their_colors_and_void_is_black():
    labels = np.array([*range(11), VOID])
    picture = visualization.colorize(labels, CAMVID)
    assert picture.tolist() == [*map(list, CAMVID.colors), [0, 0, 0]]


def test_unnamed_classes_have_colors_of_their_number():
    picture = visualization.colorize(np.array([0, 1, 253, VOID]))
    # The bits of the number after the class's go to the high bits of red, green and blue in turn.
    assert picture.tolist() == [[128, 0, 0], [0, 128, 0], [96, 224, 192], [0, 0, 0]]
    # Whatever other classes there are.
    assert visualization.colorize(np.array([1])).tolist() == [[0, 128, 0]]
    image = np.zeros((1, 1, 3))
    assert visualization.overlay(image, np.array([[1]]), alpha=1).tolist() == [[[0, 128, 0]]]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_highest_class_of_the_longest_list(dtype):
    many = ClassList([f"class {k}" for k in range(254)])
    picture = visualization.colorize(np.array([253, 255], dtype), many)
    assert picture.tolist() == [list(many.colors[253]), [0, 0, 0]]


def test_batches_and_tensors_of_the_backend():
    labels = np.random.default_rng(0).integers(0, 11, (2, 3, 4))
    picture = visualization.colorize(keras.ops.convert_to_tensor(labels))
    assert picture.shape == (2, 3, 4, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture[1, 2], visualization.colorize(labels[1, 2]))


@pytest.mark.parametrize("label", [2, 254, 256, -1])
def test_strange_labels_are_named(label):
    with pytest.raises(ValueError, match=rf"0 … 1 or 255 .* Received: label={label}\. Give"):
        visualization.colorize(np.array([[0, label]]), TWO)


def test_logits_are_not_labels():
    with pytest.raises(ValueError, match=r"Received: labels of dtype float32 .*argmax"):
        visualization.colorize(np.zeros((2, 2, 11), "float32"))


def test_overlay_blends_and_leaves_void_alone():
    image = np.full((1, 3, 3), 100.0)
    picture = visualization.overlay(image, np.array([[0, 1, VOID]]), alpha=0.25, classes=TWO)
    assert picture.tolist() == [[[125, 75, 75], [75, 75, 100], [100, 100, 100]]]


def test_overlay_at_the_ends_of_alpha():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 5, 7, 3), "uint8")
    labels = rng.integers(0, 11, (2, 5, 7))
    assert np.array_equal(visualization.overlay(image, labels, alpha=0), image)
    assert np.array_equal(
        visualization.overlay(image, labels, alpha=1), visualization.colorize(labels)
    )


def test_overlay_needs_equal_sizes():
    message = r"Received: image of shape \(4, 5, 3\), labels of shape \(5, 4\)"
    with pytest.raises(ValueError, match=message):
        visualization.overlay(np.zeros((4, 5, 3)), np.zeros((5, 4), int))


COLORS = {
    "right": visualization.RIGHT,
    "wrong": visualization.WRONG,
    "hit": visualization.HIT,
    "miss": visualization.MISS,
    "false alarm": visualization.FALSE_ALARM,
    "other": visualization.RIGHT,
    "void": visualization.VOID_COLOR,
}


@pytest.mark.parametrize(
    "label, expected",
    [
        (None, ["right", "wrong", "wrong", "right", "void", "void", "wrong"]),
        (5, ["hit", "miss", "false alarm", "other", "void", "void", "other"]),
        (3, ["other", "false alarm", "miss", "hit", "void", "void", "other"]),
        # The highest class there can be, and one that does not occur.
        (253, ["other", "other", "other", "other", "void", "void", "miss"]),
        (7, ["other", "other", "other", "other", "void", "void", "other"]),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_errors_by_hand(label, expected, dtype):
    truth = np.array([[5, 5, 3, 3, VOID, VOID, 253]], dtype)
    prediction = np.array([[5, 3, 5, 3, 5, VOID, VOID]], dtype)
    errors = visualization.error_map(truth, prediction, label)
    assert errors.dtype == np.uint8
    assert errors[0].tolist() == [list(COLORS[name]) for name in expected]


def test_errors_of_classes_add_up_to_scores():
    rng = np.random.default_rng(0)
    truth, prediction = rng.choice([0, 1, 2, 10, VOID], (2, 2, 30, 40))
    prediction[prediction == VOID] = 10
    iou = keras_psp.metrics.iou_per_class(
        np.array([[((truth == i) & (prediction == j)).sum() for j in range(11)] for i in range(11)])
    )
    for label in (0, 1, 2, 10):
        errors = visualization.error_map(truth, prediction, label)
        hit, miss, false_alarm = (
            (errors == COLORS[name]).all(-1).sum() for name in ("hit", "miss", "false alarm")
        )
        assert hit / (hit + miss + false_alarm) == pytest.approx(float(iou[label]))


def test_errors_need_equal_shapes():
    message = r"Received: truth of shape \(4, 5\), prediction of shape \(4, 5, 11\)\..*argmax"
    with pytest.raises(ValueError, match=message):
        visualization.error_map(np.zeros((4, 5), int), np.zeros((4, 5, 11)))


@pytest.mark.parametrize("label", [VOID, -1, 1.0, "Car"])
def test_errors_of_what_is_no_class(label):
    with pytest.raises(ValueError, match=rf"from 0 to 254\. Received: label={label!r}\. Pass"):
        visualization.error_map(np.zeros((4, 5), int), np.zeros((4, 5), int), label)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_label_maps_come_back_unchanged(tmp_path, ending):
    labels = np.random.default_rng(0).permutation(np.arange(256)).reshape(16, 16)
    labels[labels == 254] = 0  # the one number that is neither a class nor void
    file = visualization.write_image(tmp_path / "new" / "folder" / f"labels.{ending}", labels)
    image = Image.open(file)
    assert np.array_equal(np.asarray(image), labels)
    assert np.array_equal(np.asarray(image.convert("RGB")), visualization.colorize(labels))


@pytest.mark.parametrize("first", [(128, 0, 0), (0, 0, 0)])
def test_label_maps_show_colors_and_are_read_as_numbers(tmp_path, first):
    classes = ClassList(["one", "two"], [first, (0, 128, 0)])
    labels = np.array([[0, 1, VOID]])
    file = visualization.write_image(tmp_path / "a.png", labels, classes)
    shown = np.asarray(Image.open(file).convert("RGB"))
    assert [tuple(color) for color in shown[0, :2].tolist()] == list(classes.colors)
    colors = LabelColors({color: label for label, color in enumerate(classes.colors)})
    for coding in (LabelValues([0, 1]), LabelValues([0, 1], colors)):
        assert np.array_equal(read_label(file, coding), labels)


def test_label_maps_are_refused_where_numbers_change(tmp_path):
    with pytest.raises(ValueError, match=r"\.png, .*other formats change its numbers.*a\.jpg"):
        visualization.write_image(tmp_path / "a.jpg", np.zeros((4, 5), int))
    with pytest.raises(ValueError, match=r"class 0 … 1 or 255 for void\. Received: label=2"):
        visualization.write_image(tmp_path / "a.png", np.full((4, 5), 2), TWO)


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "png", "webp"])
def test_the_ending_says_the_format(tmp_path, ending):
    file = visualization.write_image(tmp_path / f"a.{ending}", np.full((8, 8, 3), 77))
    assert np.abs(np.asarray(Image.open(file)).astype(int) - 77).max() <= 2
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("value, received", [(-1, "-1 to 0"), (300, "0 to 300"), (np.nan, "nan")])
def test_nothing_is_clipped(tmp_path, value, received):
    picture = np.zeros((4, 4, 3), float if np.isnan(value) else int)
    picture[1, 2, 0] = value
    with pytest.raises(ValueError, match=f"between 0 and 255. Received: .* values {received}"):
        visualization.write_image(tmp_path / "a.png", picture)
