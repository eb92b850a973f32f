"""Classifiers turned into networks that classify at every place."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_psp
from keras_psp.models import to_fully_convolutional


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def noise(*shape):
    return np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype("uint8")


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
def test_the_classifiers_answer_at_every_window(
    builder, options, trained, larger, window, places, randomize
):
    options = {"weights": None, "classifier_activation": None, **options}
    model = builder(num_classes=7, **options)
    randomize(model)
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
def test_without_padding_a_place_answers_for_its_window(pooled, set_random_weights):
    image = x = keras.Input((9, 13, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(5, 3, 2, activation="relu")(x)
    if pooled:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    else:
        x = layers.Dense(6, "relu", name="hidden")(layers.Flatten()(x))
    x = layers.Dense(4, use_bias=False)(layers.Dropout(0.5)(x))
    model = set_random_weights(keras.Model(image, layers.Activation("softmax")(x)))
    x = noise(2, 14, 20)
    answer = outputs(to_fully_convolutional(model), x)
    assert answer.shape == (2, 3, 4, 4)
    for i, j in np.ndindex(3, 4):
        window = x[:, 2 * i : 2 * i + 9, 2 * j : 2 * j + 13]
        np.testing.assert_allclose(answer[:, i, j], outputs(model, window), atol=1e-6)


def test_vggs_map_has_the_papers_size():
    everywhere = to_fully_convolutional(keras_psp.VGG("A", weights=None))
    assert everywhere.get_layer("fc1").kernel.shape == (7, 7, 512, 4096)
    assert everywhere.count_params() == 132_863_336
    for side, places in ((224, 1), (256, 2), (384, 6), (512, 10)):
        shape = everywhere.compute_output_shape((1, side, side + 32, 3))
        assert shape == (1, places, places + 1, 1000)


def test_the_default_size_is_the_models_or_variants(tmp_path):
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


def test_it_is_independent_and_comes_back_from_files(tmp_path, set_random_weights):
    model = set_random_weights(keras_psp.ResNet("resnet20", weights=None, input_shape=(32, 32, 3)))
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
