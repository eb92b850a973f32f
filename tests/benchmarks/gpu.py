"""The most that a few minutes on a GPU can tell: checks, speed beside PyTorch, a training.

    KERAS_BACKEND=jax python tests/benchmarks/gpu.py --minutes 9 --out results --camvid CamVid

On JAX or PyTorch, as KERAS_BACKEND says; TensorFlow is not needed. In this order, each within its
share of the time, and what one leaves goes to the next:

1. checks: layers, loss, PSPNet and `fit` on the device beside the CPU, and PyTorch there;
2. tests: those of tests/test_backends.py on the device, where pytest is installed;
3. speed: PSPNet-ResNet-50 at 473×473 in half precision, images per second in inference and
   training, the share of the device's peak and memory, beside PyTorch;
4. training: on CamVid from random values, or on street scenes where it is not at hand.

Whatever is found is written at once: OUT/results.json, OUT/summary.md; of the training
OUT/run, which is a run folder, history.csv, samples.png, and OUT/weights, which holds the
best weights as float16 in parts. `gpu.py --join OUT/weights` makes them one file again.
All of it in miniature:

    python tests/benchmarks/gpu.py --device cpu --minutes 2 --tiny --out results
"""

import argparse
import concurrent.futures
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import contest
import float16_parts
import gpu_jobs

ROOT = Path(__file__).parents[2]
# Step → its share of the time.
SHARES = {"checks": 0.12, "tests": 0.1, "speed": 0.42, "training": 0.36}
# In miniature, where compiling takes nearly all of the time.
TINY_SHARES = {"checks": 0.25, "tests": 0.04, "speed": 0.2, "training": 0.51}
# A contender of the speed step may take this share of it: a compiler that hangs is not to eat all.
LONGEST = 0.5
# No process is started for fewer seconds than these.
SHORTEST = 5.0
# What a device multiplies and adds at most in bfloat16 or float16, in 10¹² operations per second,
# dense, as its maker has it. A device has the longest name that is part of its own.
PEAKS = {
    "A10": 125,
    "A100": 312,
    "A10G": 70,
    "B200": 2250,
    "GH200": 989,
    "H100": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H200": 989,
    "L4": 121,
    "L40S": 362,
    "RTX 3090": 71,
    "RTX 4090": 165,
    "T4": 65,
    "V100": 125,
}
FULL = {
    "checked": "resnet18_deep",
    "network": "resnet50_deep",
    "size": 473,
    "seconds": 2.0,
    "largest": 8,
    "backbone": "resnet18_v1c",
    "image_size": (540, 720),
    "crop_size": (416, 544),
    "training_batch": 16,
    "warm_up": 5,
    "longest_s": 3600,
    "scenes": 300,
}
TINY = {
    "checked": None,
    "network": None,
    "size": 65,
    "seconds": 0.1,
    "largest": 1,
    "backbone": None,
    "image_size": (48, 64),
    "crop_size": (40, 48),
    "training_batch": 4,
    "warm_up": 1,
    "longest_s": 1,
    "scenes": 8,
}
OURS, THEIRS, COMPILED = "keras-psp", "PyTorch, channels last, autocast", "and torch.compile"
CONTENDERS = {
    OURS: {"library": "keras_psp"},
    THEIRS: {"library": "pytorch", "compiled": False},
    COMPILED: {"library": "pytorch", "compiled": True},
}


def deadlines(seconds, steps=tuple(SHARES), shares=SHARES):
    """Until when each step may run, in seconds from the start.

    >>> deadlines(100, ["checks", "training"])
    {'checks': 25.0, 'training': 100.0}
    """
    whole, spent, found = sum(shares[step] for step in steps), 0.0, {}
    for step in steps:
        spent += shares[step]
        found[step] = round(seconds * spent / whole, 3)
    return found


def peak_of(device):
    """The operations per second of a device, by its name; `None` if it is not in the table."""
    found = [name for name in PEAKS if re.search(rf"\b{name}\b", device)]
    return 1e12 * PEAKS[max(found, key=len)] if found else None


def largest_batch(batch, peak, memory, most):
    """The largest batch that should fit, by doubling, if one of `batch` takes `peak` of memory.

    Where nobody knows the memory, it is `most`.
    """
    while 2 * batch <= most and (memory is None or 2 * peak <= 0.95 * memory):
        batch, peak = 2 * batch, memory and 2 * peak
    return batch


