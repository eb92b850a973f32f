"""Compares the tensors of a file with those of a model: all of them fit, or none is loaded."""

import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_psp.warning import warn


def end_of(layer: str) -> str:
    """The part behind the features that a layer of ours is in; `""` if it is in the features."""
    ends = (
        r"pyramid_pooling|head|auxiliary_\w+|predictions|fc\d|fully_connected|context|(up)?score\w+"
    )
    found = re.match(rf"({ends})\b", layer)
    return found[1] if found else ""


def is_auxiliary(layer: str) -> bool:
    """Whether a layer of ours exists in training only."""
    return layer.startswith("auxiliary_")


def predicts_classes(layer: str) -> bool:
    """Whether a layer of ours has as many channels as there are classes."""
    classes = r"(auxiliary_)?head(/conv2)?|(auxiliary_\w+/)?predictions|(up)?score\w+|context/\w+"
    return re.fullmatch(classes, layer) is not None


def not_finite(model: Any) -> str:
    """The names of the first layers whose weights are not finite; `""` if all are."""
    broken = {
        variable.path.rpartition("/")[0]
        for variable in model.weights
        if not np.isfinite(ops.convert_to_numpy(variable)).all()
    }
    return ", ".join(sorted(broken)[:3])


def warn_if_not_finite(model: Any, received: str) -> None:
    """Warns if some weights of a model are NaN or infinite.

    Args:
        model: The model.
        received: What brought them, for the message.
    """
    if broken := not_finite(model):
        warn(
            f"Weights are finite numbers. Received: {received} with NaN or infinity in {broken}. "
            "Take weights from before the training failed.",
        )


class Tensor(NamedTuple):
    """A tensor of a file or of a model.

    Attributes:
        name: Its name, for people.
        layer: Our layer that it belongs to; `""` where we have no such layer.
        shape: Its shape.
    """

    name: str
    layer: str
    shape: tuple[int, ...]


def check_same_tensors(
    received: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    """Checks that a file has all the tensors of a model, in their shapes, and no others.

    Args:
        received: The file and the model, for the message.
        found: The tensors of the file. Those of the model have the same keys.
        wanted: The tensors of the model.

    Raises:
        ValueError: If tensors are missing, unexpected or of another shape.
    """
    reshaped, unexpected, missing, layers = [], [], [], []
    for key in sorted({*found, *wanted}):
        theirs, ours = found.get(key), wanted.get(key)
        if ours is None:
            unexpected.append(f"{found[key].name} of the file has no place in the model")
        elif theirs is None:
            missing.append(f"{ours.name} of the model is not in the file")
        elif theirs.shape != ours.shape:
            there, here = f"{theirs.name} is {theirs.shape}", f"{ours.name} {ours.shape}"
            reshaped.append(f"{there} in the file, {here} in the model")
        else:
            continue
        layers.append((ours or found[key]).layer)
    if layers:
        # The first of each kind tells most.
        in_turns = itertools.zip_longest(reshaped, unexpected, missing)
        problems = [problem for turn in in_turns for problem in turn if problem]
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"Every tensor of a file must fit the model. Received: {received}, where "
            f"{'; '.join(problems[:3])}{more}. {_repair(layers)}"
        )


def of_coarser(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Leaves out what makes an FCN finer, or Dilation8's context module, where the file has none.

    Args:
        found: The tensors of the file.
        wanted: The tensors of the model, under the same keys.

    Returns:
        Those of both that must fit: all, unless the model scores a stage, or has a context, that
        the file does not. Then these and upsamplings by other factors stay as they were made.
    """
    theirs, ours = ({tensor.layer for tensor in tensors.values()} for tensors in (found, wanted))
    if not any(layer.startswith(("score_pool", "context/")) for layer in ours - theirs):
        return dict(found), dict(wanted)
    both = theirs & ours
    of_file, of_model = (
        {
            key: x
            for key, x in tensors.items()
            if x.layer in both or not ("score" in x.layer or x.layer.startswith("context/"))
        }
        for tensors in (found, wanted)
    )
    return of_file, of_model


def _repair(layers: list[str]) -> str:
    """What to do if the tensors of these layers do not fit."""
    if all("score" in layer for layer in layers):
        return "Build the FCN with the file's stride, padding and upsampling."
    if all(layer.startswith("context/") for layer in layers):
        return "Build Dilation8 with context=True, as the file's."
    if all(map(predicts_classes, layers)):
        return (
            "Build the model with the file's number of classes, or pass fresh_head=True, which "
            "leaves the last layers as they were made."
        )
    if all(map(end_of, layers)):
        return "If the file holds a backbone alone, pass it as backbone_weights=."
    return "Build the model that the file was saved from."
