"""The recipe's optimizer against PyTorch's, and schedules that `fit` fills in."""

import inspect
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.keras_internals import learning_rate_of
from keras_psp.losses import SparseCategoricalCrossentropy
from keras_psp.optimizers import SGD, PolynomialDecay
from tests.tiny import Tiny, data


def two_layers():
    """Variables of a layer called `backbone` and one called `head`."""
    image = keras.Input((5,))
    features = keras.layers.Dense(4, name="backbone")(image)
    return keras.Model(image, keras.layers.Dense(3, name="head")(features)).trainable_variables


# Compiling a step takes longer than a few steps, except where each operation is compiled.
EAGERLY = {"run_eagerly": keras.backend.backend() != "jax"}
STEPS, BASE = 8, 0.05
KINDS = [
    {"momentum": 0.9, "nesterov": False},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.0, "nesterov": False},
]
# In a process of its own: PyTorch's optimizers load Triton, and that may crash beside TensorFlow.
PYTORCH = """
import sys, numpy, torch
for file in sys.argv[1:]:
    data = dict(numpy.load(file))
    start, *gradients = ([data[f"{i}_{j}"] for j in range(4)] for i in range(1 + STEPS))
    weights = [torch.nn.Parameter(torch.from_numpy(w).cpu()) for w in start]
    groups = [{"params": weights[:2], "lr": BASE}, {"params": weights[2:], "lr": 10 * BASE}]
    kind = {"momentum": float(data["momentum"]), "nesterov": bool(data["nesterov"])}
    optimizer = torch.optim.SGD(groups, weight_decay=0.01, **kind)
    poly = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / STEPS) ** 0.9)
    for step in gradients:
        for weight, gradient in zip(weights, step):
            weight.grad = torch.from_numpy(gradient).cpu()
        optimizer.step()
        poly.step()
    numpy.savez(file, *(w.detach().numpy() for w in weights))
""".replace("STEPS", str(STEPS)).replace("BASE", str(BASE))


def test_equals_pytorchs(tmp_path):
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    results = {}
    for kind in KINDS:
        variables = two_layers()
        start, *gradients = (
            [rng.normal(size=variable.shape).astype("float32") for variable in variables]
            for _ in range(1 + STEPS)
        )
        file = tmp_path / f"{len(results)}.npz"
        arrays = {
            f"{i}_{j}": array
            for i, step in enumerate([start, *gradients])
            for j, array in enumerate(step)
        }
        np.savez(file, **arrays, **kind)

        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        optimizer = SGD(PolynomialDecay(BASE, total_steps=STEPS), l2=0.01, **kind)
        for step in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], variables)
        results[file] = [keras.ops.convert_to_numpy(variable) for variable in variables]

    subprocess.run([sys.executable, "-c", PYTORCH, *results], check=True)
    for file, values in results.items():
        for value, expected in zip(values, np.load(file).values(), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)


def test_rate_decays_to_0():
    rate = PolynomialDecay(0.01, total_steps=10)
    expected = [0.01 * (1 - step / 10) ** 0.9 for step in range(11)]
    np.testing.assert_allclose([float(rate(step)) for step in range(11)], expected, rtol=1e-5)
    assert float(rate(11)) == 0.0
    np.testing.assert_allclose(float(PolynomialDecay(0.4, power=2, total_steps=2)(1)), 0.1)


def test_comes_back_from_its_configuration():
    optimizer = SGD(
        PolynomialDecay(0.3, 0.5, 70),
        momentum=0.8,
        nesterov=True,
        weight_decay=0.1,
        l2=1e-3,
        learning_rate_multipliers={"a": 2},
        clipnorm=3.0,
    )
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert isinstance(again, SGD)
    assert (again.momentum, again.nesterov, again.weight_decay) == (0.8, True, 0.1)
    assert (again.l2, again.learning_rate_multipliers, again.clipnorm) == (1e-3, {"a": 2}, 3.0)
    assert learning_rate_of(again).get_config() == {"base": 0.3, "power": 0.5, "total_steps": 70}
    assert keras.saving.serialize_keras_object(again) == config


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"clipnorm": 0.5},
        {"momentum": 0.5, "clipvalue": 0.1},
        {"global_clipnorm": 0.5},
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
        {"momentum": 0.9, "gradient_accumulation_steps": 2},
        {"loss_scale_factor": 2.0},
    ],
    ids=lambda options: ["plain", *options][-1],
)
def test_equals_keras_sgd_with_the_same_arguments(rng, options):
    options = {"learning_rate": 0.1, "momentum": 0.0, **options}
    start = [rng.normal(size=shape).astype("float32") for shape in [(5, 4), (4,)]]
    steps = [[rng.normal(size=x.shape).astype("float32") for x in start] for _ in range(4)]
    ends = []
    for optimizer in (
        SGD(l2=0.0, learning_rate_multipliers={}, **options),
        keras.optimizers.SGD(**options),
    ):
        variables = [keras.Variable(x, name=f"x{i}") for i, x in enumerate(start)]
        for step in steps:
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], variables)
        ends.append([keras.ops.convert_to_numpy(v) for v in variables])
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_first_arguments_are_those_of_keras():
    ours, theirs = ([*inspect.signature(kind).parameters] for kind in (SGD, keras.optimizers.SGD))
    assert ours[:4] == theirs[:4]


