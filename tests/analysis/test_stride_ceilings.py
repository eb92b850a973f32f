"""The best label maps of a stride, beside cases whose answer is known."""

import numpy as np
import pytest

from keras_psp.analysis import best_at_stride
from keras_psp.layers import BilinearUpsample
from keras_psp.metrics import confusion_matrix, iou_per_class, mean_of_present


def score(labels, found, num_classes):
    return mean_of_present(iou_per_class(confusion_matrix(labels, found, num_classes)))


@pytest.mark.parametrize("align_corners", [True, False])
def test_finds_what_some_logits_give(rng, align_corners):
    logits = rng.normal(size=(2, 5, 6, 3)).astype("float32")
    upsample = BilinearUpsample(size=(20, 24), align_corners=align_corners)
    labels = np.argmax(upsample(logits), -1)
    found = best_at_stride(labels, 4, num_classes=3, align_corners=align_corners)
    assert score(labels, found, 3) > 0.97


def test_at_stride_1_nothing_is_lost(rng):
    labels = rng.integers(0, 4, (1, 6, 7))
    np.testing.assert_array_equal(best_at_stride(labels, 1, num_classes=4, steps=5), labels)


def test_enlarged_images_reach_more(rng):
    labels = rng.integers(0, 2, (1, 8, 8)).repeat(3, 1).repeat(3, 2)
    scores = [
        score(labels, best_at_stride(labels, 8, num_classes=2, image_size=(n, n)), 2)
        for n in (24, 48, 96)
    ]
    assert scores == sorted(scores)
    assert scores[0] < 0.8 < scores[-1]


def test_void_pixels_ask_for_nothing():
    labels = np.zeros((1, 8, 8), int)
    labels[:, :, 4:] = 255
    assert not best_at_stride(labels, 4, num_classes=2).any()


@pytest.mark.parametrize("labels, stride", [(np.zeros((4, 4), int), 8), (np.zeros((1, 4, 4)), 0)])
def test_bad_arguments(labels, stride):
    with pytest.raises(ValueError, match=r"labels\[None\]|Received: stride=0"):
        best_at_stride(labels, stride, num_classes=2)
