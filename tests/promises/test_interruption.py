"""A training that is interrupted, or not alone in its folder, loses nothing."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.atomic import read_table
from tests.callbacks.test_run_folder import ABC, assert_same, begin, state, train

pytestmark = pytest.mark.usefixtures("no_pictures")

ROOT = Path(__file__).parents[2]
TRAIN = """
import time
import keras
import pytest
from tests.callbacks.test_run_folder import begin, train
from tests.conftest import draw_nothing
draw_nothing(pytest.MonkeyPatch())
model, run = begin("run", settings={"seed": 3})

class Wait(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print("epoch", flush=True)
        time.sleep(60)

train(model, run, callbacks=[Wait()])
"""


@pytest.fixture
def other(tmp_path):
    """Another process that trains into the folder `run`, and has finished an epoch."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    while process.stdout.readline() not in ("epoch\n", ""):
        pass
    assert process.poll() is None
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_trains(other, tmp_path):
    model, run = begin(tmp_path / "run", settings={"seed": 3})
    with pytest.raises(ValueError, match=rf"into which process {other.pid} on .*, since 20\d\d-"):
        train(model, run)
    assert keras_psp.load_run(tmp_path / "run").classes == ABC  # Readers need no lock.
    other.send_signal(signal.SIGKILL)
    other.wait()
    model, run = begin(tmp_path / "run", settings={"seed": 3})
    assert train(model, run).epoch == [1, 2]


def is_free(folder):
    """Whether another process could train into the folder."""
    filelock = pytest.importorskip("filelock")
    lock = filelock.FileLock(folder / ".lock", timeout=0)  # Even here another one is not let in.
    try:
        lock.acquire()
    except filelock.Timeout:
        return False
    lock.release()
    return True


def test_a_cell_may_be_run_again(tmp_path):
    class Fail(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt  # Nobody releases the lock.

    model, run = begin(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(model, run, callbacks=[Fail()])
    again, second = begin(tmp_path)
    assert train(again, second).epoch == [1, 2]
    assert is_free(tmp_path)


def test_a_training_that_is_refused_locks_no_folder(tmp_path):
    train(*begin(tmp_path))
    model, run = begin(tmp_path, settings={"another": 1})
    with pytest.raises(ValueError, match="another: None → 1"):
        train(model, run)
    assert is_free(tmp_path)


@pytest.mark.parametrize("what", ["removed", "full"])
def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch, what):
    folder = tmp_path / "run"
    model, run = begin(folder, settings={"seed": 3})

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    def spoil(epoch, logs=None):
        if epoch == 1 and what == "removed":
            shutil.rmtree(folder)
        elif epoch == 1:
            monkeypatch.setattr("keras_psp.callbacks.run_folder.save_state", fail)

    spoiler = keras.callbacks.LambdaCallback(on_epoch_begin=spoil)
    with pytest.raises(OSError, match=r"Received: folder='.*run', which cannot be written to \("):
        train(model, run, callbacks=[spoiler])
    monkeypatch.undo()
    if what != "removed":
        history = read_table(folder / "history.csv")
        assert len(history) == 2  # The checkpoint is the truth, and of the first epoch:
        model, run = begin(folder, settings={"seed": 3})
        whole, alone = begin(tmp_path / "whole", settings={"seed": 3})
        train(whole, alone)
        assert train(model, run).epoch == [1, 2]
        assert_same(state(model), state(whole))


RUN = """
import keras, keras_psp, pytest
from tests.conftest import draw_nothing
draw_nothing(pytest.MonkeyPatch())
keras.utils.set_random_seed(1)
options = {"num_images": 8, "augment": "authors"}
train, val = keras_psp.load_street_scenes(["train", "val"], (33, 41), 2, **options)
model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None, output_stride=16)
run = keras_psp.RunFolder("run")
model.fit(train, validation_data=val, epochs=6, verbose=0, callbacks=[run])
"""


@pytest.mark.benchmarks  # Minutes: not in the default run.
@pytest.mark.timeout(3600)
def test_the_default_model_killed_anywhere_ends_as_if_never_killed(tmp_path):
    """Killed at 20 random moments, the first of them before a first epoch."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}

    def start(folder):
        folder.mkdir(exist_ok=True)
        program = [sys.executable, "-c", RUN]
        return subprocess.Popen(program, cwd=folder, env=environment, stderr=subprocess.DEVNULL)

    begun = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    whole = time.monotonic() - begun
    rng = random.Random(0)
    for _ in range(20):
        process = start(tmp_path / "killed")
        time.sleep(rng.uniform(0.3, 0.9) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait() == 0
    ends = [tmp_path / name / "run" for name in ("whole", "killed")]
    tables = [read_table(end / "history.csv") for end in ends]
    assert tables[0] == tables[1]
    models = [keras_psp.load_run(end, "last").model for end in ends]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other locks")
def test_where_flock_is_missing_no_file_takes_its_place(tmp_path, monkeypatch):
    import fcntl

    def missing(*args):  # as on Lustre, where it is mounted so
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    (tmp_path / ".lock").write_text("1\nanother machine\n")  # of a process that was killed there
    model, run = begin(tmp_path)
    with pytest.warns(UserWarning, match=r"no other process trains.*no locks: .*not implemented"):
        assert train(model, run, epochs=1).epoch == [0]


def test_without_locks_a_training_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    model, run = begin(tmp_path)
    with pytest.warns(UserWarning, match=r"no other process trains.*filelock is not installed"):
        train(model, run, epochs=1)
