"""PSPNet: its sizes, its two outputs in training and its one elsewhere, files, precision."""

import re

import keras
import numpy as np
import pytest

from keras_psp import PSPNet
from keras_psp.layers import BasicBlock, DilatedBottleneck, PaddedConv2D
from keras_psp.layers.bilinear_upsample import Strips
from keras_psp.losses import SparseCategoricalCrossentropy
from keras_psp.metrics import PixelAccuracy
from keras_psp.models import FCN, build_backbone
from keras_psp.optimizers import SGD
from tests.whole import whole

numpy = keras.ops.convert_to_numpy


@pytest.fixture
def make(tiny_backbone, randomize):
    """Returns a function that makes a small PSPNet of two levels with random weights."""

    def make(**options):
        model = PSPNet(tiny_backbone, **{"num_classes": 5, "bins": (1, 2), **options})
        randomize(model)
        return model

    return make


def parameters(*layers):
    return sum(int(np.prod(v.shape)) for layer in layers for v in layer.trainable_variables)


# The network ------------------------------------------------------------------------------------


def test_parameters_are_those_of_the_authors_network():
    with keras.StatelessScope(initialize_variables=False):
        model = PSPNet("resnet50_deep", 11, backbone_weights=None)
        flat = PSPNet("resnet50_deep", 11, backbone_weights=None, bins=())
    assert parameters(model.backbone) == 23_631_808
    assert parameters(model.pyramid_pooling) == 4_198_400
    assert parameters(model.head) == 18_881_035
    assert parameters(model.auxiliary_head) == 2_362_635
    assert parameters(model.backbone, model.pyramid_pooling, model.head) == 46_711_243
    assert parameters(model) == 49_073_878
    assert parameters(flat) == 35_438_294
    keras.utils.clear_session()


@pytest.mark.parametrize("size", [(64, 72), (65, 81), (30, 41), (9, 7), (1, 1)])
def test_logits_have_the_size_of_the_image(make, image, size):
    assert make()(image(*size)).shape == (1, *size, 5)


def test_a_known_size_is_a_known_output(tiny_backbone):
    model = PSPNet(tiny_backbone, num_classes=5, input_shape=(40, 48, 3))
    assert model.output.shape == (None, 40, 48, 5)
    assert PSPNet(tiny_backbone, num_classes=5).output.shape == (None, None, None, 5)


def test_integers_and_floats_are_the_same_image(make, image):
    model = make()
    x = image(24, 33)
    np.testing.assert_array_equal(numpy(model(x.astype("uint8"))), numpy(model(x)))


def test_the_output_stride_says_where_the_features_are(make, image):
    for stride, size in [(8, (5, 7)), (16, (3, 4))]:
        model = make(output_stride=stride)
        assert model.backbone(image(40, 49))["P5"].shape[1:3] == size


def test_the_pyramid_sees_the_whole_image(make, image):
    # One pixel changed in a corner changes what is said about the far corner.
    x = image(160, 160)
    changed = x.copy()
    changed[0, :8, :8] = 255 - changed[0, :8, :8]
    for bins, reaches in [((1,), True), ((), False)]:
        model = make(bins=bins)
        assert (model.pyramid_pooling is not None) == reaches
        far = [numpy(model(y))[0, -8:, -8:] for y in (x, changed)]
        assert (np.abs(far[0] - far[1]).max() > 0) == reaches


# Training and everything else -------------------------------------------------------------------


def test_the_auxiliary_head_is_seen_in_training_only(make, image):
    model = make(dropout=0.0)
    x = image(33, 40, batch=2)
    for outputs in (model(x), model(x, training=True), model(x, training=False)):
        assert outputs.shape == (2, 33, 40, 5)
    assert len(model.outputs) == 1
    features = model.features(x, training=True)
    assert model.decode_auxiliary(features, training=True).shape == (2, 5, 5, 5)

    alone = make(auxiliary_weight=0)
    assert alone.auxiliary_head is None
    assert alone(x, training=True).shape == (2, 33, 40, 5)
    assert parameters(model) - parameters(alone) == parameters(model.auxiliary_head)


