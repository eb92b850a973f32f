"""Scores against the course's test vectors, a NumPy reference, and counts no float32 can hold."""

import inspect
import json

import keras
import numpy as np
import pytest

from keras_psp.metrics import (
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    iou_per_class,
    segmentation_scores,
)

ALL = [MeanIoU, MeanAccuracy, PixelAccuracy]


class Scores:
    """The three metrics of one count, as one."""

    def __init__(self, *args, **kwargs):
        self.all = segmentation_scores(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.all[0], name)

    def update_state(self, *args, **kwargs):
        for one in self.all:
            one.update_state(*args, **kwargs)

    def result(self):
        return {one.name: one.result() for one in self.all}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def reference(num_classes, labels, predicted, counted=None):
    """Intersection, target area and union of every class, pixel sets spelled out."""
    counted = (labels != 255) & (True if counted is None else counted)
    areas = [
        (
            np.sum(counted & (labels == k) & (predicted == k)),
            np.sum(counted & (labels == k)),
            np.sum(counted & ((labels == k) | (predicted == k))),
        )
        for k in range(num_classes)
    ]
    return np.array(areas, float).T


def expected_scores(intersection, target, union, absent="skip"):
    kept = target > 0 if absent == "skip" else np.full(len(target), True)
    # The course's formulas.
    return {
        "mean_iou": np.mean((intersection / (union + 1e-10))[kept]),
        "mean_accuracy": np.mean((intersection / (target + 1e-10))[kept]),
        "pixel_accuracy": intersection.sum() / target.sum(),
    }


def floats(scores):
    return {name: float(value) for name, value in scores.items()}


@pytest.mark.parametrize(
    "num_classes, predicted, labels, intersection, target, union",
    [
        (2, [[0, 0], [1, 0]], [[0, 0], [1, 1]], [2, 1], [2, 2], [3, 2]),
        (3, [[2, 0], [1, 0]], [[2, 0], [1, 1]], [1, 1, 1], [1, 2, 1], [2, 2, 1]),
        (2, [[1, 0], [1, 0]], [[255, 0], [255, 1]], [1, 0], [1, 1], [2, 1]),
    ],
)
def test_equals_vectors_of_the_course(num_classes, predicted, labels, intersection, target, union):
    scores = Scores(num_classes)
    scores.update_state(np.array([labels]), np.array([predicted]))
    matrix = scores.confusion_matrix()
    assert matrix.diagonal().tolist() == intersection
    assert matrix.sum(1).tolist() == target
    assert (matrix.sum(0) + matrix.sum(1) - matrix.diagonal()).tolist() == union
    areas = np.array([intersection, target, union])
    assert floats(scores.result()) == pytest.approx(expected_scores(*areas))
    np.testing.assert_allclose(scores.per_class(), areas[0] / areas[2])


@pytest.mark.parametrize("absent", ["skip", "zero"])
@pytest.mark.parametrize("maps", ["logits", "probabilities", "class maps", "class maps, 1 channel"])
def test_equals_a_reference_over_several_batches(rng, maps, absent):
    num_classes = 7
    metrics = {m.name: m for m in (c(num_classes, absent_classes=absent) for c in ALL)}
    metrics["scores"] = Scores(num_classes, absent_classes=absent)
    batches = []
    for batch in (3, 1, 2):
        # Of the classes, 5 is never true and 6 neither true nor predicted.
        logits = rng.normal(size=(batch, 9, 11, num_classes)).astype("float32")
        logits[..., 6] = -9
        labels = rng.integers(0, 5, (batch, 9, 11))
        labels[rng.random(labels.shape) < 0.3] = 255
        predicted = logits.argmax(-1)
        batches.append((labels, predicted))
        given = {
            "logits": logits,
            "probabilities": 1 / (1 + np.exp(-logits)),
            "class maps": predicted,
            "class maps, 1 channel": predicted[..., None],
        }[maps]
        for metric in metrics.values():
            metric.update_state(labels if maps == "logits" else labels[..., None], given)

    labels, predicted = (
        np.concatenate([x.ravel() for x in xs]) for xs in zip(*batches, strict=True)
    )
    areas = reference(num_classes, labels, predicted)
    assert areas[1, 5] == 0 < areas[2, 5]
    expected = expected_scores(*areas, absent)
    scores = metrics.pop("scores")
    assert floats(scores.result()) == pytest.approx(expected, rel=1e-6)
    # One metric or three: the same.
    assert {n: m.result() for n, m in metrics.items()} == floats(scores.result())
    iou = np.append(areas[0, :5] / areas[2, :5], [np.nan, np.nan])
    for metric in (scores, metrics["mean_iou"]):
        np.testing.assert_allclose(metric.per_class(), iou)


