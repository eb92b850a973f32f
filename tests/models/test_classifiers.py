"""AlexNet, VGG and the Inceptions against `keras.applications`, PyTorch and the papers' counts."""

import re

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.keras_internals import layers_in
from keras_psp.models.googlenet import MODULES


def trainable_parameters(builder, *arguments, **options):
    # Shapes are enough: in this scope variables get no values.
    with keras.StatelessScope(initialize_variables=False):
        model = builder(*arguments, weights=None, **options)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    keras.utils.clear_session()
    return count


@pytest.mark.parametrize(
    "variant, letter, parameters",
    [
        ("vgg11", "A", 132_863_336),
        ("vgg11_lrn", "A-LRN", 132_863_336),
        ("vgg13", "B", 133_047_848),
        ("vgg16_c", "C", 133_638_952),
        ("vgg16", "D", 138_357_544),
        ("vgg19", "E", 143_667_240),
    ],
)
def test_parameters_of_vgg_are_those_of_the_paper(variant, letter, parameters):
    assert trainable_parameters(keras_psp.VGG, variant) == parameters
    assert trainable_parameters(keras_psp.VGG, letter) == parameters


def test_parameters_of_alexnet_are_those_of_the_paper():
    assert trainable_parameters(keras_psp.AlexNet) == 60_965_224
    assert trainable_parameters(keras_psp.AlexNet, grouped=False) == 62_378_344


def test_parameters_of_googlenet_are_those_of_the_paper():
    main, first, second = 6_998_552, 3_188_840, 3_190_888
    assert trainable_parameters(keras_psp.Inception, "googlenet") == main + first + second
    assert trainable_parameters(keras_psp.Inception, auxiliary_weight=0) == main


@pytest.mark.parametrize(
    "builder, variant, parameters",
    [
        (keras_psp.AlexNet, "alexnet_torchvision", 61_100_840),
        (keras_psp.VGG, "vgg16_torchvision", 138_357_544),
        (keras_psp.VGG, "vgg11_bn", 132_868_840),
        (keras_psp.VGG, "vgg16_bn", 138_365_992),
        (keras_psp.Inception, "inception_v3_torchvision", 23_834_568),
    ],
)
def test_parameters_of_torchvisions_networks_are_those_it_tells(builder, variant, parameters):
    assert trainable_parameters(builder, variant) == parameters


def test_parameters_of_torchvisions_googlenet_are_those_it_tells():
    options = {"auxiliary_weight": 0}
    assert (
        trainable_parameters(keras_psp.Inception, "googlenet_torchvision", **options) == 6_624_904
    )


def test_googlenet_has_the_papers_map_sizes():
    model = keras_psp.Inception("googlenet", weights=None)
    sizes = {
        "conv1": (112, 112, 64),
        "pool1": (56, 56, 64),
        "conv2": (56, 56, 192),
        "pool2": (28, 28, 192),
        "inception_3a": (28, 28, 256),
        "inception_3b": (28, 28, 480),
        "inception_4a": (14, 14, 512),
        "inception_4d": (14, 14, 528),
        "inception_4e": (14, 14, 832),
        "inception_5a": (7, 7, 832),
        "inception_5b": (7, 7, 1024),
    }
    assert {name: model.get_layer(name).output.shape[1:] for name in sizes} == sizes
    assert set(MODULES) == {n[-2:] for n in (layer.name for layer in model.layers) if "inc" in n}


@pytest.mark.parametrize(
    "builder, variant, application, size",
    [
        (keras_psp.VGG, "vgg16", keras.applications.VGG16, (40, 65)),
        (keras_psp.VGG, "vgg19", keras.applications.VGG19, (64, 33)),
        (keras_psp.Inception, "inception_v3", keras.applications.InceptionV3, (75, 99)),
    ],
)
def test_equals_keras_applications(builder, variant, application, size, randomize, image):
    # Without the 100 million weights of VGG's first fully connected layer: see the next test.
    theirs = application(include_top=False, weights=None, input_shape=(*size, 3))
    ours = builder(variant, include_top=False, weights=None)
    assert ours.count_params() == theirs.count_params()
    randomize(theirs)
    pairs = zip(by_number(ours), by_number(theirs), strict=True)
    for mine, their in pairs:
        mine.set_weights(their.get_weights())

    x = image(*size)
    mode = "caffe" if variant.startswith("vgg") else "tf"
    preprocess = keras.applications.imagenet_utils.preprocess_input
    expected = keras.ops.convert_to_numpy(theirs(preprocess(x.copy(), mode=mode)))
    outputs = keras.ops.convert_to_numpy(ours(x))
    assert expected.std() > 1e-4
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def by_number(model):
    """Layers with weights, convolutions first, in the order of the numbers in their names."""

    def number(layer):
        return [int(n) for n in re.findall(r"\d+", layer.name.replace("conv2d", ""))]

    layers = [layer for layer in model.layers if layer.weights]
    return sorted(layers, key=lambda layer: (len(layer.weights) > 2, number(layer)))


def test_vggs_classifier_equals_that_of_keras_applications(randomize, image):
    # At 32×32 one place is left, so that the whole network has 34 million weights.
    theirs = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3))
    ours = keras_psp.VGG("vgg16", weights=None, input_shape=(32, 32, 3))
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    x = image(32, 32)
    expected = theirs(keras.applications.vgg16.preprocess_input(x.copy()))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours(x)),
        keras.ops.convert_to_numpy(expected),
        rtol=1e-4,
        atol=1e-7,
    )


