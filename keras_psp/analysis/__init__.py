"""Why it works, and what it costs: tables of parameters and multiply-adds."""

from keras_psp.analysis.costs import (
    Costs,
    LayerCost,
    count,
    googlenet_table,
    resnet_table,
    vgg_table,
)

__all__ = ["Costs", "LayerCost", "count", "googlenet_table", "resnet_table", "vgg_table"]
