"""A network inside another model: what trains there, and what does not."""

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import PSPNet
from keras_psp.models import training
from keras_psp.models.training import ModelWithOwnLoss

numpy = keras.ops.convert_to_numpy


def sequential(model):
    return keras.Sequential([keras.layers.Rescaling(0.5), model])


def functional(model):
    image = keras.Input(model.input_shape[1:])
    return keras.Model(image, model(keras.layers.Rescaling(0.5)(image)))


class Wrapper(keras.Model):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, inputs, training=None):
        return self.model(0.5 * inputs, training=training)


def pspnet(backbone):
    model = PSPNet(backbone, num_classes=3, bins=(1, 2), dropout=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return model, [model.auxiliary_head], loss, lambda x: x[..., 0].astype("int32") % 3


def googlenet(_):
    model = keras_psp.Inception(num_classes=3, weights=None, input_shape=(65, 65, 3), dropout=0.0)
    heads = [*model.auxiliary_heads.values()]
    return model, heads, "sparse_categorical_crossentropy", lambda x: np.array([0, 2])


def fit(model, loss, x, y):
    """One step, and the trainable variables that it left as they were."""
    before = [(v, numpy(v).copy()) for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=keras.backend.backend() != "jax")
    model.fit(x, y, verbose=0)
    return [v for v, value in before if np.array_equal(numpy(v), value)]


@pytest.mark.parametrize("wrap", [sequential, functional, Wrapper])
@pytest.mark.parametrize("make, variables", [(pspnet, 28), (googlenet, 128)])
def test_all_but_auxiliary_heads_train_inside_another(
    make, variables, wrap, tiny_backbone, randomize, image
):
    model, heads, loss, labels = make(tiny_backbone)
    randomize(model)
    assert len(model.trainable_variables) == variables
    x = image(65, 65, batch=2)
    auxiliary = {v.path for head in heads for v in head.trainable_variables}
    if keras.backend.backend() == "jax":  # where a gradient that is not there is 0
        unchanged = fit(wrap(model), loss, x, labels(x))
    else:
        with pytest.warns(UserWarning, match=r"Gradients do not exist for variables .*auxiliary"):
            unchanged = fit(wrap(model), loss, x, labels(x))
    assert {v.path for v in unchanged} == auxiliary
    assert not fit(model, loss, x, labels(x))


@pytest.mark.parametrize("make", [pspnet, googlenet])
def test_frozen_auxiliary_heads_raise_no_warning(make, tiny_backbone, randomize, image):
    model, heads, loss, labels = make(tiny_backbone)
    randomize(model)
    for head in heads:
        head.trainable = False
    x = image(65, 65, batch=2)
    assert not fit(sequential(model), loss, x, labels(x))


@pytest.mark.parametrize("make, last", [(pspnet, "head/conv2"), (googlenet, "predictions")])
def test_whole_models_in_hdf5_are_read_only(
    make, last, tiny_backbone, randomize, tmp_path, monkeypatch
):
    model, heads, *_ = make(tiny_backbone)
    randomize(model, seed=2)
    path = tmp_path / "old.h5"
    with pytest.raises(ValueError, match=r"saved in a \.keras file, .*Name it \*\.keras; or"):
        keras.saving.save_model(model, path)
    monkeypatch.setattr(training, "writes_hdf5", lambda: False)  # As it was once.
    keras.models.save_model(model, path)
    saved = {v.path: numpy(v).copy() for v in model.weights}
    not_saved = {v.path for head in heads for v in head.weights}
    for fresh_head in (False, True):
        randomize(model)
        keras_psp.load_weights(model, path, fresh_head=fresh_head)
        left = {v.path for v in model.weights if not np.array_equal(numpy(v), saved[v.path])}
        assert left - not_saved == {f"{last}/{x}" for x in ("kernel", "bias") if fresh_head}


@pytest.mark.parametrize("make", [pspnet, googlenet])
def test_a_copy_from_the_configuration_is_whole(make, tiny_backbone, randomize):
    model, *_ = make(tiny_backbone)
    randomize(model)
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    assert type(copy) is type(model)
    assert [v.path for v in copy.trainable_variables] == [v.path for v in model.trainable_variables]


class Scaled(ModelWithOwnLoss):
    """Returns its output; its loss is of ten times that."""

    def loss_and_outputs(self, x, y, sample_weight, training):
        outputs = self(x, training=training)
        return self.compute_loss(x, y, 10 * outputs, sample_weight, training=training), outputs


@pytest.mark.compiled
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_step_is_that_of_keras(policy):
    """With another loss: the same weights, scores and losses as a plain model with a layer more."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 4)).astype("float32"), rng.normal(size=(10, 2)).astype("float32")
    results = []
    keras.config.set_dtype_policy(policy)
    try:
        for scale in (1, 10):
            image = keras.Input((4,))
            dense = keras.layers.Dense(2, kernel_initializer="ones", kernel_regularizer="l2")
            hidden = keras.layers.BatchNormalization()(image)
            if scale == 1:
                model = Scaled(image, dense(hidden))
            else:
                model = keras.Model(image, keras.layers.Rescaling(10)(dense(hidden)))
            model.compile(keras.optimizers.SGD(1e-3), "mse")
            options = {"batch_size": 4, "shuffle": False, "verbose": 0}
            history = model.fit(x, y, epochs=2, sample_weight=np.arange(10), **options).history
            losses = history["loss"], model.evaluate(x, y, batch_size=4, verbose=0)
            results.append([*losses, *map(np.ravel, model.get_weights())])
    finally:
        keras.config.set_dtype_policy("float32")
    for value, expected in zip(*results, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4 if policy == "float32" else 2e-2)
