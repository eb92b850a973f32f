"""Pictures: looked up pixel by pixel in what was written, against values worked out by hand."""

import csv

import keras
import numpy as np
import pytest
from PIL import Image

from keras_psp import pictures
from keras_psp.classes import CAMVID, VOID, ClassList

TWO = ClassList(["road", "other"], [(200, 0, 0), (0, 0, 100)])


def read(file):
    return np.asarray(Image.open(file).convert("RGB"))


def has_color(picture, color):
    """Whether a noticeable part of the picture, not only single pixels, has exactly this colour."""
    return (picture == np.asarray(color)).all(-1).sum() > 50


# Label maps as colours --------------------------------------------------------------------------


def test_every_class_has_its_colour_and_void_is_black():
    labels = np.array([*range(11), VOID])
    assert pictures.colorize(labels).tolist() == [*map(list, CAMVID.colors), [0, 0, 0]]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_highest_class_of_the_longest_list(dtype):
    many = ClassList([f"class {k}" for k in range(254)])
    picture = pictures.colorize(np.array([253, 255], dtype), many)
    assert picture.tolist() == [list(many.colors[253]), [0, 0, 0]]


def test_batches_and_tensors_of_the_backend():
    labels = np.random.default_rng(0).integers(0, 11, (2, 3, 4))
    picture = pictures.colorize(keras.ops.convert_to_tensor(labels))
    assert picture.shape == (2, 3, 4, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture[1, 2], pictures.colorize(labels[1, 2]))


@pytest.mark.parametrize("label", [2, 254, 256, -1])
def test_strange_labels_are_named(label):
    with pytest.raises(ValueError, match=rf"0 … 1 or 255 .* Received: label={label}\. Give"):
        pictures.colorize(np.array([[0, label]]), TWO)


def test_logits_are_not_labels():
    with pytest.raises(ValueError, match=r"Received: labels of dtype float32 .*argmax"):
        pictures.colorize(np.zeros((2, 2, 11), "float32"))


# Overlays ---------------------------------------------------------------------------------------


def test_overlay_blends_and_leaves_void_alone():
    image = np.full((1, 3, 3), 100.0)
    picture = pictures.overlay(image, np.array([[0, 1, VOID]]), alpha=0.25, classes=TWO)
    assert picture.tolist() == [[[125, 75, 75], [75, 75, 100], [100, 100, 100]]]


def test_overlay_at_the_ends_of_alpha():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 5, 7, 3), "uint8")
    labels = rng.integers(0, 11, (2, 5, 7))
    assert np.array_equal(pictures.overlay(image, labels, alpha=0), image)
    assert np.array_equal(pictures.overlay(image, labels, alpha=1), pictures.colorize(labels))


def test_overlay_needs_equal_sizes():
    message = r"Received: image of shape \(4, 5, 3\), labels of shape \(5, 4\)"
    with pytest.raises(ValueError, match=message):
        pictures.overlay(np.zeros((4, 5, 3)), np.zeros((5, 4), int))


# Files ------------------------------------------------------------------------------------------


def test_label_maps_come_back_unchanged(tmp_path):
    labels = np.random.default_rng(0).permutation(np.arange(256)).reshape(16, 16)
    file = pictures.write_image(tmp_path / "new" / "folder" / "labels.png", labels)
    image = Image.open(file)
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), labels)


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "png", "webp"])
def test_the_ending_says_the_format(tmp_path, ending):
    file = pictures.write_image(tmp_path / f"a.{ending}", np.full((8, 8, 3), 77))
    assert np.abs(np.asarray(Image.open(file)).astype(int) - 77).max() <= 2
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("value, received", [(-1, "-1 to 0"), (300, "0 to 300"), (np.nan, "nan")])
def test_nothing_is_clipped(tmp_path, value, received):
    picture = np.zeros((4, 4, 3), float if np.isnan(value) else int)
    picture[1, 2, 0] = value
    with pytest.raises(ValueError, match=f"between 0 and 255. Received: .* values {received}"):
        pictures.write_image(tmp_path / "a.png", picture)


