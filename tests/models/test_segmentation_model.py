"""What `compile` and `fit` of every segmentation model do, asked and unasked."""

import gc
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.layers import batch_normalization
from keras_psp.losses import SparseCategoricalCrossentropy
from keras_psp.metrics import MeanIoU
from keras_psp.models import SegmentationModel
from keras_psp.optimizers import SGD, PolynomialDecay
from tests.tiny import Tiny, data

COMPILED = keras.backend.backend() != "torch"
numpy = keras.ops.convert_to_numpy
SCORES = {"mean_iou", "mean_accuracy", "pixel_accuracy"}


def cross_entropy(labels, logits, weights=None):
    """In NumPy: the sum over valid pixels, divided by their number."""
    logits = np.asarray(logits, "float64")
    valid = labels != 255
    classes = np.where(valid, labels, 0)
    picked = np.take_along_axis(logits, classes[..., None], -1)[..., 0]
    loss = np.log(np.exp(logits).sum(-1)) - picked
    return (loss * (1 if weights is None else weights))[valid].sum() / valid.sum()


def train_step(model, images, labels, **kwargs):
    """The logs of one step at rate 0, and the logits of both heads in it."""
    outputs = training_outputs(model, images)
    logs = model.fit(images, labels, batch_size=len(images), verbose=0, **kwargs).history
    return {name: values[0] for name, values in logs.items()}, outputs


def training_outputs(model, images):
    # Batch statistics, but without moving the averages.
    before = model.get_weights()
    features = model.features(keras.ops.convert_to_tensor(images), training=True)
    outputs = {"logits": model.decode(features, training=True)}
    if model.auxiliary_weight:
        outputs["auxiliary"] = model.decode_auxiliary(features, training=True)
    outputs = {k: numpy(model.upsample(v, like=images)).copy() for k, v in outputs.items()}
    model.set_weights(before)
    return outputs


def still():
    return SGD(0.0, l2=0.0)


def test_a_replica_without_images_gives_none(monkeypatch):
    model, (images, _) = Tiny(), data()
    monkeypatch.setattr(batch_normalization, "replicas", lambda: 2)
    assert model(images[:0]).shape == (0, *images.shape[1:3], 3)


@pytest.mark.compiled
def test_the_three_lines_train_by_the_recipe():
    images, labels = data(8)
    model = Tiny()
    rates = []
    end = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: rates.append(float(model.optimizer.learning_rate))
    )
    validation = {"validation_data": (images, labels)}
    history = model.fit(
        images, labels, batch_size=2, epochs=3, callbacks=end, **validation, verbose=0
    )
    assert set(history.history) == {"loss", "val_loss", *SCORES, *(f"val_{s}" for s in SCORES)}
    optimizer = model.optimizer
    assert isinstance(optimizer, SGD)
    assert (optimizer.momentum, optimizer.l2, optimizer._learning_rate.base) == (0.9, 1e-4, 0.02)
    assert isinstance(model.loss, SparseCategoricalCrossentropy)
    assert rates == [0.0]  # at the end of the run
    assert history.history["loss"][-1] < history.history["loss"][0]
    # What `evaluate` and `predict` say.
    scores = model.evaluate(images, labels, return_dict=True, verbose=0)
    logits = model.predict(images, verbose=0)
    assert logits.shape == (*labels.shape, 3)
    assert scores["loss"] == pytest.approx(cross_entropy(labels, logits), rel=1e-5)
    hit = (logits.argmax(-1) == labels)[labels != 255]
    assert scores["pixel_accuracy"] == pytest.approx(hit.mean())


def test_plain_pairs_add_the_auxiliary_loss():
    images, labels = data(2)
    model = Tiny(auxiliary_weight=0.3)
    model.compile(still())
    logs, outputs = train_step(model, images, labels)
    losses = [cross_entropy(labels, outputs[name]) for name in ("logits", "auxiliary")]
    assert abs(losses[0] - losses[1]) > 0.01
    assert logs["loss"] == pytest.approx(losses[0] + 0.3 * losses[1], rel=1e-5)


