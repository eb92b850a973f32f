"""The pyramid's convolution; tests of the head hold it to the upsampled levels."""

import keras
import numpy as np
import pytest

from keras_psp.layers import PyramidConv2D
from keras_psp.layers.bilinear_upsample import resize_bilinear


def test_kernel_may_have_any_odd_size(rng):
    features, level = (rng.normal(size=(2, n, n, c)).astype("float32") for n, c in [(9, 4), (3, 5)])
    layer = PyramidConv2D(6, 5, activation="relu", bias_initializer="ones")
    outputs = layer([features, level])
    large = resize_bilinear(keras.ops.convert_to_tensor(level), (3, 3), (9, 9), align_corners=True)
    expected = layer(keras.ops.concatenate([features, large], axis=-1))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(outputs), keras.ops.convert_to_numpy(expected), atol=1e-5
    )


def test_even_kernel_is_an_error():
    with pytest.raises(ValueError, match=r"evenly around its center\. Received: kernel_size=4"):
        PyramidConv2D(6, 4)
