"""The streets in the site's widgets are what the library draws and says today."""

import io
import re
import runpy
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DRAW = Path(__file__).parents[1] / "docs/widgets/draw.py"


@pytest.fixture(scope="module")
def draw():
    return runpy.run_path(str(DRAW))


def label_map(runs, shape):
    letters, counts = zip(*re.findall(r"([a-z])(\d+)", runs), strict=True)
    labels = [255 if letter == "z" else "abcdefghijk".index(letter) for letter in letters]
    return np.repeat(labels, np.array(counts, int)).reshape(shape)


def test_runs_of_a_label_map(draw):
    labels = np.array([[0, 0, 2], [2, 255, 10]])
    assert draw["runs"](labels) == "a2c2z1k1"
    assert (label_map("a2c2z1k1", (2, 3)) == labels).all()


def test_scenes_are_those_of_the_library(draw):
    text = (DRAW.parent / "scenes.js").read_text()
    head, tail = draw["script"]([]).split("scenes = [")
    assert text.startswith(head), f"run {DRAW.name}"
    assert text.endswith(tail), f"run {DRAW.name}"
    images, truths, predictions = (
        re.findall(pattern, text)
        for pattern in (r'base64,(.*?)"', r'truth: labels\("(.*?)"', r'prediction: labels\("(.*?)"')
    )
    written = zip(images, truths, predictions, strict=True)
    for scene, (file, true, predicted) in zip(draw["drawn"](), written, strict=True):
        name, seed, image, truth, prediction = scene
        assert f'name: "{name}", seed: {seed}, height: {len(image)}' in text
        shown = np.asarray(Image.open(io.BytesIO(b64decode(file))), "float32")
        assert np.abs(shown - image).mean() < 4  # it is compressed
        assert (label_map(true, truth.shape) == truth).all(), f"run {DRAW.name}"
        # Where two classes have nearly the same score, another processor rounds another way.
        agreed = label_map(predicted, truth.shape) == prediction
        assert agreed.mean() > 0.999, f"run {DRAW.name}"


def test_scenes_are_small():
    assert (DRAW.parent / "scenes.js").stat().st_size < 200_000