@keras.saving.register_keras_serializable("keras_psp_tests")
class Unpooling(SegmentationModel):
    """A SegNet of two convolutions: an encoder of its own, which says where each maximum was."""

    def build_encoder(self, backbone, weights, input_shape):
        image = keras.Input(input_shape)
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image / 255)
        pooled = keras.layers.MaxPooling2D(2)(x)
        largest = keras.ops.equal(x, keras.layers.UpSampling2D(2)(pooled))
        encoder = keras.Model(image, {"pooled": pooled, "largest": largest})
        encoder.initial_weights = "random values"
        return encoder

    def build_decoder(self, features):
        self.unpool = keras.layers.UpSampling2D(2, name="unpool")
        self.head = keras.layers.Conv2D(self.num_classes, 1, name="head")

    def decode(self, features, training=None):
        unpooled = self.unpool(features["pooled"])
        return self.head(keras.ops.where(features["largest"], unpooled, 0.0))


def test_networks_may_have_their_own_encoder(randomize, tmp_path):
    images, labels = data(4, (6, 8))
    model = Unpooling("its own", num_classes=3)
    randomize(model)
    features = model.features(keras.ops.convert_to_tensor(images))
    assert set(features) == {"pooled", "largest"}
    logits = numpy(model.decode(features))
    assert logits.shape == (4, 6, 8, 3)  # the image's size: there is nothing to upsample
    np.testing.assert_allclose(numpy(model(images)), logits, atol=1e-5)
    model.compile(SGD(0.1))
    before = model.get_weights()
    loss = model.evaluate(images, labels, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(cross_entropy(labels, logits), rel=1e-5)
    model.fit(images, labels, verbose=0)
    assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(images)), numpy(model(images)), atol=1e-6)


def test_regularisers_count_once():
    images, labels = data(2)
    model = Tiny(regularizer=keras.regularizers.L2(0.1))
    model.compile(still())
    logs, outputs = train_step(model, images, labels)
    losses = [cross_entropy(labels, outputs[name]) for name in ("logits", "auxiliary")]
    kernels = [w for w in model.trainable_variables if w.path.endswith("kernel")]
    assert len(kernels) == 3
    penalty = 0.1 * sum(np.square(keras.ops.convert_to_numpy(w)).sum() for w in kernels)
    assert logs["loss"] == pytest.approx(losses[0] + 0.4 * losses[1] + penalty, rel=1e-5)


@pytest.mark.parametrize("weight", ["per image", "per pixel"])
def test_class_and_sample_weights_multiply(weight):
    images, labels = data(2)
    sample_weight = {
        "per image": np.array([0.5, 3.0]),
        "per pixel": np.random.default_rng(1).random(labels.shape),
    }[weight]
    model = Tiny(auxiliary_weight=0)
    model.compile(still())
    factors = np.array([1.0, 5.0, 0.25])
    shape = (2, 1, 1) if weight == "per image" else labels.shape
    expected = factors[np.where(labels == 255, 0, labels)] * sample_weight.reshape(shape)
    logs, outputs = train_step(
        model,
        images,
        labels[..., None],
        sample_weight=sample_weight,
        class_weight={1: 5, 2: 0.25},
        validation_data=(images, labels),
    )
    loss = cross_entropy(labels, outputs["logits"], expected)
    assert logs["loss"] == pytest.approx(loss, rel=1e-5)
    # Validation knows no class weights, and neither does what comes later without them.
    logits = model.predict(images, verbose=0)
    assert logs["val_loss"] == pytest.approx(cross_entropy(labels, logits), rel=1e-5)
    logs, outputs = train_step(model, images, labels)
    assert logs["loss"] == pytest.approx(cross_entropy(labels, outputs["logits"]), rel=1e-5)


