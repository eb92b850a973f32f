"""From a trained model and an image to a label map, and from a run folder to the trained model."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.callbacks import _BEST, _CHECKPOINT
from keras_psp.classes import ClassList
from keras_psp.data.samples import read_image, resize_image
from keras_psp.naming import check_name


def segment(model: keras.Model, image: Any, image_size: Sequence[int] | None = None) -> np.ndarray:
    """Says for every pixel of an image what it belongs to.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        image: A file, a Pillow image, or an array `(height, width, 3)`, RGB, 0–255, integer or
            float; any size.
        image_size: (height, width) at which the model looks at the image, best the size it was
            trained with; `None` is the image's own. The logits are enlarged to the image's own size
            before the best class is taken.

    Returns:
        The label map: uint8 `(height, width)`, classes 0 … K−1.

    Raises:
        ValueError: If the file is not a whole 8-bit RGB image, or the array not RGB 0–255.

    Example:

    ```python
    import numpy as np
    import keras_psp

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    photo = np.zeros((90, 122, 3), "uint8")
    assert keras_psp.segment(model, photo, image_size=(48, 64)).shape == (90, 122)
    ```
    """
    pixels = read_image(Path(image)) if isinstance(image, str | os.PathLike) else _as_rgb(image)
    size = pixels.shape[:2]
    if image_size is not None:
        height, width = image_size
        pixels = resize_image(np.rint(pixels).astype(np.uint8), (height, width))
    logits = model.predict_on_batch(pixels[None])
    if logits.shape[1:3] != size:
        logits = ops.image.resize(logits, size, "bilinear", data_format="channels_last")
    return ops.convert_to_numpy(ops.argmax(logits[0], axis=-1)).astype(np.uint8)


def _as_rgb(image: Any) -> np.ndarray:
    """The pixels of a Pillow image or an array, checked."""
    # Other modes than RGB can have three channels too: YCbCr, LAB, HSV.
    mode = getattr(image, "mode", "RGB")
    pixels = ops.convert_to_numpy(image) if mode == "RGB" else np.asarray(image)
    is_rgb = mode == "RGB" and pixels.ndim == 3 and pixels.shape[-1] == 3
    if not (is_rgb and pixels.size and pixels.min() >= 0 and pixels.max() <= 255):
        values = f"values {pixels.min()} to {pixels.max()}" if pixels.size else "no pixel"
        raise ValueError(
            "An image must be RGB, 0–255, (height, width, 3). "
            f"Received: image of shape {pixels.shape}, mode {mode}, {values}. "
            'Convert it, for instance with Pillow\'s image.convert("RGB").'
        )
    return pixels


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Args:
        folder: The folder.
        model: The model with the weights that were asked for.
        classes: Names and colours of its classes.
        settings: What the run was told: data, sizes, rates, ….
    """

    folder: Path
    model: keras.Model
    classes: ClassList
    settings: dict[str, Any]


def load_run(folder: str | os.PathLike[str], weights: str = "best") -> Run:
    """Rebuilds the model that a run folder holds.

    Args:
        folder: A folder that `RunFolder` wrote.
        weights: `"best"`, those with the best validation mean IoU, or `"last"`, those of the last
            epoch.

    Returns:
        A `Run`: `.model`, `.classes` and `.settings`.

    Raises:
        FileNotFoundError: If the folder holds no run, or one that has not finished an epoch.
        ValueError: If there are no such weights.

    Example:

    ```python
    import tempfile
    import numpy as np
    import keras_psp

    images, labels = np.zeros((2, 33, 33, 3)), np.zeros((2, 33, 33), "int32")
    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    with tempfile.TemporaryDirectory() as folder:
        run = keras_psp.RunFolder(folder)
        model.fit(images, labels, callbacks=[run], verbose=0)
        again = keras_psp.load_run(folder).model
    assert np.allclose(again.predict(images, verbose=0), model.predict(images, verbose=0))
    ```
    """
    files = {"best": _BEST, "last": _CHECKPOINT}
    folder, file = Path(folder), files[check_name("weights", weights, files)]
    for name, origin in (("config.json", "keras-psp train"), (file, "its first finished epoch")):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"A run folder holds config.json and {file}. Received: folder='{folder}', which "
                f"has no {name}: {origin} writes it. Check the path, or train first."
            )
    config = json.loads((folder / "config.json").read_text())
    model = keras.models.model_from_json(json.dumps(config["model"]))
    model.load_weights(folder / file)
    classes = ClassList(config["classes"]["names"], config["classes"]["colors"])
    return Run(folder, model, classes, config["settings"])
