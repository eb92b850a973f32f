"""The degradation experiment at the smallest size, and what its networks are shown."""

import numpy as np
import pytest

from keras_psp import degradation
from keras_psp.files import read_table


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 8, 8, 3), "uint8"), np.arange(12, dtype="int32") % 3


def test_batches_are_shifted_by_up_to_four_pixels_and_mirrored_half_of_the_time():
    y, x = np.mgrid[:8, :8]
    image = np.stack([100 + y, 100 + x, 0 * x], axis=-1).astype("uint8")
    rng = np.random.default_rng(0)
    batches = degradation._Batches(image[None], np.array([7]), 300, 1, rng)
    batch, classes = batches[0]
    assert len(batches) == 1
    assert batch.shape == (300, 8, 8, 3)
    assert (classes == 7).all()
    shifts = set()
    mirrored = 0
    for view in batch:
        known = view[..., 2] == 0  # outside, all channels have the mean colour
        (ys, xs), (rows, columns) = np.nonzero(known), view[known][:, :2].T - 100
        flipped = columns[xs == xs.min()][0] > columns[xs == xs.max()][0]
        mirrored += flipped
        side = 7 - xs if flipped else xs
        dy, dx = set(rows - ys), set(columns - side)
        assert len(dy) == len(dx) == 1
        shifts.add((dy.pop(), dx.pop()))
    assert {abs(s) for pair in shifts for s in pair} == {0, 1, 2, 3, 4}
    assert 110 < mirrored < 190


def test_every_net_is_trained_once_and_drawn(data, tmp_path, monkeypatch):
    options = {"steps": 4, "batch_size": 4, "seeds": [1, 2], "evaluations": 2}
    options["networks"] = ["plain-20", "ResNet-20"]
    rows = degradation.run_degradation(tmp_path, data, data, **options)
    assert [(row["network"], row["seed"]) for row in rows] == [
        ("plain-20", 1),
        ("plain-20", 2),
        ("ResNet-20", 1),
        ("ResNet-20", 2),
    ]
    assert all(row["step"] == 4 and 0 <= row["train_error"] <= 1 for row in rows)
    history = read_table(tmp_path / "plain-20-seed1.csv")
    assert [row["step"] for row in history] == ["2", "4"]
    assert (tmp_path / "curves.png").stat().st_size > 10_000

    # Cut off before the last net, the experiment goes on with that one.
    (tmp_path / "ResNet-20-seed2.csv").unlink()
    trained = []

    def train(name, seed, *_):
        trained.append((name, seed))
        return history

    monkeypatch.setattr(degradation, "_train", train)
    degradation.run_degradation(tmp_path, data, data, **options)
    assert trained == [("ResNet-20", 2)]