def test_a_batch_on_its_own_after_fit():
    # As if the model had not been in `fit`: at the base rate, and without class weights.
    images, labels = data(2)
    model, fresh = Tiny(dropout=0.0), Tiny(dropout=0.0)
    for m in (model, fresh):
        m.compile(SGD(PolynomialDecay(0.01), momentum=0.0))
    model.fit(images, labels, epochs=2, class_weight={0: 5, 1: 0.2}, verbose=0)
    fresh.set_weights(model.get_weights())
    model.reset_metrics()  # Before 3.15, Keras goes on averaging the loss of the epoch.
    losses = [m.train_on_batch(images, labels)[0] for m in (model, fresh)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, theirs in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_class_weights_of_no_class():
    with pytest.raises(ValueError, match=r"classes 0 … 2\. Received: class_weight for \[3, 11\]"):
        Tiny().fit(*data(2), class_weight={0: 1, 11: 2, 3: 1}, verbose=0)


def test_class_weights_as_a_sequence():
    images, labels = data(2)
    model = Tiny(auxiliary_weight=0)
    model.compile(still())
    factors = np.array([1.0, 5.0, 0.25])
    logs, outputs = train_step(model, images, labels, class_weight=factors)
    expected = cross_entropy(labels, outputs["logits"], factors[np.where(labels == 255, 0, labels)])
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    weights = keras_psp.data.camvid.CAMVID_CLASS_WEIGHTS
    with pytest.raises(ValueError, match=r"Received: class_weight of 11 numbers, num_classes=3\."):
        model.fit(images, labels, class_weight=weights, verbose=0)


class Counted(Tiny):
    """Counts how often Python runs through the network: once for each step that is compiled."""

    calls = 0

    def decode(self, features, training=None):
        self.calls += 1
        return super().decode(features, training=training)


def taken_eagerly(model):
    """A model that is where this one is, and has no compiled step."""
    again = Counted.from_config(model.get_config())
    again.compile_from_config(model.get_compile_config())
    again.run_eagerly = keras.backend.backend() != "jax"
    model.optimizer.build(model.trainable_variables)
    again.set_weights(model.get_weights())
    for ours, theirs in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        ours.assign(theirs.numpy())
    return again


def assert_same_training(model, again, **options):
    images, labels = data(4)
    options = {"shuffle": False, "verbose": 0, **options}
    results = [m.fit(images, labels, **options).history for m in (model, again)]
    for name, values in results[1].items():
        assert results[0][name] == pytest.approx(values, rel=1e-5), name
    for weight, expected in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-6)


RUNS = [{"epochs": 1}, {"epochs": 3, "class_weight": {1: 5.0}}, {"epochs": 2}]


@pytest.mark.compiled
@pytest.mark.parametrize("first", [0, 1], ids=["plain first", "weighted first"])
def test_every_fit_uses_the_same_step(first):
    model = Counted()
    model.compile()
    calls = []
    for run in [*RUNS[first:], *RUNS[:first]]:
        assert_same_training(model, taken_eagerly(model), validation_data=data(4), **run)
        calls.append(model.calls)
    if COMPILED:
        assert len(set(calls)) == 1, calls


@pytest.mark.compiled
def test_another_loss_gets_given_class_weights():
    # One that has a value for each image, and none for each pixel.
    images, labels = data(2)
    labels = np.minimum(labels, 2)
    model = Counted(auxiliary_weight=0)
    model.compile(
        keras.optimizers.Adam(0.0),
        lambda y, p: keras.ops.mean(
            keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True), axis=(1, 2)
        ),
        metrics=None,
    )
    logs, outputs = train_step(model, images, labels)
    assert logs["loss"] == pytest.approx(cross_entropy(labels, outputs["logits"]), rel=1e-5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.SGD(PolynomialDecay(0.01)), loss, metrics=None)
    calls = []
    for weights in (None, {1: 5.0}, None):
        assert_same_training(model, taken_eagerly(model), class_weight=weights)
        calls.append(model.calls)
    if COMPILED:
        assert calls[0] < calls[1] == calls[2]


@pytest.mark.compiled
def test_what_a_step_cannot_know_of_needs_another():
    images, labels = data(4)
    model = Counted()
    model.compile()

    def moved():
        """Whether the kernels of backbone and head move in a `fit`."""
        kernels = [layer.kernel for layer in (model.backbone.get_layer("backbone"), model.head)]
        before = [numpy(kernel).copy() for kernel in kernels]
        model.fit(images, labels, verbose=0)
        return [not np.array_equal(numpy(k), b) for k, b in zip(kernels, before, strict=True)]

    assert moved() == [True, True]
    model.optimizer.learning_rate = PolynomialDecay(0.0)
    assert moved() == [False, False]
    if keras.backend.backend() == "jax":
        return  # where Keras wants an optimizer's variables to be trained all or not at all
    model.optimizer.learning_rate = PolynomialDecay(0.01)
    model.backbone.trainable = False
    calls = []
    for _ in range(3):
        assert moved() == [False, True]
        calls.append(model.calls)
    if COMPILED:
        assert len(set(calls)) == 1, calls