def test_pyramid_and_heads_learn_ten_times_faster():
    model = keras_psp.PSPNet("resnet18", num_classes=2, backbone_weights=None)
    fast = (model.pyramid_pooling, model.head, model.auxiliary_head)
    fast = {id(v) for layer in fast for v in layer.trainable_variables}
    assert len(fast) > 12
    optimizer = SGD()
    for variable in model.trainable_variables:
        multiplier = optimizer.multiplier_of(variable)
        assert multiplier == (10.0 if id(variable) in fast else 1.0), variable.path


def test_multipliers_name_layers():
    optimizer = SGD(learning_rate_multipliers={"backbone": 0.0, "hea": 7})
    assert [optimizer.multiplier_of(v) for v in two_layers()] == [0.0, 0.0, 1.0, 1.0]


class Rates(keras.callbacks.Callback):
    """Notes the rate of every step, before it is taken."""

    def on_train_begin(self, logs=None):
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def poly(base, total, first=0):
    return [base * (1 - step / total) ** 0.9 for step in range(first, total)]


@pytest.mark.parametrize(
    "make",
    [SGD, keras.optimizers.AdamW, lambda rate: keras.optimizers.LossScaleOptimizer(SGD(rate))],
    ids=["SGD", "Keras' AdamW", "loss scaling"],
)
def test_fit_fills_in_the_run_length(make):
    images, labels = data(4)
    model = Tiny()
    model.compile(make(PolynomialDecay(0.01)), metrics=None, **EAGERLY)
    rates = Rates()
    model.fit(images, labels, 2, 2, verbose=0, callbacks=rates)
    np.testing.assert_allclose(rates.rates, poly(0.01, 4), rtol=1e-5)
    # Every run has its own schedule.
    model.fit(images, labels, batch_size=4, epochs=3, verbose=0, callbacks=[rates])
    np.testing.assert_allclose(rates.rates, poly(0.01, 3), rtol=1e-5)
    # An old run is gone on with in its own.
    model.fit(images, labels, batch_size=2, epochs=3, initial_epoch=2, verbose=0, callbacks=[rates])
    np.testing.assert_allclose(rates.rates, poly(0.01, 6, first=4), rtol=1e-5)
    assert int(model.optimizer.iterations) == 4 + 3 + 2


def test_compiled_step_uses_the_rate_of_the_run():
    # Weights, not what a callback is told.
    images, labels = data(4)
    steps = {}
    for total in (2, 4):
        model = Tiny()
        model.compile(SGD(PolynomialDecay(0.01), momentum=0.0), metrics=None)
        model.fit(images, labels, batch_size=4, epochs=2, verbose=0)
        before = model.get_weights()[0]
        model.fit(images, labels, batch_size=4, epochs=total, initial_epoch=1, verbose=0)
        steps[total] = np.abs(model.get_weights()[0] - before).sum()
    # One step at (1 − 1/2)^0.9, against three, the first of them at (1 − 1/4)^0.9.
    assert steps[4] > 1.2 * steps[2] > 0


def test_rate_outside_of_fit_is_the_base():
    def stop(batch, logs):
        raise KeyboardInterrupt

    images, labels = data(2)
    model = Tiny()
    model.compile(SGD(), **EAGERLY)
    interrupt = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    model.fit(images, labels, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    with pytest.raises(KeyboardInterrupt):
        model.fit(images, labels, epochs=3, callbacks=interrupt, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize("saved", ["model.keras", "model.weights.h5"])
def test_loaded_file_trains_at_the_base_rate(tmp_path, saved):
    images, labels = data(2)
    model = Tiny()
    model.compile(SGD(PolynomialDecay(0.01)), **EAGERLY)
    save = keras.callbacks.ModelCheckpoint(
        tmp_path / saved, save_weights_only=saved.endswith("h5"), save_freq="epoch"
    )
    model.fit(images, labels, epochs=2, callbacks=[save], verbose=0)
    if saved.endswith("h5"):
        model.load_weights(tmp_path / saved)
    else:
        model = keras.saving.load_model(tmp_path / saved)
    # As it was when the file was written.
    assert float(model.optimizer.learning_rate) == 0.0
    before = model.get_weights()[0]
    model.train_on_batch(images, labels)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    assert np.any(model.get_weights()[0] != before)


def test_several_optimizers_share_a_schedule():
    images, labels = data(4)
    shared = PolynomialDecay(0.01)
    results = []
    for rates in ([shared, shared], [PolynomialDecay(0.01), PolynomialDecay(0.01)]):
        models = [Tiny(), Tiny()]
        for model, rate in zip(models, rates, strict=True):
            model.compile(keras.optimizers.AdamW(rate), metrics=None, **EAGERLY)
        for number, epochs in [(0, 2), (1, 3), (0, 1), (1, 1)]:
            model = models[number]
            model.fit(images, labels, 4, epochs=epochs, shuffle=False, verbose=0)
        results.append([w for model in models for w in model.get_weights()])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)


def test_built_optimizer_takes_no_run_length():
    model, optimizer = Tiny(), SGD()
    optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match=r"Received: optimizer=SGD, which is built\. Make another"):
        model.compile(optimizer)
    # That of an optimizer which was compiled stays.
    model.compile(SGD(), **EAGERLY)
    model.fit(*data(2), verbose=0)
    variables = len(model.optimizer.variables)
    model.compile(model.optimizer, **EAGERLY)
    model.fit(*data(2), verbose=0)
    assert len(model.optimizer.variables) == variables


