"""Loads the files that Keras 3 writes: `.weights.h5`, `.keras`, and whole models as `.h5`."""

import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.untrusted import is_hdf5, open_hdf5, open_keras_archive
from keras_psp.weights.comparing import (
    Tensor,
    check_same_tensors,
    is_auxiliary,
    of_coarser,
    predicts_classes,
)
from keras_psp.weights.reading import text


def is_keras_file(path: Path) -> bool:
    """Whether a file has the form in which Keras 3 saves weights, whatever its ending."""
    if not is_hdf5(path):
        return path.name.endswith((".keras", ".weights.h5"))
    with open_hdf5(path) as file:
        return file.visit(lambda key: key.endswith("/vars/0") or None) is not None


def load_keras_file(model: keras.Model, path: Path, *, fresh_head: bool = False) -> None:
    """Loads the weights that were saved from a model of the same architecture.

    Args:
        model: The model, built.
        path: The file.
        fresh_head: Whether the layers that predict classes stay as they are.

    Raises:
        ValueError: If the file cannot be read, or its tensors are not exactly the model's, where
            an auxiliary head may be absent from either; the message names them.
    """
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        source, own = path, Path(folder, "own.weights.h5")
        if path.suffix == ".keras":
            with open_keras_archive(path) as archive:
                source = Path(archive.extract("model.weights.h5", folder))
        # The same tensors lie at the same place in the files of two models that are built alike.
        model.save_weights(own)
        theirs, ours = (
            {
                key: tensor
                for key, tensor in _tensors(file, path).items()
                if not (fresh_head and predicts_classes(tensor.layer))
            }
            for file in (source, own)
        )
        if not all(any(is_auxiliary(t.layer) for t in ts.values()) for ts in (theirs, ours)):
            # What exists in training only may be absent from either.
            theirs, ours = (
                {key: one for key, one in tensors.items() if not is_auxiliary(one.layer)}
                for tensors in (theirs, ours)
            )
        theirs, ours = of_coarser(theirs, ours)
        check_same_tensors(f"weights='{path}' for {model.name}", theirs, ours)
        with open_hdf5(source) as read, h5py.File(own, "r+") as written:
            for key in theirs:
                written[key][...] = read[key][()] * read[key].attrs.get("scale", 1)
        model.load_weights(own)


# Beside what Keras saves: what else decides how a training goes on.
_RUN = "run"
_PROGRESS = f"{_RUN}/progress"
_SEEDS = f"{_RUN}/seeds"
_CHECKSUM = "checksum"


def save_state(model: keras.Model, path: Path, progress: Any = None) -> None:
    """Writes weights, the optimizer's state, and a checksum, by which damage is noticed.

    Args:
        model: The model.
        path: The file, a `.weights.h5`. Keras' own `load_weights` reads it, too.
        progress: What JSON can hold of a training so far. With it, the states of the random numbers
            are written (dropout has some), so that a training goes on from here as if it had not
            stopped.
    """
    import h5py

    model.save_weights(path)
    with h5py.File(path, "a") as file:
        if progress is not None:
            file[_PROGRESS] = np.frombuffer(json.dumps(progress).encode(), "uint8")
            for number, seed in enumerate(_seeds(model)):
                file[f"{_SEEDS}/{number}"] = ops.convert_to_numpy(seed)
        file.attrs[_CHECKSUM] = _checksum(file)


def load_state(model: keras.Model, path: Path) -> Any:
    """Loads all that `save_state` wrote, and returns the progress.

    Args:
        model: The same model, compiled where the optimizer's state is to be loaded.
        path: The file.

    Raises:
        ValueError: If the file is damaged.
    """
    with open_hdf5(path) as file:
        _check_checksum(path, file)
        seeds, saved = _seeds(model), file.get(_SEEDS, ())
        for number, seed in enumerate(seeds if len(seeds) == len(saved) else ()):
            seed.assign(saved[str(number)][()])
        progress = json.loads(file[_PROGRESS][()].tobytes()) if _PROGRESS in file else None
    model.load_weights(path)
    return progress


def _seeds(model: keras.Model) -> list[Any]:
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def _checksum(file: Any) -> int:
    import h5py

    found = 0

    def visit(key, item):
        nonlocal found
        if isinstance(item, h5py.Dataset):
            found = zlib.crc32(item[()].tobytes(), zlib.crc32(key.encode(), found))

    file.visititems(visit)
    return found


