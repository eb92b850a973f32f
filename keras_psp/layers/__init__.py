"""The layers that PSPNet and its backbones are made of."""

from keras_psp.layers.batch_normalization import BatchNormalization
from keras_psp.layers.bilinear_upsample import BilinearUpsample
from keras_psp.layers.blocks import BasicBlock, DilatedBottleneck
from keras_psp.layers.convolution import PaddedConv2D
from keras_psp.layers.heads import SegmentationHead
from keras_psp.layers.image_normalization import ImageNormalization
from keras_psp.layers.pyramid_pooling import PyramidPooling

__all__ = [
    "BasicBlock",
    "BatchNormalization",
    "BilinearUpsample",
    "DilatedBottleneck",
    "ImageNormalization",
    "PaddedConv2D",
    "PyramidPooling",
    "SegmentationHead",
]
