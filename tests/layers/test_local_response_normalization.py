"""Local response normalization against TensorFlow's and PyTorch's."""

import keras
import numpy as np
import pytest

from keras_psp.layers import LocalResponseNormalization

OPTIONS = [
    {},
    {"size": 3, "alpha": 0.5, "beta": 0.5, "bias": 1.0},
    {"size": 9, "alpha": 2e-3, "beta": 1.5, "bias": 0.3},  # more channels than there are
]


@pytest.fixture
def features(rng):
    return rng.normal(0, 20, (2, 5, 4, 7)).astype("float32")


@pytest.mark.parametrize("options", OPTIONS)
def test_equals_tensorflows(options, features):
    tf = pytest.importorskip("tensorflow")
    layer = LocalResponseNormalization(**options)
    expected = tf.nn.local_response_normalization(
        features, layer.size // 2, bias=layer.bias, alpha=layer.alpha, beta=layer.beta
    )
    outputs = keras.ops.convert_to_numpy(layer(features))
    np.testing.assert_allclose(outputs, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_equals_pytorchs_with_alpha_times_size(options, features):
    torch = pytest.importorskip("torch")
    layer = LocalResponseNormalization(**options)
    expected = torch.nn.functional.local_response_norm(
        torch.tensor(features.transpose(0, 3, 1, 2)),
        layer.size,
        alpha=layer.alpha * layer.size,
        beta=layer.beta,
        k=layer.bias,
    )
    outputs = keras.ops.convert_to_numpy(layer(features))
    np.testing.assert_allclose(outputs, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-5)


def test_keeps_the_contract_of_a_layer(check_layer, features):
    check_layer(LocalResponseNormalization(alpha=0.01), features)


def test_even_size_is_an_error():
    with pytest.raises(ValueError, match=r"Received: size=4\. Use 3, 5, 7"):
        LocalResponseNormalization(4)
