"""The README's first command, taken apart: where do its seconds go?

    python tests/benchmarks/first_command.py --json first_command.json
    python tests/benchmarks/first_command.py --epochs 2 --scenes 40
    python tests/benchmarks/first_command.py --data camvid --data-dir CamVid

It is the command itself, `keras-psp train`, in a process of its own and with a run folder that is
thrown away; every option but --json is one of its own. Some functions of the package are timed from
outside, each without those that are timed inside it. What a function costs once, as tracing a step
does, shows in the column of its first call. Linux or macOS.
"""

import argparse
import contextlib
import functools
import importlib
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import contest

IMPORTS = ["keras_psp.cli", "tensorflow"]
# Module, function, and the part of the command that it is.
PARTS = [
    ("keras_psp.cli", "load_data", "scenes or frames"),
    ("keras_psp.cli", "class_weights", "class weights"),
    ("keras_psp.models.segmentation_model", "SegmentationModel.__init__", "building the network"),
    ("keras_psp.models.segmentation_model", "SegmentationModel.fit", "fit, around what follows"),
    ("keras_psp.models.segmentation_model", "SegmentationModel.evaluate", "validation"),
    ("keras_psp.callbacks.run_folder", "RunFolder._save_checkpoint", "writing weights"),
    ("keras_psp.callbacks.run_folder", "RunFolder._save_best", "writing weights"),
    ("keras_psp.callbacks.run_folder", "RunFolder._draw", "pictures of an epoch"),
    ("keras_psp.cli", "load_run", "reading the run"),
    ("keras_psp.cli", "_evaluate", "scores of the best weights"),
    ("keras_psp.evaluation.segmentation", "Evaluation.write", "report"),
]
MEASURES = ["seconds", "user", "system", "faults"]


class Meter:
    """Charges time, processor time and page faults to the part that is under way."""

    def __init__(self):
        self.calls = {}  # Part → what each call of it took.
        self._open = []
        self._last = self._now()
        self.begin("the rest")

    @staticmethod
    def _now():
        used = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), used.ru_utime, used.ru_stime, used.ru_minflt

    def _charge(self):
        now = self._now()
        for i, (before, after) in enumerate(zip(self._last, now, strict=True)):
            if self._open:
                self._open[-1][i] += after - before
        self._last = now

    def begin(self, part):
        self._charge()
        self._open.append([0.0] * len(MEASURES))
        self.calls.setdefault(part, []).append(self._open[-1])

    def end(self):
        self._charge()
        self._open.pop()

    @contextlib.contextmanager
    def part(self, name):
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def watch(self, module, path, name):
        """Times a function wherever it is called."""
        *owner, attribute = path.split(".")
        place = functools.reduce(getattr, owner, importlib.import_module(module))
        function = getattr(place, attribute)

        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        setattr(place, attribute, functools.wraps(function)(timed))

    def rows(self):
        """Part → the sum of each measure, the number of calls, and what the first one took."""
        return {
            name: {
                **dict(zip(MEASURES, map(sum, zip(*calls, strict=True)), strict=True)),
                "calls": len(calls),
                "first_call": calls[0][0],
            }
            for name, calls in self.calls.items()
        }


def watch_steps(meter):
    """Times the steps of every `fit`."""
    from keras_psp.models.segmentation_model import SegmentationModel

    import keras

    class Steps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            meter.begin("training steps")

        def on_train_batch_end(self, batch, logs=None):
            meter.end()

    fit = SegmentationModel.fit

    @functools.wraps(fit)
    def watched(*args, callbacks=(), **kwargs):
        return fit(*args, callbacks=[*callbacks, Steps()], **kwargs)

    SegmentationModel.fit = watched


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Other options are those of keras-psp train."
    )
    parser.add_argument("--json", help="file for all that was measured")
    args, options = parser.parse_known_args()

    meter = Meter()
    with meter.part("imports"):
        for module in IMPORTS:
            importlib.import_module(module)
    watch_steps(meter)
    for row in PARTS:
        meter.watch(*row)
    from keras_psp import cli

    with tempfile.TemporaryDirectory() as folder:
        code = cli.main(["train", "--run", folder, *options])
        if code:
            raise SystemExit(code)
        scores = json.loads(Path(folder, "evaluation-val", "scores.json").read_text())
    meter.end()

    rows = meter.rows()
    total = {name: sum(row[name] for row in rows.values()) for name in MEASURES}
    step = statistics.median(call[0] for call in meter.calls["training steps"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # In KiB on Linux.
    print(f"\n{contest.machine()}\nkeras-psp train {' '.join(options)}".rstrip())
    titles = ["part", "calls", "s", "share", "first call, s", "user, s", "system, s"]
    table = [[*titles, "page faults"]]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["seconds"]):
        share = row["seconds"] / total["seconds"]
        cells = [str(row["calls"]), f"{row['seconds']:.1f}", f"{share:.1%}"]
        cells += [f"{row['first_call']:.2f}", f"{row['user']:.1f}", f"{row['system']:.1f}"]
        table.append([name, *cells, f"{row['faults']:,.0f}"])
    cells = [f"{total['seconds']:.1f}", "", "", f"{total['user']:.1f}", f"{total['system']:.1f}"]
    table.append(["all", "", *cells, f"{total['faults']:,.0f}"])
    contest.table(table)
    print(f"{1e3 * step:.0f} ms a step (median), {peak:.0f} MiB at most")
    print(f"Mean IoU on the validation split: {scores['mean_iou']:.3f}")
    measured = {"options": options, "parts": rows, "all": total, "peak_mib": peak}
    measured |= {"median_step": step, "mean_iou": scores["mean_iou"]}
    contest.write_json(args.json, measured)


if __name__ == "__main__":
    main()
