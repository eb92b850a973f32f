"""What `fit` and `evaluate` of every segmentation model take, and how images come."""

import numpy as np
import pytest

import keras_psp
from tests.tiny import Tiny, data

BATCHES = [data(2, (6, 7)), data(1, (6, 9))]


def streamed(images, labels):
    tf = pytest.importorskip("tensorflow")
    shapes = zip((images, labels), (tf.float32, tf.int32), strict=True)
    signature = tuple(tf.TensorSpec(shape, dtype) for shape, dtype in shapes)
    frames = tf.data.Dataset.from_generator(lambda: iter(BATCHES), output_signature=signature)
    return frames.apply(tf.data.experimental.assert_cardinality(len(BATCHES)))


@pytest.mark.compiled
@pytest.mark.parametrize(
    "images, labels",
    [
        ((None, None, None, 3), (None, None, None)),
        ((None, 6, None, 3), (None, None, None)),
        ((None, None, None, None), (None, 6, None)),
    ],
    ids=str,
)
def test_sizes_may_be_unknown_and_change(images, labels):
    frames = streamed(images, labels)
    model = Tiny()
    history = model.fit(frames, validation_data=frames, verbose=0).history
    scores = keras_psp.evaluate(model, BATCHES)  # One image at a time, without `tf.data`.
    assert history["val_mean_iou"] == pytest.approx([scores.mean_iou])
    assert history["val_pixel_accuracy"] == pytest.approx([scores.pixel_accuracy])


def test_unknown_axes_and_ragged_images_are_errors():
    tf = pytest.importorskip("tensorflow")
    with pytest.raises(ValueError, match=r"number of axes .* must be known\. .*ensure_shape"):
        Tiny().fit(streamed(None, (None, None, None)))
    rows = tf.ragged.constant([[[0.0, 0.0, 0.0]], [[0.0] * 3] * 2], ragged_rank=1)
    frames = tf.data.Dataset.from_tensors((rows, np.zeros(2)))
    with pytest.raises(ValueError, match=r"one size\. Received: data of ragged tensors"):
        Tiny().evaluate(frames)


@pytest.mark.parametrize(
    "wrap",
    [lambda x, y: ({"image": x}, y), lambda x, y: ([x], [y]), lambda x, y: ((x,), y)],
    ids=["dictionary", "lists", "tuple"],
)
def test_the_image_may_lie_in_dictionary_or_list(wrap, eagerly):
    images, labels = data(4)
    x, y = wrap(images, labels)
    model = Tiny()
    model.fit(x, y, validation_data=(x, y), verbose=0)
    expected = model.evaluate(images, labels, verbose=0)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected)
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(images, verbose=0))
    assert np.isfinite(model.train_on_batch(x, y)[0])


def test_several_tensors_are_an_error(eagerly):
    images, labels = data(2)
    model = Tiny()
    model.compile()
    with pytest.raises(ValueError, match=r"Received: 2 tensors \(image, label\) in the place of"):
        model.train_on_batch({"image": images, "label": labels})
