"""What a trained network says: of images, folders and videos, and in other programs."""

from keras_psp.inference.classifying import classify, evaluate_classifier
from keras_psp.inference.exporting import export
from keras_psp.inference.segmenting import load_run, segment
from keras_psp.inference.video import segment_video

__all__ = [
    "classify",
    "evaluate_classifier",
    "export",
    "load_run",
    "segment",
    "segment_video",
]
