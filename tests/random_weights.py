"""Random values for the weights of a model or layer, the same on every device and backend."""

import numpy as np


def set_random_weights(model, seed=1):
    """Sets random values everywhere, also where Keras starts from zeros and ones, and returns the
    model or layer."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        name = variable.path.rpartition("/")[2]
        if name.endswith("kernel"):
            value = rng.normal(0, np.prod(variable.shape[:-1]) ** -0.5, variable.shape)
        elif name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, variable.shape)
        elif name in ("beta", "moving_mean", "bias"):
            value = rng.normal(0, 0.5, variable.shape)
        else:  # the seeds of dropout
            continue
        variable.assign(value.astype("float32"))
    return model
