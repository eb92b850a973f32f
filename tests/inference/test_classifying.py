"""Classifying at every place, by crops and by several models: scores worked out by hand."""

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import keras_psp
from keras_psp.data.resizing import scaled_size
from keras_psp.inference.classifying import classify, cut_views, to_fully_convolutional
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


# Fully convolutional networks --------------------------------------------------------------------


def dense_by_hand(model, features, window):
    """The fully connected layers of a classifier at every window of the features, in NumPy."""
    height, width = window
    _, rows, columns, _ = features.shape
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    answers = np.zeros((rows - height + 1, columns - width + 1, dense[-1].units))
    for i, j in np.ndindex(answers.shape[:2]):
        cut = features[0, i : i + height, j : j + width].astype("float64")
        x = cut.reshape(-1) if len(dense) > 1 else cut.mean((0, 1))
        for layer in dense:
            kernel, bias = layer.get_weights()
            x = x @ kernel + bias
            x = np.maximum(x, 0) if layer is not dense[-1] else x
        answers[i, j] = x
    return answers


# network, what it is called with, training size, a larger size, features of both
NETWORKS = [
    (keras_psp.AlexNet, {"input_shape": (99, 131, 3)}, (99, 131), (131, 195), (2, 3), (3, 5)),
    (keras_psp.VGG, {"input_shape": (64, 96, 3)}, (64, 96), (96, 170), (2, 3), (3, 5)),
    (keras_psp.Inception, {"input_shape": (65, 97, 3)}, (65, 97), (100, 129), (3, 4), (4, 5)),
    (keras_psp.ResNet, {"variant": "resnet18"}, (64, 96), (96, 161), (2, 3), (3, 6)),
]


@pytest.mark.parametrize(
    "builder, options, trained, larger, window, places",
    NETWORKS,
    ids=["alexnet", "vgg", "googlenet", "resnet"],
)
def test_the_same_answer_at_the_training_size_and_the_windows_answers_beyond(
    builder, options, trained, larger, window, places
):
    options = {"weights": None, "classifier_activation": None, **options}
    model = randomize(builder(num_classes=7, **options))
    everywhere = to_fully_convolutional(model, trained)
    assert everywhere.input_shape == (None, None, None, 3)

    x = noise(2, *trained)
    expected = outputs(model, x)
    scale = np.abs(expected).max()
    answer = outputs(everywhere, x)
    assert answer.shape == (2, 1, 1, 7)
    np.testing.assert_allclose(answer[:, 0, 0], expected, rtol=0, atol=1e-5 * scale)

    features = keras.Model(model.inputs, last_map(model))
    headless = builder(**{**options, "input_shape": (None, None, 3), "include_top": False})
    headless.set_weights(features.get_weights())
    x = noise(1, *larger)
    features = outputs(headless, x)
    assert features.shape[1:3] == places
    by_hand = dense_by_hand(model, features, window)
    assert by_hand.std(axis=(0, 1)).min() > 1e-3 * scale  # the places differ
    np.testing.assert_allclose(outputs(everywhere, x)[0], by_hand, rtol=0, atol=2e-5 * scale)


def last_map(model):
    return [layer.output for layer in model.layers if len(layer.output.shape) == 4][-1]


