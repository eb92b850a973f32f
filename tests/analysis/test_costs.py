"""Counting costs: layers worked out by hand, and networks against PyTorch's own counter."""

import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_psp
from keras_psp.analysis import count
from keras_psp.keras_internals import layers_in


def chain(shape, *layers):
    x = image = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


def counted(builder, *arguments, image_size=None, **options):
    # Shapes are enough: in this scope variables get no values.
    with keras.StatelessScope(initialize_variables=False):
        return count(builder(*arguments, weights=None, **options), image_size)


# Layers, of an image of 8×10 with 4 channels: output, parameters, weights, multiply-adds
@pytest.mark.parametrize(
    "layer, output, parameters, weights, multiply_adds",
    [
        (layers.Conv2D(6, 3, padding="same"), (8, 10, 6), 222, 9 * 4 * 6, 216 * 80),
        (layers.Conv2D(6, 3, 2, "same", groups=2), (4, 5, 6), 114, 9 * 2 * 6, 108 * 20),
        (layers.Conv2D(8, 3, dilation_rate=2, use_bias=False), (4, 6, 8), 288, 288, 288 * 24),
        (layers.DepthwiseConv2D(3, 2, "same"), (4, 5, 4), 40, 36, 36 * 20),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 8, 8), 80, 72, 72 * 48),
        (layers.SeparableConv2D(5, 3, 2, "same"), (4, 5, 5), 61, 36 + 20, 56 * 20),
        (layers.Conv2DTranspose(3, 4, 2, "same"), (16, 20, 3), 195, 16 * 4 * 3, 192 * 80),
        (layers.Dense(7), (8, 10, 7), 35, 28, 28 * 80),
        # Queries of two heads: a kernel of 4×2×3 at every place; and heads brought together again.
        (layers.EinsumDense("ahwc,cnk->ahwnk", (8, 10, 2, 3)), (8, 10, 2, 3), 24, 24, 24 * 80),
        (layers.EinsumDense("...c,ck->...k", 5), (8, 10, 5), 20, 20, 20 * 80),
        (layers.BatchNormalization(), (8, 10, 4), 8, 0, 0),
        (layers.MaxPooling2D(2), (4, 5, 4), 0, 0, 0),
        (keras_psp.layers.PaddedConv2D(6, 3, 2), (4, 5, 6), 222, 216, 216 * 20),
    ],
)
def test_a_layer(layer, output, parameters, weights, multiply_adds):
    costs = count(chain((8, 10, 4), layer))
    (row,) = costs.layers
    assert (row.name, row.kind) == (layer.name, type(layer).__name__)
    assert row.output_shape == output
    assert (row.parameters, row.weights, row.multiply_adds) == (parameters, weights, multiply_adds)
    assert (costs.parameters, costs.multiply_adds) == (parameters, multiply_adds)


def test_a_fully_connected_layer_of_a_vector():
    costs = count(chain((8, 10, 4), layers.Flatten(), layers.Dense(7)))
    assert costs.parameters == 320 * 7 + 7
    assert costs.multiply_adds == 320 * 7


def test_channels_first():
    layer = layers.Conv2D(6, 3, data_format="channels_first")
    (row,) = count(chain((4, 8, 10), layer)).layers
    assert row.output_shape == (6, 6, 8)
    assert row.multiply_adds == 9 * 4 * 6 * 48


def test_branches_that_meet():
    image = keras.Input((8, 10, 4))
    branches = [layers.Conv2D(5, 1)(image), layers.Conv2D(5, 3, padding="same")(image)]
    x = layers.Concatenate()([layers.Add()(branches), image])
    costs = count(keras.Model(image, layers.Conv2D(2, 1)(x)))
    assert costs.multiply_adds == (4 * 5 + 9 * 4 * 5 + 9 * 2) * 80


def test_a_layer_used_twice_has_its_parameters_once():
    image = keras.Input((8, 10, 4))
    layer = layers.Conv2D(4, 3, padding="same")
    costs = count(keras.Model(image, layer(layer(image))))
    assert [row.parameters for row in costs.layers] == [148, 0]
    assert [row.multiply_adds for row in costs.layers] == [144 * 80, 144 * 80]
    assert costs.by_block()[layer.name].multiply_adds == 2 * 144 * 80


