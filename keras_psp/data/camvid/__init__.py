"""CamVid: 701 street scenes from Cambridge with a class for every pixel.

`load_camvid` in `loading` is what users call. `classes` says what its labels mean, `release` what
is downloaded, `layouts` how it lies in folders. `builder` is the same data set for TensorFlow
Datasets: after `import keras_psp.data.camvid.builder` there is `tfds.load("camvid")`.
"""

from keras_psp.data.camvid.classes import (
    CAMVID,
    CAMVID_CLASS_WEIGHTS,
    CAMVID_CLASSES,
    CAMVID_COLORS,
    CAMVID_FREQUENCIES,
    CAMVID_MERGINGS,
    SEGNET_CLASS_WEIGHTS,
)

__all__ = [
    "CAMVID",
    "CAMVID_CLASSES",
    "CAMVID_CLASS_WEIGHTS",
    "CAMVID_COLORS",
    "CAMVID_FREQUENCIES",
    "CAMVID_MERGINGS",
    "SEGNET_CLASS_WEIGHTS",
]
