"""Loads the files that Keras 3 writes: `.weights.h5` and `.keras`."""

import tempfile
import zipfile
from pathlib import Path

import keras

from keras_psp.weights.comparing import Tensor, check_same_tensors, of_coarser, predicts_classes
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
        ValueError: If the file cannot be read, or its tensors are not exactly the model's; the
            message names them.
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
        theirs, ours = of_coarser(theirs, ours)
        check_same_tensors(f"weights='{path}' for {model.name}", theirs, ours)
        with h5py.File(source) as read, h5py.File(own, "r+") as written:
            for key in theirs:
                written[key][...] = read[key][()]
        model.load_weights(own)


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
