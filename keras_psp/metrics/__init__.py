"""How well label maps are predicted: Keras metrics, and scores of whole confusion matrices."""

from keras_psp.metrics.confusion import (
    accuracy_per_class,
    boundary_confusion_matrix,
    class_areas,
    confusion_matrix,
    iou,
    iou_per_class,
    mean_of_present,
)
from keras_psp.metrics.streaming import (
    ConfusionMatrixMetric,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    ScoreOfCounts,
    segmentation_scores,
)

__all__ = [
    "ConfusionMatrixMetric",
    "MeanAccuracy",
    "MeanIoU",
    "PixelAccuracy",
    "ScoreOfCounts",
    "accuracy_per_class",
    "boundary_confusion_matrix",
    "class_areas",
    "confusion_matrix",
    "iou",
    "iou_per_class",
    "mean_of_present",
    "segmentation_scores",
]
