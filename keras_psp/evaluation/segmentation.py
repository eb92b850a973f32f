"""How good a model is on a split: scores, per-class IoU, the worst and best images, and whether it
is better than another model."""

import dataclasses
import itertools
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp import metrics
from keras_psp.atomic import write_table, write_whole
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.info import info_of
from keras_psp.inference.segmenting import Policy, Segmenter, best_class
from keras_psp.labels import ClassList


@dataclasses.dataclass(frozen=True)
class ScoredImage:
    """An image, what is in it, and what a model says.

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


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a split. Printed, it is a table.

    Args:
        classes: Names and colors of the K classes.
        names: Names of the N images.
        confusion_matrices: Pixels of each image, `(N, K, K)`: rows the true class, columns the
            predicted.
        initial_weights: What the model started from before it was trained.
        looked_at: How the model looked at the images, in words.
        samples: Images from all over the split.
        worst: Those with the lowest mean IoU, the lowest first.
        best: Those with the highest, the highest first.
    """

    classes: ClassList
    names: tuple[str, ...]
    confusion_matrices: np.ndarray
    initial_weights: str = "unknown weights"
    looked_at: str = ""
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
    def mean_accuracy(self) -> float:
        """Mean share of a class' pixels that was found, 0–1; absent classes are left out."""
        return float(np.nan_to_num(metrics.mean_of_present(self.per_class_accuracy)))

    @property
    def pixel_accuracy(self) -> float:
        """Share of all labeled pixels that is right, 0–1."""
        return float(self.confusion_matrix.trace() / max(self.confusion_matrix.sum(), 1))

    def __str__(self) -> str:
        scores = [(name.replace("iou", "IoU"), getattr(self, name)) for name in _SCORES]
        rows = [(name.replace("_", " "), value) for name, value in scores]
        width = max(len(name) for name in [*self.classes.names, *(name for name, _ in rows)])
        lines = [f"{'':<{width}}  {'IoU':>6}  accuracy"]
        for name, value, accuracy in zip(
            self.classes.names, self.per_class, self.per_class_accuracy, strict=True
        ):
            lines.append(f"{name:<{width}}  {_number(value):>6}  {_number(accuracy):>8}")
        lines += ["-" * (width + 18)]
        lines += [f"{name:<{width}}  {_number(value):>6}" for name, value in rows]
        for title, images in (("Worst", self.worst), ("Best", self.best)):
            shown = ", ".join(f"{one.name} ({one.mean_iou:.3f})" for one in images)
            lines += [f"{title} images: {shown}"] if shown else []
        looked_at = f" Looked at: {self.looked_at}." if self.looked_at else ""
        return "\n".join([*lines, f"It had started from {self.initial_weights}.{looked_at}"])

    def write(self, folder: str | os.PathLike[str], comparison: "Comparison | None" = None) -> Path:
        """Writes scores, tables and pictures.

        `report.html` shows all of it on one page, which needs no other file and no network. The
        others: `scores.json`, `per_class.csv`, `per_image.csv`, `per_class.png`,
        `confusion_matrix.png` and `samples.png` (image, truth, prediction, errors).

        Args:
            folder: The folder; made if it does not exist.
            comparison: A comparison with another model, to be shown in the report and the scores.

        Returns:
            The folder.
        """
        from keras_psp import visualization
        from keras_psp.evaluation import report

        folder = Path(folder)
        columns = zip(self.classes.names, self.per_class, self.per_class_accuracy, strict=True)
        rows = [{"class": name, "iou": iou, "accuracy": share} for name, iou, share in columns]
        write_table(folder / "per_class.csv", rows)
        rows = [
            {"image": n, "mean_iou": v} for n, v in zip(self.names, self.per_image, strict=True)
        ]
        write_table(folder / "per_image.csv", rows)
        scores = self.to_json()
        if comparison is not None:
            scores["comparison"] = comparison.to_json()
        write_whole(folder / "scores.json", json.dumps(scores, indent=1).encode())
        visualization.per_class_bars(folder / "per_class.png", self.per_class, self.classes)
        matrix = folder / "confusion_matrix.png"
        visualization.confusion_matrix(matrix, self.confusion_matrix, self.classes)
        images, labels, predictions = (
            [getattr(one, name) for one in self.samples]
            for name in ("image", "label", "prediction")
        )
        visualization.segmentation_gallery(
            folder / "samples.png", images, labels, predictions, classes=self.classes
        )
        page = report.page(self, matrix.read_bytes(), comparison)
        write_whole(folder / "report.html", page.encode())
        return folder

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as a dictionary for JSON, where NaN is `None`."""
        return {
            **{name: getattr(self, name) for name in _SCORES},
            "per_class": _named(self.classes.names, self.per_class),
            "per_class_accuracy": _named(self.classes.names, self.per_class_accuracy),
            "confusion_matrix": self.confusion_matrix.tolist(),
            "per_image": _named(self.names, self.per_image),
            "worst": [one.name for one in self.worst],
            "best": [one.name for one in self.best],
            "initial_weights": self.initial_weights,
            "looked_at": self.looked_at,
        }


_SCORES = ("mean_iou", "mean_accuracy", "pixel_accuracy")


def _number(value: float, sign: str = "") -> str:
    return "absent" if np.isnan(value) else f"{value:{sign}.3f}"


def _named(names: Sequence[str], values: Iterable[float]) -> dict[str, Any]:
    # JSON has no NaN.
    numbers = [None if np.isnan(value) else float(value) for value in values]
    return dict(zip(names, numbers, strict=True))


def evaluate(
    model: keras.Model,
    data: Any,
    classes: ClassList = CAMVID,
    image_size: int | Sequence[int] | None = None,
    policy: str | Policy = "single",
    *,
    batch_size: int = 8,
    num_samples: int = 4,
    progress: bool = False,
) -> Evaluation:
    """Scores a model on a split.

    There are two usual protocols. As after every epoch of training: `data` gives images and labels
    of the size that the network is trained with, and nothing else is said. As papers do: `data`
    gives frames and labels of their own size (`image_size=None, batch_size=1`, or any list of
    batches), and here `image_size` and `policy` say how the model looks at them: by windows, at
    several scales, mirrored. What it says is enlarged to the labels' size and scored there.

    Beside the scores, memory holds a batch of the data, what `segment` needs for an image, and the
    images of the report.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        data: Batches of images and labels, of known number: a dataset of `load_camvid` and its
            like.
        classes: Names and colors of the classes.
        image_size: The size at which the model looks at the images: `(height, width)`, or the
            shorter side. `None` is the images' own.
        policy: A name from `keras_psp.inference.segmenting.POLICIES`, or a `Policy`.
        batch_size: How many windows, of one size, the model sees at a time.
        num_samples: How many images to keep for the pictures: evenly spread over the split, the
            worst, and the best.
        progress: Whether to show a progress bar.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: If there is no batch, if labels or classes are not the model's, or there is no
            such policy or size.

    Example:

    ```python
    import numpy as np
    import keras_psp
    from keras_psp.inference.segmenting import Policy

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    data = [(np.zeros((1, 66, 90, 3)), np.zeros((1, 66, 90), "int32"))]
    result = keras_psp.evaluate(model, data)
    assert 0 <= result.mean_iou <= 1

    windows = keras_psp.evaluate(model, data, image_size=44, policy=Policy(33, mirrored=True))
    assert windows.confusion_matrix.sum() == 66 * 90
    ```
    """
    if not len(data):
        raise ValueError(
            "A split to be scored must hold at least one batch. Received: data of length 0. Check "
            "the split's folder and its name."
        )
    segmenter = Segmenter(model, image_size, policy, batch_size)
    bar = keras.utils.Progbar(len(data), verbose=int(progress))
    every = -(-len(data) // num_samples)
    names, matrices = [], []
    samples: list[ScoredImage] = []
    worst: list[ScoredImage] = []
    best: list[ScoredImage] = []
    found = segmenter(_images(data, every))
    for (image, (label, sampled, last), probabilities), name in zip(
        found, _names(data), strict=False
    ):
        if probabilities.shape[-1] != len(classes):
            raise ValueError(
                "A model is scored on its own classes. "
                f"Received: predictions of {probabilities.shape[-1]} classes, {len(classes)} "
                f"classes ({', '.join(classes.names)}). Pass the model's list as classes."
            )
        prediction = best_class(probabilities)
        matrix = metrics.confusion_matrix(label[None], prediction[None], len(classes))
        names.append(name)
        matrices.append(matrix.astype("int32"))  # An image has fewer than 2³¹ pixels.
        one = ScoredImage(
            name,
            float(metrics.mean_of_present(metrics.iou_per_class(matrix))),
            np.rint(np.clip(image, 0, 255)).astype(np.uint8),
            label.reshape(prediction.shape).astype(np.uint8),
            prediction,
        )
        if sampled:
            samples.append(one)
        if not np.isnan(one.mean_iou):
            worst = sorted([*worst, one], key=lambda one: one.mean_iou)[:num_samples]
            best = sorted([*best, one], key=lambda one: -one.mean_iou)[:num_samples]
        if last:
            bar.add(1)
    return Evaluation(
        classes,
        tuple(names),
        np.array(matrices),
        getattr(model, "initial_weights", "unknown weights"),
        str(segmenter),
        samples,
        worst,
        best,
    )


def _images(data: Any, every: int) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, bool, bool]]]:
    """Every image with its labels, whether it is a sample, and whether it ends its batch."""
    for number, batch in enumerate(data):
        images, labels = (ops.convert_to_numpy(part) for part in batch)
        last = len(images) - 1
        for place, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield image, (label, place == 0 and number % every == 0, place == last)


def _names(data: Any) -> Iterator[str]:
    """The images' names where they are known, and numbers."""
    info = info_of(data)
    known = () if info is None or info.shuffled else info.sample_names
    return itertools.chain(known, (f"image {number}" for number in itertools.count(len(known))))


