"""Random changes of training images, and of their labels with them.

Everything here stands on Keras' own mask-aware layers, which take and return
`{"images": ..., "segmentation_masks": ...}`. What they lack is added around them: whatever a layer
moves in from outside the image is void, not class 0, and has the mean color; and the random numbers
depend on a seed alone, however many threads draw them.
"""

from keras_psp.data.augmentation.augmentation import Augmentation, get
from keras_psp.data.augmentation.layers import RandomBlur, RandomColors, RandomView
from keras_psp.data.augmentation.presets import PRESETS

__all__ = ["PRESETS", "Augmentation", "RandomBlur", "RandomColors", "RandomView", "get"]
