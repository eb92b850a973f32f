"""Pictures: looked up pixel by pixel in what was written, against values worked out by hand."""

import csv

import keras
import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp import visualization
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.labels import VOID, ClassList
from keras_psp.layers import PyramidPooling
from tests.tiny import Tiny

TWO = ClassList(["road", "other"], [(200, 0, 0), (0, 0, 100)])


def read(file):
    return np.asarray(Image.open(file).convert("RGB"))


def has_color(picture, color):
    """Whether a noticeable part of the picture, not only single pixels, has exactly this color."""
    return (picture == np.asarray(color)).all(-1).sum() > 50


# Label maps as colors --------------------------------------------------------------------------


def test_every_class_has_its_color_and_void_is_black():
    labels = np.array([*range(11), VOID])
    assert visualization.colorize(labels).tolist() == [*map(list, CAMVID.colors), [0, 0, 0]]


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


# Overlays ---------------------------------------------------------------------------------------


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


# Errors -----------------------------------------------------------------------------------------

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


def test_errors_of_each_class_add_up_to_the_scores():
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
    with pytest.raises(ValueError, match=rf"void is no class\. Received: label={label!r}\. Find"):
        visualization.error_map(np.zeros((4, 5), int), np.zeros((4, 5), int), label)


@pytest.fixture
def figure(monkeypatch):
    """Figures come back as Matplotlib holds them, so that their panels can be looked into."""
    from keras_psp.visualization import pictures

    monkeypatch.setattr(pictures, "_finish", lambda figure, file: figure)


def test_each_class_has_its_panel_with_errors_and_iou(figure):
    truth = np.full((20, 30), 5)
    truth[:10] = 10
    truth[:, :3] = VOID
    prediction = np.full((20, 30), 5)
    prediction[:5] = 10
    prediction[:, :3] = 2  # counts nowhere, and has no panel
    shown = visualization.class_errors(None, np.zeros((20, 30, 3)), truth, prediction)
    panels = [axes for axes in shown.axes if axes.images]
    titles = [panel.get_title() for panel in panels]
    assert titles == ["Image", "Road, IoU 0.667", "Bicyclist, IoU 0.500"]
    for panel, label in zip(panels[1:], (5, 10), strict=True):
        expected = visualization.error_map(truth, prediction, label)
        assert np.array_equal(panel.images[0].get_array(), expected)
    names = [text.get_text() for text in shown.legends[0].get_texts()]
    assert names == ["Hit", "Miss", "False alarm", "Other class", "Void"]


@pytest.mark.parametrize("names", ["Tree", ["Tree", "Sky", "Car", "Road", "Fence"]])
def test_chosen_classes(figure, names):
    labels = np.full((20, 30), 1)
    shown = visualization.class_errors(None, np.zeros((20, 30, 3)), labels, labels, names)
    titles = [axes.get_title() for axes in shown.axes if axes.images]
    absent = [] if names == "Tree" else [f"{name}, absent" for name in names[1:]]
    assert titles == ["Image", "Tree, IoU 1.000", *absent]


def test_errors_of_a_class_that_there_is_not():
    labels = np.zeros((4, 5), int)
    with pytest.raises(ValueError, match=r"Received: class='Cra'\. Did you mean 'Car'\?"):
        visualization.class_errors(None, np.zeros((4, 5, 3)), labels, labels, "Cra")
    with pytest.raises(ValueError, match=r"0 … 1 or 255 .* Received: label=2\. "):
        visualization.class_errors(None, np.zeros((4, 5, 3)), labels, labels + 2, classes=TWO)


# Pyramid pooling --------------------------------------------------------------------------------


def pyramid(bins):
    """A model whose pyramid passes the red of an image on."""
    image = keras.Input((None, None, 3))
    layer = PyramidPooling(bins, filters=1, epsilon=1e-12)
    model = keras.Model(image, layer(image))
    for convolution in layer.convolutions:
        convolution.set_weights([np.array([1.0, 0, 0]).reshape(1, 1, 3, 1)])
    return model


