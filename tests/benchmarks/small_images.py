"""What the same pixels cost in ever smaller images: time of a training step on each backend.

    python tests/benchmarks/small_images.py --json small_images.json

PSPNet-ResNet-18 with output stride 16, as `keras-psp train` builds it, on 49,152 pixels a step. The
cost should follow the pixels: a row is of equal numbers, the first of which is 1.
"""

import argparse
import contextlib
import statistics

import contest
import networks

BATCHES = [(4, 96, 128), (16, 48, 64), (64, 24, 32), (256, 12, 16)]
# Backend, and what stands in the environment.
CONTENDERS = {
    "TensorFlow with oneDNN": ("tensorflow", {"TF_ENABLE_ONEDNN_OPTS": "1"}),
    "TensorFlow without": ("tensorflow", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    "JAX": ("jax", {}),
    "PyTorch": ("torch", {}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="resnet18")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--json", help="file for all that was measured")
    args = parser.parse_args()
    print(contest.machine())
    about = {"variant": args.variant, "output_stride": 16, "classes": 11, "task": "training"}
    about |= {"library": "keras_psp", "imports": ["keras_psp"]}
    lines = [["s per training step", *(f"{n} × {h}×{w}" for n, h, w in BATCHES)]]
    results = []
    for name in args.only:
        backend, environment = CONTENDERS[name]
        with contextlib.ExitStack() as stack:
            contenders = [
                stack.enter_context(
                    contest.Contender(
                        networks.__file__, {**about, "shape": (*batch, 3)}, backend, environment
                    )
                )
                for batch in BATCHES
            ]
            seconds, memory = contest.turns(contenders, args.rounds)
        lines.append([name, *(f"{statistics.median(each):.2f}" for each in seconds)])
        lines.append(["  of the first", *(contest.ratio(each, seconds[0]) for each in seconds)])
        results.append({"contender": name, "seconds": seconds, "peak_mib": memory})
        print("  ".join(lines[-2]), flush=True)  # Each takes a while.
    contest.table(lines)
    contest.write_json(args.json, {"options": vars(args), "batches": BATCHES, "steps": results})


if __name__ == "__main__":
    main()
