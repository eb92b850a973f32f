"""AlexNet, VGG and the Inceptions against `keras.applications`, PyTorch and the papers' counts."""

import re

import keras
import numpy as np
import pytest

import keras_psp
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


def test_googlenets_maps_have_the_sizes_of_the_papers_table():
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