@pytest.mark.parametrize("bins", [(1,), (2, 1), (3, 4, 12)])
def test_pyramid_shows_the_cells_of_every_level(figure, bins):
    image = np.random.default_rng(0).integers(0, 256, (12, 24, 3), "uint8")
    shown = visualization.pyramid_activations(None, pyramid(bins), image)
    panels = [axes for axes in shown.axes if axes.images]
    maps = [np.asarray(panel.images[0].get_array()) for panel in panels]
    above, below = maps[: 1 + len(bins)], maps[1 + len(bins) :]
    assert np.array_equal(above[0], image)
    strength = f"strength {np.sqrt((image.astype(float) ** 2).mean()):.2f}"
    assert panels[1 + len(bins)].get_title() == f"Features, {strength}"
    for i, b in enumerate(bins, 1):
        red = image[..., 0].reshape(b, 12 // b, b, 24 // b).mean((1, 3))
        strength = f"strength {np.sqrt((red**2).mean()):.2f}"
        assert panels[i].get_title() == f"{b}×{b} cells, {strength}"
        # One channel has one component, which becomes red; its mean is 0.5.
        change = red - red.mean()
        expected = 0.5 + 0.5 * change / max(np.abs(change).max(), 1e-9)
        np.testing.assert_allclose(above[i][..., 0], expected, atol=1e-5)
        np.testing.assert_allclose(above[i][..., 1:], 0.5, atol=1e-5)
        assert below[i].shape == (12, 24, 3)
        # Aligned corners.
        rows, columns = (np.round(np.linspace(0, n - 1, min(b, 2))).astype(int) for n in (12, 24))
        expected = above[i][:: max(b - 1, 1), :: max(b - 1, 1)]
        np.testing.assert_allclose(below[i][np.ix_(rows, columns)], expected, atol=1e-5)


def test_features_alike_have_colors_alike(figure):
    # Red, green and blue among eight channels, of which three components lose nothing: colors lie
    # as far from each other as features do.
    image = keras.Input((None, None, 3))
    features = keras.layers.Dense(8)
    model = keras.Model(image, PyramidPooling((1,))(features(image)))
    features.set_weights([np.eye(3, 8, k=4), np.zeros(8)])
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), "uint8")
    shown = visualization.pyramid_activations(None, model, pixels)
    colors = np.asarray(shown.axes[2].images[0].get_array()).reshape(-1, 3)
    far, near = (
        np.linalg.norm(x[:, None] - x, axis=-1) for x in (pixels.reshape(-1, 3) / 255, colors)
    )
    np.testing.assert_allclose(near, far * near.max() / far.max(), atol=1e-5)
    assert 0 <= colors.min() < colors.max() <= 1
    # The first of them is the one in which they differ most.
    assert (np.diff(colors.var(0)) < 0).all()


def test_pyramid_of_a_model_without_one():
    message = r"Only a model with a PyramidPooling layer .* Received: model 'tiny"
    with pytest.raises(ValueError, match=message):
        visualization.pyramid_activations(None, Tiny(), np.zeros((8, 8, 3)))


# Files ------------------------------------------------------------------------------------------


def test_label_maps_come_back_unchanged(tmp_path):
    labels = np.random.default_rng(0).permutation(np.arange(256)).reshape(16, 16)
    file = visualization.write_image(tmp_path / "new" / "folder" / "labels.png", labels)
    image = Image.open(file)
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), labels)


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


