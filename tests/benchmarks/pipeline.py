"""Does the network ever wait for its data, and would a PyTorch DataLoader bring it sooner?

    python tests/benchmarks/pipeline.py path/of/CamVid --json pipeline.json
    python tests/benchmarks/pipeline.py path/of/CamVid --only waiting views files --backends jax

`waiting`: training steps fed by `load_camvid` beside steps on a batch that lies ready as arrays,
each in a process of its own, in turns. Where all work is done by the same cores, what the loader
takes is missing in the steps. On a GPU, it should not be.

`views`: how many views of 360×480 the loader makes a second, for each core, on each backend: it is
a `tf.data.Dataset` on TensorFlow and a `keras.utils.PyDataset` on the others.

`files`: the same of images of 1024×2048 that are read from their files in every epoch, as where a
split does not fit into memory. They are drawn on the spot.

`loaders`: the PSPNet authors' augmentation in our pipeline and in a DataLoader, there with OpenCV
as in their code (written out from its description), beside what training PSPNet-ResNet-50 takes on
the same cores. The DataLoader reads its files in every epoch, as the authors do, or has decoded
frames in memory, as ours; with 0, 1 and 2 workers. One pass of each in turns, so that what else the
machine does strikes all of them; ratios are taken within a round.
"""

import argparse
import contextlib
import itertools
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras_psp

import contest
import cv2
import feeding
import torch
from PIL import Image

from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.street_scenes import street_scene

BACKENDS = ("tensorflow", "jax", "torch")
SETTINGS = [
    {"image_size": (120, 160), "batch_size": 4, "augment": "flip"},  # as `keras-psp train` has it
    {"image_size": (180, 240), "batch_size": 8, "augment": "authors"},
    {"image_size": (360, 480), "batch_size": 8, "augment": "scratch", "crop_size": (240, 320)},
]
LARGE, CROP = (1024, 2048), (473, 473)
SOURCES = [(360, 480), (240, 320)]
"""Sizes of the frames of which the views of `loaders` are taken."""

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


def pipeline_rate(data, batch_size):
    start = time.perf_counter()
    steps = sum(1 for _ in data)
    return steps * batch_size / (time.perf_counter() - start)


def network_rate(model, data, batch_size, steps):
    return steps * batch_size / feeding.fed(model, data, steps)()["seconds"]


def table_of_waiting(args):
    about = {"imports": ["keras_psp"], "loader": "load_camvid", "steps": args.steps}
    about |= {"backbone": args.backbone}
    lines = [["images a second", "backend", "steps on arrays", "steps fed by the loader", "ratio"]]
    results = {}
    for backend, setting in itertools.product(args.backends, SETTINGS):
        size = setting.get("crop_size", setting["image_size"])
        spec = {**about, "size": size, "batch_size": setting["batch_size"]}
        spec["options"] = {**setting, "split": "train", "data_dir": args.camvid}
        with contextlib.ExitStack() as stack:
            contenders = [
                stack.enter_context(
                    contest.Contender(feeding.__file__, {**spec, "work": work}, backend)
                )
                for work in ("steps on arrays", "steps fed by the loader")
            ]
            for one in contenders:
                one.step()  # What is slow but once is over.
            seconds, _ = contest.turns(contenders, args.rounds)
        images = args.steps * setting["batch_size"]
        rates = [f"{images / statistics.median(each):.1f}" for each in seconds]
        name = f"{size[0]}×{size[1]}, batches of {setting['batch_size']}, {setting['augment']}"
        lines.append([name, backend, *rates, contest.ratio(*seconds)])
        print("  ".join(lines[-1]), flush=True)
        results[f"{name}, {backend}"] = seconds
    contest.table(lines)
    return results


def table_of_views(args):
    views = {
        f"360×480, {augment}": {
            "loader": "load_camvid",
            "options": {
                "split": "train",
                "image_size": (360, 480),
                "augment": augment,
                "data_dir": args.camvid,
            },
        }
        for augment in ("flip", "authors", "scratch")
    }
    return compare_reading(args, views)


def table_of_files(args):
    with tempfile.TemporaryDirectory() as folder:
        draw_split(Path(folder), args.images)
        options = {"folder": folder, "split": "train", "image_size": LARGE, "cache": False}
        files = {
            f"{LARGE[0]}×{LARGE[1]} from files, {augment}, crops of {CROP[0]}×{CROP[1]}": {
                "loader": "load_folder",
                "options": {**options, "augment": augment, "crop_size": CROP},
            }
            for augment in ("flip", "authors")
        }
        return compare_reading(args, files)


def draw_split(folder, count):
    for name in ("images", "labels"):
        (folder / "train" / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CAMVID.names))
    for number in range(count):
        for name, pixels in zip(("images", "labels"), street_scene(number, LARGE), strict=True):
            file = folder / "train" / name / f"{number}.png"
            Image.fromarray(pixels).save(file, compress_level=1)


def compare_reading(args, rows):
    """A pass over each of these by each backend's loader in turns, beside TensorFlow's."""
    backends = list(dict.fromkeys(["tensorflow", *args.backends]))
    titles = ["images", "backend", "a second and core", "a second of processor time"]
    lines = [[*titles, "of tf.data's (lowest … highest)"]]
    results = {}
    for name, row in rows.items():
        spec = {"imports": ["keras_psp"], "work": "reading", "batch_size": 4, **row}
        with contextlib.ExitStack() as stack:
            contenders = [
                stack.enter_context(contest.Contender(feeding.__file__, spec, backend))
                for backend in backends
            ]
            rounds = [[one.step() for one in contenders] for _ in range(args.rounds)]
        results[name] = dict(zip(backends, zip(*rounds, strict=True), strict=True))
        for backend, answers in results[name].items():
            passes = [answer["seconds"] for answer in answers]
            busy = [answer["processor_s"] for answer in answers]
            images = answers[0]["images"]
            rates = [images / statistics.median(taken) for taken in (passes, busy)]
            beside = [answer["seconds"] for answer in results[name]["tensorflow"]]
            cells = [f"{rates[0] / os.cpu_count():.1f}", f"{rates[1]:.1f}"]
            cells.append(contest.ratio(beside, passes))
            lines.append([name, backend, *cells])
            print("  ".join(lines[-1]), flush=True)
    contest.table(lines)
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


TABLES = {
    "loaders": table_of_loaders,
    "waiting": table_of_waiting,
    "views": table_of_views,
    "files": table_of_files,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camvid", help="folder of CamVid, as SegNet's authors released it")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--backbone", default="resnet18", help="network that waits")
    parser.add_argument("--steps", type=int, default=12, help="steps in a round of waiting")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each table")
    parser.add_argument("--images", type=int, default=24, help="number of large images")
    parser.add_argument("--network-steps", type=int, default=5, help="steps of ResNet-50 to time")
    parser.add_argument("--json", help="file for all that was measured")
    args = parser.parse_args()
    print(contest.machine())
    results = {name: TABLES[name](args) for name in args.only}
    contest.write_json(args.json, results)


if __name__ == "__main__":
    main()
