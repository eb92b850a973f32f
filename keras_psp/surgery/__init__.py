"""How a given network is rewritten: strides become dilation, batch normalization is fused."""

from keras_psp.surgery.dilation import dilate
from keras_psp.surgery.fusion import fuse

__all__ = ["dilate", "fuse"]
