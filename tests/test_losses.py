"""The loss against PyTorch's, against values worked out by hand, and what void must not do."""

import inspect
import json

import keras
import numpy as np
import pytest

from keras_psp.layers import BilinearUpsample
from keras_psp.layers.bilinear_upsample import Strips, upsampled_argmax
from keras_psp.losses import SparseCategoricalCrossentropy
from tests.gradients import value_and_gradient

LOG2, LOG3 = np.log(2.0), np.log(3.0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def loss_and_gradient(loss, labels, logits, **kwargs):
    return value_and_gradient(lambda x: loss(labels, x, **kwargs), logits)


@pytest.mark.parametrize("size", [(37, 29), (16, 9), (5, 3), (1, 1)])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_of_upsampled_equals_loss_of_upsampled_logits(
    rng, monkeypatch, size, align_corners, weighted
):
    monkeypatch.setattr(Strips, "NUMBERS", 1000)
    small = rng.normal(0, 3, (2, 5, 4, 7)).astype("float32")
    labels = rng.integers(0, 7, (2, *size))
    labels[rng.random(labels.shape) < 0.3] = 255
    weights = rng.uniform(0.1, 5, 7).tolist() if weighted else None
    pixels = {"sample_weight": rng.uniform(0, 2, labels.shape)} if weighted else {}
    loss = SparseCategoricalCrossentropy(class_weights=weights)
    upsample = BilinearUpsample(size, align_corners=align_corners)
    expected, slope = loss_and_gradient(
        lambda y, x, **pixels: loss(y, upsample(x), **pixels), labels, small, **pixels
    )
    value, gradient = loss_and_gradient(
        lambda y, x, **pixels: loss.of_upsampled(y, x, size, align_corners, **pixels),
        labels,
        small,
        **pixels,
    )
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-6)


# PyTorch looks for a GPU before its first gradient.
@pytest.mark.filterwarnings("ignore:CUDA initialization")
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_pytorchs(rng, weighted):
    torch = pytest.importorskip("torch")
    logits = rng.normal(0, 3, (3, 4, 5, 7)).astype("float32")
    labels = rng.integers(0, 7, (3, 4, 5))
    labels[rng.random(labels.shape) < 0.3] = 255
    weights = rng.uniform(0.1, 5, 7).astype("float32") if weighted else None
    loss = SparseCategoricalCrossentropy(class_weights=weights)
    value, gradient = loss_and_gradient(loss, labels, logits)

    x = torch.from_numpy(logits).cpu().permute(0, 3, 1, 2).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        x,
        torch.from_numpy(labels).cpu(),
        weight=None if weights is None else torch.from_numpy(weights).cpu(),
        ignore_index=255,
        # With weights, PyTorch's mean is divided by their sum, ours by the number of pixels.
        reduction="sum",
    ) / int((labels != 255).sum())
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, x.grad.permute(0, 2, 3, 1).numpy(), atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"from_logits": False},
        {"ignore_class": 3},
        {"ignore_class": None},
        {"reduction": "sum"},
        {"reduction": "mean"},
        {"reduction": "mean_with_sample_weight"},
        {"reduction": "none"},
        {"reduction": None, "from_logits": False},
        {"axis": 1},
        {"axis": -3, "from_logits": False, "ignore_class": None},
        {"dtype": "float16"},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_keras_loss_with_the_same_arguments(rng, options, weighted):
    options = {"from_logits": True, "ignore_class": 255, **options}
    labels = rng.integers(0, 7, (3, 4, 5))
    if options["ignore_class"] is not None:
        labels[rng.random(labels.shape) < 0.3] = options["ignore_class"]
    predictions = rng.normal(0, 3, (3, 4, 5, 7)).astype("float32")
    if not options["from_logits"]:
        predictions = np.exp(predictions) / np.exp(predictions).sum(-1, keepdims=True)
    pixels = {"sample_weight": rng.uniform(0, 2, labels.shape)} if weighted else {}
    axis = options.pop("axis", -1)
    ours = SparseCategoricalCrossentropy(axis=axis, **options)
    # On TensorFlow Keras' own wants the classes last.
    theirs = keras.losses.SparseCategoricalCrossentropy(**options)

    def our_loss(labels, predictions):
        return ours(labels, keras.ops.moveaxis(predictions, -1, axis), **pixels)

    def their_loss(labels, predictions):
        return theirs(labels, predictions, **pixels)

    rough = 2e-2 if "dtype" in options else 1e-5
    results = [keras.ops.convert_to_tensor(f(labels, predictions)) for f in (our_loss, their_loss)]
    assert {keras.backend.standardize_dtype(result.dtype) for result in results} == {ours.dtype}
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, results), rtol=rough)
    if keras.backend.backend() == "tensorflow":  # Keras' gradients differ between backends.
        gradients = [
            loss_and_gradient(lambda *args, f=f: keras.ops.sum(f(*args)), labels, predictions)[1]
            for f in (our_loss, their_loss)
        ]
        np.testing.assert_allclose(*gradients, rtol=rough, atol=rough / 10)


