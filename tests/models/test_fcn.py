"""FCN against PyTorch: the authors', torchvision's, and the parts of our own."""

import dataclasses
import functools
import math
import re

import keras
import numpy as np
import pytest

from keras_psp import FCN
from keras_psp.models import RESNETS, fully_connected, model_from_checkpoint, vgg

numpy = keras.ops.convert_to_numpy
WIDTHS = (2, 3, 4, 5, 6)  # of a tiny VGG's stages


@pytest.fixture
def tiny_vgg(monkeypatch):
    monkeypatch.setattr(vgg, "_FILTERS", WIDTHS)


def check_equal(ours, theirs):
    theirs = theirs.detach().numpy().transpose(0, 2, 3, 1)
    assert theirs.std() > 1e-3 * np.abs(theirs).max()
    np.testing.assert_allclose(numpy(ours), theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


TORCHVISIONS = {
    "num_classes": 21,
    "head": "convolution",
    "output_stride": 8,
    "auxiliary_weight": 0.5,
}


@pytest.mark.parametrize(
    "expected, backbone, options",
    [
        # VGG-16, fc6 and fc7 as convolutions, and 1×1 convolutions of 4096, 512 and 256 channels.
        (134_260_544 + 11 * (4097 + 513 + 257), "vgg16", {"stride": 8}),
        (35_322_218, "resnet50_torchvision", TORCHVISIONS),
        (54_314_346, "resnet101_torchvision", TORCHVISIONS),
        # torchvision's ResNet-50 without its last layer, but with three 3×3 in its stem, and twice
        # the channels behind it.
        (23_508_032 + 103_296 + 20_480 + 2049 * 11, "resnet50_deep", {"head": "linear"}),
    ],
)
def test_parameters(expected, backbone, options):
    with keras.StatelessScope(initialize_variables=False):
        model = FCN(backbone, backbone_weights=None, **options)
    assert sum(math.prod(v.shape) for v in model.trainable_variables) == expected
    keras.utils.clear_session()


# Checkpoints ------------------------------------------------------------------------------------


def authors(stride, path, **options):
    torch = pytest.importorskip("torch")
    from tests.models.torch_fcn import AuthorsFCN
    from tests.weights.torch_checkpoints import randomize

    network = randomize(AuthorsFCN(stride, WIDTHS, 8, num_classes=3, **options), seed=stride)
    torch.save(network.state_dict(), path)
    return network, lambda x: network(torch.tensor(x.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("stride, at_once", [(32, False), (16, False), (8, False), (8, True)])
def test_the_authors_networks(tiny_vgg, stride, at_once, image, tmp_path):
    _, expected = authors(stride, tmp_path / "fcn.pth", at_once=at_once)
    model = model_from_checkpoint(tmp_path / "fcn.pth", at_once=at_once)
    assert (model.stride, model.padding, model.fc_channels) == (stride, "paper", 8)
    for size in [(33, 47), (40, 32)]:
        check_equal(model(image(*size)), expected(image(*size)))


def test_torchvisions_network(monkeypatch, image, tmp_path):
    torch = pytest.importorskip("torch")
    from tests.models.torch_fcn import TorchvisionFCN
    from tests.weights import torch_checkpoints

    name, blocks = "resnet50_torchvision", (1, 1, 2, 2)
    small = dataclasses.replace(RESNETS[name], filters=8, blocks=blocks)
    monkeypatch.setitem(RESNETS, name, small)
    monkeypatch.setattr(torch_checkpoints, "WIDTH", 8)
    network = torch_checkpoints.randomize(TorchvisionFCN(blocks, num_classes=4))
    torch.save(network.state_dict(), tmp_path / "fcn.pth")
    model = model_from_checkpoint(tmp_path / "fcn.pth")
    assert (model.backbone.name, model.head, model.output_stride) == (name, "convolution", 8)
    x = image(65, 81)
    logits, auxiliary = network(torch.tensor(x.transpose(0, 3, 1, 2)))
    check_equal(model(x), logits)
    check_equal(model.upsample(model.decode_auxiliary(model.features(x)), like=x), auxiliary)


def test_coarser_networks_start_finer_ones(tiny_vgg, tmp_path):
    network, _ = authors(32, tmp_path / "fcn32s.pth")
    build = functools.partial(FCN, "vgg16", 3, fc_channels=8, padding="paper")
    model = build(stride=16, weights=str(tmp_path / "fcn32s.pth"))
    score = network.score_fr.weight.detach().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(numpy(model.score.kernel), score)
    assert not numpy(model.score_pool4.kernel).any()
    with pytest.raises(ValueError, match=r"has no place in .*Build the FCN with the file's stride"):
        build(stride=32, weights=save(model, tmp_path / "fcn16s.weights.h5"))


def test_our_own_files_start_finer_ones(tiny_backbone, randomize, tmp_path):
    options = {"fc_channels": 8, "upsampling": "learned"}
    models = {32: FCN(tiny_backbone, 3, **options)}
    for stride in (16, 8):
        randomize(models[2 * stride], seed=stride)
        path = save(models[2 * stride], tmp_path / f"{stride}.weights.h5")
        models[stride] = FCN(tiny_backbone, 3, stride=stride, weights=path, **options)
    coarse, fine = ({v.path: numpy(v) for v in models[s].weights} for s in (16, 8))
    new = {"score_pool3/kernel", "score_pool3/bias", "upscore_pool4/kernel", "upscore8/kernel"}
    assert {*fine} - {*coarse} == new
    for name in {*fine} & {*coarse}:
        np.testing.assert_array_equal(fine[name], coarse[name])
    assert not fine["score_pool3/kernel"].any()


def save(model, path):
    model.save_weights(path)
    return str(path)


# Parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upsampling, scales", [("bilinear", (1, 1)), ("learned", (0.01, 0.0001))])
def test_stage_by_stage_as_in_pytorch(tiny_backbone, randomize, image, upsampling, scales):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    options = {"fc_channels": 8, "upsampling": upsampling, "at_once": scales != (1, 1)}
    model = FCN(tiny_backbone, 3, stride=8, **options)
    randomize(model)
    x = image(70, 97)
    # The tiny network ends at 1/16, as VGG does before its last pooling.
    maps = {
        stage: F.max_pool2d(torch.tensor(numpy(y).transpose(0, 3, 1, 2)), 2, ceil_mode=True)
        for stage, y in model.features(x).items()
    }

    def apply(function, y, layer, **options):
        kernel, *bias = (torch.tensor(value) for value in layer.get_weights())
        return function(y, kernel.permute(3, 2, 0, 1), *bias, **options)

    fc6, _, fc7, _ = model.fully_connected.layers
    y = F.relu(apply(F.conv2d, maps["P5"], fc6, padding=3))
    y = F.relu(apply(F.conv2d, y, fc7))
    y = apply(F.conv2d, y, model.score)
    for stage, scale, score, upscore in [
        ("P4", scales[0], model.score_pool4, model.upscore2),
        ("P3", scales[1], model.score_pool3, model.upscore_pool4),
    ]:
        fine = apply(F.conv2d, maps[stage] * scale, score)
        if upsampling == "learned":
            y = apply(F.conv_transpose2d, y, upscore, stride=2, padding=1)
        y = F.interpolate(y, size=fine.shape[2:], mode="bilinear", align_corners=False) + fine
    if upsampling == "learned":
        y = apply(F.conv_transpose2d, y, model.upscore, stride=8, padding=4)
    y = F.interpolate(y, size=x.shape[1:3], mode="bilinear", align_corners=False)
    check_equal(model(x), y)


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "resnet18"])
def test_maps_are_at_an_8th_16th_and_32nd(name):
    model = FCN(name, 3, stride=8, head="linear", backbone_weights=None, input_shape=(288, 320, 3))
    for stage, stride in [("P3", 8), ("P4", 16), ("P5", 32)]:
        pooled = model.pool(model.backbone.output[stage]).shape[1:3]
        # Without padding, AlexNet loses some places at the borders.
        lost = 2 if name == "alexnet" else 0
        for side, places in zip((288, 320), pooled, strict=True):
            assert side // stride - lost <= places <= side // stride


def tiny_classifier():
    """VGG as ImageNet's weights come with it, of few channels."""
    x = image = keras.Input((224, 224, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    for stage in range(1, 6):
        layer = keras.layers.Conv2D(2, 3, padding="same", activation="relu", name=f"conv{stage}")
        x = keras.layers.MaxPooling2D(2)(layer(x))
    x = keras.layers.Dense(9, "relu")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(9, "relu", name="fc7")(x)
    return keras.Model(image, keras.layers.Dense(1000)(x), name="tiny")


def test_fully_connected_layers_become_convolutions(randomize, image):
    classifier = tiny_classifier()
    randomize(classifier)
    model = FCN(classifier, 3, fc_channels=9)
    x = image(224, 224)
    answer = keras.Model(classifier.input, classifier.get_layer("fc7").output)(x)
    everywhere = model.fully_connected(model.pool(model.features(x)["P5"]))
    assert everywhere.shape == (1, 7, 7, 9)
    # In the middle, the kernel of 7×7 sees the very map that the classifier flattens.
    np.testing.assert_allclose(numpy(everywhere)[:, 3, 3], numpy(answer), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "paper"])
def test_a_name_brings_all_of_imagenets_weights(tiny_vgg, monkeypatch, randomize, padding):
    made = []
    for module in (vgg, fully_connected):
        monkeypatch.setattr(module, "HIDDEN", 9)

    def trained(name, weights):
        made.append(vgg.VGG(name, weights=None))
        randomize(made[0])
        made[0].initial_weights = weights
        return made[0]

    monkeypatch.setattr(fully_connected, "VGG", trained)
    options = {"fc_channels": 9, "padding": padding}
    model = FCN("vgg16", 3, backbone_weights="imagenet", **options)
    assert model.initial_weights == "imagenet"
    *expected, _, _ = made[0].get_weights()  # without the 1000 classes
    ours = [*model.backbone.get_weights(), *model.fully_connected.get_weights()]
    for value, trained in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(value.ravel(), trained.ravel())
    assert FCN.from_config(model.get_config()).initial_weights == "imagenet"
    assert len(made) == 1


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stride": 4}, "at 1/32, 1/16 or 1/8 of the image. Received: stride=4, head='fc'"),
        ({"output_stride": 8}, "output_stride=8. Use output_stride=32; or stride=32 with"),
        (
            {"head": "linear", "stride": 16, "output_stride": 8},
            "Received: stride=16, head='linear'",
        ),
        ({"padding": "paper"}, "padding='paper', backbone='tiny', auxiliary_weight=0.0. Use"),
        ({"backbone": "resnet18", "padding": "paper"}, "backbone='resnet18', auxiliary_weight=0.0"),
        ({"head": "fcn"}, "A head must be one of 'fc', 'convolution', 'linear'. Received: head="),
        ({"upsampling": "nearest"}, "Received: upsampling='nearest'"),
        ({"padding": "valid"}, "Received: padding='valid'"),
    ],
)
def test_bad_arguments(tiny_backbone, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FCN(**{"backbone": tiny_backbone, **options})


def test_too_few_stages(tiny_backbone):
    two = keras.Model(tiny_backbone.input, tiny_backbone.get_layer("relu2").output, name="two")
    message = r"Received: stages=\('P3', 'P4', 'P5'\) of backbone=two_backbone, which has P4, P5"
    with pytest.raises(ValueError, match=message):
        FCN(two, stride=8)
