"""What `fit` and `evaluate` of every segmentation model take, and how images come."""

import contextlib

import keras
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
    [
        lambda x, y, w: ({"image": x}, y, [w]),
        lambda x, y, w: ([x], [y], [w]),
        lambda x, y, w: ((x,), {"output": y}, {"output": w}),
    ],
    ids=["dictionary", "lists", "dictionary of labels"],
)
def test_tensors_may_lie_in_dictionary_or_list(wrap, eagerly):
    images, labels = data(4)
    weights = np.arange(4.0)
    x, y, w = wrap(images, labels, weights)
    model = Tiny()
    model.fit(x, y, sample_weight=w, validation_data=(x, y, w), verbose=0)
    expected = model.evaluate(images, labels, sample_weight=weights, verbose=0)
    assert model.evaluate(x, y, sample_weight=w, verbose=0) == pytest.approx(expected)
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(images, verbose=0))
    assert np.isfinite(model.train_on_batch(x, y, w)[0])


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, number):
        return tuple(part[2 * number :][:2] for part in self.parts)


def py_dataset(*parts):
    batches = Batches()
    batches.parts = parts
    return batches


def tf_data(*parts):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(parts).batch(2)


def torch_data(*parts):
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    return data.DataLoader(data.TensorDataset(*map(torch.from_numpy, parts)), batch_size=2)


KINDS = {
    "arrays": lambda *parts: {"x": parts[0], "y": parts[1], "batch_size": 2},
    "tf.data": lambda *parts: {"x": tf_data(*parts)},
    "PyDataset": lambda *parts: {"x": py_dataset(*parts)},
    # Not one batch more than are needed.
    "generator": lambda *parts: {"x": (py_dataset(*parts)[i] for i in range(2)), "steps": 2},
    "PyTorch": lambda *parts: {"x": torch_data(*parts)},
}


@contextlib.contextmanager
def one_warning():
    message = r"RGB, 0–255.* at most 1, as if .* give 255 \* images"
    with pytest.warns(UserWarning, match=message) as caught:
        yield
    assert [one.category for one in caught].count(UserWarning) == 1  # Others are libraries' own.


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_0_to_1_warn_once(kind, eagerly):
    images, labels = data(4)
    model, warned = Tiny(), Tiny()
    for one in (model, warned):
        one.compile()
    model.evaluate(**KINDS[kind](0 * images, labels), verbose=0)  # Black, and no mistake.
    with one_warning():
        warned.evaluate(images / 255, labels, batch_size=2, verbose=0)
        expected = warned.evaluate(images / 255, labels, batch_size=2, verbose=0)
    with one_warning():
        # Every batch is scored, and Keras would warn of one too few.
        scores = model.evaluate(**KINDS[kind](images / 255, labels), verbose=0)
    assert scores == pytest.approx(expected)


def classifier():
    layer = keras.layers.Conv2D(4, 3, name="conv")
    options = {"image_size": 7, "num_classes": 3, "weights": None}
    return keras_psp.models.build_classifier("small", layer, **options)


@pytest.mark.parametrize("make", [Tiny, classifier])
def test_training_and_predicting_warn_of_0_to_1(make, eagerly):
    images, labels = data(4, (7, 7))
    labels = labels if make is Tiny else labels[:, 0, 0] % 3
    for take in (
        lambda model: model.fit(images / 255, labels, epochs=2, verbose=0),
        lambda model: model.fit(images, labels, validation_data=(images / 255, labels), verbose=0),
        lambda model: model.predict(images.astype("float64") / 255, verbose=0),
    ):
        model = make()
        model.compile("sgd", "recipe" if make is Tiny else "sparse_categorical_crossentropy")
        with one_warning():
            take(model)


def test_several_tensors_are_an_error(eagerly):
    images, labels = data(2)
    model = Tiny()
    model.compile()
    with pytest.raises(ValueError, match=r"Received: 2 tensors \(image, label\) in the place of"):
        model.train_on_batch({"image": images, "label": labels})