def test_torchvisions_googlenet_trains_and_comes_back(randomize, image, tmp_path):
    model = keras_psp.Inception(
        "googlenet_torchvision", num_classes=3, weights=None, input_shape=(79, 79, 3)
    )
    randomize(model)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    before = {v.path: keras.ops.convert_to_numpy(v).copy() for v in model.variables}
    model.train_on_batch(image(79, 79, batch=2), np.array([0, 2]))
    same = {v.path for v in model.variables if np.array_equal(v, before[v.path])}
    assert not {path for path in same if path in before and "seed" not in path}
    model.save(tmp_path / "googlenet.keras")
    again = keras.saving.load_model(tmp_path / "googlenet.keras")
    assert again.variant == "googlenet_torchvision"
    x = image(79, 79)
    np.testing.assert_allclose(again(x), model(x), rtol=1e-5)


@pytest.fixture(scope="module")
def small_googlenet():
    return keras_psp.Inception(num_classes=3, weights=None, input_shape=(65, 65, 3))


def test_googlenets_auxiliary_losses_exist_in_training_only(small_googlenet, randomize, image):
    model = small_googlenet
    randomize(model)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    x, y = image(65, 65, batch=2), np.array([0, 2])
    heads = model.auxiliary_heads
    dropouts = [head.chain[-2] for head in heads.values()]
    for layer in [model.get_layer("dropout"), *dropouts]:
        layer.rate = 0.0
    assert model(x, training=True).shape == (2, 3)
    middles = keras.Model(model.input, [model.get_layer(name).output for name in heads])
    outputs = [model(x), *map(lambda head, y: head(y), heads.values(), middles(x))]
    losses = [-np.log(keras.ops.convert_to_numpy(p)[range(2), y]).mean() for p in outputs]
    before = model.get_weights()
    loss = model.train_on_batch(x, y)
    np.testing.assert_allclose(loss, losses[0] + 0.3 * (losses[1] + losses[2]), rtol=1e-5)
    # Every variable learns, those of the auxiliary classifiers too.
    assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.set_weights(before)
    model.reset_metrics()  # Before 3.15, Keras goes on averaging.
    np.testing.assert_allclose(model.test_on_batch(x, y), losses[0], rtol=1e-5)
    assert model.predict_on_batch(x).shape == (2, 3)


def test_googlenet_comes_back_from_a_file(small_googlenet, randomize, image, tmp_path):
    randomize(small_googlenet)
    small_googlenet.get_layer("conv2").trainable = False
    small_googlenet.save(tmp_path / "googlenet.keras")
    again = keras.saving.load_model(tmp_path / "googlenet.keras")
    assert [layer.name for layer in again.layers if not layer.trainable] == ["conv2"]
    small_googlenet.get_layer("conv2").trainable = True
    assert again.initial_weights == small_googlenet.initial_weights == "random values, as asked"
    assert len(again.auxiliary_heads) == 2
    x = image(65, 65)
    for ours, theirs in zip(again.weights, small_googlenet.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(again(x), small_googlenet(x), rtol=1e-6)


def test_the_naive_module_keeps_its_inputs_channels(randomize, image):
    model = keras_psp.Inception(weights=None, naive=True, include_top=False)
    assert model.get_layer("inception_3a").output.shape[-1] == 64 + 128 + 32 + 192
    assert "reduce_3x3" not in {layer.name for layer in layers_in(model)}


@pytest.mark.parametrize(
    "builder, arguments, message",
    [
        (keras_psp.VGG, {"variant": "vgg-16"}, "variant='vgg-16'. Did you mean 'vgg16'"),
        (keras_psp.VGG, {"variant": "VGG19"}, "variant='VGG19'. Did you mean 'vgg19'"),
        (keras_psp.VGG, {"variant": "a-lrn"}, "variant='a-lrn'. Did you mean 'A-LRN'"),
        (keras_psp.VGG, {"input_shape": (32, 32, 1)}, "Received: input_shape=(32, 32, 1)."),
        (keras_psp.VGG, {"input_shape": (31, 64, 3)}, "at least 32×32 pixels. Received: input_sha"),
        (keras_psp.VGG, {"input_shape": (None, 64, 3)}, "Name the size, or pass include_top=False"),
        (keras_psp.AlexNet, {"input_shape": (66, 66, 3)}, "at least 67×67 pixels"),
        (keras_psp.Inception, {"input_shape": (None, 96, 3)}, "size, or pass auxiliary_weight=0"),
        (keras_psp.Inception, {"input_shape": (64, 64, 3)}, "at least 65×65 pixels"),
        (keras_psp.Inception, {"variant": "Inception3"}, "Did you mean 'inception_v3'"),
        (
            keras_psp.Inception,
            {"variant": "inception_v3", "naive": True},
            "Use variant='googlenet'",
        ),
        (
            keras_psp.VGG,
            {"weights": "imagenet", "num_classes": 5, "input_shape": (32, 32, 3)},
            "1000 classes. Received: weights='imagenet', num_classes=5. Use num_classes=1000, or",
        ),
    ],
)
def test_bad_arguments(builder, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        builder(**{"weights": None, **arguments})
