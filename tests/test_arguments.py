"""What the console script answers before Keras is imported, and that it answers the truth."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

import keras_psp
from keras_psp import arguments, cli, quiet
from keras_psp.data.augmentation import PRESETS
from keras_psp.experiments.degradation import NETWORKS
from keras_psp.inference.exporting import FORMATS
from keras_psp.inference.views import VIEWS


def refused(command, capsys):
    """Returns what is said of a command line that is wrong."""
    with pytest.raises(SystemExit) as exit:
        cli.main(command.split())
    assert exit.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def script():
    """The console script, as an installer has made it."""
    path = shutil.which("keras-psp", path=sysconfig.get_path("scripts"))
    if path is None:
        pytest.skip("keras-psp is not installed")
    return path


@pytest.mark.parametrize(
    "command, code, said",
    [
        ("--version", 0, f"keras-psp {keras_psp.__version__}\n"),
        ("--help", 0, "usage: keras-psp "),
        ("train --help", 0, "usage: keras-psp train "),
        ("train --epochs 0", 2, "usage: keras-psp train "),
        ("", 2, "usage: keras-psp "),
    ],
)
def test_the_console_script_answers_before_anything_large_is_imported(script, command, code, said):
    options = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    run = [script, *command.split()]
    result = subprocess.run(run, capture_output=True, text=True, env=options)
    lines = result.stderr.splitlines(keepends=True)
    imports = [line for line in lines if line.startswith("import time:")]
    errors = "".join(line for line in lines if not line.startswith("import time:"))
    assert result.returncode == code, errors
    assert (errors if code else result.stdout).startswith(said)
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in imports}
    assert "keras_psp" in names
    assert not names & {"keras", "tensorflow", "jax", "torch", "numpy", "PIL", "matplotlib"}


def test_the_console_script_prints_what_the_output_has_no_letters_for(script):
    options = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run([script, "train", "--help"], capture_output=True, env=options)
    assert (result.returncode, result.stderr) == (0, b"")
    assert rb"\u2026" in result.stdout  # …


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
def test_the_console_script_needs_no_streams(script):
    options = {name: value for name, value in os.environ.items() if name != quiet.VARIABLE}
    for closed in ("2>&-", "<&- >&- 2>&-"):
        command = ["sh", "-c", f'"$0" tables {closed}', script]
        result = subprocess.run(command, stdout=subprocess.PIPE, env=options)
        assert result.returncode == 0
        assert (b"ResNet" in result.stdout) == (closed == "2>&-")


@pytest.mark.parametrize("program", [["keras-psp.py", "--help"], ["python", "--version"], []])
def test_other_programs_keep_their_arguments(program, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", program.copy())
    arguments.answer_at_once()
    assert (sys.argv, *capsys.readouterr()) == (program, "", "")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/keras-psp", "--help"])
    with pytest.raises(SystemExit):
        arguments.answer_at_once()


def test_the_function_reads_the_same_arguments(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"keras-psp {keras_psp.__version__}\n"


@pytest.mark.parametrize(
    "command, unknown",
    [
        ("train --output runs/x", "--output runs/x"),  # is not --output-stride
        ("train --epoch 3", "--epoch 3"),
        ("predict street.png --model runs/x --mirr", "--mirr"),
    ],
)
def test_abbreviations_are_refused(command, unknown, capsys):
    name = command.split()[0]
    said = refused(command, capsys)
    assert f"Received: {unknown}. keras-psp {name} --help names them all." in said


def test_two_word_commands_refuse_abbreviations(capsys):
    assert "keras-psp data check --help" in refused("data check folder --spl val", capsys)
    # Read as the name of a command, which it is not.
    assert "keras-psp: error" in refused("--trace tables", capsys)


def test_names_are_those_of_the_tables(capsys):
    def help_of(command):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        return " ".join(capsys.readouterr().out.split())

    assert f"{', '.join(sorted(PRESETS))}, none (default" in help_of("train")
    names = list(VIEWS)[: list(VIEWS).index("center_crop")]  # the rest is for classifiers
    assert f"--policy POLICY {', '.join(names)}; changed" in help_of("evaluate")
    assert f"--format {{{','.join(FORMATS)}}}" in help_of("export")
    assert f"(default: {' '.join(NETWORKS)}) --seeds" in help_of("degradation")


def test_every_command_does_something():
    assert list(arguments.COMMANDS) == list(cli.FUNCTIONS)
