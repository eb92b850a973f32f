"""Weights from files: ImageNet's as `keras.applications` publishes them, and our own."""

import hashlib
import os
import re
import tempfile
import warnings
from pathlib import Path

import keras

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"


def _resnet_names(theirs: list[str]) -> list[str]:
    """`conv4_block2_1_conv`, the name in the published files → `stage3_block2/conv1`, ours."""

    def ours(name):
        block = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", name)
        if block is None:
            return {"conv1_conv": "stem_conv1", "conv1_bn": "stem_bn1"}.get(name, name)
        stage, number, index, kind = block.groups()
        layer = f"shortcut_{kind}" if index == "0" else kind + index
        return f"stage{int(stage) - 1}_block{number}/{layer}"

    return [ours(name) for name in theirs]


def _vgg_names(theirs: list[str]) -> list[str]:
    return theirs


def _inception_names(theirs: list[str]) -> list[str]:
    """`conv2d_7` → `conv7`: theirs are numbered as they were made, from wherever Keras stood."""
    renamed = dict(zip(theirs, theirs, strict=True))
    for kind, ours in [("conv2d", "conv"), ("batch_normalization", "bn")]:
        found = {n: re.fullmatch(rf"{kind}(?:_(\d+))?", n) for n in theirs}
        numbered = sorted((int(m[1] or 0), n) for n, m in found.items() if m)
        renamed |= {n: f"{ours}{i}" for i, (_, n) in enumerate(numbered, 1)}
    return list(renamed.values())


# name → (file, MD5 with the classifier, MD5 without it, names of its layers → ours)
IMAGENET = {
    name: (f"{folder}/{name}_weights_tf_dim_ordering_tf_kernels{{}}.h5", *md5, names)
    for name, folder, md5, names in [
        (
            "resnet50",
            "resnet",
            ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
            _resnet_names,
        ),
        (
            "resnet101",
            "resnet",
            ("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
            _resnet_names,
        ),
        (
            "resnet152",
            "resnet",
            ("100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
            _resnet_names,
        ),
        (
            "vgg16",
            "vgg16",
            ("64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
            _vgg_names,
        ),
        (
            "vgg19",
            "vgg19",
            ("cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
            _vgg_names,
        ),
        (
            "inception_v3",
            "inception_v3",
            ("9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
            _inception_names,
        ),
    ]
}


class WeightsNotAvailable(OSError):
    """The weights that were asked for cannot be had; the message says where to put which file."""


def load_imagenet_weights(
    model: keras.Model,
    variant: str,
    weights: str | None,
    *,
    top: bool,
    usual_shortcuts: bool = True,
) -> str:
    """Gives a classifier or backbone its first weights.

    Args:
        model: The network, built.
        variant: Its name in the tables.
        weights: `"imagenet"`, `None`, `"auto"` or a file, as the builders take it.
        top: Whether its classifier is ImageNet's, so that it gets weights too.
        usual_shortcuts: Whether its shortcuts are the variant's; there are no ImageNet weights for
            others or none.

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
        if variant not in IMAGENET or not usual_shortcuts:
            raise WeightsNotAvailable(
                f"No ImageNet weights are published for {variant}"
                + ("" if usual_shortcuts else " with these shortcuts")
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

    with h5py.File(path) as file:
        file = file.get("model_weights", file)
        theirs = [_text(layer) for layer in file.attrs["layer_names"]]
        published = {
            # ResNet's classifier had another name when the files were made.
            "predictions" if ours == "probs" else ours: [
                file[layer][_text(tensor)][()] for tensor in file[layer].attrs["weight_names"]
            ]
            for layer, ours in zip(theirs, IMAGENET[variant][-1](theirs), strict=True)
        }
    # The tensors of a layer have had several names, but always this order.
    ours: dict[str, list] = {}
    for variable in model.variables:
        ours.setdefault(variable.path.rpartition("/")[0], []).append(variable)
    if not top:
        # A file with the classifier serves a network without it, too.
        for layers in (ours, published):
            for name in ("fc1", "fc2", "predictions"):
                layers.pop(name, None)
    problems = []
    for layer, variables in ours.items():
        values = published.pop(layer, [])
        shapes = [tuple(v.shape) for v in values], [tuple(v.shape) for v in variables]
        if shapes[0] != shapes[1]:
            problems.append(f"{layer} has {shapes[1]} here and {shapes[0] or 'nothing'} there")
        else:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
    problems += [f"{layer} was not used" for layer, values in published.items() if values]
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
