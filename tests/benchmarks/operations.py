"""What a step consists of: operations by time, and their share of the processor's peak.

    python tests/benchmarks/operations.py --json operations.json

Steps of PSPNet on TensorFlow, as in networks.py. oneDNN, which computes all that is large, says
what it computes and how long that takes; the peak is the fastest multiplication of two large
matrices. One operation runs at a time, on all cores, so that times add up. What is left of a step
is done by TensorFlow itself: ReLU, sums, loss, updates of weights.
"""

import argparse
import collections
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time

import contest
import networks

MARK = "a step ends"


def serve(spec):
    """Takes steps, between marks, in a process of its own."""
    import tensorflow as tf

    (step,) = networks.make(spec)
    a = tf.random.normal((4096, 4096))
    multiply = tf.function(lambda: tf.matmul(a, a))
    seconds: list[list[float]] = []
    for run, times in (multiply, 5), (step, 1 + spec["steps"]):
        seconds.append([])
        for _ in range(times):
            print(MARK, flush=True)
            start = time.perf_counter()
            run()
            seconds[-1].append(time.perf_counter() - start)
    print(MARK, flush=True)
    peak = 4096**3 / min(seconds[0]) / 1e9
    print(json.dumps({"peak": peak, "seconds": seconds[1][1:]}), flush=True)


def profile(spec):
    """Of each kind of operation, per step: number, seconds and multiplications · 10⁻⁹."""
    environment = os.environ | {
        **{"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1"},
        **{"TF_NUM_INTEROP_THREADS": "1", "ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    }
    command = [sys.executable, __file__, "--serve", json.dumps(spec)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    *_, answer = done.stdout.splitlines()
    answer = json.loads(answer)
    steps = done.stdout.split(MARK)[-1 - spec["steps"] : -1]
    kinds = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
    for line in "".join(steps).splitlines():
        if line.startswith("onednn_verbose") and ",exec," in line:
            fields = line.split(",")
            operation, implementation, direction = fields[5:8]
            name, products = _kind(operation, direction, fields[-2])
            row = kinds[name, implementation]
            for i, amount in enumerate((1, float(fields[-1]) / 1000, products / 1e9)):
                row[i] += amount / spec["steps"]
    return answer["peak"], statistics.median(answer["seconds"]), dict(kinds)


def _kind(operation, direction, problem):
    """The name of an operation in our table, and its multiplications."""
    if operation == "convolution":
        of = {name: int(number) for name, number in re.findall(r"([a-z]+)(\d+)", problem)}
        products = math.prod(of[name] for name in ("mb", "ic", "oc", "oh", "ow", "kh", "kw"))
        name = {"backward_data": "gradient of inputs", "backward_weights": "gradient of kernel"}
        side = f"{of['kh']}×{of['kw']}"
        return f"convolution {side}, {name.get(direction, 'forward')}", products
    if operation in ("matmul", "gemm_api"):
        one, other = ([int(n) for n in shape.split("x")] for shape in problem.split(":"))
        batch = math.prod(map(max, one[:-2], other[:-2]))
        products = batch * one[-2] * one[-1] * other[-1]
        return "matrix product", products
    backward = ", backward" if direction.startswith("backward") else ""
    return f"{operation.replace('_', ' ')}{backward}", 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="resnet50_deep")
    parser.add_argument("--size", type=int, nargs=2, default=[241, 321], metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", help="file for all that was measured")
    args = parser.parse_args()
    print(f"{args.variant}, {args.size[0]}×{args.size[1]}, batches of {args.batch_size}")
    print(contest.machine())
    about = networks.architecture(args.variant)
    spec = {**about, "library": "keras_psp", "shape": (args.batch_size, *args.size, 3)}
    results = {}
    for task in ("inference", "training"):
        peak, seconds, kinds = profile(spec | {"task": task, "steps": args.steps})
        print(
            f"{task}: {seconds / args.batch_size:.3f} s per image; peak {peak:.0f} · 10⁹ a second"
        )
        rest = seconds - sum(row[1] for row in kinds.values())
        rows = sorted(kinds.items(), key=lambda item: -item[1][1])
        rows = [*rows, (("TensorFlow's own", ""), [math.nan, rest, 0.0])]
        lines = [["operation", "by", "number", "ms/image", "of the step", "10⁹/s", "of peak"]]
        for (name, by), (number, s, products) in rows:
            cells = ["" if math.isnan(number) else f"{number:.0f}"]
            cells += [f"{1000 * s / args.batch_size:.1f}", f"{s / seconds:.1%}"]
            rate = products / s
            cells += [f"{rate:.0f}", f"{rate / peak:.0%}"] if products else ["", ""]
            lines.append([name, by, *cells])
        contest.table(lines)
        results[task] = {"peak": peak, "seconds": seconds, "operations": lines}
    contest.write_json(args.json, {"options": vars(args), **results})


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(json.loads(sys.argv[-1]))
    else:
        main()
