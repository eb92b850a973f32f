"""CIFAR-10 as TensorFlow Datasets would give it; the real one needs the network."""

import numpy as np
import pytest

from keras_psp.experiments.cifar10 import load_cifar10


def test_images_and_classes_of_both_splits(monkeypatch, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    tf = pytest.importorskip("tensorflow")
    rng, splits = np.random.default_rng(0), {"train": 5, "test": 2}
    data = {
        name: {
            "id": tf.constant([b""] * n),
            "image": tf.constant(rng.integers(0, 256, (n, 32, 32, 3), "uint8")),
            "label": tf.constant(rng.integers(0, 10, n)),
        }
        for name, n in splits.items()
    }

    def load(name, split, batch_size, data_dir):
        assert (name, batch_size, data_dir) == ("cifar10", -1, str(tmp_path))
        return [data[one] for one in split]

    monkeypatch.setattr(tfds, "load", load)
    for name, (images, classes) in zip(splits, load_cifar10(str(tmp_path)), strict=True):
        np.testing.assert_array_equal(images, data[name]["image"])
        np.testing.assert_array_equal(classes, data[name]["label"])
        assert (images.dtype, classes.dtype) == (np.uint8, np.int32)
