"""Scores of a split, with a model that always answers the same."""

import csv
import dataclasses
import json
import os

import keras
import numpy as np
import pytest
from PIL import Image

from keras_psp.atomic import read_table
from keras_psp.data import DatasetInfo, attach
from keras_psp.evaluation.segmentation import evaluate
from keras_psp.inference.classifying import cut_views
from keras_psp.inference.segmenting import segment
from keras_psp.inference.views import Views
from keras_psp.labels import ClassList
from tests.tiny import Tiny
from tests.tiny import data as noise

CLASSES = ClassList(["road", "sky", "horse"])


@pytest.fixture(scope="module")
def always_road():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    model.set_weights([np.zeros((1, 1, 3, 3)), np.array([1.0, 0.0, 0.0])])
    model.initial_weights = "nothing at all"
    return model


@pytest.fixture(scope="module")
def result(always_road):
    """The model says road everywhere. Of ten pixels five are road, three sky, two void."""
    labels = np.array([[[0, 0, 0, 0, 0]], [[1, 1, 1, 255, 255]]])
    data = [(np.full((1, 1, 5, 3), 9 * i, "float32"), labels[i : i + 1]) for i in range(2)]
    return evaluate(always_road, data, classes=CLASSES)


def test_scores_are_those_worked_out_by_hand(result):
    # Road: 5 found of 5, and 3 of the sky called road. The horse is absent and left out.
    np.testing.assert_allclose(result.per_class, [5 / 8, 0, np.nan])
    assert result.mean_iou == pytest.approx(5 / 16)
    assert result.mean_accuracy == pytest.approx(1 / 2)
    assert result.pixel_accuracy == pytest.approx(5 / 8)
    assert result.confusion_matrix.tolist() == [[5, 0, 0], [3, 0, 0], [0, 0, 0]]


def test_images_are_scored_one_by_one(result):
    assert result.names == ("image 0", "image 1")
    assert result.confusion_matrices[:, :2, 0].tolist() == [[5, 0], [0, 3]]
    # Of the second, road is predicted, but absent in truth, and so left out.
    assert result.per_image.tolist() == [1, 0]
    assert [one.name for one in result.worst] == ["image 1"]
    assert [one.name for one in result.best] == ["image 0"]
    assert result.worst[0].mean_iou == 0
    assert result.worst[0].label.tolist() == [[1, 1, 1, 255, 255]]


def test_samples_are_spread_over_the_split(result):
    assert [int(one.image.max()) for one in result.samples] == [0, 9]
    assert [one.label.max() for one in result.samples] == [0, 255]
    assert all((one.prediction == 0).all() for one in result.samples)
    assert result.samples[0].image.dtype == np.uint8


def test_the_table_names_classes_scores_and_origin(result):
    table = str(result)
    for line in (
        *("IoU  boundary  accuracy", "road                0.625     0.625     1.000"),
        *("horse                   –         –         –", "mean IoU            0.312"),
        *("mean boundary IoU   0.312", "Worst images (1 of 2): image 1 (0.000)"),
        "Best images (1 of 2): image 0 (1.000)",
        "Views: whole images at their own size, scale 1, not mirrored.",
    ):
        assert line in table
    assert "started from nothing at all" in table


def test_a_notebook_shows_the_report(result):
    shown = result._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert shown.count("data:image/png") > 5
    assert repr(result) == str(result)


def test_images_that_are_all_void_have_no_score(always_road):
    labels = np.array([[[0, 1]], [[255, 255]]])
    result = evaluate(always_road, [(np.zeros((2, 1, 2, 3)), labels)], classes=CLASSES)
    assert result.per_image[0] == 0.25
    assert np.isnan(result.per_image[1])
    assert [one.name for one in (*result.worst, *result.best)] == ["image 0"]


