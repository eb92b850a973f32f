"""Pyramid pooling against PyTorch and the course's test vectors."""

import keras
import numpy as np
import pytest

from keras_psp.layers import PyramidAveragePooling2D, PyramidMaxPooling2D, PyramidPooling
from tests.whole import whole

# Rows of digits, and what the course expects of the 3×3 level on them.
DIGITS = ["112233", "112233", "445566", "445566", "778812", "778834"]
THREE_BINS = [
    [1.0, 1.4, 1.8, 2.2, 2.6, 3.0],
    [2.2, 2.6, 3.0, 3.4, 3.8, 4.2],
    [3.4, 3.8, 4.2, 4.6, 5.0, 5.4],
    [4.6, 5.0, 5.4, 5.54, 5.42, 5.3],
    [5.8, 6.2, 6.6, 6.22, 5.06, 3.9],
    [7.0, 7.4, 7.8, 6.9, 4.7, 2.5],
]


@pytest.mark.parametrize("size", [(6, 6), (26, 26), (13, 17), (12, 4), (1, 2), (5, 1)])
@pytest.mark.parametrize("bins", [[1], [2], [3], [6], [1, 4, 2]])
def test_cells_equal_pytorchs_adaptive_pooling(rng, size, bins):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    images = torch.tensor(x.transpose(0, 3, 1, 2)).cpu()
    for layer, theirs in [
        (PyramidAveragePooling2D, torch.nn.functional.adaptive_avg_pool2d),
        (PyramidMaxPooling2D, torch.nn.functional.adaptive_max_pool2d),
    ]:
        for b, pooled in zip(bins, layer(bins)(x), strict=True):
            expected = theirs(images, b).numpy().transpose(0, 2, 3, 1)
            np.testing.assert_allclose(keras.ops.convert_to_numpy(pooled), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [PyramidAveragePooling2D, PyramidMaxPooling2D])
def test_cells_have_known_shapes(kind):
    layer = kind([1, 4, 2])
    assert layer.compute_output_shape((2, 7, 9, 3)) == [(2, b, b, 3) for b in (1, 4, 2)]
    pooled = layer(keras.Input((None, None, 3)))
    assert [x.shape for x in pooled] == [(None, b, b, 3) for b in (1, 4, 2)]
    assert kind.from_config(layer.get_config()).bins == (1, 4, 2)


def test_cells_of_26_are_those_of_the_paper():
    # 3 bins are [0,9) [8,18) [17,26): ramps average to the middle of their cells.
    ramp = np.arange(26, dtype="float32").reshape(1, 1, 26, 1)
    (pooled,) = PyramidAveragePooling2D([3])(ramp)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(pooled)[0, 0, :, 0], [4.0, 12.5, 21.0], rtol=1e-6
    )


@pytest.mark.parametrize("size", [(26, 26), (9, 12), (4, 5), (1, 1)])
@pytest.mark.parametrize(
    "bins, filters, aligned, pooling",
    [
        ((1, 2, 3, 6), None, True, "average"),
        ((4, 1), 5, True, "max"),
        ((2, 3), 5, False, "average"),
    ],
)
def test_equals_pytorch(rng, set_random_weights, size, bins, filters, aligned, pooling):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, *size, 8)).astype("float32")
    layer = PyramidPooling(bins, filters, align_corners=aligned, pooling=pooling)
    layer.build(x.shape)
    set_random_weights(layer)
    outputs = keras.ops.convert_to_numpy(layer(x))

    images = torch.tensor(x.transpose(0, 3, 1, 2)).cpu()
    expected = [images]
    for i, b in enumerate(bins):
        kernel = layer.convolutions[i].get_weights()[0]
        gamma, beta, mean, variance = map(torch.tensor, layer.batch_normalizations[i].get_weights())
        pool = {"average": "adaptive_avg_pool2d", "max": "adaptive_max_pool2d"}[pooling]
        y = getattr(torch.nn.functional, pool)(images, b)
        y = torch.nn.functional.conv2d(y, torch.tensor(kernel.transpose(3, 2, 0, 1).copy()))
        y = torch.nn.functional.batch_norm(y, mean, variance, gamma, beta, eps=1e-5).relu()
        expected.append(
            torch.nn.functional.interpolate(y, size=size, mode="bilinear", align_corners=aligned)
        )
    expected = torch.cat(expected, 1).numpy().transpose(0, 2, 3, 1)
    assert outputs.shape[-1] == 8 + len(bins) * (filters or 8 // len(bins))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_equals_vector_of_the_course():
    x = np.array([[float(c) for c in row] for row in DIGITS], "float32").reshape(1, 6, 6, 1)
    layer = PyramidPooling((1, 2, 3, 6), filters=1, epsilon=1e-7)
    layer.build(x.shape)
    for conv in layer.convolutions:
        conv.set_weights([np.ones((1, 1, 1, 1))])
    y = keras.ops.convert_to_numpy(whole(layer)(x))[0]
    assert y.shape == (6, 6, 5)
    np.testing.assert_allclose(y[..., 0], x[0, ..., 0], atol=1e-6)
    np.testing.assert_allclose(y[..., 4], x[0, ..., 0], atol=1e-5)
    np.testing.assert_allclose(y[..., 1], 4.2778, atol=1e-4)
    np.testing.assert_allclose(y[..., 3], THREE_BINS, atol=1e-5)


def test_has_shape_of_the_course():
    # (10, 200, 300, 100) in the course; the batch says nothing about shapes.
    x = np.random.default_rng(0).random((1, 200, 300, 100), "float32")
    y = keras.ops.convert_to_numpy(PyramidPooling((1, 2, 3, 6, 12), filters=50)(x))
    assert y.shape == (1, 200, 300, 350)
    np.testing.assert_array_equal(y[..., :100], x)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_keeps_the_contract_of_a_layer(rng, check_layer, pooling):
    x = rng.normal(size=(4, 7, 9, 8)).astype("float32")
    check_layer(PyramidPooling(bins=[1, 3], pooling=pooling), x)


@pytest.mark.parametrize("bins", [(), (1, 0), (2.5,)])
def test_wrong_bins_are_an_error(bins):
    with pytest.raises(ValueError, match=r"at least .*Received: bins=.*\(1, 2, 3, 6\)"):
        PyramidPooling(bins)


def test_there_are_two_poolings():
    with pytest.raises(ValueError, match=r"pooling='maximum'\. Did you mean 'max'"):
        PyramidPooling(pooling="maximum")


def test_fewer_channels_than_levels_are_an_error():
    with pytest.raises(ValueError, match=r"Received: 3 channels.*bins=\(1, 2, 3, 6\).*filters="):
        PyramidPooling()(np.zeros((1, 4, 4, 3), "float32"))
