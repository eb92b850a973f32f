"""The program for a GPU, in miniature on the CPU, and the parts of it that only count."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_psp
from tests.tiny import Tiny, data

BENCHMARKS = Path(__file__).parent / "benchmarks"


# Time and memory --------------------------------------------------------------------------------


def test_a_step_gets_its_share_plus_leftovers(benchmark):
    gpu = benchmark("gpu")
    found = gpu.deadlines(540)
    assert list(found) == ["checks", "tests", "speed", "training"]
    lengths = np.diff([0, *found.values()])
    np.testing.assert_allclose(lengths, [64.8, 54, 226.8, 194.4])
    assert found["training"] == 540
    # Steps that are left out leave their time to the others, in proportion.
    only = gpu.deadlines(60, ["checks", "training"])
    assert only == pytest.approx({"checks": 60 * 0.12 / 0.48, "training": 60})


@pytest.mark.parametrize(
    "seconds, epoch, extra, every, epochs",
    [
        # 17 s of training beside 3 s are 85 % of the time. Ten rounds of 20 s, and a twentieth.
        (211, 1.0, 3.0, 17, 170),
        # Epochs longer than that are validated each.
        (106, 20.0, 5.0, 2, 4),
        (1053, 100.0, 5.0, 1, 9),
        # Time for a single validation: at the end of it.
        (27, 2.0, 6.0, 9, 9),
        # Time for nothing: an epoch all the same, so that there are weights.
        (1, 50.0, 6.0, 1, 1),
        (-5, 2.0, 6.0, 1, 1),
    ],
)
def test_a_training_fits_into_the_time(benchmark, seconds, epoch, extra, every, epochs):
    assert benchmark("gpu_jobs").schedule(seconds, epoch, extra) == (every, epochs)
    rounds = epochs // every
    assert rounds == 1 or epochs * epoch + rounds * extra <= 0.95 * seconds


def test_the_batch_grows_while_memory_allows(benchmark):
    gpu = benchmark("gpu")
    # 16 images take 9 GB: 32 take 18, 64 take 36, and 128 would take 72 of 80 GB, 90 %.
    assert gpu.largest_batch(16, 9000, 80_000, most=1024) == 128
    assert gpu.largest_batch(16, 9000, 75_000, most=1024) == 64  # 96 %: too close
    assert gpu.largest_batch(16, 9000, 15_000, most=1024) == 16
    assert gpu.largest_batch(16, 9000, 80_000, most=32) == 32
    assert gpu.largest_batch(2, None, None, most=4) == 4  # where nobody knows the memory


@pytest.mark.parametrize(
    "name, peak",
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Tesla T4", 65e12),
        ("NVIDIA T400", None),
        ("cpu", None),
    ],
)
def test_the_peak_is_that_of_the_card(benchmark, name, peak):
    assert benchmark("gpu").peak_of(name) == peak


# Weights in parts -------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path):
    model = Tiny(dropout=0.1)
    images, labels = data()
    model.fit(images, labels, epochs=1, verbose=0)
    file = tmp_path / "best.weights.h5"
    model.save_weights(file)
    return model, file


def test_joined_parts_are_the_model_within_rounding(benchmark, trained, tmp_path):
    float16_parts = benchmark("float16_parts")
    model, file = trained
    parts = float16_parts.write_parts(file, tmp_path / "half", part_mib=0.01)
    sizes = [part.stat().st_size for part in parts]
    assert len(parts) > 2
    assert max(sizes) <= 0.01 * 2**20
    assert [part.name for part in parts][:2] == [
        f"half.part-1-of-{len(parts)}",
        f"half.part-2-of-{len(parts)}",
    ]
    # In any order, and into a model that has other weights.
    joined = float16_parts.join_parts(parts[::-1], tmp_path / "joined.weights.h5")
    again = Tiny(dropout=0.1)
    again.load_weights(joined)
    for new, old in zip(again.weights, model.weights, strict=True):
        new, old = (keras.ops.convert_to_numpy(one) for one in (new, old))
        if old.ndim > 1:
            # float16 has 11 binary places, and numbers below 2⁻¹⁴ are multiples of 2⁻²⁴.
            np.testing.assert_allclose(new, old, rtol=2.0**-11, atol=2.0**-25)
        else:
            np.testing.assert_array_equal(new, old)
    images, labels = data(seed=1)
    again.compile()
    model.compile()
    scores = [one.evaluate(images, labels, return_dict=True, verbose=0) for one in (model, again)]
    assert scores[0]["mean_iou"] == pytest.approx(scores[1]["mean_iou"], abs=0.02)
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=0.01)


def test_a_missing_part_is_an_error(benchmark, trained, tmp_path):
    float16_parts = benchmark("float16_parts")
    parts = float16_parts.write_parts(trained[1], tmp_path / "half", part_mib=0.01)
    with pytest.raises(ValueError, match=r"Received: half\.part-2-of-.*Bring the missing ones"):
        float16_parts.join_parts(parts[1:], tmp_path / "joined.weights.h5")
    with pytest.raises(ValueError, match="Received: none"):
        float16_parts.join_parts([], tmp_path / "joined.weights.h5")
    other = tmp_path / f"other.part-1-of-{len(parts)}"
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="must be all those of one file"):
        float16_parts.join_parts([other, *parts[1:]], tmp_path / "joined.weights.h5")


def test_a_kernel_beyond_float16_is_an_error(benchmark, tmp_path):
    float16_parts = benchmark("float16_parts")
    model = Tiny()
    model.head.kernel.assign(np.full(model.head.kernel.shape, 7e4))
    model.save_weights(tmp_path / "large.weights.h5")
    with pytest.raises(ValueError, match=r"±65504\. Received: layers/.*large\.weights\.h5"):
        float16_parts.write_parts(tmp_path / "large.weights.h5", tmp_path / "half", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["large.weights.h5"]


# Processes --------------------------------------------------------------------------------------


def test_a_contender_that_hangs_is_killed(benchmark, tmp_path):
    contest = benchmark("contest")
    script = tmp_path / "contender.py"
    script.write_text(
        f"""
