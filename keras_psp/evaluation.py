"""How good a model is on a split: scores, per-class IoU, and pictures of what it says."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.classes import CAMVID, ClassList
from keras_psp.files import write_table, write_whole
from keras_psp.metrics import SegmentationScores


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a split. Printed, it is a table.

    Args:
        classes: Names and colours of the K classes.
        mean_iou: Mean of the classes' IoU, 0–1; absent classes are left out.
        mean_accuracy: Mean share of a class' pixels that was found, 0–1.
        pixel_accuracy: Share of all labelled pixels that is right, 0–1.
        per_class: Every class' IoU, `(K,)`, NaN for a class that is absent from the split.
        confusion_matrix: Pixels `(K, K)`: rows the true class, columns the predicted.
        initial_weights: What the model started from before it was trained.
        samples: Images, labels and predictions from all over the split, for the picture.
    """

    classes: ClassList
    mean_iou: float
    mean_accuracy: float
    pixel_accuracy: float
    per_class: np.ndarray
    confusion_matrix: np.ndarray
    initial_weights: str
    samples: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]

    def __str__(self) -> str:
        rows = list(zip(self.classes.names, self.per_class, strict=True))
        rows += [("mean IoU", self.mean_iou), ("mean accuracy", self.mean_accuracy)]
        rows += [("pixel accuracy", self.pixel_accuracy)]
        width = max(len(name) for name, _ in rows)
        lines = [
            f"{name:<{width}}  {'absent' if np.isnan(value) else f'{value:6.3f}'}"
            for name, value in rows
        ]
        lines.insert(len(self.classes), "-" * (width + 8))
        return "\n".join([*lines, f"It had started from {self.initial_weights}."])

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Writes `per_class.csv`, `per_class.png`, `scores.json` and `samples.png` (image, truth,
        prediction, errors).

        Args:
            folder: The folder; made if it does not exist.

        Returns:
            The folder.
        """
        from keras_psp import pictures

        folder = Path(folder)
        per_class = dict(zip(self.classes.names, self.per_class.tolist(), strict=True))
        rows = [{"class": name, "iou": value} for name, value in per_class.items()]
        write_table(folder / "per_class.csv", rows)
        scores = {name: getattr(self, name) for name in _SCORES}
        # JSON has no NaN.
        scores["per_class"] = {n: None if np.isnan(v) else v for n, v in per_class.items()}
        scores["confusion_matrix"] = self.confusion_matrix.tolist()
        scores["initial_weights"] = self.initial_weights
        write_whole(folder / "scores.json", json.dumps(scores, indent=1).encode())
        pictures.per_class_bars(folder / "per_class.png", self.per_class, self.classes)
        pictures.segmentation_gallery(folder / "samples.png", *self.samples, classes=self.classes)
        return folder


_SCORES = ("mean_iou", "mean_accuracy", "pixel_accuracy")


def evaluate(
    model: keras.Model,
    data: Any,
    classes: ClassList = CAMVID,
    *,
    num_samples: int = 4,
    progress: bool = False,
) -> Evaluation:
    """Scores a model on a split.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        data: Batches of images and labels, of known number: a dataset of `load_camvid` and its
            like.
        classes: Names and colours of the classes.
        num_samples: How many images to keep for the picture, evenly spread over the split.
        progress: Whether to show a progress bar.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: If there is no batch, or if labels or classes are not the model's.

    Example:

    ```python
    import numpy as np
    import keras_psp

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    data = [(np.zeros((1, 33, 33, 3)), np.zeros((1, 33, 33), "int32"))]
    result = keras_psp.evaluate(model, data)
    assert 0 <= result.mean_iou <= 1
    ```
    """
    if not len(data):
        raise ValueError(
            "A split to be scored must hold at least one batch. Received: data of length 0. Check "
            "the split's folder and its name."
        )
    scores = SegmentationScores(len(classes))
    # Beside its variables: inside the scope of a MirroredStrategy each replica's would be assigned
    # an equal share, and of odd counts one pixel would be lost.
    counts = [np.zeros(v.shape, v.dtype) for v in scores.variables]
    samples: tuple[list, list, list] = ([], [], [])
    every = -(-len(data) // num_samples)
    bar = keras.utils.Progbar(len(data), verbose=int(progress))
    for number, (images, labels) in enumerate(data):
        images, labels = ops.convert_to_numpy(images), ops.convert_to_numpy(labels)
        # Under MirroredStrategy every replica answers for the whole batch.
        logits = model.predict_on_batch(images)[: len(images)]
        counts = scores.stateless_update_state(counts, labels, logits)
        if number % every == 0:
            for kept, value in zip(samples, (images, labels, logits.argmax(-1)), strict=True):
                kept.append(value[0])
        bar.add(1)
    with keras.StatelessScope(zip(scores.variables, counts, strict=True)):
        return Evaluation(
            classes,
            **{name: float(value) for name, value in scores.result().items()},
            per_class=scores.per_class(),
            confusion_matrix=scores.confusion_matrix(),
            initial_weights=getattr(model, "initial_weights", "unknown weights"),
            samples=samples,
        )