def test_run_length_is_no_weight():
    model = Tiny()
    before = [variable.path for variable in model.weights]
    model.compile(**EAGERLY)
    model.fit(*data(2), class_weight={1: 2.0}, verbose=0)
    assert [variable.path for variable in model.weights] == before
    assert [v.path for v in model.optimizer.variables][:2] == ["SGD/iteration", "SGD/run"]


def test_given_length_is_kept():
    images, labels = data(4)
    model = Tiny()
    model.compile(SGD(PolynomialDecay(0.01, total_steps=100)), metrics=None, **EAGERLY)
    rates = Rates()
    for first in (0, 2):
        model.fit(images, labels, batch_size=2, verbose=0, callbacks=[rates])
        np.testing.assert_allclose(rates.rates, poly(0.01, 100, first)[:2], rtol=1e-5)


def batches(images, labels):
    while True:
        yield images, labels


def test_unknown_length_of_data_is_an_error():
    model = Tiny()
    model.compile(SGD(), **EAGERLY)
    with pytest.raises(ValueError, match=r"data of unknown length\. Pass steps_per_epoch="):
        model.fit(batches(*data(2)), epochs=2, verbose=0)
    rates = Rates()
    model.fit(batches(*data(2)), epochs=2, steps_per_epoch=2, verbose=0, callbacks=[rates])
    np.testing.assert_allclose(rates.rates, poly(0.01, 4), rtol=1e-5)


def test_schedule_counts_batches_when_gradients_accumulate():
    images, labels = data(4)
    model = Tiny()
    optimizer = SGD(PolynomialDecay(0.01), gradient_accumulation_steps=2)
    model.compile(optimizer, SparseCategoricalCrossentropy(), metrics=None, **EAGERLY)
    rates = Rates()
    for _ in range(2):
        model.fit(images, labels, batch_size=2, epochs=2, verbose=0, callbacks=[rates])
        np.testing.assert_allclose(rates.rates, poly(0.01, 4), rtol=1e-5)


def test_accumulated_gradients_equal_a_large_batch():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 5)).astype("float32"), rng.normal(size=(16, 3)).astype("float32")
    start, ends = None, []
    for steps in (None, 4):
        image = keras.Input((5,))
        features = keras.layers.Dense(4, name="backbone")(image)
        model = keras.Model(image, keras.layers.Dense(3, name="head")(features))
        start = start or model.get_weights()
        model.set_weights(start)
        model.compile(SGD(0.05, l2=0.01, gradient_accumulation_steps=steps), "mse")
        model.fit(x, y, batch_size=8 // (steps or 1), epochs=3, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    for large, small in zip(*ends, strict=True):
        np.testing.assert_allclose(small, large, rtol=1e-5, atol=1e-6)


def test_rate_ends_at_0_with_accumulated_gradients():
    images, labels = data(8)
    model = Tiny()
    model.compile(SGD(gradient_accumulation_steps=2), **EAGERLY)
    rates = []
    end = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: rates.append(float(model.optimizer.learning_rate))
    )
    model.fit(images, labels, batch_size=2, epochs=2, callbacks=end, verbose=0)
    assert rates == [0.0]


@pytest.mark.compiled
def test_keras_callbacks_set_the_rate(capsys):
    images, labels = data(2)
    model, seen = Tiny(), []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            (float(model.optimizer.learning_rate), model.head.get_weights()[0])
        )
    )
    rates = [0.5, 0.25, 0.0]
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rates[epoch])
    model.fit(images, labels, epochs=3, callbacks=[scheduler, note], verbose=0)
    assert [rate for rate, _ in seen] == rates
    _, second, third = (weights for _, weights in seen)
    np.testing.assert_array_equal(second, third)  # The steps have that rate, too.
    assert capsys.readouterr().out.count("no longer decays") == 1


def test_a_plateau_reduces_the_rate_for_good():
    images, labels = data(2)
    model = Tiny()
    model.compile(SGD(PolynomialDecay(0.01)), **EAGERLY)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", 0.1, patience=1, min_delta=100)
    model.fit(images, labels, epochs=3, callbacks=[plateau], verbose=0)
    # After two thirds of the run, and once more after its end.
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01 / 3**0.9 / 100, rel=1e-4)
    before = float(model.optimizer.learning_rate)
    model.fit(images, labels, epochs=2, verbose=0)
    assert float(model.optimizer.learning_rate) == before
    model.optimizer.learning_rate = 0.3
    assert float(model.optimizer.learning_rate) == pytest.approx(0.3)
