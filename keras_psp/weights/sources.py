"""Whose a checkpoint is, and what each source calls our tensors: a table.

A source is a row of `SOURCES`: the tensors that identify it, the networks of ours that its
checkpoints fit, and a map of names. Another source is another row.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Translated(NamedTuple):
    """A tensor of a checkpoint, in our words.

    Attributes:
        name: Its name in the file.
        layer: Our layer that it belongs to; `None` where we have no such layer.
        kinds: What Keras may call it in that layer.
        value: The numbers, in Keras' order of axes.
    """

    name: str
    layer: str | None
    kinds: tuple[str, ...]
    value: np.ndarray


@dataclass(frozen=True)
class Source:
    """One row of the table of sources.

    Attributes:
        title: Whose checkpoints they are.
        marks: Tensors that are in all of its files, and identify it.
        without: Tensors that are in none of its files, where another source has the same marks.
        variants: The names of our networks and backbones that its checkpoints fit.
        layers: Its name of a layer → ours. `{b}` stands for a part of the name, `{b+1}` and `{b-1}`
            for the next and the previous number. The first template that fits counts.
        left_out: Pattern of tensors that our networks have no place for → the reason.
        channels: Our fully connected layer behind a flattened map → the map's channels: PyTorch
            flattens channels first, Keras last.
        usual: Arguments that most of its networks were built with, and that no tensor tells.
        refused: The reason, if none of our networks is this one.
        network: Which of our segmentation networks it is, if it is a whole one.
    """

    title: str
    marks: tuple[str, ...]
    without: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    network: str = "PSPNet"

    def translate(self, tensors: Mapping[str, np.ndarray]) -> Iterator[Translated]:
        """Says of every tensor of a checkpoint where it belongs in our networks.

        Args:
            tensors: Names in the file → values.

        Yields:
            The tensors, except for PyTorch's counters of training steps.
        """
        for name, value in tensors.items():
            theirs, _, kind = name.rpartition(".")
            if kind == "num_batches_tracked":
                continue
            layer = self._our_layer(theirs) if kind in _KINDS else None
            if kind == "weight":
                value = self._in_keras_order(value, layer or "")
            yield Translated(name, layer, _KINDS.get(kind, ()), value)

    def reason_to_leave_out(self, name: str) -> str | None:
        """The reason why a tensor has no place in our networks; `None` if none is known."""
        reasons = self.left_out.items()
        return next((reason for pattern, reason in reasons if re.fullmatch(pattern, name)), None)

    def _our_layer(self, theirs: str) -> str | None:
        for template, ours in self.layers.items():
            pattern = _FIELD.sub(r"(?P<\1>[^.]+)", template.replace(".", r"\."))
            if found := re.fullmatch(pattern, theirs):
                return _FIELD.sub(lambda m: _counted(found[m[1]], m[2]), ours)
        return None

    def _in_keras_order(self, value: np.ndarray, layer: str) -> np.ndarray:
        """PyTorch's order of axes → Keras': filters last, and channels last where maps are flat."""
        outputs = value.shape[0]
        if value.ndim == 2 and layer in self.channels:
            value = value.reshape(outputs, self.channels[layer], -1, 1)
        value = value.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, range(value.ndim)))
        # timm's VGG has convolutions where torchvision's and ours have fully connected layers.
        is_dense = layer in ("fc1", "fc2")
        return value.reshape(-1, outputs) if is_dense and value.ndim == 4 else value


_FIELD = re.compile(r"\{(\w)([+-]1)?\}")


def _counted(part: str, step: str | None) -> str:
    return str(int(part) + int(step)) if step and part.isdecimal() else part


# What PyTorch or Keras calls a tensor → what Keras does, in a convolution and in a batch
# normalization.
_KINDS: dict[str, tuple[str, ...]] = {
    "weight": ("kernel", "gamma"),
    "bias": ("bias", "beta"),
    "running_mean": ("moving_mean",),
    "running_var": ("moving_variance",),
    **{kind: (kind,) for kind in ("kernel", "gamma", "beta", "moving_mean", "moving_variance")},
}
# Every kind of tensor that a checkpoint may bring.
KINDS = frozenset(kind for kinds in _KINDS.values() for kind in kinds)


_BLOCKS = {
    "layer{s}.{b}.conv{i}": "stage{s}_block{b+1}/conv{i}",
    "layer{s}.{b}.bn{i}": "stage{s}_block{b+1}/bn{i}",
    "layer{s}.{b}.downsample.0": "stage{s}_block{b+1}/shortcut_conv",
    "layer{s}.{b}.downsample.1": "stage{s}_block{b+1}/shortcut_bn",
}
_FULLY_CONNECTED = {"fc": "predictions"}


def _deep_stem(name: str) -> dict[str, str]:
    """The deep stem as a sequence: conv, bn, relu, conv, bn, relu, …"""
    return {
        f"{name}.{3 * i + place}": f"stem_{kind}{i + 1}"
        for i in range(3)
        for place, kind in enumerate(("conv", "bn"))
    }


def _convolution_head(theirs: str, ours: str) -> dict[str, str]:
    """A head as a sequence: conv, bn, relu, dropout, conv."""
    return {
        f"{theirs}.{i}": f"{ours}/{layer}" for i, layer in [(0, "conv1"), (1, "bn1"), (4, "conv2")]
    }


def _resnets(suffix: str, depths: str = "18 34 50 101 152") -> tuple[str, ...]:
    return tuple(f"resnet{depth}{suffix}" for depth in depths.split())


# Convolutions in each stage.
_VGG_STAGES = {11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def _vgg(depth: int, kind: str) -> Source:
    layers = {}
    index = 0  # among torchvision's `features`: convolution, (normalization,) ReLU, …, pooling
    for stage, count in enumerate(_VGG_STAGES[depth], 1):
        for i in range(1, count + 1):
            ours = f"block{stage}_conv{i}"
            layers[f"features.{index}"] = ours
            if kind == "bn":
                index += 1
                layers[f"features.{index}"] = f"{ours}_bn"
            index += 2
        index += 1
    ends = {"classifier.0": "fc1", "classifier.3": "fc2", "classifier.6": "predictions"}
    ends |= {"pre_logits.fc1": "fc1", "pre_logits.fc2": "fc2", "head.fc": "predictions"}  # timm's
    return Source(
        f"torchvision's or timm's VGG-{depth}{' with batch normalization' * (kind == 'bn')}",
        tuple(f"{theirs}.weight" for theirs in layers),
        variants=(f"vgg{depth}_{kind}",),
        layers=layers | ends,
        channels={"fc1": 512},
    )


_GOOGLENET = {
    f"{theirs}.{kind}": ours + suffix
    for theirs, ours in [
        ("conv1", "conv1"),
        ("conv2", "conv2_reduce"),
        ("conv3", "conv2"),
        ("inception{m}.branch1", "inception_{m}/conv_1x1"),
        ("inception{m}.branch2.0", "inception_{m}/reduce_3x3"),
        ("inception{m}.branch2.1", "inception_{m}/conv_3x3"),
        ("inception{m}.branch3.0", "inception_{m}/reduce_5x5"),
        ("inception{m}.branch3.1", "inception_{m}/conv_5x5"),
        ("inception{m}.branch4.1", "inception_{m}/project_pool"),
    ]
    for kind, suffix in [("conv", ""), ("bn", "_bn")]
}

# torchvision's names of Inception v3's 94 convolutions, in the order of ours.
_V3_BRANCHES = {
    "Mixed_5b Mixed_5c Mixed_5d": "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 "
    "branch3x3dbl_3 branch_pool",
    "Mixed_6a": "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
    "Mixed_6b Mixed_6c Mixed_6d Mixed_6e": "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 "
    "branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5 branch_pool",
    "Mixed_7a": "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
    "Mixed_7b Mixed_7c": "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 "
    "branch3x3dbl_2 branch3x3dbl_3a branch3x3dbl_3b branch_pool",
}
_V3_CONVOLUTIONS = [
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *(
        f"{module}.{branch}"
        for modules, branches in _V3_BRANCHES.items()
        for module in modules.split()
        for branch in branches.split()
    ),
]

_APPLICATIONS_RESNET = {
    "conv1_conv": "stem_conv1",
    "conv1_bn": "stem_bn1",
    "conv{s}_block{b}_0_conv": "stage{s-1}_block{b}/shortcut_conv",
    "conv{s}_block{b}_0_bn": "stage{s-1}_block{b}/shortcut_bn",
    "conv{s}_block{b}_{i}_conv": "stage{s-1}_block{b}/conv{i}",
    "conv{s}_block{b}_{i}_bn": "stage{s-1}_block{b}/bn{i}",
    # The classifier had another name when the files were made.
    "probs": "predictions",
    "predictions": "predictions",
}


def _applications_vgg(depth: int, without: tuple[str, ...] = ()) -> Source:
    last = {16: "block5_conv3.kernel", 19: "block5_conv4.kernel"}[depth]
    layers = {name: name for name in ("block{s}_conv{i}", "fc{i}", "predictions")}
    marks = ("block1_conv1.kernel", last)
    return Source(f"keras.applications' VGG-{depth}", marks, without, (f"vgg{depth}",), layers)


SOURCES: tuple[Source, ...] = (
    Source(
        "keras.applications' ResNet",
        ("conv1_conv.kernel", "conv2_block1_1_conv.kernel"),
        without=("conv2_block1_preact_bn.beta",),
        variants=("resnet50", "resnet101", "resnet152"),
        layers=_APPLICATIONS_RESNET,
    ),
    _applications_vgg(16, without=("block5_conv4.kernel",)),
    _applications_vgg(19),
    Source(
        "keras.applications' Inception v3",
        ("conv2d_94.kernel", "batch_normalization_94.beta"),
        without=("conv2d_95.kernel",),
        variants=("inception_v3",),
        layers={
            "conv2d_{i}": "conv{i}",
            "batch_normalization_{i}": "bn{i}",
            "predictions": "predictions",
        },
    ),
    Source(
        "a ResNet-D",
        ("layer2.0.downsample.2.weight",),
        refused="It averages in its shortcuts, which none of ours does: resnet50, not resnet50d",
    ),
    Source(
        "mmsegmentation's PSPNet with a 7×7 stem",
        ("backbone.conv1.weight", "decode_head.psp_modules.0.1.conv.weight"),
        refused="Those with three 3×3 in the stem are read: r50-d8, not r50b-d8",
    ),
    Source(
        "the PSPNet authors' PSPNet",
        ("layer0.0.weight", "layer1.0.conv1.weight", "cls.4.weight"),
        variants=_resnets("_deep", "18 34 50 101 152 269"),
        layers={
            **_deep_stem("layer0"),
            **_BLOCKS,
            "ppm.features.{i}.1": "pyramid_pooling/level{i+1}_conv",
            "ppm.features.{i}.2": "pyramid_pooling/level{i+1}_bn",
            **_convolution_head("cls", "head"),
            **_convolution_head("aux", "auxiliary_head"),
        },
    ),
    Source(
        "the PSPNet authors' ResNet",
        ("conv1.weight", "conv3.weight", "layer1.0.conv1.weight"),
        variants=_resnets("_deep", "18 34 50 101 152 269"),
        layers={"conv{i}": "stem_conv{i}", "bn{i}": "stem_bn{i}", **_BLOCKS, **_FULLY_CONNECTED},
    ),
    Source(
        "torchvision's or timm's ResNet",
        ("conv1.weight", "layer1.0.conv1.weight"),
        without=("conv3.weight",),
        variants=_resnets("", "18 34")
        + _resnets("_v1b", "50 101 152")
        + _resnets("_torchvision", "50 101 152"),
        layers={"conv1": "stem_conv1", "bn1": "stem_bn1", **_BLOCKS, **_FULLY_CONNECTED},
    ),
    Source(
        "torchvision's FCN",
        ("backbone.conv1.weight", "classifier.0.weight", "classifier.4.weight"),
        variants=_resnets("_torchvision", "50 101 152"),
        layers={
            "backbone.conv1": "stem_conv1",
            "backbone.bn1": "stem_bn1",
            **{f"backbone.{theirs}": ours for theirs, ours in _BLOCKS.items()},
            **_convolution_head("classifier", "head"),
            **_convolution_head("aux_classifier", "auxiliary_head"),
        },
        usual={"output_stride": 8, "align_corners": False},
        network="FCN",
    ),
    Source(
        "the FCN authors' FCN in PyTorch",
        ("conv1_1.weight", "fc6.weight", "score_fr.weight"),
        variants=("vgg16",),
        layers={
            "conv{s}_{i}": "block{s}_conv{i}",
            "fc{i}": "fully_connected/fc{i}",
            "score_fr": "head",
            "upscore": "upscore32",
            **{name: name for name in ("score_pool{i}", "upscore{f}", "upscore_pool4")},
        },
        usual={"padding": "paper"},
        network="FCN",
    ),
    Source(
        "mmsegmentation's PSPNet",
        ("backbone.stem.0.weight", "decode_head.psp_modules.0.1.conv.weight"),
        variants=_resnets("_v1c"),
        layers={
            **_deep_stem("backbone.stem"),
            **{f"backbone.{theirs}": ours for theirs, ours in _BLOCKS.items()},
            "decode_head.psp_modules.{i}.1.conv": "pyramid_pooling/level{i+1}_conv",
            "decode_head.psp_modules.{i}.1.bn": "pyramid_pooling/level{i+1}_bn",
            "decode_head.bottleneck.conv": "head/conv1",
            "decode_head.bottleneck.bn": "head/bn1",
            "decode_head.conv_seg": "head/conv2",
            "auxiliary_head.convs.0.conv": "auxiliary_head/conv1",
            "auxiliary_head.convs.0.bn": "auxiliary_head/bn1",
            "auxiliary_head.conv_seg": "auxiliary_head/conv2",
        },
        usual={"align_corners": False},
    ),
    Source(
        "OpenMMLab's ResNet v1c",
        ("stem.0.weight", "layer1.0.conv1.weight"),
        variants=_resnets("_v1c"),
        layers={**_deep_stem("stem"), **_BLOCKS, **_FULLY_CONNECTED},
    ),
    *(_vgg(depth, kind) for kind in ("torchvision", "bn") for depth in _VGG_STAGES),
    Source(
        "torchvision's AlexNet",
        ("features.3.weight", "features.10.weight"),
        without=("features.1.weight",),
        variants=("alexnet_torchvision",),
        layers={
            **{f"features.{index}": f"conv{i}" for i, index in enumerate((0, 3, 6, 8, 10), 1)},
            **{"classifier.1": "fc1", "classifier.4": "fc2", "classifier.6": "predictions"},
        },
        channels={"fc1": 256},
    ),
    Source(
        "torchvision's GoogLeNet",
        ("conv3.conv.weight", "inception3a.branch1.conv.weight"),
        variants=("googlenet_torchvision",),
        layers=_GOOGLENET | _FULLY_CONNECTED,
        left_out={r"aux\d\..*": "auxiliary classifiers, which differ from ours"},
    ),
    Source(
        "torchvision's or timm's Inception v3",
        ("Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"),
        variants=("inception_v3_torchvision",),
        layers=_FULLY_CONNECTED
        | {
            f"{theirs}.{kind}": f"{kind}{number}"
            for number, theirs in enumerate(_V3_CONVOLUTIONS, 1)
            for kind in ("conv", "bn")
        },
        left_out={r"AuxLogits\..*": "an auxiliary classifier, which ours is without"},
    ),
)


def identify(path: str | os.PathLike, names: Iterable[str]) -> Source:
    """Finds out whose a checkpoint is, by the names of its tensors alone.

    Args:
        path: The file, for the messages.
        names: The names of its tensors.

    Returns:
        The row of `SOURCES`.

    Raises:
        ValueError: If no source has such names, several have, or it is a network that none of ours
            is.
    """
    names = list(names)
    known = [
        source
        for source in SOURCES
        if {*source.marks} <= {*names} and not {*source.without} & {*names}
    ]
    for source in known:
        if source.refused:
            raise ValueError(
                f"A checkpoint must be of a network that is among ours. Received: weights='{path}' "
                f"of {source.title}. {source.refused}."
            )
    if len(known) != 1:
        found = " or ".join(source.title for source in known) or "nobody known"
        sources = ", ".join(source.title for source in SOURCES if not source.refused)
        raise ValueError(
            f"The names of its tensors identify a checkpoint; those of {sources} are known. "
            f"Received: weights='{path}', of {found}, with {', '.join(names[:5]) or 'none'}, …. "
            "Save the tensors under the names of one of these."
        )
    return known[0]
