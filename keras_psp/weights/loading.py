"""The door for weights: files of ours and of others, and those that somebody publishes."""

import hashlib
import importlib.util
import os
import re
import tempfile
import warnings
from pathlib import Path

import keras

from keras_psp.weights.checkpoints import assign_checkpoint, first, is_last, variant_of
from keras_psp.weights.published import PUBLISHED

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


def load_first_weights(
    model: keras.Model,
    weights: str | None,
    *,
    fresh_head: bool = False,
    usual_shortcuts: bool = True,
) -> str:
    """Gives a classifier or backbone its first weights.

    Args:
        model: The network, built; its attribute `variant` is its name in the tables.
        weights: `"imagenet"`, `None`, `"auto"` or what `load_weights` takes.
        fresh_head: As in `load_weights`.
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
        return load_weights(model, weights, fresh_head=fresh_head)
    ends = any(layer.name == "predictions" for layer in model.layers)
    other_classes = ends and model.output.shape[-1] != 1000
    if weights == "imagenet" and other_classes and not fresh_head:
        raise ValueError(
            "ImageNet's weights end in its 1000 classes. "
            f"Received: weights='imagenet', num_classes={model.output.shape[-1]}. "
            "Use num_classes=1000, or weights='auto', which leaves the new classifier random."
        )
    try:
        _load_imagenet(model, usual_shortcuts, fresh_head=fresh_head or other_classes)
    except WeightsNotAvailable as reason:
        if weights == "imagenet":
            raise
        warnings.warn(f"{model.name} starts from random values: {reason}", stacklevel=3)
        return f"random values ({reason})"
    return "ImageNet"


def _load_imagenet(model, usual_shortcuts, *, fresh_head):
    variant = model.variant
    published = [*IMAGENET, *(variant for name, variant in PUBLISHED if name == "imagenet")]
    if variant not in published or not usual_shortcuts:
        raise WeightsNotAvailable(
            f"No ImageNet weights are published for {variant}"
            + ("" if usual_shortcuts else " with these shortcuts")
            + f", only for {', '.join(published)}. Choose one of those, or weights=None."
        )
    if variant not in IMAGENET:
        assign_checkpoint(model, _find_published(model, "imagenet"), fresh_head=fresh_head)
        return
    file, md5_top, md5_features, _ = IMAGENET[variant]
    whole = not fresh_head and any(layer.name == "predictions" for layer in model.layers)
    url = _URL + file.format("" if whole else "_notop")
    path = _published_file(url, "MD5", md5_top if whole else md5_features)
    # What lies in the file beside the features of VGG goes with its last layer.
    _assign_published(model, path, ("fc1", "fc2", "predictions") if not whole else ())


def _find_published(model, name: str) -> Path:
    """The file of the table that has this name and fits this network."""
    variant = variant_of(model)
    row = PUBLISHED.get((name, variant))
    if row is None:
        fitting = ", ".join(v for n, v in PUBLISHED if n == name)
        raise ValueError(
            f"The weights of the name {name!r} are of {fitting}. Received: weights={name!r} for "
            f"{model.name}, which is {variant or 'none of the table'}. Build one of those."
        )
    if importlib.util.find_spec("torch") is None:
        raise WeightsNotAvailable(
            f"{row.url} is read by PyTorch, which is not installed. Install it (pip install "
            "torch), or go without: weights=None (in a segmentation model backbone_weights=None)."
        )
    return _published_file(row.url, "SHA-256", row.sha256)


def _is_published(path) -> bool:
    """Whether a file has the form of those that `keras.applications` downloads."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "layer_names" in file.get("model_weights", file).attrs


def _assign_published(model, path, ends):
    """Assigns a file of `keras.applications`; the layers `ends` are looked for nowhere."""
    import h5py

    variant = variant_of(model)
    if variant not in IMAGENET:
        raise ValueError(
            f"A file of keras.applications fits {', '.join(IMAGENET)}. Received: weights='{path}' "
            f"for {model.name}, which is {variant or 'none of the table'}. Build one of those, or "
            "pass the file as backbone_weights=."
        )
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
    for layers in (ours, published):
        for name in ends:
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
            f"{first(problems)}. Remove the file, so that it is downloaded again, or pass another."
        )


def _text(name) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _published_file(url: str, algorithm: str, digest: str) -> Path:
    """The file in Keras' cache, downloaded where it is not there yet."""
    name = url.rpartition("/")[2]
    models = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    cached = models / name
    if cached.exists() and _has_digest(cached, algorithm, digest):
        return cached
    try:
        models.mkdir(parents=True, exist_ok=True)
        # Not straight into the cache: what get_file fails to download it deletes.
        with tempfile.TemporaryDirectory(dir=models) as folder:
            file = keras.utils.get_file(name, url, cache_dir=folder, cache_subdir="")
            if not _has_digest(file, algorithm, digest):
                raise OSError(f"what came has not the {algorithm} {digest}")
            os.replace(file, cached)
    except Exception as error:  # get_file raises a bare Exception where there is no network.
        has_not = f"the {cached} that is there has not the {algorithm} {digest}; "
        there = has_not if cached.exists() else ""
        raise WeightsNotAvailable(
            f"{name} could not be downloaded ({there}{error}). Put {url} at {cached}, "
            "pass the path of such a file, or go without: weights=None (in a segmentation model "
            "backbone_weights=None)."
        ) from error
    return cached


