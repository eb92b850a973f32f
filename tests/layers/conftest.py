"""What every layer is asked, and what the tests of layers share."""

import json

import keras
import numpy as np
import pytest

from keras_psp.keras_internals import layers_in
from tests.whole import whole


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def check_layer(tmp_path, set_random_weights):
    """Holds a layer to the contract of Keras.

    `check_layer(layer, *inputs)`: shapes known before running, unknown height and width, the way to
    a configuration and back, saved and loaded, mixed precision, and one training step.
    """

    def check(layer, *inputs, half_precision=True):
        build(layer, inputs)
        set_random_weights(layer)
        expected = keras.ops.convert_to_numpy(whole(layer)(*inputs))
        assert tuple(layer.compute_output_shape(*(x.shape for x in inputs))) == expected.shape

        fixed = functional(layer, inputs, [x.shape[1:] for x in inputs])
        assert fixed.output.shape == (None, *expected.shape[1:])
        np.testing.assert_allclose(predict(fixed, inputs), expected, rtol=1e-5, atol=1e-5)
        flexible = functional(layer, inputs, [(None, None, x.shape[-1]) for x in inputs])
        assert flexible.output.shape[0] is None
        assert flexible.output.shape[-1] == expected.shape[-1]
        np.testing.assert_allclose(predict(flexible, inputs), expected, rtol=1e-5, atol=1e-5)

        config = layer.get_config()
        again = type(layer).from_config(json.loads(json.dumps(config)))
        assert json.dumps(again.get_config()) == json.dumps(config)
        functional(again, inputs, [x.shape[1:] for x in inputs])
        # Where one is not, JAX runs the model once more, operation by operation.
        assert all(inner.built for inner in layers_in(again))

        flexible.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(predict(loaded, inputs), expected, rtol=1e-6, atol=1e-6)

        if half_precision:
            check_half_precision(layer, inputs, expected)
        if layer.trainable_variables:
            check_training(layer, inputs)

    return check


def build(layer, inputs):
    if keras.backend.backend() == "jax":  # where every operation would be compiled
        functional(layer, inputs, [x.shape[1:] for x in inputs])
    else:
        layer(*inputs)


def functional(layer, inputs, shapes):
    images = [keras.Input(shape, dtype=x.dtype) for x, shape in zip(inputs, shapes, strict=True)]
    return keras.Model(images if len(images) > 1 else images[0], layer(*images))


def predict(model, inputs):
    outputs = whole(model)(list(inputs) if len(inputs) > 1 else inputs[0])
    return keras.ops.convert_to_numpy(outputs)


def check_half_precision(layer, inputs, expected):
    for policy, places in [("mixed_float16", 11), ("mixed_bfloat16", 8)]:
        # As a user would have it: by the global policy, sublayers included.
        config = {k: v for k, v in layer.get_config().items() if k != "dtype"}
        keras.config.set_dtype_policy(policy)
        try:
            half = type(layer).from_config(config)
            build(half, inputs)
            half.set_weights(layer.get_weights())
            outputs = whole(half)(*inputs)
        finally:
            keras.config.set_dtype_policy("float32")
        assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
        assert {v.dtype for v in half.trainable_variables} <= {"float32"}
        outputs = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
        # A few roundings, each by half a unit in the last place, of values of this size.
        bound = 8 * 2.0**-places * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(outputs, expected, atol=bound, rtol=0)


def check_training(layer, inputs):
    model = functional(layer, inputs, [x.shape[1:] for x in inputs])
    # Compiling the step would take longer than the step, except where each operation is compiled.
    eagerly = keras.backend.backend() != "jax"
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eagerly)
    before = [keras.ops.convert_to_numpy(v).copy() for v in layer.trainable_variables]
    target = np.zeros(predict(model, inputs).shape, "float32")
    history = model.fit(list(inputs) if len(inputs) > 1 else inputs[0], target, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    for variable, old in zip(layer.trainable_variables, before, strict=True):
        assert not np.array_equal(keras.ops.convert_to_numpy(variable), old), variable.path