def test_no_pixels_score_0():
    scores = Scores(3)
    assert floats(scores.result()) == {"mean_iou": 0, "mean_accuracy": 0, "pixel_accuracy": 0}
    scores.update_state(np.full((1, 2, 2), 255), np.zeros((1, 2, 2, 3)))
    assert floats(scores.result()) == {"mean_iou": 0, "mean_accuracy": 0, "pixel_accuracy": 0}
    assert np.isnan(scores.per_class()).all()


@pytest.mark.parametrize("shape", [(2,), (2, 3, 4), (2, 3, 4, 1)])
def test_pixels_of_weight_0_are_left_out(rng, shape):
    labels, predicted = rng.integers(0, 3, (2, 2, 3, 4))
    weight = rng.integers(0, 3, shape)
    weight.flat[0] = 0
    counted = np.broadcast_to(weight.reshape(*shape[:3], *[1] * (3 - len(shape))) != 0, (2, 3, 4))
    scores = Scores(3)
    scores.update_state(labels, predicted, sample_weight=weight)
    expected = expected_scores(*reference(3, labels, predicted, counted))
    assert floats(scores.result()) == pytest.approx(expected)


def count_up_to(scores, matrix):
    """Sets the counters as if so many pixels had been counted."""
    high, low = np.divmod(np.array(matrix), 2**16)
    scores.high.assign(high.astype("int32"))
    scores.low.assign(low.astype("int32"))


@pytest.mark.parametrize("before", [2**24, 2**31 - 1, 2**40])
def test_counts_exactly_what_float32_and_int32_cannot(before):
    scores = Scores(2)
    start = np.array([[before, 3], [2**16 - 1, before - 5]])
    count_up_to(scores, start)
    labels = np.array([[[0, 1, 0, 1]]])
    for _ in range(3):
        scores.update_state(labels, np.array([[[0, 0, 1, 1]]]))
    expected = start + 3
    np.testing.assert_array_equal(scores.confusion_matrix(), expected)
    target = expected.sum(1)
    union = target + expected.sum(0) - expected.diagonal()
    areas = expected.diagonal(), target, union
    assert floats(scores.result()) == pytest.approx(expected_scores(*areas), rel=1e-6)
    np.testing.assert_allclose(scores.per_class(), areas[0] / union, rtol=1e-15)


def test_one_batch_beyond_2_to_the_24():
    # 17 million pixels at once, one of them of another class.
    labels = np.zeros((1, 4113, 4133), "uint8")
    predicted = labels.copy()
    predicted[0, 7, 8] = 1
    metric = MeanIoU(2)
    metric.update_state(labels, predicted)
    assert metric.confusion_matrix().tolist() == [[labels.size - 1, 1], [0, 0]]


def test_many_classes_do_not_overflow_a_row():
    scores = PixelAccuracy(2000)
    low = np.full((2000, 2000), 2**16 - 1)
    count_up_to(scores, low)
    assert float(scores.result()) == pytest.approx(1 / 2000)


def test_starts_again_after_reset(rng):
    labels, predicted = rng.integers(0, 3, (2, 2, 3, 4))
    scores, fresh = Scores(3), Scores(3)
    count_up_to(scores, np.full((3, 3), 2**20 + 7))
    scores.reset_state()
    for metric in (scores, fresh):
        metric.update_state(labels, predicted)
    np.testing.assert_array_equal(scores.confusion_matrix(), fresh.confusion_matrix())


@pytest.mark.parametrize("cls", ALL)
def test_comes_back_from_its_configuration(cls):
    options = {
        "num_classes": 3,
        "name": "mine",
        "dtype": "float16",
        "ignore_class": 7,
        "sparse_y_true": False,
        "sparse_y_pred": True,
        "axis": 1,
        "absent_classes": "zero",
    }
    config = keras.metrics.serialize(cls(**options))
    again = keras.metrics.deserialize(json.loads(json.dumps(config)))
    assert type(again) is cls
    assert again.get_config() == options
    assert keras.metrics.serialize(again) == config


def test_order_of_arguments_is_that_of_keras():
    # Of a class, Python 3.10 would tell that of `__new__`.
    kinds = MeanIoU, keras.metrics.MeanIoU
    ours, theirs = ([*inspect.signature(kind.__init__).parameters] for kind in kinds)
    assert ours[: len(theirs)] == theirs


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # by Keras' own, on JAX
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ignore_class": None},
        {"ignore_class": 2},
        {"sparse_y_true": False, "ignore_class": None},
        {"sparse_y_pred": False},
        {"sparse_y_pred": False, "sparse_y_true": False, "axis": 1, "ignore_class": 0},
        {"dtype": "float16"},
    ],
    ids=str,
)
def test_equals_keras_mean_iou_with_the_same_arguments(rng, options):
    rough = 2e-3 if "dtype" in options else 1e-6
    options = {"ignore_class": 255, "sparse_y_pred": True, "dtype": "float32", **options}
    labels, predicted = rng.integers(0, 5, (2, 3, 8, 9))
    # A class that is predicted and never true counts as 0 in Keras'.
    predicted = np.where(predicted == options["ignore_class"], 4, predicted)
    if options["ignore_class"] is not None and options.get("sparse_y_true", True):
        labels[rng.random(labels.shape) < 0.3] = options["ignore_class"]
    if not options.get("sparse_y_true", True):
        labels = np.eye(5)[labels]
    if not options["sparse_y_pred"]:
        predicted = np.eye(5)[predicted] + rng.uniform(0, 0.9, (*predicted.shape, 5))
    # Keras' own cannot give its result with another axis.
    axis = options.pop("axis", -1)
    ours, theirs = MeanIoU(5, axis=axis, **options), keras.metrics.MeanIoU(5, **options)
    for maps in [(labels, predicted), (labels[::-1], predicted)]:
        theirs.update_state(*maps)
        ours.update_state(*(np.moveaxis(x, -1, axis) if x.ndim > 3 else x for x in maps))
    assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=rough)


