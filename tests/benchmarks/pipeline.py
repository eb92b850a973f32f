"""Does the network ever wait for its data, and would a PyTorch DataLoader bring it sooner?

    python tests/benchmarks/pipeline.py path/of/CamVid --json pipeline.json

The first table has, for several settings, what the pipeline makes (the first epoch and the second),
what the network takes from a batch that lies ready, and what it takes from the pipeline. Where all
work is done by the same cores, the best that both can reach together is
1 / (1 / pipeline + 1 / network): the last column says how much of that is reached. On a GPU, it
should be near the network's own rate.

The second table has the PSPNet authors' augmentation in our pipeline and in a DataLoader, there
with OpenCV as in their code (written out from its description), beside what training
PSPNet-ResNet-50 takes on the same cores. The DataLoader reads its files in every epoch, as the
authors do, or has decoded frames in memory, as ours; with 0, 1 and 2 workers. One pass of each in
turns, so that what else the machine does strikes all of them; ratios are taken within a round.
"""

import argparse
import json
import os
import platform
import random
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras_psp

import cv2
import keras
import torch

SETTINGS = [
    {"image_size": (180, 240), "augment": None},
    {"image_size": (180, 240), "augment": "flip"},
    {"image_size": (180, 240), "augment": "authors"},
    {"image_size": (360, 480), "augment": "scratch", "crop_size": (240, 320)},
]
SOURCES = [(360, 480), (240, 320)]
"""Sizes of the frames of which the second table's views are taken."""

VIEW = (240, 320)
WORKERS = (0, 1, 2)
MEAN, DEVIATION = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
VOID = 255


class Frames(torch.utils.data.Dataset):
    """CamVid's train split, with the PSPNet authors' augmentation in OpenCV."""

    def __init__(self, folder, size, in_memory):
        self.files = sorted(Path(folder, "train").glob("*.png"))
        self.size = size
        self.frames = [self.read(file) for file in self.files] if in_memory else None

    def __len__(self):
        return len(self.files)

    def read(self, file):
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        label_file = file.parents[1] / "trainannot" / file.name
        label = cv2.imread(str(label_file), cv2.IMREAD_GRAYSCALE)
        if label.shape != self.size:
            image = cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_LINEAR)
            label = cv2.resize(label, self.size[::-1], interpolation=cv2.INTER_NEAREST)
        return image, label

    def __getitem__(self, number):
        image, label = self.frames[number] if self.frames else self.read(self.files[number])
        image, label = authors_view(image.astype("float32"), label)
        image = torch.from_numpy(image.transpose(2, 0, 1))
        for channel, mean, deviation in zip(image, MEAN, DEVIATION, strict=True):
            channel.sub_(mean).div_(deviation)
        return image, torch.from_numpy(label).long()