def _has_digest(path: str | os.PathLike, algorithm: str, digest: str) -> bool:
    """Whether this is the file's digest, or the beginning of it, which is all that some publish."""
    with open(path, "rb") as file:
        found = hashlib.new(algorithm.replace("-", "").lower(), usedforsecurity=False)
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest().startswith(digest)


def load_weights(model: keras.Model, path: str | os.PathLike, *, fresh_head: bool = False) -> str:
    """Loads the weights of a file, of ours or of somebody else's, into a model.

    What kind of file it is, and whose, it finds out. Every tensor is used, or the file is refused.
    What exists in training only, an auxiliary head, may be absent on either side; a backbone takes
    its part of a classifier or segmentation model.

    Args:
        model: The model, built.
        path: A file that `save_weights` or `save` wrote; one of `keras.applications`; or a
            checkpoint of PyTorch's (`.pth`, `.pt`, `.safetensors`, or the same tensors as `.npz` or
            `.h5`) of one of the networks in the table of [sources](models.md#weights). No code in a
            file is run. Or a name from the table of published weights, such as `"cityscapes"`.
        fresh_head: Whether the last layers, which have as many channels as there are classes, stay
            as they are.

    Returns:
        What the model starts from now, in words.

    Raises:
        ValueError: If the file's tensors are not exactly the model's; the message names them.
        FileNotFoundError: If there is no such file.
        ImportError: If a package that reads such files is not installed.
        WeightsNotAvailable: If published weights cannot be had.

    Example:

    ```python
    import os, tempfile
    import keras_psp

    model = keras_psp.ResNet("resnet18", num_classes=5, weights=None)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "five.weights.h5")
        model.save_weights(path)
        keras_psp.load_weights(model, path)
        three = keras_psp.ResNet("resnet18", num_classes=3, weights=path, fresh_head=True)
    ```
    """
    names = {name for name, _ in PUBLISHED}
    if path in names:
        _check_options(model, str(path), fresh_head)
        path = _find_published(model, str(path))
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"Weights come from a file, or are one of {', '.join(sorted(names))}. Received: "
            f"weights='{path}', which does not exist. Check the path."
        )
    if _is_published(path):
        ends: tuple[str, ...] = ("predictions",) if fresh_head else ()
        if not any(layer.name == "predictions" for layer in model.layers):
            ends = ("fc1", "fc2", "predictions")
        _assign_published(model, path, ends)
    elif _is_own(path):
        _load_own(model, path, fresh_head)
    else:
        return assign_checkpoint(model, path, fresh_head=fresh_head)
    return f"the file {path}"


def _check_options(model, name: str, fresh_head: bool) -> None:
    """Whether a model is built as the published one was, before that is downloaded."""
    row = PUBLISHED.get((name, variant_of(model)))
    if row is None:
        return
    wanted = dict(row.options) if fresh_head else {**row.options, "num_classes": row.num_classes}
    given = {argument: getattr(model, argument, value) for argument, value in wanted.items()}
    if given != wanted:
        said, asked = (", ".join(f"{k}={v}" for k, v in row.items()) for row in (given, wanted))
        raise ValueError(
            f"The weights of the name {name!r} are of a model with {asked}. Received: {said}. "
            "Build it so; fresh_head=True allows for other classes."
        )


def _is_own(path: Path) -> bool:
    """Whether a file has the form in which Keras 3 saves weights."""
    import h5py

    if path.name.endswith((".weights.h5", ".keras")):
        return True
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        found = file.visit(lambda key: True if key.endswith("/vars/0") else None)
    return found is not None


def _load_own(model, path: Path, fresh_head: bool) -> None:
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        source = path
        if path.suffix == ".keras":
            import zipfile

            with zipfile.ZipFile(path) as archive:
                source = Path(archive.extract("model.weights.h5", folder))
        own = Path(folder, "own.weights.h5")
        model.save_weights(own)
        theirs, ours = _tensors(source), _tensors(own)
        if fresh_head:
            for tensors in (theirs, ours):
                for key in [k for k, (name, _) in tensors.items() if is_last(_layer(name))]:
                    del tensors[key]
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
                f"{model.name}, where {first(problems)}. Build the model that the file was saved "
                "from; fresh_head=True allows for other classes."
            )
        with h5py.File(source) as read, h5py.File(own, "r+") as written:
            for key in theirs:
                written[key][...] = read[key][()]
        model.load_weights(own)


def _layer(tensor: str) -> str:
    """The layer in what people call a tensor."""
    return tensor.rpartition(" #")[0]


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
