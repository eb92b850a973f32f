"""Normalization against Keras' own `preprocess_input`."""

import keras
import numpy as np
import pytest

from keras_psp.layers import ImageNormalization


@pytest.mark.parametrize("mode", ["torch", "caffe", "tf"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_equals_preprocess_input(rng, mode, dtype):
    image = rng.integers(0, 256, (2, 5, 6, 3)).astype(dtype)
    expected = keras.applications.imagenet_utils.preprocess_input(
        image.astype("float32"), data_format="channels_last", mode=mode
    )
    outputs = keras.ops.convert_to_numpy(ImageNormalization(mode)(image))
    assert outputs.dtype == "float32"
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_none_leaves_the_image_unchanged(rng):
    image = rng.integers(0, 256, (1, 5, 6, 3)).astype("uint8")
    outputs = keras.ops.convert_to_numpy(ImageNormalization("none")(image))
    np.testing.assert_array_equal(outputs, image)


def test_half_precision_does_not_blur_the_image():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        outputs = ImageNormalization("none")(np.full((1, 1, 1, 3), 200.3, "float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(outputs), np.float32(200.3))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_keeps_the_contract_of_a_layer(rng, check_layer, dtype):
    image = rng.integers(0, 256, (2, 5, 6, 3)).astype(dtype)
    check_layer(ImageNormalization("caffe"), image, half_precision=False)


def test_unknown_mode_is_an_error():
    with pytest.raises(ValueError, match=r"normalization='cafe'. Did you mean 'caffe'"):
        ImageNormalization("cafe")


@pytest.mark.parametrize("channels", [1, 4])
def test_other_than_rgb_is_an_error(channels):
    with pytest.raises(
        ValueError, match=rf"RGB.*Received: images of shape \(1, 2, 2, {channels}\)\. Repeat"
    ):
        ImageNormalization()(np.zeros((1, 2, 2, channels)))
