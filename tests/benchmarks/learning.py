"""Accuracy per minute: what a few minutes of training on two cores are worth, ours and theirs.

    pip install "keras-psp[bench]"
    python tests/benchmarks/learning.py --data-dir path/of/CamVid --out learning

Every entry trains from random values on CamVid's 367 frames at 180×240, in batches of 8, once
for each number of minutes, in a process of its own on as many cores as --threads says. The first
steps, which a library needs to get ready, do not count. The next ones tell what a step takes; so
many are planned that the learning rate has decayed to 0 when the minutes are over. Then all 101
frames of val are scored, also at 180×240, by one confusion matrix. A GPU does an hour of two cores
in a few minutes: --steps-of takes the seconds a step from a folder of results, and trains as many
steps as the minutes have by these; KERAS_BACKEND=jax or torch is for ours there.

Theirs are segmentation_models_pytorch's networks on ResNet-18, as they are mostly trained: AdamW at
1e-3 with polynomial decay, images mirrored and scaled by .5 to 2. Their views are made by PyTorch
for a whole batch at once, which takes a thirtieth of a step; ours come from `load_camvid`. Sides
that a network of theirs does not take are padded.

Each training is one file, OUT/ENTRY-MINUTES.json. What is there is not done again, so that the
hours may be spread; table and picture are made of all that is there.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import contest
import numpy as np

SIZE = (180, 240)
BATCH = 8
CLASSES = 11
READY, MEASURED = 5, 20  # Steps: the first do not count, the next tell what one takes.
# Two stages behind a deep stem, without auxiliary head, by AdamW; rare classes weigh more; as in
# theirs, views are scaled and mirrored alone, and nobody scores them.
LIGHT = {
    "library": "keras_psp",
    "network": {"backbone": "resnet18_v1c_stage2", "auxiliary_weight": 0},
    "class_weights": 0.5,
    "scales": (0.5, 2.0),
}
# A stage more, at 1/8 of the image, too.
THREE = {**LIGHT, "network": {**LIGHT["network"], "backbone": "resnet18_v1c_stage3"}}
# For hundreds of epochs, after which the frames are known by heart.
RARE = ["SignSymbol", "Pedestrian", "Column_Pole", "Bicyclist"]
VIEWS = {"augment": "scratch_long", "crop_size": SIZE, "centered_on": RARE}
ENTRIES = {
    # The command line's network and `fit` without `compile`.
    "keras-psp by default": {
        "library": "keras_psp",
        "network": {"backbone": "resnet18", "output_stride": 16},
    },
    "keras-psp light": LIGHT,
    "keras-psp of three stages": THREE,
    "keras-psp of three stages, other views": {**THREE, "scales": None, "views": VIEWS},
    "PSPNet of smp": {"library": "smp", "network": "PSPNet"},
    "FPN of smp": {"library": "smp", "network": "FPN"},
    "Unet of smp": {"library": "smp", "network": "Unet"},
}


def make(spec):
    """The one job of an entry: to learn for so many minutes, and to be scored."""
    learner = {"keras_psp": Ours, "smp": Theirs}[spec["library"]](spec)
    if spec["steps"]:
        return [lambda: learn_for(learner, spec["steps"])]
    clock, minute = (time.process_time, 120) if spec["processor_time"] else (time.perf_counter, 60)
    return [lambda: learn(learner, minute * spec["minutes"], clock)]


def learn(learner, seconds, clock):
    """Trains for so many seconds and returns what that took, and how good it is.

    Args:
        learner: Has `train(steps)`, in which the learning rate decays to 0, and `confusion()`.
        seconds: From when the learner is ready to its last step.
        clock: Tells the seconds.
    """
    learner.train(READY)
    start = clock()
    learner.train(MEASURED)
    step_s = (clock() - start) / MEASURED
    steps = max(round(seconds / step_s) - MEASURED, 1)
    learner.train(steps)
    spent = clock() - start
    found = {"step_s": step_s, "steps": MEASURED + steps, "trained_s": spent}
    return found | scores(learner)


def learn_for(learner, steps):
    """Trains so many steps and returns how good that is."""
    start = time.perf_counter()
    learner.train(steps)
    return {"steps": steps, "trained_s": time.perf_counter() - start} | scores(learner)


def scores(learner):
    from keras_psp.metrics import iou_per_class

    per_class = iou_per_class(learner.confusion())
    return {"mean_iou": float(np.nanmean(per_class)), "per_class": per_class.tolist()}


def frames(data_dir, split, **options):
    """A split of CamVid, as every entry sees it."""
    import keras_psp

    return keras_psp.load_camvid(
        split, data_dir=data_dir, image_size=SIZE, batch_size=BATCH, **options
    )


def confusion(batches, predict):
    """The confusion matrix of batches, given a function from images to the class of each pixel."""
    from keras_psp.metrics import confusion_matrix

    return sum(
        confusion_matrix(np.asarray(labels), predict(np.asarray(images)), CLASSES)
        for images, labels in batches
    )


def endless(data, steps):
    """Data that go round, for so many steps; on JAX and PyTorch, they are not tf.data's."""
    from keras_psp.data import Batches

    if not isinstance(data, Batches):
        return data.repeat()
    length = len(data)
    return Batches(lambda _, step: data.make(step // length, step % length), steps, data.info)


class Ours:
    """PSPNet of this package, trained by its own recipe."""

    def __init__(self, spec):
        import keras_psp
        from keras_psp import losses, optimizers
        from keras_psp.data.augmentation import RandomView
        from keras_psp.data.camvid.classes import CAMVID_CLASS_WEIGHTS

        import keras

        keras.utils.set_random_seed(spec["seed"])
        if spec["half"]:
            keras.config.set_dtype_policy("mixed_bfloat16")
        options = {"seed": spec["seed"], **spec.get("views", {})}
        if spec.get("scales"):
            options["augment"] = RandomView(*SIZE, spec["scales"], dtype="float32")
        self.train_frames = frames(spec["data_dir"], "train", **options)
        self.val_frames = frames(spec["data_dir"], "val")
        self.model = keras_psp.PSPNet(num_classes=CLASSES, backbone_weights=None, **spec["network"])
        if "class_weights" in spec:
            weights = [weight ** spec["class_weights"] for weight in CAMVID_CLASS_WEIGHTS]
            self.model.compile(
                optimizers.adamw(),
                losses.SparseCategoricalCrossentropy(class_weights=weights),
                metrics=None,
            )

    def train(self, steps):
        self.model.fit(endless(self.train_frames, steps), steps_per_epoch=steps, verbose=0)

    def confusion(self):
        return confusion(
            self.val_frames, lambda images: self.model.predict_on_batch(images).argmax(-1)
        )


class Theirs:
    """A network of segmentation_models_pytorch."""

    RATE = 1e-3

    def __init__(self, spec):
        import segmentation_models_pytorch
        import torch
        from keras_psp import imagenet

        torch.manual_seed(spec["seed"])
        network = getattr(segmentation_models_pytorch, spec["network"])
        self.network = network("resnet18", encoder_weights=None, classes=CLASSES)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network.to(self.device, memory_format=torch.channels_last)
        self.half = torch.autocast(self.device, torch.bfloat16, enabled=spec["half"])
        self.optimizer = torch.optim.AdamW(self.network.parameters(), self.RATE)
        self.mean, self.deviation = (
            torch.tensor(colors, device=self.device)[:, None, None]
            for colors in (imagenet.MEAN, imagenet.DEVIATION)
        )
        in_order = {"augment": None, "shuffle": False, "drop_remainder": False}
        parts = zip(*frames(spec["data_dir"], "train", **in_order), strict=True)
        self.images, self.labels = (
            torch.tensor(np.concatenate(part)).to(self.device) for part in parts
        )
        self.val_frames = frames(spec["data_dir"], "val")

    def batches(self):
        import torch

        while True:
            order = torch.randperm(len(self.images)).to(self.device)
            yield from order[: len(order) // BATCH * BATCH].split(BATCH)

    def train(self, steps):
        import torch

        self.network.train()
        for step, chosen in zip(range(steps), self.batches(), strict=False):
            self.optimizer.param_groups[0]["lr"] = self.RATE * (1 - step / steps) ** 0.9
            images, labels = random_views(self.normalized(self.images[chosen]), self.labels[chosen])
            self.optimizer.zero_grad()
            with self.half:
                logits = self.logits(images).float()
            torch.nn.functional.cross_entropy(logits, labels, ignore_index=255).backward()
            self.optimizer.step()

    def normalized(self, images):
        return (images.permute(0, 3, 1, 2) - self.mean) / self.deviation

    def logits(self, images):
        """The logits of images whose sides become multiples of the network's stride."""
        import torch

        height, width = images.shape[2:]
        stride = self.network.encoder.output_stride
        rim = [0, -width % stride, 0, -height % stride]
        return self.network(torch.nn.functional.pad(images, rim))[..., :height, :width]

    def confusion(self):
        import torch

        self.network.eval()

        def predict(images):
            with torch.inference_mode(), self.half:
                x = self.normalized(torch.tensor(images).to(self.device))
                return self.logits(x).argmax(1).cpu().numpy()

        return confusion(self.val_frames, predict)


def random_views(images, labels, scales=(0.5, 2.0)):
    """Views of a batch, each scaled at random, mirrored or not, and cut to the size that it had.

    Args:
        images: A tensor of PyTorch `(batch, 3, height, width)`, 0 outside.
        labels: Integers `(batch, height, width)`; void outside.
        scales: The smallest and the largest; smaller images lie in the middle.
    """
    import torch

    scale = images.new_empty(len(images)).uniform_(*scales)
    side = torch.randint(0, 2, scale.shape, device=images.device) * 2.0 - 1
    # Pixel (x, y) of a view, −1 … 1, is pixel (side·x/scale + dx, y/scale + dy) of the image.
    free = (1 - 1 / scale).clamp(min=0)
    zero = torch.zeros_like(scale)
    dx, dy = ((2 * images.new_empty(2, len(images)).uniform_() - 1) * free).unbind()
    affine = torch.stack([side / scale, zero, dx, zero, 1 / scale, dy], 1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(affine, images.shape, align_corners=False)

    def view(maps, mode):
        return torch.nn.functional.grid_sample(maps, grid, mode, align_corners=False)

    # Outside of the image is 0: void, while labels are shifted.
    labels = view(labels[:, None] - 255.0, "nearest")[:, 0] + 255
    return view(images, "bilinear"), labels.round().long()


def train_all(args):
    """Trains whatever has no file yet, then prints and draws all that is there."""
    libraries = {ENTRIES[name]["library"] for name in args.entries}
    if "smp" in libraries and not importlib.util.find_spec("segmentation_models_pytorch"):
        raise SystemExit(
            "Their networks are segmentation_models_pytorch's. Received: an environment without "
            'it. Run pip install "keras-psp[bench]", or pass --entries "keras-psp light".'
        )
    step_s = {}
    if args.steps_of:
        step_s = {row["name"]: row["step_s"] for row in read(Path(args.steps_of))}
        if missing := [name for name in args.entries if name not in step_s]:
            raise SystemExit(
                "What a step takes must have been measured. "
                f"Received: --steps-of {args.steps_of} without {', '.join(missing)}. Run these "
                f"with --out {args.steps_of} --minutes 0.3 on the device whose minutes count."
            )
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for minutes in args.minutes:
        for name in args.entries:
            file = folder / f"{name.replace(' ', '-')}-{minutes:g}.json"
            if file.exists():
                continue
            print(f"{time.strftime('%H:%M')}  {name}, {minutes:g} minutes: ", end="", flush=True)
            names = ("data_dir", "half", "seed", "processor_time")
            spec = {name: getattr(args, name) for name in names}
            spec |= {"minutes": minutes, "steps": None, **ENTRIES[name]}
            measured = {"name": name, "minutes": minutes}
            if name in step_s:
                measured["step_s"] = step_s[name]
                spec["steps"] = round(60 * minutes / step_s[name])
            found = _train(spec, args)
            print(f"mean IoU {found['mean_iou']:.3f}", flush=True)
            contest.write_json(file, {**measured, **found})
    report(folder)


def _train(spec, args):
    ours = spec["library"] == "keras_psp"
    backend = os.environ.get("KERAS_BACKEND", "tensorflow") if ours else "torch"
    spec["imports"] = ["keras_psp", backend] if ours else ["torch", "keras_psp"]
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = dict.fromkeys(names, str(args.threads))
    with contest.Contender(__file__, spec, backend, environment) as one:
        return one.step()


def read(folder):
    """All that is there."""
    return [json.loads(file.read_text()) for file in folder.glob("*.json")]


def report(folder):
    """Prints and draws all that is there."""
    found = sorted(read(folder), key=lambda row: (row["minutes"], -row["mean_iou"]))
    rows = [["", "minutes", "s a step", "steps", "trained s", "mean IoU"]]
    for row in found:
        cells = [f"{row['minutes']:g}", f"{row['step_s']:.2f}", str(row["steps"])]
        cells += [f"{row['trained_s']:.0f}", f"{row['mean_iou']:.3f}"]
        rows.append([row["name"], *cells])
    contest.table(rows)
    if found:
        draw(folder / "learning.png", found)


def draw(file, found):
    """Draws the mean IoU over the minutes, a line for each entry."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name in ENTRIES:
        points = sorted((row["minutes"], row["mean_iou"]) for row in found if row["name"] == name)
        if points:
            axes.plot(*zip(*points, strict=True), "o-", label=name)
    minutes = sorted({row["minutes"] for row in found})
    axes.set(xscale="log", xlabel="minutes of training", ylabel="mean IoU on val, 180×240")
    axes.set_xticks(minutes, [f"{one:g}" for one in minutes])
    axes.minorticks_off()
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir",
        default=os.environ.get("KERAS_PSP_DATA"),
        help="its folder (default: $KERAS_PSP_DATA, or a download)",
    )
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 20, 60])
    parser.add_argument("--entries", nargs="+", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--threads", type=int, default=2, help="of each library")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="a minute is two of processor time, for a machine that does other work, too; threads "
        "that wait may count, so take it with --threads 1",
    )
    parser.add_argument(
        "--steps-of",
        metavar="FOLDER",
        help="train as many steps as these minutes have by that folder's seconds a step, on a "
        "device that is not the one whose minutes count",
    )
    parser.add_argument("--half", action="store_true", help="mixed precision in all, bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        default="learning",
        help="folder for results and picture; each seed and precision needs its own",
    )
    args = parser.parse_args()
    print(contest.machine())
    train_all(args)


if __name__ == "__main__" and not contest.serve(make):
    sys.exit(main())
