"""AlexNet, GoogLeNet and the ResNets of basic blocks against PyTorch."""

import keras
import numpy as np
import pytest

import keras_psp

torch = pytest.importorskip("torch", reason="PyTorch is what these are compared with")
from tests.models import torch_classifiers  # noqa: E402


def outputs(model, x, training=False):
    return keras.ops.convert_to_numpy(model(x, training=training))


@torch.no_grad()
def expected(network, x):
    return network.eval()(torch.tensor(x.transpose(0, 3, 1, 2)))


def modules(network, *kinds):
    return [m for m in network.modules() if isinstance(m, kinds)]


def check_equal(ours, theirs):
    theirs = theirs.numpy()
    assert theirs.std() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_alexnet(randomize, image):
    # At 67×67 one place is left; a Flatten of several is a matter of the next test.
    network = torch_classifiers.AlexNet(10)
    network[-7] = torch.nn.Linear(256, 4096)
    model = keras_psp.AlexNet(
        num_classes=10, weights=None, classifier_activation=None, input_shape=(67, 67, 3)
    )
    randomize(model)
    layers = [layer for layer in model.layers if layer.weights]
    linear = modules(network, torch.nn.Conv2d, torch.nn.Linear)
    copied = torch_classifiers.copy_weights(zip(layers, linear, strict=True))
    assert copied == torch_classifiers.tensors(network)
    x = image(67, 67, batch=2)
    check_equal(outputs(model, x), expected(network, x))


def test_alexnets_features_at_its_own_size(randomize, image):
    network = torch_classifiers.AlexNet(10)
    model = keras_psp.AlexNet(include_top=False, weights=None)
    randomize(model)
    layers = [layer for layer in model.layers if layer.weights]
    torch_classifiers.copy_weights(zip(layers, modules(network, torch.nn.Conv2d), strict=True))
    flatten = next(i for i, m in enumerate(network) if isinstance(m, torch_classifiers.Flatten))
    x = image(227, 227)
    with torch.no_grad():
        features = torch.tensor(x.transpose(0, 3, 1, 2)) - torch_classifiers.MEAN
        features /= torch_classifiers.DEVIATION
        for module in list(network)[: flatten + 1]:
            features = module(features)
    check_equal(outputs(model, x).reshape(1, -1), features)


def test_googlenet_with_its_auxiliary_classifiers(randomize, image):
    network = torch_classifiers.GoogLeNet(10)
    model = keras_psp.Inception(
        num_classes=10, weights=None, dropout=0.0, classifier_activation=None
    )
    randomize(model)
    copied = torch_classifiers.copy_weights(googlenet_pairs(model, network))
    assert copied == torch_classifiers.tensors(network)

    x = image(224, 224)
    predictions, *auxiliary = expected(network, x)
    check_equal(outputs(model, x), predictions)
    check_equal(keras.ops.convert_to_numpy(model(x, training=True)), predictions)
    seen = keras.Model(model.input, [model.get_layer(n).output for n in model.auxiliary_heads])
    heads = model.auxiliary_heads.values()
    for head, features, theirs in zip(heads, seen(x), auxiliary, strict=True):
        check_equal(keras.ops.convert_to_numpy(head(features)), theirs)


def googlenet_pairs(model, network):
    names = {
        "conv_1x1": "ones",
        "reduce_3x3": "reduce3",
        "conv_3x3": "threes",
        "reduce_5x5": "reduce5",
        "conv_5x5": "fives",
        "project_pool": "pool",
    }
    stem = [m for m in network.start if isinstance(m, torch.nn.Conv2d)]
    yield from zip(map(model.get_layer, ["conv1", "conv2_reduce", "conv2"]), stem, strict=True)
    ours = [layer for layer in model.layers if layer.name.startswith("inception")]
    theirs = modules(network, torch_classifiers.Inception)
    for layer, module in zip(ours, theirs, strict=True):
        for conv in (conv for branch in layer.branches for conv in branch if conv.weights):
            yield conv, getattr(module, names[conv.name])
    yield model.get_layer("predictions"), network.predictions
    for head, module in zip(model.auxiliary_heads.values(), network.auxiliary, strict=True):
        layers = [layer for layer in head.chain if layer.weights]
        yield from zip(layers, [module[1], module[4], module[7]], strict=True)


@pytest.mark.parametrize(
    "variant, blocks, option",
    [
        ("resnet18", (2, 2, 2, 2), "B"),
        ("resnet34", (3, 4, 6, 3), "B"),
        ("resnet18", (2, 2, 2, 2), "A"),
        ("plain34", (3, 4, 6, 3), None),
        ("resnet20", (3, 3, 3), "A"),
        ("resnet32", (5, 5, 5), "B"),
        ("resnet56", (9, 9, 9), None),
    ],
)
def test_resnets_of_basic_blocks(variant, blocks, option, randomize, image):
    network = torch_classifiers.ResNet(blocks, 7, option)
    model = keras_psp.ResNet(
        variant,
        num_classes=7,
        weights=None,
        residual=None if variant.startswith("plain") else option is not None,
        shortcut=option,
        classifier_activation=None,
    )
    randomize(model)
    copied = torch_classifiers.copy_weights(resnet_pairs(model, network))
    assert copied == torch_classifiers.tensors(network)
    x = image(64, 97)
    check_equal(outputs(model, x), expected(network, x))


def resnet_pairs(model, network):
    yield model.get_layer("stem_conv1"), network[0]
    yield model.get_layer("stem_bn1"), network[1]
    blocks = [layer for layer in model.layers if "block" in layer.name]
    for layer, module in zip(blocks, modules(network, torch_classifiers.BasicBlock), strict=True):
        yield from zip(layer.convolutions, [module.conv1, module.conv2], strict=True)
        yield from zip(layer.batch_normalizations, [module.bn1, module.bn2], strict=True)
        if layer.shortcut_conv is not None:
            yield layer.shortcut_conv, module.shortcut[0]
            yield layer.shortcut_bn, module.shortcut[1]
    yield model.get_layer("predictions"), network[-1]
