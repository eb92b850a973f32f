"""A run folder: everything about a training run, from which a killed run is resumed and which
`load_run` reads."""

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp import visualization
from keras_psp.atomic import check_writable, write_table, write_whole
from keras_psp.callbacks.samples import find_classes, first_samples, predict_labels
from keras_psp.checked import checked
from keras_psp.choices import check_name, did_you_mean
from keras_psp.data.info import Data, info_of
from keras_psp.data.sharding import processes
from keras_psp.keras_internals import set_initial_epoch
from keras_psp.labels import ClassList, check_same_classes, named_classes, numbered_classes
from keras_psp.metrics import MeanIoU
from keras_psp.models.presets import describe, rebuild
from keras_psp.warning import warn
from keras_psp.weights.comparing import warn_if_not_finite
from keras_psp.weights.keras_files import load_state, save_state
from keras_psp.weights.runs import BEST, CHECKPOINT, CONFIG, best_weights, read_config

_HISTORY = "history.csv"
_PER_CLASS = "per_class.csv"
_LOCK, _HOLDER = ".lock", ".lock_holder"


@checked
class RunFolder(keras.callbacks.Callback):
    """Records a training run, epoch by epoch, and resumes it where it was cut off.

    After every epoch the folder holds

    - `checkpoint.weights.h5`: weights and optimizer state. The next `fit` with the same folder
      resumes from it, in the same learning-rate schedule and, with a dataset of this package, with
      the same order and augmentation as if the run had not been cut off;
    - `best.weights.h5`: the weights with the best validation mean IoU so far (the latest weights,
      as long as there is no such score);
    - `history.csv` and `curves.png`: losses and scores of all epochs;
    - `per_class.csv` and `per_class.png`: every class' IoU on the validation split, empty for a
      class that is absent from it;
    - `samples.png`: image, truth and prediction of some validation images;
    - `config.json`: the model, the weights it started from, versions, classes, and the `settings`.

    Every file is written whole or not at all: a run killed at any moment loses at most the epoch it
    was in. One process at a time trains into a folder; any number may read it. If a loss or a
    weight is not finite, the run ends and the last good weights are restored. Where several
    processes train together (JAX), the first one writes all files but `samples.png`, and all of
    them must be able to read the folder.

    Args:
        folder: The run folder; made if it does not exist.
        validation_data: A dataset of `(images, labels)` whose first images `samples.png` shows;
            `None` for no such picture.
        classes: Names and colors of the classes. By default the model's or the data's own; where
            nobody tells them, the classes are numbered.
        settings: Further facts to record; anything that JSON can hold. A folder is resumed only
            with the same settings and model.
        num_samples: Number of images in `samples.png`.

    Raises:
        OSError: If the folder cannot be written to, or no longer, while the model trains.
        ValueError: In `fit`, if the folder holds another model, other settings, or no run at all,
            if another process trains into it, or if model and classes do not agree.
        FloatingPointError: In `fit`, if the loss or a weight stops being finite.

    Example:

    ```python
    import keras_psp

    train, val = keras_psp.load_street_scenes(["train", "val"], (48, 64), 4, num_images=4)
    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    run = keras_psp.RunFolder("runs/streets")
    model.fit(train, validation_data=val, epochs=2, callbacks=[run], verbose=0)
    print(sorted(file.name for file in run.folder.glob("*.weights.h5")))
    ```

    ```text
    ['best.weights.h5', 'checkpoint.weights.h5']
    ```
    """

    classes: ClassList  # Known when the training begins.

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        validation_data: "Data | None" = None,
        classes: ClassList | None = None,
        settings: Mapping[str, Any] | None = None,
        num_samples: int = 4,
    ):
        super().__init__()
        self.folder = Path(folder)
        self._classes_from = info_of(validation_data), classes
        self.settings = dict(settings or {})
        try:
            json.dumps(self.settings)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "Settings are what JSON can hold: text, numbers of Python, lists, dictionaries. "
                f"Received: settings={self.settings} ({error}). Turn numbers of NumPy into int or "
                "float."
            ) from error
        self.history: list[dict[str, float]] = []
        self._per_class: list[float] = []
        count, number = processes()
        # All processes must save together: what Keras saves is spread over them.
        self._scratch = tempfile.TemporaryDirectory() if number else None
        self._out = Path(self._scratch.name) if self._scratch else self.folder
        self._lock: Any = None
        self._samples = None
        # Keras' `predict` cannot gather the results of several processes.
        if validation_data is not None and count == 1:
            self._samples = first_samples(validation_data, num_samples)
        check_writable(self._out)

    def on_train_begin(self, logs=None):
        self._read_config()  # Nothing is put into the folder of something else.
        if self._scratch is None:
            self._lock = _lock(self.folder)
        try:
            self._begin()
        except BaseException:
            self._release()
            raise

    def _begin(self):
        self.classes = find_classes(self.model, *self._classes_from)
        if getattr(self.model, "classes", self.classes) is None:
            self.model.classes = named_classes(self.classes)
        # An optimizer without variables would neither save nor load its state. One that scales
        # losses would get its own twice.
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        config = self._config()
        started = self._read_config()
        if not _as_the_first_process(started is not None):
            self._write(CONFIG, config.encode())
            # To go back to, if a loss of the very first epoch is not finite.
            self._save_checkpoint()
            return
        now = json.loads(config)
        check_unchanged(self.folder, "settings", started["settings"], now["settings"])
        check_unchanged(self.folder, "model", _architecture(started), _architecture(now))
        optimizers = [{"optimizer": config.get("optimizer")} for config in (started, now)]
        check_unchanged(self.folder, "run", *optimizers)
        progress = load_state(self.model, self.folder / CHECKPOINT)
        if progress is None:
            raise ValueError(
                f"A run is resumed by the history in its {CHECKPOINT}. Received: "
                f"folder='{self.folder}', in which it has none, as in older versions of keras_psp. "
                f"Take another folder; the weights in {BEST} can be the first ones there."
            )
        self.history, self._per_class = progress
        self.model.initial_weights = started["initial_weights"]
        if self.history:
            epoch = int(self.history[-1]["epoch"]) + 1
            set_initial_epoch(self.model, epoch)
            if epoch < self.params["epochs"]:
                print(f"Going on after epoch {epoch} of the run in {self.folder}.")
            else:
                print(
                    f"The run in {self.folder} is complete after epoch {epoch}. To go on, train "
                    f"with more epochs, such as {2 * epoch}; to begin anew, take another folder."
                )
                # What `fit` returns then has the losses of the run.
                for name in self.history[-1].keys() - {"epoch"}:
                    values = [row[name] for row in self.history if name in row]
                    self.model.history.history[name] = values
            # The checkpoint is the truth: the kill may have come just before it, or just after.
            self._write_tables()
            self._save_best()
            self._draw()

    def on_epoch_begin(self, epoch, logs=None):
        # Else Keras would begin every later `fit` there, too.
        set_initial_epoch(self.model, None)

    def on_train_end(self, logs=None):
        set_initial_epoch(self.model, None)
        self._release()

    def _release(self):
        if self._lock is not None:
            # A `fit` that was interrupted in this process still holds it, too.
            self._lock.release(force=True)

    def _read_config(self):
        """Reads the config of the run in the folder; `None` if there is no run to resume."""
        file, can_go_on = self.folder / CONFIG, (self.folder / CHECKPOINT).exists()
        if not file.exists() and not can_go_on:
            return None
        try:
            config = read_config(file)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"A run needs a folder of its own. Received: folder='{self.folder}', whose "
                f"{CONFIG} cannot be used. Choose another folder. ({error})"
            ) from error
        if not can_go_on and (self.folder / BEST).exists():
            raise ValueError(
                f"A run is resumed from its {CHECKPOINT}. Received: folder='{self.folder}', which "
                f"has lost it. Take another folder; the weights in {BEST} can be the first ones "
                "there."
            )
        return config if can_go_on else None

    def _config(self) -> str:
        config = describe(self.model, self.classes, self.settings)
        optimizer = self.model.optimizer
        config["optimizer"] = type(optimizer).__name__
        if hasattr(optimizer, "inner_optimizer"):
            config["optimizer"] += f" of {type(optimizer.inner_optimizer).__name__}"
        return json.dumps(config, indent=1)

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"loss={loss} in step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        # No loss has seen the weights of the last step.
        broken = [
            variable.path
            for variable in self.model.weights
            if not np.isfinite(ops.convert_to_numpy(variable)).all()
        ]
        if broken:
            self._stop(f"{len(broken)} weights that are not, the first of them {broken[0]},")
        logs = {name: float(value) for name, value in (logs or {}).items()}
        rate = float(self.model.optimizer.learning_rate)
        self.history.append({"epoch": epoch, **logs, "learning_rate": rate})
        scores = find_scores(self.model)
        if scores is not None and "val_loss" in logs:
            self._per_class = list(map(float, scores.per_class()))
        with self._writing():
            self._write_all()

    def _write_all(self):
        self._write_tables()
        # With the checkpoint the epoch counts. After a kill before it, the epoch is repeated, and
        # its tables are written again; after a kill behind it, the files below are.
        self._save_checkpoint()
        self._save_best()
        self._draw()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            if not (self._scratch or (self.folder / CONFIG).exists()):
                raise OSError(f"it has no {CONFIG} any more")
            yield
        except (OSError, RuntimeError) as error:  # HDF5 has both for a full disk.
            raise OSError(
                "A run is written after every epoch. "
                f"Received: folder='{self.folder}', which cannot be written to ({error}). Its "
                f"files are whole, and {CHECKPOINT} is of the last epoch that was written. Make "
                "room, then start the same training again: it resumes there."
            ) from error

    def _stop(self, received):
        epochs = len(self.history)
        load_state(self.model, self.folder / CHECKPOINT)
        raise FloatingPointError(
            f"Loss and weights must be finite. Received: {received} in epoch {epochs + 1}. "
            f"The weights after epoch {epochs} were put back; they lie in "
            f"{self.folder / CHECKPOINT}. Lower the learning rate, or look for labels that are no "
            "class with keras_psp.check_data."
        )

    def _save_checkpoint(self):
        progress = [self.history, self._per_class]
        self._write(CHECKPOINT, lambda file: save_state(self.model, file, progress))

    def _save_best(self):
        scores = [row.get("val_mean_iou", -math.inf) for row in self.history]
        if scores[-1] == max(scores):
            self._write(BEST, lambda file: save_state(self.model, file))

    def _write(self, name, content):
        write_whole(self._out / name, content)

    def _write_tables(self):
        write_table(self._out / _HISTORY, self.history)
        if self._per_class:
            table = zip(self.classes.names, self._per_class, strict=True)
            rows = [{"class": name, "iou": value} for name, value in table]
            write_table(self._out / _PER_CLASS, rows)

    def _draw(self):
        if self._scratch:
            return  # which nobody looks into
        visualization.training_curves(self._out / "curves.png", self._out / _HISTORY)
        if self._per_class:
            file = self._out / "per_class.png"
            visualization.per_class_bars(file, self._per_class, self.classes)
        if self._samples is not None:
            images, labels = self._samples
            predictions = [predict_labels(self.model, image) for image in images]
            file = self._out / "samples.png"
            visualization.segmentation_gallery(file, images, labels, predictions, self.classes)


