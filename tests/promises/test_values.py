"""No value is taken for another one in silence: what cannot be scored, shown or kept is named."""

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import losses, metrics
from keras_psp.inference.segmenting import best_class
from tests.tiny import Tiny, data

NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(params=[NAN, INFINITY, -INFINITY])
def broken(request):
    """A network with one weight that is no number."""
    model = Tiny()
    kernel = keras.ops.convert_to_numpy(model.head.kernel).copy()
    kernel[0, 0, 0, 1] = request.param
    model.head.kernel.assign(kernel)
    return model


def test_a_network_of_nan_is_not_scored(broken):
    images, labels = data(2)
    for say in (
        lambda: keras_psp.segment(broken, images[0]),
        lambda: keras_psp.evaluate(broken, (images, labels)),
    ):
        with pytest.raises(FloatingPointError, match=r"whose head has such weights\. Load other"):
            say()


def test_weights_of_nan_are_named_where_they_come_and_go(broken, tmp_path):
    broken.save_weights(tmp_path / "a.weights.h5")
    with pytest.warns(UserWarning, match=r"finite numbers\. Received: .*with NaN or .* in head\."):
        keras_psp.load_weights(Tiny(), tmp_path / "a.weights.h5")
    with pytest.warns(UserWarning, match=r"finite numbers\. Received: model=.* in head\."):
        keras_psp.export(broken, tmp_path / "a.keras")


@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_pixels_that_are_not_finite_are_wrong(value):
    labels = np.array([[[0, 1, 2, 255]]])
    logits = np.eye(4, 3)[None, None].astype("float32")
    logits[:, :, :2, 0] = value
    metric = metrics.MeanIoU(3)
    metric.update_state(labels, logits)
    expected = np.zeros((3, 3), int)
    expected[[0, 1, 2], [1, 2, 2]] = 1  # any class but the true one
    np.testing.assert_array_equal(metric.confusion_matrix(), expected)
    assert float(metrics.PixelAccuracy(3)(labels, np.full((1, 1, 4, 3), value))) == 0


def test_many_classes_keep_their_numbers():
    probabilities = np.zeros((1, 3, 300), "float32")
    probabilities[0, [0, 1, 2], [0, 255, 299]] = 1
    assert best_class(probabilities).tolist() == [[0, 255, 299]]
    assert best_class(probabilities[..., :256]).dtype == "uint8"


def test_class_255_is_not_lost_to_void():
    labels = np.full((1, 2, 2), 255)
    for score in (
        lambda: metrics.MeanIoU(256).update_state(labels, labels),
        lambda: metrics.confusion_matrix(labels, labels, 256),
        lambda: losses.SparseCategoricalCrossentropy()(labels, np.zeros((1, 2, 2, 256))),
    ):
        with pytest.raises(ValueError, match=r"num_classes=256, ignore_class=255\. Pass ignore_c"):
            score()
    assert metrics.confusion_matrix(labels, labels, 256, ignore_class=None)[255, 255] == 4


@pytest.mark.parametrize("value", [2, -1, 300])
def test_a_predicted_class_that_is_none_is_not_counted_elsewhere(value):
    with pytest.raises(ValueError, match=rf"predicted class must be .* Received: .* {value}\."):
        metrics.confusion_matrix(np.zeros((1, 1, 1), int), np.full((1, 1, 1), value), 2)


@pytest.mark.parametrize("kind", ["int64", "uint64", "uint32"])
def test_large_labels_do_not_wrap_around(kind):
    label = 2**32 if kind != "uint32" else 2**32 - 1
    labels = np.full((1, 2, 2), label, kind)
    for score in (
        lambda: metrics.confusion_matrix(labels, np.zeros((1, 2, 2), int), 3),
        lambda: losses.SparseCategoricalCrossentropy()(labels, np.zeros((1, 2, 2, 3))),
        lambda: metrics.MeanIoU(3).update_state(labels, np.zeros((1, 2, 2, 3))),
    ):
        with pytest.raises(ValueError, match=r"A label must be one of 0 … 2 or 255"):
            score()
    if kind == "int64":
        with pytest.raises(ValueError, match=r"A label must be one of"):
            metrics.confusion_matrix(labels - 2**33, np.zeros((1, 2, 2), int), 3)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), (1, 4, 5), (2, 4, 1), (2, 5, 4)])
def test_weights_of_another_size_are_refused(shape):
    labels, logits = np.zeros((2, 4, 5), int), np.zeros((2, 4, 5, 3), "float32")
    weights = np.ones(shape, "float32")
    for weigh in (
        lambda: losses.SparseCategoricalCrossentropy()(labels, logits, weights),
        lambda: metrics.MeanIoU(3).update_state(labels, logits, weights),
        lambda: keras_psp.evaluate(Tiny(), (np.zeros((2, 4, 5, 3)), labels, weights)),
    ):
        with pytest.raises(ValueError, match=r"Received: sample_weight of shape .* \(2, 4, 5\)"):
            weigh()


@pytest.mark.parametrize("shape", [(2,), (2, 4, 5), (2, 4, 5, 1)])
def test_weights_of_images_and_pixels_are_taken(shape):
    labels, logits = np.zeros((2, 4, 5), int), np.zeros((2, 4, 5, 3), "float32")
    weights = np.full(shape, 2.0, "float32")
    loss = losses.SparseCategoricalCrossentropy()(labels, logits, weights)
    assert float(loss) == pytest.approx(2 * np.log(3), rel=1e-6)


@pytest.mark.parametrize("images", [np.full((2, 6, 7, 3), v) for v in (-1.0, 256.0, NAN)])
def test_images_out_of_range_are_not_scored(images):
    with pytest.raises(ValueError, match=r"An image must be RGB, 0–255, in a batch \(batch, heig"):
        keras_psp.evaluate(Tiny(), (images, np.zeros((2, 6, 7), int)))


def test_gray_images_are_not_scored():
    with pytest.raises(ValueError, match=r"An image must be RGB, .*shape \(2, 6, 7, 1\)"):
        keras_psp.evaluate(Tiny(), (np.full((2, 6, 7, 1), 9), np.zeros((2, 6, 7), int)))
