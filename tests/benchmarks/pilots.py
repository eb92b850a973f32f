"""Which changes of the recipe help: short trainings from random values, one change in each.

    python tests/benchmarks/pilots.py --data-dir path/of/CamVid --out pilots --half --scale 0.75

The recipe as it is: PSPNet on ResNet-18 at stride 16, SGD at .03 for all layers, class weights to
the power of .5, `augment="scratch"`, batches of 8, as many steps as 8 epochs of CamVid's train
split have. Views have 240×320 pixels and come from frames of 360×480; --scale makes both smaller.
Every entry changes one thing and trains with two seeds, each in a process of its own on one core.
It is scored on the 101 frames of val by their own labels of 360×480. A change is kept if both seeds
gain, and their mean gains a hundredth. Where the first seed is more than two hundredths behind, the
second one is left out.

Each training is one file, OUT/ENTRY-seedN.json. What is there is not done again.
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import time
from pathlib import Path

import contest
import keras_psp
import keras
import numpy as np
import tensorflow as tf
from keras_psp import losses, optimizers
from keras_psp.data.augmentation import RandomColors, RandomView
from keras_psp.data.camvid.classes import CAMVID_CLASS_WEIGHTS, CAMVID_CLASSES
from keras_psp.labels import VOID
from keras_psp.models.backbones import BACKBONES
from keras_psp.models.resnet import RESNETS

FRAME, VIEW, BATCH = (360, 480), (240, 320), 8
STEPS = 367 // BATCH  # Of an epoch, also where scenes join the frames.
RARE = ("SignSymbol", "Pedestrian", "Column_Pole", "Bicyclist")
SHOWN = (*RARE, "Car")  # In the table.
BASE = "as it is"
ENTRIES = {
    BASE: {},
    "views centered on rare classes": {"centered": True},
    "AdamW": {"adamw": 1e-3},
    "centered views and AdamW": {"centered": True, "adamw": 1e-3},
    "street scenes mixed in": {"street_scenes": 1 / 8},
    "stronger colors": {"colors": [0.3, 0.5, [0.25, 0.75]]},
    "7x7 stem": {"network": {"backbone": "resnet18"}},
    "the hardest quarter of the pixels": {"hardest": True},
    "Lovász-Softmax in the last quarter": {"lovasz": True},
    "copy-paste of rare classes": {"pasted": 0.5},
    "street scenes first": {"scenes_first": 4},
    "half width at stride 4": {"network": {"backbone": "half", "output_stride": 8}},
    "four epochs more": {"second_round": "alone"},
    "four epochs more, taught by the first eight": {"second_round": "taught"},
}


def make(spec):
    """The one job of a pilot: to train, and to be scored."""
    return [lambda: pilot(spec)]


def pilot(spec):
    keras.utils.set_random_seed(spec["seed"])
    if spec["half"]:
        keras.config.set_dtype_policy("mixed_bfloat16")
    size, view = ([round(n * spec["scale"]) for n in sides] for sides in (FRAME, VIEW))
    options = {"image_size": size, "batch_size": BATCH, "seed": spec["seed"]}
    options |= {"crop_size": view, "augment": "scratch"}
    if "colors" in spec:
        own = RandomView(*view, scale=(0.6, 1.5), dtype="float32")  # As in "scratch".
        options["augment"] = [own, RandomColors(*spec["colors"], dtype="float32")]
    if "centered" in spec:
        options["centered_on"] = RARE
    frames = {"data_dir": spec["data_dir"], "street_scenes": spec.get("street_scenes", 0)}
    train = keras_psp.load_camvid("train", **frames, **options).repeat()
    if "pasted" in spec:
        train = train.map(functools.partial(paste_rare, share=spec["pasted"]))
    # A ResNet-18 of half the width without pooling: what has stride 8 there has stride 4 here.
    RESNETS["half"] = dataclasses.replace(RESNETS["resnet18_v1c"], filters=32, pooled=False)
    BACKBONES["half"] = BACKBONES["resnet18_v1c"]
    network = {"backbone": "resnet18_v1c", "output_stride": 16, **spec.get("network", {})}
    model = keras_psp.PSPNet(num_classes=11, backbone_weights=None, **network)
    optimizer = optimizers.recipe(0.03, head_multiplier=1.0)
    if "adamw" in spec:
        optimizer = optimizers.adamw(spec["adamw"])
    weights = [weight**0.5 for weight in CAMVID_CLASS_WEIGHTS]
    loss, callbacks = losses.SparseCategoricalCrossentropy(class_weights=weights), []
    if "hardest" in spec:
        loss = Hardest(weights)
    if "lovasz" in spec:
        loss = WithLovasz(loss)
        callbacks.append(loss.joining_after(spec["epochs"] * 3 // 4))
    model.compile(optimizer, loss, metrics=None)
    if "scenes_first" in spec:
        scenes = keras_psp.load_street_scenes("train", num_images=BATCH * STEPS, **options)
        model.fit(scenes, epochs=spec["scenes_first"], verbose=0)
    model.fit(train, steps_per_epoch=STEPS, epochs=spec["epochs"], callbacks=callbacks, verbose=0)
    if "second_round" in spec:
        if spec["second_round"] == "taught":
            teacher = keras_psp.PSPNet(num_classes=11, backbone_weights=None, **network)
            teacher.set_weights(model.get_weights())
            train, loss = train.map(with_probabilities(teacher)), Taught(loss)
        model.compile(optimizers.recipe(0.015, head_multiplier=1.0), loss, metrics=None)
        model.fit(train, steps_per_epoch=STEPS, epochs=4, verbose=0)
    val = keras_psp.load_camvid("val", FRAME, data_dir=spec["data_dir"])
    per_class = keras_psp.evaluate(model, val, image_size=size, num_samples=0).per_class
    return {"mean_iou": per_class.mean(), "per_class": per_class.tolist()}


def paste_rare(images, labels, share):
    """Pastes what an image shows of rare classes onto the next one, at the same place.

    Reference:
        [Ghiasi et al., 2021](https://arxiv.org/abs/2012.07177), without scaling.
    """
    given = tf.roll(labels, 1, axis=0)
    rare = tf.constant([CAMVID_CLASSES.index(name) for name in RARE])
    pasted = tf.reduce_any(given[..., None] == rare, -1)
    pasted &= tf.random.uniform((len(labels), 1, 1)) < share
    images = tf.where(pasted[..., None], tf.roll(images, 1, axis=0), images)
    return images, tf.where(pasted, given, labels)


def with_probabilities(teacher):
    """Returns what adds a teacher's probabilities to labels: of the images and of their mirrors."""

    def add(images, labels):
        both = tf.concat([images, images[:, :, ::-1]], 0)
        found = tf.nn.softmax(tf.cast(teacher(both, training=False), "float32"))
        one, other = tf.split(found, 2)
        labels = tf.cast(labels, "float32")[..., None]
        return images, tf.concat([labels, (one + other[:, :, ::-1]) / 2], -1)

    return add


class Taught(keras.losses.Loss):
    """Half of the cross-entropy with the labels, and half with a teacher's probabilities.

    Reference:
        [Hinton et al., 2015](https://arxiv.org/abs/1503.02531), at temperature 1.
    """

    def __init__(self, cross_entropy):
        super().__init__()
        self.cross_entropy = cross_entropy

    def call(self, labels_and_probabilities, logits):
        labels, probabilities = tf.split(labels_and_probabilities, [1, logits.shape[-1]], -1)
        soft = tf.nn.softmax_cross_entropy_with_logits(probabilities, tf.cast(logits, "float32"))
        hard = self.cross_entropy(tf.cast(labels[..., 0], "int32"), logits)
        return (hard + tf.reduce_mean(soft)) / 2


class Hardest(keras.losses.Loss):
    """The mean of the largest quarter of the pixels' weighted cross-entropies (OHEM).

    Reference:
        [Shrivastava et al., 2016](https://arxiv.org/abs/1604.03540), of pixels in place of regions.
    """

    def __init__(self, weights):
        super().__init__()
        options = {"class_weights": weights, "reduction": "none"}
        self.of_pixels = losses.SparseCategoricalCrossentropy(**options)

    def call(self, labels, logits):
        found = tf.reshape(self.of_pixels(labels, logits), [-1])  # 0 where void.
        return tf.reduce_mean(tf.math.top_k(found, tf.size(found) // 4, sorted=False).values)


class WithLovasz(keras.losses.Loss):
    """Cross-entropy, and from some epoch on half of Lovász-Softmax, at half size.

    Reference:
        [Berman et al., 2018](https://arxiv.org/abs/1705.08790), equations 8 to 11.
    """

    def __init__(self, cross_entropy):
        super().__init__()
        self.cross_entropy = cross_entropy
        self.share = keras.Variable(0.0, trainable=False)

    def joining_after(self, epochs):
        def begin(epoch, logs):
            self.share.assign(0.5 * (epoch >= epochs))

        return keras.callbacks.LambdaCallback(on_epoch_begin=begin)

    def call(self, labels, logits):
        found = self.cross_entropy(labels, logits)
        small = labels[:, ::2, ::2], logits[:, ::2, ::2]
        added = tf.cond(self.share > 0, lambda: lovasz_softmax(*small), lambda: 0.0)
        return found + self.share * added


def lovasz_softmax(labels, logits):
    """The Lovász extension of 1 − IoU, the mean over the classes that the labels have."""
    labels = tf.reshape(labels, [-1])
    shares = tf.nn.softmax(tf.reshape(tf.cast(logits, "float32"), (-1, logits.shape[-1])))
    found = []
    for i in range(logits.shape[-1]):
        # A void pixel has no error and is of no class: as if it were not there.
        is_class = tf.cast(labels == i, "float32")
        errors = tf.where(labels == VOID, 0.0, tf.abs(is_class - shares[:, i]))
        errors, order = tf.math.top_k(errors, tf.size(errors))
        is_class = tf.gather(is_class, order)
        total = tf.reduce_sum(is_class)
        outside = total - tf.cumsum(is_class)
        jaccard = 1 - outside / tf.maximum(total + tf.cumsum(1 - is_class), 1)
        steps = tf.concat([jaccard[:1], jaccard[1:] - jaccard[:-1]], 0)
        found.append((tf.reduce_sum(errors * steps), tf.minimum(total, 1)))
    values, present = (tf.stack(part) for part in zip(*found, strict=True))
    return tf.reduce_sum(values * present) / tf.maximum(tf.reduce_sum(present), 1)


def train_all(args):
    """Trains whatever has no file yet, then prints all that is there."""
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    one_thread = dict.fromkeys(names, "1")
    for name in args.entries:
        for seed in args.seeds:
            gains = [gain for other, gain in gains_of(name, read(folder)).items() if other != seed]
            file = folder / f"{name.replace(' ', '-')}-seed{seed}.json"
            if file.exists() or min(gains, default=0) < -0.02:
                continue
            print(f"{time.strftime('%H:%M')}  {name}, seed {seed}: ", end="", flush=True)
            spec = {key: getattr(args, key) for key in ("data_dir", "scale", "epochs", "half")}
            spec |= {"seed": seed, "imports": ["keras_psp", "tensorflow"], **ENTRIES[name]}
            with contest.Contender(__file__, spec, "tensorflow", one_thread) as one:
                found = one.step()
            print(f"mean IoU {found['mean_iou']:.3f} in {found['seconds']:.0f} s", flush=True)
            contest.write_json(file, {"name": name, **spec, **found})
    report(read(folder))


def read(folder):
    """What was found, by entry and seed."""
    found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    return {(one["name"], one["seed"]): one for one in found}


def gains_of(name, found):
    """What an entry gains, by seed, where the recipe as it is has that seed, too."""
    return {
        seed: one["mean_iou"] - found[BASE, seed]["mean_iou"]
        for (other, seed), one in sorted(found.items())
        if other == name and (BASE, seed) in found
    }


def report(found):
    """Prints a line for each entry, with a number for each seed, and what it gains on average."""
    rows = [["", "mean IoU", "gain", *SHOWN, "minutes"]]
    for name in ENTRIES:
        own = [one for (other, _), one in sorted(found.items()) if other == name]
        if own:
            classes = zip(*(one["per_class"] for one in own), strict=True)
            by_class = dict(zip(CAMVID_CLASSES, classes, strict=True))
            gain = np.mean([*gains_of(name, found).values()] or np.nan)
            scores = ", ".join(f"{one['mean_iou']:.3f}" for one in own)
            of_classes = [", ".join(f"{iou:.2f}" for iou in by_class[one]) for one in SHOWN]
            minutes = ", ".join(f"{one['seconds'] / 60:.0f}" for one in own)
            rows.append([name, scores, f"{gain:+.3f}", *of_classes, minutes])
    contest.table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = os.environ.get("KERAS_PSP_DATA")
    parser.add_argument("--data-dir", default=folder, help="default: $KERAS_PSP_DATA or a download")
    parser.add_argument("--entries", nargs="+", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="of frames and views")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--half", action="store_true", help="mixed precision, bfloat16")
    parser.add_argument("--out", default="pilots", help="a folder for each size and precision")
    args = parser.parse_args()
    print(contest.machine())
    train_all(args)


if __name__ == "__main__" and not contest.serve(make):
    sys.exit(main())
