"""The folders that weights come from: `keras_psp.RunFolder` and `save_to_preset` write them."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_psp.labels import ClassList, named_classes
from keras_psp.untrusted import check_regular
from keras_psp.warning import warn
from keras_psp.weights.checkpoints import variant_of

CONFIG = "config.json"
CHECKPOINT = "checkpoint.weights.h5"
BEST = "best.weights.h5"
WEIGHTS = "model.weights.h5"

# Arguments of our networks that no tensor tells, beside the backbone's name.
UNSEEN = ("output_stride", "align_corners", "bins", "padding", "at_once")


class RunFiles(NamedTuple):
    """The folder of a run or preset, or a file in one, that was named as a source of weights.

    Attributes:
        folder: The folder.
        weights: The file of weights.
        config: What `config.json` says.
    """

    folder: Path
    weights: Path
    config: dict[str, Any]

    @property
    def classes(self) -> ClassList | None:
        """Names and colors of the classes, unless they are mere numbers."""
        known = self.config.get("classes")
        return named_classes(ClassList(**known) if known else None)


def best_weights(folder: Path) -> Path:
    """The file of the best weights in the folder of a run or preset, which has but one."""
    own = folder / WEIGHTS
    return own if own.exists() else folder / BEST


def read_config(file: Path) -> dict[str, Any]:
    """Reads the `config.json` of a run; raises a ValueError if it is damaged, or no run's."""
    try:
        check_regular(file)
        config = json.loads(file.read_text(encoding="utf-8"))
        if missing := {"model", "initial_weights", "settings", "classes"}.difference(config):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        for part in (config["settings"], config["model"]["config"], config["classes"] or {}):
            if not isinstance(part, dict):
                raise ValueError(f"it has {part!r} in place of a dictionary")
        if config["classes"]:
            ClassList(**config["classes"])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"A run keeps in {CONFIG} how its model is built. Received: file='{file}', which is "
            f"damaged, or no run's ({error}). Take another copy of it; without it, the weights "
            f"load into a model that is built anew: keras_psp.PSPNet(…, weights='{BEST}')."
        ) from error
    return config


def find_run(path: str | os.PathLike[str]) -> RunFiles | None:
    """Returns the run or preset whose folder or file of weights this is, or `None`."""
    path = Path(path)
    if not (path.is_dir() or path.name.endswith(".weights.h5")):
        return None
    folder, weights = (path, best_weights(path)) if path.is_dir() else (path.parent, path)
    try:
        return RunFiles(folder, weights, read_config(folder / CONFIG))
    except FileNotFoundError:
        return None
    except ValueError:
        if path.is_dir():
            raise
        return None  # A file may lie beside the config of something else.


def warn_of_differences(model: keras.Model, run: RunFiles) -> None:
    """Warns if a model that gets the weights of a run is not the run's, and no tensor tells."""
    started = run.config["model"]["config"]
    own = {name: getattr(model, name) for name in UNSEEN if hasattr(model, name)}
    if isinstance(started.get("backbone"), str):
        own["backbone"] = variant_of(model)
    # JSON knows no tuples.
    own = {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}
    theirs = {name: started[name] for name in own if started.get(name, own[name]) != own[name]}
    if theirs:
        asked, received = (
            ", ".join(f"{name}={values[name]!r}" for name in theirs) for values in (theirs, own)
        )
        warn(
            f"The weights of the run in {run.folder} were trained in a model with {asked}. "
            f"Received: weights='{run.weights}' for a model with {received}, in which they answer "
            f"otherwise. Build it with {asked}, or take keras_psp.load_run('{run.folder}').model.",
        )
