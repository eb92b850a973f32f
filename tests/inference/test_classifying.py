"""Classifying by crops, at every place and by several models: scores worked out by hand."""

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_psp.data.resizing import scaled_size
from keras_psp.inference.classifying import classify, cut_views
from keras_psp.inference.views import VIEWS, Views


def randomize(model):
    """Biases and moving statistics too must differ from what they start as."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        name = variable.path.rpartition("/")[2]
        if name in ("bias", "beta", "moving_mean"):
            variable.assign(rng.normal(scale=0.3, size=variable.shape))
        elif name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif name == "kernel":
            fan_in = np.prod(variable.shape[:-1])
            variable.assign(rng.standard_normal(variable.shape, "float32") * fan_in**-0.5)
    return model


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def noise(*shape):
    return np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype("uint8")


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


# Views -------------------------------------------------------------------------------------------


def test_crops_show_the_places_that_they_come_from():
    # From 512×640 to 320×256 pixels: a pixel there lies between two of here, 2 x + 0.5. Bytes
    # hold coordinates up to 255: here they are divided by four.
    y, x = np.mgrid[:640, :512]
    picture = np.stack([x / 4, y / 4, 0 * x], axis=-1)
    found = cut_views(picture, views="10_crops")
    assert {crop.shape for crop in found} == {(224, 224, 3)}
    corners = [(0, 32), (32, 32), (0, 64), (32, 64), (16, 48)]  # x, y at 256×320
    for crop, mirrored, (left, top) in zip(found[::2], found[1::2], corners, strict=True):
        y, x = np.mgrid[top : top + 224, left : left + 224]
        np.testing.assert_allclose(crop[..., 0], (2 * x + 0.5) / 4, atol=1)
        np.testing.assert_allclose(crop[..., 1], (2 * y + 0.5) / 4, atol=1)
        np.testing.assert_array_equal(mirrored, crop[:, ::-1])


def test_whole_squares_are_resized_to_the_crops_size():
    y, x = np.mgrid[:256, :256]
    found = cut_views(np.stack([x, y, 0 * x], axis=-1), 256, Views(crops=("square",)))
    assert [crop.shape for crop in found] == [(224, 224, 3)]
    # The center of column 100 of 224 lies at 100.5 · 256 / 224 - 0.5 of 256.
    places = (np.arange(224) + 0.5) * 256 / 224 - 0.5
    np.testing.assert_allclose(found[0][0, :, 0], places, atol=0.51)
    np.testing.assert_allclose(found[0][:, 0, 1], places, atol=0.51)


def test_the_papers_views_are_as_many_as_there():
    picture = noise(100, 150)
    names = list(VIEWS)[list(VIEWS).index("center_crop") :]  # the others are for segmenting
    numbers = {name: len(cut_views(picture, views=name)) for name in names}
    assert numbers == {
        "center_crop": 1,
        "10_crops": 10,
        "144_crops": 144,
        "dense_256": 2,
        "dense_384": 2,
        "dense_multi_scale_256": 6,
        "dense_multi_scale_384": 6,
        "dense_multi_scale": 6,
        "resnet_multi_scale": 10,
    }
    assert {view.shape for view in cut_views(picture, views="144_crops")} == {(224, 224, 3)}
    heights = [view.shape[:2] for view in cut_views(picture, views="resnet_multi_scale")]
    scales = [(224, 336), (256, 384), (384, 576), (480, 720), (640, 960)]
    assert heights == [scale for scale in scales for _ in range(2)]


def test_the_aspect_ratio_is_kept():
    assert scaled_size(500, 375, 256) == (341, 256)
    assert scaled_size(375, 500, 640) == (640, 853)
    assert scaled_size(100, 100, 352) == (352, 352)


def test_images_may_be_files(tmp_path):
    picture = noise(256, 300)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    (crop,) = cut_views(tmp_path / "photo.png")
    np.testing.assert_array_equal(crop, picture[16:240, 38:262])


def test_windows_of_a_small_image_are_the_image():
    picture = noise(40, 30)
    found = cut_views(picture, None, Views((36, 20), stride=0.5), crop_size=20)
    assert [view.shape for view in found] == 4 * [(36, 20, 3)]
    np.testing.assert_array_equal(found[-1], picture[4:, 10:])
    (whole,) = cut_views(picture, None, Views(50), crop_size=20)
    np.testing.assert_array_equal(whole, picture)


def test_wrong_views_are_errors():
    with pytest.raises(ValueError, match=r"Received: set of views='dense'. Did you mean 'dense_"):
        cut_views(noise(9, 9), views="dense")
    with pytest.raises(ValueError, match=r"a view of 224×300 \(height×width\), crop_size=227"):
        cut_views(noise(224, 300), None, "single", crop_size=227)
    with pytest.raises(ValueError, match=r"at least 1\. Received: image_size=0"):
        cut_views(noise(9, 9), 0)


# Classifying -------------------------------------------------------------------------------------


def linear(kernel, size=(None, None), activation="softmax"):
    """Scores are the mean color, 0–1, times a matrix."""
    image = keras.Input((*size, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image))
    kernel = np.asarray(kernel, "float32")
    model = keras.Model(image, layers.Dense(kernel.shape[1], activation, use_bias=False)(x))
    model.set_weights([kernel])
    return model


KERNEL = np.array([[4, 0, 1, -2], [0, 3, -3, 1], [1, 1, 0, 5]])
OTHER = np.array([[0, 2, 1, -2], [1, 3, 3, 0], [-4, 1, 2, 5]])
TEN = Views(crops=("corners", "center"), mirror=True)


def means(picture, boxes, size):
    """Mean colors, 0–1, of squares whose upper left corners are given."""
    return np.array([picture[y : y + size, x : x + size].mean((0, 1)) for y, x in boxes]) / 255


@pytest.mark.parametrize("activation", ["softmax", None])
def test_probabilities_of_crops_are_averaged(activation):
    pictures = [noise(8, 8), noise(8, 11), noise(13, 8)]
    found = classify(linear(KERNEL, (5, 5), activation), pictures, 8, TEN, batch_size=4)
    assert found.shape == (3, 4)
    for answer, picture, (top, left) in zip(found, pictures, [(0, 0), (0, 1), (2, 0)], strict=True):
        # The crops' colors do not change when they are mirrored.
        boxes = [(top + y, left + x) for y, x in [(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]]
        expected = softmax(means(picture, boxes, 5) @ KERNEL).mean(axis=0)
        np.testing.assert_allclose(answer, expected, rtol=1e-5)


def test_a_network_sees_the_mirrored_crops_too():
    image = keras.Input((4, 4, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    model = randomize(keras.Model(image, layers.Dense(3, "softmax")(x)))
    picture = noise(4, 4)
    found = classify(model, [picture], 4, Views(crops=("center",), mirror=True))
    both = outputs(model, np.stack([picture, picture[:, ::-1]]))
    np.testing.assert_allclose(found[0], both.mean(0), rtol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 0.01


@pytest.mark.parametrize("activation", ["softmax", None])
def test_scores_of_a_class_map_are_averaged_first(activation):
    pictures = [noise(6, 7), noise(7, 6), noise(6, 7)[::-1]]
    views = Views(scales=(1, 2), mirror=True)
    found = classify(linear(KERNEL, (4, 4), activation), pictures, 6, views)
    for answer, picture in zip(found, pictures, strict=True):
        posteriors = []
        for view in cut_views(picture, 6, views, crop_size=4):
            height, width = view.shape[:2]
            boxes = list(np.ndindex(height - 3, width - 3))
            posteriors.append(softmax((means(view, boxes, 4) @ KERNEL).mean(axis=0)))
        assert len(posteriors) == 4
        np.testing.assert_allclose(answer, np.mean(posteriors, axis=0), rtol=1e-5)


def test_every_model_gets_crops_of_its_size():
    picture = noise(8, 8)
    models = [linear(KERNEL, (4, 4)), linear(OTHER, (6, 6)), linear(OTHER, (4, 4), None)]
    found = classify(models, [picture], 8)
    expected = [
        softmax(means(picture, [(2, 2)], 4) @ KERNEL),
        softmax(means(picture, [(1, 1)], 6) @ OTHER),
        softmax(means(picture, [(2, 2)], 4) @ OTHER),
    ]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-5)
    # A model that takes any size gets what it is told, 224 otherwise.
    alone = classify(linear(KERNEL), [picture], 8, crop_size=4)
    np.testing.assert_allclose(alone, expected[0], rtol=1e-5)
    with pytest.raises(ValueError, match="crop_size=224"):
        classify(linear(KERNEL), [picture], 8)


def test_windows_of_an_image_are_averaged():
    # An image of 4×8 has three windows of 4×6, and a window has three places of 4×4.
    small, large = noise(4, 6), noise(4, 8)
    views = Views((4, 6), stride=1 / 6)
    found = classify(linear(KERNEL, (4, 4)), [large, small], 4, views)
    windows = [large[:, start : start + 6] for start in range(3)]
    expected = [
        softmax((means(window, [(0, x) for x in range(3)], 4) @ KERNEL).mean(axis=0))
        for window in [*windows, small]
    ]
    np.testing.assert_allclose(found[0], np.mean(expected[:3], axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[3], rtol=1e-5)


def test_arrays_and_every_batch_size_agree(capsys):
    pictures = noise(5, 9, 12)
    model = linear(KERNEL, (5, 5))
    found = classify(model, pictures, 8, TEN, progress=True)
    assert "5/5" in capsys.readouterr().out
    again = classify(model, list(pictures), 8, TEN, batch_size=3)
    np.testing.assert_allclose(again, found, rtol=1e-6)
    assert classify(model, pictures[:0], 8, TEN).shape == (0, 4)


def test_what_cannot_classify_is_an_error():
    picture = noise(256, 256)
    with pytest.raises(ValueError, match=r"same classes. Received: 2 models, of \[3, 4\] classes"):
        classify([linear(KERNEL), linear(np.eye(3))], [picture])
    with pytest.raises(ValueError, match="Received: 0 models"):
        classify([], [picture])
    with pytest.raises(ValueError, match="last layer is a Dense with activation=sigmoid"):
        classify(linear(KERNEL, activation="sigmoid"), [picture])
    with pytest.raises(ValueError, match=r"crop_size=4 for .*, which takes \(5, 5\)"):
        classify(linear(KERNEL, (5, 5)), [picture], crop_size=4)
    with pytest.raises(ValueError, match=r"crop_size=None for .*, which takes \(5, 6\)"):
        classify(linear(KERNEL, (5, 6)), [picture])
    with pytest.raises(ValueError, match=r"at least 1\. Received: batch_size=0"):
        classify(linear(KERNEL), [picture], batch_size=0)
    with pytest.raises(ValueError, match="must be RGB, 0–255"):
        classify(linear(KERNEL), picture)  # no batch