def _check_checksum(path: Path, file: Any) -> None:
    if _CHECKSUM in file.attrs and file.attrs[_CHECKSUM] != _checksum(file):
        raise ValueError(
            "The numbers in a file of weights are those that were written. "
            f"Received: path='{path}', which has changed since. Take another copy."
        )


def save_8_bit_weights(model: keras.Model, path: Path) -> None:
    """Writes weights in a quarter of the usual size: 8 bits for each number of a kernel.

    Every output channel has a scale of its own, its largest number divided by 127. Biases and what
    batch normalization has stay float32. Of the optimizer nothing is written.

    Args:
        model: The model.
        path: The file, best `NAME.8bit.h5`. `load_weights` and `weights=` read it; Keras' own
            `load_weights` does not know the scales.
    """
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "own.weights.h5")
        model.save_weights(own)
        with h5py.File(own) as read, h5py.File(path, "w") as written:

            def visit(key, item):
                if key.startswith("optimizer"):
                    return
                if isinstance(item, h5py.Group):
                    copy = written.require_group(key)
                elif item.ndim < 2:
                    copy = written.create_dataset(key, data=item[()])
                else:
                    scale = np.abs(item[()]).max(axis=tuple(range(item.ndim - 1))) / 127
                    # A channel of zeros needs no scale.
                    numbers = np.rint(item[()] / np.where(scale, scale, 1)).astype("int8")
                    copy = written.create_dataset(key, data=numbers, compression="gzip")
                    copy.attrs["scale"] = scale
                copy.attrs.update(item.attrs)

            read.visititems(visit)


def _tensors(path: Path, source: Path) -> dict[str, Tensor]:
    """The tensors of a file, by the place where they lie; messages call it by its source."""
    import h5py

    tensors: dict[str, Tensor] = {}

    def visit(key, item):
        if isinstance(item, h5py.Dataset) and not key.startswith(("optimizer", _RUN)):
            # Keras sorts by class ("layers/dense"), and notes the layer's own name beside.
            *groups, _, number = key.split("/")
            paths = ["/".join([*groups[: i + 1], "vars"]) for i in range(len(groups))]
            names = [file[path].attrs.get("name") for path in paths if path in file]
            layer = "/".join(map(text, filter(None, names))) or "/".join(groups)
            tensors[key] = Tensor(f"{layer} #{number}", layer, item.shape)

    with open_hdf5(path, source) as file:
        _check_checksum(source, file)
        file.visititems(visit)
    return tensors


def is_hdf5_model(path: Path) -> bool:
    """Whether a file is a whole model of ours in HDF5, which is written no more."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        name = json.loads(file.attrs.get("model_config", "{}")).get("class_name")
    return keras.saving.get_registered_object(f"keras_psp>{name}") is not None


def load_hdf5_model(model: keras.Model, path: Path, *, fresh_head: bool = False) -> None:
    """Loads the weights of a whole model in HDF5: all but an auxiliary head's, which it lacks.

    Args:
        model: As in `load_keras_file`, also the other arguments.
        path: The file.
        fresh_head: Whether the layers that predict classes stay as they are.

    Raises:
        ValueError: If its tensors are not exactly the model's; the message names them.
    """
    import h5py

    theirs: dict[str, Tensor] = {}
    places: dict[str, str] = {}

    def visit(place, item):
        key = place.partition("/")[2]  # Behind the layer's name is the variable's.
        if isinstance(item, h5py.Dataset) and (tensor := wanted(key, item)):
            theirs[key], places[key] = tensor, place

    def wanted(key, value):
        layer = key.rpartition("/")[0]
        if is_auxiliary(layer) or (fresh_head and predicts_classes(layer)):
            return None
        return Tensor(key, layer, tuple(value.shape))

    variables = {variable.path: variable for variable in model.weights}
    ours = {key: tensor for key, v in variables.items() if (tensor := wanted(key, v))}
    with open_hdf5(path) as file:
        file["model_weights"].visititems(visit)
        check_same_tensors(f"weights='{path}' for {model.name}", theirs, ours)
        for key, place in places.items():
            variables[key].assign(file["model_weights"][place][()])
