"""Scores of a segmentation batch by batch, all computed from one exact confusion matrix."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.arrays import from_pytorch, one_program_on_jax
from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.keras_internals import higher_is_better
from keras_psp.labels import VOID
from keras_psp.losses import check_class_axis, classes_last, label_map, valid_labels, weight_map
from keras_psp.metrics.confusion import iou_per_class
from keras_psp.signatures import FromArguments

# A counter is two int32, and the low one holds less than this. So a batch may have 2³¹ − 2¹⁶ pixels
# and a split 2⁴⁷. Neither a class' row (of up to 32,000 classes) nor the sum over many replicas
# overflows, on any backend.
_CARRY = 2**16


class ConfusionMatrixMetric(FromArguments, keras.metrics.Metric):
    """What all the scores have in common: their arguments, and the counts they are made of."""

    default_name: str

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        ignore_class: int | None = VOID,
        sparse_y_true: bool = True,
        sparse_y_pred: bool | None = None,
        axis: int = -1,
        absent_classes: str = "skip",
    ):
        super().__init__(name=name or self.default_name, dtype=dtype)
        higher_is_better(self)
        check_class_axis(axis)
        if num_classes < 2:
            raise ValueError(
                "A score tells classes apart, so there are at least two. "
                f"Received: num_classes={num_classes}. Count the background as a class."
            )
        if not keras.backend.is_float_dtype(self.dtype):
            raise ValueError(
                "A score is a number between 0 and 1, so it needs a type with fractions. "
                f"Received: dtype={dtype!r}. Use dtype='float32'; the counts are exact anyway."
            )
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.absent_classes = check_name("absent_classes", absent_classes, ["skip", "zero"])
        shape = (num_classes, num_classes)
        self.low = self.add_variable(shape, "zeros", dtype="int32", name="low")
        self.high = self.add_variable(shape, "zeros", dtype="int32", name="high")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts a batch.

        Args:
            y_true: Labels `(batch, height, width)` or `(batch, height, width, 1)`; one-hot
                `(batch, height, width, num_classes)` with `sparse_y_true=False`.
            y_pred: Logits or probabilities `(batch, height, width, num_classes)`, or class maps
                of the labels' shape.
            sample_weight: Pixels of weight 0 are left out. Other weights do not change a score,
                since it counts pixels.
        """
        y_true, y_pred, sample_weight = map(from_pytorch, (y_true, y_pred, sample_weight))
        if not self.sparse_y_true:
            y_true = ops.argmax(y_true, axis=self.axis)
        y_true, y_pred = classes_last(y_true, ops.convert_to_tensor(y_pred), self.axis)
        labels = label_map(y_true, ops.shape(y_pred))
        classes, valid, _ = valid_labels(labels, self.num_classes, self.ignore_class)
        weight = None if sample_weight is None else weight_map(sample_weight, labels.shape)
        predicted = self._class_map(y_pred)
        low, high = _add(self.low.value, self.high.value, classes, predicted, valid, weight)
        self.low.assign(low)
        self.high.assign(high)

    def _class_map(self, y_pred):
        # A map without an axis of classes holds class numbers, whatever `sparse_y_pred` says.
        channels = y_pred.shape[-1] if len(y_pred.shape) == 4 else 1
        if channels == self.num_classes and not self.sparse_y_pred:
            return _best_class(y_pred)
        if channels != 1:
            raise ValueError(
                "Predictions must be class maps or have one channel per class. Received: "
                f"predictions of shape {tuple(y_pred.shape)}, num_classes={self.num_classes}, "
                f"sparse_y_pred={self.sparse_y_pred}. Give the metric the model's num_classes, and "
                "leave sparse_y_pred out."
            )
        predicted = label_map(y_pred, ops.shape(y_pred))
        predicted, _, _ = valid_labels(predicted, self.num_classes, None, noun="predicted class")
        return predicted

    def confusion_matrix(self) -> np.ndarray:
        """The pixels counted so far.

        Returns:
            int64 array `(num_classes, num_classes)`: rows the true class, columns the predicted.
        """
        low, high = (ops.convert_to_numpy(v).astype("int64") for v in (self.low, self.high))
        return high * _CARRY + low

    def _areas(self):
        precision = keras.backend.result_type(self.dtype, "float32")
        return _areas(*map(ops.convert_to_tensor, (self.low, self.high)), precision)


