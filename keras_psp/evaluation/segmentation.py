"""How good a segmentation model is on a split: scores of classes and images, the worst and best."""

import dataclasses
import html
import io
import itertools
import json
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp import metrics, visualization
from keras_psp.arrays import to_numpy
from keras_psp.atomic import write_table, write_whole
from keras_psp.checked import checked
from keras_psp.data.each_batch import (
    check_ends,
    each_batch,
    only_tensor,
    warn_of_small_values,
)
from keras_psp.data.info import Data, DatasetInfo, info_of, shared_classes
from keras_psp.evaluation import report
from keras_psp.inference.images import check_pixels
from keras_psp.inference.segmenting import Segmenter, best_class
from keras_psp.inference.views import Views
from keras_psp.labels import VOID, ClassList
from keras_psp.losses import weight_map
from keras_psp.visualization.figures import format_score, readable


@dataclasses.dataclass(frozen=True)
class ScoredImage:
    """An image, its labels, and a model's prediction.

    Args:
        name: The image's name.
        mean_iou: Mean IoU of the classes that are in it, 0–1; NaN if all of it is void.
        image: uint8 `(height, width, 3)`, RGB.
        label: The truth, uint8 `(height, width)`.
        prediction: uint8 `(height, width)`.
    """

    name: str
    mean_iou: float
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """The scores of a model on a split. Printed, it is a table; in a notebook it is the report.

    Args:
        classes: Names and colors of the K classes.
        names: Names of the N images.
        confusion_matrices: Pixels of each image, `(N, K, K)`: rows the true class, columns the
            predicted.
        boundary_matrix: Pixels near boundaries of all images together, `(K + 1, K + 1)`:
            `metrics.boundary_confusion_matrix`.
        boundary_width: Width of a boundary, in pixels of the labels.
        initial_weights: The weights that the model started from before it was trained.
        views: The views of the images that the model got, in words.
        samples: Images spread evenly over the split.
        worst: Images with the lowest mean IoU, the lowest first.
        best: Others with the highest, the highest first.
    """

    classes: ClassList
    names: tuple[str, ...]
    confusion_matrices: np.ndarray
    boundary_matrix: np.ndarray
    boundary_width: int = 3
    initial_weights: str = "unknown weights"
    views: str = ""
    samples: Sequence[ScoredImage] = ()
    worst: Sequence[ScoredImage] = ()
    best: Sequence[ScoredImage] = ()

    @property
    def confusion_matrix(self) -> np.ndarray:
        """Pixels of all images together, int64 `(K, K)`."""
        return self.confusion_matrices.sum(axis=0, dtype="int64")

    @property
    def per_class(self) -> np.ndarray:
        """Every class' IoU, `(K,)`, 0–1, NaN for a class that is absent from the split."""
        return metrics.iou_per_class(self.confusion_matrix)

    @property
    def per_class_boundary_iou(self) -> np.ndarray:
        """Every class' boundary IoU, likewise: only pixels near its true or predicted boundary
        count."""
        return metrics.iou_per_class(self.boundary_matrix)[:-1]

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """The share of every class' pixels that was found, likewise."""
        return metrics.accuracy_per_class(self.confusion_matrix)

    @property
    def per_image(self) -> np.ndarray:
        """Every image's mean IoU over the classes that are in it, `(N,)`, NaN if all is void."""
        return metrics.mean_of_present(metrics.iou_per_class(self.confusion_matrices))

    @property
    def mean_iou(self) -> float:
        """Mean of the classes' IoU, 0–1; absent classes are left out."""
        return float(np.nan_to_num(metrics.mean_of_present(self.per_class)))

    @property
    def mean_boundary_iou(self) -> float:
        """Mean of the classes' boundary IoU, likewise."""
        return float(np.nan_to_num(metrics.mean_of_present(self.per_class_boundary_iou)))

    @property
    def mean_accuracy(self) -> float:
        """Mean share of a class' pixels that was found, 0–1; absent classes are left out."""
        return float(np.nan_to_num(metrics.mean_of_present(self.per_class_accuracy)))

    @property
    def pixel_accuracy(self) -> float:
        """Share of all labeled pixels that is right, 0–1."""
        return float(self.confusion_matrix.trace() / max(self.confusion_matrix.sum(), 1))

    def __str__(self) -> str:
        scores = {readable(name): getattr(self, name) for name in _SCORES}
        width = max(map(len, [*self.classes.names, *scores]))
        lines = [f"{'':<{width}}  {'IoU':>6}  boundary  accuracy"]
        for name, iou, *others in self._rows():
            cells = "".join(f"  {format_score(score):>8}" for score in others)
            lines.append(f"{name:<{width}}  {format_score(iou):>6}{cells}")
        lines += ["-" * (width + 28)]
        lines += [f"{name:<{width}}  {format_score(score):>6}" for name, score in scores.items()]
        for title, images in (("Worst", self.worst), ("Best", self.best)):
            shown = ", ".join(f"{one.name} ({one.mean_iou:.3f})" for one in images)
            count = f"{len(images)} of {len(self.names)}"
            lines += [f"{title} images ({count}): {shown}"] if shown else []
        views = f" Views: {self.views}." if self.views else ""
        return "\n".join([*lines, f"It had started from {self.initial_weights}.{views}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The report, in a frame of its own: its style is not the notebook's."""
        matrix = io.BytesIO()
        picture: Any = visualization.confusion_matrix(None, self.confusion_matrix, self.classes)
        picture.save(matrix, "png")
        page = html.escape(report.page(self, matrix.getvalue()))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'

    def write(self, folder: str | os.PathLike[str], comparison: Any = None) -> Path:
        """Writes scores, tables and pictures.

        `report.html` shows all of it on one page, which needs no other file and no network. The
        other files are `scores.json`, `per_class.csv`, `per_image.csv`, `per_class.png`,
        `confusion_matrix.png` and `samples.png` (image, truth, prediction, errors). The score of a
        class that is absent from the split is an empty cell, as is that of an image that is void.

        Args:
            folder: The folder; made if it does not exist.
            comparison: A `Comparison` with another model, which the report and the scores show too.

        Returns:
            The folder.
        """
        folder = Path(folder)
        header = ["class", "iou", "boundary_iou", "accuracy"]
        rows = [dict(zip(header, row, strict=True)) for row in self._rows()]
        write_table(folder / "per_class.csv", rows)
        scored = zip(self.names, self.per_image, strict=True)
        rows = [{"image": name, "mean_iou": score} for name, score in scored]
        write_table(folder / "per_image.csv", rows)
        scores = self.to_json()
        if comparison is not None:
            scores["comparison"] = comparison.to_json()
        write_whole(folder / "scores.json", json.dumps(scores, indent=1).encode())
        visualization.per_class_bars(folder / "per_class.png", self.per_class, self.classes)
        matrix = folder / "confusion_matrix.png"
        visualization.confusion_matrix(matrix, self.confusion_matrix, self.classes)
        visualization.segmentation_gallery(
            folder / "samples.png",
            [one.image for one in self.samples],
            [one.label for one in self.samples],
            [one.prediction for one in self.samples],
            self.classes,
        )
        page = report.page(self, matrix.read_bytes(), comparison)
        write_whole(folder / "report.html", page.encode(errors="backslashreplace"))
        return folder

    def _rows(self) -> Iterator[tuple[str, float, float, float]]:
        """Lists every class with its IoU, boundary IoU and accuracy."""
        scores = self.per_class, self.per_class_boundary_iou, self.per_class_accuracy
        return zip(self.classes.names, *scores, strict=True)

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the pictures as a dictionary for JSON, with `None` for NaN."""
        return {
            **{name: getattr(self, name) for name in _SCORES},
            "per_class": scores_by_name(self.classes.names, self.per_class),
            "per_class_boundary_iou": scores_by_name(
                self.classes.names, self.per_class_boundary_iou
            ),
            "boundary_width": self.boundary_width,
            "per_class_accuracy": scores_by_name(self.classes.names, self.per_class_accuracy),
            "confusion_matrix": self.confusion_matrix.tolist(),
            "per_image": scores_by_name(self.names, self.per_image),
            "worst": [one.name for one in self.worst],
            "best": [one.name for one in self.best],
            "initial_weights": self.initial_weights,
            "views": self.views,
        }


_SCORES = ("mean_iou", "mean_boundary_iou", "mean_accuracy", "pixel_accuracy")


def scores_by_name(names: Sequence[str], values: Iterable[float]) -> dict[str, float | None]:
    """Returns scores by name, for JSON, which has no NaN."""
    numbers = [None if np.isnan(value) else float(value) for value in values]
    return dict(zip(names, numbers, strict=True))


@checked
def evaluate(
    model: keras.Model,
    data: Data,
    image_size: int | Sequence[int] | None = None,
    views: str | Views = "single",
    *,
    classes: ClassList | None = None,
    batch_size: int = 8,
    boundary_width: int = 3,
    num_samples: int = 4,
    progress: bool = False,
) -> Evaluation:
    """Scores a model on a split.

    There are two usual protocols. The first is that of every epoch of training: `data` holds images
    and labels of the size that the network is trained with, and no other argument is needed. The
    second is that of papers: `data` holds frames and labels of their own size (loaded with
    `image_size=None, batch_size=1`, or any list of batches), and `image_size` and `views` say how
    the model sees them: in windows, at several scales, mirrored. The probabilities are resized to
    the labels' size and scored there.

    Beside the scores, memory holds a batch of the data, what `segment` needs for an image, and the
    images of the report.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        data: What `model.evaluate` takes, but as one argument: a dataset of `load_camvid` and the
            other loaders, a `tf.data.Dataset`, `keras.utils.PyDataset`, `DataLoader`, list or
            generator of batches `(images, labels)`, or such a pair of arrays. Pixels whose weight
            is 0, in batches `(images, labels, weights)`, are left out.
        image_size: The size at which the model sees the images: `(height, width)`, or the shorter
            side. `None` is the images' own. The scales of the views multiply it.
        views: A name from `keras_psp.inference.VIEWS`, or `Views`.
        classes: Names and colors of the classes. By default the model's or the data's own; where
            nobody tells them, the classes are numbered.
        batch_size: Number of windows, all of one size, that the model gets at a time.
        boundary_width: Width of a boundary for boundary IoU, in pixels of the labels.
        num_samples: How many images to keep for the pictures: so many evenly spread over the split,
            so many of the worst, and of the best. No image is among both of these.
        progress: Whether to show a progress bar.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: If there is no image or no label, if the data repeat without end, if labels or
            classes are not the model's, or if the views or the size do not exist.

    Example:

    ```python
    import keras_psp
    from keras_psp.inference import Views

    model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
    val = keras_psp.load_street_scenes("val", image_size=(96, 128), batch_size=4, num_images=4)
    result = keras_psp.evaluate(model, val)
    print("best class:", result.classes.names[result.per_class.argmax()])

    # As papers score: windows, mirrored too
    windows = keras_psp.evaluate(model, val, 96, Views(window_size=97, mirror=True))
    print(f"{windows.confusion_matrix.sum():.0f} pixels of 4 images, void left out")
    ```

    ```text
    best class: Road
    48668 pixels of 4 images, void left out
    ```
    """
    check_ends(data)
    segmenter = Segmenter(model, image_size, views, batch_size)
    number = None if isinstance(data, tuple) else operator.length_hint(data) or None
    bar = keras.utils.Progbar(number, verbose=int(progress))
    names: list[str] = []
    matrices: list[np.ndarray] = []
    boundaries: Any = 0
    samples = _Samples(num_samples)
    worst: list[ScoredImage] = []
    best: list[ScoredImage] = []
    labeled = 0  # images that are not all void
    info = info_of(data)
    classes = classes or getattr(model, "classes", None)
    found = zip(segmenter(_images(data, bar)), _names(info), strict=False)
    for (image, label, probabilities), name in found:
        scored = shared_classes(probabilities.shape[-1], info, classes)
        prediction = best_class(probabilities)
        pixels = label[None], prediction[None], len(scored)
        matrix = metrics.confusion_matrix(*pixels)
        boundaries += metrics.boundary_confusion_matrix(*pixels, boundary_width)
        names.append(name)
        matrices.append(matrix.astype("int32"))  # An image has fewer than 2³¹ pixels.
        one = ScoredImage(
            name,
            float(metrics.mean_of_present(metrics.iou_per_class(matrix))),
            np.rint(image).astype(np.uint8),
            label.reshape(prediction.shape).astype(np.uint8),
            prediction,
        )
        samples.add(one)
        if not np.isnan(one.mean_iou):
            worst = sorted([*worst, one], key=lambda one: one.mean_iou)[:num_samples]
            # Of equal ones the last: they are not among the worst.
            best = sorted([one, *best], key=lambda one: -one.mean_iou)[:num_samples]
            labeled += 1
    if not names:
        raise ValueError(
            "A split to be scored must hold at least one image. Received: data without any. Check "
            "the split's folder and its name."
        )
    best = best[: labeled // 2]
    return Evaluation(
        scored,
        tuple(names),
        np.array(matrices),
        boundaries,
        boundary_width,
        getattr(model, "initial_weights", "unknown weights"),
        segmenter.views.describe(image_size),
        samples.spread(),
        worst[: labeled - len(best)],
        best,
    )


class _Samples:
    """A few images, evenly spread over a split whose length is not known before its end."""

    def __init__(self, number: int):
        self.number = number
        self.every, self.seen = 1, 0
        self.kept: list[ScoredImage] = []

    def add(self, one: ScoredImage) -> None:
        if self.seen % self.every == 0:
            self.kept.append(one)
        self.seen += 1
        if len(self.kept) > 2 * self.number:
            self.kept, self.every = self.kept[::2], 2 * self.every

    def spread(self) -> list[ScoredImage]:
        number = min(self.number, len(self.kept))
        return [self.kept[i * len(self.kept) // number] for i in range(number)]


def _images(data: Any, bar: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields every image with its labels, which are void where the weight is 0."""
    for number, batch in enumerate(each_batch(data)):
        images, labels, weights = map(only_tensor, batch)
        if labels is None:
            raise ValueError(
                "Images are scored by their labels. Received: data of images alone. Give pairs "
                "(images, labels)."
            )
        if number == 0:
            warn_of_small_values(images)
        images, labels = check_pixels(to_numpy(images), axes=4), to_numpy(labels)
        if weights is not None:
            counts = to_numpy(weight_map(weights, labels.shape[:3])) != 0
            counts = counts[..., None] if labels.ndim == 4 else counts
            labels = np.where(counts, labels, VOID)
        yield from zip(images, labels, strict=True)
        bar.add(1)


def _names(info: DatasetInfo | None) -> Iterator[str]:
    """Yields the images' names where they are known, and numbers from there on."""
    known = () if info is None or info.shuffled else info.sample_names
    return itertools.chain(known, (f"image {number}" for number in itertools.count(len(known))))
