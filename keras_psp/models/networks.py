"""The segmentation networks by name, each with what the command line builds it from."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keras_psp.models.deconvnet import DeconvNet
from keras_psp.models.dilation8 import Dilation8
from keras_psp.models.fcn import FCN
from keras_psp.models.pspnet import PSPNet
from keras_psp.models.segmentation_model import SegmentationModel
from keras_psp.models.segnet import SegNet


class Network(NamedTuple):
    """A segmentation network.

    Attributes:
        build: Takes `backbone`, `num_classes` and what else the network has.
        usual: Arguments with which it trains on small images on a CPU, its backbone among them.
    """

    build: Callable[..., SegmentationModel]
    usual: Mapping[str, Any]


_RESNET, _VGG = {"backbone": "resnet18"}, {"backbone": "vgg11_bn"}
_FC = {"fc_channels": 1024}

NETWORKS = {
    "pspnet": Network(PSPNet, {**_RESNET, "output_stride": 16}),
    "fcn32s": Network(functools.partial(FCN, stride=32), {**_RESNET, **_FC}),
    "fcn16s": Network(functools.partial(FCN, stride=16), {**_RESNET, **_FC}),
    "fcn8s": Network(functools.partial(FCN, stride=8), {**_RESNET, **_FC}),
    "segnet": Network(SegNet, _VGG),
    "deconvnet": Network(DeconvNet, {**_VGG, **_FC}),
    "dilation8": Network(Dilation8, {**_RESNET, **_FC}),
    "frontend": Network(functools.partial(Dilation8, context=False), {**_RESNET, **_FC}),
}
"""The names that `keras-psp train --model` takes; `"frontend"` is Dilation8 without its context."""
