"""The private parts of Keras and TensorFlow that the package needs: they are there, and do that."""

import keras
import numpy as np
import pytest

from keras_psp import keras_internals


def make_model():
    image = keras.Input((2,))
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a")], name="inner")
    x = keras.ops.relu(inner(image))
    return keras.Model(image, {"out": keras.layers.Dense(1, name="b")(x)})


# Compiling a step takes longer than the step, except where each operation is compiled.
EAGERLY = {"run_eagerly": keras.backend.backend() != "jax"}
MODEL, OPTIMIZER, FLIP = make_model(), keras.optimizers.SGD(), keras.layers.RandomFlip()


@pytest.mark.parametrize(
    "owner, name, function",
    [
        (MODEL, "_run_through_graph", "run_graph"),
        (MODEL, "_flatten_layers", "layers_in"),
        (MODEL, "_layers", "add_layers"),
        (MODEL, "_compile_loss", "compiled_loss"),
        (MODEL, "_initial_epoch", "set_initial_epoch"),
        (keras.metrics.MeanIoU(2), "_direction", "higher_is_better"),
        (OPTIMIZER, "_learning_rate", "learning_rate_of"),
        (OPTIMIZER, "_trainable_variables", "trained_variables"),
        (OPTIMIZER, "_get_variable_index", "index_of"),
        (FLIP, "_get_seed_generator", "seed_generator and drawing_from"),
        (FLIP.backend, "name", "seed_generator"),
    ],
)
def test_keras_still_has(owner, name, function):
    assert hasattr(owner, name), (
        f"Keras {keras.__version__}: {type(owner).__name__} has no {name} any more. "
        f"Mend keras_internals.{function}."
    )


def test_graph_runs_with_another_call():
    seen = []

    def call(operation, *args, **kwargs):
        seen.append(operation.name)
        return operation(*args, **kwargs)

    x = np.ones((4, 2), "float32")
    output = keras_internals.run_graph(MODEL, keras.ops.convert_to_tensor(x), call)
    assert seen[0] == "inner"
    assert seen[2:] == ["b"]
    assert seen[1].startswith("relu")
    output, expected = map(keras.ops.convert_to_numpy, (output["out"], MODEL(x)["out"]))
    np.testing.assert_allclose(output, expected, rtol=1e-6)

    inner, seen[:] = MODEL.get_layer("inner"), []
    output = keras_internals.run_graph(inner, keras.Input((2,)), call)
    assert seen == ["a"]
    assert output.shape == (None, 3)


def test_layers_in_layers_are_found():
    names = [layer.name for layer in keras_internals.layers_in(MODEL)]
    assert names.index("a") > names.index("inner")
    assert "b" in names
    names = [layer.name for layer in keras_internals.layers_in(MODEL, recursive=False)]
    assert {"inner", "b"} <= set(names)
    assert "a" not in names


def test_added_layers_are_trained_and_kept_once():
    model, extra = make_model(), keras.layers.Dense(5)
    extra.build((None, 3))
    for _ in range(2):
        keras_internals.add_layers(model, [extra])
    found = keras_internals.layers_in(model, recursive=False)
    assert [layer for layer in found if layer is extra] == [extra]
    assert any(v is extra.kernel for v in model.trainable_variables)


def test_compiled_loss_leaves_regularization_out():
    dense = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(100.0))
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile("sgd", "mse")
    loss = keras_internals.compiled_loss(model)
    labels, predictions = np.array([[1.0], [2.0]]), np.array([[3.0], [5.0]])
    assert np.isclose(float(loss(labels, predictions)), (4 + 9) / 2)
    assert np.isclose(float(loss(labels, predictions, np.array([1.0, 0.0]))), 4 / 2)


def test_direction_is_that_of_keras_metrics():
    metric = keras.metrics.MeanMetricWrapper(lambda y, p: p, "good")
    callback = keras.callbacks.EarlyStopping("val_good")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[metric], **EAGERLY)
    x, y = np.ones((1, 1)), np.ones((1, 1))
    with pytest.raises(ValueError, match="Pass `mode='max'`"):
        model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[callback])
    keras_internals.higher_is_better(metric)
    model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[callback])
    assert callback.monitor_op is keras.ops.greater


def test_fit_begins_at_the_epoch_set():
    seen = []

    class Begin(keras.callbacks.Callback):
        def __init__(self, epoch):
            super().__init__()
            self.epoch = epoch

        def on_train_begin(self, logs=None):
            keras_internals.set_initial_epoch(self.model, self.epoch)

        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **EAGERLY)
    for epoch in (2, None):
        model.fit(np.ones((1, 1)), np.ones((1, 1)), epochs=3, verbose=0, callbacks=[Begin(epoch)])
    assert seen == [2, 0, 1, 2]


def test_optimizer_tells_schedule_steps_and_variables():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    optimizer = keras.optimizers.SGD(schedule, gradient_accumulation_steps=2)
    assert keras_internals.learning_rate_of(optimizer) is schedule
    variables = [keras.Variable([1.0]), keras.Variable([2.0, 3.0])]
    optimizer.build(variables)
    assert all(
        one is other
        for one, other in zip(keras_internals.trained_variables(optimizer), variables, strict=True)
    )
    assert [keras_internals.index_of(optimizer, v) for v in variables] == [0, 1]
    for _ in range(3):
        optimizer.apply([keras.ops.ones(v.shape) for v in variables])
    # Two batches are one step; the rate is that of the third batch.
    assert int(keras_internals.step_counter(optimizer).numpy()) == 3
    assert np.isclose(float(optimizer.learning_rate), 0.5**4)


def test_random_layers_draw_from_another_generator():
    layer = keras.layers.RandomFlip("horizontal", seed=1)
    own = keras_internals.seed_generator(layer)
    assert own is layer.generator
    other = keras.random.SeedGenerator(2)
    with keras_internals.drawing_from(other, [layer, keras.layers.Dense(1)]):
        assert keras_internals.seed_generator(layer) is other
    assert keras_internals.seed_generator(layer) is own


def test_datasets_tell_what_they_come_from():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    source, other = tf.data.Dataset.range(9), tf.data.Dataset.range(3)
    steps = [
        lambda data: data.map(lambda x: x + 1),
        lambda data: data.take(4),
        lambda data: data.skip(1),
        lambda data: data.shuffle(2),
        lambda data: data.batch(2),
        lambda data: data.prefetch(1),
        lambda data: data.repeat(),
        lambda data: data.cache(),
        lambda data: data.filter(lambda x: x > 1),
        lambda data: data.with_options(tf.data.Options()),
    ]
    for i, step in enumerate(steps):
        assert keras_internals.input_datasets(step(source))[0] is source, (tf.__version__, i)
    pair = keras_internals.input_datasets(tf.data.Dataset.zip((source, other)))
    assert pair[0] is source
    assert pair[1] is other
    assert keras_internals.input_datasets(source) == []
