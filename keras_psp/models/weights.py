"""Weights from files: ImageNet's as `keras.applications` publishes them, and our own."""

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

import keras

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"


def _resnet_layer_name(ours: str) -> str:
    """`stage3_block2/conv1` → `conv4_block2_1_conv`, the name in the published files."""
    if ours.startswith("stem"):
        return "conv1_bn" if "bn" in ours else "conv1_conv"
    if ours == "predictions":
        return "predictions"
    block, layer = ours.split("/")
    stage, number = block.removeprefix("stage").split("_block")
    kind = "bn" if "bn" in layer else "conv"
    index = 0 if layer.startswith("shortcut") else int(layer[-1])
    return f"conv{int(stage) + 1}_block{number}_{index}_{kind}"


# name → (file, MD5 with the classifier, MD5 without it, our layer's name → theirs)
IMAGENET = {
    "resnet50": (
        "resnet/resnet50_weights_tf_dim_ordering_tf_kernels{}.h5",
        "2cb95161c43110f7111970584f804107",
        "4d473c1dd8becc155b73f8504c6f6626",
        _resnet_layer_name,
    ),
    "resnet101": (
        "resnet/resnet101_weights_tf_dim_ordering_tf_kernels{}.h5",
        "f1aeb4b969a6efcfb50fad2f0c20cfc5",
        "88cf7a10940856eca736dc7b7e228a21",
        _resnet_layer_name,
    ),
    "resnet152": (
        "resnet/resnet152_weights_tf_dim_ordering_tf_kernels{}.h5",
        "100835be76be38e30d865e96f2aaae62",
        "ee4c566cf9a93f14d82f913c2dc6dd0c",
        _resnet_layer_name,
    ),
}


class WeightsNotAvailable(OSError):
    """The weights that were asked for cannot be had; the message says where to put which file."""


def load_imagenet_weights(
    model: keras.Model, variant: str, weights: str | None, *, top: bool, residual: bool = True
) -> str:
    """Gives a classifier or backbone its first weights.

    Args:
        model: The network, built.
        variant: Its name in the tables.
        weights: `"imagenet"`, `None`, `"auto"` or a file, as the builders take it.
        residual: Whether it has its shortcuts; there are no ImageNet weights for a net without.
        top: Whether its classifier is ImageNet's, so that it gets weights too.

    Returns:
        What the network starts from, in words.

    Raises:
        WeightsNotAvailable: If `"imagenet"` was insisted on and cannot be had.
        ValueError: If a file does not fit the network.
    """
    if weights is None:
        return "random values, as asked"
    if weights not in ("auto", "imagenet"):
        if variant in IMAGENET and _is_published(weights):
            _assign_published(model, variant, weights, top)
        else:
            load_weights(model, weights)
        return f"the file {weights}"
    if weights == "imagenet" and not top and any(w.name == "predictions" for w in model.layers):
        raise ValueError(
            "ImageNet's weights end in its 1000 classes. "
            f"Received: weights='imagenet', num_classes={model.output.shape[-1]}. "
            "Use num_classes=1000, or weights='auto', which leaves the new classifier random."
        )
    try:
        if variant not in IMAGENET or not residual:
            raise WeightsNotAvailable(
                f"No ImageNet weights are published for {variant}"
                + ("" if residual else " without shortcuts")
                + f", only for {', '.join(IMAGENET)}. Choose one of those, or weights=None."
            )
        file, md5_top, md5_features, _ = IMAGENET[variant]
        url = _URL + file.format("" if top else "_notop")
        path = _published_file(url, md5_top if top else md5_features)
        _assign_published(model, variant, path, top)
    except WeightsNotAvailable as reason:
        if weights == "imagenet":
            raise
        warnings.warn(f"{model.name} starts from random values: {reason}", stacklevel=3)
        return f"random values ({reason})"
    return "ImageNet"