import sys, time
sys.path.append({str(BENCHMARKS)!r})
import contest

contest.serve(lambda spec: [lambda: {{"found": 3}}, lambda: time.sleep(60)])
"""
    )
    start = time.monotonic()
    with contest.Contender(str(script), {"imports": []}, limit=3) as one:
        assert one.step(0)["found"] == 3
        with pytest.raises(TimeoutError, match="killed after 3 s"):
            one.step(1)
    assert time.monotonic() - start < 30


@pytest.mark.benchmarks
@pytest.mark.timeout(300)
def test_the_miniature_checks_measures_and_trains(benchmark, tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "out"
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--tiny", "--out", out]
    # It ends as soon as all is done, in a fraction of these minutes.
    command += ["--minutes", "4", "--part-mib", "0.05", "--only", "checks", "speed", "training"]
    # PyTorch compiles nothing.
    environment = {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1", "KERAS_PSP_DATA": ""}
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((out / "results.json").read_text())
    assert not found["late"]
    assert list(found["checks"]) == list(benchmark("gpu_jobs").CHECKS)
    assert all(row["passed"] for row in found["checks"].values())
    assert "## Checks" in (out / "summary.md").read_text()
    for row in found["speed"]:
        assert row["images_s"] == pytest.approx(row["batch"] / row["step_s"])
        times = 1 if row["task"] == "inference" else 3
        assert row["flops"] >= 2 * times * found["device"]["multiply_adds"] * row["images_s"]
    assert len(found["speed"]) == 2 * len(benchmark("gpu_jobs").TASKS)
    training = found["training"]
    assert training["data"] == "street scenes"
    assert (out / "samples.png").exists()
    assert (out / "history.csv").read_text().count("\n") == 1 + (
        training["epochs_done"] // training["every"]
    )
    assert max(training["parts"].values()) <= 0.05 * 2**20
    # The parts are a run, of which this process, on whatever backend, finds the very same score.
    weights = out / "weights"
    join = [sys.executable, BENCHMARKS / "gpu.py", "--join", weights]
    assert "keras_psp.load_run" in subprocess.check_output(join, text=True)
    val = keras_psp.load_street_scenes("val", (48, 64), 4, num_images=8)
    result = keras_psp.evaluate(keras_psp.load_run(weights).model, val)
    assert result.mean_iou == pytest.approx(training["float16_mean_iou"], abs=1e-3)
    assert result.mean_iou == pytest.approx(training["mean_iou"], abs=1e-2)
