"""TensorFlow's log: kept away on the command line, and nowhere else."""

import os
import sys

import pytest

from keras_psp import quiet


@pytest.mark.parametrize(
    "program, level, expected",
    [
        ("bin/keras-psp", None, ("", "3")),
        ("bin/keras-psp", "0", ("import\n", "0")),
        ("notebook.py", None, ("import\n", None)),
    ],
)
def test_only_the_command_line_is_quiet(program, level, expected, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setenv(quiet.VARIABLE, level or "")
    if level is None:
        monkeypatch.delenv(quiet.VARIABLE)
    with quiet.on_the_command_line():
        os.write(2, b"import\n")  # past sys.stderr, as TensorFlow does
    assert (capfd.readouterr().err, os.environ.get(quiet.VARIABLE)) == expected
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "later\n"
