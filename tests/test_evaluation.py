"""Scores of a split, against a model that always answers the same."""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_psp.classes import ClassList
from keras_psp.evaluation import evaluate

CLASSES = ClassList(["road", "sky", "horse"])


@pytest.fixture(scope="module")
def result():
    """The model says road everywhere. Of ten pixels five are road, three sky, two void."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    model.set_weights([np.zeros((1, 1, 3, 3)), np.array([1.0, 0.0, 0.0])])
    model.initial_weights = "nothing at all"
    labels = np.array([[[0, 0, 0, 0, 0]], [[1, 1, 1, 255, 255]]])
    data = [(np.full((1, 1, 5, 3), 9 * i, "float32"), labels[i : i + 1]) for i in range(2)]
    return evaluate(model, data, CLASSES)


def test_scores_are_those_worked_out_by_hand(result):
    # Road: 5 found of 5, and 3 of the sky called road. The horse is absent and left out.
    np.testing.assert_allclose(result.per_class, [5 / 8, 0, np.nan])
    assert result.mean_iou == pytest.approx(5 / 16)
    assert result.mean_accuracy == pytest.approx(1 / 2)
    assert result.pixel_accuracy == pytest.approx(5 / 8)
    assert result.confusion_matrix.tolist() == [[5, 0, 0], [3, 0, 0], [0, 0, 0]]


def test_samples_are_spread_over_the_split(result):
    images, labels, predictions = result.samples
    assert [int(image.max()) for image in images] == [0, 9]
    assert [label.max() for label in labels] == [0, 255]
    assert all((prediction == 0).all() for prediction in predictions)


def test_the_table_names_classes_scores_and_origin(result):
    table = str(result)
    for line in ("road             0.625", "horse           absent", "mean IoU         0.312"):
        assert line in table
    assert "started from nothing at all" in table


def test_what_is_written_can_be_read(result, tmp_path):
    folder = result.write(tmp_path / "new" / "folder")
    with open(folder / "per_class.csv", newline="") as file:
        rows = {row["class"]: float(row["iou"]) for row in csv.DictReader(file)}
    assert rows["road"] == 0.625
    assert np.isnan(rows["horse"])
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["per_class"] == {"road": 0.625, "sky": 0.0, "horse": None}
    assert scores["mean_iou"] == pytest.approx(5 / 16)
    assert scores["initial_weights"] == "nothing at all"
    for name in ("per_class.png", "samples.png"):
        with Image.open(folder / name) as picture:
            picture.verify()


def test_a_split_without_a_batch_is_an_error():
    with pytest.raises(ValueError, match=r"at least one batch\. Received: data of length 0\."):
        evaluate(None, [], CLASSES)
