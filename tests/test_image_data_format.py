"""`keras.config.set_image_data_format("channels_first")` changes nothing: all is channels last."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.layers import SegmentationHead
from keras_psp.models import RESNETS

numpy = keras.ops.convert_to_numpy


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """An eighth of the channels: where they lie is the question."""
    monkeypatch.setitem(RESNETS, "resnet18", dataclasses.replace(RESNETS["resnet18"], filters=8))


@pytest.fixture(autouse=True)
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


NETWORKS = {
    "PSPNet": lambda: keras_psp.PSPNet("resnet18", 3, backbone_weights=None, output_stride=32),
    "FCN": lambda: keras_psp.FCN(
        "resnet18", 3, head="convolution", stride=8, backbone_weights=None
    ),
    "classifier": lambda: keras_psp.ResNet("resnet18", weights=None, num_classes=5),
    "pooled": lambda: keras_psp.ResNet("resnet18", weights=None, include_top=False, pooling="max"),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_do_not_read_the_setting(network):
    model = NETWORKS[network]()
    keras.config.set_image_data_format("channels_last")
    usual = NETWORKS[network]()
    usual.set_weights(model.get_weights())
    x = np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3)).astype("float32")
    expected = numpy(usual(x))
    assert expected.std() > 0
    keras.config.set_image_data_format("channels_first")
    np.testing.assert_allclose(numpy(model(x)), expected, rtol=1e-4, atol=1e-5)


def test_training_and_segmenting_work():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (2, 33, 40, 3)), rng.integers(0, 3, (2, 33, 40))
    model = NETWORKS["PSPNet"]()
    model.compile(run_eagerly=keras.backend.backend() != "jax")
    assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"]).all()
    photo = images[0].astype("uint8")
    assert keras_psp.segment(model, photo, image_size=(48, 64)).shape == (33, 40)


def test_dropout_takes_whole_channels():
    head = SegmentationHead(8, 3, dropout=0.5)
    ones = numpy(head.drop(np.ones((4, 6, 7, 8), "float32"), training=True))
    channels = ones.transpose(0, 3, 1, 2).reshape(32, -1)
    assert (channels == channels[:, :1]).all()
    assert 0 < (channels == 0).mean() < 1


def test_channels_first_backbone_is_an_error():
    image = keras.Input((3, 64, 64))
    source = keras.Model(image, keras.layers.ZeroPadding2D(1)(image), name="first")
    with pytest.raises(
        ValueError, match=r"must be channels last\. Received: backbone=first, .* Build it after"
    ):
        keras_psp.PSPNet(source)
