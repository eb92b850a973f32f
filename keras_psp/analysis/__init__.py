"""Why networks work: what they cost, what their cells see, which matrix a convolution is."""

from keras_psp.analysis.arithmetic import convolution_matrix, output_size
from keras_psp.analysis.costs import Costs, count
from keras_psp.analysis.effective_fields import EffectiveReceptiveField, effective_receptive_field
from keras_psp.analysis.memory import TrainingMemory, training_memory
from keras_psp.analysis.receptive_fields import LayerField, ReceptiveField, receptive_field
from keras_psp.analysis.stride_ceilings import best_at_stride
from keras_psp.surgery.cost import LayerCost

__all__ = [
    "Costs",
    "EffectiveReceptiveField",
    "LayerCost",
    "LayerField",
    "ReceptiveField",
    "TrainingMemory",
    "best_at_stride",
    "convolution_matrix",
    "count",
    "effective_receptive_field",
    "output_size",
    "receptive_field",
    "training_memory",
]
