"""ResNet against `keras.applications` and the papers' parameter counts."""

import re

import keras
import numpy as np
import pytest

from keras_psp import ResNet
from keras_psp.keras_internals import layers_in
from keras_psp.models import RESNETS

numpy = keras.ops.convert_to_numpy


def trainable_parameters(variant, **options):
    # Shapes are enough: in this scope variables get no values.
    with keras.StatelessScope(initialize_variables=False):
        model = ResNet(variant, weights=None, **options)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    keras.utils.clear_session()
    return count


@pytest.mark.parametrize(
    "variant, parameters",
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50_v1b", 25_557_032),
        ("resnet101_v1b", 44_549_160),
        ("resnet152_v1b", 60_192_808),
        ("resnet269", 102_073_384),
        # The narrower deep stem has 19,232 parameters more than the 7×7: 28,512 weights for 9,408,
        # and 2 · 128 for 2 · 64 in the batch norms.
        ("resnet18_v1c", 11_689_512 + 19_232),
        ("resnet50_v1c", 25_557_032 + 19_232),
        ("resnet101_v1c", 44_549_160 + 19_232),
    ],
)
def test_parameters_are_those_of_the_paper(variant, parameters):
    assert trainable_parameters(variant) == parameters


@pytest.mark.parametrize(
    "depth, trainable, statistics",
    [
        (20, 269_722, 271_098),
        (32, 464_154, 466_426),
        (44, 658_586, 661_754),
        (56, 853_018, 857_082),
        (110, 1_727_962, 1_736_058),
    ],
)
def test_cifar_nets_have_the_papers_parameters(depth, trainable, statistics):
    with keras.StatelessScope(initialize_variables=False):
        model = ResNet(f"resnet{depth}", weights=None, input_shape=(32, 32, 3))
    assert model.output.shape == (None, 10)
    assert model.count_params() == statistics
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == trainable
    for options, more in [({"residual": False}, 0), ({"shortcut": "B"}, 2_752)]:
        assert trainable_parameters(f"resnet{depth}", **options) == trainable + more
    assert trainable_parameters(f"plain{depth}") == trainable


def test_the_deep_stem_adds_its_convolutions_parameters():
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) + 2 * (64 + 64 + 128)
    seven = 49 * 3 * 64 + 2 * 64
    # Behind it stand 128 channels in place of 64, at the two 1×1 of the first bottleneck.
    behind = 64 * (64 + 256)
    deep = trainable_parameters("resnet50_deep")
    assert deep - trainable_parameters("resnet50_v1b") == stem - seven + behind


def test_the_plain_net_has_no_shortcuts():
    residual, plain = (trainable_parameters("resnet18", residual=r) for r in (True, False))
    # Three projections, 1×1 and a batch norm each: option B.
    projections = sum(i * o + 2 * o for i, o in [(64, 128), (128, 256), (256, 512)])
    assert residual - plain == projections
    assert trainable_parameters("plain18") == plain
    # Of equal shapes a shortcut has no parameters, and so none of option A has.
    assert trainable_parameters("plain34") == trainable_parameters("resnet34", shortcut="A")


def copy_from_application(application, ours):
    """Weights from layer to layer, by the names on both sides; every tensor exactly once."""
    used = set()
    for layer in application.layers:
        if not layer.weights:
            continue
        if match := re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer.name):
            stage, block, index, kind = match.groups()
            parent = ours.get_layer(f"stage{int(stage) - 1}_block{block}")
            if index == "0":
                twin = getattr(parent, f"shortcut_{kind}")
            else:
                lists = {"conv": parent.convolutions, "bn": parent.batch_normalizations}
                twin = lists[kind][int(index) - 1]
        else:
            names = {"conv1_conv": "stem_conv1", "conv1_bn": "stem_bn1"}
            twin = ours.get_layer(names.get(layer.name, layer.name))
        assert id(twin) not in used
        used.add(id(twin))
        twin.set_weights(layer.get_weights())
    assert len(used) == sum(bool(layer.weights) for layer in flat_layers(ours))


def flat_layers(model):
    return [layer for layer in layers_in(model) if not layers_in(layer)]


