"""What it looks like: label maps in color, galleries, curves, activations.

Every function with the argument `file` writes the picture there, whole or not at all, makes the
folders on its way, and returns the path. With `file=None` it returns a Pillow image, which a
notebook shows and `.show()` opens.
"""

from keras_psp.visualization.activations import pyramid_activations
from keras_psp.visualization.curves import (
    confusion_matrix,
    degradation_curves,
    per_class_bars,
    points_per_seed,
    training_curves,
)
from keras_psp.visualization.fields import overlaps, receptive_field
from keras_psp.visualization.galleries import class_errors, legend, segmentation_gallery
from keras_psp.visualization.label_maps import (
    FALSE_ALARM,
    HIT,
    MISS,
    RIGHT,
    VOID_COLOR,
    WRONG,
    colorize,
    error_map,
    overlay,
    write_image,
)

__all__ = [
    "FALSE_ALARM",
    "HIT",
    "MISS",
    "RIGHT",
    "VOID_COLOR",
    "WRONG",
    "class_errors",
    "colorize",
    "confusion_matrix",
    "degradation_curves",
    "error_map",
    "legend",
    "overlaps",
    "overlay",
    "per_class_bars",
    "points_per_seed",
    "pyramid_activations",
    "receptive_field",
    "segmentation_gallery",
    "training_curves",
    "write_image",
]
