"""The recipe's rates: what a model starts from decides, in whatever way that came about."""

import keras
import pytest

import keras_psp
from keras_psp import PSPNet
from keras_psp.models import BACKBONES
from keras_psp.weights.loading import load_first_weights
from tests.tiny import data, tiny_backbone

NEW, TRAINED = (0.02, 1.0), (0.01, 10.0)  # the rate, and the factor on it for the heads


@pytest.fixture(scope="module", autouse=True)
def tiny_row():
    def row(name, weights, output_stride, input_shape):
        network, maps = tiny_backbone(name, weights, output_stride, input_shape)
        network.initial_weights = load_first_weights(network, weights)
        return network, maps

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", row)
        yield


def begin(num_classes=3, **options):
    return PSPNet("tiny", num_classes, bins=(1,), **{"backbone_weights": None, **options})


def loaded(load, folder, **options):
    model = begin(**options)
    load(model, folder / "whole.weights.h5")
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of a model that started from random values, and of one that did not."""
    folder = tmp_path_factory.mktemp("models")
    model = begin()
    model.save_weights(folder / "whole.weights.h5")
    model.save(folder / "new.keras")
    model.save_to_preset(folder / "new")
    network, _ = tiny_backbone("tiny", None, 8, (None, None, 3))
    network.save_weights(folder / "backbone.weights.h5")
    begin(weights=str(folder / "whole.weights.h5")).save(folder / "trained.keras")
    return folder


WAYS = {
    "random values": (lambda f: begin(), NEW),
    "weights of the backbone": (
        lambda f: begin(backbone_weights=str(f / "backbone.weights.h5")),
        TRAINED,
    ),
    "a backbone that is a model": (
        lambda f: PSPNet(tiny_backbone("", None, 8, (None, None, 3))[0], 3, bins=(1,)),
        TRAINED,
    ),
    "weights of the whole": (lambda f: begin(weights=str(f / "whole.weights.h5")), TRAINED),
    "all but the head": (
        lambda f: begin(2, weights=str(f / "whole.weights.h5"), fresh_head=True),
        TRAINED,
    ),
    "load_weights": (lambda f: loaded(keras_psp.load_weights, f), TRAINED),
    "Keras' load_weights": (lambda f: loaded(keras.Model.load_weights, f), NEW),
    "a preset": (lambda f: PSPNet.from_preset(f / "new"), NEW),
    "a preset for other classes": (
        lambda f: PSPNet.from_preset(f / "new", num_classes=2, fresh_head=True),
        TRAINED,
    ),
    "a file": (lambda f: keras.saving.load_model(f / "new.keras", compile=False), NEW),
    "a trained one's": (
        lambda f: keras.saving.load_model(f / "trained.keras", compile=False),
        TRAINED,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_rates_suit_what_a_model_starts_from(way, folder):
    make, expected = WAYS[way]
    model = make(folder)
    model.compile()
    assert rates(model) == expected


def rates(model):
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    variables = model.head.trainable_variables
    (multiplier,) = {model.optimizer.multiplier_of(variable) for variable in variables}
    assert {model.optimizer.multiplier_of(v) for v in model.backbone.trainable_variables} == {1.0}
    return round(rate, 6), multiplier


def test_a_saved_model_keeps_its_rates(tmp_path):
    model = begin()
    model.fit(*data(2), verbose=0)
    assert rates(model) == NEW
    model.save(tmp_path / "model.keras")
    assert rates(keras.saving.load_model(tmp_path / "model.keras")) == NEW