@pytest.mark.parametrize("options", [{"from_logits": False}, {"reduction": None}, {"axis": 1}])
def test_of_upsampled_takes_every_argument(rng, options):
    small = rng.uniform(0.1, 0.9, (2, 3, 4, 7)).astype("float32")
    labels = rng.integers(0, 7, (2, 9, 11))
    large = keras.ops.convert_to_numpy(BilinearUpsample((9, 11))(small))
    small, large = (np.moveaxis(x, -1, options.get("axis", -1)) for x in (small, large))
    loss = SparseCategoricalCrossentropy(**options)
    value, expected = loss.of_upsampled(labels, small, (9, 11)), loss(labels, large)
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, -4, 4])
def test_class_axis_cannot_be_the_batch(axis):
    with pytest.raises(ValueError, match=rf"behind the batch's\. Received: axis={axis}\. Use -1"):
        SparseCategoricalCrossentropy(axis=axis)


# Pixels of equal logits cost log 2; [0, log 2] gives the classes 1/3 and 2/3.
LOGITS = np.array([[[[0, 0], [0, LOG2]], [[0, LOG2], [5, 5]]]], "float32")
LABELS = np.array([[[0, 0], [1, 255]]])


@pytest.mark.parametrize(
    "options, kwargs, expected",
    [
        ({}, {}, (LOG2 + LOG3 + LOG3 - LOG2) / 3),
        ({"class_weights": [2, 5]}, {}, (2 * LOG2 + 2 * LOG3 + 5 * (LOG3 - LOG2)) / 3),
        ({}, {"sample_weight": np.array([0.5])}, LOG3 / 3),
        ({}, {"sample_weight": np.array([[[0, 3], [0, 9]]])}, 3 * LOG3 / 3),
        ({}, {"sample_weight": np.array([[[[0], [3]], [[0], [9]]]])}, 3 * LOG3 / 3),
        (
            {"class_weights": [2, 5]},
            {"sample_weight": np.array([[[1, 0], [3, 9]]])},
            (2 * LOG2 + 15 * (LOG3 - LOG2)) / 3,
        ),
    ],
    ids=["plain", "class weights", "per image", "per pixel", "per pixel, 1 channel", "both"],
)
def test_values_by_hand(options, kwargs, expected):
    loss = SparseCategoricalCrossentropy(**options)
    np.testing.assert_allclose(loss(LABELS, LOGITS, **kwargs), expected, rtol=1e-6)
    np.testing.assert_allclose(loss(LABELS[..., None], LOGITS, **kwargs), expected, rtol=1e-6)


