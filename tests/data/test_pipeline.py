"""The pipeline: what comes out of it, in which order, how often, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_psp.data import DatasetInfo, LoadingOptions, merge_classes, pipeline, shard_batches
from keras_psp.data.pipeline import load_splits, make_dataset
from keras_psp.data.reading import LabeledImage
from keras_psp.labels import ClassList, LabelValues
from keras_psp.layers import ImageNormalization

pytestmark = pytest.mark.usefixtures("without_xla")

ROOT = Path(__file__).parents[2]
NAMES = ClassList([f"class {number}" for number in range(11)])
VALUES = LabelValues(range(11))


@pytest.fixture
def frames(tmp_path, write_image):
    """Twenty frames of 12x16: frame n has the color (n, 10n, row) and the label n mod 11."""
    samples = []
    for number in range(20):
        image = np.zeros((12, 16, 3))
        image[..., 0], image[..., 1] = number, 10 * number
        image[..., 2] = np.arange(12)[:, None]
        label = np.full((12, 16), number % 11)
        label[0] = 255
        files = [
            write_image(tmp_path / name / f"{number}.png", pixels)
            for name, pixels in [("images", image), ("labels", label)]
        ]
        samples.append(LabeledImage(str(number), *files, VALUES))
    return samples


def build(samples, **options):
    return make_dataset(samples, DatasetInfo(NAMES), LoadingOptions(**options))


def order(dataset):
    """The numbers of the frames, as their colors tell them."""
    return [int(image[0, 0, 0]) for images, _ in dataset for image in images]


def batches(dataset):
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


@pytest.mark.parametrize("cache", [True, False])
def test_batches_are_float_images_and_integer_labels(frames, cache):
    dataset = build(frames, batch_size=8, cache=cache)
    assert len(dataset) == 3
    assert dataset.element_spec == (
        tf.TensorSpec((None, 12, 16, 3), tf.float32),
        tf.TensorSpec((None, 12, 16), tf.int32),
    )
    images, labels = next(iter(dataset))
    assert images.shape == (8, 12, 16, 3)
    np.testing.assert_array_equal(images[3, 5, 7], [3, 30, 5])
    np.testing.assert_array_equal(labels[3, 0], np.full(16, 255))
    np.testing.assert_array_equal(labels[3, 1:], np.full((11, 16), 3))
    assert dataset.class_names == list(NAMES.names)
    assert dataset.sample_names[19] == "19"
    assert not dataset.info.shuffled
    assert build(frames, batch_size=8, shuffle=True).info.shuffled
    assert order(dataset) == list(range(20))


@pytest.mark.parametrize("cache", [True, False])
def test_shuffling_shows_every_pair_once_an_epoch(frames, cache):
    dataset = build(frames, batch_size=6, shuffle=True, cache=cache)
    first, second = order(dataset), order(dataset)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first != list(range(20))
    for images, labels in dataset:
        np.testing.assert_array_equal(images[:, 5, 5, 0] % 11, labels[:, 5, 5])


def test_the_order_depends_on_the_seed_alone(frames):
    def epochs(seed, cache):
        dataset = build(frames, shuffle=True, seed=seed, cache=cache)
        return [order(dataset), order(dataset)]

    assert epochs(1, True) == epochs(1, True) == epochs(1, False)
    assert epochs(1, True) != epochs(2, True)


@pytest.mark.parametrize("cache", [True, False])
def test_the_global_seed_changes_nothing(frames, cache):
    def epochs(global_seed):
        tf.random.set_seed(global_seed)
        options = {"batch_size": 6, "augment": "scratch", "shuffle": True, "seed": 3}
        dataset = build(frames, **options, cache=cache)
        assert len(dataset) == 4
        return [images for _ in range(2) for images, _ in batches(dataset)]

    try:
        unset, seeded = epochs(None), epochs(1)
    finally:
        tf.random.set_seed(None)
    for one, other in zip(unset, seeded, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_order_is_as_likely(frames):
    # An image's place in 400 epochs: uniform in 0-19, and independent of that of the one before.
    dataset = build(frames, batch_size=20, shuffle=True).repeat(400)
    places = np.argsort([images.numpy()[:, 0, 0, 0] for images, _ in dataset], axis=1)
    assert np.abs(places.mean(0) - 9.5).max() < 4 * np.sqrt((20**2 - 1) / 12 / 400)
    assert np.abs(np.mean(places[1:] == places[:-1]) - 1 / 20) < 0.01


def test_incomplete_batches_are_dropped_on_demand(frames):
    dataset = build(frames, batch_size=8, drop_remainder=True)
    assert len(dataset) == len(batches(dataset)) == 2
    assert dataset.element_spec[0].shape == (8, 12, 16, 3)


@pytest.mark.parametrize("cache", [True, False])
def test_label_maps_are_there_without_augmentation(frames, cache):
    dataset = build(frames, augment="authors", shuffle=True, cache=cache)
    expected = np.tile(np.arange(20)[:, None, None] % 11, (1, 12, 16))
    expected[:, 0] = 255
    np.testing.assert_array_equal(list(dataset.label_maps()), expected)


def test_caching_changes_nothing(frames):
    options = {"image_size": (9, 11), "batch_size": 8, "augment": "authors", "shuffle": True}
    cached = build(frames, **options, cache=True)
    uncached = build(frames, **options, cache=False)
    for _ in range(2):
        for one, other in zip(batches(cached), batches(uncached), strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_augmentation_depends_on_seed_and_epoch(frames):
    def epochs(seed):
        dataset = build(frames, batch_size=20, augment="authors", seed=seed)
        return [batches(dataset)[0][0] for _ in range(2)]

    (first, second), (again, _), (other, _) = epochs(3), epochs(3), epochs(4)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert (first != other).any()


def test_the_middle_is_cut_out(tmp_path, write_image):
    rows, columns = np.mgrid[:240, :320]
    image = np.stack([rows, columns % 256, columns // 256], -1)
    image = write_image(tmp_path / "image.png", image)
    label = write_image(tmp_path / "label.png", np.zeros((240, 320)))
    dataset = build([LabeledImage("a", image, label, VALUES)], crop_size=(201, 201))
    images, labels = next(iter(dataset))
    assert images.shape[1:3] == labels.shape[1:] == (201, 201)
    np.testing.assert_array_equal(images[0, 0, 0], [19, 59, 0])  # rows 19-219, columns 59-259
    np.testing.assert_array_equal(images[0, -1, -1], [219, 259 - 256, 1])


def test_cut_and_normalized_as_in_georgia_techs_course(tmp_path, write_image):
    # Of the center alone, 15 and class 5 are left.
    image, label = np.zeros((240, 320, 3)), np.zeros((240, 320))
    image[19:220, 59:260], label[19:220, 59:260] = 15, 5
    image = write_image(tmp_path / "image.png", image)
    label = write_image(tmp_path / "label.png", label)
    images, labels = next(
        iter(build([LabeledImage("a", image, label, VALUES)], crop_size=(201, 201)))
    )
    assert set(np.ravel(labels)) == {5}
    expected = (15 - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375]
    normalized = keras.ops.convert_to_numpy(ImageNormalization("torch")(images))
    np.testing.assert_allclose(normalized, np.broadcast_to(expected, (1, 201, 201, 3)), rtol=1e-6)


def test_augmentation_crops_to_the_crop_size(frames):
    images, labels = next(iter(build(frames, augment="flip", crop_size=(8, 10))))
    assert images.shape == (8, 8, 10, 3)
    assert labels.shape == (8, 8, 10)


def test_behind_own_layers_a_random_crop_follows(frames):
    flip, own = [keras.layers.RandomFlip("horizontal")], keras.layers.RandomCrop(8, 10)
    images, labels = next(iter(build(frames, batch_size=20, augment=flip, crop_size=(8, 10))))
    assert images.shape == (20, 8, 10, 3)
    assert labels.shape == (20, 8, 10)
    # Frame n has the label n % 11, and its rows in blue: 0 is the void one.
    rows = images.numpy()[..., 2]
    np.testing.assert_allclose(rows, rows[:, :1, :1] + np.arange(8)[:, None] + 0 * rows, atol=1e-3)
    assert set(rows[:, 0, 0].round()) == {0, 1, 2, 3, 4}
    expected = np.where(rows.round() == 0, 255, np.arange(20)[:, None, None] % 11)
    np.testing.assert_array_equal(labels, expected)
    # Nothing follows what has the size already, and nothing where none is asked for.
    for options in [{"augment": own, "crop_size": (8, 10)}, {"augment": own}]:
        images, _ = next(iter(build(frames, **options)))
        assert images.shape == (8, 8, 10, 3)
        np.testing.assert_array_equal(images, np.round(images))
    assert next(iter(build(frames, augment=[], crop_size=(8, 10))))[0].shape == (8, 8, 10, 3)


def test_auto_is_for_the_train_split_only(frames):
    def find(split):
        return frames

    train, val = load_splits(["train", "val"], find, NAMES, {"batch_size": 8})
    plain = load_splits("train", find, NAMES, {"batch_size": 8, "augment": None})
    assert len(train) == 2
    assert len(val) == 3
    assert order(val) == list(range(20))
    assert order(plain) != sorted(order(plain))
    np.testing.assert_array_equal(batches(val)[0][0][0], batches(build(frames[:1]))[0][0][0])
    assert len(np.unique(batches(train)[0][0][..., 0])) > 20  # Scaled and rotated: no flat color.


def test_a_memory_too_small_is_not_used(frames, monkeypatch):
    reads = []
    original = LabeledImage.read

    def counted(self, *args):
        reads.append(self.name)
        return original(self, *args)

    monkeypatch.setattr(LabeledImage, "read", counted)
    frame_bytes = 12 * 16 * 4
    for memory, expected in [(20 * frame_bytes * 4, 20), (20 * frame_bytes * 4 - 4, 40)]:
        monkeypatch.setattr("keras_psp.data.pipeline._memory", lambda memory=memory: memory)
        reads.clear()
        dataset = build(frames, image_size=(12, 16))
        batches(dataset)
        batches(dataset)
        assert len(reads) == expected


@pytest.mark.parametrize(("limit", "expected"), [("1000\n", 1000), ("max\n", 4096 * 10)])
def test_a_container_may_have_less_memory(tmp_path, monkeypatch, limit, expected):
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10}.__getitem__)
    monkeypatch.setattr(pipeline, "CONTAINER_MEMORY", tmp_path / "memory.max")
    assert pipeline._memory() == 4096 * 10
    (tmp_path / "memory.max").write_text(limit)
    assert pipeline._memory() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "a whole number of at least 1. Received: batch_size=0"),
        ({"batch_size": 2.5}, "Received: batch_size=2.5"),
        ({"image_size": 240}, "image_size must be None or 2 values, .*Received: image_size=240"),
        ({"image_size": (240, 0)}, r"Received: image_size=\(240, 0\)"),
        ({"crop_size": (13, 16)}, r"crop_size=\(13, 16\), images of \(12, 16\). Make the crop"),
        ({"batch_size": 21, "drop_remainder": True}, "batch_size=21, 20 samples"),
        ({"augment": "author"}, "Did you mean 'authors'"),
        ({"augment": keras.layers.RandomCrop(13, 17)}, r"turns the labels \(0, 10, 255\) into "),
    ],
)
def test_nonsense_is_refused(frames, options, message):
    with pytest.raises(ValueError, match=message):
        build(frames, **options)


def test_without_image_size_all_images_must_have_one(frames, tmp_path, write_image):
    image = write_image(tmp_path / "image.png", np.zeros((6, 8, 3)))
    label = write_image(tmp_path / "label.png", np.zeros((6, 8)))
    odd = LabeledImage("odd", image, label, VALUES)
    with pytest.raises(
        ValueError, match=r"Received: odd of \(6, 8\), 0 of \(12, 16\)\. Pass image"
    ):
        build([*frames, odd])
    assert len(build([*frames, odd], image_size=(6, 8), batch_size=7)) == 3


def test_a_bad_file_is_named_at_once(frames, write_image):
    write_image(frames[7].label, np.full((12, 16), 11))
    with pytest.raises(ValueError, match=r"7\.png: A label must be 0 to 10.*labels 11"):
        build(frames, cache=True)


def test_a_bad_file_is_named_without_cache_too(frames, write_image):
    write_image(frames[7].label, np.full((12, 16), 11))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"7\.png: A label must be 0 to 10"):
        batches(build(frames, cache=False))


@pytest.mark.parametrize(
    "derive",
    [
        lambda data: data,
        lambda data: merge_classes(data, {"one": ["class 1"]}, rest="others"),
        lambda data: shard_batches(data, 8),
    ],
    ids=["itself", "merged", "a share"],
)
def test_no_thread_tunes_what_is_read(frames, derive):
    # At the end of an epoch it may sleep on for as long as the epoch was, and all wait for it.
    assert derive(build(frames)).options().autotune.enabled is False


NO_GENERATOR = """
import sys
import keras_psp
import keras
import numpy as np
import pytest
from keras_psp.experiments import degradation
from tests.conftest import take_steps_eagerly
from tests.tiny import Tiny

