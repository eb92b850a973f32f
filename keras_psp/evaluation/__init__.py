"""How good a network is: scores, comparisons, reports."""

from keras_psp.evaluation.classification import ClassifierEvaluation, evaluate_classifier
from keras_psp.evaluation.comparison import Comparison, compare
from keras_psp.evaluation.segmentation import Evaluation, ScoredImage, evaluate

__all__ = [
    "ClassifierEvaluation",
    "Comparison",
    "Evaluation",
    "ScoredImage",
    "compare",
    "evaluate",
    "evaluate_classifier",
]
