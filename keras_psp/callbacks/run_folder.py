"""What is written down while a model trains: a folder from which a killed run goes on, and pictures
of what the model says."""

import io
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.atomic import check_writable, read_table, write_table, write_whole
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.labels import ClassList
from keras_psp.metrics import MeanIoU, SegmentationScores

_CONFIG = "config.json"
_CHECKPOINT = "checkpoint.weights.h5"
_BEST = "best.weights.h5"
_HISTORY = "history.csv"
_PER_CLASS = "per_class.csv"


class RunFolder(keras.callbacks.Callback):
    """Writes down a training run, epoch by epoch, and resumes it where it was cut off.

    After every epoch the folder holds

    - `checkpoint.weights.h5`: weights and optimizer state, from which the next `fit` with the same
      folder goes on, in the same learning-rate schedule and, with a dataset of `load_camvid` and
      its like, with the order and the views that would have come;
    - `best.weights.h5`: the weights with the best validation mean IoU so far (the latest ones, as
      long as there is no such score);
    - `history.csv` and `curves.png`: losses and scores of all epochs;
    - `per_class.csv` and `per_class.png`: every class' IoU on the validation split;
    - `samples.png`: image, truth and prediction of some validation images;
    - `config.json`: the model, what its weights started from, versions, and the `settings`.

    Every file is written whole or not at all: a run killed at any moment loses at most the epoch it
    was in. A loss or a weight that is not finite ends the run with the last good weights, which are
    kept. Where several processes train together (JAX), the first one writes all but `samples.png`,
    and the folder must be one that all of them can read.

    Args:
        folder: The run folder; made if it does not exist.
        validation_data: A dataset of `(images, labels)` whose first images `samples.png` shows;
            `None` for no such picture.
        classes: Names and colors of the classes.
        settings: What else is worth writing down; anything that JSON can hold. A folder is resumed
            only with the same settings and model.
        num_samples: Number of images in `samples.png`.

    Raises:
        OSError: If the folder cannot be written to.
        ValueError: In `fit`, if the folder holds a run of another model or other settings, or what
            is no run, or if the model has not as many classes as `classes`.
        FloatingPointError: In `fit`, if the loss or a weight stops being finite.

    Example:

    ```python
    import tempfile
    import numpy as np
    import keras_psp

    images, labels = np.zeros((2, 33, 33, 3)), np.zeros((2, 33, 33), "int32")
    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    with tempfile.TemporaryDirectory() as folder:
        run = keras_psp.RunFolder(folder)
        model.fit(images, labels, epochs=1, callbacks=[run], verbose=0)
        assert (run.folder / "checkpoint.weights.h5").exists()
    ```
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        validation_data: Any = None,
        classes: ClassList = CAMVID,
        settings: Mapping[str, Any] | None = None,
        num_samples: int = 4,
    ):
        super().__init__()
        self.folder = Path(folder)
        self.classes = classes
        self.settings = dict(settings or {})
        self.history: list[dict[str, float]] = []
        # All processes must go through the same motions, for what Keras saves is spread over them.
        self._scratch = tempfile.TemporaryDirectory() if _process() else None
        self._out = Path(self._scratch.name) if self._scratch else self.folder
        self._samples = None
        # Keras' `predict` cannot bring together what several processes compute.
        if validation_data is not None and _process() is None:
            self._samples = _first_samples(validation_data, num_samples)
        check_writable(self._out)

    def on_train_begin(self, logs=None):
        _check_classes(self.model, self.classes)
        # An optimizer that has no variables yet would neither save nor load its state.
        self.model.optimizer.build(self.model.trainable_variables)
        config = self._config()
        started = self._read_config()
        if not _as_the_first_process(started is not None):
            self._write(_CONFIG, json.dumps(config, indent=1).encode())
            # What a loss that is not finite in the very first epoch leaves to go back to.
            self._save_checkpoint()
            return
        self._check_same_run(started, config)
        self.model.load_weights(self.folder / _CHECKPOINT)
        self.history = self._read_history()
        self.model.initial_weights = started["initial_weights"]
        if self.history:
            self.model._initial_epoch = int(self.history[-1]["epoch"]) + 1
            print(f"Going on after epoch {self.model._initial_epoch} of the run in {self.folder}.")
            # The kill may have come just before the checkpoint, or just after it.
            self._write_history()
            self._save_best()
            self._draw()

    def on_epoch_begin(self, epoch, logs=None):
        # Keras would begin every later `fit` there, too.
        self.model._initial_epoch = None

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None

    def _read_config(self):
        """What the run in the folder began with; `None` if there is none that can go on."""
        file, can_go_on = self.folder / _CONFIG, (self.folder / _CHECKPOINT).exists()
        if not file.exists() and not can_go_on:
            return None
        try:
            config = json.loads(file.read_text())
            if not {"model", "initial_weights", "settings"} <= config.keys():
                raise ValueError("not a run's")
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(
                f"A run needs a folder of its own. Received: folder='{self.folder}', whose "
                f"{_CONFIG} cannot be used ({error}). Choose another folder."
            ) from error
        return config if can_go_on else None

    def _config(self):
        model = json.loads(self.model.to_json())
        return {
            "model": model,
            "initial_weights": getattr(self.model, "initial_weights", "unknown"),
            "classes": {"names": self.classes.names, "colors": self.classes.colors},
            "settings": self.settings,
            "versions": {"keras": keras.__version__, "backend": keras.backend.backend()},
        }

    def _check_same_run(self, old, new):
        new = json.loads(json.dumps(new))
        pairs = {"settings": (old["settings"], new["settings"])}
        pairs["model"] = (_architecture(old), _architecture(new))
        for name, (then, now) in pairs.items():
            if then != now:
                keys = [k for k in {*then, *now} if then.get(k) != now.get(k)]
                changes = ", ".join(_change(k, then.get(k), now.get(k)) for k in sorted(keys))
                raise ValueError(
                    "A run is resumed with the model and the settings that it began with. "
                    f"Received: folder='{self.folder}', where the {name} changed ({changes}). "
                    "Take another folder, or the old settings."
                )

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"loss={loss} in step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        # The last step may have made weights that no loss has seen.
        if broken := [w.path for w in self.model.weights if not _is_finite(w)]:
            self._stop(f"{len(broken)} weights that are not, the first of them {broken[0]},")
        logs = {name: float(value) for name, value in (logs or {}).items()}
        rate = float(self.model.optimizer.learning_rate)
        self.history.append({"epoch": epoch, **logs, "learning_rate": rate})
        self._write_history()
        self._write_scores()
        # This is what makes the epoch count: after a kill, the tables are written again if it comes
        # before this, the rest if it comes after.
        self._save_checkpoint()
        self._save_best()
        self._draw()

    def _stop(self, received):
        epochs = len(self.history)
        self.model.load_weights(self.folder / _CHECKPOINT)
        raise FloatingPointError(
            f"Loss and weights must be finite. Received: {received} in epoch {epochs + 1}. "
            f"The weights after epoch {epochs} were put back; they lie in "
            f"{self.folder / _CHECKPOINT}. Lower the learning rate, or look for labels that are no "
            "class with keras_psp.check_data."
        )

    def _save_checkpoint(self):
        def save(file):
            import h5py

            self.model.save_weights(file)
            with h5py.File(file, "a") as checkpoint:
                checkpoint.attrs["epochs"] = len(self.history)

        self._write(_CHECKPOINT, save)

    def _read_history(self):
        import h5py

        with h5py.File(self.folder / _CHECKPOINT) as checkpoint:
            epochs = int(checkpoint.attrs["epochs"])
        if not epochs:
            return []
        rows = read_table(self.folder / _HISTORY)[:epochs]
        return [{name: float(value) for name, value in row.items() if value} for row in rows]

    def _save_best(self):
        scores = [row.get("val_mean_iou", -math.inf) for row in self.history]
        if scores[-1] == max(scores):
            self._write(_BEST, self.model.save_weights)

    def _write(self, name, content):
        write_whole(self._out / name, content)

    def _write_history(self):
        write_table(self._out / _HISTORY, self.history)

    def _write_scores(self):
        scores = find_scores(self.model)
        if scores is not None and "val_loss" in self.history[-1]:
            table = zip(self.classes.names, scores.per_class(), strict=True)
            rows = [{"class": name, "iou": value} for name, value in table]
            write_table(self._out / _PER_CLASS, rows)

    def _draw(self):
        from keras_psp import visualization

        visualization.training_curves(self._out / "curves.png", self._out / _HISTORY)
        if (self._out / _PER_CLASS).exists():
            iou = [float(row["iou"]) for row in read_table(self._out / _PER_CLASS)]
            visualization.per_class_bars(self._out / "per_class.png", iou, self.classes)
        if self._samples is not None:
            images, labels = self._samples
            predictions = [_predict(self.model, image) for image in images]
            file = self._out / "samples.png"
            visualization.segmentation_gallery(file, images, labels, predictions, self.classes)


class SegmentationPictures(keras.callbacks.Callback):
    """Draws what a model says about the same few images after every epoch.

    A picture shows image, truth, prediction and errors side by side, with a legend of all classes:
    in every epoch at the same place, so that a viewer can leaf through the epochs and
    `ffmpeg -i epoch-%04d.png` makes a film of them. They go to

    - `folder`, as `sample-01/epoch-0001.png`, …: a folder for every image, in the order of the
      epochs, which count from 1 as in the output of `fit`;
    - `log_dir`, for TensorBoard: the same pictures under the tags `sample-01`, … of the run
      `segmentations`, step by step beside the scores of `keras.callbacks.TensorBoard(log_dir)`,
      whose steps count epochs from 0. TensorBoard shows ten steps of an image unless it is started
      with `--samples_per_plugin images=1000`.

    Every file is written whole or not at all, and an epoch that is done again after a kill replaces
    its files. `keras_psp.RunFolder` keeps the latest segmentations of a run in one picture; this
    callback keeps all of them, with any Keras segmentation model.

    Args:
        data: What the first images are taken from: a dataset of `(images, labels)` or of images
            alone, a pair of arrays, or an array of images; RGB, 0–255, `(batch, height, width, 3)`.
        folder: Where to write the pictures as PNG files, or `None`.
        log_dir: TensorBoard's folder, or `None`. It is written to by means of TensorFlow, whatever
            backend Keras computes with; the package `tensorboard` is needed only for looking at it.
        classes: Names and colors of the classes.
        num_samples: Number of images.
        every: Epochs from one time to the next; the last epoch is always drawn.

    Raises:
        ImportError: If there is a `log_dir` and TensorFlow is not installed.
        OSError: If a folder cannot be written to.
        ValueError: If there is neither `folder` nor `log_dir`, or no image, or, in `fit`, if the
            model has not as many classes as `classes`.
        RuntimeError: If several processes train together, where Keras cannot predict.

    Example:

    ```python
    import numpy as np
    import keras_psp

    images, labels = np.zeros((2, 33, 33, 3)), np.zeros((2, 33, 33), "int32")
    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    pictures = keras_psp.SegmentationPictures((images, labels), "pictures", log_dir="logs")
    model.fit(images, labels, epochs=1, callbacks=[pictures], verbose=0)
    # and then, on the command line: tensorboard --logdir logs
    ```
    """

    def __init__(
        self,
        data: Any,
        folder: str | os.PathLike[str] | None = None,
        *,
        log_dir: str | os.PathLike[str] | None = None,
        classes: ClassList = CAMVID,
        num_samples: int = 4,
        every: int = 1,
    ):
        super().__init__()
        if folder is None and log_dir is None:
            raise ValueError(
                "Pictures are written to files, to TensorBoard, or both. Received: folder=None, "
                "log_dir=None. Give one of them."
            )
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every counts epochs. Received: every={every!r}. Pass 1 or more.")
        if _process() is not None:
            raise RuntimeError(
                "Keras predicts in one process only. Received: one of several that train together. "
                "Leave the callback out there, and draw with a process of its own."
            )
        self.folder = None if folder is None else Path(folder)
        self.log_dir = None if log_dir is None else Path(log_dir)
        self.classes = classes
        self.every = every
        self._images, self._labels = _first_samples(data, num_samples)
        if self.log_dir is not None:
            _import_tensorflow()
        for place in (self.folder, self.log_dir):
            if place is not None:
                check_writable(place)

    def on_train_begin(self, logs=None):
        _check_classes(self.model, self.classes)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every and epoch + 1 != self.params["epochs"]:
            return
        drawn = {f"sample-{i + 1:02d}": self._draw(i) for i in range(len(self._images))}
        if self.folder is not None:
            for name, picture in drawn.items():
                write_whole(self.folder / name / f"epoch-{epoch + 1:04d}.png", picture.save)
        if self.log_dir is not None:
            file = self.log_dir / "segmentations" / f"events.out.tfevents.{epoch + 1:04d}"
            _write_event(file, epoch, drawn)

    def _draw(self, number):
        from keras_psp import visualization

        image, labels = self._images[number], self._labels and [self._labels[number]]
        prediction = _predict(self.model, image)
        return visualization.segmentation_gallery(
            None, [image], labels, [prediction], self.classes, whole_legend=True
        )


def _first_samples(data: Any, number: int) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """The first images of a dataset, or of arrays, and their labels, if it has any."""
    is_one_batch = isinstance(data, tuple) or hasattr(data, "shape")
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch in [data] if is_one_batch else data:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        x = ops.convert_to_numpy(x)
        if x.ndim != 4:
            raise ValueError(
                "Images come in batches, (batch, height, width, 3). "
                f"Received: images of shape {x.shape}. Stack them, or put a list around a batch."
            )
        images += [*x]
        labels += [] if y is None else [*ops.convert_to_numpy(y)]
        if len(images) >= number:
            break
    if not images[:number]:
        raise ValueError(
            f"There must be an image to draw. Received: num_samples={number}, data with "
            f"{len(images)} images. Pass 1 or more, and data that holds some."
        )
    return images[:number], labels[:number] or None


def _predict(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """The label map of one image: in a batch of its own, for memory's sake."""
    return model.predict_on_batch(image[None])[0].argmax(-1)


