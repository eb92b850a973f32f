"""The dilated poolings against PyTorch."""

import keras
import numpy as np
import pytest

from keras_psp.layers import DilatedAveragePooling2D, DilatedMaxPooling2D


@pytest.fixture
def features(rng):
    return rng.normal(size=(2, 7, 10, 6)).astype("float32")


@pytest.mark.parametrize("size, rate", [(3, 1), (3, 2), (3, 5), (5, 2)])
def test_maximum_equals_pytorchs(size, rate, features):
    torch = pytest.importorskip("torch")
    layer = DilatedMaxPooling2D(size, rate)
    # PyTorch allows no more padding than half of the kernel, undilated: so pad before it.
    side = rate * (size // 2)
    padded = torch.nn.functional.pad(
        torch.tensor(features.transpose(0, 3, 1, 2)), [side] * 4, value=float("-inf")
    )
    expected = torch.nn.functional.max_pool2d(padded, size, 1, dilation=rate)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(layer(features)), expected.numpy().transpose(0, 2, 3, 1)
    )


@pytest.mark.parametrize("size, rate", [(3, 1), (3, 2), (3, 5), (5, 2)])
def test_average_equals_pytorchs_of_strided_places(size, rate, features):
    torch = pytest.importorskip("torch")
    outputs = keras.ops.convert_to_numpy(DilatedAveragePooling2D(size, rate)(features))
    for i, j in np.ndindex(rate, rate):
        places = torch.tensor(features[:, i::rate, j::rate].transpose(0, 3, 1, 2))
        expected = torch.nn.functional.avg_pool2d(
            places, size, 1, size // 2, count_include_pad=False
        )
        np.testing.assert_allclose(
            outputs[:, i::rate, j::rate], expected.numpy().transpose(0, 2, 3, 1), atol=1e-6
        )


def test_square_off_center_counts_zeros_outside():
    row = np.array([3.0, 1.0, 0.0, 2.0], "float32").reshape(1, 1, 4, 1)
    maxima = DilatedMaxPooling2D(2, dilation_rate=2, centered=False)(row)
    assert np.ravel(keras.ops.convert_to_numpy(maxima)).tolist() == [3, 2, 0, 2]
    # Of nine places three lie in the row, and of these two have a value.
    means = DilatedAveragePooling2D(3, dilation_rate=2, count_outside=True)(row)
    np.testing.assert_allclose(np.ravel(means), [3 / 9, 3 / 9, 3 / 9, 3 / 9], rtol=1e-6)


@pytest.mark.parametrize("kind", [DilatedMaxPooling2D, DilatedAveragePooling2D])
@pytest.mark.parametrize("rate", [1, 2])
def test_keeps_the_contract_of_a_layer(kind, rate, check_layer, features):
    check_layer(kind(3, rate), features)


def test_even_pool_size_is_an_error():
    with pytest.raises(ValueError, match=r"Received: pool_size=2\. Use 3, 5, 7"):
        DilatedMaxPooling2D(2)
