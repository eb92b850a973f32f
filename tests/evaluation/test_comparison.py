"""Two models side by side: intervals worked out by hand and from every possible resample."""

import itertools

import numpy as np
import pytest

from keras_psp.evaluation.comparison import compare
from keras_psp.evaluation.segmentation import Evaluation
from keras_psp.labels import ClassList


def scored(*right, names=None):
    """Images with 10 pixels of class a each, of which so many are right."""
    matrices = np.zeros((len(right), 2, 2), "int32")
    for matrix, share in zip(matrices, right, strict=True):
        matrix[0] = share, 10 - share
    return of(matrices, names or tuple(map(str, range(len(right)))))


def of(matrices, names):
    return Evaluation(ClassList(["a", "b"]), names, matrices, np.zeros((3, 3), int))


def test_the_interval_is_as_worked_out_by_hand():
    # Class a alone is present, and its IoU is the share of its pixels that are right. Of two images
    # drawn, both are the first (1 of 4), the second (1 of 4), or one is each (2 of 4): the
    # differences are .3, -.1, and their mean, .1.
    result, baseline = scored(9, 5), scored(6, 6)
    comparison = compare(result, baseline)
    assert comparison.difference == pytest.approx(0.1)
    assert comparison.interval == pytest.approx((-0.1, 0.3))
    assert comparison.per_class_interval[0] == pytest.approx((-0.1, 0.3))
    assert np.isnan(comparison.per_class_interval[1]).all()
    assert comparison.per_image == pytest.approx([0.3, -0.1])
    assert compare(result, baseline, confidence=0.4).interval == pytest.approx((0.1, 0.1))
    assert "Neither is better beyond doubt" in str(comparison)
    assert "+0.100  -0.100 … +0.300" in str(comparison)


def test_the_interval_is_that_of_every_possible_draw():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 20, (2, 4, 2, 2))
    one[:, :, 1] = one.sum(-1).max() - one[:, :, 0]
    other[:, :, 1] = one.sum(-1) - other[:, :, 0]
    found = compare(*(of(matrices, tuple("wxyz")) for matrices in (one, other)))

    def mean_iou(matrix):
        a = matrix[0, 0] / (matrix[0].sum() + matrix[1, 0])
        return (a + matrix[1, 1] / (matrix[1].sum() + matrix[0, 1])) / 2

    differences = [
        mean_iou(one[list(draw)].sum(0)) - mean_iou(other[list(draw)].sum(0))
        for draw in itertools.product(range(4), repeat=4)
    ]
    assert found.difference == pytest.approx(mean_iou(one.sum(0)) - mean_iou(other.sum(0)))
    # Quantiles of 10,000 draws: a step of the true distribution's more or less.
    low, high = np.quantile(differences, [[0.015, 0.035], [0.965, 0.985]], axis=0).T
    assert low[0] <= found.interval[0] <= high[0]
    assert low[1] <= found.interval[1] <= high[1]


def test_better_is_better_and_the_seed_decides():
    better, worse = scored(9, 8, 9, 7, 9, 8), scored(5, 5, 4, 6, 5, 2)
    comparison = compare(better, worse, ("new", "old"))
    assert "new is better than old: the 95% interval" in str(comparison)
    assert "new is better than old" in compare(worse, better, ("old", "new")).verdict
    few = [compare(better, worse, num_resamples=50, seed=seed).interval for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2]


def test_only_the_same_images_are_compared():
    for other in (scored(1, 2, 3), scored(1, 2, names=("0", "x"))):
        with pytest.raises(ValueError, match=r"on the same images.*Received: 2 images, 20 labeled"):
            compare(scored(1, 2), other)
    smaller = scored(1, 2)
    smaller.confusion_matrices[0, 0, 1] -= 1
    with pytest.raises(ValueError, match=r"on the same images.*20 labeled.*, 2 images, 19 "):
        compare(scored(1, 2), smaller)
