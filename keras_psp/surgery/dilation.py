"""Strides that become dilation: the same features, at more places."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_psp.checked import checked
from keras_psp.layers import (
    DilatedAveragePooling2D,
    DilatedMaxPooling2D,
    LocalResponseNormalization,
    PaddedConv2D,
)
from keras_psp.surgery.graph import copy_operation, operations_of, walk

CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
# Poolings, and what they are behind a stride that was taken out.
_DILATED_POOLS: dict[type, Any] = {
    keras.layers.MaxPooling2D: DilatedMaxPooling2D,
    keras.layers.AveragePooling2D: DilatedAveragePooling2D,
}
_POOLS = tuple(_DILATED_POOLS)
# Layers that need no dilation: they treat every place alike, and by itself or with all the others.
_POINTWISE = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dropout,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Multiply,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.SpatialDropout2D,
    keras.layers.ZeroPadding2D,
    LocalResponseNormalization,
)


@checked
def dilate(
    model: keras.Model,
    output_stride: int,
    outputs: Any = None,
    *,
    input_shape: Sequence[int | None] | None = None,
    preprocessing: keras.layers.Layer | None = None,
) -> keras.Model:
    """Copies a network, its strides beyond `output_stride` turned into dilation.

    The copy computes the very same features, only at more places. (Where a layer averages over the
    whole map, as in squeeze-and-excitation, it averages over these places too.)

    Args:
        model: A functional Keras model with one image as input. It stays as it is.
        output_stride: The largest stride that the copy has, a power of two.
        outputs: Tensors of the model that the copy gives, in any structure; its outputs if `None`.
        input_shape: `(height, width, channels)` of the copy's images; the model's if `None`.
        preprocessing: A layer that the copy calls on the image first.

    Returns:
        A functional model, with copies of the layers and of their weights.

    Raises:
        ValueError: If a layer that would have to be dilated cannot be.

    Reference:
        [Yu and Koltun, 2016](https://arxiv.org/abs/1511.07122), section 2.

    Example:

    ```python
    from keras_psp.surgery.dilation import dilate
    import keras

    network = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3))
    print("before:", network.output.shape)
    print("after: ", dilate(network, output_stride=8).output.shape)
    ```

    ```text
    before: (None, 2, 2, 1024)
    after:  (None, 8, 8, 1024)
    ```
    """
    if outputs is not None and not keras.tree.flatten(outputs):
        raise ValueError("A copy gives something. Received: outputs of nothing. Leave them out.")
    own = model.inputs[0].shape[1:]
    shape = own if input_shape is None else tuple(input_shape)
    if len(shape) != len(own):
        raise ValueError(
            "Images are (height, width, channels). "
            f"Received: input_shape={shape} for a model of {own}. Name all three."
        )
    image = normalized = keras.Input(shape, name="image")
    if preprocessing is not None:
        normalized = preprocessing(image)
    wanted = keras.Model(model.inputs[0], model.output if outputs is None else outputs)
    copy = keras.Model(image, walk(wanted, _Dilation(model, output_stride).visit, normalized))
    for layer in copy.layers:
        if layer.weights and layer is not preprocessing:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return copy


def strides_of(model: keras.Model) -> dict[keras.Operation, int]:
    """The stride of what each operation of a network gives.

    Args:
        model: A functional Keras model.

    Returns:
        Operation → stride of its output, 0 where that is no map, in the order in which they run.
    """
    of_tensors: dict[int, int] = {}
    strides = {}
    for operation in operations_of(model):
        stride = 1
        outputs = keras.tree.flatten(operation.output)
        if not isinstance(operation, keras.layers.InputLayer):
            inputs = keras.tree.flatten(operation.input)
            stride = max(of_tensors.get(id(x), 0) for x in inputs)
            if isinstance(operation, CONVOLUTIONS + _POOLS):
                stride *= operation.strides[0]
            elif len(outputs[0].shape) != 4 or _squeezes(inputs[0], outputs[0]):
                stride = 0
        strides[operation] = stride
        of_tensors.update({id(x): stride for x in outputs})
    return strides


class _Dilation:
    """Copies a model, its late strides turned into dilation.

    A layer that skips every second place shows the layers behind it the places that are left. If it
    skips none, they must look twice as far to see the same ones: every stride that is taken out
    doubles the dilation of all that follows.
    """

    def __init__(self, source: keras.Model, output_stride: int):
        self.source = source
        self.output_stride = output_stride
        self.strides = strides_of(source)
        # Of tensors in the source: the product of the strides taken out before their copies …
        self.undone: dict[int, int] = {}
        # … and what was padded, and how much, to become these.
        self.padded: dict[int, tuple] = {}

    def visit(self, operation, *args, **kwargs):
        undone = max(self.undone.get(id(x), 1) for x in keras.tree.flatten(operation.input))
        stride = self.strides[operation]
        removed = 1
        if stride and isinstance(operation, CONVOLUTIONS + _POOLS):
            # What is still beyond the wanted stride, the strides taken out before it allowed for.
            removed = min(operation.strides[0], max(1, stride // (undone * self.output_stride)))
            output = self._look_further(operation, args[0], undone, removed)
        else:
            known = isinstance(operation, (*CONVOLUTIONS, *_POINTWISE))
            if undone > 1 and isinstance(operation, keras.layers.Layer) and not known:
                raise self._error(f"its layer {operation.name} ({type(operation).__name__})")
            output = copy_operation(operation)(*args, **kwargs)
        if isinstance(operation, keras.layers.ZeroPadding2D):
            self.padded[id(operation.output)] = (args[0], operation.padding)
        for x in keras.tree.flatten(operation.output):
            self.undone[id(x)] = undone * removed
        return output

    def _look_further(self, layer, x, undone, removed):
        """The layer without the stride `removed`, looking `undone` times as far."""
        if undone == removed == 1:
            return copy_operation(layer)(x)
        pool = isinstance(layer, _POOLS)
        kernel, rates = (
            (layer.pool_size, (1, 1)) if pool else (layer.kernel_size, layer.dilation_rate)
        )
        changes: dict[str, Any] = {"strides": tuple(s // removed for s in layer.strides)}
        if not pool:
            changes["dilation_rate"] = tuple(undone * rate for rate in rates)
        if isinstance(layer, PaddedConv2D):
            return copy_operation(layer, **changes)(x)
        # How far a kernel reaches beyond one place, and how much of that lies before the place.
        reach = [rate * (side - 1) for side, rate in zip(kernel, rates, strict=True)]
        padded = layer.padding != "same" and id(layer.input) in self.padded
        if layer.padding == "same":
            before = [max(r + 1 - layer.strides[0], 0) // 2 for r in reach]
        elif padded:
            x, padding = self.padded[id(layer.input)]
            before = [first for first, _ in padding]
        else:
            before = [r // 2 for r in reach]
        changes["padding"] = "same"
        if pool and undone > 1 and max(kernel) > 1:
            odd = all(r % 2 == 0 and b == r // 2 for b, r in zip(before, reach, strict=True))
            if not odd or kernel[0] != kernel[1] or changes["strides"] != (1, 1):
                raise self._error(f"its pooling layer {layer.name} ({kernel[0]}×{kernel[1]})")
            options = {"name": layer.name, "dtype": layer.dtype_policy}
            if padded and isinstance(layer, keras.layers.AveragePooling2D):
                options["count_outside"] = True  # as zeros that were put there
            return _DILATED_POOLS[type(layer)](kernel[0], undone, **options)(x)
        if any(undone * b != undone * r // 2 for b, r in zip(before, reach, strict=True)):
            # The map keeps its size, but sees further to one side than to the other.
            sides = [(undone * b, undone * (r - b)) for b, r in zip(before, reach, strict=True)]
            outside = float("-inf") if isinstance(layer, keras.layers.MaxPooling2D) else 0.0
            x = keras.ops.pad(x, [(0, 0), *sides, (0, 0)], constant_values=outside)
            changes["padding"] = "valid"
        return copy_operation(layer, **changes)(x)

    def _error(self, culprit):
        return ValueError(
            "A backbone's strides beyond output_stride are turned into dilation. "
            f"Received: backbone={self.source.name}, output_stride={self.output_stride}, where "
            f"{culprit} cannot be dilated. Use a larger output_stride, 16 or 32."
        )


def _squeezes(x, y) -> bool:
    """Whether a map goes in and one value per channel comes out."""
    return y.shape[1] == 1 and len(x.shape) == 4 and x.shape[1] != 1