def test_gallery_shows_truth_prediction_and_errors(tmp_path):
    truth = np.full((40, 60), 5)
    truth[:, :20] = 2
    truth[:10] = VOID
    prediction = np.full((40, 60), 5)
    prediction[:, 40:] = 3
    file = visualization.segmentation_gallery(
        tmp_path / "gallery.png", np.full((1, 40, 60, 3), 77, "uint8"), [truth], [prediction]
    )
    picture = read(file)
    for label in (2, 3, 5):
        assert has_color(picture, CAMVID.colors[label])
    assert has_color(picture, (77, 77, 77))
    assert has_color(picture, visualization.VOID_COLOR)
    assert not has_color(picture, CAMVID.colors[9])  # the legend shows what occurs

    # A third of the valid pixels is right: columns 20 to 39 of 60.
    errors = picture[:, -picture.shape[1] // 4 :]
    right = (errors == visualization.RIGHT).all(-1).sum()
    wrong = (errors == visualization.WRONG).all(-1).sum()
    assert right / (right + wrong) == pytest.approx(1 / 3, abs=0.03)


def test_gallery_of_images_of_different_sizes(tmp_path):
    images = [np.zeros((20, 30, 3)), np.zeros((30, 20, 3))]
    labels = [np.zeros((20, 30), int), np.zeros((30, 20), int)]
    file = visualization.segmentation_gallery(tmp_path / "a.png", images, predictions=labels)
    assert has_color(read(file), CAMVID.colors[0])


def test_gallery_of_void_alone(tmp_path):
    void = np.full((1, 20, 30), VOID)
    picture = read(
        visualization.segmentation_gallery(
            tmp_path / "a.png", np.zeros((1, 20, 30, 3)), void, np.zeros_like(void)
        )
    )
    above_the_legend = picture[: picture.shape[0] // 2]
    assert has_color(above_the_legend, visualization.VOID_COLOR)
    assert not has_color(above_the_legend, visualization.RIGHT)
    assert not has_color(above_the_legend, visualization.WRONG)


@pytest.mark.parametrize("images, labels", [(0, 0), (2, 1)])
def test_gallery_counts_its_pictures(tmp_path, images, labels):
    message = rf"Received: {images} of 'Image', {labels} of 'Truth'\."
    with pytest.raises(ValueError, match=message):
        visualization.segmentation_gallery(
            tmp_path / "a.png", np.zeros((images, 8, 8, 3)), np.zeros((labels, 8, 8), int)
        )
    assert not list(tmp_path.iterdir())


def test_gallery_of_the_highest_class_and_of_void(figure):
    many = ClassList([f"class {k}" for k in range(254)])
    truth, prediction = np.full((2, 1, 20, 30), 253)
    truth[:, :10] = VOID
    shown = visualization.segmentation_gallery(
        None, [np.zeros((20, 30, 3))], truth, prediction, many
    )
    _, of_truth, of_prediction, of_errors = (axes.images[0].get_array() for axes in shown.axes)
    for picture, upper, lower in [
        (of_truth, visualization.VOID_COLOR, many.colors[253]),
        (of_prediction, many.colors[253], many.colors[253]),
        (of_errors, visualization.VOID_COLOR, visualization.RIGHT),
    ]:
        assert (picture[:10] == upper).all()
        assert (picture[10:] == lower).all()
    (legend,) = shown.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["class 253", "Void", "Right", "Wrong"]
    colors = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    np.testing.assert_allclose(colors[0], np.array(many.colors[253]) / 255)
    assert shown.axes[3].texts[0].get_text() == "100.0% right"


def test_galleries_with_a_whole_legend_are_of_one_size():
    images, truth = np.zeros((1, 20, 30, 3)), np.zeros((1, 20, 30), int)
    predictions = [truth, np.arange(600).reshape(1, 20, 30) % 11]
    whole, sparing = (
        {
            visualization.segmentation_gallery(
                None, images, truth, p, whole_legend=whole_legend
            ).size
            for p in predictions
        }
        for whole_legend in (True, False)
    )
    assert len(whole) == 1
    assert len(sparing) == 2


IMAGE, LABELS = np.full((20, 30, 3), 77), np.full((20, 30), 5)


@pytest.mark.parametrize(
    "draw",
    [
        visualization.legend,
        lambda file: visualization.segmentation_gallery(file, [IMAGE], [LABELS], [LABELS]),
        lambda file: visualization.segmentation_gallery(file, [IMAGE]),
        lambda file: visualization.class_errors(file, IMAGE, LABELS, LABELS),
        lambda file: visualization.pyramid_activations(file, pyramid((1, 2)), IMAGE),
        lambda file: visualization.training_curves(file, HISTORY),
        lambda file: visualization.per_class_bars(file, [0.8, 0.4], TWO),
        lambda file: visualization.degradation_curves(
            file, {("plain-20", 1): [{"step": 1, "train_error": 0.5, "test_error": 0.6}]}
        ),
    ],
)
def test_without_a_file_a_figure_is_the_picture_itself(draw, tmp_path):
    picture = draw(None)
    assert not list(tmp_path.iterdir())
    assert picture._repr_png_()  # which notebooks show
    assert np.array_equal(np.asarray(picture), read(draw(tmp_path / "a.png")))


def test_legend_has_every_color(tmp_path):
    picture = read(visualization.legend(tmp_path / "legend.png"))
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
    first = visualization.training_curves(tmp_path / "a.png", HISTORY)
    second = visualization.training_curves(tmp_path / "b.png", tmp_path / "history.csv")
    assert np.array_equal(read(first), read(second))


def test_curves_draw_what_they_are_given(tmp_path):
    plain = read(visualization.training_curves(tmp_path / "a.png", {"loss": [2.0, 1.0, 0.5]}))
    scored = read(visualization.training_curves(tmp_path / "b.png", HISTORY))
    assert scored.shape[1] > 2.5 * plain.shape[1]  # three panels instead of one
    other = {**HISTORY, "val_mean_iou": [0.1, 0.2, 0.3]}
    assert not np.array_equal(
        scored, read(visualization.training_curves(tmp_path / "c.png", other))
    )


def test_curves_of_one_epoch_and_of_unequal_rows(tmp_path):
    lines = "epoch,loss,val_mean_iou\n0,2.0,\n1,1.0\n"
    (tmp_path / "history.csv").write_text(lines)
    visualization.training_curves(tmp_path / "a.png", tmp_path / "history.csv")
    visualization.training_curves(tmp_path / "b.png", {"loss": [1.0], "val_mean_iou": [0.2]})


def test_curves_need_an_epoch(tmp_path):
    with pytest.raises(ValueError, match=r"Received: history with columns \['loss'\] and no row"):
        visualization.training_curves(tmp_path / "a.png", {"loss": []})


def test_bars_are_as_long_as_their_scores(tmp_path):
    picture = read(visualization.per_class_bars(tmp_path / "a.png", [0.8, 0.4], TWO))
    lengths = [(picture == color).all(-1).any(0).sum() for color in TWO.colors]
    assert lengths[0] / lengths[1] == pytest.approx(2, rel=0.02)


def test_bars_leave_absent_classes_out(tmp_path):
    picture = read(visualization.per_class_bars(tmp_path / "a.png", [0.5, float("nan")], TWO))
    assert has_color(picture, TWO.colors[0])
    assert not has_color(picture, TWO.colors[1])
    visualization.per_class_bars(tmp_path / "b.png", [float("nan")] * 2, TWO)


def test_bars_need_a_score_for_each_class(tmp_path):
    with pytest.raises(ValueError, match=r"iou of shape \(2,\), 11 classes"):
        visualization.per_class_bars(tmp_path / "a.png", [0.5, 0.5])