@pytest.mark.parametrize(
    "shares, worst, best",
    [
        ([3], [0], []),
        ([1, 2, 0], [2, 0], [1]),
        ([2, 2, 2, 2], [0, 1], [3, 2]),  # equal ones
        ([5, 1, 4, 2, 3, 6], [1, 3], [5, 0]),
    ],
)
def test_no_image_is_worst_and_best(always_road, shares, worst, best):
    labels = np.ones((len(shares), 1, 7), int)
    for label, share in zip(labels, shares, strict=True):
        label[:, :share] = 0  # road, of which the model finds all
    data = [(np.zeros((*labels.shape, 3)), labels)]
    result = evaluate(always_road, data, classes=CLASSES, num_samples=2)
    for images, expected in [(result.worst, worst), (result.best, best)]:
        assert [one.name for one in images] == [f"image {number}" for number in expected]


def test_images_have_the_names_of_their_files(always_road):
    info = DatasetInfo(CLASSES, ("a", "b", "c"))
    data = attach(Batches([noise(2), noise(1)]), info)
    assert evaluate(always_road, data, classes=CLASSES).names == ("a", "b", "c")
    attach(data, dataclasses.replace(info, shuffled=True))
    assert evaluate(always_road, data, classes=CLASSES).names == ("image 0", "image 1", "image 2")