@one_program_on_jax
def _best_class(scores):
    # Of what is not finite no class is the best: the pixel is wrong.
    finite = ops.isfinite(ops.sum(ops.cast(scores, "float32"), axis=-1))
    return ops.where(finite, ops.cast(ops.argmax(scores, axis=-1), "int32"), -1)


@one_program_on_jax
def _add(low, high, classes, predicted, valid, weight):
    """The two halves of the counters, with the pixels of a batch."""
    num_classes = low.shape[0]
    if weight is not None:
        valid = ops.logical_and(valid, ops.not_equal(weight, 0.0))
    predicted = ops.where(predicted < 0, (classes + 1) % num_classes, predicted)
    # All pixels that do not count fall into one more bin, which is cut off.
    cells = num_classes**2
    index = ops.where(valid, classes * num_classes + predicted, cells)
    counts = _count(ops.reshape(index, (-1,)), cells + 1)[:cells]
    low = low + ops.reshape(counts, (num_classes, num_classes))
    carry = ops.floor_divide(low, _CARRY)
    return low - carry * _CARRY, high + carry


@functools.partial(one_program_on_jax, static=("precision",))
def _areas(low, high, precision):
    """Every class' intersection, target area and union."""

    # The sums are over exact integers, so each count is rounded only once.
    def total(reduce):
        return ops.cast(reduce(high), precision) * _CARRY + ops.cast(reduce(low), precision)

    intersection = total(ops.diagonal)
    target = total(lambda m: ops.sum(m, axis=1))
    predicted = total(lambda m: ops.sum(m, axis=0))
    return intersection, target, target + predicted - intersection


@functools.partial(one_program_on_jax, static=("absent_classes", "dtype"))
def _mean(part, area, target, absent_classes, dtype):
    """The mean of the classes' shares."""
    shares = part / ops.maximum(area, 1.0)
    if absent_classes == "zero":
        return ops.cast(ops.mean(shares), dtype)
    present = ops.cast(target > 0, shares.dtype)
    return ops.cast(ops.sum(shares * present) / ops.maximum(ops.sum(present), 1.0), dtype)


@functools.partial(one_program_on_jax, static=("dtype",))
def _share(part, area, dtype):
    """The share of all classes together."""
    return ops.cast(ops.sum(part) / ops.maximum(ops.sum(area), 1.0), dtype)


def _count(index, bins: int):
    """How often each of the numbers 0 … bins − 1 occurs, as int32."""
    ones = ops.ones_like(index)
    if keras.backend.backend() == "torch":
        # Keras' segment_sum adds in float32 on PyTorch.
        return index.new_zeros(bins).scatter_add(0, index.long(), ones)
    return ops.segment_sum(ones, index, num_segments=bins)


@keras.saving.register_keras_serializable("keras_psp")
class MeanIoU(ConfusionMatrixMetric):
    """Mean over the classes of intersection over union, of all pixels of a split together.

    It takes the arguments of `keras.metrics.MeanIoU`, and three defaults differ: 255 is void,
    logits are predictions as good as class maps are, and a class without a true pixel is left out
    of the mean even where it was predicted. It is stricter than Keras' metric, too: a label that is
    neither a class nor void is an error. Counts are exact whatever the type, so weights between 0
    and 1 do not change them.

    Args:
        num_classes: Number of classes K.
        name: Name of the metric.
        dtype: Type of the result, `keras.config.floatx()` by default.
        ignore_class: The label that counts nowhere; `None` if every label does.
        sparse_y_true: Whether labels are class numbers; `False` if they are one-hot.
        sparse_y_pred: Whether predictions are class maps (`True`) or have one channel per class
            (`False`); `None` tells it from their shape.
        axis: The axis along which the classes lie, where there is one.
        absent_classes: A class that has no pixel in the whole split is left out of the mean
            (`"skip"`) or counts as 0 (`"zero"`, as in Georgia Tech's course on computer vision).

    Returns:
        `result()` is a scalar, 0–1; `per_class()` gives every class' IoU, NaN for absent ones.

    Reference:
        Lecture, "Measuring Performance: Intersection over Union".

    Example:

    ```python
    import numpy as np
    import keras_psp

    metric = keras_psp.metrics.MeanIoU(num_classes=3)
    metric.update_state(np.array([[[2, 0], [1, 255]]]), np.array([[[2, 0], [0, 1]]]))
    print(f"{float(metric.result()):.2f}")  # (1/2 + 0 + 1) / 3
    ```

    ```text
    0.50
    ```
    """

    default_name = "mean_iou"

    def result(self):
        intersection, target, union = self._areas()
        return _mean(intersection, union, target, self.absent_classes, self.dtype)

    def per_class(self) -> np.ndarray:
        """Every class' IoU: float64 array `(num_classes,)`, NaN where a class never occurred."""
        return iou_per_class(self.confusion_matrix())


