"""Exported files in the runtimes they are for, against Keras."""

import shutil

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import layers
from keras_psp.data.resizing import interpolate, interpolation, is_smoothed, scaled_size
from keras_psp.inference import exporting
from keras_psp.weights.keras_files import save_8_bit_weights

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="files for other programs need TensorFlow"
)


@pytest.fixture(scope="module")
def model():
    """A small PSPNet with a layer of each kind, random weights and moving statistics."""
    x = images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    for i, filters in enumerate([4, 8, 12, 16], 1):
        x = layers.PaddedConv2D(filters, 3, 2, use_bias=False, name=f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"bn{i}")(x)
        x = keras.layers.ReLU(name=f"relu{i}")(x)
    backbone = keras.Model(images, layers.BasicBlock(16, name="block")(x), name="small")
    model = keras_psp.PSPNet(backbone, num_classes=11, output_stride=16, bins=(1, 3))
    rng = np.random.default_rng(0)
    for variable in model.variables:
        name = variable.path.rpartition("/")[2]
        if name == "kernel":
            # Large enough for logits to differ between places.
            value = rng.normal(0, 2 * np.prod(variable.shape[:-1]) ** -0.5, variable.shape)
        elif name in ("gamma", "moving_variance", "beta"):
            value = rng.uniform(0.5, 1.5, variable.shape)
        elif name in ("moving_mean", "bias"):
            value = rng.normal(0, 0.5, variable.shape)
        else:  # the seeds of dropout
            continue
        variable.assign(value.astype("float32"))
    return model


@pytest.fixture(scope="module", autouse=True)
def saved_once(tmp_path_factory):
    """SavedModel, LiteRT and OpenVINO begin with the same step, which takes most of the time. It
    runs once for each input and output of a network."""
    convert, known = exporting._convert, {}

    def convert_or_copy(model, path, format="tf_saved_model"):
        (image,) = model.inputs
        outputs = [(name, output.shape) for name, output in model.output.items()]
        key = model.name, image.shape, image.dtype, *outputs
        if format != "tf_saved_model":
            convert(model, path, format)
            return
        if key not in known:
            known[key] = tmp_path_factory.mktemp("saved") / "model"
            convert(model, known[key])
        shutil.copytree(known[key], path, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_convert", convert_or_copy)
        yield


@pytest.fixture(scope="module")
def pixelwise():
    """A segmentation model of one layer, for what does not depend on the network."""
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(3, 1)(image))


def classifier():
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, 2)(x)))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(10, "softmax", name="predictions")(x))


def frames(batch, height, width, seed=0):
    """Street scenes, so that neighboring pixels belong together."""
    scenes = [keras_psp.street_scene(seed + i, (height, width))[0] for i in range(batch)]
    return np.stack(scenes)


def keras_file(path):
    return keras.saving.load_model(path).predict_on_batch


def saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda image: next(iter(loaded.serve(image).values())).numpy()


