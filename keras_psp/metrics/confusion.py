"""Confusion matrices of NumPy arrays, and the scores that follow from them."""

import functools

import numpy as np
from keras import ops

from keras_psp.arrays import to_numpy
from keras_psp.checked import checked
from keras_psp.labels import VOID
from keras_psp.losses import label_map, valid_labels


@checked
def confusion_matrix(
    labels, predictions, num_classes: int, ignore_class: int | None = VOID
) -> np.ndarray:
    """Counts the pixels of every true and every predicted class.

    Args:
        labels: Labels `(batch, height, width)` or `(batch, height, width, 1)`.
        predictions: Classes 0 … K−1, integers `(batch, height, width)`.
        num_classes: Number of classes K.
        ignore_class: The label that counts nowhere; `None` if every label does.

    Returns:
        int64 array `(K, K)`: rows the true class, columns the predicted.

    Raises:
        ValueError: If a label is neither a class nor void, a prediction is no class, or the sizes
            differ.

    Example:

    ```python
    import numpy as np
    from keras_psp.metrics import confusion_matrix

    labels, predictions = np.array([[[0, 0, 1, 255]]]), np.array([[[0, 1, 1, 1]]])
    print(confusion_matrix(labels, predictions, 2))
    ```

    ```text
    [[1 1]
     [0 1]]
    ```
    """
    predictions = to_numpy(predictions)
    labels = label_map(to_numpy(labels), predictions.shape)
    classes, valid, _ = valid_labels(labels, num_classes, ignore_class)
    classes, valid = ops.convert_to_numpy(classes), ops.convert_to_numpy(valid)
    # Where the label does not count, the prediction may be anything.
    predicted = label_map(np.where(valid, predictions, 0), predictions.shape)
    predicted, _, _ = valid_labels(predicted, num_classes, None, noun="predicted class")
    predicted = ops.convert_to_numpy(predicted)
    cells = classes[valid].astype("int64") * num_classes + predicted[valid]
    shape = num_classes, num_classes
    return np.bincount(cells, minlength=num_classes**2).reshape(shape).astype("int64")


@checked
def boundary_confusion_matrix(
    labels, predictions, num_classes: int, width: int = 3, ignore_class: int | None = VOID
) -> np.ndarray:
    """Counts the pixels near the boundaries of every true and every predicted class.

    Boundary IoU is the IoU of this matrix: of each class, only the pixels near the boundary of its
    true or predicted regions count. They are those that have a pixel of another class, of void, or
    the image's end at most `width` rows and columns away. All others form class K, "elsewhere".

    Args:
        labels: Labels `(batch, height, width)` or `(batch, height, width, 1)`.
        predictions: Classes 0 … K−1, integers `(batch, height, width)`.
        num_classes: Number of classes K.
        width: Width of a boundary inside of its region, in pixels, at least 1.
        ignore_class: The label that counts nowhere; `None` if every label does.

    Returns:
        int64 array `(K + 1, K + 1)`: rows the true class, columns the predicted.

    Raises:
        ValueError: If the width is not positive, a label is neither a class nor void, or the sizes
            differ.

    Reference:
        [Cheng et al., 2021](https://arxiv.org/abs/2103.16562), section 4.2. They count pixels at
        the image's end in the same way.

    Example:

    ```python
    import numpy as np
    from keras_psp.metrics import boundary_confusion_matrix, confusion_matrix, iou_per_class

    labels = np.zeros((1, 9, 9), "int32")
    labels[:, 2:7, 2:7] = 1
    moved = np.roll(labels, 1, axis=2)  # by one pixel
    print(f"IoU {iou_per_class(confusion_matrix(labels, moved, 2))[1]:.2f}")
    boundaries = boundary_confusion_matrix(labels, moved, 2, width=1)
    print(f"of the boundaries {iou_per_class(boundaries)[1]:.2f}")
    ```

    ```text
    IoU 0.67
    of the boundaries 0.33
    ```
    """
    predictions = to_numpy(predictions)
    labels = label_map(to_numpy(labels), predictions.shape)
    classes, valid, _ = valid_labels(labels, num_classes, ignore_class)
    valid = ops.convert_to_numpy(valid)

    def boundary(regions):
        regions = np.where(valid, regions.astype("int16"), np.int16(-1))
        return np.where(_near_another(regions, width) | ~valid, regions, num_classes)

    true, predicted = boundary(ops.convert_to_numpy(classes)), boundary(predictions)
    return confusion_matrix(true, predicted, num_classes + 1, ignore_class=-1)


