"""Tensors of PyTorch, also where another backend is in use, and on other devices than the CPU."""

import numpy as np
import pytest

from keras_psp import metrics, visualization
from keras_psp.arrays import to_numpy

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

LABELS = np.array([[[0, 1, 1, 255]]])
LOGITS = np.array([[[[3, 1], [0, 2], [5, 4], [1, 2]]]], "float32")


def with_gradients(values, dtype=None):
    return torch.tensor(values, dtype=dtype).float().requires_grad_()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32", "bool"])
def test_every_type_becomes_an_array(dtype):
    tensor = torch.tensor([[0, 1], [1, 1]], dtype=getattr(torch, dtype))
    assert to_numpy(tensor).tolist() == [[0, 1], [1, 1]]


def test_a_tensor_elsewhere_is_fetched():
    class OnAccelerator:
        """Like PyTorch's: it has to be asked for a copy on the CPU, which has no gradients."""

        def detach(self):
            return self

        def cpu(self):
            return torch.tensor([1, 2])

        def __array__(self, *_):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    assert to_numpy(OnAccelerator()).tolist() == [1, 2]


def test_metrics_take_tensors():
    expected = metrics.MeanIoU(2)
    expected.update_state(LABELS, LOGITS)
    found = metrics.MeanIoU(2)
    weights = torch.ones(1)
    found.update_state(torch.tensor(LABELS), with_gradients(LOGITS), weights)
    assert float(found.result()) == float(expected.result()) == 0.5
    predictions = torch.tensor(LOGITS).argmax(-1)
    matrix = metrics.confusion_matrix(torch.tensor(LABELS), predictions, 2)
    assert matrix.tolist() == [[1, 0], [1, 1]]
    assert metrics.iou_per_class(torch.tensor(matrix)).tolist() == [0.5, 0.5]


def test_pictures_take_tensors():
    labels, image = torch.tensor(LABELS), with_gradients(np.full((1, 1, 4, 3), 9))
    assert np.array_equal(visualization.colorize(labels), visualization.colorize(LABELS))
    blend = visualization.overlay(image, labels)
    assert np.array_equal(blend, visualization.overlay(to_numpy(image), LABELS))
    errors = visualization.error_map(labels, 1 - labels)
    assert np.array_equal(errors, visualization.error_map(LABELS, 1 - LABELS))
    gallery = visualization.segmentation_gallery(None, image, labels, labels)
    assert gallery.size > (100, 10)