class Program:
    """All that is measured, by the clock, written down at once."""

    def __init__(self, args):
        self.args = args
        self.start = time.time()
        self.out = Path(args.out).resolve()
        if (self.out / "results.json").exists():
            raise SystemExit(
                f"Results need a folder of their own. Received: --out {args.out}, which holds "
                "some. Choose another one."
            )
        self.cache = Path(args.cache or self.out / "cache").resolve()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        self.settings = TINY if args.tiny else FULL
        self.backend = _backend()
        self.results = {
            "machine": contest.machine(),
            "options": vars(args),
            "backend": self.backend,
            "seconds": {},
            "failed": {},
            "late": {},
        }

    def run(self):
        self.say(f"{self.results['machine']}; on {self.backend}")
        # Without a device nothing else is worth its time.
        with self.process("look", 60 * self.args.minutes) as one:
            self.device = self.results["device"] = one.step()
        if self.device["platform"] != self.args.device:
            raise SystemExit(
                f"Keras must compute on what is measured. Received: --device {self.args.device}, "
                f"while {self.backend} has a {self.device['platform']}. Install {self.backend} for "
                "your GPU, or pass --device cpu."
            )
        self.say(self.device["name"])
        spent = time.time() - self.start
        shares = TINY_SHARES if self.args.tiny else SHARES
        ends = deadlines(60 * self.args.minutes - spent, self.args.only, shares)
        self.deadlines = {step: spent + end for step, end in ends.items()}
        for step in self.args.only:
            began = time.time()
            try:
                getattr(self, step)()
            except TimeoutError as error:
                self.results["late"][step] = str(error)
                self.say(f"{step}: {error}")
            except Exception as error:  # The time that is left belongs to the next step.
                self.fail(step, error)
            self.results["seconds"][step] = time.time() - began
            self.write()
        self.say(f"All of it lies in {self.out}")
        return 1 if self.results["failed"] else 0

    # Clock, processes, files ---------------------------------------------------------------------

    def left(self, step):
        return self.start + self.deadlines[step] - time.time()

    def environment(self, device):
        """What leaves a process its device."""
        found = {
            # The next process makes the same network: what fills a kernel counts, too.
            "JAX_COMPILATION_CACHE_DIR": str(self.cache / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "TORCHINDUCTOR_CACHE_DIR": str(self.cache / "inductor"),
            # Memory as it is needed, and all of it: nobody else is there.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
        }
        if device == "cpu":
            found |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
            # Only numbers are asked of it, and XLA's optimizations take longer than these.
            flags = os.environ.get("XLA_FLAGS", "")
            found["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=0".strip()
        return found

    def process(self, do, limit, spec=None, environment=None):
        spec = {"library": "keras_psp", **self.settings, **(spec or {}), "do": do}
        ours = spec["library"] == "keras_psp"
        spec["imports"] = ["keras_psp", self.backend] if ours else ["torch"]
        # Which library knows the device's memory; nobody knows the CPU's.
        spec["device_library"] = None
        if self.args.device == "gpu":
            spec["device_library"] = self.backend if ours else "torch"
        spec["backend"] = self.backend
        environment = environment or self.environment(self.args.device)
        return contest.Contender(gpu_jobs.__file__, spec, self.backend, environment, limit)

    def say(self, text):
        print(f"{time.time() - self.start:6.1f} s  {text}", flush=True)

    def fail(self, what, error):
        """Writes down an error: its last line, which says what it is, and all of it."""
        text = str(error).strip() or "no message"
        kind = type(error).__name__
        line = text.splitlines()[-1]
        self.results["failed"][what] = line if kind == "RuntimeError" else f"{kind}: {line}"
        (self.out / "errors.txt").open("a").write(f"{what}\n{text}\n\n")
        self.say(f"{what}: {self.results['failed'][what]}")
        self.write()

    def write(self):
        content = {"results.json": json.dumps(self.results, indent=1)}
        content["summary.md"] = summary(self.results)
        for name, text in content.items():
            partial = self.out / f".partial-{name}"
            partial.write_text(text)
            os.replace(partial, self.out / name)

    # Steps ---------------------------------------------------------------------------------------

    def checks(self):
        found = self.results["checks"] = {}
        files = [f"{self.cache}/check.npz", f"{self.cache}/truth.npz"]
        with contextlib.ExitStack() as stack:
            processes = {}
            for device in {self.args.device, "cpu"}:
                environment = self.environment(device) | EXACT
                process = self.process("check", self.left("checks"), {"files": files}, environment)
                processes[device] = stack.enter_context(process)
            sides = [(processes[self.args.device], 0), (processes["cpu"], len(gpu_jobs.CHECKS))]
            # One where both are the CPU, which then computes one after the other.
            threads = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(processes)))
            for job, (name, (_, allowed)) in enumerate(gpu_jobs.CHECKS.items()):
                answers = [*threads.map(lambda side, job=job: side[0].step(side[1] + job), sides)]
                errors = [answer["error"] for answer in answers if "error" in answer]
                if errors:
                    found[name] = {"passed": False, "error": errors[0]}
                    self.fail(f"check of {name}", RuntimeError(errors[0]))
                    continue
                difference = gpu_jobs.difference(*files)
                passed = difference <= allowed
                found[name] = {"passed": passed, "difference": difference, "allowed": allowed}
                self.say(f"{name}: differs by {difference:.1e}")
                if not passed:
                    message = f"a difference of {difference:.1e}, where {allowed:.0e} is allowed"
                    self.fail(f"check of {name}", RuntimeError(message))
                self.write()

    def tests(self):
        if importlib.util.find_spec("pytest") is None:
            self.results["tests"] = "pytest is not installed"
            return
        code = """
import sys, pytest
from tests.test_backends import TESTS
options = ["-v", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
sys.exit(pytest.main([*options, "-o", "filterwarnings=default", *TESTS]))
"""
        environment = self.environment(self.args.device) | EXACT
        environment |= {"KERAS_BACKEND": self.backend, "PYTHONUNBUFFERED": "1"}
        with open(self.out / "tests.txt", "w+") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=log,
                stderr=log,
            )
            try:
                code = process.wait(max(self.left("tests"), SHORTEST))
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()
            log.seek(0)
            words = re.findall(r"^tests/\S+.* (PASSED|FAILED|ERROR|SKIPPED)", log.read(), re.M)
        counts = ", ".join(f"{words.count(word)} {word.lower()}" for word in dict.fromkeys(words))
        self.results["tests"] = f"{counts}{'; then time was up' if code is None else ''}"
        self.say(f"tests: {self.results['tests']}")
        if code or "FAILED" in words or "ERROR" in words:
            self.fail("tests", RuntimeError(f"{counts}; see tests.txt"))

    def speed(self):
        self.results["speed"] = []
        self.longest = LONGEST * self.left("speed")
        # Cards before Ampere do not multiply in bfloat16.
        halves = ["bfloat16", "float16"]
        if self.device.get("capability", 8) < 8:
            halves = ["float16"]
        batch = self.args.batch_size
        names = list(CONTENDERS)
        if importlib.util.find_spec("torch") is None:
            self.results["speed_note"] = "Nothing stands beside: PyTorch is not installed."
            names = [OURS]
        if self.args.tiny:  # Compiling would take longer than all the rest.
            halves, names = halves[:1], [name for name in names if name != COMPILED]
        # The most valuable first: what time there is is used up on the way.
        plan = [(name, halves[0], False) for name in names]
        plan += [(name, half, False) for half in halves[1:] for name in names if name != COMPILED]
        plan += [(name, halves[0], True) for name in names]
        for name, half, large in plan:
            size = self._largest(name, half) if large else batch
            if size is not None and not (large and size <= batch):
                self._contend(name, half, size)

    def _largest(self, name, half):
        """The batch that should fill the memory, by what smaller ones took."""
        rows = [row for row in self.results["speed"] if (row["name"], row["half"]) == (name, half)]
        rows = [row for row in rows if row["task"] == "training" and "step_s" in row]
        if not rows:
            return None
        batch, peak = rows[-1]["batch"], rows[-1].get("device_peak_mib")
        most = self.settings["largest"] * batch
        return largest_batch(batch, peak, self.device.get("memory_mib"), most)

    def _contend(self, name, half, batch):
        while batch:
            limit = min(self.left("speed"), self.longest)
            row = {"name": name, "half": half, "batch": batch}
            what = f"{name}, {half}, batches of {batch}"
            if limit < SHORTEST:
                self.results["speed"].append({**row, "task": "all", "failed": "no time was left"})
                self.write()
                return
            task = None
            try:
                spec = {"batch": batch, "half": half, **CONTENDERS[name]}
                with self.process("step", limit, spec) as contender:
                    for job, task in enumerate(gpu_jobs.TASKS):
                        found = {**row, "task": task, **contender.step(job)}
                        found["make_s"] = contender.about["make_s"]
                        self.results["speed"].append(self._rated(found))
                        self.say(f"{what}, {task}: {found['images_s']:.1f} images per second")
                        self.write()
                return
            except TimeoutError as error:
                reason = str(error)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                if not reason.startswith("MemoryError"):
                    self.fail(what, error)
            self.results["speed"].append({**row, "task": task or "all", "failed": reason})
            self.write()
            self.say(f"{what}: {reason}")
            # Half of it may fit.
            batch = batch // 2 if reason.startswith("MemoryError") else 0

    def _rated(self, row):
        """With images per second, and the share of the device's peak."""
        row["images_s"] = row["batch"] / row["step_s"]
        work = self.device["multiply_adds"]
        if row["task"] != "inference":
            work = 3 * (work + self.device["auxiliary_multiply_adds"])
        row["flops"] = 2 * work * row["images_s"]
        if self.args.device == "gpu" and (peak := peak_of(self.device["name"])):
            row["share"] = row["flops"] / peak
        return row

    def training(self):
        if self.left("training") < SHORTEST:
            raise TimeoutError("no time was left")
        camvid = self.args.camvid or os.environ.get("KERAS_PSP_DATA")
        policy = "float32"
        if self.args.device == "gpu":
            policy = "mixed_bfloat16" if self.device["capability"] >= 8 else "mixed_float16"
        spec = {
            "data": "camvid" if camvid else "street scenes",
            "camvid": camvid,
            "policy": policy,
            "batch": self.settings["training_batch"],
            "out": str(self.out),
            "end": self.start + self.deadlines["training"],
            "reserve": 0.06 * self.deadlines["training"],
            "part_mib": self.args.part_mib,
        }
        found = self.results["training"] = {"data": spec["data"], "policy": policy}
        with self.process("train", self.left("training"), spec) as process:
            for job in range(2):
                found |= process.step(job)
                self.write()
        self.say(f"training: mean IoU {found['mean_iou']:.3f} after {found['epochs_done']} epochs")


