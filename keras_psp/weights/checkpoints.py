"""Checkpoints from elsewhere: how their files are read, and what each source calls our tensors.

A source is a row of `SOURCES`: by which tensors it is known, which of our networks its checkpoints
fit, and a map of names. Another source is another row.
"""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

# File formats ------------------------------------------------------------------------------------

# Training scripts put the tensors under one of these, beside optimizer, epoch and the like.
_WRAPPERS = ("state_dict", "model")


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint, and nothing else: no code in a file is ever run.

    Args:
        path: A `.pth`, `.pt`, `.safetensors`, `.npz` or `.h5` file of named tensors.

    Returns:
        Names in the file → float32 arrays.

    Raises:
        ImportError: If the package that reads this format is not installed.
        ValueError: If the file holds something else, or cannot be read.
    """
    path = Path(path)
    suffix = next((s for s in reversed(path.suffixes) if s in _READERS), path.suffix)
    if suffix not in _READERS:
        raise ValueError(
            f"Weights come from a {', '.join(_READERS)}, .weights.h5 or .keras file. "
            f"Received: weights='{path}'. Save them as one of these."
        )
    try:
        tensors = _READERS[suffix](path)
    except ImportError as error:
        package = "safetensors" if suffix == ".safetensors" else "torch"
        raise ImportError(
            f"Reading {suffix} files needs the package {package}. Received: weights='{path}'. "
            f"Install it: pip install {package}"
        ) from error
    except Exception as error:  # Each library has errors of its own for what it cannot read.
        raise ValueError(
            "Weights come from a file of tensors alone, which is read without running code. "
            f"Received: weights='{path}', which is not readable as one ({_first_line(error)}). "
            "Save it again: in PyTorch, torch.save(model.state_dict(), path)."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(tensors.get(wrapper), Mapping):
            tensors = tensors[wrapper]
            break
    if others := [name for name, value in tensors.items() if not hasattr(value, "shape")]:
        raise ValueError(
            "A checkpoint must hold named tensors, on the outside or under 'state_dict'. "
            f"Received: weights='{path}' with {', '.join(map(repr, others[:5]))}. Save the "
            "state_dict alone."
        )
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return {name: _to_numpy(value) for name, value in tensors.items()}


def _read_torch(path: Path) -> Mapping[str, Any]:
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    return content if isinstance(content, Mapping) else {type(content).__name__: content}


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_npz(path: Path) -> Mapping[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_h5(path: Path) -> Mapping[str, Any]:
    import h5py

    tensors: dict[str, Any] = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            tensors[name.replace("/", ".")] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return tensors


_READERS = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".h5": _read_h5,
}


def _to_numpy(value: Any) -> np.ndarray:
    # NumPy has no bfloat16.
    value = value.float().numpy() if hasattr(value, "float") else value
    return np.asarray(value, "float32")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


# Sources -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One row of the table of sources.

    Attributes:
        title: Whose checkpoints they are.
        marks: Tensors that all of its files have; what it is known by.
        without: Tensors that none of its files has, where the marks are another source's too.
        variants: Our networks, by name, or as backbones, that its checkpoints fit.
        layers: What it calls a layer → what we do. `{b}` stands for a part of the name between two
            dots, `{b+1}` for the next number.
        left_out: Pattern of tensors that our networks have no place for → why.
        channels: A fully connected layer behind a flattened map → the map's channels: PyTorch
            flattens channels first, Keras last.
        usual: What arguments of its networks are mostly, where no tensor tells.
        refused: Why none of our networks is this one, if that is so.
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

    def our_layer(self, theirs: str) -> str | None:
        """Our name of one of their layers; `None` if there is no such."""
        for template, ours in self.layers.items():
            found = re.fullmatch(_FIELD.sub(r"(?P<\1>[^.]+)", template.replace(".", r"\.")), theirs)
            if found:
                return _FIELD.sub(lambda m: _number(found[m[1]], m[2]), ours)  # noqa: B023
        return None


_FIELD = re.compile(r"\{(\w)(\+1)?\}")


def _number(text: str, following: str | None) -> str:
    return str(int(text) + 1) if following and text.isdecimal() else text


# What PyTorch calls a tensor → what Keras does, in a convolution and in a batch normalization.
_TENSORS = {
    "weight": ("kernel", "gamma"),
    "bias": ("bias", "beta"),
    "running_mean": ("moving_mean",),
    "running_var": ("moving_variance",),
}

# Counts training steps for a kind of batch normalization that nobody uses.
_COUNTER = r".*\.num_batches_tracked"

_BLOCKS = {
    "layer{s}.{b}.conv{i}": "stage{s}_block{b+1}/conv{i}",
    "layer{s}.{b}.bn{i}": "stage{s}_block{b+1}/bn{i}",
    "layer{s}.{b}.downsample.0": "stage{s}_block{b+1}/shortcut_conv",
    "layer{s}.{b}.downsample.1": "stage{s}_block{b+1}/shortcut_bn",
}
_DEEP_STEM = {"conv{i}": "stem_conv{i}", "bn{i}": "stem_bn{i}"}
# The same in a sequence whose every third module is a ReLU: conv, bn, relu, conv, bn, relu, …
_SEQUENCE = {
    f"{{s}}.{3 * i + place}": f"stem_{kind}{i + 1}"
    for i in range(3)
    for place, kind in enumerate(("conv", "bn"))
}
_FULLY_CONNECTED = {"fc": "predictions"}


def _under(prefix: str, layers: Mapping[str, str]) -> dict[str, str]:
    return {prefix + theirs: ours for theirs, ours in layers.items()}


def _sequence(name: str) -> dict[str, str]:
    return {theirs.replace("{s}", name): ours for theirs, ours in _SEQUENCE.items()}


def _resnets(suffix: str, depths: str = "18 34 50 101 152") -> tuple[str, ...]:
    return tuple(f"resnet{depth}{suffix}" for depth in depths.split())


# Indices of the convolutions among torchvision's `features`, stage by stage.
_VGG_FEATURES = {
    11: "0 | 3 | 6 8 | 11 13 | 16 18",
    13: "0 2 | 5 7 | 10 12 | 15 17 | 20 22",
    16: "0 2 | 5 7 | 10 12 14 | 17 19 21 | 24 26 28",
    19: "0 2 | 5 7 | 10 12 14 16 | 19 21 23 25 | 28 30 32 34",
}
_VGG_MARKS = {11: "3 18", 13: "15 22", 16: "17 24", 19: "25 34"}


def _vgg(depth: int) -> Source:
    layers = {
        f"features.{index}": f"block{stage}_conv{i}"
        for stage, indices in enumerate(_VGG_FEATURES[depth].split("|"), 1)
        for i, index in enumerate(indices.split(), 1)
    }
    ends = {"classifier.0": "fc1", "classifier.3": "fc2", "classifier.6": "predictions"}
    return Source(
        f"torchvision's VGG-{depth}",
        tuple(f"features.{index}.weight" for index in _VGG_MARKS[depth].split()),
        variants=(f"vgg{depth}_torchvision",),
        layers=layers | ends,
        channels={"fc1": 512},
    )


_GOOGLENET = {
    **{
        f"{theirs}.{kind}": ours + suffix
        for theirs, ours in [("conv1", "conv1"), ("conv2", "conv2_reduce"), ("conv3", "conv2")]
        for kind, suffix in [("conv", ""), ("bn", "_bn")]
    },
    **{
        f"inception{{m}}.{branch}.{kind}": f"inception_{{m}}/{ours}{suffix}"
        for branch, ours in [
            ("branch1", "conv_1x1"),
            ("branch2.0", "reduce_3x3"),
            ("branch2.1", "conv_3x3"),
            ("branch3.0", "reduce_5x5"),
            ("branch3.1", "conv_5x5"),
            ("branch4.1", "project_pool"),
        ]
        for kind, suffix in [("conv", ""), ("bn", "_bn")]
    },
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

SOURCES: tuple[Source, ...] = (
    Source(
        "a VGG with batch normalization",
        ("features.1.running_mean",),
        refused="The paper's VGG, which ours is, has none: vgg16, not vgg16_bn",
    ),
    Source(
        "a ResNet-D",
        ("layer2.0.downsample.2.weight",),
        refused="It averages in its shortcuts, which none of ours does: resnet50, not resnet50d",
    ),
    Source(
        "mmsegmentation's PSPNet with a 7×7 stem",
        ("backbone.conv1.weight", "decode_head.psp_modules.0.1.conv.weight"),
        refused="Its dilation is not that of our networks with this stem: r50-d8, not r50b-d8",
    ),
    Source(
        "the PSPNet authors' PSPNet",
        ("layer0.0.weight", "layer1.0.conv1.weight", "cls.4.weight"),
        variants=_resnets("_deep", "18 34 50 101 152 269"),
        layers={
            **_sequence("layer0"),
            **_BLOCKS,
            "ppm.features.{i}.1": "pyramid_pooling/level{i+1}_conv",
            "ppm.features.{i}.2": "pyramid_pooling/level{i+1}_bn",
            **{
                f"{theirs}.{place}": f"{ours}/{layer}"
                for theirs, ours in [("cls", "head"), ("aux", "auxiliary_head")]
                for place, layer in [(0, "conv1"), (1, "bn1"), (4, "conv2")]
            },
        },
    ),
    Source(
        "the PSPNet authors' ResNet",
        ("conv1.weight", "conv3.weight", "layer1.0.conv1.weight"),
        variants=_resnets("_deep", "18 34 50 101 152 269"),
        layers={**_DEEP_STEM, **_BLOCKS, **_FULLY_CONNECTED},
    ),
    Source(
        "torchvision's or timm's ResNet",
        ("conv1.weight", "layer1.0.conv1.weight"),
        without=("conv3.weight",),
        variants=_resnets("", "18 34") + _resnets("_v1b", "50 101 152"),
        layers={"conv1": "stem_conv1", "bn1": "stem_bn1", **_BLOCKS, **_FULLY_CONNECTED},
    ),
    Source(
        "mmsegmentation's PSPNet",
        ("backbone.stem.0.weight", "decode_head.psp_modules.0.1.conv.weight"),
        variants=_resnets("_v1c"),
        layers={
            **_under("backbone.", {**_sequence("stem"), **_BLOCKS}),
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
        layers={**_sequence("stem"), **_BLOCKS, **_FULLY_CONNECTED},
    ),
    *(_vgg(depth) for depth in _VGG_FEATURES),
    Source(
        "torchvision's AlexNet",
        ("features.3.weight", "features.10.weight"),
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
        "torchvision's Inception v3",
        ("Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"),
        variants=("inception_v3_torchvision",),
        layers={
            **{
                f"{theirs}.{kind}": f"{kind}{number}"
                for number, theirs in enumerate(_V3_CONVOLUTIONS, 1)
                for kind in ("conv", "bn")
            },
            **_FULLY_CONNECTED,
        },
        left_out={r"AuxLogits\..*": "an auxiliary classifier, which ours is without"},
    ),
)


def identify(path: str | os.PathLike, names: Mapping[str, Any]) -> Source:
    """Finds out whose a checkpoint is, by the names of its tensors alone.

    Args:
        path: The file, for the messages.
        names: Its tensors.

    Returns:
        The row of `SOURCES`.

    Raises:
        ValueError: If it is nobody's, of several, or of one that our networks differ from.
    """
    known = [
        source
        for source in SOURCES
        if all(mark in names for mark in source.marks)
        and not any(name in names for name in source.without)
    ]
    for source in known:
        if source.refused:
            raise ValueError(
                f"A checkpoint must be of a network that is among ours. Received: weights='{path}' "
                f"of {source.title}. {source.refused}."
            )
    if len(known) != 1:
        found = (
            f"of {' or '.join(source.title for source in known)}" if known else "of nobody known"
        )
        sources = ", ".join(source.title for source in SOURCES if not source.refused)
        raise ValueError(
            f"A checkpoint is told by the names of its tensors; those of {sources} are known. "
            f"Received: weights='{path}', {found}, with {', '.join(list(names)[:5]) or 'none'}, …. "
            "Save the tensors under the names of one of these."
        )
    return known[0]


# From their tensors to our variables ------------------------------------------------------------

# Layers beyond a backbone; those that exist in training only; and the last ones, which have as many
# channels as there are classes.
_ENDS = r"(pyramid_pooling|head|auxiliary_\w+|predictions|fc\d)\b.*"
_AUXILIARY = r"auxiliary_\w+/.*"
_LAST = r"((auxiliary_)?head(/conv2)?|(auxiliary_\w+/)?predictions)"
_KINDS = {kind for kinds in _TENSORS.values() for kind in kinds}


def is_last(layer: str) -> bool:
    """Whether a layer of ours is a last one, which another number of classes changes."""
    return re.fullmatch(_LAST, layer) is not None


def assign_checkpoint(
    model: keras.Model, path: str | os.PathLike, *, fresh_head: bool = False
) -> str:
    """Puts a checkpoint from elsewhere into a network of ours: every tensor, or none.

    Args:
        model: The network, built.
        path: The file.
        fresh_head: Whether the last layers stay as they are.

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
            "one of those, by its name."
        )
    variables = {
        variable.path: variable
        for variable in model.variables
        if variable.path.rpartition("/")[2] in _KINDS
    }
    whole = any(re.fullmatch(_ENDS, name) for name in variables)
    values: dict[str, np.ndarray] = {}
    missing = {name for name in variables if not (fresh_head and is_last(name.rpartition("/")[0]))}
    problems, left_out, culprits = [], [], set()
    for theirs, ours, value in _translate(source, tensors):
        if ours is None:
            reason = next((r for p, r in source.left_out.items() if re.fullmatch(p, theirs)), None)
            if reason is None:
                culprits.add(theirs)
                problems.append(f"{theirs} of the file has no place in the model")
            else:
                left_out.append(reason)
            continue
        layer, _, kind = ours.rpartition("/")
        names = [f"{layer}/{kind}" for kind in _TENSORS[kind] if f"{layer}/{kind}" in variables]
        if fresh_head and is_last(layer):
            left_out.append(f"{layer}, which starts afresh")
        elif not names:
            end = re.fullmatch(_ENDS, layer)
            if end and (not whole or re.fullmatch(_AUXILIARY, ours)):
                left_out.append(end[1])
            else:
                culprits.add(ours)
                problems.append(f"{theirs} of the file, our {layer}, is not in the model")
        else:
            shape = tuple(variables[names[0]].shape)
            missing.discard(names[0])
            value = _as_keras(value, source.channels.get(layer))
            if value.shape == shape:
                values[names[0]] = value
            else:
                culprits.add(names[0])
                problems.append(
                    f"{theirs} is {value.shape} in the file, {names[0]} {shape} in the model"
                )
    # What exists in training only may be absent, but not in part.
    auxiliary = {name for name in variables if re.fullmatch(_AUXILIARY, name)}
    if missing >= {name for name in auxiliary if not is_last(name.rpartition("/")[0])}:
        missing -= auxiliary
    problems += [f"{name} of the model is not in the file" for name in variables if name in missing]
    if problems:
        raise ValueError(
            f"Every tensor of a checkpoint must fit. Received: weights='{path}' of {source.title} "
            f"for {model.name} ({variant}), where {first(problems)}. {_repair(culprits | missing)}"
        )
    for name, value in values.items():
        variables[name].assign(value)
    for argument, value in source.usual.items():
        if getattr(model, argument, value) != value:
            warnings.warn(
                f"Most networks of {source.title} have {argument}={value}; no tensor tells. "
                f"Received: weights='{path}' for a model with {argument}="
                f"{getattr(model, argument)}. See the configuration that the file was trained "
                f"with, and build the model with its {argument}.",
                stacklevel=4,
            )
    without = f", without {', '.join(dict.fromkeys(left_out))}" if left_out else ""
    return f"the file {path} ({source.title}{without})"


