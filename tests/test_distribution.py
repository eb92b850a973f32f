"""Several devices, or several processes, do what one does with the same batches: losses, weights
(so the statistics of batch normalization too) and scores, however void is spread over them. So what
one has begun another can end."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_psp.atomic import read_table
from tests.train_distributed import (
    STEPS,
    go_on,
    images_and_labels,
    make_model,
    train,
)

pytestmark = pytest.mark.timeout(600)


def start(result, kind, **environment):
    environment = os.environ | environment | {"KERAS_BACKEND": kind.partition("-")[0]}
    command = [sys.executable, "-m", "tests.train_distributed", result, kind]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], env=environment)


def finish(*processes):
    try:
        codes = [process.wait(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0] * len(processes)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def assert_same(result, expected):
    result, expected = dict(np.load(result)), dict(np.load(expected))
    weights = {name for name in expected if "/" in name and "seed" not in name}
    assert len(weights) > 20
    assert weights < result.keys() <= expected.keys()
    for name in result.keys() - weights:
        if "seed" not in name:
            np.testing.assert_allclose(result[name], expected[name], rtol=1e-5, err_msg=name)
    for name in weights:
        # A bias may be a rounding beside the others.
        scale = max(np.abs(expected[name]).max(), 1e-2)
        np.testing.assert_allclose(
            result[name], expected[name], rtol=0, atol=1e-4 * scale, err_msg=name
        )


@pytest.fixture(scope="module")
def model(all_eagerly):
    return make_model()


@pytest.fixture(scope="module")
def one(model, tmp_path_factory):
    """What one device does, on the backend of this process."""
    file = tmp_path_factory.mktemp("distribution") / "one.npz"
    train(model, file, *images_and_labels())
    with np.load(file) as result:
        assert len(result["losses"]) == STEPS
        assert 0 < result["history mean_iou"] < 1
    return file


@pytest.mark.slow
def test_mirrored_strategy(tmp_path, one, model):
    pytest.importorskip("tensorflow")
    two = tmp_path / "two.npz"
    finish(start(two, "tensorflow-mirrored"))
    assert_same(two, one)
    # One device goes on with the run of two as these do, which had forgotten everything.
    first, run = Path(f"{two}.run.first"), Path(f"{two}.run")
    assert len(list(first.glob("[!.]*"))) == len(list(run.glob("[!.]*"))) == 8  # and the lock
    resumed = tmp_path / "resumed.npz"
    go_on(model, first, resumed, *images_and_labels())
    with np.load(resumed) as result:
        assert len(result["losses"]) == STEPS
        assert 0 < result["history val_mean_iou"] < 1
    assert_same(f"{two}.resumed.npz", resumed)
    for name in ("history.csv", "per_class.csv"):
        tables = [np.genfromtxt(f / name, delimiter=",")[1:] for f in (run, first)]
        np.testing.assert_allclose(*tables, rtol=1e-5)
    assert len(read_table(run / "history.csv")) == 2


GLOO = {"JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}


@pytest.mark.slow
def test_two_devices_on_jax(tmp_path, one):
    pytest.importorskip("jax")
    two = tmp_path / "two.npz"
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"
    finish(start(two, "jax-devices", JAX_PLATFORMS="cpu", XLA_FLAGS=flags))
    assert_same(two, one)


SMALLER = {
    "import os\n": "import os\nfrom tests.without import hide\nhide(['tensorflow'])\n",
    "import keras_psp\n": """import keras_psp
import pytest
from tests.conftest import draw_nothing, start_weights_by_numpy
from tests.train_distributed import make_backbone
draw_nothing(pytest.MonkeyPatch())
start_weights_by_numpy(pytest.MonkeyPatch())
""",
    'load_camvid(["train", "val"], image_size=(240, 320)': (
        'load_street_scenes(["train", "val"], image_size=(24, 32), num_images=5'
    ),
    "8 * len(": "1 * len(",
    'backbone="resnet50"': "make_backbone(), bins=(2,)",
    "epochs=50": "epochs=2",
}
# The same two processes, which have imported everything, then do what one device does.
THEN = """
from tests import train_distributed

train_distributed.main("two.npz", "jax-processes")
"""


@pytest.mark.slow
def test_two_processes_on_jax(tmp_path, one):
    pytest.importorskip("jax")
    page = (Path(__file__).parents[1] / "docs" / "distributed.md").read_text()
    (program,) = re.findall(r"^```py\n(import os\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    for large, small in SMALLER.items():
        assert large in program
        program = program.replace(large, small)
    (tmp_path / "train.py").write_text(program + THEN)
    slurm = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    environment = os.environ | GLOO | slurm | {"JAX_COORDINATOR_PORT": str(free_port())}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    processes = []
    for number in ("0", "1"):
        own = {"KERAS_BACKEND": "jax", "SLURM_PROCID": number, "SLURM_LOCALID": number}
        with open(tmp_path / f"{number}.log", "w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "train.py"], cwd=tmp_path, env=environment | own, stdout=log
                )
            )
    finish(*processes)
    rows = read_table(tmp_path / "runs" / "camvid" / "history.csv")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    # Each has scored all pixels of all frames.
    first, second = (
        re.findall(r"step - (loss: .*)", (tmp_path / f"{number}.log").read_text())
        for number in range(2)
    )
    assert len(first) == 2
    assert first == second

    assert_same(tmp_path / "two.npz", one)
    # The first process alone has written the run.
    folder = tmp_path / "two.npz.run"
    assert (folder / "checkpoint.weights.h5").exists()
    assert len(read_table(folder / "history.csv")) == 1
