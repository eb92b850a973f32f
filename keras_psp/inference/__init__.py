"""What a trained network says: of images, folders and videos, and in other programs."""

from keras_psp.inference.classifying import classify, cut_views
from keras_psp.inference.exporting import export
from keras_psp.inference.segmenting import segment
from keras_psp.inference.video import segment_video
from keras_psp.inference.views import VIEWS, Box, Views

__all__ = [
    "VIEWS",
    "Box",
    "Views",
    "classify",
    "cut_views",
    "export",
    "segment",
    "segment_video",
]