def test_gallery_shows_truth_prediction_and_errors(tmp_path):
    truth = np.full((40, 60), 5)
    truth[:, :20] = 2
    truth[:10] = VOID
    prediction = np.full((40, 60), 5)
    prediction[:, 40:] = 3
    file = pictures.segmentation_gallery(
        tmp_path / "gallery.png", np.full((1, 40, 60, 3), 77, "uint8"), [truth], [prediction]
    )
    picture = read(file)
    for label in (2, 3, 5):
        assert has_color(picture, CAMVID.colors[label])
    assert has_color(picture, (77, 77, 77))
    assert has_color(picture, pictures.VOID_COLOR)
    assert not has_color(picture, CAMVID.colors[9])  # the legend shows what occurs

    # A third of the valid pixels is right: columns 20 to 39 of 60.
    errors = picture[:, -picture.shape[1] // 4 :]
    right = (errors == pictures._RIGHT).all(-1).sum()
    wrong = (errors == pictures._WRONG).all(-1).sum()
    assert right / (right + wrong) == pytest.approx(1 / 3, abs=0.03)


def test_gallery_of_images_of_different_sizes(tmp_path):
    images = [np.zeros((20, 30, 3)), np.zeros((30, 20, 3))]
    labels = [np.zeros((20, 30), int), np.zeros((30, 20), int)]
    file = pictures.segmentation_gallery(tmp_path / "a.png", images, predictions=labels)
    assert has_color(read(file), CAMVID.colors[0])


def test_gallery_of_void_alone(tmp_path):
    void = np.full((1, 20, 30), VOID)
    picture = read(
        pictures.segmentation_gallery(
            tmp_path / "a.png", np.zeros((1, 20, 30, 3)), void, np.zeros_like(void)
        )
    )
    assert not has_color(picture, pictures._RIGHT)
    assert not has_color(picture, pictures._WRONG)


@pytest.mark.parametrize("images, labels", [(0, 0), (2, 1)])
def test_gallery_counts_its_pictures(tmp_path, images, labels):
    message = rf"Received: {images} of 'Image', {labels} of 'Truth'\."
    with pytest.raises(ValueError, match=message):
        pictures.segmentation_gallery(
            tmp_path / "a.png", np.zeros((images, 8, 8, 3)), np.zeros((labels, 8, 8), int)
        )
    assert not list(tmp_path.iterdir())


def test_legend_has_every_colour(tmp_path):
    picture = read(pictures.legend(tmp_path / "legend.png"))
    assert all(has_color(picture, color) for color in CAMVID.colors)


HISTORY = {
    "loss": [2.0, 1.0, 0.5],
    "mean_iou": [0.1, 0.2, 0.3],
    "val_loss": [2.0, 1.5, float("nan")],
    "val_mean_iou": [0.1, 0.25, 0.2],
    "learning_rate": [0.01, 0.005, 0.001],
}


def test_curves_from_csv_and_dict_are_the_same(tmp_path):
    with (tmp_path / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *HISTORY])
        writer.writerows(zip(range(3), *HISTORY.values(), strict=True))
    first = pictures.training_curves(tmp_path / "a.png", HISTORY)
    second = pictures.training_curves(tmp_path / "b.png", tmp_path / "history.csv")
    assert np.array_equal(read(first), read(second))


def test_curves_draw_what_they_are_given(tmp_path):
    plain = read(pictures.training_curves(tmp_path / "a.png", {"loss": [2.0, 1.0, 0.5]}))
    scored = read(pictures.training_curves(tmp_path / "b.png", HISTORY))
    assert scored.shape[1] > 2.5 * plain.shape[1]  # three panels instead of one
    other = {**HISTORY, "val_mean_iou": [0.1, 0.2, 0.3]}
    assert not np.array_equal(scored, read(pictures.training_curves(tmp_path / "c.png", other)))


def test_curves_of_one_epoch_and_of_unequal_rows(tmp_path):
    lines = "epoch,loss,val_mean_iou\n0,2.0,\n1,1.0\n"
    (tmp_path / "history.csv").write_text(lines)
    pictures.training_curves(tmp_path / "a.png", tmp_path / "history.csv")
    pictures.training_curves(tmp_path / "b.png", {"loss": [1.0], "val_mean_iou": [0.2]})


def test_curves_need_an_epoch(tmp_path):
    with pytest.raises(ValueError, match=r"Received: history with columns \['loss'\] and no row"):
        pictures.training_curves(tmp_path / "a.png", {"loss": []})


def test_bars_are_as_long_as_their_scores(tmp_path):
    picture = read(pictures.per_class_bars(tmp_path / "a.png", [0.8, 0.4], TWO))
    lengths = [(picture == color).all(-1).any(0).sum() for color in TWO.colors]
    assert lengths[0] / lengths[1] == pytest.approx(2, rel=0.02)


def test_bars_leave_absent_classes_out(tmp_path):
    picture = read(pictures.per_class_bars(tmp_path / "a.png", [0.5, float("nan")], TWO))
    assert has_color(picture, TWO.colors[0])
    assert not has_color(picture, TWO.colors[1])
    pictures.per_class_bars(tmp_path / "b.png", [float("nan")] * 2, TWO)


def test_bars_need_a_score_for_each_class(tmp_path):
    with pytest.raises(ValueError, match=r"iou of shape \(2,\), 11 classes"):
        pictures.per_class_bars(tmp_path / "a.png", [0.5, 0.5])