def test_only_fit_adds_the_auxiliary_loss(make, image, rng):
    model = make(dropout=0.0)
    x, y = image(33, 40, batch=2), rng.integers(0, 5, (2, 33, 40))
    y[0, :20] = 255
    loss = SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=keras.backend.backend() != "jax")
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    logits = model.predict_on_batch(x)
    np.testing.assert_allclose(evaluated["loss"], numpy(loss(y, logits)), rtol=1e-5)

    def losses(x):
        auxiliary = model.decode_auxiliary(model.features(x, training=True), training=True)
        maps = model(x, training=True), model.upsample(auxiliary, x)
        return [loss(y, logits) for logits in maps]

    main, auxiliary = map(numpy, whole(losses)(x))
    expected = main + 0.4 * auxiliary
    history = model.fit(x, y, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-5)
    assert set(evaluated) == set(history)


def test_scores_stay_the_same_beside_keras_metrics(make, image, rng):
    # One of Keras' needs logits at the image's size; ours alone do not.
    model = make(dropout=0.0)
    x, y = image(33, 40, batch=2), rng.integers(0, 5, (2, 33, 40))
    results = []
    for others in ([], [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]):
        model.compile(metrics=[PixelAccuracy(5), *others])
        results.append(model.evaluate(x, y, verbose=0, return_dict=True))
    accuracy = results[1].pop("accuracy")
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    assert accuracy == pytest.approx(results[0]["pixel_accuracy"], rel=1e-6)


def test_custom_losses_get_full_size_logits(tiny_backbone, image):
    shapes = []

    class Own(PSPNet):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            shapes.append(tuple(y_pred.shape))
            return super().compute_loss(x, y, y_pred, sample_weight, training)

    model = Own(tiny_backbone, num_classes=5)
    model.compile(run_eagerly=keras.backend.backend() != "jax")
    model.train_on_batch(image(33, 40, batch=2), np.zeros((2, 33, 40), int))
    assert shapes[-1] == (2, 33, 40, 5)


def backbone_of_blocks():
    """A bottleneck and a basic block behind three convolutions."""
    inputs = x = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    for i in (1, 2, 3):
        x = PaddedConv2D(4 * i, 3, 2, name=f"conv{i}")(x)
    x = DilatedBottleneck(4, name="stage1_block1")(x)
    return keras.Model(inputs, BasicBlock(16, name="stage2_block1")(x), name="blocks")


