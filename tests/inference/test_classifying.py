"""Classifying by crops, at every place and by several models: boxes on a ramp, scores by hand."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_psp.inference.classifying import (
    POLICIES,
    ClassifierEvaluation,
    Policy,
    classify,
    crops,
    evaluate_classifier,
    scaled_size,
)


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


# Crops -------------------------------------------------------------------------------------------


def ramp(height, width):
    """A picture whose first two channels are its own x and y coordinates; integers of any size."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], axis=-1)


def corner(picture, box):
    """Where a box lies, as the picture's own pixels say: x, y of the first and of the last."""
    cut = picture[box.top : box.top + box.height, box.left : box.left + box.width]
    cut = cut[:, ::-1] if box.mirrored else cut
    assert cut.shape[:2] == (box.height, box.width)
    return (*cut[0, 0, :2], *cut[-1, -1, :2])


def test_the_single_crop_is_the_center():
    (box,) = POLICIES["single"].boxes(256, 341)
    # (341 - 256) // 2 = 42 columns to the central square, and 16 more.
    assert corner(ramp(256, 341), box) == (58, 16, 58 + 223, 16 + 223)
    (box,) = POLICIES["single"].boxes(300, 256, crop_size=227)
    assert corner(ramp(300, 256), box) == (14, 22 + 14, 14 + 226, 22 + 14 + 226)


def test_ten_crops_are_corners_and_center_of_the_central_square_and_their_mirror_images():
    picture = ramp(256, 341)
    boxes = POLICIES["10"].boxes(256, 341)
    first = [(42, 0), (74, 0), (42, 32), (74, 32), (58, 16)]  # x, y
    expected = [(x, y, x + 223, y + 223) for x, y in first]
    assert [corner(picture, box) for box in boxes[:5]] == expected
    # Mirrored, the last column comes first.
    expected = [(x + 223, y, x, y + 223) for x, y in first]
    assert [corner(picture, box) for box in boxes[5:]] == expected


@pytest.mark.parametrize("height, width", [(288, 400), (400, 288)])
def test_googlenets_crops_are_six_of_each_of_three_squares(height, width):
    picture = ramp(height, width)
    boxes = POLICIES["144"].boxes(height, width)
    assert len(boxes) == len(set(boxes)) == 36
    expected = []
    for start in (0, 56, 112):  # (400 - 288) / 2
        left, top = (start, 0) if width > height else (0, start)
        places = [(0, 0), (64, 0), (0, 64), (64, 64), (32, 32)]
        expected += [(left + x, top + y, left + x + 223, top + y + 223) for x, y in places]
        expected += [(left, top, left + 287, top + 287)]
    assert [corner(picture, box) for box in boxes[:18]] == expected
    mirrored = [(right, top, left, bottom) for left, top, right, bottom in expected]
    assert [corner(picture, box) for box in boxes[18:]] == mirrored


def test_crops_show_the_places_that_they_come_from():
    # From 512×640 to 320×256 pixels: a pixel there lies between two of here, 2 x + 0.5. Bytes
    # hold coordinates up to 255: here they are divided by four.
    y, x = np.mgrid[:640, :512]
    picture = np.stack([x / 4, y / 4, 0 * x], axis=-1)
    found = crops(picture, "10")
    assert {crop.shape for crop in found} == {(224, 224, 3)}
    corners = [(0, 32), (32, 32), (0, 64), (32, 64), (16, 48)]  # x, y at 256×320
    for crop, mirrored, (left, top) in zip(found[:5], found[5:], corners, strict=True):
        y, x = np.mgrid[top : top + 224, left : left + 224]
        np.testing.assert_allclose(crop[..., 0], (2 * x + 0.5) / 4, atol=1)
        np.testing.assert_allclose(crop[..., 1], (2 * y + 0.5) / 4, atol=1)
        np.testing.assert_array_equal(mirrored, crop[:, ::-1])


def test_whole_squares_are_resized_to_the_crops_size():
    y, x = np.mgrid[:256, :256]
    found = crops(np.stack([x, y, 0 * x], axis=-1), Policy((256,), ("square",)))
    assert [crop.shape for crop in found] == [(224, 224, 3)]
    # The center of column 100 of 224 lies at 100.5 · 256 / 224 - 0.5 of 256.
    places = (np.arange(224) + 0.5) * 256 / 224 - 0.5
    np.testing.assert_allclose(found[0][0, :, 0], places, atol=0.51)
    np.testing.assert_allclose(found[0][:, 0, 1], places, atol=0.51)


