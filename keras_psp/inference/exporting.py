"""A trained model as a file for other programs: SavedModel, ONNX, LiteRT and OpenVINO."""

import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_psp.atomic import scratch_beside, write_folder_whole, write_whole
from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.keras_internals import layers_in
from keras_psp.layers import MaxUnpool
from keras_psp.surgery.fusion import fuse
from keras_psp.weights.comparing import warn_if_not_finite


@checked
def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    image_size: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    input_dtype: str = "float32",
    classes: bool = False,
    resize: int | Sequence[int] | None = None,
    quantize: str | None = None,
    calibration_data: Iterable[Any] | None = None,
) -> Path:
    """Writes a trained model, its batch normalization fused, for other programs and other machines.

    | `path` | format | runs in |
    | --- | --- | --- |
    | `model.keras` | `"keras"` | Keras on any backend, where `keras_psp` is imported |
    | `model` (a folder) | `"saved_model"` | TensorFlow, TensorFlow Serving |
    | `model.onnx` | `"onnx"` | ONNX Runtime and whatever reads ONNX |
    | `model.tflite` | `"litert"` | LiteRT, formerly TensorFlow Lite: phones, small machines |
    | `model.xml` and `model.bin` | `"openvino"` | OpenVINO: processors and graphics by Intel |

    The file takes `image`, RGB 0–255, `(batch, height, width, 3)`, and returns what the model
    returns: `logits` for a segmentation model, `predictions` for a classifier. It computes in
    float32, also where training was in half precision. All formats but `.keras` need the TensorFlow
    backend to be written; ONNX and OpenVINO need `pip install "keras-psp[export]"`. (OpenVINO
    computes in bfloat16 on processors that can, unless it gets
    `{"INFERENCE_PRECISION_HINT": "f32"}`.)

    Args:
        model: The model, as `fuse` takes it.
        path: The file, or the SavedModel's folder. It is written whole or not at all.
        format: A format of the table; by default the one of the path's ending.
        image_size: `(height, width)` of the images; either may be `None`, which is any. By default
            the model's own. A file for one size is faster.
        batch_size: Number of images at once; `None` is any number. In LiteRT, an unknown number or
            size has to be set by `resize_tensor_input`.
        input_dtype: `"float32"`, or `"uint8"`, the type of images from cameras and files.
        classes: Whether the file returns `classes`, the best class of each pixel, uint8
            `(batch, height, width)`, in place of the logits.
        resize: The size at which the model sees an image, `image_size` of `segment`: `(height,
            width)`, or the shorter side. The file takes images of any size, or of `image_size`,
            resizes them as `segment` does, and answers at the new size. Not for `.keras` files.
        quantize: Stores kernels in 8 bits, a quarter of the size. For ONNX, `"weights"`: they are
            float32 again before the file computes, and those that were in 8 bits, as those of the
            network in the package, keep their numbers. For LiteRT, `"dynamic"` also computes in 8
            bits, and finds the range of everything else as it does; `"int8"` takes these ranges
            from `calibration_data`, and needs `image_size` and `batch_size`.
        calibration_data: Some dozens of typical images: arrays `(height, width, 3)`, RGB, 0–255,
            batches of them, or batches of (images, labels), as from the loaders of this package.

    Returns:
        The path that was written.

    Raises:
        ValueError: If there is no such format, or it has not the options asked for.
        ImportError: If a package that the format needs is not installed.

    Example:

    ```python
    import keras_psp
    import keras

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    file = keras_psp.export(model, "street.keras")
    image, label = keras_psp.street_scene(seed=1, image_size=(60, 80))
    print(keras.saving.load_model(file).predict(image[None], verbose=0).shape)
    ```

    ```text
    (1, 60, 80, 11)
    ```
    """
    path = Path(path)
    row = _format(path, format)
    _check_quantization(row, quantize, calibration_data)
    check_name("input_dtype", input_dtype, ["float32", "uint8"])
    if resize is not None and row.suffix == ".keras":
        raise ValueError(
            "Files for other programs resize images; .keras files leave that to segment. "
            f"Received: resize={resize!r} for a path that ends in .keras. Leave resize out."
        )

    if resize is None:
        form = fuse(model, image_size, batch_size, dtype="float32")
        shape = form.input.shape
    else:
        seen = (None, None) if isinstance(resize, int) else resize
        form = fuse(model, seen, batch_size, dtype="float32")
        shape = (batch_size, *(image_size or (None, None)), 3)
    image = keras.Input(batch_shape=shape, dtype=input_dtype, name="image")
    pixels = ops.cast(image, form.input.dtype)
    output = form(pixels if resize is None else _Resize(resize, name="resize")(pixels))
    name = "logits" if len(output.shape) == 4 else "predictions"
    if classes:
        if name != "logits" or output.shape[-1] > 256:
            raise ValueError(
                "The best class of each pixel is that of a segmentation model of up to 256 classes."
                f" Received: classes=True, outputs of shape {output.shape}. Leave classes out."
            )
        name, output = "classes", _BestClass(name="best_class")(output)
    warn_if_not_finite(model, f"model={model.name}")
    exported = keras.Model(image, {name: output}, name=model.name)
    images = None if calibration_data is None else _calibration_batches(calibration_data, image)
    with warnings.catch_warnings():
        # The libraries below warn about one another.
        warnings.simplefilter("ignore")
        row.write(exported, path, *([quantize, images] if quantize else []))
    return path