def test_weights_per_image_meet_their_images(rng):
    logits = rng.normal(size=(2, 2, 2, 3)).astype("float32")
    labels = rng.integers(0, 3, (2, 2, 2))
    loss = SparseCategoricalCrossentropy()
    each = [float(loss(labels[i : i + 1], logits[i : i + 1])) for i in range(2)]
    value = loss(labels, logits, sample_weight=np.array([1.0, 10.0]))
    np.testing.assert_allclose(value, (each[0] + 10 * each[1]) / 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_labels_of_any_type(dtype):
    loss = SparseCategoricalCrossentropy()
    np.testing.assert_allclose(loss(LABELS.astype(dtype), LOGITS), loss(LABELS, LOGITS))


def test_void_counts_nowhere(rng):
    logits = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    labels = rng.integers(0, 5, (2, 3, 4))
    labels[1] = 255
    loss = SparseCategoricalCrossentropy()
    value, gradient = loss_and_gradient(loss, labels, logits)
    np.testing.assert_allclose(value, loss(labels[:1], logits[:1]), rtol=1e-6)
    assert not gradient[1].any()
    logits[1, 0] = np.inf
    logits[1, 1] = -np.inf
    logits[1, 2] = np.nan
    assert loss_and_gradient(loss, labels, logits)[0] == value
    np.testing.assert_array_equal(loss_and_gradient(loss, labels, logits)[1], gradient)


def test_a_batch_of_void_has_loss_0(rng):
    logits = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    labels = np.full((2, 3, 4), 255)
    for options in ({}, {"class_weights": range(1, 6)}):
        loss = SparseCategoricalCrossentropy(**options)
        value, gradient = loss_and_gradient(loss, labels, logits)
        assert value == 0.0
        assert not gradient.any()  # NaN is true


def test_void_may_be_another_label_or_none():
    logits = np.zeros((1, 1, 2, 3), "float32")
    # Also a number that would otherwise be a class.
    loss = SparseCategoricalCrossentropy(ignore_class=0)
    np.testing.assert_allclose(loss([[[0, 1]]], logits), LOG3, rtol=1e-6)
    loss = SparseCategoricalCrossentropy(ignore_class=None)
    np.testing.assert_allclose(loss([[[0, 1]]], logits), LOG3, rtol=1e-6)
    with pytest.raises(ValueError, match=r"one of 0 … 2\. Received: label 255\."):
        loss(np.array([[[0, 255]]]), logits)


def test_large_logits_do_not_overflow():
    logits = np.array([[[[1e4, 0, -1e4]]]], "float32")
    loss = SparseCategoricalCrossentropy()
    assert float(loss([[[0]]], logits)) == 0.0
    assert float(loss([[[2]]], logits)) == 2e4


def test_half_precision_logits_are_summed_in_full(rng):
    logits = rng.normal(0, 3, (2, 150, 200, 11)).astype("float16")
    labels = rng.integers(0, 11, (2, 150, 200))
    value = SparseCategoricalCrossentropy()(labels, logits)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    wide = logits.astype("float64")
    picked = np.take_along_axis(wide, labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(value, np.mean(np.log(np.exp(wide).sum(-1)) - picked), rtol=1e-5)


@pytest.mark.parametrize("wrong", [11, -1, 254])
def test_label_out_of_range_is_named(wrong):
    labels = np.array([[[3, 255], [wrong, 10]]])
    with pytest.raises(
        ValueError,
        match=rf"must be one of 0 … 10 or 255 for void\. Received: label {wrong}\. "
        r"Set num_classes so that it is covered, or map it to 255",
    ):
        SparseCategoricalCrossentropy()(labels, np.zeros((1, 2, 2, 11), "float32"))


def test_interpolated_label_map_is_an_error():
    with pytest.raises(
        ValueError,
        match=r"must be one of 0 … 10 or 255 for void\. Received: label 2\.5, nan\. .*"
        r"Resize label maps to the nearest pixel, without interpolation\.",
    ):
        SparseCategoricalCrossentropy()(
            np.array([[[3, 255], [2.5, np.nan]]]), np.zeros((1, 2, 2, 11), "float32")
        )


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "XLA"])
def test_label_out_of_range_fails_compiled_step(jit, dtype):
    loss = SparseCategoricalCrossentropy()
    labels, logits = np.array([[[3, 255], [-4, 10]]], dtype), np.zeros((1, 2, 2, 11), "float32")
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        step = tf.function(loss, jit_compile=jit)
        if not jit:
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"Received: label\] \[-4\] \[Set num_classes"
            ):
                step(labels, logits)
            return
    elif backend == "jax" and jit:
        import jax

        step = jax.jit(loss)
    else:
        pytest.skip(f"{backend} compiles no such step")
    assert np.isnan(step(labels, logits))
    assert np.isfinite(step(np.abs(labels), logits))


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 3, 2), (2, 3, 3), (1, 3, 3, 4), (3, 3)])
def test_labels_of_another_size_are_an_error(shape):
    with pytest.raises(ValueError, match=r"one class number per pixel.*Received: labels of shape"):
        SparseCategoricalCrossentropy()(np.zeros(shape, "int32"), np.zeros((1, 3, 3, 4), "float32"))


