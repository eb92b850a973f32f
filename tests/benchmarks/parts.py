"""Where the time goes: every part of PSPNet beside the same part in PyTorch.

    python tests/benchmarks/parts.py --json parts.json

Stem, the four stages, pyramid and head, upsampling, loss, and the scores that are kept while
training: forwards, and forwards and backwards, each on a batch of random numbers of the shape that
it sees in the network. PyTorch's parts are in its faster memory layout, contiguous or channels
last. Of the loss there are two forms: of logits at the labels' size, and what a training step does,
which takes the upsampling with it.
"""

import argparse
import statistics
import sys
from pathlib import Path

import contest
import networks
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "models"))

UPSAMPLED = "upsampling and loss in one"
PARTS = [
    *("stem", "stage 1", "stage 2", "stage 3", "stage 4", "pyramid and head"),
    *("upsampling", "loss", UPSAMPLED, "scores"),
]
# The best class has no gradient.
FORWARD, BACKWARD = PARTS, [part for part in PARTS if part != "scores"]


def shapes(spec):
    """What goes into every part: (batch, height, width, channels)."""
    batch, height, width = spec["shape"]
    wide, classes = 4 if spec["bottleneck"] else 1, spec["classes"]
    found = {"stem": (batch, height, width, 3)}
    channels = 128
    for stage, (filters, stride) in enumerate([(64, 4), (128, 4), (256, 8), (512, 8)], 1):
        found[f"stage {stage}"] = (batch, *sizes(spec, stride), channels)
        channels = wide * filters
    small = (batch, *sizes(spec, 8))
    found["pyramid and head"] = (*small, channels)
    found["upsampling"] = found[UPSAMPLED] = (*small, classes)
    found["loss"] = found["scores"] = (batch, height, width, classes)
    return found


