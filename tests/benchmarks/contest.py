"""Contenders, each in a process of its own, that do a job when asked to.

What shares a process shares its memory, its threads and its compiled code; here each has its own,
says how long it took to be imported and how much memory it had at most, and takes its turn: only
one works at a time, so that what else the machine does strikes all of them.
"""

import contextlib
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")  # Linux only; elsewhere memory is not measured.


class Contender:
    """A process that serves the jobs of `script`.

    Args:
        script: The file whose `make(spec)` gives a list of functions, and which calls `serve`.
        spec: Anything that JSON can hold; `spec["imports"]` names the modules to begin with.
        backend: Keras' backend.
        environment: Further variables of the process' environment.
        limit: Seconds that it may live. Then it is killed, whatever it does, and whoever waits for
            an answer gets a TimeoutError.
    """

    def __init__(
        self,
        script: str,
        spec: dict[str, Any],
        backend: str = "tensorflow",
        environment: Mapping[str, str] | None = None,
        limit: float = threading.TIMEOUT_MAX,
    ):
        environment = os.environ | {
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **(environment or {}),
        }
        # Not a pipe, which stops the process when nobody reads it.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in the end)
        self.process = subprocess.Popen(
            [sys.executable, script, "--serve", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            text=True,
        )
        self.timer = threading.Timer(limit, self.process.kill)
        self.timer.daemon = True
        self.timer.start()
        try:
            self.about = self._answer()
        except BaseException:
            self.__exit__()
            raise

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            if self.timer.finished.is_set():
                raise TimeoutError(f"killed after {self.timer.interval:.0f} s")
            self.errors.seek(0)
            raise RuntimeError(self.errors.read()[-2000:])  # Errors come last.
        return json.loads(line)

    def step(self, job: int = 0) -> dict[str, Any]:
        """Does a job: its seconds, and the most memory while it ran, in MiB beyond the imports; and
        what the job returned, if that is a dictionary."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # The answer will say why.
            self.process.stdin.write(f"{job}\n")
            self.process.stdin.flush()
        return self._answer()

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *error: Any) -> None:
        self.timer.cancel()
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def serve(make: Callable[[dict[str, Any]], list[Callable[[], Any]]]) -> bool:
    """Does the jobs of a contender, if this process is one."""
    if "--serve" not in sys.argv:
        return False
    # Libraries print what they like; the answers keep the pipe for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    spec = json.loads(sys.argv[-1])
    start = time.perf_counter()
    for module in spec["imports"]:
        importlib.import_module(module)
    about = {"import_s": time.perf_counter() - start, "imported_mib": _memory("VmRSS")}
    start = time.perf_counter()
    jobs = make(spec)
    print(json.dumps(about | {"make_s": time.perf_counter() - start}), file=answers, flush=True)
    for line in sys.stdin:
        if STATUS.exists():
            Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
        start = time.perf_counter()
        result = jobs[int(line)]()
        answer = {"seconds": time.perf_counter() - start}
        answer["peak_mib"] = _memory("VmHWM") - about["imported_mib"]
        # A job may have a clock of its own, and more to tell.
        answer |= result if isinstance(result, dict) else {}
        print(json.dumps(answer), file=answers, flush=True)
    return True


def _memory(name: str) -> float:
    if not STATUS.exists():
        return float("nan")
    return int(STATUS.read_text().partition(f"{name}:")[2].split()[0]) / 1024


def turns(
    contenders: Sequence[Contender], rounds: int, job: int = 0
) -> tuple[list[list[float]], list[float]]:
    """Lets them do a job in turns.

    Returns:
        Each one's seconds, round by round, and each one's peak of memory in MiB.
    """
    answers = [[one.step(job) for one in contenders] for _ in range(rounds)]
    columns = list(zip(*answers, strict=True))
    seconds = [[answer["seconds"] for answer in column] for column in columns]
    return seconds, [max(answer["peak_mib"] for answer in column) for column in columns]


def ratio(seconds: Sequence[float], others: Sequence[float]) -> str:
    """The median of the ratios within a round, and from where to where they go."""
    ratios = [a / b for a, b in zip(seconds, others, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"


def machine() -> str:
    """The machine, the day and the versions of what is installed."""
    found = []
    for name in ("keras", "tensorflow", "jax", "torch"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    day = time.strftime("%Y-%m-%d")
    return f"{platform.machine()}, {os.cpu_count()} cores, {day}; {', '.join(found)}"


def table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in columns, the first of names."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            f"{cell:{'<' if i == 0 else '>'}{widths[i]}}" for i, cell in enumerate(row)
        )
        print(first, *others, sep="  ")


def write_json(file: str | None, results: dict[str, Any]) -> None:
    """Writes all that was measured, if there is a file for it: whole or not at all."""
    if file:
        partial = Path(file).with_suffix(".partial")
        partial.write_text(json.dumps({"machine": machine(), **results}, indent=1))
        os.replace(partial, file)