def test_a_model_in_a_model():
    inner = chain((None, None, 4), layers.Conv2D(6, 3, name="conv"))
    inner.name = "inner"
    costs = count(chain((8, 10, 4), inner, layers.Conv2D(2, 1)))
    assert [row.name for row in costs.layers][:2] == ["inner/conv", "inner"]
    assert costs.multiply_adds == 9 * 4 * 6 * 48 + 6 * 2 * 48
    assert costs.by_block()["inner"].output_shape == (6, 8, 6)


class Scaled(layers.Layer):
    """A layer with a layer inside, and a weight of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(6, 3, name="conv")

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.scale = self.add_weight(shape=(6,), name="scale")

    def call(self, inputs):
        return self.conv(inputs) * self.scale


def test_a_layer_of_layers_with_its_own_weight():
    costs = count(chain((8, 10, 4), Scaled(name="scaled")))
    assert [(row.name, row.parameters) for row in costs.layers] == [
        ("scaled/conv", 222),
        ("scaled", 6),
    ]
    assert costs.multiply_adds == 216 * 48


def test_what_cannot_be_walked_into_counts_whole():
    # The cell is called in a loop of the backend's own, for each of the 80 places.
    places = layers.Reshape((80, 4))
    costs = count(chain((8, 10, 4), places, layers.LSTM(5, return_sequences=True, name="lstm")))
    (row,) = [row for row in costs.layers if row.parameters]
    assert (row.name, row.parameters) == ("lstm", 4 * (4 * 5 + 5 * 5 + 5))
    assert row.multiply_adds == 80 * 4 * 4 * 5


def test_blocks_of_a_resnet_add_up():
    costs = counted(keras_psp.ResNet, "resnet18", image_size=(224, 224))
    blocks = costs.by_block()
    # 56×56 places, two 3×3 convolutions of 64 channels; four normalized vectors beside.
    assert blocks["stage1_block1"].multiply_adds == 2 * 9 * 64 * 64 * 56 * 56
    assert blocks["stage1_block1"].parameters == 2 * 9 * 64 * 64 + 4 * 64
    # The first block of a stage has a projection.
    weights = 9 * 64 * 128 + 9 * 128 * 128 + 64 * 128
    assert blocks["stage2_block1"].weights == weights
    assert blocks["stage2_block1"].multiply_adds == weights * 28 * 28
    assert costs.by_block(lambda name: "all")["all"].parameters == costs.parameters == 11_689_512


def test_a_block_has_the_output_of_all_branches():
    module = keras_psp.layers.InceptionModule(3, 2, 4, 2, 5, 6, name="module")
    costs = count(chain((8, 10, 4), module))
    assert costs.by_block()["module"].output_shape == (8, 10, 3 + 4 + 5 + 6)
    weights = 4 * 3 + 4 * 2 + 9 * 2 * 4 + 4 * 2 + 25 * 2 * 5 + 4 * 6
    assert costs.by_block()["module"].weights == weights
    assert costs.multiply_adds == 80 * weights


def test_training_only_parts_are_left_out():
    costs = counted(keras_psp.Inception, "googlenet")
    assert costs.parameters == 6_998_552


def test_pspnet_counts_as_the_papers_network():
    options = {"num_classes": 11, "backbone_weights": None, "image_size": (64, 80)}
    costs = counted(keras_psp.PSPNet, "resnet50_deep", **options)
    assert costs.parameters == 46_711_243  # without the auxiliary head
    # At 1/8: a 3×3 convolution of 2048 channels and as many of the pyramid, and the classes.
    weights = 9 * 4096 * 512 + 512 * 11
    assert costs.by_block()["head"].multiply_adds == weights * 8 * 10


def test_the_work_grows_with_the_image():
    model = chain((None, None, 4), layers.Conv2D(6, 3, padding="same"))
    assert count(model, (16, 20)).multiply_adds == 4 * count(model, (8, 10)).multiply_adds
    assert count(model, (8, 10)).input_shape == (8, 10, 4)
    with pytest.raises(ValueError, match=r"Received: image_size=None for .* takes any. Name a s"):
        count(model)


def test_a_fixed_size_network_is_counted_for_others():
    costs = counted(keras_psp.ResNet, "resnet18", image_size=(97, 130))
    fixed = {"input_shape": (224, 224, 3)}
    assert counted(keras_psp.ResNet, "resnet18", image_size=(97, 130), **fixed) == costs
    message = r"network can take. Received: image_size=\(256, 256\) for vgg11. Name another"
    with pytest.raises(ValueError, match=message):
        counted(keras_psp.VGG, "A", image_size=(256, 256))


def test_only_a_model_of_one_image_is_counted():
    inputs = [keras.Input((8, 10, 4)) for _ in range(2)]
    two = keras.Model(inputs, layers.Add()(inputs), name="two")
    for model in (two, keras.Sequential([layers.Dense(2)], name="unbuilt")):
        with pytest.raises(ValueError, match=f"with one input. Received: model={model.name}, a"):
            count(model)


def test_nothing_of_it_stays_behind():
    model = chain((None, None, 3), keras_psp.layers.BasicBlock(4, 2), layers.Conv2D(6, 3))
    every = layers_in(model)
    before = count(model, (8, 10))
    assert not any("call" in vars(layer) for layer in every)
    with pytest.raises(ValueError):
        count(model, (2, 2))  # less than the last kernel
    assert not any("call" in vars(layer) for layer in every)
    assert model(np.zeros((1, 8, 10, 3))).shape == (1, 2, 3, 6)
    assert count(model, (8, 10)) == before


def test_printed_it_is_a_table():
    costs = count(chain((8, 10, 4), layers.Conv2D(6, 3, name="conv"), layers.ReLU(name="relu")))
    lines = str(costs).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters", "multiply-adds"]
    assert [line.split() for line in lines[2:]] == [
        ["conv", "Conv2D", "6×8×6", "222", "10,368"],
        ["all", "222", "10,368"],
    ]


# PyTorch's counter -------------------------------------------------------------------------------


def torch_multiply_adds(network, size, forward=None):
    """What PyTorch counts in a forward pass: it calls a multiply-add two operations."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        (forward or network)(torch.zeros(1, 3, *size))
    total = counter.get_total_flops()
    assert total % 2 == 0
    return total // 2