def test_the_papers_policies_have_the_papers_numbers_of_views():
    views = {name: policy.views for name, policy in POLICIES.items()}
    assert views == {
        "single": 1,
        "10": 10,
        "144": 144,
        "dense_256": 2,
        "dense_384": 2,
        "multi_scale_256": 6,
        "multi_scale_384": 6,
        "multi_scale": 6,
        "multi_scale_resnet": 10,
    }
    picture = noise(100, 150)
    for name, number in views.items():
        assert len(crops(picture, name)) == number
    assert {view.shape for view in crops(picture, "144")} == {(224, 224, 3)}
    heights = [view.shape[:2] for view in crops(picture, "multi_scale_resnet")]
    scales = [(224, 336), (256, 384), (384, 576), (480, 720), (640, 960)]
    assert heights == [scale for scale in scales for _ in range(2)]


def test_the_aspect_ratio_is_kept():
    assert scaled_size(500, 375, 256) == (341, 256)
    assert scaled_size(375, 500, 640) == (640, 853)
    assert scaled_size(100, 100, 352) == (352, 352)


def test_images_may_be_files(tmp_path):
    picture = noise(256, 300)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    (crop,) = crops(tmp_path / "photo.png")
    np.testing.assert_array_equal(crop, picture[16:240, 38:262])


def test_wrong_policies_are_errors():
    with pytest.raises(ValueError, match=r"Received: policy='dense'. Did you mean 'dense_"):
        crops(noise(9, 9), "dense")
    with pytest.raises(ValueError, match=r"Received: place='center'. Did you mean 'center'"):
        Policy(places=("center",))
    with pytest.raises(ValueError, match=re.escape("Received: scales=(256,), squares=2.")):
        Policy(squares=2)
    with pytest.raises(ValueError, match=r"Received: an image of 224×300 .*crop_size=227"):
        crops(noise(224, 300), Policy((224,)), crop_size=227)


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
TEN = Policy((8,), ("corners", "center"), mirrored=True)


def means(picture, boxes, size):
    """Mean colors, 0–1, of squares whose upper left corners are given."""
    return np.array([picture[y : y + size, x : x + size].mean((0, 1)) for y, x in boxes]) / 255


@pytest.mark.parametrize("activation", ["softmax", None])
def test_probabilities_of_crops_are_averaged(activation):
    pictures = [noise(8, 8), noise(8, 11), noise(13, 8)]
    found = classify(linear(KERNEL, (5, 5), activation), pictures, TEN, batch_size=4)
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
    found = classify(model, [picture], Policy((4,), mirrored=True))
    both = outputs(model, np.stack([picture, picture[:, ::-1]]))
    np.testing.assert_allclose(found[0], both.mean(0), rtol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 0.01


@pytest.mark.parametrize("activation", ["softmax", None])
def test_scores_of_a_class_map_are_averaged_before_the_softmax(activation):
    pictures = [noise(6, 7), noise(7, 6), noise(6, 7)[::-1]]
    policy = Policy((6, 12), places=(), mirrored=True)
    found = classify(linear(KERNEL, (4, 4), activation), pictures, policy)
    for answer, picture in zip(found, pictures, strict=True):
        posteriors = []
        for view in crops(picture, policy, crop_size=4):
            height, width = view.shape[:2]
            boxes = list(np.ndindex(height - 3, width - 3))
            posteriors.append(softmax((means(view, boxes, 4) @ KERNEL).mean(axis=0)))
        assert len(posteriors) == 4
        np.testing.assert_allclose(answer, np.mean(posteriors, axis=0), rtol=1e-5)


def test_models_are_averaged_each_with_crops_of_its_own_size():
    picture = noise(8, 8)
    models = [linear(KERNEL, (4, 4)), linear(OTHER, (6, 6)), linear(OTHER, (4, 4), None)]
    found = classify(models, [picture], Policy((8,)))
    expected = [
        softmax(means(picture, [(2, 2)], 4) @ KERNEL),
        softmax(means(picture, [(1, 1)], 6) @ OTHER),
        softmax(means(picture, [(2, 2)], 4) @ OTHER),
    ]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-5)
    # A model that takes any size gets what it is told, 224 otherwise.
    alone = classify(linear(KERNEL), [picture], Policy((8,)), crop_size=4)
    np.testing.assert_allclose(alone, expected[0], rtol=1e-5)
    with pytest.raises(ValueError, match="crop_size=224"):
        classify(linear(KERNEL), [picture], Policy((8,)))


