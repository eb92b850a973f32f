"""FCN's learned upsampling as it begins, and its cropping, against PyTorch and by hand."""

import keras
import numpy as np
import pytest

from keras_psp.layers import Bilinear, Crop


def upsampling(channels, factor, padding):
    options = {"use_bias": False, "kernel_initializer": Bilinear(), "data_format": "channels_last"}
    return keras.layers.Conv2DTranspose(channels, 2 * factor, factor, padding, **options)


def test_the_kernel_worked_out_by_hand():
    kernel = keras.ops.convert_to_numpy(Bilinear()((4, 4, 2, 2)))
    row = np.array([1, 3, 3, 1]) / 4
    np.testing.assert_allclose(kernel[:, :, 1, 1], np.outer(row, row))
    assert not kernel[:, :, 0, 1].any()


def test_transposed_convolution_worked_out_by_hand():
    # Each number paints the row (1, 3, 3, 1) / 4, two places further; what overlaps is added.
    x = np.array([4.0, 8.0], "float32").reshape(1, 1, 2, 1)
    painted = keras.ops.convert_to_numpy(upsampling(1, 2, "valid")(x))[0, :, :, 0]
    row = np.array([1, 3, 3 + 2, 1 + 6, 6, 2])
    np.testing.assert_allclose(painted, np.outer([1 / 4, 3 / 4, 3 / 4, 1 / 4], row))


@pytest.mark.parametrize("factor", [2, 8])
def test_begins_as_pytorchs_interpolation(rng, factor):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(1, 3, 4, 2)).astype("float32")
    maps = torch.tensor(x.transpose(0, 3, 1, 2)).cpu()
    expected = torch.nn.functional.interpolate(
        maps, scale_factor=factor, mode="bilinear", align_corners=False
    )
    ours = keras.ops.convert_to_numpy(upsampling(2, factor, "same")(x))
    inner = slice(factor // 2, -(factor // 2))  # At the border, zeros from outside are mixed in.
    expected = expected.numpy().transpose(0, 2, 3, 1)[:, inner, inner]
    np.testing.assert_allclose(ours[:, inner, inner], expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:CUDA initialization")  # PyTorch's, on its first gradient
@pytest.mark.parametrize("padding, pad", [("valid", 0), ("same", 2)])
def test_output_and_gradients_equal_pytorchs(rng, padding, pad):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 3, 5, 2)).astype("float32")
    layer = upsampling(2, 4, padding)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    kernel = rng.normal(size=layer.kernel.shape).astype("float32")
    layer.set_weights([kernel])
    # Keras' kernels are (height, width, outputs, inputs), PyTorch's (inputs, outputs, …).
    theirs = torch.tensor(kernel.transpose(3, 2, 0, 1)).requires_grad_()
    maps = torch.tensor(x.transpose(0, 3, 1, 2))
    outputs = torch.nn.functional.conv_transpose2d(maps, theirs, stride=4, padding=pad)
    ours = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(ours, outputs.detach().numpy().transpose(0, 2, 3, 1), atol=1e-5)
    outputs.square().mean().backward()
    model.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    model.fit(x, np.zeros_like(ours), verbose=0)
    gradient = kernel - keras.ops.convert_to_numpy(layer.kernel)
    np.testing.assert_allclose(gradient, theirs.grad.numpy().transpose(2, 3, 1, 0), atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4, 2, 3), (4, 2, 1, 1)])
def test_other_kernels_are_refused(shape):
    with pytest.raises(ValueError, match=r"square, .* Received: shape=\(4, .*as many filters"):
        Bilinear()(shape)


def test_cuts_from_the_offset_on(check_layer, rng):
    x, like = rng.normal(size=(2, 7, 8, 3)), rng.normal(size=(2, 4, 5, 1))
    x, like = x.astype("float32"), like.astype("float32")
    cut = keras.ops.convert_to_numpy(Crop()(x, like=like, offset=2))
    np.testing.assert_array_equal(cut, x[:, 2:6, 2:7])
    check_layer(Crop(), x, like)
