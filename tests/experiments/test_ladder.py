"""The ladder with networks of a few weights: what is trained, how often, and what is written."""

import functools

import pytest

import keras_psp
from keras_psp.atomic import read_table
from keras_psp.experiments import ladder
from keras_psp.experiments.ladder import LADDERS, run_ladder
from tests.tiny import Tiny

WHOLE = {"output_stride": 8, "bins": (1, 2, 3, 6), "pooling": "average", "auxiliary_weight": 0.4}


@pytest.fixture
def built(monkeypatch, eagerly):
    """The arguments of the networks that were built."""
    calls = []

    def build(num_classes, backbone_weights, **arguments):
        calls.append({**arguments, "backbone_weights": backbone_weights})
        return Tiny(num_classes, arguments["auxiliary_weight"])

    monkeypatch.setattr(ladder, "PSPNet", build)
    return calls


@pytest.fixture
def load():
    """Scenes, and which splits and augmentations were asked for."""
    asked = []

    def scenes(split, augment, **options):
        asked.append((split, augment, options.get("crop_size")))
        options |= {"image_size": (24, 32), "batch_size": 2, "num_images": 2, "augment": augment}
        return keras_psp.load_street_scenes(split, **options)

    return scenes, asked


def test_the_last_rung_shares_the_training_before(built, load, tmp_path):
    load, asked = load
    options = {"rungs": [1, 5, 6], "seeds": [3], "epochs": 1, "crop_size": [16, 16]}
    rows = run_ladder(tmp_path, {"frame": load}, **options)
    names = ["baseline", "+ auxiliary loss", "+ windows, mirror, scales"]
    assert [(row["split"], row["rung"], row["seed"]) for row in rows] == [
        ("frame", name, 3) for name in names
    ]
    baseline = WHOLE | {"output_stride": 32, "bins": (), "auxiliary_weight": 0}
    more = {"backbone": "resnet18", "backbone_weights": None}
    assert built == [baseline | more, WHOLE | more]
    trained = [one for one in asked if one[0] == "train"]
    assert trained == [("train", None, None), ("train", "authors", (16, 16))]
    table = read_table(tmp_path / "parts.csv")
    assert [float(row["mean_iou"]) for row in table] == [row["mean_iou"] for row in rows]
    assert rows[1]["mean_iou"] != rows[2]["mean_iou"]  # the same network, other views
    assert (tmp_path / "parts.png").stat().st_size > 5000

    # What is done is not done again; another recipe is another experiment.
    assert run_ladder(tmp_path, {"frame": load}, **options) == rows
    assert len(built) == 2
    with pytest.raises(ValueError, match="crop_size"):
        run_ladder(tmp_path, {"frame": load}, **options | {"crop_size": None})


def test_every_ladder_begins_with_all_settings():
    for rungs in LADDERS.values():
        first, *others = rungs.values()
        assert {*WHOLE, "augment", "views"} <= {*first}
        assert all({*other} <= {*first} for other in others)
    settings = functools.reduce(lambda one, two: one | two, LADDERS["parts"].values())
    assert settings == WHOLE | {"augment": "authors", "views": "windows"}


def test_there_is_no_seventh_rung(tmp_path):
    with pytest.raises(ValueError, match=r"are 1 to 6\. Received: rungs=\[7\]"):
        run_ladder(tmp_path, {}, rungs=[1, 7])
