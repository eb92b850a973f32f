"""PSPNet beside the same network in PyTorch: seconds for each image, ratios, and peak memory.

    python tests/benchmarks/networks.py --json networks.json

The network in PyTorch is the one of the tests, written out from the description of the PSPNet
authors' code, with the same weights and, which is checked, the same logits. Both run in the same
process, one step of each in turns, so that what else the machine does strikes all of them; ratios
are taken within a round. Peak memory is that of a process of its own for each.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

import keras
import numpy as np
import torch
import torch_pspnet

import keras_psp
from keras_psp.models.resnet import RESNETS

THEIRS = ("PyTorch, contiguous", "PyTorch, channels last")


def networks(variant):
    """Ours with random weights, and PyTorch's with the same."""
    model = keras_psp.PSPNet(variant, num_classes=11, backbone_weights=None)
    row = RESNETS[variant]
    network = torch_pspnet.PSPNet(row.blocks, row.block == "bottleneck", 11)
    torch_pspnet.copy_weights(model, network)
    return model, network


def inference(variant, images, only=None):
    """Name → function that gives the logits of the batch, as a NumPy array, channels last."""
    model, network = networks(variant)
    network.eval()
    found = {}

    def theirs(layout):
        x = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous(memory_format=layout)

        def run():
            network.to(memory_format=layout)
            with torch.inference_mode():
                # The auxiliary head exists in training only.
                return network(x, auxiliary=False)[0].numpy().transpose(0, 2, 3, 1)

        return run

    if only in (None, *THEIRS):
        layouts = (torch.contiguous_format, torch.channels_last)
        found |= {n: theirs(layout) for n, layout in zip(THEIRS, layouts, strict=True)}
    found["keras-psp"] = lambda: model.predict_on_batch(images)
    if only in (None, "keras-psp, inference form"):
        fast = keras_psp.inference_form(model)
        found["keras-psp, inference form"] = lambda: fast.predict_on_batch(images)
    return found


def training(variant, images, only=None):
    """Name → function that takes a training step on the batch and gives the loss."""
    model, network = networks(variant)
    labels = np.random.default_rng(1).integers(0, 11, images.shape[:3]).astype("int32")
    labels[:, :20] = 255
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    targets = torch.tensor(labels, dtype=torch.int64)

    def theirs(layout):
        x = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous(memory_format=layout)

        def run():
            network.to(memory_format=layout).train()
            optimizer.zero_grad()
            logits, auxiliary = network(x)
            losses = [
                torch.nn.functional.cross_entropy(y, targets, ignore_index=255)
                for y in (logits, auxiliary)
            ]
            loss = losses[0] + 0.4 * losses[1]
            loss.backward()
            optimizer.step()
            return float(loss)

        return run

    layouts = (torch.contiguous_format, torch.channels_last)
    found = {n: theirs(layout) for n, layout in zip(THEIRS, layouts, strict=True)}
    if only in (None, "keras-psp"):
        model.compile()
        found["keras-psp"] = lambda: float(model.train_on_batch(images, labels)[0])
    return found


TASKS = {"inference": inference, "training": training}


def peak():
    """MiB, the most that this process has had since it began (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def peak_memory(arguments, task, name):
    """MiB that a contender adds, at its peak, to a process that has imported everything."""
    command = [sys.executable, __file__, *arguments, "--alone", task, name]
    return float(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="resnet50_deep")
    parser.add_argument("--size", type=int, nargs=2, default=[241, 321], metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="file for all that was measured")
    parser.add_argument("--alone", nargs=2, metavar=("TASK", "NAME"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    shape = (args.batch_size, *args.size, 3)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")

    if args.alone:
        task, name = args.alone
        before = peak()
        run = TASKS[task](args.variant, images, name)[name]
        for _ in range(3):
            run()
        print(peak() - before)
        return

    machine = f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    versions = (
        f"Keras {keras.__version__} on {keras.backend.backend()}, PyTorch {torch.__version__}"
    )
    print(f"{args.variant}, batches of {shape}; {machine}; {versions}")
    arguments = ["--variant", args.variant, "--batch-size", str(args.batch_size)]
    arguments += ["--size", *map(str, args.size)]
    results = {"machine": machine, "versions": versions, "shape": shape, "variant": args.variant}
    for task, make in TASKS.items():
        contenders = make(args.variant, images)
        first = {name: run() for name, run in contenders.items()}
        if task == "inference":
            expected = first[THEIRS[0]]
            for name, logits in first.items():
                difference = np.abs(logits - expected).max() / np.abs(expected).max()
                print(f"  logits of {name} differ by {difference:.1e}")
                assert difference < 1e-4, name
        times = {name: [] for name in contenders}
        for _ in range(args.rounds):
            for name, run in contenders.items():
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) / args.batch_size)
        memory = {name: peak_memory(arguments, task, name) for name in contenders}
        best = min(THEIRS, key=lambda name: statistics.median(times[name]))
        print(f"{task:30}  s per image  of {best} (lowest … highest)  peak MiB")
        for name, seconds in times.items():
            ratios = [a / b for a, b in zip(seconds, times[best], strict=True)]
            spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
            middle = statistics.median(ratios)
            print(
                f"  {name:28}  {statistics.median(seconds):11.3f}  {middle:.2f} ({spread})"
                f"  {memory[name]:20.0f}"
            )
        results[task] = {"seconds_per_image": times, "peak_mib": memory, "best": best}
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
