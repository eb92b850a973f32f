"""Other people's networks as backbones: the dilated copy computes the source's own features."""

import json
import re

import keras
import numpy as np
import pytest
from keras.src.applications.densenet import DenseNet
from keras.src.applications.efficientnet import EfficientNet
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1

import keras_psp
from keras_psp import PSPNet, models
from keras_psp.layers import PaddedConv2D
from keras_psp.models import build_backbone

applications = keras.applications
numpy = keras.ops.convert_to_numpy
SIZE = (96, 64)


FEATURES = {"include_top": False, "weights": None, "input_shape": (*SIZE, 3)}


# As DenseNet121, ResNet50 and EfficientNetB0, with fewer and narrower layers in each part.


def densenet():
    return DenseNet([2, 2, 2, 2], **FEATURES)


def resnet():
    def stages(x):
        for stage, strides in zip((2, 3, 4, 5), (1, 2, 2, 2), strict=True):
            x = stack_residual_blocks_v1(x, 4 * stage, 2, strides, name=f"conv{stage}")
        return x

    return ResNet(stages, False, True, **FEATURES)


def efficientnet():
    return EfficientNet(0.5, 0.3, SIZE[0], **FEATURES)


def application(name, **options):
    return lambda: getattr(applications, name)(**{**FEATURES, **options})


# Source, normalization by preprocess_input's mode, last two stages, their strides, tolerance. What
# averages over the whole map (squeeze and excitation) sees more places in the copy than in the
# source, so that EfficientNet's features agree no better than that.
CASES = {
    "resnet": (resnet, "caffe", "conv4_block2_out conv5_block2_out", 32, 1e-5),
    "mobilenet": (
        application("MobileNetV2", alpha=0.35),
        "tf",
        "block_13_expand_relu out_relu",
        32,
        1e-5,
    ),
    "vgg": (application("VGG16"), "caffe", "block4_conv3 block5_conv3", 16, 1e-5),
    "densenet": (densenet, "torch", "pool4_conv relu", 32, 1e-5),
    "efficientnet": (
        efficientnet,
        None,
        "block6a_expand_activation top_activation",
        32,
        1e-3,
    ),
}


def source_features(source, layers, x):
    model = keras.Model(
        source.inputs[0], [source.get_layer(name).output for name in layers.split()]
    )
    return [numpy(y) for y in model(x)]


def last_two(pyramid):
    return [pyramid["P4"], pyramid["P5"]]