@keras.saving.register_keras_serializable("keras_psp")
class _BestClass(keras.layers.Layer):
    """The class of the largest logit, uint8."""

    def call(self, inputs):
        if keras.backend.backend() != "tensorflow":
            return ops.cast(ops.argmax(inputs, axis=-1), "uint8")
        import tensorflow as tf

        # Keras' own argmax reads the bits of zeros, which OpenVINO cannot.
        return tf.cast(tf.argmax(inputs, axis=-1), tf.uint8)


class _Resize(keras.layers.Layer):
    """Resizes images as `segment` does: by the shares that `interpolation` tells, as a matrix.

    Every format multiplies matrices, but not every one smooths an image that shrinks.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def compute_output_shape(self, input_shape):
        size = (None, None) if isinstance(self.size, int) else self.size
        return input_shape[0], *size, input_shape[3]

    def call(self, images):
        old = ops.cast(ops.stack(ops.shape(images)[1:3]), "float32")
        if isinstance(self.size, int):
            new = ops.round(old * self.size / ops.min(old))
        else:
            new = ops.convert_to_tensor(self.size, "float32")
        smooth = ops.cast(ops.any(old > 2 * new), "float32")
        reach = ops.maximum(smooth * old / new, 1)
        known = (-1, -1) if isinstance(self.size, int) else self.size
        for side in (0, 1):
            places = (ops.arange(new[side]) + 0.5) * (old[side] / new[side]) - 0.5
            distance = ops.abs(ops.arange(old[side]) - places[:, None])
            shares = ops.maximum(1 - distance / reach[side], 0)
            shares /= ops.sum(shares, axis=1, keepdims=True)
            batch, height, width, channels = ops.shape(images)
            rows = ops.matmul(shares, ops.reshape(images, (batch, height, width * channels)))
            rows = ops.reshape(rows, (batch, known[side], width, channels))
            images = ops.transpose(rows, (0, 2, 1, 3))  # Then the columns.
        return images


def _convert(model, path, format="tf_saved_model"):
    (image,) = model.inputs
    # Without a signature, the batch would have any size.
    signature = keras.InputSpec(shape=image.shape, dtype=image.dtype, name="image")
    model.export(str(path), format, verbose=False, input_signature=[signature])


def _write_keras(model, path):
    (output,) = model.output.values()
    write_whole(path, keras.Model(model.input, output, name=model.name).save)


def _write_saved_model(model, path):
    write_folder_whole(path, lambda folder: _convert(model, folder), "saved_model.pb")


def _write_onnx(model, path, quantize=None, images=None):
    import onnx

    def write(file):
        _convert(model, file, "onnx")
        converted = onnx.load(file)
        for value in (*converted.graph.input, *converted.graph.output):
            axes = zip(("batch", "height", "width"), value.type.tensor_type.shape.dim, strict=False)
            for name, axis in axes:
                if axis.dim_param:
                    axis.dim_param = name
        for node in converted.graph.node:
            _pad_explicitly(node)
        if quantize is not None:
            _store_kernels_in_8_bits(converted.graph)
        # Else only the user would find an operation that could not be converted.
        onnx.checker.check_model(converted)
        onnx.save(converted, file)

    write_whole(path, write)


def _pad_explicitly(node):
    """Says by how much a convolution pads: onnxruntime finds it out only without dilation."""
    import onnx

    said = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if (
        node.op_type == "Conv"
        and said.get("auto_pad") == b"SAME_UPPER"
        and {*said["strides"]} == {1}
    ):
        both = [d * (k - 1) for d, k in zip(said["dilations"], said["kernel_shape"], strict=True)]
        pads = [n // 2 for n in both] + [n - n // 2 for n in both]
        kept = [one for one in node.attribute if one.name != "auto_pad"]
        node.ClearField("attribute")
        node.attribute.extend([*kept, onnx.helper.make_attribute("pads", pads)])


def _store_kernels_in_8_bits(graph):
    """Replaces every kernel by integers and the steps of its output channels."""
    import onnx

    constants = {constant.name: constant for constant in graph.initializer}
    kernels = {  # name → the axis of the output channels
        node.input[1]: 0 if node.op_type == "Conv" else len(constants[node.input[1]].dims) - 1
        for node in graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in constants
    }
    for name, axis in kernels.items():
        kernel = onnx.numpy_helper.to_array(constants[name])
        if kernel.ndim < 2 or kernel.size < 512:
            continue
        numbers, steps = _as_8_bits(np.moveaxis(kernel, axis, 0))
        parts = {
            f"{name}_8_bits": np.ascontiguousarray(np.moveaxis(numbers, 0, axis)),
            f"{name}_steps": steps,
        }
        graph.initializer.remove(constants[name])
        graph.initializer.extend(onnx.numpy_helper.from_array(*p[::-1]) for p in parts.items())
        back = onnx.helper.make_node("DequantizeLinear", [*parts], [name], axis=axis)
        graph.node.insert(0, back)


def _as_8_bits(channels):
    """Returns int8 numbers and, for each channel, the step by which they are multiplied.

    The largest number of a channel becomes 127. But where all are multiples of a larger step, they
    were in 8 bits before, and this is a part of them, without the largest: it stays as it is.
    """
    flat = channels.reshape(len(channels), -1)
    largest = np.abs(flat).max(axis=1)
    steps = np.where(largest, largest, 1) / 127
    unknown = np.arange(len(flat))
    for number in range(127, 63, -1):
        step = steps[unknown] * 127 / number
        in_steps = flat[unknown] / step[:, None]
        exact = np.abs(in_steps - np.rint(in_steps)).max(axis=1) < 1e-2
        steps[unknown[exact]] = step[exact]
        unknown = unknown[~exact]
    numbers = np.rint(flat / steps[:, None]).astype("int8")
    return numbers.reshape(channels.shape), steps.astype("float32")


def _write_litert(model, path, quantize=None, images=None):
    import tensorflow as tf

    for layer in layers_in(model):
        if isinstance(layer, MaxUnpool):
            # LiteRT takes numbers of 8 bits for quantized ones, and dies where it compares others.
            layer.place_dtype = "int32"
    with tempfile.TemporaryDirectory() as folder:
        _convert(model, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if images is not None:
            converter.representative_dataset = lambda: ([image] for image in images)
        write_whole(path, converter.convert())


def _write_openvino(model, path):
    import openvino

    with scratch_beside(path) as folder:
        _convert(model, folder)
        file = folder / path.name
        openvino.save_model(openvino.convert_model(folder), file, compress_to_fp16=False)
        # An old .xml must never lie beside new weights.
        path.unlink(missing_ok=True)
        os.replace(file.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(file, path)


class Format(NamedTuple):
    """One row of the table of formats.

    Attributes:
        suffix: Ending of the path; empty for a folder.
        write: Function (model, path), and (model, path, quantize, images) where it quantizes.
        packages: Packages that it needs beside Keras.
        quantizations: What `quantize` may be.
    """

    suffix: str
    write: Callable[..., None]
    packages: tuple[str, ...] = ("tensorflow",)
    quantizations: tuple[str, ...] = ()


FORMATS = {
    "keras": Format(".keras", _write_keras, packages=()),
    "saved_model": Format("", _write_saved_model),
    "onnx": Format(".onnx", _write_onnx, ("tensorflow", "onnx", "tf2onnx"), ("weights",)),
    "litert": Format(".tflite", _write_litert, quantizations=("dynamic", "int8")),
    "openvino": Format(".xml", _write_openvino, ("tensorflow", "openvino")),
}

QUANTIZATIONS = [name for row in FORMATS.values() for name in row.quantizations]


def _format(path: Path, name: str | None) -> Format:
    """Returns the format with this name, or of the path's ending, if it can be written here."""
    endings = {row.suffix: known for known, row in FORMATS.items()}
    name = endings.get(path.suffix) if name is None else check_name("format", name, FORMATS)
    # The folder of a SavedModel may have any name.
    if name is None or FORMATS[name].suffix not in ("", path.suffix):
        raise ValueError(
            f"The ending of a path tells the format: {', '.join(filter(None, endings))}, or none "
            f"for a SavedModel's folder. Received: path='{path}', format={name!r}. Change the "
            "ending or the format."
        )
    row = FORMATS[name]
    if row.packages and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Only .keras files are written on every backend. Received: format={name!r} on "
            f"{keras.backend.backend()}. Export a .keras file here, load it where KERAS_BACKEND is "
            "tensorflow, and export that."
        )
    missing = [package for package in row.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(
            f"Format {name!r} needs {', '.join(row.packages)}. Received: a Python without "
            f'{", ".join(missing)}. Install them: pip install "keras-psp[export]".'
        )
    return row


def _check_quantization(row: Format, quantize: str | None, data: Any) -> None:
    if (quantize == "int8") != (data is not None):
        raise ValueError(
            "Only int8 needs calibration data. Received: "
            f"quantize={quantize!r}, calibration_data={'None' if data is None else 'given'}. "
            "Pass both or neither."
        )
    if quantize is None:
        return
    check_name("quantization", quantize, QUANTIZATIONS)
    if quantize not in row.quantizations:
        end = next(one.suffix for one in FORMATS.values() if quantize in one.quantizations)
        raise ValueError(
            f"Only {end} files have quantization {quantize!r}. "
            f"Received: quantize={quantize!r} for a path that ends in {row.suffix or 'nothing'}. "
            f"Let it end in {end}, or leave quantize out."
        )


def _calibration_batches(data: Iterable[Any], image: Any) -> list[np.ndarray]:
    """Returns the calibration images, checked, each repeated to a batch."""
    batch_size, *size = image.shape
    if None in image.shape:
        raise ValueError(
            "A file in int8 takes images of one size, and one number of them at once. "
            f"Received: quantize='int8' for a model that takes {image.shape}. Pass image_size= and "
            "batch_size=1."
        )
    images = []
    for item in data:
        batch = ops.convert_to_numpy(item[0] if isinstance(item, tuple | list) else item)
        for pixels in batch if batch.ndim == 4 else batch[None]:
            if pixels.shape != tuple(size) or pixels.min() < 0 or pixels.max() > 255:
                raise ValueError(
                    f"Calibration images must be RGB, 0–255, {tuple(size)}, as those of the file. "
                    f"Received: calibration_data with {pixels.shape}, {pixels.min()} to "
                    f"{pixels.max()}. Resize them."
                )
            images.append(np.repeat(pixels[None].astype(image.dtype), batch_size, axis=0))
    if not images:
        raise ValueError(
            "Calibration needs at least one image. Received: calibration_data without any. "
            "Some dozens are enough."
        )
    return images
