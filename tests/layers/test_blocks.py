"""The blocks of ResNet against the same blocks written out in PyTorch."""

import keras
import numpy as np
import pytest

from keras_psp.layers import BasicBlock, DilatedBottleneck


def torch_block(layer, x):
    """The block, from the figure in the paper, on the layer's weights."""
    torch = pytest.importorskip("torch")

    def convolution(conv, bn, y, strides, dilation=1):
        kernel, *bias = conv.get_weights()
        assert bool(bias) == layer.use_bias
        side = kernel.shape[0]
        y = torch.nn.functional.conv2d(
            y,
            torch.tensor(kernel.transpose(3, 2, 0, 1).copy()),
            torch.tensor(bias[0]) if bias else None,
            strides,
            padding=dilation if side == 3 else 0,
            dilation=dilation,
        )
        gamma, beta, mean, variance = map(torch.tensor, bn.get_weights())
        return torch.nn.functional.batch_norm(y, mean, variance, gamma, beta, eps=layer.epsilon)

    steps = list(zip(layer.convolutions, layer.batch_normalizations, strict=True))
    strides, dilation = layer.strides, layer.dilation_rate
    inputs = y = torch.tensor(x.transpose(0, 3, 1, 2)).cpu()
    if isinstance(layer, BasicBlock):
        y = convolution(*steps[0], y, strides, dilation).relu()
        y = convolution(*steps[1], y, 1, dilation)
    else:
        on_the_first = layer.stride_on == "1x1"
        y = convolution(*steps[0], y, strides if on_the_first else 1).relu()
        y = convolution(*steps[1], y, 1 if on_the_first else strides, dilation).relu()
        y = convolution(*steps[2], y, 1)
    if layer.residual:
        if layer.shortcut_conv is not None:
            inputs = convolution(layer.shortcut_conv, layer.shortcut_bn, inputs, strides)
        y = y + inputs
    return y.relu().numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: BasicBlock(6),
        lambda: BasicBlock(5),
        lambda: BasicBlock(6, strides=2),
        lambda: BasicBlock(6, dilation_rate=2),
        lambda: BasicBlock(6, strides=2, residual=False, use_bias=True, epsilon=1e-3),
        lambda: DilatedBottleneck(3),
        lambda: DilatedBottleneck(3, strides=2),
        lambda: DilatedBottleneck(3, strides=2, stride_on="1x1", use_bias=True, epsilon=1.001e-5),
        lambda: DilatedBottleneck(3, dilation_rate=4),
        lambda: DilatedBottleneck(3, strides=2, residual=False),
    ],
)
def test_equals_pytorch(rng, set_random_weights, layer, size):
    x = rng.normal(size=(2, *size, 6)).astype("float32")
    layer = layer()
    layer.build(x.shape)
    set_random_weights(layer)
    outputs = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(outputs, torch_block(layer, x), rtol=1e-5, atol=1e-5)


def test_shortcut_is_identity_where_shapes_agree():
    for layer, channels, projects in [
        (BasicBlock(8), 8, False),
        (BasicBlock(8), 4, True),
        (BasicBlock(8, strides=2), 8, True),
        (DilatedBottleneck(2), 8, False),
        (DilatedBottleneck(2, strides=2), 8, True),
        (DilatedBottleneck(4, residual=False), 8, False),
    ]:
        layer.build((None, None, None, channels))
        assert (layer.shortcut_conv is not None) == projects


@pytest.mark.parametrize(
    "layer",
    [
        lambda: BasicBlock(5, strides=2),
        lambda: BasicBlock(6, dilation_rate=2, residual=False),
        lambda: DilatedBottleneck(3, strides=2, stride_on="1x1"),
        lambda: DilatedBottleneck(2, dilation_rate=2, epsilon=1e-3),
    ],
    ids=["basic", "plain", "bottleneck", "dilated"],
)
def test_keeps_the_contract_of_a_layer(rng, check_layer, layer):
    check_layer(layer(), rng.normal(size=(4, 7, 8, 6)).astype("float32"))


def test_unknown_stride_on_is_an_error():
    with pytest.raises(ValueError, match=r"stride_on='3×3'. Did you mean '3x3'"):
        DilatedBottleneck(4, stride_on="3×3")
