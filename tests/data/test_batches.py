"""Batches without TensorFlow: a function of epoch and number, whoever asks for them, and when."""

import dataclasses
import sys
import threading

import keras
import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp.data import Batches, DatasetInfo, LoadingOptions
from keras_psp.data.pipeline import make_dataset
from keras_psp.data.reading import DataError, LabeledImage
from keras_psp.labels import ClassList, LabelValues

pytestmark = pytest.mark.usefixtures("without_xla")

NAMES = ClassList(["one", "two"])


@pytest.fixture
def on_jax(monkeypatch):
    """What the loaders return on another backend: this process computes with TensorFlow."""
    monkeypatch.setattr("keras_psp.data.pipeline.keras.backend.backend", lambda: "jax")


def numbered(length=5, info=None):
    return Batches(lambda epoch, index: (np.array([epoch]), np.array([index])), length, info)


def keys(data):
    return [(int(epoch[0]), int(index[0])) for epoch, index in data]


def test_a_batch_depends_on_epoch_and_number_alone():
    data = numbered()
    for index in (3, 0, 0, 4, 3):
        assert keys([data[index]]) == [(0, index)]
        data.on_epoch_begin()
        data.on_epoch_end()
    assert keys(data) == keys(data) == [(0, i) for i in range(5)]
    data.set_epoch(2)
    assert keys(data) == [(2, i) for i in range(5)]
    with pytest.raises(IndexError, match=r"numbered 0 … 4\. Received: 5"):
        data[5]


def test_an_early_epoch_leaves_nothing_behind():
    data = numbered()
    assert keys([data[0], data[1]]) == [(0, 0), (0, 1)]  # The next ones are being made.
    data.set_epoch(1)
    assert keys(data) == [(1, i) for i in range(5)]


def test_the_next_batches_are_made_by_threads_meanwhile():
    made, both = [], threading.Event()

    def make(epoch, index):
        made.append((index, threading.current_thread()))
        if index == 3:
            both.set()
        return (np.zeros(1),)

    data = Batches(make, 9)
    data[0]
    assert made == [(0, threading.main_thread())]  # Whoever wants one batch gets one.
    data[1]
    assert both.wait(10)
    assert threading.main_thread() not in [thread for _, thread in made[1:]]
    list(data)
    numbers = [index for index, _ in made]
    assert max(numbers) == 8
    assert len(numbers) <= 9 + 1 + 1 + data._threads + 2  # Nothing is made twice within an epoch.


def test_errors_of_threads_come_with_their_batch():
    def make(epoch, index):
        if index == 2:
            raise DataError("unreadable", "frame 2 is broken")
        return (np.array([index]),)

    data = Batches(make, 4)
    assert [int(data[i][0][0]) for i in (0, 1)] == [0, 1]
    with pytest.raises(DataError, match="frame 2 is broken"):
        data[2]
    assert int(data[3][0][0]) == 3


def test_keras_brings_no_threads_of_its_own():
    # They keep what they read ahead, and hand it out at the beginning of the next epoch. See also
    # test_order_and_views_go_on_too on JAX and PyTorch.
    assert numbered().workers == 1


def test_maps_and_parts_keep_what_is_known():
    data = numbered(info=DatasetInfo(ClassList(["a"]), shuffled=True))
    part = data.map(lambda epoch, index: (epoch, 10 * index)).take(2)
    part.set_epoch(4)
    assert keys(part) == [(4, 0), (4, 10)]
    assert len(part) == 2
    assert (part.class_names, part.info.shuffled) == (["a"], True)
    assert len(data.take(9)) == 5


def arrays(data):
    return [tuple(map(keras.ops.convert_to_numpy, batch)) for batch in data]


