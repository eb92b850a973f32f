"""The arguments of the command line, `keras-psp`: which there are, and what they mean.

Nothing here needs Keras. It takes seconds to import, and `--help` and usage errors need not wait.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_psp import __version__
from keras_psp.rates import RATES

FOLDER = "path/of/a/folder"
_SMALL = {"image_size": (120, 160), "augment": "flip", "batch_size": 4, "class_weights": 0.5}
_TRAINED = {"backbone_weights": "auto"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "street-scenes": {**_SMALL, "backbone_weights": "none", "epochs": 8, "scenes": 200},
    "camvid": {**_SMALL, **_TRAINED, "epochs": 6},
    FOLDER: {
        **_TRAINED,
        "image_size": (240, 320),
        "augment": "scratch",
        "batch_size": 8,
        "class_weights": 0.0,
        "epochs": 50,
    },
}
"""The data sets, and the defaults of a run on them. A run on the first two ends within five minutes
on two cores; the scores of papers need more of everything."""

COMMANDS = {
    "train": (
        "Trains a network, or continues a run that was cut off; then scores its best weights."
    ),
    "evaluate": (
        "Scores the weights of a run on a split.\n"
        "Images and labels have the run's size, as in training. With one of the options from "
        "--short-side on, frames and labels keep their own size, as in papers."
    ),
    "predict": "Segments images, all images of folders, and videos; names the files that fail.",
    "demo": "Draws a street scene and segments it, with the network that comes with the package.",
    "export": "Writes the model of a run for other programs: ONNX, LiteRT, OpenVINO, SavedModel.",
    "tables": "Prints the tables of the papers, with their numbers beside those counted here.",
    "degradation": "Trains shallow and deep nets, plain and residual, and draws their errors.",
    "ladder": (
        "Trains what PSPNet consists of, part by part: the lecture's ablation.\n"
        "Also what the pyramid's levels are worth, and the depth of the backbone."
    ),
    "convert": (
        "Turns a checkpoint into weights or a model of ours. Its tensors tell which network it is."
    ),
    "data check": "Looks at every file of a data folder and says what is wrong.",
}
"""What each command does; in the list of all commands only the first line is shown."""


def answer_at_once() -> None:
    """Answers the console script at once, and ends the process, where that needs no Keras.

    That is for `--help`, `--version` and wrong usage. The script imports its function, and with it
    the whole package. The package cannot import its parts later, when they are used: to load a
    saved model, Keras needs classes that were imported before. So the package calls this function
    before it imports the rest. With other arguments, and in other programs, it does nothing.
    """
    if is_the_program():
        _ready_the_streams()
        parse()


def _ready_the_streams() -> None:
    """Lets the console script print whatever its words are, and wherever it is started from."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # It is closed, and the next file would get its number, and what is logged.
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r", encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As stderr does: not everyone's files and pipes hold all letters of a name or a table.
        sys.stdout.reconfigure(errors="backslashreplace")