@pytest.mark.compiled
@pytest.mark.parametrize("policy, digits", [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_what_is_computed_again_is_the_same(randomize, image, rng, policy, digits):
    x, y = image(33, 40, batch=2), rng.integers(0, 5, (2, 33, 40))
    keras.config.set_dtype_policy(policy)
    try:
        models = [
            PSPNet(backbone_of_blocks(), 5, bins=(), dropout=0.0, gradient_checkpointing=again)
            for again in (False, True)
        ]
    finally:
        keras.config.set_dtype_policy("float32")
    randomize(models[0])
    models[1].set_weights(models[0].get_weights())
    before, losses = models[0].get_weights(), []
    # Compiled, half precision is rounded at other places.
    eagerly = keras.backend.backend() != "jax" and policy == "float32"
    for model, options in zip(models, ({"run_eagerly": eagerly}, {}), strict=True):
        model.backbone.get_layer("stage2_block1").batch_normalizations[0].trainable = False
        model.compile(SGD(0.01), **options)
        losses.append([float(model.train_on_batch(x, y)[0]) for _ in range(2)])
    assert losses[1] == pytest.approx(losses[0], rel=digits)
    # The weights' steps, and those of the moving statistics, which are to move once in a step.
    for start, kept, again in zip(before, *(m.get_weights() for m in models), strict=True):
        steps = kept - start, again - start
        np.testing.assert_allclose(*steps, rtol=digits, atol=digits * np.abs(steps[0]).max() + 1e-6)
    assert PSPNet.from_config(models[1].get_config()).gradient_checkpointing


def test_only_blocks_can_be_computed_again(tiny_backbone):
    with pytest.raises(
        ValueError, match=r"blocks of this package.*Received: gradient_checkpointing=True.*ResNet"
    ):
        PSPNet(tiny_backbone, gradient_checkpointing=True)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph of TensorFlow")
def test_a_step_holds_no_full_size_logits(make, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(Strips, "NUMBERS", 2 * 41 * 5 * 8)  # eight rows
    model = make()
    model.compile()
    shapes = [tf.TensorSpec((2, 33, 41, 3)), tf.TensorSpec((2, 33, 41), tf.int32)]

    def tensors(graph):
        for operation in graph.get_operations():
            yield from operation.outputs
        for function in graph._functions.values():
            yield from (x for node in function.graph.get_operations() for x in node.outputs)

    for step in (model.train_step, model.test_step):
        graph = tf.function(step, autograph=False).get_concrete_function(shapes).graph
        found = {tuple(x.shape) for x in tensors(graph) if x.shape.is_fully_defined()}
        assert (2, 33, 41) in found  # a number for each pixel
        assert (2, 8, 41, 5) in found  # a strip
        assert not [shape for shape in found if np.prod(shape) == 2 * 33 * 41 * 5], step


def test_trains_by_itself_and_resumes_from_a_file(make, image, rng, tmp_path):
    model = make()
    x, y = image(33, 40, batch=2), rng.integers(0, 5, (2, 33, 40))
    before = model.get_weights()
    history = model.fit(x, y, epochs=2, batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for variable, old in zip(model.weights, before, strict=True):
        assert not np.array_equal(numpy(variable), old), variable.path
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for variable, other in zip(
        [*model.weights, *model.optimizer.variables],
        [*loaded.weights, *loaded.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(numpy(variable), numpy(other), variable.path)
    assert loaded.predict(x, verbose=0).shape == (2, 33, 40, 5)


# Files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"bins": [1, 2], "auxiliary_weight": 0, "dropout": 0.2}])
def test_saved_and_loaded(make, image, tmp_path, options):
    model = make(**options)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, PSPNet)
    configs = [m.get_config() for m in (loaded, model)]
    networks = [config.pop("backbone")["config"] for config in configs]
    assert configs[0] == configs[1]
    assert [row["name"] for row in networks[0]["layers"]] == [
        row["name"] for row in networks[1]["layers"]
    ]
    assert loaded.initial_weights == "the weights of tiny as it was given"
    assert [v.path for v in loaded.weights] == [v.path for v in model.weights]
    x = image(24, 33)
    np.testing.assert_allclose(numpy(loaded(x)), numpy(model(x)), atol=1e-6)


def test_reloads_by_the_name_of_its_backbone(image, tmp_path, randomize):
    model = PSPNet("resnet18_stage2", num_classes=5, backbone_weights=None, input_shape=(64, 64, 3))
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.initial_weights == "random values, as asked"
    x = image(64, 64)
    np.testing.assert_allclose(numpy(loaded(x)), numpy(model(x)), atol=1e-5)


def test_what_is_frozen_stays_frozen_in_a_file(make, image, rng, tmp_path):
    model = make()
    model.backbone.trainable = False
    model.backbone.get_layer("bn4").trainable = True
    model.head.conv1.trainable = False
    frozen = [model.backbone.get_layer("conv1"), model.backbone.get_layer("bn1"), model.head.conv1]
    before = [layer.get_weights() for layer in frozen]
    x, y = image(33, 40, batch=2), rng.integers(0, 5, (2, 33, 40))
    model.compile(run_eagerly=keras.backend.backend() != "jax")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    # Keras warns where a file holds another state of the optimizer than the model wants.
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    trainable = [v.path for v in loaded.trainable_variables]
    assert trainable == [v.path for v in model.trainable_variables]
    assert {"bn4/gamma", "head/conv2/kernel"} < set(trainable)
    assert not {"conv1/kernel", "bn1/gamma", "head/conv1/kernel"} & set(trainable)
    states = [m.optimizer.variables for m in (loaded, model)]
    for ours, theirs in zip(*states, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs), ours.path)
    loaded.fit(x, y, verbose=0)
    frozen = [
        loaded.backbone.get_layer("conv1"),
        loaded.backbone.get_layer("bn1"),
        loaded.head.conv1,
    ]
    for layer, values in zip(frozen, before, strict=True):
        for value, old in zip(layer.get_weights(), values, strict=True):
            np.testing.assert_array_equal(value, old, layer.name)


def test_a_frozen_model_stays_frozen_in_a_file(make, tmp_path):
    model = make()
    model.trainable = False
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").trainable_variables == []


def test_weights_of_the_whole_model(make, tiny_backbone, tmp_path):
    model = make()
    path = str(tmp_path / "five.weights.h5")
    model.save_weights(path)
    again = PSPNet(tiny_backbone, num_classes=5, bins=(1, 2), weights=path)
    assert again.initial_weights == f"the file {path}"
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    message = r"head/conv2 #0 is \(1, 1, 4, 5\) in the file, head/conv2 #0 \(1, 1, 4, 6\) in"
    with pytest.raises(ValueError, match=f"Received: weights='{re.escape(path)}'.*{message}"):
        PSPNet(tiny_backbone, num_classes=6, bins=(1, 2), weights=path)


def test_whole_weights_need_no_backbone_weights(tmp_path):
    path = str(tmp_path / "five.weights.h5")
    PSPNet("resnet18", 5, backbone_weights=None).save_weights(path)
    # A warning, here an error, says where weights were looked for in vain.
    assert PSPNet("resnet18", 5, weights=path).initial_weights == f"the file {path}"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel is TensorFlow's")
def test_exported(make, image, tmp_path):
    import tensorflow as tf

    model = make()
    model.export(str(tmp_path / "exported"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    for size in [(24, 33), (40, 40)]:
        x = image(*size)
        np.testing.assert_allclose(served.serve(x).numpy(), numpy(model(x)), atol=1e-5)


@pytest.mark.compiled
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA of TensorFlow")
def test_trained_and_predicted_by_xla(randomize, image, rng):
    # As few layers as a PSPNet can have: XLA takes a second for each.
    inputs = keras.Input((None, None, 3))
    early = keras.layers.Conv2D(4, 5, 4, padding="same", name="early")(inputs)
    late = keras.layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="late")(early)
    backbone = build_backbone(keras.Model(inputs, late, name="two"), normalization="tf")
    x, y = image(33, 40, batch=2), rng.integers(0, 5, (2, 33, 40))
    logits = []
    for options in ({"run_eagerly": True}, {"jit_compile": True}):
        model = PSPNet(backbone, num_classes=5, bins=(3,), dropout=0.0, auxiliary_weight=0)
        randomize(model)
        model.compile(**options)
        model.fit(x, y, verbose=0)
        logits.append(model.predict(x, verbose=0))
    np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-4)


# Precision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy, places", [("mixed_float16", 11), ("mixed_bfloat16", 8)])
def test_mixed_precision_gives_full_logits(make, tiny_backbone, image, policy, places):
    model = make()
    x = image(40, 56)
    expected = model.predict_on_batch(x)
    keras.config.set_dtype_policy(policy)
    try:
        # A model given keeps its own precision; the heads follow the global policy.
        config = tiny_backbone.get_config()
        for layer in config["layers"]:
            layer["config"].pop("dtype", None)
        half = PSPNet(keras.Model.from_config(config), num_classes=5, bins=(1, 2))
    finally:
        keras.config.set_dtype_policy("float32")
    assert half.backbone.output["P5"].dtype == policy.removeprefix("mixed_")
    half.set_weights(model.get_weights())
    logits = half.predict_on_batch(x)
    assert logits.dtype == "float32"
    assert {v.dtype for v in half.trainable_variables} == {"float32"}
    bound = 16 * 2.0**-places * np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, atol=bound, rtol=0)


def test_the_precision_stays_in_a_file(tiny_backbone, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = PSPNet(tiny_backbone, num_classes=5, bins=(1, 2))
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for part in (loaded, loaded.head, loaded.head.conv2, loaded.pyramid_pooling.convolutions[0]):
        assert part.dtype_policy.name == "mixed_bfloat16"
    # As in the original, the upsampling is not, nor is what is made next.
    assert loaded.upsample.dtype_policy.name == "float32"
    assert keras.config.dtype_policy().name == "float32"


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backbone": "resnet5O"}, "backbone='resnet5O'. Did you mean 'resnet50'"),
        ({"output_stride": 4}, "output_stride=4. Use 32, 16 or 8"),
        ({"bins": (1, 0)}, "Received: bins=(1, 0)"),
        ({"input_shape": (64, 64, 1)}, "Images are RGB, (height, width, 3). Received: input_shape"),
        ({"weights": "none.weights.h5"}, "weights='none.weights.h5', which does not exist"),
    ],
)
def test_bad_arguments(tiny_backbone, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        PSPNet(**{"backbone": tiny_backbone, **options})


@pytest.mark.parametrize("network", [PSPNet, FCN])
@pytest.mark.parametrize("option", ["num_class", "dtype"])
def test_arguments_that_there_are_not(tiny_backbone, network, option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        network(tiny_backbone, 3, **{option: 3})
