"""Patches on images that are their own labels."""

import re

import numpy as np
import pytest

from keras_psp.experiments.patches import cut_patches


@pytest.fixture
def scenes(rng):
    """Two batches of images whose red is their label, and whose green and blue are y and x."""
    labels = rng.integers(0, 3, (4, 24, 30))
    labels[rng.uniform(size=labels.shape) < 0.2] = 255
    y, x = np.mgrid[:24, :30]
    images = np.stack([labels, *np.broadcast_arrays(y, x, labels)[:2]], axis=-1).astype("float32")
    return [(images[:2], labels[:2]), (images[2:], labels[2:])]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_patch_has_the_class_of_its_center(scenes):
    images, classes = cut_patches(scenes, num_patches=50, num_classes=3, size=8)
    assert images.shape == (150, 8, 8, 3)
    assert np.bincount(classes).tolist() == [50, 50, 50]
    np.testing.assert_array_equal(images[:, 4, 4, 0], classes)
    for axis, channel in [(1, 1), (2, 2)]:
        steps = np.diff(images[..., channel].astype(int), axis=axis)
        assert (steps == 1).all()
    # In random order, and of many places.
    assert np.abs(np.diff(classes)).sum() > 50
    assert len({tuple(place) for place in images[:, 4, 4, 1:].tolist()}) > 100


def test_the_seed_decides(scenes):
    first, same, other = (cut_patches(scenes, 20, 3, 8, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_too_few_pixels_of_a_class(scenes):
    message = "Every class needs 2 pixels at least 4 from the border. Received: data with 0 of clas"
    with pytest.raises(ValueError, match=re.escape(message)):
        cut_patches(scenes, 2, num_classes=4, size=8)