OPTIONS = {
    "view": {"augment": "view", "crop_size": (40, 50)},
    "flip": {"augment": "flip"},
    "centered": {"augment": "flip", "crop_size": (20, 30), "centered_on": ["SignSymbol", "Car"]},
    "middle": {"augment": None, "crop_size": (30, 40)},
    "uncached": {"augment": "view", "cache": False},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("split", ["train", "val"])
def test_both_ends_have_the_same_order_and_views(name, split, monkeypatch):
    def load():
        options = dict(OPTIONS[name])
        if options["augment"] == "view":
            options["augment"] = keras_psp.data.augmentation.RandomView(
                44, 70, scale=(0.5, 2.0), degrees=30, rotation_probability=0.6
            )
        return keras_psp.load_street_scenes(split, (48, 64), 4, num_images=10, seed=3, **options)

    tensors = load()
    monkeypatch.setattr("keras_psp.data.pipeline.keras.backend.backend", lambda: "jax")
    batches = load()
    assert len(batches) == len(tensors) == (2 if split == "train" else 3)
    assert batches.info == tensors.info
    for attribute in ("class_names", "class_colors", "sample_names"):
        assert getattr(batches, attribute) == getattr(tensors, attribute)
    for epoch in (0, 3):
        for data in (tensors, batches):
            data.set_epoch(epoch)
        for one, other in zip(arrays(tensors), arrays(batches), strict=True):
            assert [part.dtype for part in one] == [part.dtype for part in other]
            np.testing.assert_allclose(one[0], other[0], atol=1)
            assert abs(np.mean(one[0] - other[0])) < 0.3  # Nothing becomes darker or brighter.
            assert np.mean(one[1] == other[1]) > 0.999  # Half-way between two pixels may differ.


@dataclasses.dataclass(frozen=True)
class Plain:
    """An image of one color, and of class 0."""

    name: str
    color: tuple[int, int, int]

    def read(self, size, antialias):
        return np.full((*size, 3), self.color, np.uint8), np.zeros(size, np.uint8)


def test_other_layers_have_the_same_distribution(monkeypatch, rng):
    colors = rng.integers(40, 200, (160, 3))
    samples = [Plain(str(number), tuple(color)) for number, color in enumerate(colors)]

    def load():
        options = LoadingOptions((12, 16), 40, augment="scratch")
        return make_dataset(samples, DatasetInfo(NAMES, split="train"), options)

    means = [np.concatenate([x.mean((1, 2)) for x, _ in arrays(load())])]
    monkeypatch.setattr("keras_psp.data.pipeline.keras.backend.backend", lambda: "jax")
    data = load()
    means += [np.concatenate([x.mean((1, 2)) for x, _ in arrays(data)])]
    first, again = data[0][0], data[0][0]
    np.testing.assert_array_equal(first, again)
    data.set_epoch(1)
    assert (first != data[0][0]).any()
    # Mean and deviation of 160 images' colors, within three standard errors.
    (mean, deviation), (other_mean, other) = ((sample.mean(), sample.std()) for sample in means)
    assert abs(mean - other_mean) < 3 * deviation * np.sqrt(2 / 160)
    assert 0.8 < deviation / other < 1.25


def test_a_bad_file_is_named_in_plain_words(on_jax, tmp_path, write_image):
    image = write_image(tmp_path / "image.png", np.zeros((4, 5, 3)))
    label = write_image(tmp_path / "label.png", np.full((4, 5), 9))
    sample, info = LabeledImage("a", image, label, LabelValues(range(2))), DatasetInfo(NAMES)
    with pytest.raises(DataError, match=r"label\.png: A label must be 0 to 1.*labels 9"):
        make_dataset([sample], info, LoadingOptions((4, 5), 1, cache=True))
    data = make_dataset([sample], info, LoadingOptions((4, 5), 1, cache=False))
    with pytest.raises(DataError, match=r"label\.png: A label must be 0 to 1"):
        data[0]


def test_classes_are_merged_and_batches_shared(on_jax):
    data = keras_psp.load_street_scenes("val", (24, 32), 4, num_images=6)
    road = keras_psp.merge_classes(data, {"road": ["Road"]}, rest="other")
    assert road.class_names == ["road", "other"]
    table = np.full(256, 1)
    table[[data.class_names.index("Road"), 255]] = 0, 255
    for (_, labels), (_, merged) in zip(data, road, strict=True):
        np.testing.assert_array_equal(merged, table[labels])
    parts = [keras_psp.data.shard_batches(road, 4, num_shards=2, index=i) for i in range(2)]
    assert parts[0].class_names == ["road", "other"]
    for part in (road, *parts):  # Each says its own epoch.
        part.set_epoch(2)
        assert part.epoch == 2
    assert data.epoch == 0
    for (images, labels), *own in zip(road, *parts, strict=True):
        together = [np.concatenate(part) for part in zip(*own, strict=True)]
        assert together[0].shape == (4, 24, 32, 3)
        np.testing.assert_array_equal(together[0][: len(images)], images)
        np.testing.assert_array_equal(together[1][: len(labels)], labels)
        assert np.all(together[1][len(labels) :] == 255)
    with pytest.raises(ValueError, match=r"batch_size=8, images of shape \(4, 24, 32, 3\)"):
        keras_psp.data.shard_batches(data, 8, num_shards=2, index=0)


def test_weights_and_reports_take_them(on_jax, tmp_path):
    data = keras_psp.load_street_scenes("val", (24, 32), 4, num_images=6)
    weights = keras_psp.labels.class_weights(data, 11)
    pixels = np.bincount(np.concatenate([labels.ravel() for _, labels in data]), minlength=256)
    assert [weight > 0 for weight in weights] == [count > 0 for count in pixels[:11]]


def test_pictures_of_any_mode_are_read(on_jax, tmp_path):
    for split, name, mode in [("val", "images", "RGB"), ("val", "labels", "L")]:
        (tmp_path / split / name).mkdir(parents=True)
        Image.new(mode, (20, 10), 1 if mode == "L" else (9, 8, 7)).save(
            tmp_path / split / name / "a.png"
        )
    data = keras_psp.load_folder(tmp_path, "val", batch_size=1, classes=["a", "b"])
    ((images, labels),) = list(data)
    assert images[0, 0, 0].tolist() == [9, 8, 7]
    assert set(labels.ravel()) == {1}


def test_nothing_of_tensorflow_is_asked_for(on_jax, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    data = keras_psp.load_street_scenes("val", (24, 32), 4, num_images=6)
    assert [len(images) for images, _ in data] == [4, 2]