@pytest.fixture
def torch_classifiers(monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is what this is compared with")
    # The counter imports Triton where there is one, and that crashes beside TensorFlow: both bring
    # an LLVM.
    monkeypatch.setitem(sys.modules, "triton", None)
    from tests.models import torch_classifiers

    # On this device PyTorch knows shapes only, and computes nothing.
    for constant in ("MEAN", "DEVIATION"):
        meta = getattr(torch_classifiers, constant).to("meta")
        monkeypatch.setattr(torch_classifiers, constant, meta)
    with torch.device("meta"):
        yield torch_classifiers


def test_alexnet_against_pytorch(torch_classifiers):
    costs = counted(keras_psp.AlexNet, num_classes=10)
    network = torch_classifiers.AlexNet(10)
    assert costs.multiply_adds == torch_multiply_adds(network, (227, 227))
    assert costs.parameters == sum(p.numel() for p in network.parameters())


def test_googlenet_against_pytorch(torch_classifiers):
    network = torch_classifiers.GoogLeNet(10)

    def without_auxiliary(x):
        x = network.end(network.middle(network.start(x)))
        return network.predictions(x.mean((2, 3)))

    costs = counted(keras_psp.Inception, "googlenet", num_classes=10)
    assert costs.multiply_adds == torch_multiply_adds(network, (224, 224), without_auxiliary)


@pytest.mark.parametrize(
    "variant, blocks, option, size",
    [
        ("resnet18", (2, 2, 2, 2), "B", (224, 224)),
        ("resnet34", (3, 4, 6, 3), "A", (97, 130)),
        ("resnet20", (3, 3, 3), "A", (32, 32)),
        ("resnet32", (5, 5, 5), None, (33, 40)),
    ],
)
def test_resnets_against_pytorch(torch_classifiers, variant, blocks, option, size):
    costs = counted(
        keras_psp.ResNet,
        variant,
        num_classes=10,
        residual=option is not None,
        shortcut=option,
        image_size=size,
    )
    network = torch_classifiers.ResNet(blocks, 10, option)
    assert costs.multiply_adds == torch_multiply_adds(network, size)
    assert costs.parameters == sum(p.numel() for p in network.parameters())