def test_labels_of_another_size_or_class_are_errors(always_road):
    images = np.zeros((1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"one of 0 … 2 or 255 for void\. Received: label 3"):
        evaluate(always_road, [(images, np.full((1, 4, 4), 3))], classes=CLASSES)
    with pytest.raises(ValueError, match=r"one class number per pixel of its image\. Received"):
        evaluate(always_road, [(images, np.zeros((1, 4, 5), int))], classes=CLASSES)


def test_unnamed_classes_are_numbered(always_road):
    result = evaluate(always_road, [noise(2)])
    assert result.classes.names == ("class 0", "class 1", "class 2")


def test_the_data_name_the_classes(always_road):
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(noise(4)).batch(2)
    attach(data, DatasetInfo(CLASSES, ("a", "b", "c", "d"), split="val"))
    result = evaluate(always_road, data.take(1))
    assert result.classes == CLASSES
    assert result.names == ("a", "b")


class Batches(list):
    """A list that can have attributes."""


def test_other_classes_than_the_models_are_an_error(always_road):
    two, animals = ClassList(["a", "b"]), ClassList(["cow", "dog", "cat"])
    message = r"classes of the data\. Received: num_classes=3, data of 2 classes \(a, b\)"
    with pytest.raises(ValueError, match=message):
        evaluate(always_road, [noise(1)], classes=two)
    with pytest.raises(ValueError, match=message):
        evaluate(always_road, attach(Batches([noise(1)]), DatasetInfo(two)))
    # As many, but others: a run's classes, and those of the data.
    with pytest.raises(ValueError, match=r"a model of 3 classes \(road, .*\), data of .*\(cow, "):
        evaluate(always_road, attach(Batches([noise(1)]), DatasetInfo(animals)), classes=CLASSES)


def test_frames_are_scored_at_their_own_size():
    keras.utils.set_random_seed(0)
    model, rng = Tiny(), np.random.default_rng(0)
    data = []
    for size in [(40, 50), (30, 31), (40, 50)]:
        image = rng.integers(0, 256, (1, *size, 3)).astype("float32")
        label = rng.integers(0, 4, (1, *size))
        data.append((image, np.where(label == 3, 255, label)[..., None]))
    views = Views(16, scales=(0.5, 1), mirror=True)
    result = evaluate(model, data, 24, views, classes=CLASSES, batch_size=5)
    for (image, label), matrix in zip(data, result.confusion_matrices, strict=True):
        predicted = segment(model, image[0], 24, views)
        expected = [
            [((label[0, ..., 0] == t) & (predicted == p)).sum() for p in range(3)] for t in range(3)
        ]
        assert matrix.tolist() == np.array(expected).tolist()
    assert (
        "windows of 16×16 (stride 0.67 of them) of images at shorter side 24, scales 0.5, 1, "
        in str(result)
    )


def test_names_of_files_need_not_be_utf_8(result, tmp_path):
    names = (os.fsdecode(b"Stra\xdfe"), "image 1")  # The first is Latin-1.
    folder = dataclasses.replace(result, names=names).write(tmp_path)
    assert [row["image"] for row in read_table(folder / "per_image.csv")] == [
        r"Stra\udcdfe",
        "image 1",
    ]
    assert r"Stra\udcdfe" in (folder / "report.html").read_text(encoding="utf-8")


def test_what_is_written_can_be_read(result, tmp_path):
    folder = result.write(tmp_path / "new" / "folder")
    with open(folder / "per_class.csv", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert float(rows["road"]["iou"]) == 0.625
    assert rows["horse"] == {"class": "horse", "iou": "", "boundary_iou": "", "accuracy": ""}
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["per_class"] == {"road": 0.625, "sky": 0.0, "horse": None}
    assert scores["mean_iou"] == pytest.approx(5 / 16)
    # In images of so few pixels all of them are near a boundary.
    assert scores["per_class_boundary_iou"] == scores["per_class"]
    assert scores["initial_weights"] == "nothing at all"
    assert scores["per_class_accuracy"] == {"road": 1.0, "sky": 0.0, "horse": None}
    assert scores["per_image"] == {"image 0": 1.0, "image 1": 0.0}
    assert scores["worst"] == ["image 1"]
    for name in ("per_class.png", "samples.png", "confusion_matrix.png"):
        with Image.open(folder / name) as picture:
            picture.verify()


class Frames(keras.utils.PyDataset):
    """As most people write one: behind its end there are more batches, empty ones."""

    def __init__(self, images, labels):
        super().__init__()
        self.pairs = images, labels

    def __len__(self):
        return 3

    def __getitem__(self, number):
        return tuple(part[2 * number : 2 * number + 2] for part in self.pairs)


def tf_data(*parts):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(parts).batch(4)


@pytest.mark.parametrize(
    "given",
    [
        lambda x, y: (x, y),
        lambda x, y: ({"image": x}, [y]),
        lambda x, y: iter([(x[:3], y[:3]), (x[3:], y[3:])]),
        lambda x, y: Frames(x, y),
        lambda x, y: tf_data(x, y).filter(lambda x, y: True),
        lambda x, y: (np.tile(x, (2, 1, 1, 1)), np.tile(y, (2, 1, 1)), np.arange(12) < 6),
        lambda x, y: (x, np.where(y == 255, 0, y), y != 255),
    ],
    ids=[
        *("arrays", "dictionary and list", "generator", "PyDataset", "unknown length"),
        *("weights of images", "weights of pixels"),
    ],
)
def test_takes_what_keras_evaluate_takes(always_road, given):
    images, labels = noise(6)
    expected = evaluate(always_road, [(images, labels)]).confusion_matrix
    assert np.array_equal(evaluate(always_road, given(images, labels)).confusion_matrix, expected)


def test_images_of_0_to_1_warn(always_road):
    images, labels = noise(2)
    for take in (
        lambda x: evaluate(always_road, iter([(x, labels), (x, labels)])),
        lambda x: segment(always_road, x[0]),
        lambda x: cut_views(x[0], 2, crop_size=1),  # as `classify` does
    ):
        take(images)
        with pytest.warns(UserWarning, match="0–255.* as if divided by 255") as caught:
            take(images / 255)
        assert len(caught) == 1


def test_samples_need_no_known_length(always_road):
    data = ((np.full((1, 1, 1, 3), n), np.zeros((1, 1, 1), int)) for n in range(25))
    samples = evaluate(always_road, data, num_samples=3).samples
    assert [int(one.image.max()) for one in samples] == [0, 8, 16]


def test_data_that_cannot_be_scored_are_errors(always_road):
    images, labels = noise(2)
    with pytest.raises(ValueError, match=r"at least one image\. Received: data without any\."):
        evaluate(always_road, [], classes=CLASSES)
    with pytest.raises(ValueError, match=r"Received: data of images alone\. Give pairs"):
        evaluate(always_road, images)
    with pytest.raises(ValueError, match=r"Received: 2 tensors \(image, label\) in the place of"):
        evaluate(always_road, [{"image": images, "label": labels}])
    with pytest.raises(ValueError, match=r"data that repeat without end\. Leave out repeat"):
        evaluate(always_road, tf_data(images, labels).repeat())