def is_the_program() -> bool:
    """Whether this process is the console script, not a program that imports the package."""
    program = Path(sys.argv[0]).name if sys.argv else ""
    return program in ("keras-psp", "keras-psp.exe")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads a command line; ends the process if it asks for help or is wrong.

    Args:
        arguments: What follows `keras-psp`; `None` takes it from the process.

    Returns:
        The options, and the name of the command as `command`.
    """
    parser = _parser()
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        command = f"keras-psp {args.command}"
        parser.error(
            f"{command} takes its own options only, written in full. Received: "
            f"{' '.join(unknown)}. {command} --help names them all."
        )
    return args


def _parser() -> argparse.ArgumentParser:
    description = "PSPNet and the networks before it: trains on street scenes, and segments them."
    parser = argparse.ArgumentParser("keras-psp", description=description, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"keras-psp {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = _add_command(commands, "train")
    add("--data", f"{', '.join(DEFAULTS)}, or pairs.csv", default="street-scenes")
    add("--data-dir", _CAMVID_FOLDER)
    help = "split of camvid: frame (the published one), folder, or drive (0006R0 to score on)"
    add("--split-by", help)
    _add_own_data(add)
    help = "share of the images of your own to score on, where they have no val (default: 0.2)"
    add("--validation-split", help, type=_real(0, 1), metavar="SHARE")
    add("--split-seed", "another number takes other images for that", type=_seed)
    add("--scenes", "street scenes to train on, and 1/4 to score (default: 200)", type=_count)
    help = "share of street scenes among the images of camvid to train on (default: none)"
    add("--street-scenes", help, type=_real(0, 1), metavar="SHARE")
    add("--run", "run folder (default: runs/DATA-MODEL-BACKBONE); an old run in it is continued")
    networks = "pspnet, fcn32s, fcn16s, fcn8s, segnet, deconvnet, dilation8, frontend"
    add("--model", f"{networks} (dilation8 without context)", default="pspnet")
    help = "resnet18 … resnet269, resnet18_stage2 (light), vgg16, … (default: resnet18; of segnet "
    add("--backbone", f"{help}and deconvnet vgg11_bn)")
    weights = "auto (ImageNet where it can be had), imagenet, none, or a file"
    add("--backbone-weights", f"{weights} ({_default('backbone_weights')})")
    help = "start from a whole network's weights: a preset, which also says what network, such as "
    help += "pspnet_resnet18_camvid, which is in the package; a file, or another run"
    add("--weights", help, metavar="FILE")
    help = "leave its last layers random, for data of other classes than its own"
    add("--fresh-head", help, action="store_true")
    help = "stride of the features: 8, 16, 32 (default: 16; of dilation8 8, of FCN 32)"
    add("--output-stride", help, type=int)
    help = "channels of fc6 and fc7, in networks that have these (default: 1024; the papers': 4096)"
    add("--fc-channels", help, type=_count)
    help = "save memory: compute a ResNet's blocks again on the way back (gradient checkpointing)"
    add("--recompute", help, action="store_true")
    add("--image-size", f"pixels of the images ({_default('image_size')})", **_SIZE)
    add("--crop-size", "pixels of the crops to train on (default: whole images)", **_SIZE)
    add("--augment", f"authors, course, flip, scratch, scratch_long, none ({_default('augment')})")
    help = "classes that half of the crops show in the middle, such as rare ones (default: none)"
    add("--centered-on", help, nargs="+", metavar="CLASS")
    add("--batch-size", f"images per step ({_default('batch_size')})", type=_count)
    add("--epochs", f"epochs to train ({_default('epochs')})", type=_count)
    add("--validation-freq", "epochs from one validation to the next", type=_count, default=1)
    help = "sgd (the paper's), or adamw, which is ahead in short trainings from random values"
    add("--optimizer", f"{help} (default: sgd)", default="sgd")
    default = f"{_default('learning_rate', RATES)}; of adamw 0.001"
    add("--learning-rate", f"at first; it decays to 0 over the run ({default})", type=_real(0, 100))
    default = _default("head_multiplier", RATES)
    help = f"multiplies that rate on pyramid and heads ({default})"
    add("--head-multiplier", help, type=_real(0, 1000))
    help = "exponent of the median-frequency weights in the loss: 0 for none, 0.5 for their roots "
    help += f"({_default('class_weights')})"
    add("--class-weights", help, type=_real(0, 10), metavar="POWER")
    add("--dtype-policy", **_DTYPE_POLICY)
    add("--seed", "of all random numbers", type=_seed, default=1)

    add = _add_run_command(commands, "evaluate")
    add("--data", "other data than the run's")
    add("--data-dir", "folder of camvid")
    _add_own_data(add)
    add("--split", "of these data", default="val")
    add("--image-size", "pixels of the images (default: the run's)", **_SIZE)
    add("--compare", "a run to score on the same images, side by side", metavar="OTHER_RUN")
    add("--out", "folder of scores and pictures (default: RUN/evaluation-SPLIT[-own-size])")
    _add_views(add)

    add = _add_command(commands, "predict")
    add("images", "images, folders of images, and videos", nargs="+", metavar="IMAGE")
    help = "a run folder, a .keras file of a segmentation model, or a preset, such as "
    help += "pspnet_resnet50_cityscapes (default: the one in the package, trained on CamVid)"
    add("--model", help, metavar="RUN|FILE|PRESET")
    add("--weights", "of the run: best or last", default="best")
    add(
        "--image-size", "pixels that the network sees (default: the run's, or the image's)", **_SIZE
    )
    add("--max-pixels", "of an image (default: 178 million)", type=_count, metavar="PIXELS")
    add("--out", "folder of label maps and overlays (default: predictions/ beside the weights)")
    _add_views(add)

    add = _add_command(commands, "demo")
    add("--out", "the picture", default="demo.png", metavar="FILE")
    add("--seed", "another number, 1 or more, draws another scene", type=_count, default=9)

    add = _add_run_command(commands, "export")
    add("path", "*.onnx, *.tflite, *.xml (OpenVINO), *.keras, or a folder", metavar="PATH")
    formats = ["keras", "saved_model", "onnx", "litert", "openvino"]
    add("--format", "default: that of PATH's ending", choices=formats)
    add("--image-size", "pixels of the images (default: any)", **_SIZE)
    add("--batch-size", "images at once (default: any)", type=_count)
    add("--input-dtype", "type of the images", default="float32", choices=["float32", "uint8"])
    add("--classes", "give the class of each pixel, not its logits", action="store_true")
    help = "8 bits: weights in ONNX, others in LiteRT; int8 is calibrated on 32 training images"
    add("--quantize", help, choices=["weights", "dynamic", "int8"])

    _add_command(commands, "tables")

    add = _add_command(commands, "degradation")
    names = ["cifar10", "camvid", "street-scenes"]
    add("--data", "cifar10, or patches of camvid or street-scenes", default="camvid", choices=names)
    add("--data-dir", _CAMVID_FOLDER)
    add("--patches", "of each class", type=_count, default=2000)
    add("--steps", "training steps of 128 images, as in the paper", type=_count, default=64_000)
    names = ["plain-20", "plain-56", "ResNet-20", "ResNet-56"]
    add("--networks", "to train", nargs="+", choices=names, default=names, metavar="NETWORK")
    add("--seeds", "one run for each", type=_seed, nargs="+", default=[1, 2])
    add("--run", "folder; old runs in it are continued", default="runs/degradation")

    add = _add_command(commands, "ladder")
    add("--data", "what to train on", default="camvid", choices=["camvid", "street-scenes"])
    add("--data-dir", _CAMVID_FOLDER)
    help = "how camvid's 32 classes become 11 (default: segnet)"
    add("--merging", help, choices=["segnet", "mseg"])
    help = "splits of camvid: frame (published), drive (0006R0 to score on; default: both)"
    add("--split-by", help, nargs="+", choices=["frame", "drive"])
    ladders = ["parts", "pyramid", "depth"]
    add("--ladder", "which one", default="parts", choices=ladders)
    add("--rungs", "their numbers (default: all)", type=_count, nargs="+", metavar="NUMBER")
    add("--backbone", "where the ladder names none", default="resnet18")
    add("--backbone-weights", "imagenet or none", default="none", choices=["imagenet", "none"])
    add("--image-size", "pixels of the images", default=[240, 320], **_SIZE)
    add("--crop-size", "pixels of the crops, and of the windows", default=[201, 201], **_SIZE)
    add("--batch-size", "images per step", type=_count, default=8)
    add("--epochs", "of each training", type=_count, default=50)
    add("--dtype-policy", **_DTYPE_POLICY)
    add("--seeds", "one training for each", type=_seed, nargs="+", default=[1, 2])
    add("--run", "folder; old runs in it are continued", default="runs/ladder")

    add = _add_command(commands, "convert")
    help = "a checkpoint of PyTorch's, a run folder, or weights or a model of ours"
    add("file", help, metavar="FILE")
    help = "what to write: a .weights.h5, a .keras, or a .8bit.h5 file (weights in a quarter of it)"
    add("out", help, metavar="OUT")
    add("--backbone", "of the PSPNet, where the file is weights of ours that lie in no run folder")
    add("--num-classes", "of that PSPNet (default: 11)", type=_count)
    help = "of the PSPNet, where the file does not tell it (default: 8)"
    add("--output-stride", help, type=int, choices=[8, 16, 32])
    help = "how the PSPNet upsamples: no for most of mmsegmentation's (default: yes)"
    add("--align-corners", help, choices=["yes", "no"])

    data = commands.add_parser("data", help="commands about data", allow_abbrev=False)
    add = _add_command(data.add_subparsers(required=True, metavar="COMMAND"), "data check")
    add("folder", "images and label maps of your own, pairs.csv, or CamVid", metavar="FOLDER")
    add("--split", "one split (default: all)")
    _add_own_data(add)
    return parser


def _add_command(commands: Any, name: str) -> Callable[..., None]:
    """Adds a command; returns the function that adds arguments to it."""
    summary = COMMANDS[name]
    line = summary.partition("\n")[0].rstrip(".")
    command = commands.add_parser(
        name.split()[-1], description=summary, help=line, allow_abbrev=False
    )
    command.set_defaults(command=name)

    def add(name: str, help: str, **options: Any) -> None:
        if "default" in options:
            default = options["default"]
            shown = " ".join(map(str, default)) if isinstance(default, list) else default
            help = f"{help} (default: {shown})"
        command.add_argument(name, help=help, **options)

    return add


def _add_run_command(commands: Any, name: str) -> Callable[..., None]:
    """Adds a command about a run."""
    add = _add_command(commands, name)
    add("run", "run folder", metavar="RUN")
    add("--weights", "best or last", default="best")
    return add


def _add_own_data(add: Callable[..., None]) -> None:
    """Adds the options that say what label maps of one's own mean."""
    help = "class names of data of your own, or a file of them (default: the folder's classes.txt)"
    add("--classes", help, nargs="+", metavar="NAME")
    help = "what numbers in its label maps mean: from_0, from_1, binary, cityscapes, ade20k, voc"
    add("--labels", help)


