"""The networks: classifiers, backbones and segmentation models."""

from keras_psp.models.alexnet import ALEXNETS, AlexNet
from keras_psp.models.backbones import BACKBONES, build_backbone
from keras_psp.models.classifier import Classifier, build_classifier
from keras_psp.models.conversion import model_from_checkpoint, to_fully_convolutional
from keras_psp.models.deconvnet import DeconvNet
from keras_psp.models.dilation8 import Dilation8
from keras_psp.models.fcn import FCN
from keras_psp.models.inception import INCEPTIONS, Inception
from keras_psp.models.pspnet import PSPNet
from keras_psp.models.resnet import RESNETS, ResNet
from keras_psp.models.segmentation_model import SegmentationModel
from keras_psp.models.segnet import SegNet
from keras_psp.models.vgg import VGG, VGGS

__all__ = [
    "ALEXNETS",
    "BACKBONES",
    "FCN",
    "INCEPTIONS",
    "RESNETS",
    "VGG",
    "VGGS",
    "AlexNet",
    "Classifier",
    "DeconvNet",
    "Dilation8",
    "Inception",
    "PSPNet",
    "ResNet",
    "SegNet",
    "SegmentationModel",
    "build_backbone",
    "build_classifier",
    "model_from_checkpoint",
    "to_fully_convolutional",
]