def _check_classes(model: keras.Model, classes: ClassList) -> None:
    num_classes = getattr(model, "num_classes", len(classes))
    if num_classes != len(classes):
        raise ValueError(
            "The classes must be the model's. "
            f"Received: {len(classes)} classes, a model of num_classes={num_classes}. "
            "Pass classes=keras_psp.labels.ClassList(names)."
        )


def _import_tensorflow() -> Any:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "TensorBoard's files are written by TensorFlow, whatever backend Keras computes with. "
            "Received: a log_dir in a Python without TensorFlow. Install it (pip install "
            "tensorflow; Keras keeps its backend), or give a folder alone."
        ) from error
    return tf


def _write_event(file: Path, step: int, images: Mapping[str, Any]) -> None:
    """Writes images by tag for TensorBoard, in a file for this step alone."""
    # By hand: tf.summary.image needs the package `tensorboard`, and tf.summary.write takes hold of
    # all GPUs, which on JAX and PyTorch belong to somebody else.
    tf = _import_tensorflow()
    now = time.time()
    event = tf.compat.v1.Event(wall_time=now, step=step)
    for tag, picture in images.items():
        png = io.BytesIO()
        picture.save(png, "png")
        image = tf.compat.v1.Summary.Image(
            width=picture.width,
            height=picture.height,
            colorspace=3,
            encoded_image_string=png.getvalue(),
        )
        event.summary.value.add(tag=tag, image=image)

    def write(path):
        with tf.io.TFRecordWriter(str(path)) as records:
            for one in (tf.compat.v1.Event(wall_time=now, file_version="brain.Event:2"), event):
                records.write(one.SerializeToString())

    write_whole(file, write)