# All digits of float32, which a GPU's convolutions leave out otherwise.
EXACT = {"NVIDIA_TF32_OVERRIDE": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def summary(results):
    """The results as a page of Markdown."""
    options, device = results["options"], results["device"]
    lines = [
        "# A few minutes on a GPU",
        "",
        f"{device['name']}; Keras on {results['backend']}; {results['machine']}. "
        f"`--minutes {options['minutes']:g}{' --tiny' if options['tiny'] else ''}`",
        "",
    ]
    if results["failed"]:
        lines += ["**Failed:**", ""]
        lines += [f"- {what}: {error}" for what, error in results["failed"].items()] + [""]
    if results["late"]:
        late = [f"{step} ({what})" for step, what in results["late"].items()]
        lines += [f"Not done when their time was up: {', '.join(late)}.", ""]
    if "checks" in results:
        lines += ["## Checks beside the CPU", ""]
        rows = [
            (name, _number(row.get("difference"), ".1e"), _number(row.get("allowed"), ".0e"))
            for name, row in results["checks"].items()
        ]
        lines += _table(("", "largest difference", "allowed"), rows)
        missing = [name for name in gpu_jobs.CHECKS if name not in results["checks"]]
        if missing:
            lines += [f"Not reached: {', '.join(missing)}.", ""]
    if "tests" in results:
        lines += [f"Tests on the device: {results['tests']}.", ""]
    if "speed" in results:
        lines += _speed_lines(results)
    if "training" in results:
        lines += _training_lines(results["training"])
    return "\n".join(lines)


def _speed_lines(results):
    settings, device = TINY if results["options"]["tiny"] else FULL, results["device"]
    size, network = settings["size"], settings["network"] or "in miniature"
    lines = [f"## PSPNet, {network}, {size}×{size}, {gpu_jobs.CLASSES} classes", ""]
    rows = []
    for row in results["speed"]:
        cells = [row["name"], row["half"], row["batch"], row["task"]]
        if "failed" in row:
            rows.append([*cells, row["failed"], "", "", "", ""])
            continue
        cells += [f"{row['images_s']:.1f}", f"{row['flops'] / 1e12:.3g}"]
        cells += [_number(row.get("share"), ".0%"), _number(row.get("device_peak_mib"), ".0f")]
        rows.append([*cells, f"{row['make_s'] + row['first_s']:.1f}"])
    heads = ("", "in", "batch", "", "images/s", "TFLOP/s", "of the peak", "peak MiB")
    lines += _table((*heads, "first step, s"), rows)
    lines += [
        "TFLOP/s are those of the network as papers count it, "
        f"{device['multiply_adds'] / 1e9:.1f}·10⁹ multiply-adds for an image, three times that and "
        "the auxiliary head's in training, whatever a library spares or computes besides. The "
        "first step includes that the network is made and compiled. Batches lie on the device, "
        "but where they are fed by the host. In inference the class of each pixel comes back.",
        "",
    ]
    return lines + ([results["speed_note"], ""] if "speed_note" in results else [])


def _training_lines(found):
    lines = [f"## Training on {found['data']}", ""]
    if "mean_iou" not in found:
        return [*lines, "It did not come to its end; OUT/run holds what there was.", ""]
    lines += [
        f"{found['backbone'] or 'A tiny backbone'} from random values, {found['policy']}, views of "
        f"{'×'.join(map(str, found['crop_size']))} from {'×'.join(map(str, found['image_size']))}, "
        f"batches of {found['batch']}: {found['epochs_done']} of {found['epochs']} epochs over "
        f"{found['train_images']} images, {found['epoch_s']:.1f} s each, validated on "
        f"{found['val_images']} after every {found['every']}.",
        "",
    ]
    rows = [("best epoch", _number(found["mean_iou"], ".4f"))]
    rows.append(("last epoch", _number(found["mean_iou_last"], ".4f")))
    if "float16_mean_iou" in found:
        rows.append(("best, from its float16 parts", f"{found['float16_mean_iou']:.4f}"))
        rows += [(name, f"{iou:.3f}") for name, iou in found["per_class"].items()]
    lines += _table(("", "mean IoU"), rows)
    if "parts" in found:
        parts = [f"{name} ({size / 2**20:.1f} MiB)" for name, size in found["parts"].items()]
        lines += [f"Weights: {', '.join(parts)}.", "", "![](samples.png)", ""]
    return lines


def _table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(map(str, row))} |" for row in lines), ""]