@pytest.mark.parametrize("upsampled", [False, True])
def test_labels_of_another_size_fail_steps_of_any_size(upsampled):
    tf = pytest.importorskip("tensorflow")
    loss = SparseCategoricalCrossentropy()

    @tf.function(input_signature=[tf.TensorSpec((None,) * 3), tf.TensorSpec((None,) * 3 + (4,))])
    def step(labels, logits):
        if upsampled:
            return loss.of_upsampled(labels, logits, keras.ops.shape(logits)[1:3])
        return loss(labels, logits)

    logits = np.zeros((1, 3, 3, 4), "float32")
    assert float(step(np.zeros((1, 3, 3), "float32"), logits)) == pytest.approx(np.log(4))
    # Twice as high: as many pixels as two images have.
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels of shape\] \[.*6 3\]"):
        step(np.zeros((1, 6, 3), "float32"), logits)


def test_an_empty_batch_has_loss_0():
    """As a replica's share of the last batch may be."""
    tf = pytest.importorskip("tensorflow")
    loss, labels = SparseCategoricalCrossentropy(), np.zeros((0, 6, 8), "int32")
    small, large = np.zeros((0, 3, 4, 4), "float32"), np.zeros((0, 6, 8, 4), "float32")
    assert float(tf.function(loss)(labels, large)) == 0
    step = tf.function(lambda labels, small: loss.of_upsampled(labels, small, (6, 8)))
    assert float(step(labels, small)) == 0
    best = tf.function(lambda small: upsampled_argmax(small, (6, 8), True))(small)
    assert best.shape == (0, 6, 8)


def test_class_weights_of_wrong_number_are_an_error():
    with pytest.raises(ValueError, match="Received: 3 class_weights for 4 classes"):
        SparseCategoricalCrossentropy(class_weights=[1, 1, 1])(
            np.zeros((1, 3, 3), "int32"), np.zeros((1, 3, 3, 4), "float32")
        )


def test_comes_back_from_its_configuration():
    options = {
        "from_logits": False,
        "ignore_class": 7,
        "reduction": "sum",
        "axis": 1,
        "name": "mine",
        "dtype": "float16",
        "class_weights": [1.0, 2.0],
    }
    loss = SparseCategoricalCrossentropy(**{**options, "class_weights": np.array([1, 2])})
    config = keras.losses.serialize(loss)
    again = keras.losses.deserialize(json.loads(json.dumps(config)))
    assert isinstance(again, SparseCategoricalCrossentropy)
    assert again.get_config() == options
    assert keras.losses.serialize(again) == config


def test_order_of_arguments_is_that_of_keras():
    ours, theirs = (
        [*inspect.signature(kind).parameters]
        for kind in (SparseCategoricalCrossentropy, keras.losses.SparseCategoricalCrossentropy)
    )
    assert ours[: len(theirs)] == theirs
