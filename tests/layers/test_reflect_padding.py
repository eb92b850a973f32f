"""Padding with mirror images, against NumPy's."""

import keras
import numpy as np
import pytest

from keras_psp.layers import ReflectPadding2D

numpy = keras.ops.convert_to_numpy


@pytest.mark.parametrize("size", [(9, 6), (3, 1)])
def test_equals_numpys_reflection(rng, size):
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    sides = [(0, 0), (7, 7), (7, 7), (0, 0)]
    np.testing.assert_array_equal(numpy(ReflectPadding2D(7)(x)), np.pad(x, sides, "reflect"))


def test_keeps_the_contract_of_a_layer(check_layer, rng):
    check_layer(ReflectPadding2D(4, multiple=4), rng.normal(size=(2, 5, 8, 3)).astype("float32"))
