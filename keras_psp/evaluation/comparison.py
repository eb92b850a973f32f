"""Whether one model is better than another: their scores on the same images, side by side."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from keras_psp import metrics
from keras_psp.checked import checked
from keras_psp.evaluation.segmentation import Evaluation, scores_by_name
from keras_psp.visualization.figures import format_score


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The scores of two models on the same images. Printed, it is a table.

    Args:
        result: The scores of one model.
        baseline: The scores of the other.
        names: Names of the two.
        interval: Confidence interval of the difference in mean IoU, `(low, high)`: where it would
            lie on other images of the same kind.
        per_class_interval: The same for every class' IoU, `(K, 2)`, NaN for absent classes.
        confidence: Confidence level of the intervals, 0–1.
        num_resamples: Number of resamples of the images that the intervals come from.
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
        """Lists name, both scores, difference and its interval for every class and for the mean."""
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
            cells = [f"{format_score(v):>{w}}" for v, w in zip(scores, columns, strict=True)]
            cells += [f"{format_score(difference, '+'):>10}"]
            cells += [f"{format_score(low, '+')} … {format_score(high, '+')}"] if low == low else []
            lines.append("  ".join([f"{name:<{first}}", *cells]))
        lines.insert(-1, "-" * len(lines[0]))
        return "\n".join([*lines, f"IoU on {len(self.result.names)} images. {self.verdict}"])

    @property
    def verdict(self) -> str:
        """Which model is better, if the interval tells, in a sentence."""
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
        """Returns all of it as a dictionary for JSON, with `None` for NaN."""
        classes = self.result.classes.names
        low, high = (scores_by_name(classes, column) for column in self.per_class_interval.T)
        return {
            "names": self.names,
            "mean_iou": [self.result.mean_iou, self.baseline.mean_iou],
            "difference": self.difference,
            "interval": self.interval,
            "per_class": scores_by_name(classes, self.per_class),
            "per_class_interval": {name: [low[name], high[name]] for name in classes},
            "per_image": scores_by_name(self.result.names, self.per_image),
            "confidence": self.confidence,
            "num_resamples": self.num_resamples,
        }


@checked
def compare(
    result: Evaluation,
    baseline: Evaluation,
    names: tuple[str, str] = ("result", "baseline"),
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compares the scores of two models on the same images, with confidence intervals.

    The interval comes from a paired bootstrap. Each resample draws images with replacement, as many
    as there are and the same ones for both models, and scores both models on them, with the pixels
    of all drawn images together. The middle share of the differences in mean IoU is the interval. A
    class that no drawn image shows is left out of the mean.

    Args:
        result: Scores of one model, from `evaluate`.
        baseline: Scores of the other, on the same data.
        names: Names of the two.
        confidence: The share of the differences that lie in the interval, between 0 and 1.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        A `Comparison`: `.difference` is positive where `result` is better.

    Raises:
        ValueError: If the two were not scored on the same images and classes.

    Reference:
        Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13: percentile
        intervals.

    Example:

    ```python
    import keras_psp

    val = keras_psp.load_street_scenes("val", image_size=(96, 128), batch_size=4, num_images=4)
    trained = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
    untrained = keras_psp.PSPNet("resnet18", 11, backbone_weights=None)
    comparison = keras_psp.compare(
        keras_psp.evaluate(trained, val), keras_psp.evaluate(untrained, val)
    )
    low, high = comparison.interval
    print("better on such images" if low > 0 else "not known")
    ```

    ```text
    better on such images
    ```
    """
    both = result, baseline
    same_images = result.names == baseline.names and result.classes.names == baseline.classes.names
    # The number of true pixels of each class tells whether images and sizes really are the same.
    true_pixels = [one.confusion_matrices.sum(axis=-1) for one in both]
    if not (same_images and np.array_equal(*true_pixels)):
        counts = ", ".join(
            f"{len(one.names)} images, {one.confusion_matrices.sum()} labeled pixels of "
            f"{len(one.classes)} classes"
            for one in both
        )
        raise ValueError(
            "Two models are compared on the same images, with labels of the same size and classes. "
            f"Received: {counts}. Evaluate both on the same data."
        )
    areas = np.stack([metrics.class_areas(one.confusion_matrices) for one in both], axis=1)
    # Floats multiply faster than integers, and are exact up to 2⁵³ pixels.
    of_images = np.moveaxis(areas, 2, 0).astype("float64")
    rng = np.random.default_rng(seed)
    number = len(result.names)
    resampled = np.empty((num_resamples, *of_images.shape[1:]))
    for resample in resampled:
        # How often each image is drawn.
        drawn = np.bincount(rng.integers(number, size=number), minlength=number)
        resample[:] = np.tensordot(drawn.astype("float64"), of_images, 1)
    ious = metrics.iou(*np.moveaxis(resampled, 1, 0))
    per_class = ious[:, 0] - ious[:, 1]
    differences = np.column_stack([per_class, metrics.mean_of_present(per_class)])
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")  # Of a class that no image shows.
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
