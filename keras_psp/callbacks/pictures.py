"""Pictures of what a model predicts, after every epoch of its training."""

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_psp import visualization
from keras_psp.atomic import check_writable, write_whole
from keras_psp.callbacks.samples import find_classes, first_samples, predict_labels
from keras_psp.checked import checked
from keras_psp.data.info import Data, info_of
from keras_psp.data.sharding import processes
from keras_psp.labels import ClassList


@checked
class SegmentationPictures(keras.callbacks.Callback):
    """Draws a model's predictions for the same few images after every epoch.

    A picture shows image, truth, prediction and errors side by side, with a legend of all classes.
    All epochs have the same layout, so that a viewer can leaf through them and
    `ffmpeg -i epoch-%04d.png` makes a film of them. The pictures go to

    - `folder`, as `sample-01/epoch-0001.png`, …: a folder for every image. Epochs count from 1, as
      in the output of `fit`;
    - `log_dir`, for TensorBoard: the same pictures under the tags `sample-01`, … of the run
      `segmentations`, beside the scores of `keras.callbacks.TensorBoard(log_dir)`, whose steps
      count epochs from 0. TensorBoard shows ten steps of an image unless it is started with
      `--samples_per_plugin images=1000`.

    Every file is written whole or not at all, and an epoch that is repeated after a kill replaces
    its files. `keras_psp.RunFolder` keeps the latest segmentations of a run in one picture; this
    callback keeps all of them, with any Keras segmentation model.

    Args:
        data: The data whose first images are drawn: a dataset of `(images, labels)` or of images
            alone, a pair of arrays, or an array of images; RGB, 0–255, `(batch, height, width, 3)`.
        folder: Where to write the pictures as PNG files, or `None`.
        log_dir: TensorBoard's folder, or `None`. TensorFlow writes it, whatever backend Keras
            computes with; only looking at it needs the package `tensorboard`.
        classes: Names and colors of the classes. By default the model's or the data's own; where
            nobody tells them, the classes are numbered.
        num_samples: Number of images.
        every: Number of epochs from one picture to the next; the last epoch is always drawn.

    Raises:
        ImportError: If there is a `log_dir` and TensorFlow is not installed.
        OSError: If a folder cannot be written to.
        ValueError: If there is neither `folder` nor `log_dir`, or no image, or, in `fit`, if model
            and classes do not agree.
        RuntimeError: If several processes train together, where Keras cannot predict.

    Example:

    ```python
    import keras_psp

    train, val = keras_psp.load_street_scenes(["train", "val"], (48, 64), 4, num_images=4)
    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    pictures = keras_psp.SegmentationPictures(val, "pictures", log_dir="logs")
    model.fit(train, epochs=1, callbacks=[pictures], verbose=0)
    # and then, on the command line: tensorboard --logdir logs
    ```
    """

    classes: ClassList  # Known when the training begins.

    def __init__(
        self,
        data: Data,
        folder: str | os.PathLike[str] | None = None,
        *,
        log_dir: str | os.PathLike[str] | None = None,
        classes: ClassList | None = None,
        num_samples: int = 4,
        every: int = 1,
    ):
        super().__init__()
        if folder is None and log_dir is None:
            raise ValueError(
                "Pictures are written to files, to TensorBoard, or both. Received: folder=None, "
                "log_dir=None. Give one of them."
            )
        if processes()[0] > 1:
            raise RuntimeError(
                "Keras predicts in one process only. Received: one of several that train together. "
                "Leave the callback out there, and draw with a process of its own."
            )
        self.folder = None if folder is None else Path(folder)
        self.log_dir = None if log_dir is None else Path(log_dir)
        self._classes_from = info_of(data), classes
        self.every = every
        self._images, self._labels = first_samples(data, num_samples)
        if self.log_dir is not None:
            _import_tensorflow()
        for place in (self.folder, self.log_dir):
            if place is not None:
                check_writable(place)

    def on_train_begin(self, logs=None):
        self.classes = find_classes(self.model, *self._classes_from)

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
        image, labels = self._images[number], self._labels and [self._labels[number]]
        prediction = predict_labels(self.model, image)
        return visualization.segmentation_gallery(
            None, [image], labels, [prediction], self.classes, whole_legend=True
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
    # By hand: tf.summary.image needs the package `tensorboard`, and tf.summary.write occupies all
    # GPUs, also those that JAX or PyTorch uses.
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
