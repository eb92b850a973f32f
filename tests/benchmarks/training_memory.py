"""Is the memory of a training step what `keras_psp.analysis.training_memory` says?

    python tests/benchmarks/training_memory.py

Takes three steps of each network in a process of its own, and prints by how much the process grew
at most beyond its imports, beside the estimate. Linux, TensorFlow, float32.
"""

import argparse

import contest
import numpy as np

CLASSES = 11
# Backbone, options, (batch, height, width).
NETWORKS = [
    ("resnet18", {}, (4, 416, 544)),
    ("resnet34", {"output_stride": 16}, (8, 240, 320)),
    ("resnet50", {}, (4, 473, 473)),
    ("resnet50", {"gradient_checkpointing": True}, (4, 473, 473)),
    ("resnet18", {}, (8, 240, 320)),
    ("resnet50", {"output_stride": 16}, (8, 240, 320)),
]


def make(spec):
    """The one job of a process: a training step."""
    import keras_psp

    shape = tuple(spec["shape"])
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (*shape, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, shape).astype("int32")
    model = keras_psp.PSPNet(spec["backbone"], CLASSES, backbone_weights=None, **spec["options"])
    model.compile()
    return [lambda: model.train_on_batch(images, labels)]


def estimate(backbone, options, shape):
    import keras_psp

    import keras

    with keras.StatelessScope(initialize_variables=False):
        model = keras_psp.PSPNet(backbone, CLASSES, backbone_weights=None, **options)
    return keras_psp.analysis.training_memory(model, tuple(shape[1:]), shape[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, nargs="+", default=list(range(len(NETWORKS))))
    args = parser.parse_args()
    print(contest.machine())
    print("network, batch and size: weights, activations, least, on a CPU, measured, MB")
    for number in args.only:
        backbone, options, shape = NETWORKS[number]
        spec = {"backbone": backbone, "options": options, "shape": shape}
        spec["imports"] = ["keras_psp", "tensorflow"]
        with contest.Contender(__file__, spec) as process:
            peak = max(process.step()["peak_mib"] for _ in range(3)) * 2**20
        memory = estimate(backbone, options, shape)
        parts = memory.weights, memory.activations, memory.total, memory.on_cpu, peak
        cells = [f"{part / 1e6:.0f}" for part in parts]
        print(backbone, options, shape, *cells, f"{memory.on_cpu / peak - 1:+.1%}", flush=True)


if __name__ == "__main__" and not contest.serve(make):
    main()
