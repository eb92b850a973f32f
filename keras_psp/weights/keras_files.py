"""Loads the files that Keras 3 writes: `.weights.h5`, `.keras`, and whole models as `.h5`."""

import json
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np

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
    import h5py

    if not h5py.is_hdf5(path):
        return path.name.endswith((".keras", ".weights.h5"))
    with h5py.File(path) as file:
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
            with zipfile.ZipFile(path) as archive:
                source = Path(archive.extract("model.weights.h5", folder))
        # The same tensors lie at the same place in the files of two models that are built alike.
        model.save_weights(own)
        theirs, ours = (
            {
                key: tensor
                for key, tensor in _tensors(file).items()
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
        with h5py.File(source) as read, h5py.File(own, "r+") as written:
            for key in theirs:
                written[key][...] = read[key][()] * read[key].attrs.get("scale", 1)
        model.load_weights(own)


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


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by the place where they lie."""
    import h5py

    tensors: dict[str, Tensor] = {}

    def visit(key, item):
        if isinstance(item, h5py.Dataset) and not key.startswith("optimizer"):
            # Keras sorts by class ("layers/dense"), and notes the layer's own name beside.
            *groups, _, number = key.split("/")
            paths = ["/".join([*groups[: i + 1], "vars"]) for i in range(len(groups))]
            names = [file[path].attrs.get("name") for path in paths if path in file]
            layer = "/".join(map(text, filter(None, names))) or "/".join(groups)
            tensors[key] = Tensor(f"{layer} #{number}", layer, item.shape)

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ValueError(
            "Weights come from a .weights.h5 or .keras file. "
            f"Received: weights='{path}', which is not readable as one ({error}). Save it again."
        ) from error
    return tensors


def is_hdf5_model(path: Path) -> bool:
    """Whether a file is a whole model of ours in HDF5, which is written no more."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
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

    values = {}

    def visit(key, item):
        if isinstance(item, h5py.Dataset):
            values[key.partition("/")[2]] = item[()]  # Behind the layer's name is the variable's.

    with h5py.File(path) as file:
        file["model_weights"].visititems(visit)
    variables = {variable.path: variable for variable in model.weights}
    theirs, ours = (
        {
            key: Tensor(key, layer, tuple(value.shape))
            for key, value in tensors.items()
            if not is_auxiliary(layer := key.rpartition("/")[0])
            and not (fresh_head and predicts_classes(layer))
        }
        for tensors in (values, variables)
    )
    check_same_tensors(f"weights='{path}' for {model.name}", theirs, ours)
    for key in theirs:
        variables[key].assign(values[key])
