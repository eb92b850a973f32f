"""Models by name: what is published, and folders and files of what was trained here."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_psp.atomic import write_folder_whole
from keras_psp.choices import did_you_mean
from keras_psp.labels import ClassList
from keras_psp.untrusted import open_keras_archive
from keras_psp.weights.keras_files import save_state
from keras_psp.weights.loading import load_weights
from keras_psp.weights.published import PRESETS, Preset
from keras_psp.weights.runs import CONFIG, WEIGHTS, find_run


class _Presets:
    """The rows of the table of published weights that a class builds."""

    def __get__(self, model: Any, cls: type) -> dict[str, Preset]:
        return {name: row for name, row in PRESETS.items() if issubclass(_class_of(row), cls)}


def _builder(name: str) -> Any:
    """What a row names: classes and builders that Keras knows, since they come after this file."""
    return keras.saving.get_registered_object(f"keras_psp>{name}")


def _class_of(row: Preset) -> type:
    builder = _builder(row.network)
    return builder if isinstance(builder, type) else _builder("Classifier")


class PresetModel(keras.Model):
    """A model that is loaded by a name.

    Attributes:
        presets: Of a class: name → row of its networks with published weights, `Preset`.
    """

    presets = _Presets()

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Builds a trained network: a published one, or one of your own.

        Args:
            preset: A name among the `presets`, a folder that `save_to_preset` or `RunFolder` wrote
                (of a run the best weights), or a `.keras` file.
            **kwargs: Arguments that the network gets in the place of the preset's. For other
                classes: `num_classes=2, fresh_head=True`, which leaves the last layers random.

        Returns:
            The network, not compiled, with its weights, and its `classes` where these are known. It
            is of this class, or of one derived from it: `SegmentationModel.from_preset` takes all
            of the segmentation networks, `Classifier.from_preset` all classifiers.

        Raises:
            ValueError: If there is no such preset, if it is of another class, or if arguments or
                weights do not fit.
            WeightsNotAvailable: If published weights cannot be downloaded.

        Example:

        ```python
        import os, tempfile
        import keras_psp

        # keras_psp.PSPNet.from_preset("pspnet_resnet50_cityscapes"), or of one's own:
        model = keras_psp.PSPNet(backbone="resnet18", num_classes=3, backbone_weights=None)
        with tempfile.TemporaryDirectory() as place:
            folder = model.save_to_preset(os.path.join(place, "mine"))
            again = keras_psp.models.SegmentationModel.from_preset(folder)
            two = keras_psp.PSPNet.from_preset(folder, num_classes=2, fresh_head=True)
        ```
        """
        if (row := PRESETS.get(str(preset))) is not None:
            _check_class(cls, _class_of(row), preset)
            return _builder(row.network)(**{**row.arguments, "weights": str(preset), **kwargs})
        config, weights = _saved(cls, Path(preset))
        fresh_head = kwargs.pop("fresh_head", False)
        if unknown := sorted(kwargs.keys() - config["config"].keys()):
            raise ValueError(
                "A saved network takes the arguments that it was built with, and fresh_head. "
                f"Received: {', '.join(unknown)} for preset='{preset}'. Leave that out."
            )
        config["config"] |= kwargs
        config.pop("compile_config", None)
        model = rebuild(config, weights)
        _check_class(cls, type(model), preset)
        started_from = model.initial_weights
        load_weights(model, weights, fresh_head=fresh_head)
        if fresh_head:
            model.classes = None
        else:  # It is the very model that was saved.
            model.initial_weights = started_from
        return model

    def save_to_preset(self, folder: str | os.PathLike[str]) -> Path:
        """Writes a folder that `from_preset` reads, whole or not at all.

        Args:
            folder: The folder. An older preset there is replaced, and nothing else.

        Returns:
            Its path. It holds `config.json` and `model.weights.h5`.

        Raises:
            ValueError: If something else is there.
        """

        def write(new: Path) -> None:
            new.mkdir()
            config = describe(self, getattr(self, "classes", None), {})
            (new / CONFIG).write_text(json.dumps(config, indent=1))
            save_state(self, new / WEIGHTS)

        return write_folder_whole(folder, write, member=WEIGHTS)


def describe(
    model: keras.Model, classes: ClassList | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Says for JSON how a model is built again, and what it is.

    Args:
        model: The model.
        classes: Its classes, if they are known.
        settings: Further facts.
    """
    return {
        "model": json.loads(model.to_json()),
        "initial_weights": getattr(model, "initial_weights", "unknown"),
        "classes": classes and dataclasses.asdict(classes),
        "settings": dict(settings),
        "versions": {"keras": keras.__version__, "backend": keras.backend.backend()},
    }


def rebuild(config: dict[str, Any], weights: Path) -> Any:
    """Builds a model again that was saved, still without its weights.

    Args:
        config: What Keras says of it.
        weights: The file of its weights, for the message.

    Raises:
        ValueError: If this version cannot build it.
    """
    try:
        return keras.saving.deserialize_keras_object(config)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "A saved model is loaded with the code that it was saved with. "
            f"Received: '{weights}', whose model is of another version of keras_psp, or of classes "
            f"that were not imported ({reason}). Import these; the weights still load into a model "
            f"that is built anew: keras_psp.PSPNet(…, weights='{weights}')."
        ) from error


def _saved(cls: type, path: Path) -> tuple[dict[str, Any], Path]:
    """How the network in a folder or file is built, and the file of its weights."""
    if run := find_run(path):
        return run.config["model"], run.weights
    if path.suffix == ".keras" and path.exists():
        with open_keras_archive(path) as file:
            return json.loads(file.read("config.json")), path
    known = map(Path, PRESETS)
    raise ValueError(
        f"A preset is one of {cls.__name__}.presets, a folder with {CONFIG}, or a .keras file. "
        f"Received: preset='{path}'. {did_you_mean(path, known) or did_you_mean(path)}Choose one."
    )


def _check_class(cls: type, found: type, preset: str | os.PathLike[str]) -> None:
    if not issubclass(found, cls):
        loads = issubclass(found, PresetModel)
        repair = f"{found.__name__}.from_preset" if loads else "keras.saving.load_model"
        raise ValueError(
            "A class loads the presets of its own networks. "
            f"Received: preset='{preset}' of {found.__name__}, in {cls.__name__}.from_preset. "
            f"Call {repair}."
        )