def _is_published(path) -> bool:
    """Whether a file has the form of those that `keras.applications` downloads."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "layer_names" in file.get("model_weights", file).attrs


def _assign_published(model, variant, path, top):
    import h5py

    *_, layer_name = IMAGENET[variant]
    with h5py.File(path) as published:
        published = published.get("model_weights", published)
        tensors = {}
        for layer in published.attrs["layer_names"]:
            layer = _text(layer)
            for tensor in published[layer].attrs["weight_names"]:
                kind = _text(tensor).rpartition("/")[2].partition(":")[0]
                # The classifier had another name when the files were made.
                key = ("predictions" if layer == "probs" else layer, kind)
                tensors[key] = published[layer][_text(tensor)][()]
    problems = []
    for variable in model.variables:
        layer, _, kind = variable.path.rpartition("/")
        if layer == "predictions" and not top:
            continue
        key = (layer_name(layer), kind)
        value = tensors.pop(key, None)
        if value is None or value.shape != tuple(variable.shape):
            shape = "nothing" if value is None else value.shape
            problems.append(f"{variable.path} {tuple(variable.shape)}: {'/'.join(key)} has {shape}")
        else:
            variable.assign(value)
    # A file with the classifier serves a network without it, too.
    unused = [key for key in tensors if top or key[0] != "predictions"]
    problems += [f"{'/'.join(key)} was not used" for key in unused]
    if problems:
        raise ValueError(
            f"The weights must be those of {variant}. Received: file={path}, where "
            f"{_first(problems)}. Remove the file, so that it is downloaded again, or pass another."
        )


def _text(name) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _published_file(url: str, md5: str) -> Path:
    """The file in Keras' cache, downloaded where it is not there yet."""
    name = url.rpartition("/")[2]
    models = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    cached = models / name
    if cached.exists() and _md5(cached) == md5:
        return cached
    try:
        models.mkdir(parents=True, exist_ok=True)
        # Not straight into the cache: what get_file fails to download it deletes.
        with tempfile.TemporaryDirectory(dir=models) as folder:
            os.replace(
                keras.utils.get_file(name, url, file_hash=md5, cache_dir=folder, cache_subdir=""),
                cached,
            )
    except Exception as error:  # get_file raises a bare Exception where there is no network.
        there = f"the {cached} that is there has not the MD5 {md5}; " if cached.exists() else ""
        raise WeightsNotAvailable(
            f"{name} could not be downloaded ({there}{error}). Put {url} at {cached}, "
            "pass the path of such a file, or go without: weights=None (in a segmentation model "
            "backbone_weights=None)."
        ) from error
    return cached


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Loads a file that `save_weights` or `save` wrote into a model of the same architecture.

    Args:
        model: The model, built.
        path: A `.weights.h5` or `.keras` file.

    Raises:
        ValueError: If the file's tensors are not exactly the model's; the message names them.
        FileNotFoundError: If there is no such file.

    Example:

    ```python
    import keras, os, tempfile
    import keras_psp

    model = keras_psp.ResNet("resnet18", num_classes=5, weights=None)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "five.weights.h5")
        model.save_weights(path)
        keras_psp.load_weights(model, path)
    ```
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"Weights come from a file that save_weights wrote. Received: weights='{path}', "
            "which does not exist. Check the path."
        )
    with tempfile.TemporaryDirectory() as folder:
        source = path
        if path.suffix == ".keras":
            import zipfile

            with zipfile.ZipFile(path) as archive:
                source = Path(archive.extract("model.weights.h5", folder))
        own = Path(folder, "own.weights.h5")
        model.save_weights(own)
        theirs, ours = _tensors(source), _tensors(own)
        missing = ("", "none")
        problems = []
        for key in sorted({*theirs, *ours}):
            (name, shape), (our_name, our_shape) = theirs.get(key, missing), ours.get(key, missing)
            if shape != our_shape:
                problems.append(
                    f"{our_name or name} has shape {shape} in the file, {our_shape} in the model"
                )
        if problems:
            raise ValueError(
                f"The weights must be those of this architecture. Received: weights='{path}' for "
                f"{model.name}, where {_first(problems)}. Build the model that the file was saved "
                "from."
            )
        model.load_weights(source)


def _tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Of every tensor in the file: where it lies, what people call it, and its shape."""
    import h5py

    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}

    def visit(key, item):
        if isinstance(item, h5py.Dataset) and not key.startswith("optimizer"):
            # Keras sorts by class ("layers/dense"), and notes the layer's own name beside.
            *groups, _, number = key.split("/")
            paths = ["/".join([*groups[: i + 1], "vars"]) for i in range(len(groups))]
            names = [file[path].attrs.get("name") for path in paths if path in file]
            name = "/".join(map(_text, filter(None, names))) or "/".join(groups)
            tensors[key] = f"{name} #{number}", item.shape

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ValueError(
            "Weights come from a .weights.h5 or .keras file. "
            f"Received: weights='{path}', which is not readable as one ({error}). Save it again."
        ) from error
    return tensors


def _first(problems: list[str], most: int = 3) -> str:
    more = len(problems) - most
    return "; ".join(problems[:most]) + (f"; and {more} more" if more > 0 else "")