def onnx(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    return lambda image: session.run(None, {"image": image})[0]


def openvino(path):
    runtime = pytest.importorskip("openvino")
    compiled = runtime.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert len(compiled.outputs) == 1
    return lambda image: compiled(image)[0]


def litert(path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))

    def run(image):
        (details,) = interpreter.get_input_details()
        if -1 in details["shape_signature"]:
            interpreter.resize_tensor_input(details["index"], image.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(details["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


RUNTIMES = {
    "model.keras": keras_file,
    "model": saved_model,
    "model.onnx": onnx,
    "model.xml": openvino,
    "model.tflite": litert,
}


def exported(model, path, *args, **options):
    """Exports, and loads the file into its runtime."""
    if path.suffix in (".onnx", ".xml"):
        pytest.importorskip("tf2onnx" if path.suffix == ".onnx" else "openvino")
    assert keras_psp.export(model, path, *args, **options) == path
    return RUNTIMES[f"model{path.suffix}"](path)


@pytest.fixture(scope="module", params=RUNTIMES)
def run(request, model, tmp_path_factory):
    """One file for all sizes, in its runtime."""
    return exported(model, tmp_path_factory.mktemp("exported") / request.param)


def test_one_file_for_all_sizes_and_batches(run, model):
    for size in [(1, 61, 83), (2, 96, 64), (1, 33, 48), (1, 130, 200)]:
        image = frames(*size)
        expected = model.predict_on_batch(image)
        logits = run(image.astype("float32"))
        np.testing.assert_allclose(logits, expected, atol=1e-3)
        assert np.mean(logits.argmax(-1) == expected.argmax(-1)) >= 0.999
    assert len(np.unique(expected.argmax(-1))) > 1


@pytest.fixture(scope="module")
def real(model, camvid):
    """Frames of CamVid, and the logits of Keras."""
    data = keras_psp.load_camvid(
        "val", image_size=(180, 240), batch_size=4, data_dir=camvid, augment=None, shuffle=False
    )
    image, _ = next(iter(data.as_numpy_iterator()))
    return image, model.predict_on_batch(image)


def test_real_frames(run, real):
    image, expected = real
    logits = run(image.astype("float32"))
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert np.mean(logits.argmax(-1) == expected.argmax(-1)) >= 0.999


@pytest.mark.parametrize("file", RUNTIMES)
def test_one_size_and_the_best_class_of_bytes(file, model, tmp_path):
    options = {"image_size": (60, 84), "batch_size": 2}
    run = exported(model, tmp_path / file, **options, classes=True, input_dtype="uint8")
    image = frames(2, 60, 84)
    classes = run(image)
    assert (classes.dtype, classes.shape) == ("uint8", (2, 60, 84))
    assert np.mean(classes == model.predict_on_batch(image).argmax(-1)) >= 0.999


@pytest.mark.parametrize(
    "file, resize",
    [("model.onnx", (48, 64)), *((file, 48) for file in RUNTIMES if file != "model.keras")],
)
def test_a_file_resizes_as_segment_does(file, resize, model, tmp_path):
    run = exported(model, tmp_path / file, resize=resize, input_dtype="uint8", batch_size=1)
    sizes = [(48, 64), (130, 170), (70, 101), (31, 40)]  # as it is, smoothed, smaller, larger
    for (image,) in (frames(1, *size) for size in sizes):
        size = scaled_size(*image.shape[:2], 48) if resize == 48 else resize
        smooth = is_smoothed(image.shape, (*size, 3))
        seen = image
        for axis in (0, 1):
            seen = interpolate(seen, axis, *interpolation(image.shape[axis], size[axis], smooth))
        expected = model.predict_on_batch(seen[None].astype("float32"))
        np.testing.assert_allclose(run(image[None]), expected, atol=1e-3)


def test_names_of_inputs_outputs_and_axes(pixelwise, tmp_path):
    package = pytest.importorskip("onnx")
    pytest.importorskip("tf2onnx")
    keras_psp.export(pixelwise, tmp_path / "model.onnx", image_size=(33, None))
    graph = package.load(tmp_path / "model.onnx").graph
    (image,), (logits,) = graph.input, graph.output
    assert (image.name, logits.name) == ("image", "logits")
    axes = [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim]
    assert axes == ["batch", 33, "width", 3]


# LiteRT ends the whole process where it compares numbers of 8 bits.
@pytest.mark.parametrize("file", ["model.onnx", "model.tflite"])
def test_poolings_are_undone_at_any_size(file, tmp_path):
    image = keras.Input((None, None, 3))
    maxima, places = layers.MaxPoolWithArgmax()(image)
    model = keras.Model(image, layers.MaxUnpool()(maxima, places, like=image))
    run = exported(model, tmp_path / file)
    for size in [(5, 7), (4, 6)]:
        x = np.random.default_rng(1).integers(0, 9, (2, *size, 3)).astype("float32")
        np.testing.assert_array_equal(run(x), keras.ops.convert_to_numpy(model(x)))


def test_borders_are_reflected_at_any_size(tmp_path):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.ReflectPadding2D(4, multiple=8)(image))
    run = exported(model, tmp_path / "model.onnx")
    x = frames(1, 5, 7).astype("float32")
    reflected = np.pad(x, [(0, 0), (4, 7), (4, 5), (0, 0)], "reflect")
    np.testing.assert_array_equal(run(x), reflected)


def test_a_classifier_and_half_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = classifier()
    finally:
        keras.config.set_dtype_policy("float32")
    run = exported(model, tmp_path / "model.tflite", batch_size=1, image_size=(32, 32))
    image = frames(1, 32, 32)
    predictions = run(image.astype("float32"))
    assert predictions.dtype == "float32"
    np.testing.assert_allclose(predictions, model.predict_on_batch(image), atol=5e-3)


@pytest.mark.parametrize("quantize", ["dynamic", "int8"])
def test_eight_bits_are_nearly_as_good(quantize, model, tmp_path):
    size = {"image_size": (60, 84), "batch_size": 1}
    images = frames(4, 60, 84)
    options = {"calibration_data": [(images, "labels")]} if quantize == "int8" else {}
    run = exported(model, tmp_path / "small.tflite", **size, quantize=quantize, **options)
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    tensors = interpreter.Interpreter(str(tmp_path / "small.tflite")).get_tensor_details()
    kernel = (16, 3, 3, 16)  # output channels, height, width, input channels: of the last block
    assert {t["dtype"] for t in tensors if tuple(t["shape"]) == kernel} == {np.int8}
    logits = run(images[:1].astype("float32"))
    expected = model.predict_on_batch(images[:1])
    assert 0 < np.abs(logits - expected).max() < 0.15 * np.ptp(expected)


def test_onnx_keeps_kernels_of_8_bits(model, tmp_path):
    before, images = model.get_weights(), frames(1, 60, 84)
    save_8_bit_weights(model, tmp_path / "model.8bit.h5")
    keras_psp.load_weights(model, tmp_path / "model.8bit.h5")
    expected = model.predict_on_batch(images)
    run = exported(model, tmp_path / "model.onnx", quantize="weights")
    np.testing.assert_allclose(run(images.astype("float32")), expected, atol=1e-4)

    model.set_weights(before)
    expected = model.predict_on_batch(images)
    run = exported(model, tmp_path / "model.onnx", quantize="weights")
    difference = np.abs(run(images.astype("float32")) - expected).max()
    assert 1e-3 < difference < 0.05 * np.ptp(expected)
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    large = [one.data_type for one in graph.initializer if np.prod(one.dims) > 1000]
    assert {*large} == {onnx.TensorProto.INT8}


def test_parts_of_8_bits_stay_as_they_are():
    numbers = np.random.default_rng(0).integers(-90, 91, (3, 40)).astype("float32")
    numbers[:, 0] = [127, 90, 0]  # the largest of the second is elsewhere
    numbers[2] = 0
    steps = np.array([[0.1], [0.03], [1]], "float32")
    found, of_each = exporting._as_8_bits(numbers * steps)
    np.testing.assert_array_equal(found, numbers)
    np.testing.assert_allclose(of_each[:2], steps[:2, 0], rtol=1e-6)


@pytest.mark.parametrize("file", ["model", "model.onnx", "model.xml"])
def test_a_failed_export_leaves_what_was_there(file, pixelwise, tmp_path, monkeypatch):
    path = tmp_path / file
    before = path / "saved_model.pb" if file == "model" else path
    before.parent.mkdir(exist_ok=True)
    before.write_bytes(b"old")

    def fail(model, path, *args):
        raise OSError("disk full")

    monkeypatch.setattr(exporting, "_convert", fail)
    pytest.importorskip("openvino")
    pytest.importorskip("tf2onnx")
    with pytest.raises(OSError, match="disk full"):
        keras_psp.export(pixelwise, path)
    assert before.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_saved_model_replaces_only_another(pixelwise, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds saved_model\.pb\. Received: path='.*thesis'"):
        keras_psp.export(pixelwise, tmp_path / "thesis")
    for classes in (False, True):
        keras_psp.export(pixelwise, tmp_path / "model", classes=classes)
    import tensorflow as tf

    assert list(tf.saved_model.load(tmp_path / "model").serve(np.zeros((1, 33, 33, 3)))) == [
        "classes"
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "thesis"]


@pytest.mark.parametrize(
    "file, options, message",
    [
        ("a.pb", {}, r"\.keras, \.onnx, \.tflite, \.xml, or none .* Received: path='a\.pb'"),
        (
            "a.onnx",
            {"format": "litert"},
            r"tells the format: .* Received: path='a\.onnx', format='litert'",
        ),
        ("a.onnx", {"format": "onx"}, r"format='onx'. Did you mean 'onnx'"),
        (
            "a.onnx",
            {"quantize": "dynamic"},
            r"Only \.tflite .* ends in \.onnx\. Let it end in \.tfl",
        ),
        ("a.keras", {"resize": 240}, r"leave that to segment\. Received: resize=240 .* in \.keras"),
        ("a.onnx", {"resize": (240, None)}, r"resize must be .* Received: resize=\(240, None\)"),
        ("a.onnx", {"resize": (1, 2, 3)}, r"of length 2\. Received: resize=\(1, 2, 3\)"),
        ("a.onnx", {"resize": 0}, r"at least 1.* Received: resize=0\."),
        ("a.tflite", {"quantize": "weights"}, r"Only \.onnx files have quantization 'weights'"),
        ("a.tflite", {"quantize": "int4"}, r"quantization='int4'"),
        ("a.tflite", {"quantize": "int8"}, r"Only int8 needs .*calibration_data=None. Pass both"),
        ("a.tflite", {"calibration_data": []}, r"quantize=None, calibration_data=given"),
        ("a.tflite", {"input_dtype": "int8"}, r"input_dtype='int8'"),
        (
            "a.tflite",
            {"quantize": "int8", "calibration_data": [], "image_size": (60, 84)},
            r"takes \(None, 60, 84, 3\)\. Pass image_size= and batch_size=1",
        ),
        (
            "a.tflite",
            {
                "quantize": "int8",
                "calibration_data": [np.full((60, 84, 3), -1.0)],
                "image_size": (60, 84),
                "batch_size": 1,
            },
            r"RGB, 0–255, \(60, 84, 3\).* Received: calibration_data with \(60, 84, 3\), -1.0 to",
        ),
        (
            "a.tflite",
            {"quantize": "int8", "calibration_data": [], "image_size": (6, 8), "batch_size": 1},
            "calibration_data without any",
        ),
    ],
)
def test_what_cannot_be_is_said(file, options, message, pixelwise):
    with pytest.raises(ValueError, match=message):
        keras_psp.export(pixelwise, file, **options)


def test_classes_are_those_of_segmentation_models(tmp_path):
    with pytest.raises(ValueError, match=r"Received: classes=True, outputs of shape \(None, 10\)"):
        keras_psp.export(classifier(), tmp_path / "a.keras", classes=True)


def test_a_missing_package_is_named(pixelwise, monkeypatch):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"without tensorflow, onnx, tf2onnx\. .*keras-psp\[exp"):
        keras_psp.export(pixelwise, "a.onnx")


def test_other_backends_write_keras_files_alone(pixelwise, monkeypatch, tmp_path):
    monkeypatch.setattr(exporting.keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"Received: format='litert' on jax\. Export a \.keras"):
        keras_psp.export(pixelwise, tmp_path / "a.tflite")


def test_onnxruntime_takes_dilation_at_any_size(tmp_path):
    # With 16 channels it computes in blocks, which know no dilation where padding is found out.
    image = keras.Input((None, None, 3))
    x = layers.PaddedConv2D(16, 3, activation="relu")(image)
    x = layers.PaddedConv2D(16, 3, dilation_rate=2, activation="relu")(x)
    model = keras.Model(image, x)
    run = onnx(keras_psp.export(model, tmp_path / "model.onnx"))
    for size in ((9, 12), (14, 7)):
        images = np.random.default_rng(0).random((1, *size, 3), "float32")
        expected = keras.ops.convert_to_numpy(model(images))
        np.testing.assert_allclose(run(images), expected, atol=1e-5)