def megabytes():
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except FileNotFoundError:
        pytest.skip("how much memory the process has can be read on Linux only")
    return int(pages) * 4096 / 2**20


@pytest.mark.compiled
def test_fits_leave_nothing_behind():
    images, labels = data(2)
    model = Tiny()
    # A step of this network takes .4 MB on JAX, so 25 of them 10, and 4 MB on TensorFlow.
    for number in range(30 if keras.backend.backend() == "jax" else 15):
        if number == 5:
            gc.collect()
            before = megabytes()
        weights = {0: 2.0} if number % 3 else None
        model.fit(images, labels, epochs=1 + number % 2, class_weight=weights, verbose=0)
    gc.collect()
    assert megabytes() - before < 8


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
        lambda y, p: keras.losses.sparse_categorical_crossentropy(
            y, p, from_logits=True, ignore_class=255
        ),
    ],
    ids=["object", "function"],
)
def test_any_loss_optimizer_metric_and_callback(loss):
    images, labels = data(4)
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))
    model = Tiny()
    model.compile(keras.optimizers.Adam(0.0), loss, metrics=[MeanIoU(3)], weighted_metrics=[])
    logs, outputs = train_step(model, images, labels, callbacks=callback)
    assert set(logs) == {"loss", "mean_iou"} == set(seen[0])
    losses = [cross_entropy(labels, outputs[name]) for name in ("logits", "auxiliary")]
    assert logs["loss"] == pytest.approx(losses[0] + 0.4 * losses[1], rel=1e-4)


def test_keras_losses_weigh_both_heads():
    # Which, on PyTorch, changes the weights that it is given.
    images, labels = data(4)
    model = Tiny()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.Adam(0.0), loss, metrics=None)
    logs, outputs = train_step(model, images, labels, class_weight=[1.0, 5.0, 0.25])
    weights = np.array([1.0, 5.0, 0.25])[np.where(labels == 255, 0, labels)]
    losses = [cross_entropy(labels, outputs[n], weights) for n in ("logits", "auxiliary")]
    assert logs["loss"] == pytest.approx(losses[0] + 0.4 * losses[1], rel=1e-4)


def test_names_of_keras_and_no_metrics():
    images, labels = data(4)
    model = Tiny()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=None)
    assert set(model.fit(images, np.minimum(labels, 2), verbose=0).history) == {"loss"}
    model.compile(metrics=["sparse_categorical_accuracy"])
    history = model.fit(images, labels, verbose=0).history
    assert set(history) == {"loss", "sparse_categorical_accuracy"}


def trained_by(**options):
    """All that a short training leaves: its scores, its weights."""
    images, labels = data(4)
    model = Tiny()
    model.compile(SGD(PolynomialDecay(0.1)), **options)
    history = model.fit(images, labels, batch_size=2, epochs=2, shuffle=False, verbose=0)
    return [*history.history.values(), *(w.ravel() for w in model.get_weights())]


@pytest.fixture(scope="module")
def trained_eagerly():
    return trained_by(run_eagerly=True)