@keras.saving.register_keras_serializable("keras_psp")
class MeanAccuracy(ConfusionMatrixMetric):
    """Mean over the classes of the share of each class' pixels that was found.

    Args:
        num_classes: Number of classes K.
        **kwargs: The other arguments of `MeanIoU`.

    Returns:
        `result()` is a scalar, 0–1.

    Example:

    ```python
    import numpy as np
    import keras_psp

    metric = keras_psp.metrics.MeanAccuracy(num_classes=2)
    metric.update_state(np.array([[[0, 0], [0, 1]]]), np.array([[[0, 0], [1, 1]]]))
    print(f"{float(metric.result()):.2f}")  # (2/3 + 1) / 2
    ```

    ```text
    0.83
    ```
    """

    default_name = "mean_accuracy"

    def result(self):
        intersection, target, _ = self._areas()
        return _mean(intersection, target, target, self.absent_classes, self.dtype)


@keras.saving.register_keras_serializable("keras_psp")
class PixelAccuracy(ConfusionMatrixMetric):
    """Share of the labeled pixels that are classified correctly.

    Args:
        num_classes: Number of classes K.
        **kwargs: The other arguments of `MeanIoU`.

    Returns:
        `result()` is a scalar, 0–1.

    Example:

    ```python
    import numpy as np
    import keras_psp

    metric = keras_psp.metrics.PixelAccuracy(num_classes=2)
    metric.update_state(np.array([[[0, 0], [0, 1]]]), np.array([[[0, 0], [1, 1]]]))
    print(f"{float(metric.result()):.2f}")
    ```

    ```text
    0.75
    ```
    """

    default_name = "pixel_accuracy"

    def result(self):
        intersection, target, _ = self._areas()
        return _share(intersection, target, self.dtype)


@checked
def segmentation_scores(num_classes: int, **kwargs: Any) -> list[keras.metrics.Metric]:
    """Mean IoU, mean accuracy and pixel accuracy together, at the cost of one of them.

    The first counts the pixels of a batch, and the others read what it has counted.

    Args:
        num_classes: Number of classes K.
        **kwargs: The other arguments of `MeanIoU`, except `name`.

    Returns:
        Three metrics for `compile`: `mean_iou` (a `MeanIoU`), `mean_accuracy`, `pixel_accuracy`.

    Example:

    ```python
    import numpy as np
    import keras_psp

    scores = keras_psp.metrics.segmentation_scores(num_classes=2)
    for score in scores:
        score.update_state(np.array([[[0, 0], [0, 1]]]), np.array([[[0, 0], [1, 1]]]))
        print(f"{score.name} {float(score.result()):.2f}")
    ```

    ```text
    mean_iou 0.58
    mean_accuracy 0.83
    pixel_accuracy 0.75
    ```
    """
    counts = MeanIoU(num_classes, **kwargs)
    return [counts, ScoreOfCounts(counts, MeanAccuracy), ScoreOfCounts(counts, PixelAccuracy)]


class ScoreOfCounts(keras.metrics.Metric):
    """Another score of the pixels that a metric counts. It counts none itself."""

    def __init__(self, counts: ConfusionMatrixMetric, kind: type[ConfusionMatrixMetric]):
        super().__init__(name=kind.default_name, dtype=counts.dtype)
        higher_is_better(self)
        # In an attribute Keras would find the metric, and its variables for a second time.
        self._result = lambda: kind.result(counts)

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def result(self):
        return self._result()
