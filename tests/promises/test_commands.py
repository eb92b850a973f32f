"""No command ends in a trace: a message and the exit code say what is wrong."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import cli
from keras_psp.cli import main
from tests.tiny import Tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path, write_image, monkeypatch):
    """A photo, and a network as Keras saves it, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photo.png", np.full((6, 7, 3), 99, "uint8"))
    Tiny().save(tmp_path / "tiny.keras")
    keras_psp.export(Tiny(), tmp_path / "exported.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK")
    return tmp_path


WRONG = {
    "predict photo.png --model tiny.keras --scales inf": "0.01 to 100 is needed. Received: inf",
    "predict photo.png --model tiny.keras --scales 1e6": "0.01 to 100 is needed. Received: 1e6",
    "predict photo.png --model tiny.keras --scales nan": "0.01 to 100 is needed. Received: nan",
    "predict photo.png --model tiny.keras --stride 0": "0.01 to 1 is needed. Received: 0",
    "predict photo.png --model tiny.keras --short-side 9999999": "at most 10,000,000,000 pixels",
    "predict photo.png --model broken.keras": "a whole ZIP file",
    "predict nothing.png --model tiny.keras": "must exist. Received: nothing.png",
    "train --learning-rate -1": "Received: -1",
    "train --learning-rate nan": "Received: nan",
    "train --class-weights inf": "Received: inf",
    "train --class-weights 1000": "0 to 10 is needed. Received: 1000",
    "train --head-multiplier inf": "Received: inf",
    "train --seed -1": "Received: -1",
    "train --seed 4294967296": "A seed is 0",
    "train --output-stride 7": "Received: output_stride=7",
    "train --validation-split 2": "Received: 2",
    "demo --seed 0": "Received: 0",
    "convert exported.keras o.weights.h5": "another model",
    "convert broken.keras o.weights.h5": "a whole ZIP file",
    "evaluate photo.png": "photo.png",
}


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_command_is_answered(files, capsys, command):
    try:
        code = main(command.split())
    except SystemExit as end:  # argparse's
        code = end.code
    # Of photos, all that can be segmented are.
    assert code == (1 if "--short-side" in command else 2)
    said = "".join(capsys.readouterr())
    assert WRONG[command] in said
    assert "Traceback" not in said
    assert not (files / "o.weights.h5").exists()


def test_a_fault_of_ours_is_no_trace_either(monkeypatch, capsys):
    def fail(args):
        raise RuntimeError("what nobody thought of")

    monkeypatch.setitem(cli.FUNCTIONS, "tables", fail)
    assert main(["tables"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("keras-psp: RuntimeError: what nobody thought of\n")
    assert "keras-psp --traceback" in said
    with pytest.raises(RuntimeError):
        main(["--traceback", "tables"])


def test_ctrl_c_ends_a_training_with_a_message(monkeypatch, capsys):
    # Where the tests run in the background, Python ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setitem(cli.FUNCTIONS, "train", lambda args: signal.raise_signal(signal.SIGINT))
    try:
        assert main(["train"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "keras-psp: interrupted. The same command resumes it" in capsys.readouterr().err


class Interrupt:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_no_ctrl_c_gets_lost(monkeypatch, capfd):
    before, codes = signal.signal(signal.SIGINT, signal.default_int_handler), []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(sys, "unraisablehook", hook := lambda lost: None)
    monkeypatch.setitem(cli.FUNCTIONS, "train", lambda args: [Interrupt()].clear())
    try:
        main(["train"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert codes == [130]
    assert capfd.readouterr().err == "\nkeras-psp: interrupted. The same command resumes it\n"
    assert sys.unraisablehook is hook


def test_a_command_gives_the_handler_of_sigterm_back(monkeypatch):
    handlers = [signal.getsignal(signal.SIGTERM)]
    look = lambda args: handlers.append(signal.getsignal(signal.SIGTERM))  # noqa: E731
    monkeypatch.setitem(cli.FUNCTIONS, "tables", look)
    assert main(["tables"]) == 0
    assert handlers[1] != handlers[0] == signal.getsignal(signal.SIGTERM)


# Python drops what is raised in a `__del__`, and in a callback of a weak reference or of the
# garbage collection. Of trainings that were ended by an exception, one in twenty went on.
IN_A_DEL = """
import signal, sys
from keras_psp import cli

class Last:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

cli.FUNCTIONS["train"] = lambda args: [print("printed before", end=""), Last()].pop() and None
sys.exit(cli.main(["train"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_no_sigterm_gets_lost():
    command = [sys.executable, "-c", IN_A_DEL]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 143
    assert ended.stdout == "printed before"
    assert ended.stderr.endswith("\nkeras-psp: ended. The same command resumes it\n")
    assert "ignored" not in ended.stderr


def nobody_reads():
    """The end of a pipe that can be written to, but for the other end, which is closed."""
    read, written = os.pipe()
    os.close(read)
    return written


@pytest.mark.parametrize("command, said", [("tables", ""), ("train", "same command resumes it")])
def test_nobody_need_read_all(monkeypatch, capsys, command, said):
    monkeypatch.setitem(cli.FUNCTIONS, command, lambda args: print("a table"))
    with open(nobody_reads(), "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main([command]) == 141
    error = capsys.readouterr().err
    assert said in error if said else not error


def test_ctrl_c_may_end_also_who_reads_the_messages(monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.FUNCTIONS, "train", interrupt)
    pipe = os.fdopen(nobody_reads(), "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", pipe)
    assert main(["train"]) == 130
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


@pytest.mark.parametrize("stderr", ["broken", "closed"])
def test_sigterm_ends_a_command_that_nobody_listens_to(monkeypatch, tmp_path, stderr):
    monkeypatch.setitem(cli.FUNCTIONS, "train", lambda args: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(os, "_exit", sys.exit)
    # In the place of standard error: a broken pipe, or a file that was opened after it was closed.
    place = (
        nobody_reads()
        if stderr == "broken"
        else os.open(tmp_path / "weights", os.O_CREAT | os.O_RDWR)
    )
    if stderr == "closed":
        monkeypatch.setattr(sys, "__stderr__", None)
    before = os.dup(2)
    try:
        os.dup2(place, 2)
        with pytest.raises(SystemExit, match="143"):
            main(["train"])
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(place)
    assert not [file for file in tmp_path.iterdir() if file.read_bytes()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_training_that_the_system_ends_goes_on(tmp_path):
    program = "import sys; from keras_psp.cli import main; sys.exit(main())"
    options = "train --scenes 8 --image-size 33 41 --batch-size 2 --backbone-weights none --run run"
    with subprocess.Popen(
        [sys.executable, "-c", program, *options.split(), "--epochs", "500"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as first:
        try:
            while not (tmp_path / "run" / "best.weights.h5").exists():
                assert first.poll() is None
                time.sleep(0.1)
            first.terminate()
            said = first.communicate(timeout=60)[1]
        finally:
            first.kill()
    assert first.returncode == 143
    assert "keras-psp: ended. The same command resumes it" in said
    assert "Traceback" not in said
    run = keras_psp.load_run(tmp_path / "run", "last")
    assert isinstance(run.model, keras.Model)
