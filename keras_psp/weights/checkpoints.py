"""Puts checkpoints from elsewhere into our networks."""

import os

import keras
import numpy as np

from keras_psp.warning import warn
from keras_psp.weights.comparing import (
    Tensor,
    check_same_tensors,
    end_of,
    is_auxiliary,
    of_coarser,
    predicts_classes,
)
from keras_psp.weights.reading import read_tensors
from keras_psp.weights.sources import KINDS, identify


def variant_of(model: keras.Model) -> str:
    """The name in our tables of a classifier, a backbone, or a segmentation model's backbone."""
    return getattr(getattr(model, "backbone", model), "variant", "")


def load_checkpoint(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    fresh_head: bool = False,
    features_only: bool = False,
) -> str:
    """Puts a checkpoint from elsewhere into a network of ours: every tensor, or none.

    Args:
        model: The network, built.
        path: The file.
        fresh_head: Whether the layers that predict classes stay as they are.
        features_only: Whether all layers behind the features stay as they are.

    Returns:
        What the network starts from now, in words.

    Raises:
        ValueError: If the checkpoint is of another network; the message names the tensors.
    """
    tensors = read_tensors(path)
    source = identify(path, tensors)
    variant = variant_of(model)
    if variant not in source.variants:
        raise ValueError(
            f"A checkpoint of {source.title} fits {', '.join(source.variants)}. Received: "
            f"weights='{path}' for {model.name}, which is {variant or 'none of the table'}. Build "
            "one of those, by its name, or pass the file as backbone_weights=."
        )

    def stays(layer):
        return (fresh_head and predicts_classes(layer)) or (features_only and end_of(layer))

    variables = {v.path: v for v in model.variables if v.path.rpartition("/")[2] in KINDS}
    wanted = {}
    for variable_path, variable in variables.items():
        layer = variable_path.rpartition("/")[0]
        if not stays(layer):
            wanted[variable_path] = Tensor(variable_path, layer, tuple(variable.shape))
    has_ends = any(end_of(variable_path) for variable_path in variables)

    found: dict[str, Tensor] = {}
    values: dict[str, np.ndarray] = {}
    left_out = []
    for name, layer, kinds, value in source.translate(tensors):
        key, reason = name, None
        if layer is None:
            reason = source.reason_to_leave_out(name)
        elif stays(layer):
            reason = f"{layer}, which starts afresh"
        else:
            key = next((k for kind in kinds if (k := f"{layer}/{kind}") in wanted), name)
            # A backbone takes its part of a whole network.
            if key == name and end_of(layer) and (not has_ends or is_auxiliary(layer)):
                reason = end_of(layer)
        if reason is not None:
            left_out.append(reason)
        else:
            found[key], values[key] = Tensor(name, layer or "", value.shape), value

    # What exists in training only may be absent, but not in part.
    auxiliary = {key for key, tensor in wanted.items() if is_auxiliary(tensor.layer)}
    if not auxiliary & found.keys():
        wanted = {key: tensor for key, tensor in wanted.items() if key not in auxiliary}
    found, wanted = of_coarser(found, wanted)
    received = f"weights='{path}' of {source.title} for {model.name} ({variant})"
    check_same_tensors(received, found, wanted)
    for key in found:
        variables[key].assign(values[key])

    for argument, value in source.usual.items():
        if getattr(model, argument, value) != value:
            warn(
                f"Most networks of {source.title} have {argument}={value}; no tensor tells. "
                f"Received: weights='{path}' for a model with {argument}="
                f"{getattr(model, argument)}. See the configuration that the file was trained "
                f"with, and build the model with its {argument}.",
            )
    without = f", without {', '.join(dict.fromkeys(left_out))}" if left_out else ""
    return f"the file {path} ({source.title}{without})"
