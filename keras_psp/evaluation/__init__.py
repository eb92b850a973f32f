"""How good a network is: scores, comparisons, reports."""

from keras_psp.evaluation.segmentation import Comparison, Evaluation, compare, evaluate

__all__ = ["Comparison", "Evaluation", "compare", "evaluate"]