def _near_another(regions: np.ndarray, width: int) -> np.ndarray:
    """Whether another number, or the image's end, is at most `width` rows and columns away."""
    sides = ((0, 0), (width, width), (width, width))
    padded = np.pad(regions, sides, constant_values=-2)

    def of_window(extremum, x):
        for axis in (1, 2):
            starts = range(2 * width + 1)
            parts = [np.moveaxis(x, axis, 0)[n : n + regions.shape[axis]] for n in starts]
            x = np.moveaxis(functools.reduce(extremum, parts), 0, axis)
        return x

    return of_window(np.minimum, padded) != of_window(np.maximum, padded)


@checked
def iou_per_class(confusion_matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of every class.

    Args:
        confusion_matrix: Integers `(K, K)`, rows the true class, columns the predicted; or several,
            `(…, K, K)`.

    Returns:
        float64 array `(K,)` or `(…, K)`, 0–1, NaN for a class without a true pixel.

    Example:

    ```python
    import numpy as np
    from keras_psp.metrics import iou_per_class

    print(iou_per_class(np.array([[2, 1], [0, 1]])).round(2))
    ```

    ```text
    [0.67 0.5 ]
    ```
    """
    return iou(*class_areas(confusion_matrix))


@checked
def accuracy_per_class(confusion_matrix: np.ndarray) -> np.ndarray:
    """The share of every class' pixels that was found.

    Args:
        confusion_matrix: As in `iou_per_class`.

    Returns:
        float64 array `(K,)` or `(…, K)`, 0–1, NaN for a class without a true pixel.

    Example:

    ```python
    import numpy as np
    from keras_psp.metrics import accuracy_per_class

    print(accuracy_per_class(np.array([[2, 1], [0, 1]])).round(2))
    ```

    ```text
    [0.67 1.  ]
    ```
    """
    intersection, target, _ = class_areas(confusion_matrix)
    return np.where(target > 0, intersection / np.maximum(target, 1), np.nan)


@checked
def class_areas(confusion_matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the correct, the true and the predicted pixels of every class, each `(…, K)`."""
    confusion_matrix = to_numpy(confusion_matrix, "confusion_matrix")
    if confusion_matrix.ndim < 2:
        raise ValueError(
            "A confusion matrix has a row and a column for each class. Received: confusion_matrix "
            f"of shape {confusion_matrix.shape}. Pass (K, K), or several, (…, K, K)."
        )
    intersection = np.diagonal(confusion_matrix, axis1=-2, axis2=-1)
    return intersection, confusion_matrix.sum(axis=-1), confusion_matrix.sum(axis=-2)


@checked
def iou(intersection: np.ndarray, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Intersection over union of `class_areas`, NaN for a class without a true pixel."""
    areas = {"intersection": intersection, "target": target, "predicted": predicted}
    intersection, target, predicted = (to_numpy(area, name) for name, area in areas.items())
    if not intersection.shape == target.shape == predicted.shape:
        raise ValueError(
            "Each class has its three areas. Received: intersection, target and predicted of shape "
            f"{intersection.shape}, {target.shape} and {predicted.shape}. Pass those that "
            "class_areas returns."
        )
    union = target + predicted - intersection
    return np.where(target > 0, intersection / np.maximum(union, 1), np.nan)


@checked
def mean_of_present(values: np.ndarray) -> np.ndarray:
    """The mean over those classes `(…, K)` whose value is not NaN; NaN if there are none."""
    values = to_numpy(values)
    present = ~np.isnan(values)
    total, count = np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
