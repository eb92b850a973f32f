"""The inception module and the dilated poolings against PyTorch."""

import keras
import numpy as np
import pytest

from keras_psp.layers import DilatedAveragePooling2D, DilatedMaxPooling2D, InceptionModule


@pytest.fixture
def features(rng):
    return rng.normal(size=(2, 7, 10, 6)).astype("float32")


@pytest.mark.parametrize("size, rate", [(3, 1), (3, 2), (3, 5), (5, 2)])
def test_pooling_equals_pytorchs(size, rate, features):
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
def test_averaging_equals_pytorchs_of_every_nth_place(size, rate, features):
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


def test_a_square_may_begin_at_its_place_and_zeros_may_count():
    row = np.array([3.0, 1.0, 0.0, 2.0], "float32").reshape(1, 1, 4, 1)
    maxima = DilatedMaxPooling2D(2, dilation_rate=2, centered=False)(row)
    assert np.ravel(keras.ops.convert_to_numpy(maxima)).tolist() == [3, 2, 0, 2]
    # Of nine places three lie in the row, and of these two have a value.
    means = DilatedAveragePooling2D(3, dilation_rate=2, count_outside=True)(row)
    np.testing.assert_allclose(np.ravel(means), [3 / 9, 3 / 9, 3 / 9, 3 / 9], rtol=1e-6)


@pytest.mark.parametrize("kind", [DilatedMaxPooling2D, DilatedAveragePooling2D])
@pytest.mark.parametrize("rate", [1, 2])
def test_pooling_is_a_keras_layer(kind, rate, check_layer, features):
    check_layer(kind(3, rate), features)


@pytest.mark.parametrize("options", [{}, {"naive": True}, {"dilation_rate": 2}])
def test_module_is_a_keras_layer(options, check_layer, features):
    check_layer(InceptionModule(4, 2, 6, 3, 2, 5, **options), features)


@pytest.mark.parametrize("naive", [False, True])
def test_module_equals_its_branches_in_pytorch(naive, features, set_random_weights):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    layer = InceptionModule(4, 2, 6, 3, 2, 5, naive=naive, dilation_rate=2)
    layer.build(features.shape)
    set_random_weights(layer)
    weights = {conv.name: conv.get_weights() for b in layer.branches for conv in b if conv.weights}
    x = torch.tensor(features.transpose(0, 3, 1, 2))

    def conv(x, name, dilation=1):
        kernel, bias = weights[name]
        kernel = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
        padding = dilation * (kernel.shape[-1] // 2)
        return functional.relu(
            functional.conv2d(x, kernel, torch.tensor(bias), 1, padding, dilation)
        )

    pooled = functional.pad(x, [2] * 4, value=float("-inf"))
    pooled = functional.max_pool2d(pooled, 3, 1, dilation=2)
    expected = [
        conv(x, "conv_1x1"),
        conv(x if naive else conv(x, "reduce_3x3"), "conv_3x3", dilation=2),
        conv(x if naive else conv(x, "reduce_5x5"), "conv_5x5", dilation=2),
        pooled if naive else conv(pooled, "project_pool"),
    ]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer(features)),
        torch.cat(expected, 1).numpy().transpose(0, 2, 3, 1),
        rtol=1e-5,
        atol=1e-5,
    )


def test_an_even_pool_has_no_middle():
    with pytest.raises(ValueError, match=r"Received: pool_size=2\. Use 3, 5, 7"):
        DilatedMaxPooling2D(2)
