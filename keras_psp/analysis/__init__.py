"""Why networks work, and what they cost: tables of parameters and multiply-adds."""

from keras_psp.analysis.costs import Costs, count
from keras_psp.surgery.cost import LayerCost

__all__ = ["Costs", "LayerCost", "count"]
