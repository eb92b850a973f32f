"""The evenly padded convolution against PyTorch's, which pads that way."""

import keras
import numpy as np
import pytest

from keras_psp.layers import PaddedConv2D, PaddedMaxPooling2D, convolution


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (9, 13), (2, 2), (9, 1)])
@pytest.mark.parametrize(
    "kernel, strides, dilation",
    [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (3, 1, 4), (7, 2, 1), (5, 3, 1)],
)
def test_equals_pytorch(rng, size, kernel, strides, dilation):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    layer = PaddedConv2D(4, kernel, strides, dilation, bias_initializer="random_normal")
    outputs = keras.ops.convert_to_numpy(layer(x))
    weight, bias = layer.get_weights()
    expected = torch.nn.functional.conv2d(
        torch.tensor(x.transpose(0, 3, 1, 2)).cpu(),
        torch.tensor(weight.transpose(3, 2, 0, 1).copy()),
        torch.tensor(bias),
        strides,
        padding=dilation * (kernel - 1) // 2,
        dilation=dilation,
    )
    np.testing.assert_allclose(outputs, expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (9, 13), (1, 4)])
@pytest.mark.parametrize("window, strides", [(3, 2), (3, 1), (5, 3)])
def test_pooling_equals_pytorchs(rng, size, window, strides):
    torch = pytest.importorskip("torch")
    x = rng.uniform(0, 1, (2, *size, 3)).astype("float32")
    layer = PaddedMaxPooling2D(window, strides)
    images = torch.tensor(x.transpose(0, 3, 1, 2)).cpu()
    expected = torch.nn.functional.max_pool2d(images, window, strides, padding=window // 2)
    expected = expected.numpy().transpose(0, 2, 3, 1)
    assert layer.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x)), expected)
    assert PaddedMaxPooling2D.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.filterwarnings("ignore:CUDA initialization")  # PyTorch's, on its first gradient
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("onednn", [True, False])
def test_gradients_equal_pytorchs(rng, monkeypatch, dilation, onednn):
    torch = pytest.importorskip("torch")
    if not onednn:  # As where TensorFlow was built without it.
        monkeypatch.setattr(convolution, "uses_onednn", lambda: False)
    x, y = (rng.normal(size=(2, 9, 12, n)).astype("float32") for n in (3, 5))
    image = keras.Input((None, None, 3))
    first = keras.layers.Conv2D(4, 1, use_bias=False)
    second = PaddedConv2D(5, 3, dilation_rate=dilation, use_bias=False)
    model = keras.Model(image, second(first(image)))
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, y)
    found = [b - a for b, a in zip(before, model.get_weights(), strict=True)]

    kernels = [torch.tensor(k.transpose(3, 2, 0, 1).copy()).requires_grad_() for k in before]
    images, targets = (torch.tensor(array.transpose(0, 3, 1, 2)).cpu() for array in (x, y))
    hidden = torch.nn.functional.conv2d(images, kernels[0])
    outputs = torch.nn.functional.conv2d(hidden, kernels[1], padding=dilation, dilation=dilation)
    torch.nn.functional.mse_loss(outputs, targets).backward()
    for ours, theirs in zip(found, kernels, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy().transpose(2, 3, 1, 0), atol=1e-5)


@pytest.mark.parametrize("strides, dilation", [(2, 1), (1, 2)])
def test_keeps_the_contract_of_a_layer(rng, check_layer, strides, dilation):
    x = rng.normal(size=(2, 8, 9, 3)).astype("float32")
    check_layer(PaddedConv2D(4, 3, strides, dilation), x)


def test_even_kernel_is_an_error():
    with pytest.raises(ValueError, match=r"odd kernel.*Received: kernel_size=4.*Use 1, 3, 5"):
        PaddedConv2D(4, 4)


@pytest.mark.parametrize("option", [{"padding": "valid"}, {"data_format": "channels_first"}])
def test_padding_argument_is_an_error(option):
    with pytest.raises(TypeError, match=f"keyword argument '{next(iter(option))}'"):
        PaddedConv2D(4, 3, **option)


def test_dilated_stride_is_an_error():
    with pytest.raises(ValueError, match=r"strides.*not supported.*dilation_rate"):
        PaddedConv2D(4, 3, strides=2, dilation_rate=2)
