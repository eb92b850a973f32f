"""What Keras saves of an object, and what `help` shows of a function: all of its arguments."""

import inspect

import keras
import pytest

import keras_psp
from keras_psp import FCN, PSPNet, ResNet
from keras_psp.models.classifier import ClassifierOptions, TopOptions
from keras_psp.models.mirrored_vgg import MirroredOptions
from keras_psp.models.resnet import ResNetOptions
from keras_psp.models.segmentation_model import SegmentationOptions, UnalignedOptions
from keras_psp.signatures import FromArguments, passes_on


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


def test_arguments_passed_on_are_shown():
    def receive(before, size, rate=0.1, *, seed=0):
        return before, size, rate, seed

    @passes_on(receive, "size")
    def pass_on(rate=0.5, **kwargs):
        return receive("before", rate=rate, **kwargs)

    assert str(inspect.signature(pass_on)) == "(rate=0.5, *, size, seed=0)"
    assert pass_on(size=3) == ("before", 3, 0.5, 0)


@pytest.mark.parametrize("name", ["AlexNet", "Inception", "ResNet", "VGG", "PSPNet", "FCN"])
def test_networks_show_all_their_arguments(name):
    parameters = inspect.signature(getattr(keras_psp, name)).parameters
    assert {"num_classes", "weights", "fresh_head", "input_shape", "name"} < parameters.keys()
    assert not {"kwargs", "features", "hidden", "model_class"} & parameters.keys()


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (PSPNet, SegmentationOptions),
        (FCN, UnalignedOptions),
        (keras_psp.SegNet, MirroredOptions),
        (keras_psp.DeconvNet, MirroredOptions),
        (keras_psp.AlexNet, TopOptions),
        (keras_psp.VGG, TopOptions),
        (ResNet, ResNetOptions),
        (keras_psp.Inception, ClassifierOptions),
    ],
)
def test_editors_know_the_arguments_that_help_shows(network, options):
    code = inspect.unwrap(network.__init__ if inspect.isclass(network) else network).__code__
    own = {*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]} - {"self"}
    assert own | options.__annotations__.keys() == {*inspect.signature(network).parameters}


@pytest.mark.parametrize(
    "make, given, ours",
    [
        (PSPNet, {"classes": 11}, r"Received: classes=11\. Write num_classes=…\."),
        (PSPNet, {"encoder_name": "resnet18"}, "Write backbone=…"),
        (FCN, {"encoder_weights": "imagenet"}, "Write backbone_weights=…"),
        (PSPNet, {"in_channels": 3}, "images are RGB"),
        (PSPNet, {"activation": "softmax"}, r"keras\.ops\.softmax\(logits\)"),
        (ResNet, {"classes": 10}, r"Write num_classes=…\."),
        (ResNet, {"activation": None}, "take classifier_activation=…"),
    ],
)
def test_arguments_of_other_libraries_name_ours(make, given, ours):
    with pytest.raises(TypeError, match=ours):
        make(**given)
