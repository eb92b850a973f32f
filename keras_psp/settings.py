"""The settings of a run, from its arguments and defaults, and the data that they name."""

import argparse
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_psp.arguments import DEFAULTS, FOLDER
from keras_psp.callbacks import Run
from keras_psp.choices import check_name
from keras_psp.data import load_camvid, load_folder, load_street_scenes
from keras_psp.data.augmentation import PRESETS
from keras_psp.data.folder import find_own
from keras_psp.models import BACKBONES, SegmentationModel
from keras_psp.models.networks import NETWORKS

OWN_DATA = ("classes", "labels", "validation_split", "split_seed")
ONLY_WITH = {
    **dict.fromkeys(OWN_DATA, FOLDER),
    **dict.fromkeys(("data_dir", "split_by", "merging", "street_scenes"), "camvid"),
    "scenes": "street-scenes",
}
"""Options that say something about some data only."""


def network_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of the network: those given, and for the rest its usual ones, or those
    of the preset whose weights it starts from."""
    network = NETWORKS[check_name("model", args.model, NETWORKS)]
    given = {
        "backbone": args.backbone,
        "output_stride": args.output_stride,
        "fc_channels": args.fc_channels,
        "gradient_checkpointing": args.recompute or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    known = inspect.signature(network.build).parameters.keys()
    unknown = given.keys() - known
    if unknown:
        options = {"gradient_checkpointing": "recompute"}
        names = ", ".join(f"--{options.get(n, n).replace('_', '-')}" for n in sorted(unknown))
        raise ValueError(
            f"Not every network has every option. Received: {names} with --model {args.model}. "
            "Leave the option out."
        )
    if preset := SegmentationModel.presets.get(args.weights):
        own = known - {"num_classes"}  # which the data tell
        return {**{n: v for n, v in preset.arguments.items() if n in own}, **given}
    return {**network.usual, **given}


def run_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings that decide the outcome of a run; its folder records them."""
    defaults = _defaults(args.data)
    check_options(args.data, vars(args))
    settings = {
        name: defaults.get(name) if value is None else value
        for name, value in vars(args).items()
        if name not in ("command", "run", "traceback")
    }
    settings |= network_arguments(args)
    # Before the data are read, which may take minutes.
    check_name("backbone", settings["backbone"], BACKBONES)
    check_name("augmentation preset", settings["augment"], [*PRESETS, "none"])
    check_name("optimizer", args.optimizer, ["sgd", "adamw"])
    if args.optimizer == "adamw" and args.head_multiplier is not None:
        raise ValueError(
            "AdamW has one rate for all layers. "
            f"Received: --head-multiplier {args.head_multiplier} with --optimizer adamw. "
            "Leave it out."
        )
    if defaults is DEFAULTS[FOLDER] and settings["validation_split"] is None:
        settings["validation_split"] = None if "val" in find_own(args.data).splits else 0.2
    return settings


def check_options(data: str, given: Mapping[str, Any]) -> None:
    """Raises a ValueError if an option was given that says nothing about these data."""
    for option, others in ONLY_WITH.items():
        if given.get(option) is not None and others != _kind(data):
            raise ValueError(
                f"--{option.replace('_', '-')} goes with --data {others} only. "
                f"Received: --data {data}. Leave the option out, or name such data."
            )


def _kind(data: str) -> str:
    """Returns what these data are called where they are one of several kinds."""
    is_own = data not in DEFAULTS and (Path(data).is_dir() or Path(data).suffix == ".csv")
    return FOLDER if is_own else data


def _defaults(data: str) -> dict[str, Any]:
    """Returns the default settings of a run on these data."""
    return DEFAULTS[check_name("data set", _kind(data), DEFAULTS)]


def data_settings(run: Run, otherwise: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Returns a run's settings for its data, with changes; `otherwise` is the way to pass data."""
    settings = run.settings | changes
    if "data" not in settings:
        raise ValueError(
            "A run that keras-psp train did not make does not know its data. "
            f"Received: {run.folder} without settings. Pass {otherwise}."
        )
    return _defaults(settings["data"]) | settings


def load_data(settings: dict[str, Any], split: str, **options: Any) -> Any:
    """Loads a split of a run's data; without options, as it is scored."""
    options = {
        "image_size": settings["image_size"],
        "batch_size": settings["batch_size"],
        "seed": settings.get("seed", 0),
        "augment": None,
        "shuffle": False,
        "drop_remainder": False,
    } | options
    if settings["data"] == "street-scenes":
        scenes = settings.get("scenes") or DEFAULTS["street-scenes"]["scenes"]
        if split != "train":
            scenes = -(-scenes // 4)
        return load_street_scenes(split, num_images=scenes, **options)
    if settings["data"] == "camvid":
        options["split_by"] = settings.get("split_by") or "frame"
        options["merging"] = settings.get("merging") or "segnet"
        return load_camvid(split, data_dir=settings.get("data_dir"), **options)
    own = {n: settings[n] for n in OWN_DATA if settings.get(n) is not None}
    own["classes"] = class_names(settings.get("classes"))
    return load_folder(settings["data"], split, **own, **options)


def class_names(given: list[str] | None) -> list[str] | str | None:
    """Returns class names, or the file of them."""
    return given[0] if given and len(given) == 1 and Path(given[0]).is_file() else given