def find_scores(model: keras.Model) -> SegmentationScores | MeanIoU | None:
    """The metric of a compiled model that knows the IoU of every class, if there is one."""
    metrics = list(model.metrics)
    for metric in metrics:
        metrics += getattr(metric, "metrics", [])
        if isinstance(metric, (SegmentationScores, MeanIoU)):
            return metric
    return None


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    # A resumed run does not care whether ImageNet weights can still be had, nor how often a
    # backbone was built before in this process, which Keras counts in the names of its layers.
    model = {k: v for k, v in config["model"]["config"].items() if k != "initial_weights"}
    return {**model, "backbone": _without_names(model.get("backbone"))}


def _without_names(config: Any) -> Any:
    if isinstance(config, list):
        return [_without_names(value) for value in config]
    if not isinstance(config, dict):
        return config
    names = ("name", "keras_history", "input_layers", "output_layers")
    return {key: _without_names(value) for key, value in config.items() if key not in names}


def _change(name: str, then: Any, now: Any) -> str:
    change = f"{name}: {then} → {now}"
    return change if len(change) < 200 else f"{name} is another one"


def _as_the_first_process(value: bool) -> bool:
    """The value that the first of all processes has."""
    if _process() is None:
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(value))


def _process() -> int | None:
    """The number of this process, if there are several."""
    if keras.backend.backend() != "jax":
        return None
    import jax

    return jax.process_index() if jax.process_count() > 1 else None


def _is_finite(variable) -> bool:
    return bool(np.isfinite(ops.convert_to_numpy(variable)).all())
