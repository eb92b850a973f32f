"""What more pixels, images and classes cost: time and memory of a step, beside PyTorch's.

    python tests/benchmarks/growth.py --json growth.json

The cost per pixel should stay the same from 180×240 to 1080×1440, the cost per image should fall
with the batch, and more classes should cost hardly anything: at the image's size the logits of 150
classes would be the largest tensor of all.
"""

import argparse
import contextlib
import statistics

import contest
import networks

# What grows, and (batch, height, width, classes) of each of its steps.
SERIES = {
    "image": [(2, 180, 240, 11), (2, 360, 480, 11), (2, 720, 960, 11), (2, 1080, 1440, 11)],
    "batch": [(n, 180, 240, 11) for n in (2, 4, 8, 16)],
    "classes": [(4, 180, 240, n) for n in (11, 19, 64, 150)],
}
CONTENDERS = {
    "keras-psp": {"library": "keras_psp", "imports": ["keras_psp", "tensorflow"]},
    "PyTorch": {"library": "pytorch", "imports": ["torch"]},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="resnet18_deep")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(SERIES), default=list(SERIES))
    parser.add_argument("--json", help="file for all that was measured")
    args = parser.parse_args()
    print(args.variant)
    print(contest.machine())
    titles = ["growth", "task", "batch", "size", "classes", "ms/image", "µs/pixel", "of PyTorch's"]
    lines = [[*titles, "peak MiB", "PyTorch's"]]
    results = []
    for series in args.only:
        for task in ("inference", "training"):
            for batch, height, width, classes in SERIES[series]:
                about = networks.architecture(args.variant, classes)
                spec = {**about, "task": task, "shape": (batch, height, width, 3)}
                with contextlib.ExitStack() as stack:
                    contenders = [
                        stack.enter_context(contest.Contender(networks.__file__, spec | options))
                        for options in CONTENDERS.values()
                    ]
                    seconds, memory = contest.turns(contenders, args.rounds)
                ours = statistics.median(seconds[0]) / batch
                cells = [f"{1e3 * ours:.1f}", f"{1e6 * ours / (height * width):.2f}"]
                cells += [contest.ratio(*seconds), *(f"{peak:.0f}" for peak in memory)]
                row = [series, task, str(batch), f"{height}×{width}", str(classes), *cells]
                lines.append(row)
                results.append({**spec, "series": series, "seconds": seconds, "peak_mib": memory})
                print("  ".join(row), flush=True)  # Each takes a while.
    contest.table(lines)
    contest.write_json(args.json, {"options": vars(args), "steps": results})


if __name__ == "__main__":
    main()
