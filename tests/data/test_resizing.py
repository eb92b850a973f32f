"""Resizing images and label maps: against TensorFlow, Pillow, and numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_psp.data.resizing import interpolate, interpolation, resize_image, resize_label


def noise(shape, top=256):
    return np.random.default_rng(0).integers(0, top, shape).astype("uint8")


@pytest.mark.parametrize("size", [(20, 30), (15, 20), (33, 64), (7, 91), (41, 60)])
def test_bilinear_is_tensorflows_half_pixel_bilinear(size):
    image = noise((40, 60, 3))
    expected = tf.image.resize(image, size, "bilinear", antialias=False).numpy()
    received = resize_image(image, size, antialias=False)
    # Values that lie on .5 but for rounding errors may go either way.
    assert np.abs(received - expected).max() <= 0.5 + 1e-3


def test_bilinear_is_the_example_by_hand():
    # Four times [[1, 2], [3, 4]], so that the result is in whole numbers.
    image = np.repeat(np.array([[4, 8], [12, 16]], "uint8")[..., None], 3, -1)
    expected = [[4, 5, 7, 8], [6, 7, 9, 10], [10, 11, 13, 14], [12, 13, 15, 16]]
    assert resize_image(image, (4, 4), antialias=False)[..., 0].tolist() == expected


def test_antialias_is_tensorflows():
    image = noise((40, 60, 3))
    expected = tf.image.resize(image, (13, 17), "bilinear", antialias=True).numpy()
    received = resize_image(image, (13, 17), antialias=True)
    assert np.abs(received - expected).max() <= 1.5


@pytest.mark.parametrize("size", [(13, 17), (40, 23), (55, 99), (3, 90)])
def test_interpolation_is_pillows(size):
    image = np.random.default_rng(0).uniform(0, 255, (40, 60)).astype("float32")
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    rows, columns = (interpolation(o, n, smooth=True) for o, n in zip((40, 60), size, strict=True))
    received = interpolate(interpolate(image, 0, *rows), 1, *columns)
    np.testing.assert_allclose(received, expected, atol=1e-3)
    # Any rows of the result can be made by themselves.
    part = interpolate(image, 0, rows[0][1:3], rows[1][1:3])
    np.testing.assert_allclose(interpolate(part, 1, *columns), expected[1:3], atol=1e-3)


def test_antialias_is_automatic_beyond_a_factor_of_two():
    image = noise((60, 60, 3))
    for size, smooth in [((30, 30), False), ((29, 40), True), ((40, 20), True), ((90, 90), False)]:
        expected = resize_image(image, size, antialias=smooth)
        np.testing.assert_array_equal(resize_image(image, size), expected)
        assert (resize_image(image, size, antialias=not smooth) != expected).any() or size[0] > 60


@pytest.mark.parametrize("size", [(20, 30), (15, 20), (33, 64), (7, 91), (40, 60)])
def test_labels_take_the_nearest_pixel(size):
    label = noise((40, 60), 11)
    expected = tf.image.resize(label[..., None], size, "nearest").numpy()[..., 0]
    np.testing.assert_array_equal(resize_label(label, size), expected)
