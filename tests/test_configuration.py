"""What Keras saves of an object: all of its arguments."""

import keras

from keras_psp.configuration import FromArguments


class Scale(FromArguments, keras.layers.Layer):
    def __init__(self, factor=2, offset=0, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.offset = factor, offset


class ScaleTwice(Scale):
    def __init__(self, factor=2, *, again=3, **kwargs):
        super().__init__(factor, **kwargs)
        self.again = again


def test_defaults_and_arguments_of_keras_are_in():
    config = Scale(5, name="mine", trainable=False).get_config()
    assert config["factor"] == 5
    assert config["offset"] == 0
    assert config["name"] == "mine"
    assert config["trainable"] is False


def test_subclass_has_its_own_arguments():
    layer = ScaleTwice.from_config(ScaleTwice(again=7).get_config() | {"factor": 4})
    assert (layer.factor, layer.again) == (4, 7)
