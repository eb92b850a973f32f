"""Weights in Keras' files, and in 8 bits."""

import numpy as np
import pytest

from keras_psp import PSPNet, ResNet
from keras_psp.weights.keras_files import save_8_bit_weights


@pytest.mark.parametrize("saved, loaded", [(0.4, 0), (0, 0.4)])
def test_the_auxiliary_head_may_be_absent(saved, loaded, randomize, tmp_path):
    options = {"num_classes": 5, "bins": (1,), "backbone_weights": None}
    model = PSPNet("resnet18", auxiliary_weight=saved, **options)
    randomize(model)
    model.save_weights(tmp_path / "a.weights.h5")
    options["weights"] = tmp_path / "a.weights.h5"
    other = PSPNet("resnet18", auxiliary_weight=loaded, **options)
    image = np.random.default_rng(0).uniform(0, 255, (1, 33, 41, 3))
    np.testing.assert_array_equal(other(image), model(image))


def test_8_bits_keep_every_number_to_half_a_step(randomize, tmp_path):
    model = ResNet("resnet18", num_classes=5, weights=None)
    randomize(model)
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    kernel = model.layers[-1].kernel
    kernel.assign(kernel * (np.arange(5) > 0))  # A channel of zeros has no scale.
    path, usual = tmp_path / "small.8bit.h5", tmp_path / "usual.weights.h5"
    save_8_bit_weights(model, path)
    model.save_weights(usual)
    assert path.stat().st_size < usual.stat().st_size / 2
    loaded = ResNet("resnet18", num_classes=5, weights=path)
    for ours, exact in zip(loaded.get_weights(), model.get_weights(), strict=True):
        if ours.ndim < 2:
            np.testing.assert_array_equal(ours, exact)
        else:
            step = np.abs(exact).max(axis=tuple(range(exact.ndim - 1))) / 127
            assert (np.abs(ours - exact) <= 0.501 * step).all()