@pytest.mark.parametrize("cls", [*ALL, Scores])
def test_results_have_the_type_asked_for(cls):
    metric = cls(2, dtype="float16")
    metric.update_state(np.array([[[0, 1, 1]]]), np.array([[[0, 1, 0]]]))
    for result in keras.tree.flatten(metric.result()):
        assert keras.backend.standardize_dtype(result.dtype) == "float16"


def test_integer_type_is_an_error():
    with pytest.raises(ValueError, match=r"Received: dtype='int32'\. Use dtype='float32'"):
        MeanIoU(2, dtype="int32")


def test_sparse_predictions_have_no_channels():
    with pytest.raises(ValueError, match=r"sparse_y_pred=True\. .* leave sparse_y_pred out"):
        MeanIoU(3, sparse_y_pred=True).update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 3)))


def test_callbacks_know_that_more_is_better():
    x, y = np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2))
    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Dense(3)])
    metrics = segmentation_scores(3)
    # Compiling takes longer than the steps, except where each operation is compiled.
    eagerly = keras.backend.backend() != "jax"
    model.compile("sgd", lambda y, p: p[..., 0], metrics=metrics, run_eagerly=eagerly)
    stopping = [keras.callbacks.EarlyStopping(f"val_{metric.name}") for metric in metrics]
    model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=stopping)
    assert [one.monitor_op for one in stopping] == [keras.ops.greater] * 3


def test_three_scores_have_the_variables_of_one():
    scores = segmentation_scores(3)
    assert [len(score.variables) for score in scores] == [2, 0, 0]


def test_label_out_of_range_is_named():
    labels = np.array([[[3, 255], [0, 1]]])
    with pytest.raises(ValueError, match=r"one of 0 … 2 or 255 for void\. Received: label 3\."):
        MeanIoU(3).update_state(labels, np.zeros((1, 2, 2, 3)))


def test_predicted_class_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"one of 0 … 2\. Received: predicted class 3, 255\."):
        MeanIoU(3).update_state(np.zeros((1, 2, 2)), np.array([[[3, 255], [0, 1]]]))


def test_one_channel_of_probabilities_is_an_error():
    with pytest.raises(
        ValueError, match=r"one of 0 … 1\. Received: predicted class 0\.25, 0\.75\."
    ):
        MeanIoU(2).update_state(np.zeros((1, 1, 3)), np.array([[[[0.25], [0.75], [1.0]]]]))


def test_predictions_of_other_classes_are_an_error():
    with pytest.raises(ValueError, match=r"one channel per class.*\(1, 2, 2, 21\), num_classes=3"):
        MeanIoU(3).update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 21)))


def test_labels_of_another_size_are_an_error():
    with pytest.raises(ValueError, match=r"one class number per pixel.*shape \(1, 2, 3\)"):
        MeanIoU(3).update_state(np.zeros((1, 2, 3)), np.zeros((1, 2, 2, 3)))


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'skip'"):
        MeanIoU(3, absent_classes="skipp")


def test_counts_in_a_compiled_step(rng):
    labels, predicted = rng.integers(0, 3, (2, 2, 3, 4)).astype("int32")
    labels[0, 0] = 255
    logits = np.eye(3, dtype="float32")[predicted]
    image = keras.Input((3, 4, 3))
    model = keras.Model(image, keras.layers.Identity()(image))
    results = {}
    for jit in (False, keras.backend.backend() != "torch"):
        scores = segmentation_scores(3)
        model.compile(loss=lambda y, p: 0.0 * p[..., 0], metrics=scores, jit_compile=jit)
        results = model.evaluate(logits, labels, return_dict=True, verbose=0)
        expected = expected_scores(*reference(3, labels, predicted))
        assert {name: results[name] for name in expected} == pytest.approx(expected)


def test_iou_of_a_confusion_matrix():
    matrix = np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(iou_per_class(matrix), [2 / 3, 1 / 2, np.nan])