@pytest.mark.compiled
@pytest.mark.parametrize(
    "options",
    [{}, {"jit_compile": True}, {"steps_per_execution": 2}],
    ids=["graph", "XLA", "several steps at once"],
)
def test_compiled_steps_equal_eager_steps(options, trained_eagerly):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch compiles no step")
    for value, expected in zip(trained_by(**options), trained_eagerly, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "policy", [pytest.param("mixed_float16", marks=pytest.mark.compiled), "mixed_bfloat16"]
)
def test_mixed_precision(policy):
    images, labels = data(4)
    keras.config.set_dtype_policy(policy)
    try:
        model = Tiny()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(SGD(0.01))
    before = model.get_weights()
    model.fit(images, labels, batch_size=2, epochs=2, shuffle=False, verbose=0)
    assert model.predict(images, verbose=0).dtype == np.float32
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    # What scales the loss must not scale the step.
    full = Tiny()
    full.set_weights(before)
    full.compile(SGD(0.01), run_eagerly=keras.backend.backend() != "jax")
    full.fit(images, labels, batch_size=2, epochs=2, shuffle=False, verbose=0)
    steps = [
        np.concatenate([(w - b).ravel() for w, b in zip(m.get_weights(), before, strict=True)])
        for m in (model, full)
    ]
    assert np.linalg.norm(steps[0] - steps[1]) < 0.1 * np.linalg.norm(steps[1])


def test_a_batch_of_void_teaches_nothing():
    images, labels = data(2)
    model = Tiny()
    model.compile(SGD(0.1, l2=0.0))
    before = [keras.ops.copy(w) for w in model.trainable_variables]
    history = model.fit(images, np.full_like(labels, 255), verbose=0).history
    assert {name: values[0] for name, values in history.items()} == dict.fromkeys(
        ("loss", *SCORES), 0.0
    )
    for variable, value in zip(model.trainable_variables, before, strict=True):
        assert bool(keras.ops.all(variable == value)), variable.path


@pytest.mark.compiled
def test_labels_beyond_the_models_classes():
    images, labels = data(2, num_classes=5)
    model = Tiny(num_classes=3)
    rule = r"(?s)one of 0 … 2 or 255 for void\. Received: label.*Set num_classes"
    if keras.backend.backend() == "jax":  # nothing can be raised from a compiled step
        assert np.isnan(model.fit(images, labels, verbose=0).history["loss"]).all()
        return
    with pytest.raises(Exception, match=rule):
        model.fit(images, labels, verbose=0)
    with pytest.raises(Exception, match=rule):
        model.evaluate(images, labels, verbose=0)


class Batches(keras.utils.PyDataset):
    """One batch that says, as the data sets of the package do, which classes it has."""

    class_names = ("road", "car", "sky", "tree", "wall")

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return data(2)


def test_data_of_other_classes():
    # On a GPU, XLA compiles the step, and labels beyond the model's classes can raise nothing.
    message = (
        r"classes of the data\. Received: num_classes=3, data of 5 classes \(road, .*, wall\)\. "
        "Build the model with num_classes=5"
    )
    model = Tiny()
    for arguments in [{"x": Batches()}, {"x": data(2)[0], "validation_data": Batches()}]:
        with pytest.raises(ValueError, match=message):
            model.fit(**arguments, verbose=0)
    assert not model.compiled
    model.compile()
    with pytest.raises(ValueError, match=message):
        model.evaluate(Batches(), verbose=0)
    assert len(Tiny(num_classes=5).fit(Batches(), verbose=0).history["loss"]) == 1


@pytest.mark.parametrize("size", [(6, 8), (3, 4)])
def test_labels_of_another_size(size):
    images, labels = data(2)[0], data(2, size)[1]
    with pytest.raises(ValueError, match=r"one class number per pixel.*Resize the labels"):
        Tiny().fit(images, labels, verbose=0)


