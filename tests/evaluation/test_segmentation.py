"""Scores of a split, with a model that always answers the same, and of two models side by side."""

import csv
import dataclasses
import html.parser
import itertools
import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_psp.data import DatasetInfo, attach
from keras_psp.evaluation.segmentation import Evaluation, compare, evaluate
from keras_psp.inference.segmenting import Policy, segment
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
    return evaluate(always_road, data, CLASSES)


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
    assert [one.name for one in result.worst] == ["image 1", "image 0"]
    assert [one.name for one in result.best] == ["image 0", "image 1"]
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
        *("road             0.625     1.000", "horse           absent    absent"),
        *("mean IoU         0.312", "Worst images: image 1 (0.000), image 0 (1.000)"),
        "Looked at: whole images at their own size, scale 1, not mirrored.",
    ):
        assert line in table
    assert "started from nothing at all" in table


def test_an_image_that_is_all_void_has_no_score(always_road):
    labels = np.array([[[0, 1]], [[255, 255]]])
    result = evaluate(always_road, [(np.zeros((2, 1, 2, 3)), labels)], CLASSES)
    assert result.per_image[0] == 0.25
    assert np.isnan(result.per_image[1])
    assert [one.name for one in (*result.worst, *result.best)] == ["image 0"] * 2


def test_images_are_called_as_their_files_where_the_order_is_theirs(always_road):
    class Batches(list):
        """A list that can have attributes."""

    info = DatasetInfo(CLASSES, ("a", "b", "c"))
    data = attach(Batches([noise(2), noise(1)]), info)
    assert evaluate(always_road, data, CLASSES).names == ("a", "b", "c")
    attach(data, dataclasses.replace(info, shuffled=True))
    assert evaluate(always_road, data, CLASSES).names == ("image 0", "image 1", "image 2")


def test_labels_of_another_size_or_class_are_an_error(always_road):
    images = np.zeros((1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"one of 0 … 2 or 255 for void\. Received: label 3"):
        evaluate(always_road, [(images, np.full((1, 4, 4), 3))], CLASSES)
    with pytest.raises(ValueError, match=r"one class number per pixel of its image\. Received"):
        evaluate(always_road, [(images, np.zeros((1, 4, 5), int))], CLASSES)
    with pytest.raises(ValueError, match=r"own classes\. Received: predictions of 3 classes, 2"):
        evaluate(always_road, [(images, np.zeros((1, 4, 4), int))], ClassList(["a", "b"]))


def test_frames_of_any_size_are_scored_at_their_own():
    keras.utils.set_random_seed(0)
    model, rng = Tiny(), np.random.default_rng(0)
    data = []
    for size in [(40, 50), (30, 31), (40, 50)]:
        image = rng.integers(0, 256, (1, *size, 3)).astype("float32")
        label = rng.integers(0, 4, (1, *size))
        data.append((image, np.where(label == 3, 255, label)[..., None]))
    policy = Policy(16, scales=(0.5, 1), mirrored=True)
    result = evaluate(model, data, CLASSES, 24, policy, batch_size=5)
    for (image, label), matrix in zip(data, result.confusion_matrices, strict=True):
        predicted = segment(model, image[0], 24, policy)
        expected = [
            [((label[0, ..., 0] == t) & (predicted == p)).sum() for p in range(3)] for t in range(3)
        ]
        assert matrix.tolist() == np.array(expected).tolist()
    assert (
        "windows of 16×16 (stride 0.67 of them) of images at shorter side 24, scales 0.5, 1, "
        in str(result)
    )


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
    assert scores["per_class_accuracy"] == {"road": 1.0, "sky": 0.0, "horse": None}
    assert scores["per_image"] == {"image 0": 1.0, "image 1": 0.0}
    assert scores["worst"] == ["image 1", "image 0"]
    for name in ("per_class.png", "samples.png", "confusion_matrix.png"):
        with Image.open(folder / name) as picture:
            picture.verify()


def test_a_split_without_a_batch_is_an_error():
    with pytest.raises(ValueError, match=r"at least one batch\. Received: data of length 0\."):
        evaluate(None, [], CLASSES)


# Comparing ----------------------------------------------------------------------------------------


def scored(*right, names=None):
    """Images with 10 pixels of class a each, of which so many are right."""
    matrices = np.zeros((len(right), 2, 2), "int32")
    for matrix, share in zip(matrices, right, strict=True):
        matrix[0] = share, 10 - share
    return Evaluation(ClassList(["a", "b"]), names or tuple(map(str, range(len(right)))), matrices)


def test_the_interval_is_the_one_worked_out_by_hand():
    # Class a alone is present, and its IoU is the share of its pixels that are right. Of two images
    # drawn, both are the first (1 of 4), the second (1 of 4), or one is each (2 of 4): the
    # differences are .3, -.1, and their mean, .1.
    result, baseline = scored(9, 5), scored(6, 6)
    comparison = compare(result, baseline)
    assert comparison.difference == pytest.approx(0.1)
    assert comparison.interval == pytest.approx((-0.1, 0.3))
    assert comparison.per_class_interval[0] == pytest.approx((-0.1, 0.3))
    assert np.isnan(comparison.per_class_interval[1]).all()
    assert comparison.per_image == pytest.approx([0.3, -0.1])
    assert compare(result, baseline, confidence=0.4).interval == pytest.approx((0.1, 0.1))
    assert "Neither is better beyond doubt" in str(comparison)
    assert "+0.100  -0.100 … +0.300" in str(comparison)


def test_the_interval_is_that_of_every_possible_draw():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 20, (2, 4, 2, 2))
    one[:, :, 1] = one.sum(-1).max() - one[:, :, 0]
    other[:, :, 1] = one.sum(-1) - other[:, :, 0]
    found = compare(*(Evaluation(ClassList(["a", "b"]), tuple("wxyz"), m) for m in (one, other)))

    def mean_iou(matrix):
        a = matrix[0, 0] / (matrix[0].sum() + matrix[1, 0])
        return (a + matrix[1, 1] / (matrix[1].sum() + matrix[0, 1])) / 2

    differences = [
        mean_iou(one[list(draw)].sum(0)) - mean_iou(other[list(draw)].sum(0))
        for draw in itertools.product(range(4), repeat=4)
    ]
    assert found.difference == pytest.approx(mean_iou(one.sum(0)) - mean_iou(other.sum(0)))
    # Quantiles of 10,000 draws: a step of the true distribution's more or less.
    low, high = np.quantile(differences, [[0.015, 0.035], [0.965, 0.985]], axis=0).T
    assert low[0] <= found.interval[0] <= high[0]
    assert low[1] <= found.interval[1] <= high[1]