def authors_view(image, label):
    """Scales, rotates, blurs, mirrors and crops, each by an operation of its own."""
    scale = random.uniform(0.5, 2.0)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    height, width = label.shape
    if random.random() < 0.5:
        angle = random.uniform(-10, 10)
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
        image = cv2.warpAffine(image, turn, (width, height), borderValue=MEAN)
        label = cv2.warpAffine(
            label, turn, (width, height), flags=cv2.INTER_NEAREST, borderValue=VOID
        )
    if random.random() < 0.5:
        image = cv2.GaussianBlur(image, (5, 5), 0)
    if random.random() < 0.5:
        image, label = cv2.flip(image, 1), cv2.flip(label, 1)
    missing = [max(VIEW[0] - height, 0), max(VIEW[1] - width, 0)]
    if any(missing):
        rim = [part for length in missing for part in (length // 2, length - length // 2)]
        image = cv2.copyMakeBorder(image, *rim, cv2.BORDER_CONSTANT, value=MEAN)
        label = cv2.copyMakeBorder(label, *rim, cv2.BORDER_CONSTANT, value=VOID)
    top = random.randint(0, label.shape[0] - VIEW[0])
    left = random.randint(0, label.shape[1] - VIEW[1])
    cut = slice(top, top + VIEW[0]), slice(left, left + VIEW[1])
    return image[cut], label[cut]


def loader(folder, size, in_memory, workers, batch_size):
    """Returns a DataLoader that has delivered its first batch, so that its workers run."""
    batches = torch.utils.data.DataLoader(
        Frames(folder, size, in_memory),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        # The workers share the cores among themselves: no further threads, as in the authors' code.
        worker_init_fn=lambda _: cv2.setNumThreads(0),
    )
    images, labels = next(iter(batches))
    assert images.shape == (batch_size, 3, *VIEW), images.shape
    assert labels.shape == (batch_size, *VIEW), labels.shape
    return batches


class Stopwatch(keras.callbacks.Callback):
    """Times an epoch without its first step, in which the network may still be compiled."""

    def on_train_batch_end(self, batch, logs=None):
        self.end = time.perf_counter()
        if batch == 0:
            self.start = self.end


def pipeline_rate(data, batch_size):
    start = time.perf_counter()
    steps = sum(1 for _ in data)
    return steps * batch_size / (time.perf_counter() - start)


def network_rate(model, data, batch_size, steps):
    watch = Stopwatch()
    model.fit(data, steps_per_epoch=steps, callbacks=[watch], verbose=0)
    return (steps - 1) * batch_size / (watch.end - watch.start)


def table_of_waiting(args):
    names = ["epoch 1", "epoch 2", "network", "both", "of the best possible"]
    print("images per second".ljust(36), *(f"{name:>10}" for name in names))
    results = {}
    for setting in SETTINGS:
        start = time.perf_counter()
        data = keras_psp.load_camvid(
            "train", batch_size=args.batch_size, data_dir=args.camvid, seed=1, **setting
        )
        loading = time.perf_counter() - start
        first, second = (pipeline_rate(data, args.batch_size) for _ in range(2))
        model = keras_psp.PSPNet(args.backbone, backbone_weights=None, output_stride=16)
        model.compile(metrics=None)
        ready = data.take(1).cache().repeat()
        alone = network_rate(model, ready, args.batch_size, args.steps)
        fed = network_rate(model, data.repeat(), args.batch_size, args.steps)
        best = 1 / (1 / second + 1 / alone)
        size = "x".join(map(str, setting.get("crop_size", setting["image_size"])))
        name = f"{size}, {setting['augment'] or 'not augmented'} (loaded in {loading:.1f} s)"
        rates = (first, second, alone, fed)
        print(f"{name:36}", *(f"{rate:10.1f}" for rate in rates), f"{fed / best:9.0%}", flush=True)
        results[name] = dict(zip(names, (*rates, fed / best), strict=True))
    return results


def contenders(args, batch_size):
    """Source size → name → batches."""
    found = {
        size: {
            f"DataLoader, {kind}, {workers} workers": loader(
                args.camvid, size, in_memory, workers, batch_size
            )
            for in_memory, kind in enumerate(("files", "in memory"))
            for workers in WORKERS
        }
        for size in SOURCES
    }
    # Ours last: a DataLoader forks its workers, and TensorFlow's threads do not survive a fork.
    for size, named in found.items():
        named["keras-psp"] = keras_psp.load_camvid(
            "train", size, batch_size, data_dir=args.camvid, augment="authors", crop_size=VIEW
        )
        next(iter(named["keras-psp"]))
    return found


def table_of_loaders(args, batch_size=4):
    found = contenders(args, batch_size)
    rates = {size: {name: [] for name in named} for size, named in found.items()}
    for _ in range(args.rounds):
        for size, named in found.items():
            for name, batches in named.items():
                rates[size][name].append(pipeline_rate(batches, batch_size))

    model = keras_psp.PSPNet("resnet50", backbone_weights=None)
    model.compile()
    ready = found[SOURCES[0]]["keras-psp"].take(1).cache().repeat()
    network = network_rate(model, ready, batch_size, args.network_steps)
    print(f"PSPNet-ResNet-50 trains on {network:.2f} images of {VIEW} per second")
    for size, named in rates.items():
        title = f"images of {VIEW} from {size} per second"
        print(f"{title:52} (lowest … highest)  ours / it (lowest … highest)  it / network")
        for name, values in named.items():
            ratios = [a / b for a, b in zip(named["keras-psp"], values, strict=True)]
            middle, ratio = statistics.median(values), statistics.median(ratios)
            spread, spread_of_ratios = (f"({min(v):.3g} … {max(v):.3g})" for v in (values, ratios))
            print(
                f"  {name:42}  {middle:6.0f} {spread:18}  {ratio:9.2f} {spread_of_ratios:18}"
                f"  {middle / network:12.0f}"
            )
    return {
        "network_images_per_second": network,
        "images_per_second": {"x".join(map(str, size)): named for size, named in rates.items()},
    }


TABLES = {"loaders": table_of_loaders, "waiting": table_of_waiting}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camvid", help="folder of CamVid, as SegNet's authors released it")
    parser.add_argument("--only", choices=TABLES, help="one of the two tables")
    parser.add_argument("--backbone", default="resnet18", help="network of the first table")
    parser.add_argument("--batch-size", type=int, default=8, help="of the first table")
    parser.add_argument("--steps", type=int, default=12, help="steps of the network to time")
    parser.add_argument("--rounds", type=int, default=5, help="passes of each over the split")
    parser.add_argument("--network-steps", type=int, default=5, help="steps of ResNet-50 to time")
    parser.add_argument("--json", help="file for all that was measured")
    args = parser.parse_args()

    machine = f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    versions = (
        f"Keras {keras.__version__} on {keras.backend.backend()}, PyTorch {torch.__version__}, "
        f"OpenCV {cv2.__version__}"
    )
    print(f"{machine}; {versions}")
    results = {"machine": machine, "versions": versions}
    for name in [args.only] if args.only else TABLES:
        results[name] = TABLES[name](args)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
