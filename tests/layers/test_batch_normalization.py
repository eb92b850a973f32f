"""Batch normalization against PyTorch's, and its fast form against Keras'."""

import inspect

import keras
import numpy as np
import pytest

from keras_psp.layers import BatchNormalization, batch_normalization


def test_constants_are_those_of_the_papers():
    layer = BatchNormalization()
    assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


def step(layer, x, target):
    """One step of gradient descent on the layer; its weights and moving statistics after it."""
    image = keras.Input(x.shape[1:])
    model = keras.Model(image, layer(image))
    model.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    model.fit(x, target, verbose=0, batch_size=len(x))
    return layer.get_weights()


@pytest.mark.filterwarnings("ignore:CUDA initialization")  # PyTorch's, on its first gradient
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (1, 1, 2, 3), (7, 6)])
def test_training_equals_pytorchs(rng, shape):
    torch = pytest.importorskip("torch")
    x = rng.normal(2.0, 3.0, shape).astype("float32")
    target = rng.normal(size=shape).astype("float32")
    gamma, beta, mean, variance = step(BatchNormalization(), x, target)

    flat = torch.tensor(x.reshape(-1, shape[-1])).cpu()
    layer = torch.nn.BatchNorm1d(shape[-1], eps=1e-5, momentum=0.1).cpu()
    loss = ((layer(flat) - torch.tensor(target.reshape(-1, shape[-1])).cpu()) ** 2).mean()
    loss.backward()
    np.testing.assert_allclose(gamma, 1 - layer.weight.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(beta, -layer.bias.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(mean, layer.running_mean.numpy(), atol=1e-5)
    # PyTorch remembers the unbiased variance, Keras the biased one.
    n = len(flat)
    np.testing.assert_allclose(
        (variance - 0.9) * n / (n - 1), layer.running_var.numpy() - 0.9, rtol=1e-4
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": False}, {"center": False}, {"axis": 1}, {"trainable": False}],
    ids=str,
)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_differs_from_keras_in_its_constants_only(rng, options, policy):
    x = rng.normal(2.0, 3.0, (3, 5, 4, 5)).astype("float32")
    ours = BatchNormalization(dtype=policy, **options)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy, **options)
    for training in (True, False):
        y, expected = (
            keras.ops.convert_to_numpy(keras.ops.cast(layer(x, training=training), "float32"))
            for layer in (ours, theirs)
        )
        np.testing.assert_allclose(y, expected, atol=1e-5 if policy == "float32" else 4e-3)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3 if policy == "mixed_float16" else 1e-5)


def test_masked_places_are_left_out(rng):
    x = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    mask = np.zeros((2, 3, 4), bool)
    mask[0] = True
    layer, alone = BatchNormalization(), BatchNormalization()
    layer(x, training=True, mask=mask)
    alone(x[:1], training=True)
    np.testing.assert_allclose(layer.get_weights()[2], alone.get_weights()[2], atol=1e-6)


def test_first_arguments_are_those_of_keras():
    kinds = BatchNormalization, keras.layers.BatchNormalization
    ours, theirs = ([*inspect.signature(kind).parameters] for kind in kinds)
    assert ours[:5] == theirs[:5]
    assert (
        BatchNormalization(1, 0.5, 0.1, False, False).get_config().items()
        >= {
            "axis": 1,
            "momentum": 0.5,
            "epsilon": 0.1,
            "center": False,
            "scale": False,
            "synchronized": True,
        }.items()
    )


def test_replicas_keep_their_statistics_if_asked(rng, monkeypatch):
    x = rng.normal(2.0, 3.0, (3, 5, 4, 6)).astype("float32")
    of_all = keras.ops.zeros(6), keras.ops.ones(6)
    monkeypatch.setattr(batch_normalization, "replicas", lambda: 2)
    monkeypatch.setattr(batch_normalization, "_moments_of_replicas", lambda x, axes: of_all)
    means = {True: np.zeros(6), False: x.mean((0, 1, 2))}
    for synchronized, mean in means.items():
        layer = BatchNormalization(momentum=0.0, synchronized=synchronized)
        layer(x, training=True)
        np.testing.assert_allclose(layer.get_weights()[2], mean, atol=1e-5)


def test_batch_renormalization_is_an_error():
    with pytest.raises(ValueError, match=r"Received: renorm=True\. Use keras\.layers\.Batch"):
        BatchNormalization(renorm=True)


def test_keeps_the_contract_of_a_layer(rng, check_layer):
    check_layer(BatchNormalization(), rng.normal(2.0, 3.0, (2, 5, 6, 3)).astype("float32"))


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_all_numbers_may_be_half_or_double(floatx, rng):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)  # Follows, unless a test has set it.
    try:
        layer = BatchNormalization()
        x = rng.normal(3.0, 2.0, (4, 5, 6, 7))
        outputs = keras.ops.convert_to_numpy(layer(keras.ops.cast(x, floatx), training=True))
        assert outputs.dtype == floatx
        assert abs(outputs.astype("float32").std() - 1) < 0.01
        moved = keras.ops.convert_to_numpy(layer.moving_mean)
        assert np.abs(moved - 0.1 * x.mean((0, 1, 2))).max() < 1e-3
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