def test_a_better_model_is_called_better_and_the_seed_decides():
    better, worse = scored(9, 8, 9, 7, 9, 8), scored(5, 5, 4, 6, 5, 2)
    comparison = compare(better, worse, ("new", "old"))
    assert "new is better than old: the 95% interval" in str(comparison)
    assert "new is better than old" in compare(worse, better, ("old", "new")).verdict
    few = [compare(better, worse, num_resamples=50, seed=seed).interval for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2]


def test_only_the_same_images_are_compared():
    for other in (scored(1, 2, 3), scored(1, 2, names=("0", "x"))):
        with pytest.raises(ValueError, match=r"on the same images.*Received: 2 images, 20 labeled"):
            compare(scored(1, 2), other)
    smaller = scored(1, 2)
    smaller.confusion_matrices[0, 0, 1] -= 1
    with pytest.raises(ValueError, match=r"on the same images.*20 labeled.*, 2 images, 19 "):
        compare(scored(1, 2), smaller)


class Page(html.parser.HTMLParser):
    """What a page shows, and what it would fetch."""

    void = "meta", "img"

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.sources = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.sources += [attributes[name] for name in ("src", "href") if name in attributes]
        assert tag not in {"script", "link", "iframe"}
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_report_is_one_page_that_needs_nothing_else(result, tmp_path):
    comparison = compare(result, result, ("mine & yours", "<old>"))
    folder = result.write(tmp_path, comparison)
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    # The confusion matrix; image, truth, prediction and errors of two samples, worst and best each.
    assert len(page.sources) == 1 + 4 * 6
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "url(" not in text
    assert "@import" not in text
    for shown in ("horse", "0.312", "image 1: mean IoU 0.000", "100% ", "mine & yours"):
        assert any(shown in piece for piece in page.texts), shown
    assert json.loads((folder / "scores.json").read_text())["comparison"]["difference"] == 0
    assert "<old>" not in text
    assert "mine" not in (result.write(tmp_path / "alone") / "report.html").read_text()