def _lock(folder: Path) -> Any:
    """Lets no other process train into a folder until this one has ended, or releases it."""
    if importlib.util.find_spec("filelock") is None:
        return _without_lock(folder, "the package filelock is not installed")
    import filelock

    lock = filelock.FileLock(folder / _LOCK, timeout=0, thread_local=False, is_singleton=True)
    try:
        _check_locks(folder)
        lock.acquire()
    except filelock.Timeout as error:
        holder = folder / _HOLDER
        who = holder.read_text() if holder.exists() else "another process"
        raise ValueError(
            "One process at a time trains into a folder. "
            f"Received: folder='{folder}', into which {who} trains. Wait until it has ended, or "
            "take another folder."
        ) from error
    except (OSError, NotImplementedError) as error:
        return _without_lock(folder, f"its file system has no locks: {error}")
    since = time.strftime("%Y-%m-%d %H:%M")
    who = f"process {os.getpid()} on {platform.node()}, since {since},"
    write_whole(folder / _HOLDER, who.encode())
    return lock


def _check_locks(folder: Path) -> None:
    """Raises an OSError where the file system has no locks.

    There filelock goes by whether a file exists, which a killed process leaves. On another machine
    nobody can know that the process has ended, and the run could not be resumed.
    """
    if sys.platform != "win32":
        import fcntl

        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_UN)