@pytest.mark.parametrize(
    "depth, parameters", [(50, 25_636_712), (101, 44_707_176), (152, 60_419_944)]
)
def test_equals_keras_applications(depth, parameters, randomize, image):
    application = getattr(keras.applications, f"ResNet{depth}")(
        weights=None, input_shape=(64, 65, 3), classifier_activation=None
    )
    randomize(application)
    ours = ResNet(f"resnet{depth}", weights=None)
    assert ours.layers[-1].activation is keras.activations.softmax
    # On logits: a softmax makes more of the rounding of large ones.
    ours.layers[-1].activation = keras.activations.linear
    assert ours.count_params() == application.count_params() == parameters
    copy_from_application(application, ours)

    x = image(64, 65)
    preprocessed = keras.applications.resnet.preprocess_input(x.copy())
    last = f"stage4_block{RESNETS[f'resnet{depth}'].blocks[-1]}"
    theirs, mine = (
        keras.Model(model.input, [model.get_layer(layer).output, model.output])(x)
        for model, layer, x in [(application, "conv5_block3_out", preprocessed), (ours, last, x)]
    )
    for outputs, expected in zip(map(numpy, mine), map(numpy, theirs), strict=True):
        assert expected.std() > 1e-4
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_dilation_computes_the_same_features_at_more_places(randomize, image):
    # Exactly so where the stride is the 1×1's: a 3×3 then sees what it saw behind the stride.
    options = {"include_top": False, "weights": None}
    models = {stride: ResNet("resnet50", output_stride=stride, **options) for stride in (32, 16, 8)}
    randomize(models[32])
    x = image(65, 96)
    expected = numpy(models[32](x))
    assert expected.shape == (1, 3, 3, 2048)
    for stride, size in [(16, (5, 6)), (8, (9, 12))]:
        models[stride].set_weights(models[32].get_weights())
        features = numpy(models[stride](x))
        assert features.shape == (1, *size, 2048)
        step = 32 // stride
        np.testing.assert_allclose(
            features[:, ::step, ::step], expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )


def test_every_block_of_a_dilated_stage_is_dilated():
    model = ResNet("resnet50_deep", include_top=False, weights=None, output_stride=8)
    rates = {
        name: model.get_layer(name).convolutions[1].dilation_rate
        for name in ["stage2_block4", "stage3_block1", "stage3_block6", "stage4_block1"]
    }
    assert list(rates.values()) == [(1, 1), (2, 2), (2, 2), (4, 4)]


def test_openmmlabs_dilation_spreads_late():
    rates = {}
    for name in ("resnet50_v1c", "resnet18_v1c"):
        model = ResNet(name, include_top=False, weights=None, output_stride=8)
        rates[name] = [
            [conv.dilation_rate[0] for conv in model.get_layer(block).convolutions]
            for block in ("stage3_block1", "stage3_block2", "stage4_block1", "stage4_block2")
        ]
    assert rates["resnet50_v1c"] == [[1, 1, 1], [1, 2, 1], [1, 2, 1], [1, 4, 1]]
    assert rates["resnet18_v1c"] == [[1, 1], [2, 1], [2, 1], [4, 1]]


def test_is_an_ordinary_keras_model(tmp_path, randomize, image):
    model = ResNet("resnet18", num_classes=4, weights=None, classifier_activation=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    x = image(33, 40, batch=2)
    randomize(model)
    before = model.get_weights()
    history = model.fit(x, np.array([0, 3]), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.save(tmp_path / "resnet.keras")
    loaded = keras.saving.load_model(tmp_path / "resnet.keras")
    assert loaded.initial_weights == "random values, as asked"
    assert not loaded.autocast
    outputs, expected = (keras.ops.convert_to_numpy(m(x)) for m in (loaded, model))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling, size", [(None, (2, 3, 512)), ("avg", (512,)), ("max", (512,))])
def test_features(pooling, size, image):
    model = ResNet("resnet18", include_top=False, weights=None, pooling=pooling)
    assert model(image(64, 96)).shape == (1, *size)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"variant": "resnet-50"}, "variant='resnet-50'. Did you mean 'resnet50'"),
        ({"output_stride": 4}, "output_stride=4. Use 32, 16 or 8"),
        ({"variant": "resnet20", "output_stride": 8}, "output_stride=8. Leave it out"),
        ({"shortcut": "C"}, "shortcut='C'"),
        ({"input_shape": (32, 32)}, "RGB, (height, width, 3). Received: input_shape=(32, 32)"),
        ({"include_top": False, "pooling": "mean"}, "pooling='mean'"),
        ({"pooling": "mean"}, "pooling='mean'"),
        ({"variant": "ResNet-18"}, "variant='ResNet-18'. Did you mean 'resnet18'"),
        ({"input_shape": (224, 224)}, "RGB, (height, width, 3). Received: input_shape=(224, 224)."),
        ({"input_shape": (64, 64, 1)}, "Received: input_shape=(64, 64, 1). Name all three; gray"),
        ({"output_stride": 0}, "at least 1. Received: output_stride=0."),
        (
            {"weights": "imagenet", "num_classes": 5},
            "1000 classes. Received: weights='imagenet', num_classes=5. Use num_classes=1000, or",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ResNet(**{"weights": None, **arguments})
