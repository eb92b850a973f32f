"""Why networks work, and what they cost: tables of multiply-adds, receptive fields."""

from keras_psp.analysis.costs import Costs, count
from keras_psp.analysis.effective_fields import EffectiveReceptiveField, effective_receptive_field
from keras_psp.analysis.receptive_fields import LayerField, ReceptiveField, receptive_field
from keras_psp.surgery.cost import LayerCost

__all__ = [
    "Costs",
    "EffectiveReceptiveField",
    "LayerCost",
    "LayerField",
    "ReceptiveField",
    "count",
    "effective_receptive_field",
    "receptive_field",
]
