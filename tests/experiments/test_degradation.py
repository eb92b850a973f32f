"""The degradation experiment at the smallest size, and what its networks are shown."""

import keras
import numpy as np
import pytest

from keras_psp.atomic import read_table
from keras_psp.experiments import degradation
from keras_psp.models.resnet import CIFAR_RESNETS


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 8, 8, 3), "uint8"), np.arange(12, dtype="int32") % 3


def test_batches_are_shifted_and_half_of_them_mirrored():
    y, x = np.mgrid[:8, :8]
    image = np.stack([100 + y, 100 + x, 0 * x], axis=-1).astype("uint8")
    batches = degradation._batches(image[None], np.array([7]), 300, 1, (0, 0))
    assert len(batches) == 1
    ((batch, classes),) = [map(keras.ops.convert_to_numpy, batch) for batch in batches]
    assert batch.shape == (300, 8, 8, 3)
    assert (classes == 7).all()
    shifts = set()
    mirrored = 0
    for view in batch:
        known = view[..., 2] == 0  # outside, all channels have the mean color
        (ys, xs), (rows, columns) = np.nonzero(known), view[known][:, :2].T - 100
        flipped = columns[xs == xs.min()][0] > columns[xs == xs.max()][0]
        mirrored += flipped
        side = 7 - xs if flipped else xs
        dy, dx = set(rows - ys), set(columns - side)
        assert len(dy) == len(dx) == 1
        shifts.add((dy.pop(), dx.pop()))
    assert {abs(s) for pair in shifts for s in pair} == {0, 1, 2, 3, 4}
    assert 110 < mirrored < 190


@pytest.fixture
def networks(monkeypatch):
    """The variants that are built, each of them as a network of a few weights: the real ones take
    a minute to compile."""
    built = []

    def build(variant, num_classes, weights, input_shape, classifier_activation):
        assert (weights, classifier_activation) == (None, None)
        built.append(variant)
        return keras.Sequential(
            [
                keras.Input(input_shape),
                keras.layers.Conv2D(4, 3),
                keras.layers.BatchNormalization(),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(num_classes),
            ]
        )

    monkeypatch.setattr(degradation, "ResNet", build)
    return built


def test_its_networks_are_resnets_and_plain_nets():
    for name, variant in degradation.NETWORKS.items():
        assert variant == name.lower().replace("-", "")
        assert variant in CIFAR_RESNETS


def test_a_killed_net_goes_on_and_none_repeats(
    data, networks, tmp_path, monkeypatch, capsys, eagerly
):
    options = {"steps": 4, "batch_size": 4, "seeds": [1], "evaluations": 2}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    both = ["plain-20", "ResNet-20"]
    rows = degradation.run_degradation(whole, data, data, networks=both, **options)
    assert networks == ["plain20", "resnet20"]
    assert [(row["network"], row["seed"]) for row in rows] == [("plain-20", 1), ("ResNet-20", 1)]
    assert all(row["step"] == 4 and 0 <= row["train_error"] <= 1 for row in rows)
    history = read_table(whole / "plain-20-seed1.csv")
    assert [row["step"] for row in history] == ["2", "4"]
    assert (whole / "curves.png").stat().st_size > 10_000
    assert not list(whole.glob("*.h5"))
    said = capsys.readouterr().out
    assert "ResNet-20, seed 1: net 2 of 2" in said
    assert "step 2 of 4: loss" in said

    # Killed in its second half, it goes on there, and ends as if nothing had been.
    evaluate, times = keras.Model.evaluate, []

    def kill(*args, **kwargs):
        times.append(1)
        if len(times) == 2:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(keras.Model, "evaluate", kill)
    options["networks"] = ["plain-20"]
    with pytest.raises(KeyboardInterrupt):
        degradation.run_degradation(killed, data, data, **options)
    degradation.run_degradation(killed, data, data, **options)
    assert len(times) == 3
    assert "Going on after step 2" in capsys.readouterr().out
    for again, first in zip(read_table(killed / "plain-20-seed1.csv"), history, strict=True):
        for column in ("step", "loss", "train_error", "test_error"):
            assert float(again[column]) == pytest.approx(float(first[column]), rel=1e-4)

    degradation.run_degradation(killed, data, data, **options)
    assert len(times) == 3  # what has been trained is not trained again
    with pytest.raises(ValueError, match=r"changed \(steps: 4 → 8\)\. Take another folder"):
        degradation.run_degradation(killed, data, data, **{**options, "steps": 8})


def test_bad_arguments(data, tmp_path):
    with pytest.raises(ValueError, match=r"Received: steps=5, evaluations=20\. Take more steps"):
        degradation.run_degradation(tmp_path, data, data, steps=5)
    with pytest.raises(ValueError, match=r"network='plain20'\. Did you mean 'plain-20'"):
        degradation.run_degradation(tmp_path, data, data, networks=["plain20"])
    assert not any(tmp_path.iterdir())
