"""Loads weights into a model: from a file, ours or somebody else's, or by a published name."""

import os
from pathlib import Path

import keras

from keras_psp.checked import checked
from keras_psp.choices import did_you_mean
from keras_psp.rates import RANDOM
from keras_psp.warning import warn
from keras_psp.weights.checkpoints import load_checkpoint, variant_of
from keras_psp.weights.comparing import warn_if_not_finite
from keras_psp.weights.keras_files import (
    is_hdf5_model,
    is_keras_file,
    load_hdf5_model,
    load_keras_file,
)
from keras_psp.weights.published import PRESETS, WeightsNotAvailable, find_file
from keras_psp.weights.runs import CONFIG, find_run, warn_of_differences


def load_first_weights(
    model: keras.Model,
    weights: str | os.PathLike[str] | None,
    *,
    fresh_head: bool = False,
    usual_shortcuts: bool = True,
) -> str:
    """Gives a classifier or backbone its first weights.

    Args:
        model: The network, built. Its attribute `variant` is its name in the tables.
        weights: `"imagenet"`, `None`, `"auto"` or what `load_weights` takes.
        fresh_head: As in `load_weights`.
        usual_shortcuts: Whether its shortcuts are the variant's own. For a network with others, or
            without any, there are no ImageNet weights.

    Returns:
        What the network starts from, in words.

    Raises:
        WeightsNotAvailable: If `weights="imagenet"`, and they cannot be found or downloaded.
        ValueError: If a file does not fit the network.
    """
    if weights is None:
        return f"{RANDOM}, as asked"
    if weights not in ("auto", "imagenet"):
        return load_weights(model, weights, fresh_head=fresh_head)
    other_classes = _has_classifier(model) and model.output.shape[-1] != 1000
    if weights == "imagenet" and other_classes and not fresh_head:
        raise ValueError(
            "ImageNet's weights end in its 1000 classes. "
            f"Received: weights='imagenet', num_classes={model.output.shape[-1]}. "
            "Use num_classes=1000, or weights='auto', which leaves the new classifier random."
        )
    try:
        _load_imagenet(model, usual_shortcuts, fresh_head or other_classes)
    except WeightsNotAvailable as error:
        if weights == "imagenet":
            raise
        warn(f"{model.name} starts from random values: {error}")
        return f"{RANDOM} ({error.reason})"
    return "ImageNet"


def _load_imagenet(model: keras.Model, usual_shortcuts: bool, fresh_head: bool) -> None:
    variant = variant_of(model)
    preset = f"{variant}_imagenet"
    if preset not in PRESETS or not usual_shortcuts:
        published = ", ".join(
            name.removesuffix("_imagenet") for name in PRESETS if name.endswith("_imagenet")
        )
        raise WeightsNotAvailable(
            f"No ImageNet weights are published for {variant}"
            + ("" if usual_shortcuts else " with these shortcuts"),
            f"Choose one of {published}, or weights=None.",
        )
    load_weights(model, preset, fresh_head=fresh_head)


def _has_classifier(model: keras.Model) -> bool:
    return any(layer.name == "predictions" for layer in model.layers)


@checked
def load_weights(model: keras.Model, path: str | os.PathLike, *, fresh_head: bool = False) -> str:
    """Loads the weights of a file, ours or somebody else's, into a model.

    What kind of file it is, and whose, is detected. Every tensor is used, or the file is refused.
    What exists in training only (an auxiliary head) may be absent on either side. From a checkpoint
    from elsewhere, a backbone takes its part of a classifier or segmentation model.

    Args:
        model: The model, built.
        path: A file that `save_weights` or `save` wrote, also a whole model in HDF5, which is no
            longer written; one of `keras.applications`; or a checkpoint of PyTorch's (`.pth`,
            `.pt`, `.safetensors`, or the same tensors as `.npz` or `.h5`) of one of the networks in
            the table of [sources](models.md#weights). No code in a file is run. Or a run folder,
            which stands for its `best.weights.h5`; or the name of a preset, which stands for its
            file.
        fresh_head: Whether the last layers, which have as many channels as there are classes, stay
            as they are.

    Returns:
        What the model starts from now, in words; a model of this package keeps it as its
        `initial_weights`. A segmentation network without `classes` gets those of the run or preset,
        except with a fresh head. Where the model differs from the run's in what no tensor tells,
        such as its output stride, a warning says so.

    Raises:
        ValueError: If the file's tensors are not exactly the model's; the message names them. If a
            folder is no run's.
        FileNotFoundError: If there is no such file.
        ImportError: If a package that reads such files is not installed.
        WeightsNotAvailable: If published weights cannot be found or downloaded.

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
    classes = features = None
    if row := PRESETS.get(str(path)):
        classes = row.classes
        features = row.features if fresh_head or not _has_classifier(model) else None
        path = find_file(features or row.file)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            "Weights come from a file, a run folder, or a preset. "
            f"Received: weights='{path}', which does not exist. "
            f"{did_you_mean(path, map(Path, PRESETS)) or did_you_mean(path)}Check the path, or the "
            "name of the preset."
        )
    if run := find_run(path):
        warn_of_differences(model, run)
        classes, path = run.classes, run.weights
    elif path.is_dir():
        raise ValueError(
            f"A folder of weights is a run's, and holds its {CONFIG}. Received: weights='{path}' "
            "without it. Pass a file, or the folder of a run."
        )
    start = f"the file {path}"
    if is_hdf5_model(path):
        load_hdf5_model(model, path, fresh_head=fresh_head)
    elif is_keras_file(path):
        load_keras_file(model, path, fresh_head=fresh_head)
    else:
        options = {"fresh_head": fresh_head, "features_only": features is not None}
        start = load_checkpoint(model, path, **options)
    warn_if_not_finite(model, f"weights='{path}'")
    if classes and not fresh_head and getattr(model, "classes", classes) is None:
        model.classes = classes
    if hasattr(model, "initial_weights"):
        model.initial_weights = start
    return start
