"""Pictures of every epoch: what the model said then, as files and in TensorBoard's."""

import io
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp import SegmentationPictures, visualization
from keras_psp.callbacks import pictures
from keras_psp.labels import ClassList
from tests.callbacks.test_run_folder import ABC
from tests.tiny import Tiny, data


@pytest.fixture(scope="module")
def model():
    model = Tiny()
    # What a step does matters here, not how it is compiled.
    eagerly = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=eagerly)
    return model


def train(model, *callbacks, epochs):
    model.fit(*data(2), epochs=epochs, callbacks=callbacks, verbose=0)


@pytest.fixture
def drawn(monkeypatch):
    """What galleries are made of: images, truths, predictions. Each is one pixel of its number."""
    galleries = []

    def draw(file, images, truths, predictions, classes, *, whole_legend):
        assert (file, classes, whole_legend) == (None, ABC, True)
        galleries.append((images, truths, predictions))
        return Image.new("RGB", (3, 2), (len(galleries), 0, 0))

    monkeypatch.setattr(visualization, "segmentation_gallery", draw)
    return galleries


def number(png):
    """Which of the galleries a picture is."""
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (3, 2))
    return image.getpixel((0, 0))[0]


def files(folder):
    return {
        str(file.relative_to(folder)): number(file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def events(log_dir):
    """What TensorBoard reads in its files, in the order of their names: {(tag, step): picture}."""
    tf = pytest.importorskip("tensorflow")
    names = sorted(str(file) for file in (log_dir / "segmentations").iterdir())
    assert all("tfevents" in name for name in names)
    found = {}
    for record in tf.data.TFRecordDataset(names):
        event = tf.compat.v1.Event.FromString(record.numpy())
        assert abs(event.wall_time - time.time()) < 600
        if event.WhichOneof("what") == "file_version":
            assert event.file_version == "brain.Event:2"
        for value in event.summary.value:
            assert (value.image.width, value.image.height, value.image.colorspace) == (3, 2, 3)
            assert (value.tag, event.step) not in found
            found[value.tag, event.step] = number(value.image.encoded_image_string)
    return found


def test_pictures_show_what_each_epoch_predicted(model, tmp_path, drawn):
    images, labels = data(3, seed=1)
    said = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: said.append(model.predict_on_batch(images).argmax(-1))
    )
    log_dir = tmp_path / "logs"
    draw = SegmentationPictures(
        (images, labels), tmp_path / "files", log_dir=log_dir, classes=ABC, num_samples=2
    )
    train(model, look, draw, epochs=3)
    assert (said[0] != said[-1]).any()  # or it would not matter when
    for i, (image, truth, prediction) in enumerate(drawn):
        epoch, sample = divmod(i, 2)
        assert np.array_equal(image, images[[sample]])
        assert np.array_equal(truth, labels[[sample]])
        assert np.array_equal(prediction, said[epoch][[sample]])
    assert files(tmp_path / "files") == {
        f"sample-{sample:02d}/epoch-{epoch:04d}.png": 2 * (epoch - 1) + sample
        for sample in (1, 2)
        for epoch in (1, 2, 3)
    }
    assert events(log_dir) == {
        (f"sample-{sample:02d}", step): 2 * step + sample for sample in (1, 2) for step in (0, 1, 2)
    }

    # Epochs that are done again replace what there was.
    train(model, draw, epochs=1)
    assert len(drawn) == 8
    assert files(tmp_path / "files")["sample-01/epoch-0001.png"] == 7
    assert events(log_dir) == {
        ("sample-01", 0): 7,
        ("sample-02", 0): 8,
        **{("sample-01", step): 2 * step + 1 for step in (1, 2)},
        **{("sample-02", step): 2 * step + 2 for step in (1, 2)},
    }


def test_pictures_of_some_epochs_and_of_the_last(model, tmp_path, drawn):
    options = {"classes": ABC, "num_samples": 1, "every": 2}
    draw = SegmentationPictures(data(1), tmp_path / "files", **options)
    train(model, draw, epochs=5)
    names = [f"sample-01/epoch-000{epoch}.png" for epoch in (2, 4, 5)]
    assert list(files(tmp_path / "files")) == names
    assert [file.name for file in tmp_path.iterdir()] == ["files"]


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        images, labels = data(4)
        return images[[i]], labels[[i]]


@pytest.mark.parametrize("kind", ["pair", "images", "batches", "PyDataset", "tf.data", "no labels"])
def test_samples_are_the_first_of_whatever_data(model, tmp_path, drawn, kind):
    images, labels = data(4)
    if kind in ("tf.data", "no labels"):
        tf = pytest.importorskip("tensorflow")
        content = (images, labels) if kind == "tf.data" else images
        given = tf.data.Dataset.from_tensor_slices(content).batch(2)
    else:
        given = {
            "pair": (images, labels),
            "images": images,
            "batches": [(images[:2], labels[:2]), (images[2:], labels[2:])],
            "PyDataset": Sequence(),
        }[kind]
    draw = SegmentationPictures(given, tmp_path, classes=ABC, num_samples=3)
    epoch = keras.callbacks.CallbackList([draw], model=model, epochs=1)
    epoch.on_train_begin()
    epoch.on_epoch_end(0)
    assert np.array_equal([image for (image,), _, _ in drawn], images[:3])
    if kind in ("images", "no labels"):
        assert [truth for _, truth, _ in drawn] == [None] * 3
    else:
        assert np.array_equal([truth for _, (truth,), _ in drawn], labels[:3])


def test_real_pictures_of_a_run_have_one_size(model, tmp_path):
    draw = SegmentationPictures(data(1), tmp_path / "files", classes=ABC)
    train(model, draw, epochs=2)
    first, second = sorted((tmp_path / "files").rglob("*.png"))
    with Image.open(first) as one, Image.open(second) as other:
        assert one.size == other.size


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({}, ValueError, r"Received: folder=None, log_dir=None\. Give one of them"),
        ({"every": 0}, ValueError, r"at least 1\. Received: every=0\."),
        ({"num_samples": 0}, ValueError, r"Received: num_samples=0, data with 1 images\."),
        ({"data": []}, ValueError, r"Received: num_samples=4, data with 0 images\."),
        ({"data": data(1)[0][0]}, ValueError, r"images of shape \(6, 7, 3\)\. Stack them"),
    ],
)
def test_pictures_that_cannot_be_drawn(tmp_path, arguments, error, message):
    folder = {"folder": tmp_path} if arguments else {}
    with pytest.raises(error, match=message):
        SegmentationPictures(**{"data": data(1), **folder, **arguments})


def test_pictures_of_another_models_classes(model, tmp_path):
    draw = SegmentationPictures(data(1), tmp_path, classes=ClassList(["a", "b"]))
    with pytest.raises(ValueError, match="Received: num_classes=3, data of 2 classes"):
        train(model, draw, epochs=1)


def test_the_data_or_their_number_name_the_classes(tmp_path):
    model = Tiny(num_classes=11)
    scenes = keras_psp.load_street_scenes("val", (12, 16), 2, num_images=2)
    for given, name in [(scenes, "Road"), (data(1), "class 5")]:
        draw = SegmentationPictures(given, tmp_path)
        draw.set_model(model)
        draw.on_train_begin()
        assert draw.classes.names[5] == name


def test_tensorboard_needs_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"by TensorFlow, whatever backend .* a log_dir in a"):
        SegmentationPictures(data(1), log_dir=tmp_path)
    SegmentationPictures(data(1), tmp_path)


def test_one_of_several_processes_draws_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "processes", lambda: (2, 0))
    with pytest.raises(RuntimeError, match=r"in one process only\. Received: one of several"):
        SegmentationPictures(data(1), tmp_path)