def sizes(spec, stride):
    return [-(-side // stride) for side in spec["shape"][1:]]


def make(spec):
    """A job for each part forwards, then for each part forwards and backwards."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, spec["classes"], spec["shape"]).astype("int32")
    inputs = {
        name: rng.normal(size=shape).astype("float32") for name, shape in shapes(spec).items()
    }
    return (_keras if spec["library"] == "keras_psp" else _pytorch)(spec, inputs, labels)


def _keras(spec, inputs, labels):
    import keras_psp

    import keras
    import tensorflow as tf

    model = keras_psp.PSPNet(spec["variant"], spec["classes"], backbone_weights=None)
    layers = {layer.name: layer for layer in model.backbone.layers}
    ends = ["stem_pool", *(f"stage{i}_block{n}" for i, n in enumerate(spec["blocks"], 1))]
    maps = [layers[name].output for name in ends]
    models = map(keras.Model, [model.backbone.inputs, *maps[:-1]], maps)
    chains = dict(zip(PARTS, models, strict=False))
    loss, size = keras_psp.losses.SparseCategoricalCrossentropy(), labels.shape[1:3]
    scores = keras_psp.metrics.MeanIoU(spec["classes"])
    functions = {
        **{name: lambda x, training, f=f: f(x, training=training) for name, f in chains.items()},
        "pyramid and head": lambda x, training: model.head(
            model.pyramid_pooling(x, training=training), training=training
        ),
        "upsampling": lambda x, training: keras_psp.layers.BilinearUpsample(size)(x),
        "loss": lambda x, training: loss(labels, x),
        UPSAMPLED: lambda x, training: loss.of_upsampled(labels, x, size),
        "scores": lambda x, training: scores.update_state(labels, x),
    }
    x = {name: tf.constant(value) for name, value in inputs.items()}

    def forward(name):
        run = tf.function(lambda x: functions[name](x, training=False))
        return lambda: run(x[name])

    def backward(name):
        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(functions[name](x, training=True) ** 2)
            weights = [w.value for w in _trained(model, name, chains)]
            return tape.gradient(total, weights if name == "stem" else [x, *weights])

        # Only the time: a gradient as large as a network stays where it is.
        return lambda: run(x[name]) and None

    return [forward(name) for name in FORWARD] + [backward(name) for name in BACKWARD]


def _trained(model, name, chains):
    if name == "pyramid and head":
        return model.pyramid_pooling.trainable_variables + model.head.trainable_variables
    return chains[name].trainable_variables if name in chains else []


def _pytorch(spec, inputs, labels):
    import torch
    import torch_pspnet
    from torch.nn import functional as F

    network = torch_pspnet.PSPNet(spec["blocks"], spec["bottleneck"], spec["classes"])
    layout = torch.channels_last if spec["channels_last"] else torch.contiguous_format
    network.to(memory_format=layout)
    targets = torch.tensor(labels, dtype=torch.int64)
    options = {"size": labels.shape[1:3], "mode": "bilinear", "align_corners": True}

    def scores(x):
        # As the authors count: intersections, predictions and truths by histograms.
        best, classes = x.argmax(1), spec["classes"]
        hits = best[best == targets]
        return [torch.histc(y.float(), classes, 0, classes - 1) for y in (hits, best, targets)]

    functions = {
        "stem": network.stem,
        **{f"stage {i}": stage for i, stage in enumerate(network.stages, 1)},
        "pyramid and head": lambda x: network.head(torch_pspnet.pyramid(x, network.levels)),
        "upsampling": lambda x: F.interpolate(x, **options),
        "loss": lambda x: F.cross_entropy(x, targets, ignore_index=255),
        UPSAMPLED: lambda x: F.cross_entropy(
            F.interpolate(x, **options), targets, ignore_index=255
        ),
        "scores": scores,
    }
    x = {
        name: torch.tensor(value.transpose(0, 3, 1, 2)).contiguous(memory_format=layout)
        for name, value in inputs.items()
    }

    def forward(name):
        def run():
            network.eval()
            with torch.inference_mode():
                functions[name](x[name])

        return run

    def backward(name):
        def run():
            network.train()
            network.zero_grad()
            given = x[name].clone().requires_grad_(name != "stem")
            functions[name](given).square().sum().backward()

        return run

    return [forward(name) for name in FORWARD] + [backward(name) for name in BACKWARD]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="resnet50_deep", help="one with a deep stem")
    parser.add_argument("--size", type=int, nargs=2, default=[241, 321], metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="file for all that was measured")
    args = parser.parse_args()
    print(f"{args.variant}, {args.size[0]}×{args.size[1]}, batches of {args.batch_size}")
    print(contest.machine())

    about = networks.architecture(args.variant, args.classes)
    spec = {**about, "shape": (args.batch_size, *args.size)}
    torch = {**spec, "library": "pytorch", "imports": ["torch"]}
    contenders = [
        contest.Contender(__file__, {**torch, "channels_last": False}),
        contest.Contender(__file__, {**torch, "channels_last": True}),
        contest.Contender(
            __file__, {**spec, "library": "keras_psp", "imports": ["keras_psp", "tensorflow"]}
        ),
    ]
    lines = [["part", "", "PyTorch ms/image", "keras-psp", "of PyTorch's", "of the whole"]]
    measured = []
    for job, (name, kind) in enumerate(
        [*((p, "forward") for p in FORWARD), *((p, "and backward") for p in BACKWARD)]
    ):
        contest.turns(contenders, 1, job)  # The first is compiled.
        seconds, _ = contest.turns(contenders, args.rounds, job)
        medians = [1000 * statistics.median(times) / args.batch_size for times in seconds]
        theirs = seconds[medians.index(min(medians[:2]))]
        measured.append((name, kind, min(medians[:2]), medians[2], theirs, seconds[2]))
    for name, kind, theirs, ours, yardstick, times in measured:
        whole = sum(one[3] for one in measured if one[1] == kind and one[0] not in _TWICE[kind])
        cells = [f"{theirs:.1f}", f"{ours:.1f}", contest.ratio(times, yardstick)]
        lines.append([name, kind, *cells, f"{ours / whole:.1%}"])
    contest.table(lines)
    names = ["part", "kind", "theirs_ms", "ours_ms", "theirs_s", "ours_s"]
    rows = [dict(zip(names, row, strict=True)) for row in measured]
    contest.write_json(args.json, {"options": vars(args), "parts": rows})


# What is in the whole already: a step has the loss in one form only.
_TWICE = {"forward": ["loss", UPSAMPLED, "scores"], "and backward": ["upsampling", "loss"]}


if __name__ == "__main__" and not contest.serve(make):
    main()