@pytest.mark.parametrize("pooled", [False, True])
def test_without_padding_every_place_is_the_classifiers_answer_to_its_window(pooled):
    image = x = keras.Input((9, 13, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(5, 3, 2, activation="relu")(x)
    if pooled:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    else:
        x = layers.Dense(6, "relu", name="hidden")(layers.Flatten()(x))
    x = layers.Dense(4, use_bias=False)(layers.Dropout(0.5)(x))
    model = randomize(keras.Model(image, layers.Activation("softmax")(x)))
    x = noise(2, 14, 20)
    answer = outputs(to_fully_convolutional(model), x)
    assert answer.shape == (2, 3, 4, 4)
    for i, j in np.ndindex(3, 4):
        window = x[:, 2 * i : 2 * i + 9, 2 * j : 2 * j + 13]
        np.testing.assert_allclose(answer[:, i, j], outputs(model, window), atol=1e-6)


def test_vggs_map_has_the_papers_size():
    # Zeros: of the first fully connected layer alone there are a hundred million weights.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            keras.initializers.VarianceScaling,
            "__call__",
            lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
        )
        everywhere = to_fully_convolutional(keras_psp.VGG("A", weights=None))
    assert everywhere.get_layer("fc1").kernel.shape == (7, 7, 512, 4096)
    assert everywhere.count_params() == 132_863_336
    for side, places in ((224, 1), (256, 2), (384, 6), (512, 10)):
        shape = everywhere.compute_output_shape((1, side, side + 32, 3))
        assert shape == (1, places, places + 1, 1000)


def test_by_default_the_training_size_is_the_models_or_its_variants(tmp_path):
    model = keras_psp.ResNet("resnet18", weights=None, num_classes=3)
    assert to_fully_convolutional(model).get_layer("average_pool").pool_size == (7, 7)
    keras_psp.ResNet("plain20", weights=None).save(tmp_path / "plain.keras")
    again = keras.saving.load_model(tmp_path / "plain.keras")
    assert to_fully_convolutional(again).get_layer("average_pool").pool_size == (8, 8)
    model = keras_psp.ResNet("resnet20", weights=None, input_shape=(32, None, 3))
    assert to_fully_convolutional(model, (32, 48)).get_layer("average_pool").pool_size == (8, 12)
    model = keras_psp.ResNet("resnet20", weights=None, input_shape=(32, 40, 3))
    assert to_fully_convolutional(model).get_layer("average_pool").pool_size == (8, 10)
    with pytest.raises(ValueError, match=r"image_size=\(224, 224\) for resnet20, which takes \(32"):
        to_fully_convolutional(model, (224, 224))


def test_it_is_a_model_of_its_own_and_comes_back_from_a_file(tmp_path):
    model = randomize(keras_psp.ResNet("resnet20", weights=None, input_shape=(32, 32, 3)))
    everywhere = to_fully_convolutional(model)
    x = noise(1, 40, 48)
    before = outputs(everywhere, x)
    np.testing.assert_allclose(before.sum(-1), 1, rtol=1e-5)  # probabilities, as the classifier's
    for variable in model.variables:
        variable.assign(keras.ops.zeros_like(variable))
    everywhere.save(tmp_path / "everywhere.keras")
    again = keras.saving.load_model(tmp_path / "everywhere.keras")
    np.testing.assert_allclose(outputs(again, x), before, atol=1e-6)
    assert again.initial_weights == "random values, as asked"


def test_it_works_for_a_sequential_model():
    parts = [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)]
    model = keras.Sequential([keras.Input((6, 6, 3)), *parts])
    x = noise(1, 6, 6)
    np.testing.assert_allclose(
        outputs(to_fully_convolutional(model), x)[:, 0, 0], outputs(model, x), rtol=1e-4
    )


def test_another_end_is_an_error():
    image = keras.Input((8, 8, 3))
    pooled = layers.GlobalAveragePooling2D()(image)
    for end in (
        layers.Conv2D(4, 1)(image),
        pooled,
        layers.Dense(3)(pooled) / 2,
        layers.Concatenate()([layers.Dense(3)(pooled), layers.Dense(4)(pooled)]),
        layers.Dense(3)(layers.GlobalMaxPooling2D()(image)),
        layers.Dense(3)(layers.Flatten("channels_first")(image)),
    ):
        with pytest.raises(ValueError, match=r"must end in Flatten or GlobalAverage.*Received: "):
            to_fully_convolutional(keras.Model(image, end))


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
    with pytest.raises(ValueError, match=r"or the shorter side\. Received: image_size=0"):
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
    with pytest.raises(ValueError, match="must be RGB, 0–255"):
        classify(linear(KERNEL), picture)  # no batch