# Comparing ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The scores of two models on the same images. Printed, it is a table.

    Args:
        result: The scores of one model.
        baseline: Those of the other.
        names: What they are called.
        interval: Within which the difference in mean IoU lies, `(low, high)`, were other images of
            the same kind scored.
        per_class_interval: The same for every class' IoU, `(K, 2)`, NaN for absent classes.
        confidence: In what share of the cases, 0–1.
        num_resamples: Of how many resamples of the images that was found.
    """

    result: Evaluation
    baseline: Evaluation
    names: tuple[str, str]
    interval: tuple[float, float]
    per_class_interval: np.ndarray
    confidence: float
    num_resamples: int

    @property
    def difference(self) -> float:
        """The mean IoU of `result` minus that of `baseline`."""
        return self.result.mean_iou - self.baseline.mean_iou

    @property
    def per_class(self) -> np.ndarray:
        """The same for every class' IoU, `(K,)`."""
        return self.result.per_class - self.baseline.per_class

    @property
    def per_image(self) -> np.ndarray:
        """The same for every image's mean IoU, `(N,)`."""
        return self.result.per_image - self.baseline.per_image

    def rows(self) -> list[tuple[str, float, float, float, float, float]]:
        """Name, both scores, their difference and its interval: of every class and of the mean."""
        names = [*self.result.classes.names, "mean IoU"]
        scores = [[*one.per_class, one.mean_iou] for one in (self.result, self.baseline)]
        differences = [*self.per_class, self.difference]
        low, high = zip(*self.per_class_interval, self.interval, strict=True)
        return list(zip(names, *scores, differences, low, high, strict=True))

    def __str__(self) -> str:
        rows = self.rows()
        first = max(len(name) for name, *_ in rows)
        columns = [max(len(name), 6) for name in self.names]
        header = [f"{name:>{width}}" for name, width in zip(self.names, columns, strict=True)]
        lines = ["  ".join([" " * first, *header, "difference", f"{self.confidence:.0%} interval"])]
        for name, *scores, difference, low, high in rows:
            cells = [f"{_number(v):>{w}}" for v, w in zip(scores, columns, strict=True)]
            cells += [f"{_number(difference, '+'):>10}"]
            cells += [f"{_number(low, '+')} … {_number(high, '+')}"] if low == low else []
            lines.append("  ".join([f"{name:<{first}}", *cells]))
        lines.insert(-1, "-" * len(lines[0]))
        return "\n".join([*lines, f"IoU on {len(self.result.names)} images. {self.verdict}"])

    @property
    def verdict(self) -> str:
        """What the interval says, in a sentence."""
        low, high = self.interval
        one, other = self.names
        interval = (
            f"the {self.confidence:.0%} interval of the difference, from {self.num_resamples:,} "
            "resamples of the images,"
        )
        if low <= 0 <= high:
            return f"Neither is better beyond doubt: {interval} contains 0."
        better, worse = (one, other) if low > 0 else (other, one)
        return f"{better} is better than {worse}: {interval} leaves out 0."

    def to_json(self) -> dict[str, Any]:
        """All of it as a dictionary for JSON, where NaN is `None`."""
        classes = self.result.classes.names
        low, high = (_named(classes, column) for column in self.per_class_interval.T)
        return {
            "names": self.names,
            "mean_iou": [self.result.mean_iou, self.baseline.mean_iou],
            "difference": self.difference,
            "interval": self.interval,
            "per_class": _named(classes, self.per_class),
            "per_class_interval": {name: [low[name], high[name]] for name in classes},
            "per_image": _named(self.result.names, self.per_image),
            "confidence": self.confidence,
            "num_resamples": self.num_resamples,
        }