def variant_of(model: keras.Model) -> str:
    """The name in our tables of a classifier, backbone, or a segmentation model's backbone."""
    return getattr(getattr(model, "backbone", model), "variant", "")


def first(problems: list[str], most: int = 3) -> str:
    """The first of the problems, and how many more there are."""
    more = len(problems) - most
    return "; ".join(problems[:most]) + (f"; and {more} more" if more > 0 else "")


def _translate(
    source: Source, tensors: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, str | None, np.ndarray]]:
    """Their name, our layer with their kind of tensor behind it, if there is one, and the value."""
    for name, value in tensors.items():
        if re.fullmatch(_COUNTER, name):
            continue
        layer, _, kind = name.rpartition(".")
        ours = source.our_layer(layer) if kind in _TENSORS else None
        yield name, ours and f"{ours}/{kind}", value


def _as_keras(value: np.ndarray, channels: int | None) -> np.ndarray:
    """PyTorch's order of axes → Keras': filters last, and channels last where maps are flat."""
    if channels is not None and value.ndim == 2:
        outputs = value.shape[0]
        return value.reshape(outputs, channels, -1).transpose(2, 1, 0).reshape(-1, outputs)
    return value.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, range(value.ndim)))


def _repair(culprits: set[str]) -> str:
    """What to do where these variables of ours are what does not fit."""
    if all(is_last(name.rpartition("/")[0]) for name in culprits):
        return (
            "Build the model with the file's number of classes, or pass fresh_head=True, which "
            "leaves the last layers as they were made."
        )
    if all(re.fullmatch(_ENDS, name) for name in culprits):
        return "If the file holds a backbone alone, pass it as backbone_weights=."
    return "Build the model that the file was saved from."


