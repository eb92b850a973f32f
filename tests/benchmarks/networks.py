"""PSPNet beside the same network in PyTorch, and other networks: time and memory of a step.

    python tests/benchmarks/networks.py --json networks.json

The network in PyTorch is the one of the tests, written out from the description of the PSPNet
authors' code, eager and with contiguous or channels-last memory, whichever is faster. Every
contender runs in a process of its own, with the same weights and, which is checked, the same
logits, and takes its steps in turns with PyTorch's, so that ratios are taken within a round.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import contest
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "models"))

CLASSES = 11
PEERS = {
    "PyTorch, contiguous": {"library": "pytorch"},
    "PyTorch, channels last": {"library": "pytorch", "channels_last": True},
}
OURS = {
    "keras-psp": {"library": "keras_psp"},
    "keras-psp, fused": {"library": "keras_psp", "fused": True},
    "keras-psp on JAX": {"library": "keras_psp", "backend": "jax"},
    "keras-psp on PyTorch": {"library": "keras_psp", "backend": "torch"},
    "PyTorch, torch.compile": {"library": "pytorch", "compiled": True},
    "keras-psp, mixed_bfloat16 †": {"library": "keras_psp", "half": True},
    "PyTorch, autocast to bfloat16 †": {"library": "pytorch", "half": True},
    "PSPNet as in segmentation_models.pytorch *": {"library": "smp"},
    "KerasHub DeepLabV3+ *": {"library": "keras_hub"},
}


def make(spec):
    """The one job of a contender: a step on a batch."""
    rng = np.random.default_rng(0)
    batch, *size, channels = spec["shape"]
    if spec["library"] == "keras_hub":  # which takes no other sizes
        size = [round(side / 32) * 32 for side in size]
    images = rng.uniform(0, 255, (batch, *size, channels)).astype("float32")
    labels = rng.integers(0, spec["classes"], images.shape[:3]).astype("int32")
    labels[:, :20] = 255
    if spec["library"] in ("pytorch", "smp"):
        run = _pytorch(spec, images, labels)
    else:
        run = _keras(spec, images, labels)
    outputs = run()
    if "outputs" in spec:
        np.save(spec["outputs"], outputs)
    return [run]


def _keras(spec, images, labels):
    import keras_psp

    import keras

    if spec["library"] == "keras_hub":
        import keras_hub

        encoder = keras_hub.models.ResNetBackbone(
            [64], [7], [64, 128, 256, 512], [3, 4, 6, 3], [1, 2, 2, 2], "bottleneck_block"
        )
        backbone = keras_hub.models.DeepLabV3Backbone(encoder, "P5", 8, [6, 12, 18], "P2")
        model = keras_hub.models.DeepLabV3ImageSegmenter(backbone, spec["classes"])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        model.compile(keras.optimizers.SGD(0.01, 0.9), loss, metrics=[])
    else:
        if spec.get("half"):
            keras.config.set_dtype_policy("mixed_bfloat16")
        model = keras_psp.PSPNet(
            spec["variant"],
            spec["classes"],
            backbone_weights=None,
            output_stride=spec.get("output_stride", 8),
        )
        if "weights" in spec:
            model.load_weights(spec["weights"])
        model.compile()
        if spec.get("fused"):
            model = keras_psp.fuse(model)
    if spec["task"] == "inference":
        return lambda: model.predict_on_batch(images)
    return lambda: model.train_on_batch(images, labels)


def _pytorch(spec, images, labels):
    import torch

    architecture = spec["blocks"], spec["bottleneck"], spec["classes"]
    network = _theirs(*architecture, smp=spec["library"] == "smp")
    if "weights" in spec and spec["library"] == "pytorch":
        network.load_state_dict(torch.load(Path(spec["weights"]).with_suffix(".pt")))
    layout = torch.channels_last if spec.get("channels_last") else torch.contiguous_format
    network.to(memory_format=layout)
    x = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous(memory_format=layout)
    call = torch.compile(network) if spec.get("compiled") else network
    half = torch.autocast("cpu", torch.bfloat16, enabled=bool(spec.get("half")))
    if spec["task"] == "inference":
        network.eval()

        def run():
            with torch.inference_mode(), half:
                # The auxiliary head exists in training only.
                return call(x, auxiliary=False)[0].float().numpy().transpose(0, 2, 3, 1)

        return run

    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    targets = torch.tensor(labels, dtype=torch.int64)

    def run():
        optimizer.zero_grad()
        losses = [torch.nn.functional.cross_entropy(y, targets, ignore_index=255) for y in call(x)]
        loss = losses[0] + 0.4 * losses[1] if len(losses) > 1 else losses[0]
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def _theirs(blocks, bottleneck, classes, smp=False):
    import torch_pspnet
    from torch import nn

    network = torch_pspnet.PSPNet(blocks, bottleneck, classes)
    if not smp:
        return network

    class Undilated(nn.Module):
        """What that library calls PSPNet: two stages, pyramid, 1×1 and 3×3 convolution."""

        def __init__(self):
            super().__init__()
            self.stem, self.stages = network.stem, network.stages[:2]
            channels = 512 if bottleneck else 128
            self.levels = torch_pspnet.PSPNet.make_levels(channels, (1, 2, 3, 6))
            self.bottleneck = nn.Sequential(
                *(nn.Conv2d(2 * channels, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU()),
                *(nn.Dropout2d(0.2), nn.Conv2d(512, classes, 3, padding=1)),
            )

        def forward(self, x, auxiliary=True):
            size, x = x.shape[2:], self.stem(x / 255)
            for stage in self.stages:
                x = stage(x)
            x = self.bottleneck(torch_pspnet.pyramid(x, self.levels))
            options = {"mode": "bilinear", "align_corners": True}
            return [nn.functional.interpolate(x, size=size, **options)]

    return Undilated()


def architecture(variant, classes=CLASSES):
    """What a contender must know to make the network, without Keras where it is PyTorch's."""
    from keras_psp.models.resnet import RESNETS

    row = RESNETS[variant]
    return {
        "variant": variant,
        "classes": classes,
        "blocks": row.blocks,
        "bottleneck": row.block == "bottleneck",
    }


