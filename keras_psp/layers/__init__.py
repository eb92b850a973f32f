"""The layers that networks are made of."""

from keras_psp.layers.batch_normalization import BatchNormalization
from keras_psp.layers.bilinear_initializer import Bilinear
from keras_psp.layers.bilinear_upsample import BilinearUpsample
from keras_psp.layers.blocks import BasicBlock, DilatedBottleneck
from keras_psp.layers.convolution import PaddedConv2D, PaddedMaxPooling2D
from keras_psp.layers.crop import Crop
from keras_psp.layers.dilated_pooling import DilatedAveragePooling2D, DilatedMaxPooling2D
from keras_psp.layers.heads import SegmentationHead
from keras_psp.layers.identity_kernel import IdentityKernel
from keras_psp.layers.image_normalization import ImageNormalization
from keras_psp.layers.inception_module import InceptionModule
from keras_psp.layers.local_response_normalization import LocalResponseNormalization
from keras_psp.layers.pyramid_convolution import PyramidConv2D
from keras_psp.layers.pyramid_pooling import (
    PyramidAveragePooling2D,
    PyramidMaxPooling2D,
    PyramidPooling,
)
from keras_psp.layers.reflect_padding import ReflectPadding2D
from keras_psp.layers.unpooling import BedOfNails, MaxPoolWithArgmax, MaxUnpool

__all__ = [
    "BasicBlock",
    "BatchNormalization",
    "BedOfNails",
    "Bilinear",
    "BilinearUpsample",
    "Crop",
    "DilatedAveragePooling2D",
    "DilatedBottleneck",
    "DilatedMaxPooling2D",
    "IdentityKernel",
    "ImageNormalization",
    "InceptionModule",
    "LocalResponseNormalization",
    "MaxPoolWithArgmax",
    "MaxUnpool",
    "PaddedConv2D",
    "PaddedMaxPooling2D",
    "PyramidAveragePooling2D",
    "PyramidConv2D",
    "PyramidMaxPooling2D",
    "PyramidPooling",
    "ReflectPadding2D",
    "SegmentationHead",
]