@pytest.mark.parametrize("compiled", ["recipe", "own", "not"])
def test_saved_and_loaded_it_trains_on(tmp_path, compiled):
    images, labels = data(4)
    model = Tiny()
    if compiled == "recipe":
        model.fit(images, labels, batch_size=2, epochs=2, verbose=0)
    elif compiled == "own":
        loss = SparseCategoricalCrossentropy(class_weights=[1, 2, 3])
        model.compile(keras.optimizers.Adam(PolynomialDecay(0.02)), loss, metrics=[MeanIoU(3)])
        model.fit(images, labels, batch_size=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    assert loaded.compiled == (compiled != "not")
    if not loaded.compiled:
        return
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.evaluate(images, labels, verbose=0) == model.evaluate(images, labels, verbose=0)
    for ours, theirs in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # A schedule of its own for the next run, on both sides.
    steps = [
        m.fit(images, labels, batch_size=2, shuffle=False, verbose=0).history["loss"]
        for m in (model, loaded)
    ]
    assert steps[0] == pytest.approx(steps[1], rel=1e-6)


def test_saved_and_loaded_without_compiling(tmp_path):
    model = Tiny()
    model.compile()
    model.save(tmp_path / "model.keras")
    assert not keras.saving.load_model(tmp_path / "model.keras", compile=False).compiled


def test_the_strategy_that_keras_cannot_train_with(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a strategy of TensorFlow's")
    strategy = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    model = Tiny()
    monkeypatch.setattr(model, "_distribute_strategy", strategy)
    with pytest.raises(
        ValueError,
        match=r"keras-team/keras#20585.*strategy=MultiWorkerMirroredStrategy.*DataParallel on the "
        "JAX backend",
    ):
        model.fit(*data(2))
    with pytest.raises(ValueError, match="keras-team/keras#20585"):
        model.compile()
    assert not model.compiled


@pytest.mark.compiled
def test_made_under_a_strategy_trains_outside():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a strategy of TensorFlow's")
    images, labels = data(4)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        mirrored = Tiny()
    plain = Tiny()
    plain.compile(run_eagerly=True)
    histories = [
        model.fit(images, labels, batch_size=2, epochs=2, shuffle=False, verbose=0).history
        for model in (mirrored, plain)
    ]
    for name, values in histories[1].items():
        assert histories[0][name] == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_all_numbers_may_be_half_or_double(floatx):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)  # Follows, unless a test has set it.
    try:
        model = Tiny()
        images, labels = data(4)
        history = model.fit(images, labels, validation_data=(images, labels), verbose=0).history
        assert np.isfinite(history["val_loss"])
        assert model.predict(images, verbose=0).shape == (*labels.shape, 3)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5"])
def test_a_file_that_could_not_be_loaded_is_not_written(name, tmp_path):
    with pytest.raises(ValueError, match=r"saved in a \.keras file, .*Name it \*\.keras; or"):
        Tiny().save(tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_a_file_keeps_the_recipes_one_count(tmp_path):
    images, labels = data(2)
    model = Tiny()
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert set(loaded.evaluate(images, labels, verbose=0, return_dict=True)) == {"loss", *SCORES}
    assert len(loaded.metrics_variables) == len(model.metrics_variables)


@pytest.mark.parametrize("monitor", ["val_mean_iou", "val_mean_accuracy", "val_pixel_accuracy"])
def test_keras_callbacks_watch_the_scores(monitor, tmp_path):
    images, labels = data(2)
    callbacks = [
        keras.callbacks.EarlyStopping(monitor),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch}.weights.h5", monitor, save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.ReduceLROnPlateau(monitor),
    ]
    Tiny().fit(images, labels, validation_data=(images, labels), callbacks=callbacks, verbose=0)
    assert callbacks[0].monitor_op is callbacks[1].monitor_op is keras.ops.greater
    assert [file.name for file in tmp_path.iterdir()] == ["1.weights.h5"]
    assert callbacks[2].monitor_op(1.0, 0.5)


def test_weights_outlive_an_interrupt():
    images, labels = data(4)
    model = Tiny()
    model.fit(images, labels, batch_size=2, verbose=0)
    for method, name in [("evaluate", "test"), ("predict", "predict"), ("fit", "train")]:
        getattr(model, f"make_{name}_function")()
        function = getattr(model, f"{name}_function")
        data_of = {"x": images, "batch_size": 2, "verbose": 0}
        if method != "predict":
            data_of["y"] = labels
        for good_steps in (0, 1):
            steps = iter([function] * good_steps)

            def step(*args, steps=steps):
                for one in steps:
                    return one(*args)
                raise KeyboardInterrupt

            setattr(model, f"{name}_function", step)
            before = model.get_weights()
            with pytest.raises(KeyboardInterrupt):
                getattr(model, method)(**data_of)
            pairs = zip(model.get_weights(), before, strict=True)
            changed = any(not np.array_equal(new, old) for new, old in pairs)
            assert changed == (name == "train" and good_steps == 1)
            assert float(model.optimizer.learning_rate) == np.float32(0.02)
        setattr(model, f"{name}_function", function)
        getattr(model, method)(**data_of)