def write_weights(weights, about):
    """Random weights, once for Keras and once for PyTorch."""
    import torch
    import torch_pspnet

    import keras_psp

    model = keras_psp.PSPNet(about["variant"], about["classes"], backbone_weights=None)
    network = _theirs(about["blocks"], about["bottleneck"], about["classes"])
    torch_pspnet.copy_weights(model, network)
    model.save_weights(weights)
    torch.save(network.state_dict(), Path(weights).with_suffix(".pt"))


def compare(task, args, folder, about):
    """Measures every contender beside PyTorch's faster form, and prints a table."""
    shape = (args.batch_size, *args.size, 3)
    fixed = {
        "task": task,
        **about,
        "shape": shape,
    }
    if task == "inference":
        # Only here, as what reading a file takes would be counted as the step's memory.
        fixed["weights"] = f"{folder}/network.weights.h5"
        fixed["outputs"] = f"{folder}/outputs.npy"

    def enter(name):
        options = (PEERS | OURS)[name]
        backend = options.get("backend", "tensorflow")
        modules = {"keras_psp": ["keras_psp", backend], "keras_hub": ["keras_hub", backend]}
        spec = fixed | options | {"imports": modules.get(options["library"], ["torch"])}
        one = contest.Contender(__file__, spec, backend)
        if "outputs" in fixed and options["library"] in ("keras_psp", "pytorch"):
            found.append(np.load(fixed["outputs"]))
            difference = np.abs(found[-1] - found[0]).max() / np.abs(found[0]).max()
            print(f"  logits of {name} differ by {difference:.1e}", flush=True)
            assert difference < 1e-4 or options.get("half"), name
        return one

    found = []
    rows, results = {}, {}
    with enter("PyTorch, contiguous") as one, enter("PyTorch, channels last") as other:
        peers = dict(zip(PEERS, (one, other), strict=True))
        seconds, memory = contest.turns([one, other], args.rounds)
        medians = [statistics.median(times) for times in seconds]
        best = list(PEERS)[medians.index(min(medians))]
        for name, times, peak in zip(PEERS, seconds, memory, strict=True):
            rows[name] = times, seconds[list(PEERS).index(best)], peak, peers[name].about
        yardstick = peers.pop(best)
        for rest in peers.values():
            rest.__exit__()
        names = [n for n in OURS if not (args.only and n not in args.only)]
        for name in names:
            if task == "training" and OURS[name].get("fused"):
                continue
            with enter(name) as contender:
                (theirs, ours), (_, peak) = contest.turns([yardstick, contender], args.rounds)
                rows[name] = ours, theirs, peak, contender.about
    titles = [task, "s/image", f"of {best}", "peak MiB", "imports MiB", "import s", "first step s"]
    lines = [titles]
    for name, (times, theirs, peak, about) in rows.items():
        seconds = statistics.median(times) / args.batch_size
        cells = [f"{seconds:.3f}", contest.ratio(times, theirs), f"{peak:.0f}"]
        cells += [f"{about['imported_mib']:.0f}", f"{about['import_s']:.1f}"]
        lines.append([name, *cells, f"{about['make_s']:.1f}"])
        results[name] = {"seconds": times, "yardstick": theirs, "peak_mib": peak, **about}
    contest.table(lines)
    return {"best": best, "contenders": results}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="resnet50_deep")
    parser.add_argument("--size", type=int, nargs=2, default=[241, 321], metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(OURS), help="beside PyTorch's")
    parser.add_argument("--json", help="file for all that was measured")
    args = parser.parse_args()
    print(f"{args.variant}, {args.size[0]}×{args.size[1]}, batches of {args.batch_size}")
    print(contest.machine())
    with tempfile.TemporaryDirectory() as folder:
        about = architecture(args.variant)
        write_weights(f"{folder}/network.weights.h5", about)
        results = {task: compare(task, args, folder, about) for task in ("inference", "training")}
    print("* another network, for context; KerasHub's sees sides rounded to multiples of 32.")
    print("† half the digits: its logits differ.")
    print("The first step includes that the network is made and compiled.")
    contest.write_json(args.json, {"options": vars(args), **results})


if __name__ == "__main__" and not contest.serve(make):
    main()