def test_an_array_of_images_and_the_size_of_batches_make_no_difference(capsys):
    pictures = noise(5, 9, 12)
    model = linear(KERNEL, (5, 5))
    found = classify(model, pictures, TEN, progress=True)
    assert "5/5" in capsys.readouterr().out
    np.testing.assert_allclose(classify(model, list(pictures), TEN, batch_size=3), found, rtol=1e-6)
    assert classify(model, pictures[:0], TEN).shape == (0, 4)


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
    with pytest.raises(ValueError, match="must be RGB, 0–255"):
        classify(linear(KERNEL), picture)  # no batch


# Evaluating --------------------------------------------------------------------------------------

# The more red, the higher class 6; the more green, the higher class 0. Gray says nothing.
RANKS = np.arange(7) * np.array([[1], [-1], [0]])
RED, GREEN, BLUE = np.eye(3, dtype="uint8") * 255


def plain(color, *size):
    return np.full((*size, 3), color, "uint8")


def test_errors_are_those_worked_out_by_hand():
    data = [
        ([plain(RED, 9, 9), plain(RED, 5, 7)], np.array([6, 3])),  # first, fourth
        ([plain(RED, 5, 5)], np.array([1])),  # sixth
        ([plain(GREEN, 5, 8), plain(GREEN, 6, 5)], np.array([0, 4])),  # first, fifth
        # Where all classes are equal, the first ones count as the highest.
        ([plain(BLUE, 5, 5)] * 3, np.array([0, 4, 5])),
    ]
    result = evaluate_classifier(linear(RANKS, (4, 4)), data, Policy((5,)))
    assert (result.images, result.models, result.crops, result.cost) == (8, 1, 1, 1)
    assert result.top1_error == pytest.approx(5 / 8)
    assert result.top5_error == pytest.approx(2 / 8)


def test_the_cost_is_models_times_crops_times_the_work_of_one():
    data = [([plain(RED, 8, 12), plain(RED, 30, 20), plain(RED, 8, 8)], np.array([3, 3, 3]))]
    models = [linear(KERNEL, (4, 4)), linear(OTHER, (5, 5))]
    result = evaluate_classifier(models, data, TEN)
    assert (result.models, result.crops, result.cost) == (2, 10, 20)
    assert result.multiply_adds == 20 * 3 * 4
    # Of whole images 6×9 and 8×12, as the median is, there are 3×6 and 5×9 places; and mirrored.
    result = evaluate_classifier(models[0], data, Policy((6, 8), places=(), mirrored=True))
    assert result.cost == 4
    assert result.multiply_adds == 2 * (3 * 6 + 5 * 9) * 3 * 4


def test_printed_it_is_a_row():
    row = ClassifierEvaluation(50_000, 7, 144, 1_584_576_000_000, 0.2788, 0.0667)
    assert str(row) == (
        " 7 models × 144 crops = 1,008    1,584.6G multiply-adds  "
        "top-1 error 27.88%  top-5 error  6.67%"
    )
    single = ClassifierEvaluation(50_000, 1, 1, 1_572_000_000, 0.3, 0.1007)
    assert len(str(single)) == len(str(row))


def test_labels_that_are_no_classes_are_errors():
    model, images = linear(KERNEL, (4, 4)), noise(2, 5, 5)
    for labels in ([0, 4], [-1, 0], [0.0, 1.0], [[0, 1], [1, 0]], [1]):
        with pytest.raises(ValueError, match=r"from 0 to 3 for each image. Received: labels of"):
            evaluate_classifier(model, [(images, np.array(labels))], Policy((5,)))
    with pytest.raises(ValueError, match="at least one image"):
        evaluate_classifier(model, [], Policy((5,)))
