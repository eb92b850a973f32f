"""The segmentation head against PyTorch."""

import keras
import numpy as np
import pytest

from keras_psp.layers import SegmentationHead


def test_equals_pytorch(rng, set_random_weights):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 7, 6, 8)).astype("float32")
    layer = SegmentationHead(filters=5, num_classes=3)
    layer.build(x.shape)
    set_random_weights(layer)
    outputs = keras.ops.convert_to_numpy(layer(x))

    kernel, bias = layer.conv2.get_weights()
    gamma, beta, mean, variance = map(torch.tensor, layer.bn1.get_weights())
    y = torch.tensor(x.transpose(0, 3, 1, 2)).cpu()
    first = torch.tensor(layer.conv1.get_weights()[0].transpose(3, 2, 0, 1).copy())
    y = torch.nn.functional.conv2d(y, first, padding=1)
    y = torch.nn.functional.batch_norm(y, mean, variance, gamma, beta, eps=1e-5).relu()
    last = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
    y = torch.nn.functional.conv2d(y, last, torch.tensor(bias))
    np.testing.assert_allclose(outputs, y.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_parameters_are_those_of_the_authors_head():
    layer = SegmentationHead(filters=512, num_classes=11)
    layer.build((None, None, None, 4096))
    # reference/architectures.md: 18,881,035
    assert sum(np.prod(v.shape) for v in layer.trainable_variables) == 18_881_035


def test_dropout_takes_whole_channels():
    x = np.ones((1, 4, 4, 2), "float32")
    layer = SegmentationHead(filters=64, num_classes=1, dropout=0.5)
    layer.build(x.shape)
    hidden = layer.drop(np.ones((1, 4, 4, 64), "float32"), training=True)
    per_channel = keras.ops.convert_to_numpy(hidden).reshape(16, 64)
    assert (per_channel == per_channel[0]).all()
    assert set(per_channel[0]) == {0.0, 2.0}
    untouched = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(untouched, keras.ops.convert_to_numpy(layer(x, training=False)))
    trained = [keras.ops.convert_to_numpy(layer(x, training=True)) for _ in range(2)]
    assert not np.array_equal(*trained)


def test_keeps_the_contract_of_a_layer(rng, check_layer):
    x = rng.normal(size=(2, 5, 6, 8)).astype("float32")
    check_layer(SegmentationHead(filters=4, num_classes=3, dropout=0.2), x)
