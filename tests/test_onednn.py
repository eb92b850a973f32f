"""Whether TensorFlow uses oneDNN, which it decides when it is imported: each in a process."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from keras_psp.onednn import VARIABLE

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"),
    reason="oneDNN is switched on for x86 processors only",
)
LINE = "TensorFlow works without oneDNN here"
IS_ON = """
import os
import keras_psp
from keras_psp.keras_internals import uses_onednn
print("oneDNN", uses_onednn(), os.environ["TF_ENABLE_ONEDNN_OPTS"])
"""
SAY = """
from keras_psp import onednn
onednn.say_if_off()
"""
FIT = """
from tests.tiny import Tiny, data
for _ in range(2):
    model = Tiny()
    model.compile(run_eagerly=True)
    model.fit(*data(2), verbose=0)
"""
# As where TensorFlow came first, on a processor for which it leaves oneDNN off.
TOO_LATE = """
import tensorflow as tf
del os.environ["TF_ENABLE_ONEDNN_OPTS"]
onednn.say_if_off.cache_clear()
onednn.switch_on()  # as the import of keras_psp does
assert "TF_ENABLE_ONEDNN_OPTS" not in os.environ
print("too late", flush=True)
"""
# Where it would not help: on another processor, on a GPU, and where oneDNN is on all the same.
NEEDLESS = """
import platform
from unittest import mock
from keras_psp import keras_internals, onednn

for change in [
    mock.patch.object(platform, "machine", lambda: "arm64"),
    mock.patch.object(tf.config, "get_visible_devices", lambda kind: [kind]),
    mock.patch.object(keras_internals, "uses_onednn", lambda: True),
]:
    with change:
        onednn.say_if_off()
    onednn.say_if_off.cache_clear()
print("needed", flush=True)
"""
FIT_CLASSIFIER = """
import keras, numpy as np
from keras_psp.layers import PaddedConv2D
from keras_psp.models.classifier import Classifier

onednn.say_if_off.cache_clear()
print("classifier", flush=True)
image = keras.Input((2, 2, 3))
dilated = PaddedConv2D(3, 3, dilation_rate=2)(image)
model = Classifier(image, keras.layers.Flatten()(dilated))
model.compile("sgd", "mse", run_eagerly=True)
model.fit(np.zeros((2, 2, 2, 3)), np.zeros((2, 12)), verbose=0)
"""


def run(code, **environment):
    """Runs the code in a process in which nobody has decided; returns what it said."""
    known = {name: value for name, value in os.environ.items() if name != VARIABLE}
    known |= {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=known | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:]
    return result.stdout


@x86
def test_import_switches_onednn_on():
    assert "oneDNN True 1" in run(IS_ON)


@pytest.fixture(scope="module")
def without_onednn():
    """What is said where the user wants none, and then where nobody has decided."""
    code = IS_ON + SAY + TOO_LATE + NEEDLESS + FIT + FIT_CLASSIFIER
    said, _, too_late = run(code, TF_ENABLE_ONEDNN_OPTS="0").partition("too late")
    return said, too_late


def test_user_setting_stays(without_onednn):
    said, _ = without_onednn
    assert "oneDNN False 0" in said
    assert LINE not in said


def test_other_backends_leave_the_setting_alone(tmp_path):
    pytest.importorskip("jax")
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    code = "import keras_psp, os; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    # Keras takes an empty name for none, and looks into its file.
    assert run(code, KERAS_BACKEND="", KERAS_HOME=str(tmp_path)).splitlines()[-1] == "None"


@x86
def test_late_import_warns_once_at_first_fit(without_onednn):
    needless, _, said = without_onednn[1].partition("needed")
    segmentation, _, classifier = said.partition("classifier")
    assert LINE not in needless
    assert segmentation.count(LINE) == 1
    assert "set TF_ENABLE_ONEDNN_OPTS=1 before Python starts" in segmentation
    assert LINE in classifier
    # TensorFlow logs what it cannot compute, such as dilated gradients without oneDNN.
    assert "aborting" not in said
