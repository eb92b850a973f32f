"""Writes the streets that the widgets show: `python docs/widgets/draw.py` (15 seconds).

Each is drawn by `keras_psp.street_scene`, with its true classes and those that the network in the
package says. They stand in a script, not in files of their own, so that a page works from a file.
"""

import io
import itertools
import json
from base64 import b64encode
from pathlib import Path

from PIL import Image

import keras_psp
from keras_psp import visualization
from keras_psp.labels import VOID

FILE = Path(__file__).with_name("scenes.js")
SIZE = (360, 480)
SCENES = {"a gray day": 7_000_005, "an evening": 3_000_006, "a night": 7_000_011}
COLORS = ("HIT", "MISS", "FALSE_ALARM", "RIGHT", "WRONG", "VOID_COLOR")

SCRIPT = """\
// Made by docs/widgets/draw.py: drawn streets, their true classes, and those that a network says.
(() => {
  "use strict";
  window.KerasPsp = window.KerasPsp || {};

  // A letter is a class ("a" is 0, "z" is void), the number behind it says for how many pixels.
  const labels = (runs, length) => {
    const map = new Uint8Array(length);
    let start = 0;
    for (const [, letter, count] of runs.matchAll(/([a-z])(\\d+)/g)) {
      map.fill(letter === "z" ? VOID : letter.charCodeAt(0) - 97, start, start + Number(count));
      start += Number(count);
    }
    return map;
  };
"""


def drawn():
    """Draws the streets, and asks the network: name, seed, image, true and predicted classes."""
    model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
    for name, seed in SCENES.items():
        image, truth = keras_psp.street_scene(seed=seed, image_size=SIZE)
        yield name, seed, image, truth, keras_psp.segment(model, image)


def runs(labels):
    """Writes a label map, row by row, as letters and how often each stands in a row."""
    letters = ("z" if label == VOID else chr(97 + label) for label in labels.ravel().tolist())
    return "".join(f"{letter}{len(list(run))}" for letter, run in itertools.groupby(letters))


def script(scenes):
    """The whole of `scenes.js`."""
    classes = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid").classes
    pairs = zip(classes.names, classes.colors, strict=True)
    named = [{"name": name, "color": list(color)} for name, color in pairs]
    colors = {name.lower(): list(getattr(visualization, name)) for name in COLORS}
    lines = [
        SCRIPT,
        f"  const VOID = (KerasPsp.VOID = {VOID});",
        f"  KerasPsp.classes = {json.dumps(named)};",
        f"  KerasPsp.colors = {json.dumps(colors)};",
        "  KerasPsp.scenes = [",
    ]
    for name, seed, image, truth, prediction in scenes:
        Image.fromarray(image).save(file := io.BytesIO(), "webp", quality=80, method=6)
        height, width = truth.shape
        lines += [
            "    {",
            f"      name: {json.dumps(name)}, seed: {seed}, height: {height}, width: {width},",
            f'      image: "data:image/webp;base64,{b64encode(file.getvalue()).decode()}",',
            f'      truth: labels("{runs(truth)}", {truth.size}),',
            f'      prediction: labels("{runs(prediction)}", {truth.size}),',
            "    },",
        ]
    return "\n".join([*lines, "  ];", "})();", ""])


if __name__ == "__main__":
    FILE.write_text(script(drawn()))
    print(FILE.name, FILE.stat().st_size // 1000, "kB")