take_steps_eagerly(pytest.MonkeyPatch())  # What is asked about is the data.
train, val = keras_psp.load_street_scenes(["train", "val"], (12, 16), 4, num_images=8)
train, val = keras_psp.merge_classes([train, val], {"road": ["Road"], "sky": ["Sky"]}, "other")
train, val = keras_psp.data.shard_batches([train, val], 4)
uncached = keras_psp.load_street_scenes("val", (12, 16), 4, num_images=8, cache=False)
model = Tiny()
model.fit(train, validation_data=val, epochs=2, verbose=0)
keras_psp.evaluate(model, val)
list(uncached)

def small_network(variant, num_classes, input_shape, **options):
    layers = keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)
    return keras.Sequential(layers)

degradation.ResNet = small_network
images, classes = np.zeros((8, 8, 8, 3), "uint8"), np.arange(8) % 2
options = {"networks": ["plain-20"], "seeds": [1], "steps": 2, "evaluations": 1, "batch_size": 2}
degradation.run_degradation("run", (images, classes), (images, classes), **options)
print("And with one:", file=sys.stderr, flush=True)
import tensorflow as tf
list(tf.data.Dataset.from_generator(lambda: [1], output_signature=tf.TensorSpec((), tf.int64)))
"""


def test_nothing_makes_tensorflow_give_memory_back_at_once(tmp_path):
    # from_generator does, for the rest of the process, and every training takes a third longer.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", NO_GENERATOR],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    before, _, after = result.stderr.partition("And with one:")
    if "Memory patch applied" not in after:
        pytest.skip("this TensorFlow does not do so")
    assert "Memory patch applied" not in before
