"""The parts of the benchmark of accuracy per minute that need no minutes."""

import argparse
import json

import numpy as np
import pytest

from keras_psp.data import Batches


@pytest.fixture
def learning(benchmark):
    return benchmark("learning")


class Learner:
    """Takes half a second a step by a clock of its own, and ten for the first."""

    def __init__(self):
        self.now, self.runs = 0.0, []

    def train(self, steps):
        self.now += 0.5 * steps + (0 if self.runs else 10)
        self.runs.append(steps)

    def confusion(self):
        return np.array([[3, 1], [0, 2]])


def test_steps_fill_the_time_that_counts(learning):
    learner = Learner()
    found = learning.learn(learner, seconds=60, clock=lambda: learner.now)
    # What gets it ready does not count; twenty steps tell that 120 fit.
    assert learner.runs == [5, 20, 100]
    assert (found["steps"], found["step_s"], found["trained_s"]) == (120, 0.5, 60)
    assert found["mean_iou"] == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_a_finished_training_is_not_done_again(learning, monkeypatch, tmp_path, capsys):
    def train(spec, args):
        trained.append((spec["network"], spec["minutes"]))
        return {"step_s": 0.5, "steps": 600, "trained_s": 300, "mean_iou": 0.1 * len(trained)}

    trained = []
    monkeypatch.setattr(learning, "_train", train)
    monkeypatch.setattr(learning.importlib.util, "find_spec", lambda name: name)
    options = {"data_dir": "CamVid", "half": False, "seed": 0, "out": tmp_path / "out"}
    options |= {"processor_time": False, "steps_of": None}
    for minutes in ([5], [5, 20]):
        names = ["Unet of smp", "FPN of smp"]
        learning.train_all(argparse.Namespace(minutes=minutes, entries=names, **options))
    assert trained == [("Unet", 5), ("FPN", 5), ("Unet", 20), ("FPN", 20)]
    found = json.loads((tmp_path / "out" / "FPN-of-smp-20.json").read_text())
    assert (found["name"], found["minutes"], found["mean_iou"]) == ("FPN of smp", 20, 0.4)
    assert (tmp_path / "out" / "learning.png").stat().st_size > 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert last.split() == ["Unet", "of", "smp", "20", "0.50", "600", "300", "0.300"]


def test_another_device_takes_as_many_steps_as_the_minutes_have(learning, monkeypatch, tmp_path):
    learner, specs = Learner(), []
    assert learning.learn_for(learner, 7)["steps"] == 7
    assert learner.runs == [7]

    def train(spec, args):
        specs.append(spec)
        return {"steps": spec["steps"], "trained_s": 3, "mean_iou": 0.5}

    monkeypatch.setattr(learning, "_train", train)
    monkeypatch.setattr(learning.importlib.util, "find_spec", lambda name: name)
    name = "FPN of smp"
    (tmp_path / "measured").mkdir()
    measured = {"name": name, "minutes": 0.2, "step_s": 0.25}
    (tmp_path / "measured" / "any.json").write_text(json.dumps(measured))
    args = argparse.Namespace(
        minutes=[5],
        entries=[name],
        out=tmp_path / "out",
        steps_of=tmp_path / "measured",
        **{"data_dir": "CamVid", "half": False, "seed": 0, "processor_time": False},
    )
    learning.train_all(args)
    (found,) = learning.read(tmp_path / "out")
    assert (specs[0]["steps"], found["steps"], found["step_s"]) == (1200, 1200, 0.25)
    args.entries = ["keras-psp light", name]
    with pytest.raises(SystemExit, match="measured without keras-psp light"):
        learning.train_all(args)
    assert len(specs) == 1


def test_data_go_round_on_every_backend(learning):
    data = Batches(lambda epoch, index: (np.array([epoch]), np.array([index])), length=3)
    steps = [(int(x[0]), int(y[0])) for x, y in learning.endless(data, 7)]
    assert steps == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_views_change_labels_as_images(learning):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    labels = torch.arange(32).reshape(2, 4, 4)
    images = labels[:, None].float().repeat(1, 3, 1, 1)
    for _ in range(4):
        views, changed = learning.random_views(images, labels, scales=(1.0, 1.0))
        np.testing.assert_allclose(views[:, 0], changed, atol=1e-4)
        for view, label in zip(changed, labels, strict=True):
            assert torch.equal(view, label) or torch.equal(view, label.flip(1))
    # Half as large, an image lies in the middle; around it is void, and in the image 0.
    views, changed = learning.random_views(images * 0 + 7, labels * 0 + 3, scales=(0.5, 0.5))
    inside = np.pad(np.ones((2, 2, 2), bool), [(0, 0), (1, 1), (1, 1)])
    np.testing.assert_array_equal(changed, np.where(inside, 3, 255))
    np.testing.assert_allclose(views[:, 0], np.where(inside, 7, 0), atol=1e-4)
