"""The inception module against PyTorch."""

import keras
import numpy as np
import pytest

from keras_psp.layers import InceptionModule


@pytest.fixture
def features(rng):
    return rng.normal(size=(2, 7, 10, 6)).astype("float32")


@pytest.mark.parametrize("options", [{}, {"naive": True}, {"dilation_rate": 2}])
def test_keeps_the_contract_of_a_layer(options, check_layer, features):
    check_layer(InceptionModule(4, 2, 6, 3, 2, 5, **options), features)


@pytest.mark.parametrize("naive", [False, True])
def test_equals_its_branches_in_pytorch(naive, features, set_random_weights):
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
