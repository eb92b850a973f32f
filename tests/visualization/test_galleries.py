"""Galleries, errors of classes and legends: looked up in what was written or drawn."""

import numpy as np
import pytest

from keras_psp import visualization
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.labels import VOID, ClassList

TWO = ClassList(["road", "other"], [(200, 0, 0), (0, 0, 100)])


def has_color(picture, color):
    """Whether a noticeable part of the picture, not only single pixels, has exactly this color."""
    return (picture == np.asarray(color)).all(-1).sum() > 50


def test_gallery_shows_truth_prediction_and_errors(tmp_path, read):
    truth = np.full((40, 60), 5)
    truth[:, :20] = 2
    truth[:10] = VOID
    prediction = np.full((40, 60), 5)
    prediction[:, 40:] = 3
    images = np.full((1, 40, 60, 3), 77, "uint8")
    file = tmp_path / "gallery.png"
    visualization.segmentation_gallery(file, images, [truth], [prediction], CAMVID)
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


def test_gallery_of_images_of_different_sizes(tmp_path, read):
    images = [np.zeros((20, 30, 3)), np.zeros((30, 20, 3))]
    labels = [np.zeros((20, 30), int), np.zeros((30, 20), int)]
    file = visualization.segmentation_gallery(
        tmp_path / "a.png", images, predictions=labels, classes=TWO
    )
    assert has_color(read(file), TWO.colors[0])


def test_gallery_of_void_alone(tmp_path, read):
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


def test_galleries_with_whole_legends_have_one_size():
    images, truth = np.zeros((1, 20, 30, 3)), np.zeros((1, 20, 30), int)
    predictions = [truth, np.arange(600).reshape(1, 20, 30) % 11]
    whole, sparing = (
        {
            visualization.segmentation_gallery(
                None, images, truth, p, CAMVID, whole_legend=whole_legend
            ).size
            for p in predictions
        }
        for whole_legend in (True, False)
    )
    assert len(whole) == 1
    assert len(sparing) == 2


def test_each_class_has_a_panel_with_its_iou(figure):
    truth = np.full((20, 30), 5)
    truth[:10] = 10
    truth[:, :3] = VOID
    prediction = np.full((20, 30), 5)
    prediction[:5] = 10
    prediction[:, :3] = 2  # counts nowhere, and has no panel
    image = np.zeros((20, 30, 3))
    shown = visualization.class_errors(None, image, truth, prediction, classes=CAMVID)
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
    image = np.zeros((20, 30, 3))
    shown = visualization.class_errors(None, image, labels, labels, names, CAMVID)
    titles = [axes.get_title() for axes in shown.axes if axes.images]
    absent = [] if names == "Tree" else [f"{name}, IoU –" for name in names[1:]]
    assert titles == ["Image", "Tree, IoU 1.000", *absent]


def test_errors_of_a_class_that_there_is_not():
    labels = np.zeros((4, 5), int)
    with pytest.raises(ValueError, match=r"Received: class='Cra'\. Did you mean 'Car'\?"):
        visualization.class_errors(None, np.zeros((4, 5, 3)), labels, labels, "Cra", CAMVID)
    with pytest.raises(ValueError, match=r"0 … 1 or 255 .* Received: label=2\. "):
        visualization.class_errors(None, np.zeros((4, 5, 3)), labels, labels + 2, classes=TWO)


def test_unnamed_classes_are_numbered(figure):
    image, labels = np.zeros((20, 30, 3)), np.full((20, 30), 5)
    shown = visualization.segmentation_gallery(None, [image], [labels], whole_legend=True)
    assert [text.get_text() for text in shown.legends[0].get_texts()] == ["class 5"]
    shown = visualization.class_errors(None, image, labels, labels)
    titles = [axes.get_title() for axes in shown.axes if axes.images]
    assert titles == ["Image", "class 5, IoU 1.000"]


def test_legend_has_every_color(tmp_path, read):
    picture = read(visualization.legend(tmp_path / "legend.png", CAMVID))
    assert all(has_color(picture, color) for color in CAMVID.colors)
