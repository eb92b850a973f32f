"""Reads the tensors in files of PyTorch, safetensors, NumPy, HDF5 and Keras 2."""

import math
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.untrusted import check_archive, check_declared, check_regular, open_hdf5

# Training scripts put the tensors under one of these, beside optimizer, epoch and the like.
_WRAPPERS = ("state_dict", "model")


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint, and nothing else: no code in a file is ever run.

    Args:
        path: A `.pth`, `.pt`, `.safetensors` or `.npz` file, an `.h5` file of named tensors, or one
            of Keras 2, such as those of `keras.applications`.

    Returns:
        Names in the file → float32 arrays. Keras 2 has layers rather than names: there a name is
        the layer's and the tensor's (`"block1_conv1.kernel"`).

    Raises:
        ImportError: If the package that reads this format is not installed.
        ValueError: If the file holds something else, or cannot be read.
    """
    path = Path(path)
    suffix = next((s for s in reversed(path.suffixes) if s in READERS), path.suffix)
    if suffix not in READERS:
        raise ValueError(
            f"Weights come from a {', '.join(READERS)}, .weights.h5 or .keras file. "
            f"Received: weights='{path}'. Save them as one of these."
        )
    try:
        check_regular(path)
        tensors = READERS[suffix](path)
    except ImportError as error:
        package = "safetensors" if suffix == ".safetensors" else "torch"
        raise ImportError(
            f"Reading {suffix} files needs the package {package}. Received: weights='{path}'. "
            f"Install it: pip install {package}"
        ) from error
    except Exception as error:  # Each library has errors of its own for what it cannot read.
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "Weights come from a file of tensors alone, which is read without running code. "
            f"Received: weights='{path}', which is not readable as one ({reason}). Save it again: "
            "in PyTorch, torch.save(model.state_dict(), path)."
        ) from error
    wrapped = (tensors.get(name) for name in _WRAPPERS)
    tensors = next((inside for inside in wrapped if isinstance(inside, Mapping)), tensors)
    if others := [name for name, value in tensors.items() if not hasattr(value, "shape")]:
        raise ValueError(
            "A checkpoint must hold named tensors, on the outside or under 'state_dict'. "
            f"Received: weights='{path}' with {', '.join(map(repr, others[:5]))}. Save the "
            "state_dict alone."
        )
    try:
        check_declared(path, 4 * sum(math.prod(value.shape) for value in tensors.values()))
        # Training on several GPUs puts "module." before each name.
        return {
            _text(name).removeprefix("module."): _to_numpy(name, value)
            for name, value in tensors.items()
        }
    except (OSError, TypeError) as error:
        raise ValueError(
            "A checkpoint holds named tensors of real numbers. "
            f"Received: weights='{path}', in which {error}. Save the state_dict of the network as "
            "PyTorch trains it."
        ) from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    if zipfile.is_zipfile(path):
        check_archive(path)
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    return content if isinstance(content, Mapping) else {type(content).__name__: content}


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_npz(path: Path) -> Mapping[str, Any]:
    check_archive(path)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_h5(path: Path) -> Mapping[str, Any]:
    import h5py

    tensors: dict[str, Any] = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            tensors[name.replace("/", ".")] = item[()]

    with open_hdf5(path) as file:
        weights = file.get("model_weights", file)
        if "layer_names" in weights.attrs:
            return _read_keras_2(weights)
        file.visititems(visit)
    return tensors


# The tensors of a layer have had several names in Keras 2, but always this order.
_KERAS_2_TENSORS = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    3: ("beta", "moving_mean", "moving_variance"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def _read_keras_2(file: Any) -> dict[str, Any]:
    layers = [text(layer) for layer in file.attrs["layer_names"]]
    numbers = _numbered_from_one(layers)
    tensors = {}
    for layer in layers:
        paths = [text(path) for path in file[layer].attrs["weight_names"]]
        kinds = _KERAS_2_TENSORS.get(len(paths), tuple(map(str, range(len(paths)))))
        for kind, path in zip(kinds, paths, strict=True):
            tensors[f"{numbers.get(layer, layer)}.{kind}"] = file[layer][path][()]
    return tensors


def _numbered_from_one(layers: list[str]) -> dict[str, str]:
    """Keras numbers layers without a name from where it stood: `conv2d_95`, … → `conv2d_1`, …"""
    renamed: dict[str, str] = {}
    for kind in ("conv2d", "batch_normalization"):
        found = [match for n in layers if (match := re.fullmatch(rf"{kind}(?:_(\d+))?", n))]
        found.sort(key=lambda match: int(match[1] or 0))
        renamed |= {match[0]: f"{kind}_{i}" for i, match in enumerate(found, 1)}
    return renamed


def text(name: str | bytes) -> str:
    """A name in an HDF5 file, of either of the types that h5py gives."""
    return name.decode() if isinstance(name, bytes) else name


# Ending of a file → what reads it.
READERS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
}


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name is {name!r}, a {type(name).__name__}")
    return name


def _to_numpy(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "is_quantized"):  # a tensor of PyTorch
        if value.is_quantized or str(value.layout) != "torch.strided" or value.is_complex():
            raise TypeError(f"{name} is {value.layout} of {value.dtype}")
        # NumPy has no bfloat16.
        value = value.detach().float().numpy()
    if np.asarray(value).dtype.kind not in "fiub":
        raise TypeError(f"{name} is of {np.asarray(value).dtype}")
    return np.asarray(value, "float32")