def assert_same_at_fewer_places(features, expected, tolerance):
    """Every n-th place of the dense features is the source's, borders included."""
    for dense, sparse in zip(features, expected, strict=True):
        dense = numpy(dense)
        step = dense.shape[1] // sparse.shape[1]
        assert dense.shape[1:3] == (step * sparse.shape[1], step * sparse.shape[2])
        scale = np.abs(sparse).max()
        assert sparse.std() > 1e-3 * scale
        np.testing.assert_allclose(dense[:, ::step, ::step], sparse, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("family", CASES)
def test_keras_applications(family, randomize, image):
    make, mode, layers, stride, tolerance = CASES[family]
    source = make()
    randomize(source)
    before = json.dumps(source.get_config(), default=str), source.get_weights()

    x = image(*SIZE)
    normalized = x.copy()
    if mode:
        normalized = applications.imagenet_utils.preprocess_input(normalized, mode=mode)
    expected = source_features(source, layers, normalized)
    assert expected[1].shape[1:3] == (SIZE[0] // stride, SIZE[1] // stride)
    # The pool between the last blocks of DenseNet stands in the way of 8.
    for output_stride in [16] if family == "densenet" else [16, 8]:
        backbone = build_backbone(source, output_stride=output_stride)
        assert backbone.initial_weights == f"the weights of {source.name} as it was given"
        features = last_two(backbone(x))
        assert features[1].shape[1:3] == (SIZE[0] // output_stride, SIZE[1] // output_stride)
        assert_same_at_fewer_places(features, expected, tolerance)

    assert json.dumps(source.get_config(), default=str) == before[0]
    for a, b in zip(source.get_weights(), before[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "name, module",
    [
        ("VGG16", "vgg16"),
        ("ResNet50", "resnet"),
        ("ResNet50V2", "resnet_v2"),
        ("DenseNet121", "densenet"),
        ("MobileNet", "mobilenet"),
        ("MobileNetV2", "mobilenet_v2"),
        ("MobileNetV3Small", "mobilenet_v3"),
        ("Xception", "xception"),
        ("InceptionV3", "inception_v3"),
        ("InceptionResNetV2", "inception_resnet_v2"),
        ("NASNetMobile", "nasnet"),
        ("EfficientNetB0", "efficientnet"),
        ("EfficientNetV2B0", "efficientnet_v2"),
    ],
)
def test_images_are_what_keras_applications_make_of_them(name, module, image):
    # Models with a `preprocess_input` that does nothing do it themselves. The first third of the
    # layers is enough to see that, and none of them needs weights.
    with keras.StatelessScope(initialize_variables=False):
        whole = application(name, input_shape=(None, None, 3))()
        last = whole.layers[len(whole.layers) // 3].output
        backbone = build_backbone(keras.Model(whole.input, last, name=whole.name), output_stride=32)
    x = image(8, 9)
    expected = getattr(applications, module).preprocess_input(x.copy())
    np.testing.assert_allclose(numpy(backbone.layers[1](x)), expected, rtol=1e-5, atol=1e-4)


def test_a_model_of_another_name_is_asked_about(randomize, image):
    inputs = x = keras.Input((None, None, 3))
    for i in range(1, 5):
        x = keras.layers.Conv2D(4 * i, 3, 2, padding="same", activation="relu", name=f"conv{i}")(x)
    usual = keras.Model(inputs, x, name="mobilenet_of_four")
    randomize(usual)
    renamed = keras.Model(inputs, x, name="eyes")
    with pytest.warns(
        UserWarning,
        match=r"Received: backbone=eyes, which begins with a convolution and gets RGB 0–255 .*"
        r"Give build_backbone\(model, output_stride=32, normalization=…\) in its place",
    ):
        unasked = build_backbone(renamed)
    x = image(*SIZE)
    expected = source_features(renamed, "conv3 conv4", x)
    assert_same_at_fewer_places(last_two(unasked(x)), expected, 1e-5)
    # What the warning says gives what a model of its usual name gets.
    asked = build_backbone(renamed, output_stride=32, normalization="tf")
    models = [PSPNet(source, num_classes=3) for source in (asked, usual)]
    for features, expected in zip(*(last_two(m.backbone(x)) for m in models), strict=True):
        np.testing.assert_allclose(numpy(features), numpy(expected), rtol=1e-5, atol=1e-5)


def test_keras_hub(randomize, image):
    keras_hub = pytest.importorskip("keras_hub")
    source = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 16, 24, 32],
        stackwise_num_blocks=[1, 1, 2, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    randomize(source)
    x = image(*SIZE)
    normalized = applications.imagenet_utils.preprocess_input(x.copy(), mode="torch")
    pyramid = keras.Model(source.input, [source.pyramid_outputs[p] for p in ("P4", "P5")])
    expected = [numpy(y) for y in pyramid(normalized)]
    model = PSPNet(source, num_classes=3)
    assert_same_at_fewer_places(last_two(model.backbone(x)), expected, 1e-5)
    assert model(x).shape == (1, *SIZE, 3)


def test_keras_cv(randomize, image):
    try:
        import keras_cv
    except Exception as error:  # frozen, and broken by some versions of what it needs
        pytest.skip(f"KerasCV cannot be imported: {error}")
    source = keras_cv.models.ResNetBackbone(
        stackwise_filters=[16, 16, 24, 32],
        stackwise_blocks=[1, 1, 2, 1],
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=True,
    )
    randomize(source)
    x = image(*SIZE)
    levels = source.pyramid_level_inputs
    expected = source_features(source, f"{levels['P4']} {levels['P5']}", x)
    model = PSPNet(source, num_classes=3)
    assert_same_at_fewer_places(last_two(model.backbone(x)), expected, 1e-5)
    assert model(x).shape == (1, *SIZE, 3)


def test_own_networks(tiny_backbone, randomize, image):
    randomize(tiny_backbone)
    x = image(*SIZE)
    expected = source_features(tiny_backbone, "relu3 relu4", x)
    assert_same_at_fewer_places(last_two(build_backbone(tiny_backbone)(x)), expected, 1e-5)

    # Several outputs are the stages; and what normalizes already is not normalized again.
    outputs = [tiny_backbone.get_layer(name).output for name in ("relu1", "relu2", "relu4")]
    several = build_backbone(keras.Model(tiny_backbone.input, outputs))
    features = several(x)
    assert sorted(features) == ["P3", "P4", "P5"]
    early = source_features(tiny_backbone, "relu2 relu4", x)[0]
    np.testing.assert_allclose(numpy(features["P4"]), early)
    assert features["P5"].shape == (1, 12, 8, 16)
    torch_mean = build_backbone(tiny_backbone, normalization="torch")
    once, twice = torch_mean(x), build_backbone(torch_mean)(x)
    assert sorted(once) == sorted(twice) == ["P2", "P3", "P4", "P5"]
    for stage, features in once.items():
        np.testing.assert_array_equal(numpy(features), numpy(twice[stage]))


def test_a_network_of_evenly_padded_convolutions(randomize, image):
    inputs = x = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    for i, (kernel, strides) in enumerate([(7, 4), (3, 2), (3, 2), (3, 1), (1, 2), (5, 1)]):
        x = PaddedConv2D(4, kernel, strides, name=f"conv{i}")(x)
    source = keras.Model(inputs, x, name="even")
    randomize(source)
    x = image(*SIZE)
    expected = source_features(source, "conv3 conv5", x)
    features = last_two(build_backbone(source, output_stride=8)(x))
    assert features[1].shape[1:3] == (12, 8)
    assert_same_at_fewer_places(features, expected, 1e-5)


def test_a_sequential_model(image):
    layers = [keras.layers.Conv2D(4, 3, 2, padding="same", activation="relu") for _ in range(5)]
    source = keras.Sequential([keras.Input((None, None, 3)), *layers], name="chain")
    for layer in layers:
        layer.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in layer.weights])
    x = image(*SIZE)
    expected = source_features(source, f"{layers[3].name} {layers[4].name}", x)
    # padding="same" pads more behind than before at even sizes; so does the copy.
    features = last_two(build_backbone(source, normalization="none")(x))
    assert_same_at_fewer_places(features, expected, 1e-5)


@pytest.mark.parametrize(
    "pool, side, padding",
    [("Max", 3, "same"), ("Max", 2, "same"), ("Max", 2, "valid"), ("Average", 2, "valid")],
)
def test_pools(pool, side, padding, randomize, image):
    inputs = x = keras.Input((None, None, 3))
    for i, strides in enumerate([2, 4, 1]):
        x = keras.layers.Conv2D(4, 3, strides, padding="same", name=f"conv{i}")(x)
        if i == 1:
            # As in Xception, values below 0: what surrounds them is nothing, not 0.
            x = getattr(keras.layers, f"{pool}Pooling2D")(side, 2, padding)(x)
    source = keras.Model(inputs, x, name="pools")
    randomize(source)
    x = image(*SIZE) - 255
    expected = source_features(source, "conv1 conv2", x)
    features = last_two(build_backbone(source, output_stride=8, normalization="none")(x))
    assert features[1].shape[1:3] == (12, 8)
    assert_same_at_fewer_places(features[1:], expected[1:], 1e-5)


def test_trains_and_reloads_with_keras_applications(randomize, image, rng, tmp_path):
    whole = application("MobileNet", alpha=0.25)()
    half = whole.get_layer("conv_pw_6_relu").output  # at 1/16
    source = keras.Model(whole.input, half, name=whole.name)
    randomize(source)
    model = PSPNet(source, num_classes=3, dropout=0.0)
    # The source is no part of the model.
    parts = [model.backbone, model.pyramid_pooling, model.head, model.auxiliary_head]
    assert model.count_params() == sum(part.count_params() for part in parts)
    x, y = image(40, 48, batch=2), rng.integers(0, 3, (2, 40, 48))
    model.compile(run_eagerly=True)
    before = model.backbone.get_layer("conv1").get_weights()[0]
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"][0])
    assert not np.array_equal(before, model.backbone.get_layer("conv1").get_weights()[0])
    np.testing.assert_array_equal(before, source.get_layer("conv1").get_weights()[0])

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(x)), numpy(model(x)), rtol=1e-4, atol=1e-4)


# The classifiers of this package -----------------------------------------------------------------


def test_dilated_googlenet_keeps_its_features(randomize, image):
    # Its poolings lie evenly around their places where a map has an odd side, as all have here.
    models = {
        stride: build_backbone("googlenet", weights=None, output_stride=stride)
        for stride in (32, 16, 8)
    }
    randomize(models[32])
    x = image(65, 97)
    expected = [numpy(y) for y in last_two(models[32](x))]
    assert [y.shape[1:] for y in expected] == [(5, 7, 832), (3, 4, 1024)]
    for stride in (16, 8):
        models[stride].set_weights(models[32].get_weights())
        for dense, sparse in zip(last_two(models[stride](x)), expected, strict=True):
            step = 2 * (dense.shape[1] - 1) // (2 * (sparse.shape[1] - 1))
            dense = numpy(dense)[:, ::step, ::step]
            np.testing.assert_allclose(dense, sparse, rtol=0, atol=1e-5 * np.abs(sparse).max())


def test_dilated_alexnet_keeps_its_features(randomize, image):
    # Its poolings are not padded: what the first one of the classifier sees lies one place further.
    model = keras_psp.AlexNet(include_top=False, weights=None)
    randomize(model)
    x = image(227, 163)
    expected = [
        numpy(keras.Model(model.input, model.get_layer(name).output)(x))
        for name in ("lrn2", "conv5")
    ]
    backbone = build_backbone("alexnet", weights=None, output_stride=8)
    backbone.set_weights(model.get_weights())
    early, late = (numpy(y) for y in last_two(backbone(x)))
    np.testing.assert_allclose(early, expected[0], rtol=0, atol=1e-5 * np.abs(early).max())
    # The border is padded elsewhere, and four layers with 3×3 places carry that inwards.
    assert late.shape[1:3] == early.shape[1:3] == (27, 19)
    inner = late[:, 1::2, 1::2][:, 4:-4, 3:-3]
    np.testing.assert_allclose(
        inner, expected[1][:, 4:-4, 3:-3], rtol=0, atol=1e-5 * np.abs(inner).max()
    )


@pytest.mark.parametrize("name", ["inception_v3", "inception_v3_torchvision"])
def test_dilated_inception_v3_keeps_its_features(name, randomize, image):
    source = keras_psp.Inception(name, include_top=False, weights=None)
    randomize(source)
    x = image(139, 107)
    expected = source_features(source, "mixed7 mixed10", x)
    assert [y.shape[1:] for y in expected] == [(7, 5, 768), (3, 2, 2048)]
    backbone = build_backbone(name, weights=None, output_stride=8)
    values = {variable.path: variable for variable in source.variables}
    for variable in backbone.variables:
        variable.assign(values[variable.path])
    for dense, sparse, step in zip(last_two(backbone(x)), expected, (2, 4), strict=True):
        # Without padding, the source's first place is the center of its kernel: one further in.
        dense = numpy(dense)[:, step - 1 :: step, step - 1 :: step]
        dense = dense[:, : sparse.shape[1], : sparse.shape[2]]
        np.testing.assert_allclose(dense, sparse, rtol=0, atol=1e-5 * np.abs(sparse).max())


# A network of each family and the layers that end its stages, those of its paper's figure or table.
ENDS = {
    "resnet18_deep": "stem_relu3 stage1_block2 stage2_block2 stage3_block2 stage4_block2",
    "resnet50": "stem_relu1 stage1_block3 stage2_block4 stage3_block6 stage4_block3",
    "vgg16": "block1_conv2 block2_conv2 block3_conv3 block4_conv3 block5_conv3",
    "vgg11_bn": " ".join(f"block{i}_conv{n}_relu" for i, n in enumerate((1, 1, 2, 2, 2), 1)),
    "vgg11_lrn": "block1_lrn block2_conv1 block3_conv2 block4_conv2 block5_conv2",
    "googlenet": "conv1 lrn2 inception_3b inception_4e inception_5b",
    "googlenet_torchvision": "conv1_relu conv2_relu inception_3b inception_4e inception_5b",
    "alexnet": "lrn1 lrn2 conv5",
    "alexnet_torchvision": "conv1 conv2 conv5",
    "inception_v3": "relu3 relu5 mixed2 mixed7 mixed10",
}
BUILDERS = {"r": models.ResNet, "v": models.VGG, "a": models.AlexNet}


@pytest.mark.parametrize("name", ENDS)
def test_backbones_give_every_stage(name, randomize, image):
    build = BUILDERS.get(name[0], models.Inception)
    source = build(name, include_top=False, weights=None)
    randomize(source)
    x = image(79, 99)
    expected = source_features(source, ENDS[name], x)
    backbone = build_backbone(name, weights=None, output_stride=32)
    values = {variable.path: variable for variable in source.variables}
    for variable in backbone.variables:
        variable.assign(values[variable.path])
    pyramid = backbone(x)
    stages = [f"P{i}" for i in range(6 - len(expected), 6)]
    assert sorted(pyramid) == stages
    for stage, features in zip(stages, expected, strict=True):
        np.testing.assert_allclose(numpy(pyramid[stage]), features, rtol=1e-5, atol=1e-5)
    # From the output stride on they keep their size.
    with keras.StatelessScope(initialize_variables=False):
        dense = build_backbone(name, weights=None, output_stride=8, input_shape=(160, 96, 3))
    strides = [2, 4, 8, 8, 8]
    if name.startswith("vgg"):
        strides = [1, 2, 4, 8, 8]
    if name.startswith("alexnet"):
        strides = [4, 8, 8]
    for stage, stride in zip(stages, strides, strict=True):
        height, width = dense.output[stage].shape[1:3]
        # Without padding, AlexNet and Inception v3 lose some places at the borders.
        lost = 4 if name.startswith(("alexnet", "inception")) else 0
        assert 160 // stride - lost <= height <= 160 // stride
        assert 96 // stride - lost <= width <= 96 // stride
    last = [dense.output[stage].shape[1:3] for stage in stages if strides[stages.index(stage)] == 8]
    assert len(set(last)) == 1


def test_stages_are_counted_from_the_deepest(tiny_backbone):
    several = keras.Model(tiny_backbone.input, tiny_backbone.output)
    maps = [tiny_backbone.get_layer(f"relu{i}").output for i in (2, 3, 4)]
    several.pyramid_outputs = dict(zip(["P1", "P2", "P3"], maps, strict=True))
    backbone = build_backbone(several, output_stride=32)
    channels = {stage: features.shape[-1] for stage, features in backbone.output.items()}
    assert channels == {"P3": 8, "P4": 12, "P5": 16}


def test_a_network_takes_the_stages_that_it_needs(tiny_backbone):
    assert list(build_backbone(tiny_backbone, stages=("P3", "P5")).output) == ["P3", "P5"]
    assert list(PSPNet(tiny_backbone).backbone.output) == ["P4", "P5"]
    assert list(models.FCN(tiny_backbone, head="linear").backbone.output) == ["P5"]
    message = "stages=('P1', 'P5') of backbone=tiny_backbone, which has P2, P3, P4, P5. Take a"
    with pytest.raises(ValueError, match=re.escape(message)):
        build_backbone(tiny_backbone, stages=("P1", "P5"))


def test_classifiers_are_backbones_by_the_same_name():
    tables = (models.RESNETS, models.VGGS, models.INCEPTIONS, models.ALEXNETS)
    names = {name for table in tables for name in table}
    early = {f"resnet{name}_stage{n}" for name in ("18", "18_v1c", "34", "50") for n in (2, 3)}
    assert {*models.BACKBONES} == names | early
    backbone = build_backbone("plain18", weights=None)
    assert backbone.count_params() == build_backbone("resnet18", weights=None).count_params() - sum(
        i * o + 4 * o for i, o in [(64, 128), (128, 256), (256, 512)]
    )


def basic(channels, count, before):
    """Parameters of a stage of basic blocks: 3×3 convolutions, batch norms, and one projection."""
    first = 9 * before * channels + 2 * channels
    others = (2 * count - 1) * (9 * channels**2 + 2 * channels)
    return first + others + (before != channels) * (before * channels + 2 * channels)


STEM = 7 * 7 * 3 * 64 + 2 * 64
DEEP_STEM = 27 * 32 + 2 * 32 + 9 * 32 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64
EARLY = {
    "resnet18_stage2": STEM + basic(64, 2, 64) + basic(128, 2, 64),
    "resnet18_stage3": STEM + basic(64, 2, 64) + basic(128, 2, 64) + basic(256, 2, 128),
    "resnet18_v1c_stage2": DEEP_STEM + basic(64, 2, 64) + basic(128, 2, 64),
    "resnet34_stage2": STEM + basic(64, 3, 64) + basic(128, 4, 64),
}


@pytest.mark.parametrize("name", EARLY)
def test_the_first_stages_have_their_own_parameters(name):
    with keras.StatelessScope(initialize_variables=False):
        backbone = build_backbone(name, weights=None)
    assert sum(int(np.prod(v.shape)) for v in backbone.trainable_variables) == EARLY[name]
    assert list(backbone.output) == [f"P{i}" for i in range(5 - int(name[-1]), 6)]


def test_the_first_stages_are_those_of_the_whole(randomize, image, tmp_path):
    whole = models.ResNet("resnet18", include_top=False, weights=None)
    randomize(whole)
    path = str(tmp_path / "whole.weights.h5")
    whole.save_weights(path)
    x = image(40, 48)
    expected = source_features(whole, "stage1_block2 stage2_block2", x)
    # Their stride is 8, whatever is allowed.
    model = PSPNet("resnet18_stage2", 3, output_stride=16, backbone_weights=path)
    assert model.initial_weights == f"the file {path}"
    for ours, theirs in zip(last_two(model.backbone(x)), expected, strict=True):
        np.testing.assert_allclose(numpy(ours), theirs, rtol=1e-5, atol=1e-5)
    # The heads have a quarter of their features' channels.
    assert (model.head.filters, model.auxiliary_head.filters) == (128 // 4, 64 // 4)


@pytest.mark.parametrize("name", ["vgg16", "googlenet", "alexnet"])
def test_the_lectures_classifiers_are_backbones(name, image):
    model = PSPNet(name, num_classes=4, bins=(2,), backbone_weights=None)
    x, y = image(40, 32), np.zeros((1, 40, 32), "int32")
    features = model.backbone.compute_output_shape(x.shape)["P5"]
    assert features[1:3] == {"alexnet": (3, 2)}.get(name, (5, 4))
    model.compile(run_eagerly=keras.backend.backend() != "jax")
    head = numpy(model.head.conv2.bias).copy()
    loss = model.fit(x, y, verbose=0).history["loss"][0]
    np.testing.assert_allclose(loss, 1.4 * np.log(4), rtol=1e-3)  # all kernels are 0 at first
    assert not np.array_equal(numpy(model.head.conv2.bias), head)


# Bad input --------------------------------------------------------------------------------------


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def flat():
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(4, 3, 2, padding="same")(image), name="flat")


@pytest.mark.parametrize(
    "make, output_stride, message",
    [
        (
            densenet,
            8,
            r"where its pooling layer pool4_pool \(2×2\) cannot be dilated. Use a larger",
        ),
        (lambda: Subclassed(name="own"), 8, "functional .*Received: backbone=own, a Subclassed"),
        (flat, 8, r"two stages .*backbone=flat, whose features have strides \[2\]"),
        (flat, 4, "output_stride=4. Use 32, 16 or 8"),
    ],
)
def test_networks_that_cannot_be_one(make, output_stride, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(make(), output_stride=output_stride, normalization="none")


def test_a_layer_that_nobody_knows_is_not_dilated(tiny_backbone):
    class Own(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    x = Own(name="own")(tiny_backbone.output)
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    with pytest.raises(ValueError, match=r"its layer own \(Own\) cannot be dilated"):
        build_backbone(keras.Model(tiny_backbone.input, x), output_stride=8)


def test_a_model_brings_its_own_weights(tiny_backbone):
    message = (
        "brings its own weights. Received: backbone=tiny (a model), backbone_weights='imagenet'"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        PSPNet(tiny_backbone, backbone_weights="imagenet")


def test_an_unknown_name():
    with pytest.raises(ValueError, match=r"backbone='resnet50deep'. Did you mean 'resnet50_deep'"):
        build_backbone("resnet50deep")


@pytest.mark.parametrize(
    "name, repair",
    [
        ("efficientnetb0", r"backbone=keras\.applications\.EfficientNetB0\(include_top=False\)\."),
        ("EfficientNet-B0", r"backbone=keras\.applications\.EfficientNetB0\(include_top=False\)\."),
        ("resnet 50", r"Did you mean 'resnet50'\? .* or pass a Keras model: backbone=keras\."),
    ],
)
def test_other_names_say_that_a_model_may_be_passed(name, repair):
    with pytest.raises(ValueError, match=repair):
        build_backbone(name)
