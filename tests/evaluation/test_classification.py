"""Errors and cost of classifiers, with a model that knows colors only, worked out by hand."""

import numpy as np
import pytest

from keras_psp.evaluation.classification import ClassifierEvaluation, evaluate_classifier
from keras_psp.inference.views import Views
from tests.inference.test_classifying import KERNEL, OTHER, TEN, linear, noise

# The more red, the higher class 6; the more green, the higher class 0. Gray says nothing.
RANKS = np.arange(7) * np.array([[1], [-1], [0]])
RED, GREEN, BLUE = np.eye(3, dtype="uint8") * 255


def plain(color, *size):
    return np.full((*size, 3), color, "uint8")


def test_errors_are_those_worked_out_by_hand():
    data = [
        ([plain(RED, 9, 9), plain(RED, 5, 7)], np.array([6, 3])),  # first, fourth
        ([plain(RED, 5, 5)], np.array([1])),  # sixth
        ([plain(GREEN, 5, 8), plain(GREEN, 6, 5)], np.array([0, 4])),  # first, fifth
        # Where all classes are equal, the first ones count as the highest.
        ([plain(BLUE, 5, 5)] * 3, np.array([0, 4, 5])),
    ]
    result = evaluate_classifier(linear(RANKS, (4, 4)), data, 5)
    assert (result.images, result.models, result.crops, result.cost) == (8, 1, 1, 1)
    assert result.top1_error == pytest.approx(5 / 8)
    assert result.top5_error == pytest.approx(2 / 8)


def test_the_cost_counts_all_models_and_crops():
    data = [([plain(RED, 8, 12), plain(RED, 30, 20), plain(RED, 8, 8)], np.array([3, 3, 3]))]
    models = [linear(KERNEL, (4, 4)), linear(OTHER, (5, 5))]
    result = evaluate_classifier(models, data, 8, TEN)
    assert (result.models, result.crops, result.cost) == (2, 10, 20)
    assert result.multiply_adds == 20 * 3 * 4
    # Of whole images 6×9 and 8×12, as the median is, there are 3×6 and 5×9 places; and mirrored.
    result = evaluate_classifier(models[0], data, 6, Views(scales=(1, 4 / 3), mirror=True))
    assert result.cost == 4
    assert result.multiply_adds == 2 * (3 * 6 + 5 * 9) * 3 * 4


def test_printed_it_is_a_row():
    row = ClassifierEvaluation(50_000, 7, 144, 1_584_576_000_000, 0.2788, 0.0667)
    assert str(row) == (
        " 7 models × 144 crops = 1,008    1,584.6G multiply-adds  "
        "top-1 error 27.88%  top-5 error  6.67%"
    )
    single = ClassifierEvaluation(50_000, 1, 1, 1_572_000_000, 0.3, 0.1007)
    assert len(str(single)) == len(str(row))


def test_labels_that_are_no_classes_are_errors():
    model, images = linear(KERNEL, (4, 4)), noise(2, 5, 5)
    for labels in ([0, 4], [-1, 0], [0.0, 1.0], [[0, 1], [1, 0]], [1]):
        with pytest.raises(ValueError, match=r"from 0 to 3 for each image. Received: labels of"):
            evaluate_classifier(model, [(images, np.array(labels))], 5)
    with pytest.raises(ValueError, match="at least one image"):
        evaluate_classifier(model, [], 5)
