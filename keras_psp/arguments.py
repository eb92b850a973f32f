"""The arguments of the command line, `keras-psp`: which there are, and what they mean.

Nothing here needs Keras. It takes seconds to import, and `--help` and usage errors need not wait.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_psp import __version__

FOLDER = "path/of/a/folder"
_SMALL = {"image_size": (120, 160), "augment": "flip", "batch_size": 4, "class_weights": 0.5}
DEFAULTS: dict[str, dict[str, Any]] = {
    "street-scenes": {**_SMALL, "epochs": 8, "scenes": 200},
    "camvid": {**_SMALL, "epochs": 6},
    FOLDER: {
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
        "Trains a PSPNet, or continues a run that was cut off; then scores its best weights."
    ),
    "evaluate": (
        "Scores the weights of a run on a split.\n"
        "Images and labels have the run's size, as in training. With one of the options from "
        "--short-side on, frames and labels keep their own size, as in papers."
    ),
    "predict": "Segments an image, all images of a folder, or a video; names the files that fail.",
    "export": "Writes the model of a run for other programs: ONNX, LiteRT, OpenVINO, SavedModel.",
    "tables": "Prints the tables of the papers, with their numbers beside those counted here.",
    "degradation": "Trains shallow and deep nets, plain and residual, and draws their errors.",
    "convert": (
        "Turns a checkpoint into weights or a model of ours. Its tensors tell which network it is."
    ),
    "data check": "Looks at every file of a data folder and says what is wrong.",
}
"""What each command does; in the list of all commands only the first line is shown."""

RATES = {"random": (0.02, 1.0), "trained": (0.01, 10.0)}
"""The learning rate and its multiplier on pyramid and heads, for a backbone that starts from random
values and for a trained one, as in the paper."""


def answer_at_once() -> None:
    """Answers the console script at once, and ends the process, where that needs no Keras.

    That is for `--help`, `--version` and wrong usage. The script imports its function, and with it
    the whole package. The package cannot import its parts later, when they are used: to load a
    saved model, Keras needs classes that were imported before. So the package calls this function
    before it imports the rest. With other arguments, and in other programs, it does nothing.
    """
    program = Path(sys.argv[0]).name if sys.argv else ""
    if program in ("keras-psp", "keras-psp.exe"):
        parse()


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
    description = "PSPNet: trains on street scenes, and segments them."
    parser = argparse.ArgumentParser("keras-psp", description=description, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"keras-psp {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = _add_command(commands, "train")
    add("--data", default="street-scenes", help=f"{', '.join(DEFAULTS)} (default: %(default)s)")
    add("--data-dir", help="folder of camvid (default: $KERAS_PSP_DATA, or a download)")
    add("--scenes", type=_count, help="street scenes to train on, and 1/4 to score (default: 200)")
    add("--run", help="run folder (default: runs/DATA-BACKBONE); an old run in it is continued")
    help = "resnet18 … resnet269, vgg16, googlenet, … (default: %(default)s)"
    add("--backbone", default="resnet18", help=help)
    help = "auto (ImageNet where it can be had), imagenet, none, or a file (default: auto)"
    add("--backbone-weights", default="auto", help=help)
    help = "start from the weights of a whole PSPNet, such as those of another run"
    add("--weights", metavar="FILE", help=help)
    help = "stride of the features: 8 (the paper's), 16 or 32 (default: %(default)s)"
    add("--output-stride", type=int, default=16, help=help)
    help = "save memory: compute a ResNet's blocks again on the way back (gradient checkpointing)"
    add("--recompute", action="store_true", help=help)
    add("--image-size", **_SIZE, help=f"pixels of the images ({_default('image_size')})")
    add("--crop-size", **_SIZE, help="pixels of the crops to train on (default: whole images)")
    add("--augment", help=f"authors, course, flip, scratch, none ({_default('augment')})")
    add("--batch-size", type=_count, help=f"images per step ({_default('batch_size')})")
    add("--epochs", type=_count, help=f"epochs to train ({_default('epochs')})")
    help = "epochs from one validation to the next (default: %(default)s)"
    add("--validation-freq", type=_count, default=1, help=help)
    rates, heads = zip(*RATES.values(), strict=True)
    default = "(default: {} for a backbone from random values, {} for a trained one)"
    help = f"at the beginning; it decays to 0 over the run {default.format(*rates)}"
    add("--learning-rate", type=float, help=help)
    help = f"multiplies that rate on pyramid and heads {default.format(*heads)}"
    add("--head-multiplier", type=float, help=help)
    help = "exponent of the median-frequency weights in the loss: 0 for none, 0.5 for their roots "
    add("--class-weights", type=float, metavar="POWER", help=f"{help}({_default('class_weights')})")
    add("--seed", type=int, default=1, help="of all random numbers (default: %(default)s)")

    add = _add_command(commands, "evaluate")
    add("run", metavar="RUN", help="run folder")
    add("--data", help="other data than the run's")
    add("--data-dir", help="folder of camvid")
    add("--split", default="val", help="default: %(default)s")
    add("--image-size", **_SIZE, help="pixels of the images (default: the run's)")
    add("--weights", default="best", help="best or last (default: %(default)s)")
    add("--compare", metavar="OTHER_RUN", help="a run to score on the same images, side by side")
    add("--out", help="folder of scores and pictures (default: RUN/evaluation-SPLIT[-own-size])")
    _add_views(add)

    add = _add_command(commands, "predict")
    add("run", metavar="RUN", help="run folder")
    add("images", metavar="IMAGE", help="what to segment: an image, a folder of images, or a video")
    add("--image-size", **_SIZE, help="pixels that the network sees (default: the run's)")
    add("--weights", default="best", help="best or last (default: %(default)s)")
    add("--out", help="folder of label maps and overlays (default: RUN/predictions)")
    _add_views(add)

    add = _add_command(commands, "export")
    add("run", metavar="RUN", help="run folder")
    add("path", metavar="PATH", help="*.onnx, *.tflite, *.xml (OpenVINO), *.keras, or a folder")
    formats = ["keras", "saved_model", "onnx", "litert", "openvino"]
    add("--format", choices=formats, help="default: that of PATH's ending")
    add("--image-size", **_SIZE, help="pixels of the images (default: any)")
    add("--batch-size", type=_count, help="images at once (default: any)")
    help = "type of the images (default: %(default)s)"
    add("--input-dtype", default="float32", choices=["float32", "uint8"], help=help)
    add("--classes", action="store_true", help="give the class of each pixel, not its logits")
    help = "8 bits, for LiteRT only: dynamic, or int8, calibrated on 32 training images"
    add("--quantize", choices=["dynamic", "int8"], help=help)
    add("--weights", default="best", help="best or last (default: %(default)s)")

    _add_command(commands, "tables")

    add = _add_command(commands, "degradation")
    help = "cifar10, or patches of camvid or street-scenes (default: %(default)s)"
    add("--data", default="camvid", choices=["cifar10", "camvid", "street-scenes"], help=help)
    add("--data-dir", help="folder of camvid (default: $KERAS_PSP_DATA, or a download)")
    add("--patches", type=_count, default=2000, help="of each class (default: %(default)s)")
    help = "training steps of each net, of 128 images; the default is the paper's"
    add("--steps", type=_count, default=64_000, help=help)
    names = ["plain-20", "plain-56", "ResNet-20", "ResNet-56"]
    help = f"default: {' '.join(names)}"
    add("--networks", nargs="+", choices=names, default=names, metavar="NETWORK", help=help)
    add("--seeds", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    help = "folder (default: %(default)s); old runs in it are continued"
    add("--run", default="runs/degradation", help=help)

    add = _add_command(commands, "convert")
    add("file", metavar="FILE", help="a checkpoint of PyTorch's, or weights or a model of ours")
    add("out", metavar="OUT", help="what to write: a .weights.h5 or a .keras file")
    help = "of the PSPNet, if the file is weights of ours, which do not tell their backbone"
    add("--backbone", help=help)
    add("--num-classes", type=_count, default=11, help="of that PSPNet (default: %(default)s)")
    help = "how the PSPNet upsamples: no for most of mmsegmentation's (default: yes)"
    add("--align-corners", choices=["yes", "no"], help=help)

    data = commands.add_parser("data", help="commands about data", allow_abbrev=False)
    add = _add_command(data.add_subparsers(required=True, metavar="COMMAND"), "data check")
    add("folder", metavar="FOLDER", help="images and label maps of your own, or CamVid")
    add("--split", help="one split (default: all)")
    add("--classes", nargs="+", metavar="NAME", help="class names (default: the folder's)")
    return parser


def _add_views(add: Any) -> None:
    """Adds the options about views: what the model sees of each image."""
    add("--short-side", type=_count, metavar="PIXELS", help="shorter side, instead of --image-size")
    help = "single, multi_scale, course, course_multi_scale; changed by the next four"
    add("--policy", help=help)
    help = "segment square windows of this side; smaller images are padded"
    add("--windows", type=_count, metavar="PIXELS", help=help)
    help = "step from one window to the next, as a share of its side (default: 2/3)"
    add("--stride", type=float, metavar="SHARE", help=help)
    add("--scales", type=float, nargs="+", metavar="SCALE", help="times that size (default: 1)")
    add("--mirror", action="store_true", help="average with the mirrored image")


def _count(text: str) -> int:
    """Reads a number 1, 2, … for argparse, whose message then names the option."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"A count must be 1, 2, … Received: {text}.")
    return int(text)


_SIZE: dict[str, Any] = {"nargs": 2, "type": _count, "metavar": ("HEIGHT", "WIDTH")}


def _add_command(commands: Any, name: str) -> Any:
    """Adds a command; returns the function that adds arguments to it."""
    summary = COMMANDS[name]
    line = summary.partition("\n")[0].rstrip(".")
    command = commands.add_parser(
        name.split()[-1], description=summary, help=line, allow_abbrev=False
    )
    command.set_defaults(command=name)
    return command.add_argument


def _default(name: str) -> str:
    values = [f"{row[name]} for {data}" for data, row in DEFAULTS.items()]
    return f"default: {', '.join(values)}"
