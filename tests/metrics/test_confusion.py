"""Boundary IoU against its definition, mask by mask."""

import numpy as np
import pytest

from keras_psp.metrics import boundary_confusion_matrix, class_areas, iou_per_class


def boundary_of(mask, width):
    """What an erosion by a square takes away, pixel by pixel."""
    padded = np.pad(mask, width)
    size = 2 * width + 1
    eroded = [
        [padded[y : y + size, x : x + size].all() for x in range(mask.shape[1])]
        for y in range(mask.shape[0])
    ]
    return mask & ~np.array(eroded)


@pytest.mark.parametrize(("width", "void"), [(1, 255), (2, 255), (3, None), (2, 3)])
def test_boundaries_are_those_of_the_masks(width, void):
    rng = np.random.default_rng(width)
    blocks = rng.integers(0, 4 if void else 3, (2, 5, 6)).repeat(4, 1).repeat(4, 2)
    labels = np.where(blocks == 3, void, blocks) if void else blocks
    predicted = np.where(rng.random(labels.shape) < 0.03, 0, np.roll(blocks % 3, 1, axis=2))
    areas = np.zeros((3, 3), int)
    for label, prediction in zip(labels, predicted, strict=True):
        for k in range(3):
            true = boundary_of(label == k, width)
            found = boundary_of((prediction == k) & (label != void), width)
            areas[:, k] += (true & found).sum(), true.sum(), found.sum()
    matrix = boundary_confusion_matrix(labels, predicted, 3, width, ignore_class=void)
    assert np.array_equal(np.array(class_areas(matrix))[:, :3], areas)
    assert matrix.sum() == (labels != void).sum()


def test_a_perfect_prediction_has_boundary_iou_1():
    labels = np.arange(12).reshape(1, 3, 4).repeat(5, 1).repeat(5, 2)
    iou = iou_per_class(boundary_confusion_matrix(labels, labels, 12, width=2))
    assert iou[:12].tolist() == [1] * 12


def test_a_boundary_has_a_width():
    labels = np.zeros((1, 2, 2), int)
    with pytest.raises(ValueError, match=r"at least 1\. Received: width=0\."):
        boundary_confusion_matrix(labels, labels, 2, width=0)


def test_boundaries_of_predictions_in_8_bits():
    """As `segment` returns them: -1 is none of their numbers."""
    labels = np.array([[[0, 1, 255, 1]]])
    predictions = np.array([[[0, 1, 1, 1]]], "uint8")
    expected = boundary_confusion_matrix(labels, predictions.astype("int64"), 2, 1)
    np.testing.assert_array_equal(boundary_confusion_matrix(labels, predictions, 2, 1), expected)