def compare(
    result: Evaluation,
    baseline: Evaluation,
    names: tuple[str, str] = ("result", "baseline"),
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Puts the scores of two models on the same images side by side, and asks how sure they are.

    The interval is a paired bootstrap's: as many images as there are, are drawn from them with
    replacement, the same for both models; both are scored on those, each class' pixels together;
    and of the differences in mean IoU, found so many times, the middle ones make the interval. A
    class that no drawn image shows is left out of the mean.

    Args:
        result: Scores of one model, of `evaluate`.
        baseline: Scores of the other, on the same data.
        names: What to call the two.
        confidence: The share of the differences that lie in the interval, between 0 and 1.
        num_resamples: How often images are drawn.
        seed: Seed of the drawing.

    Returns:
        A `Comparison`: `.difference` is positive where `result` is better.

    Raises:
        ValueError: If the two were not scored on the same images and classes.

    Reference:
        Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13: percentile
        intervals.

    Example:

    ```python
    import numpy as np
    import keras_psp

    good, bad = (keras_psp.PSPNet("resnet18", 11, backbone_weights=None) for _ in range(2))
    data = [(np.zeros((2, 33, 33, 3)), np.zeros((2, 33, 33), "int32"))]
    comparison = keras_psp.compare(keras_psp.evaluate(good, data), keras_psp.evaluate(bad, data))
    assert comparison.interval[0] <= comparison.difference <= comparison.interval[1]
    ```
    """
    # In floating point, which multiplies matrices faster and is exact up to 2⁵³ pixels.
    areas = [
        np.stack(metrics.class_areas(one.confusion_matrices), 1).astype("float64")
        for one in (result, baseline)
    ]
    same_classes = result.classes.names == baseline.classes.names
    same_images = result.names == baseline.names and same_classes
    # The true pixels of each class tell whether it is really the same images, at the same size.
    if not (same_images and (areas[0][:, 1] == areas[1][:, 1]).all()):
        counts = ", ".join(
            f"{len(one.names)} images, {one.confusion_matrices.sum()} labeled pixels of "
            f"{len(one.classes)} classes"
            for one in (result, baseline)
        )
        raise ValueError(
            "Two models are compared on the same images, with labels of the same size and classes. "
            f"Received: {counts}. Evaluate both on the same data."
        )
    rng = np.random.default_rng(seed)
    number = len(result.names)
    differences = []
    for _ in range(num_resamples):
        # How often each image was drawn.
        drawn = np.bincount(rng.integers(number, size=number), minlength=number)
        ious = [metrics.iou(*np.tensordot(drawn.astype("float64"), area, 1)) for area in areas]
        per_class = ious[0] - ious[1]
        differences.append([*per_class, metrics.mean_of_present(per_class)])
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")  # Of a class that is absent altogether.
        low, high = np.nanquantile(differences, ends, axis=0)
    *per_class_interval, interval = zip(low.tolist(), high.tolist(), strict=True)
    return Comparison(
        result,
        baseline,
        names,
        interval,
        np.array(per_class_interval),
        confidence,
        num_resamples,
    )