def _without_lock(folder: Path, reason: str) -> None:
    warn(
        f"See to it that no other process trains into this folder. Received: folder='{folder}', "
        f"which cannot be locked ({reason}).",
    )


def find_scores(model: keras.Model) -> MeanIoU | None:
    """Returns the metric of a compiled model that has the IoU of every class, if there is one."""
    metrics = list(model.metrics)
    for metric in metrics:
        metrics += getattr(metric, "metrics", [])
        if isinstance(metric, MeanIoU):
            return metric
    return None


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    # These may differ in a resumed run: whether ImageNet weights can still be had, whether classes
    # have names by now, and the names of a backbone's layers, in which Keras counts how many were
    # built before.
    stays = config["model"]["config"].items()
    model = {k: v for k, v in stays if k not in ("initial_weights", "classes")}
    return {**model, "backbone": _without_names(model.get("backbone"))}


def _without_names(config: Any) -> Any:
    if isinstance(config, list):
        return [_without_names(value) for value in config]
    if not isinstance(config, dict):
        return config
    names = ("name", "keras_history", "input_layers", "output_layers")
    return {key: _without_names(value) for key, value in config.items() if key not in names}


def check_unchanged(
    folder: Path, name: str, then: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Raises a ValueError if the settings, or what `name` says, are not those of the folder."""
    changes = []
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            change = f"{key}: {then.get(key)} → {now.get(key)}"
            changes.append(change if len(change) < 200 else f"{key} is another one")
    if changes:
        raise ValueError(
            "A run is resumed with the model and the settings that it began with. "
            f"Received: folder='{folder}', where the {name} changed ({', '.join(changes)}). "
            "Take another folder, or the old settings."
        )


def keep_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Records the settings of an experiment in its folder; raises a ValueError if there are others
    already."""
    file, now = folder / "settings.json", json.dumps(settings, indent=1)
    if file.exists():
        check_unchanged(folder, "settings", json.loads(file.read_text()), json.loads(now))
    else:
        write_whole(file, now.encode())


def _as_the_first_process(value: bool) -> bool:
    """Returns the value that the first of all processes has."""
    if processes()[0] == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(value))


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Args:
        folder: The folder.
        model: The model, with the weights that were asked for.
        classes: Names and colors of its classes.
        settings: The run's settings: data, sizes, rates, ….
    """

    folder: Path
    model: keras.Model
    classes: ClassList
    settings: dict[str, Any]


@checked
def load_run(folder: str | os.PathLike[str], weights: str = "best") -> Run:
    """Rebuilds the model of a run folder.

    Args:
        folder: A folder that `RunFolder` wrote; or a file of weights in it, which are then taken.
            Or one that `save_to_preset` wrote.
        weights: `"best"`, those with the best validation mean IoU, or `"last"`, those of the last
            epoch.

    Returns:
        A `Run`: `.model`, `.classes` and `.settings`.

    Raises:
        FileNotFoundError: If the folder holds no run, or one that has not finished an epoch.
        ValueError: If there are no such weights, or if the run is of another version of this
            package, in which the model was built otherwise.

    Example:

    ```python
    import keras_psp

    train, val = keras_psp.load_street_scenes(["train", "val"], (48, 64), 4, num_images=4)
    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    run = keras_psp.RunFolder("runs/streets")
    model.fit(train, validation_data=val, epochs=2, callbacks=[run], verbose=0)

    again = keras_psp.load_run("runs/streets")
    print(again.model.classes.names[:3])
    ```

    ```text
    ('Building', 'Tree', 'Sky')
    ```
    """
    files = {"best": best_weights(Path(folder)).name, "last": CHECKPOINT}
    folder, file = Path(folder), files[check_name("weights", weights, files)]
    if folder.is_file():
        folder, file = folder.parent, folder.name
    for name, origin in ((CONFIG, "keras-psp train"), (file, "its first finished epoch")):
        if not (folder / name).is_file():
            lacks = f"has no {name}: {origin} writes it" if folder.exists() else "does not exist"
            raise FileNotFoundError(
                f"A run folder holds {CONFIG} and {file}. Received: folder='{folder}', which "
                f"{lacks}. {'' if folder.exists() else did_you_mean(folder)}Check the path, or "
                "train first."
            )
    config = read_config(folder / CONFIG)
    model = rebuild(config["model"], folder / file)
    load_state(model, folder / file)
    warn_if_not_finite(model, f"folder='{folder}'")
    known, num_classes = config["classes"], model.outputs[0].shape[-1]
    classes = ClassList(**known) if known else numbered_classes(num_classes)
    check_same_classes(num_classes, classes)
    if getattr(model, "classes", classes) is None:
        model.classes = named_classes(classes)
    return Run(folder, model, classes, config["settings"])