def _number(value, form):
    return "" if value is None else format(value, form)


def _backend():
    """Keras' backend: the one that is asked for, or what is installed."""
    backend = os.environ.get("KERAS_BACKEND")
    known = ("jax", "torch")
    if backend is None:
        backend = next((one for one in known if importlib.util.find_spec(one)), None)
    if backend not in known:
        raise SystemExit(
            f"This runs on JAX and on PyTorch. Received: KERAS_BACKEND={backend}. Set it to one of "
            f"{', '.join(known)}, and install that."
        )
    return backend


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    parser.add_argument("--out", default="gpu_results", help="folder for all that is found")
    parser.add_argument("--cache", help="folder for what is compiled (default: OUT/cache)")
    parser.add_argument("--camvid", help="folder of CamVid (default: $KERAS_PSP_DATA)")
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--tiny", action="store_true", help="all of it in miniature")
    parser.add_argument("--only", nargs="+", choices=list(SHARES), help="steps (default: all)")
    parser.add_argument("--batch-size", type=int, help="of the speed step (default: 16; tiny: 2)")
    parser.add_argument("--part-mib", type=float, default=15.0, help="size of a part of weights")
    parser.add_argument("--join", metavar="DIR", help="only put the parts in DIR together")
    args = parser.parse_args()
    if args.join:
        folder = Path(args.join)
        file = float16_parts.join_parts(
            folder.glob("best.weights.h5.part-*"), folder / "best.weights.h5"
        )
        print(f'{file} is whole. In Python: keras_psp.load_run("{folder}").model')
        return
    args.only = [step for step in SHARES if not args.only or step in args.only]
    args.batch_size = args.batch_size or (2 if args.tiny else 16)
    sys.exit(Program(args).run())


if __name__ == "__main__":
    main()