def _add_views(add: Callable[..., None]) -> None:
    """Adds the options about views: what the model sees of each image."""
    add("--short-side", "shorter side, instead of --image-size", type=_count, metavar="PIXELS")
    add("--policy", "single, multi_scale, course, course_multi_scale; changed by the next four")
    help = "segment square windows of this side; smaller images are padded"
    add("--windows", help, type=_count, metavar="PIXELS")
    help = "step from one window to the next, as a share of its side (default: 2/3)"
    add("--stride", help, type=_real(0.01, 1), metavar="SHARE")
    help = "times that size (default: 1)"
    add("--scales", help, type=_real(0.01, 100), nargs="+", metavar="SCALE")
    add("--mirror", "average with the mirrored image", action="store_true")


def _real(least: float, most: float) -> Callable[[str], float]:
    """Returns what reads a number from `least` to `most` for argparse."""

    def read(text: str) -> float:
        try:
            if least <= (number := float(text)) <= most:
                return number
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(
            f"A number from {least:g} to {most:g} is needed. Received: {text}."
        )

    return read


def _seed(text: str) -> int:
    """Reads the seed of random numbers for argparse."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"A seed is 0, 1, … 2³² − 1. Received: {text}.")
    return int(text)


def _count(text: str) -> int:
    """Reads a number 1, 2, … for argparse, whose message then names the option."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"A count must be 1, 2, … Received: {text}.")
    return int(text)


_SIZE: dict[str, Any] = {"nargs": 2, "type": _count, "metavar": ("HEIGHT", "WIDTH")}
_DTYPE_POLICY: dict[str, Any] = {
    "help": "how layers compute: mixed_bfloat16 and mixed_float16 are faster on most GPUs "
    "(default: Keras' own, float32)",
    "choices": ["float32", "mixed_bfloat16", "mixed_float16"],
}
_CAMVID_FOLDER = "folder of camvid (default: $KERAS_PSP_DATA, or a download)"


def _default(name: str, table: Mapping[str, Mapping[str, Any]] = DEFAULTS) -> str:
    values = [f"{row[name]} for {case}" for case, row in table.items()]
    return f"default: {', '.join(values)}"