# From a checkpoint to the network ---------------------------------------------------------------


@dataclass(frozen=True)
class Description:
    """What a checkpoint is of, as far as its tensors tell.

    Attributes:
        title: Whose it is.
        variant: Our network that it fits, in the tables of classifiers and backbones.
        num_classes: Channels of its last layer; 0 if it has none.
        levels: Of a PSPNet, the number of levels of its pyramid; `None` of a classifier.
        auxiliary: Whether it has an auxiliary head.
    """

    title: str
    variant: str
    num_classes: int
    levels: int | None
    auxiliary: bool


def describe(path: str | os.PathLike) -> Description:
    """Finds out what a checkpoint from elsewhere is of.

    Args:
        path: The file.

    Returns:
        The description.

    Raises:
        ValueError: If it is of none of our networks.
    """
    from keras_psp.models.resnet import RESNETS

    tensors = read_tensors(path)
    source = identify(path, tensors)
    shapes = {ours: value.shape for _, ours, value in _translate(source, tensors) if ours}
    blocks = [re.match(r"stage(\d)_block(\d+)/", name) for name in shapes]
    counts = tuple(max([int(m[2]) for m in blocks if m and m[1] == s], default=0) for s in "1234")
    kind = "bottleneck" if "stage1_block1/conv3/weight" in shapes else "basic"
    fitting = [
        name
        for name in source.variants
        if name not in RESNETS or (RESNETS[name].blocks, RESNETS[name].block) == (counts, kind)
    ]
    if not fitting:
        raise ValueError(
            f"A checkpoint of {source.title} fits {', '.join(source.variants)}. Received: "
            f"weights='{path}', whose stages have {counts} {kind} blocks. Choose another file."
        )
    segments = "head/conv2/weight" in shapes
    last = "head/conv2/weight" if segments else "predictions/weight"
    levels = [name for name in shapes if re.fullmatch(r"pyramid_pooling/level\d+_conv/.*", name)]
    return Description(
        source.title,
        fitting[0],
        shapes.get(last, (0,))[0],
        len(levels) if segments else None,
        "auxiliary_head/conv2/weight" in shapes,
    )
