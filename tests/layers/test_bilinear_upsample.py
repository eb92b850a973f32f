"""Bilinear interpolation against the lecture's numbers, PyTorch and linear images."""

import keras
import numpy as np
import pytest

from keras_psp.layers import BilinearUpsample
from keras_psp.layers.bilinear_upsample import Strips, upsampled_argmax

SIZES = [
    ((5, 7), (10, 14)),
    ((6, 6), (41, 48)),
    ((26, 9), (13, 13)),
    ((1, 4), (3, 1)),
    ((3, 1), (3, 5)),
]


def upsample(x, *args, **options):
    return keras.ops.convert_to_numpy(BilinearUpsample(**options)(x, *args))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size, new_size", SIZES)
def test_equals_pytorch(rng, size, new_size, align_corners):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.tensor(x.transpose(0, 3, 1, 2)).cpu(),
        size=new_size,
        mode="bilinear",
        align_corners=align_corners,
    )
    expected = expected.numpy().transpose(0, 2, 3, 1)
    options = {"align_corners": align_corners}
    np.testing.assert_allclose(upsample(x, size=new_size, **options), expected, atol=1e-5)
    like = np.zeros((2, *new_size, 1), "float32")
    np.testing.assert_allclose(upsample(x, like, **options), expected, atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("numbers", [1, 500, 10**6])  # in a strip: a row, some, all of the map
def test_strips_equal_the_upsampled_map(rng, monkeypatch, align_corners, numbers):
    monkeypatch.setattr(Strips, "NUMBERS", numbers)
    x = rng.normal(size=(2, 4, 5, 3)).astype("float32")
    large = upsample(x, size=(19, 23), align_corners=align_corners)
    strips = Strips(keras.ops.convert_to_tensor(x), (19, 23), align_corners)
    assert (strips.number, strips.rows) == {1: (19, 1), 500: (7, 3), 10**6: (1, 19)}[numbers]
    rows = [keras.ops.convert_to_numpy(strips[i]) for i in range(strips.number)]
    np.testing.assert_allclose(np.concatenate(rows, axis=1)[:, :19], large, atol=1e-6)
    best = upsampled_argmax(keras.ops.convert_to_tensor(x), (19, 23), align_corners)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(best), large.argmax(axis=-1))
    pixels = rng.integers(0, 9, (2, 19, 23))
    again = strips.join(strips.cut(keras.ops.convert_to_tensor(pixels)))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again), pixels)


@pytest.mark.filterwarnings("ignore:CUDA initialization")  # PyTorch's, on its first gradient
@pytest.mark.parametrize("align_corners", [True, False])
def test_gradient_equals_pytorchs(rng, align_corners):
    torch = pytest.importorskip("torch")
    kernel = rng.normal(size=(1, 1, 2, 2)).astype("float32")
    x = rng.normal(size=(1, 4, 5, 2)).astype("float32")
    target = rng.normal(size=(1, 9, 11, 2)).astype("float32")

    image = keras.Input((None, None, 2))
    conv = keras.layers.Conv2D(2, 1, use_bias=False)
    model = keras.Model(
        image, BilinearUpsample(size=(9, 11), align_corners=align_corners)(conv(image))
    )
    conv.set_weights([kernel])
    model.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    model.fit(x, target, verbose=0)

    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy()).cpu().requires_grad_()
    y = torch.nn.functional.conv2d(torch.tensor(x.transpose(0, 3, 1, 2)).cpu(), weight)
    y = torch.nn.functional.interpolate(
        y, size=(9, 11), mode="bilinear", align_corners=align_corners
    )
    ((y - torch.tensor(target.transpose(0, 3, 1, 2)).cpu()) ** 2).mean().backward()
    expected = kernel - weight.grad.numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(conv.get_weights()[0], expected, atol=1e-5)


def test_half_pixel_centers_equal_the_lectures_example():
    x = np.array([[1.0, 2.0], [3.0, 4.0]], "float32").reshape(1, 2, 2, 1)
    expected = [
        [1.0, 1.25, 1.75, 2.0],
        [1.5, 1.75, 2.25, 2.5],
        [2.5, 2.75, 3.25, 3.5],
        [3.0, 3.25, 3.75, 4.0],
    ]
    y = upsample(x, factor=2, align_corners=False)
    np.testing.assert_allclose(y[0, :, :, 0], expected, rtol=1e-6)


def test_aligned_corners_reproduce_a_linear_image():
    rows, columns = np.mgrid[0:1:4j, 0:1:5j]
    fine_rows, fine_columns = np.mgrid[0:1:13j, 0:1:9j]
    x = (2 * rows - 3 * columns).astype("float32").reshape(1, 4, 5, 1)
    y = upsample(x, size=(13, 9))
    np.testing.assert_allclose(y[0, :, :, 0], 2 * fine_rows - 3 * fine_columns, atol=1e-6)


def test_integers_are_interpolated_too():
    x = np.array([[10, 20], [30, 40]]).reshape(1, 2, 2, 1)
    expected = [[10, 15, 20], [20, 25, 30], [30, 35, 40]]
    for dtype in ("uint8", "int32"):
        y = upsample(x.astype(dtype), size=(3, 3))
        np.testing.assert_allclose(y[0, :, :, 0], expected)


def test_same_size_changes_nothing(rng):
    x = rng.normal(size=(1, 6, 7, 2)).astype("float32")
    for align_corners in (True, False):
        np.testing.assert_allclose(upsample(x, x, align_corners=align_corners), x, atol=1e-6)


@pytest.mark.parametrize("options", [{"factor": 3}, {"size": (7, 12), "align_corners": False}])
def test_keeps_the_contract_of_a_layer(rng, check_layer, options):
    x = rng.normal(size=(2, 4, 5, 3)).astype("float32")
    check_layer(BilinearUpsample(**options), x)


def test_keeps_the_contract_with_two_inputs(rng, check_layer):
    x = rng.normal(size=(2, 4, 5, 3)).astype("float32")
    check_layer(BilinearUpsample(), x, np.zeros((2, 9, 7, 1), "uint8"))


@pytest.mark.parametrize(
    "options, received",
    [
        ({"size": (4, 4), "factor": 2}, r"Received: size=\(4, 4\), factor=2"),
        ({"size": (4,)}, r"size=\(4,\)"),
        ({"size": (4, 0)}, r"size=\(4, 0\)"),
        ({"factor": 0.5}, "factor=0.5"),
    ],
)
def test_wrong_size_is_an_error(options, received):
    with pytest.raises(ValueError, match=received):
        BilinearUpsample(**options)


def test_call_needs_exactly_one_size():
    x = np.zeros((1, 2, 2, 1), "float32")
    with pytest.raises(ValueError, match=r"must be given once.*size=None, factor=None, like=None"):
        BilinearUpsample()(x)
    with pytest.raises(ValueError, match=r"must be given once.*factor=2, like=\(1, 2, 2, 1\)"):
        BilinearUpsample(factor=2)(x, x)
