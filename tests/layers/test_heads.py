"""The segmentation head against PyTorch."""

import keras
import numpy as np
import pytest

from keras_psp.layers import PyramidPooling, SegmentationHead
from tests.whole import whole


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


@pytest.mark.parametrize("size", [(26, 26), (9, 13), (4, 5), (1, 2)])
@pytest.mark.parametrize("bins, aligned", [((1, 2, 3, 6), True), ((5,), True), ((2, 3), False)])
def test_small_levels_equal_upsampled_levels(rng, set_random_weights, size, bins, aligned):
    x = rng.normal(size=(3, *size, 8)).astype("float32")
    plain = PyramidPooling(bins, 4, align_corners=aligned)
    small = PyramidPooling(bins, 4, align_corners=aligned, upsample=False)
    head = SegmentationHead(filters=7, num_classes=3, align_corners=aligned)
    head(plain(keras.Input((None, None, 8))))
    small.build(x.shape)
    for layer in (plain, head):
        set_random_weights(layer)
    small.set_weights(plain.get_weights())
    expected = keras.ops.convert_to_numpy(whole(lambda x: head(plain(x)))(x))
    levels = whole(small)(x)
    assert [tuple(level.shape) for level in levels[1:]] == [(3, b, b, 4) for b in bins]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(whole(head)(levels)), expected, rtol=1e-5, atol=1e-5
    )


def test_gradients_equal_those_of_upsampled_levels(rng, set_random_weights):
    # Through the loss of one training step: what a weight becomes shows its gradient.
    x = rng.normal(size=(2, 9, 7, 8)).astype("float32")
    y = rng.normal(size=(2, 9, 7, 3)).astype("float32")
    weights = []
    for upsample in (True, False):
        image = keras.Input((None, None, 8))
        pyramid = PyramidPooling((1, 2, 3), upsample=upsample)
        head = SegmentationHead(filters=7, num_classes=3, dropout=0.0)
        model = keras.Model(image, head(pyramid(image)))
        set_random_weights(model)
        # Compiling takes longer than the step, except where each operation is compiled.
        eagerly = keras.backend.backend() != "jax"
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eagerly)
        model.train_on_batch(x, y)
        weights.append(model.get_weights())
    for plain, small in zip(*weights, strict=True):
        np.testing.assert_allclose(small, plain, rtol=1e-5, atol=1e-5)


def test_keeps_the_contract_of_a_layer(rng, check_layer):
    x = rng.normal(size=(2, 5, 6, 8)).astype("float32")
    check_layer(SegmentationHead(filters=4, num_classes=3, dropout=0.2), x)
