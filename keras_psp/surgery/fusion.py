"""Fuses batch normalization into convolutions: the same outputs from fewer steps."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_psp.checked import checked
from keras_psp.layers import BasicBlock, DilatedBottleneck, PyramidPooling, SegmentationHead
from keras_psp.surgery.dilation import CONVOLUTIONS
from keras_psp.surgery.graph import copy_operation, has_graph, only_input, walk

# What batch normalization is fused into.
_FUSED = (*CONVOLUTIONS, keras.layers.Conv2DTranspose)
# Layers that are chains of other layers: the copy holds these instead.
_CHAINS = (BasicBlock, DilatedBottleneck, PyramidPooling, SegmentationHead)


@checked
def fuse(
    model: keras.Model,
    image_size: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Copies a trained model into one that has the same outputs with less work.

    Batch normalization is fused into the convolution before it, whose kernel and bias become
    γ/√(σ²+ε) times the kernel and β + (bias − μ)·γ/√(σ²+ε). A normalization that follows no
    convolution stays. Dropout and the auxiliary heads, which exist for training, are left out.

    Args:
        model: A functional Keras model with one input: every network of this package, also
            classifiers, and others.
        image_size: `(height, width)` of the images that the copy takes, either of which may be
            `None`, any; by default the model's own. For a fixed size, what depends on the size is
            computed once.
        batch_size: Number of images that the copy takes at once; `None` is any number.
        dtype: Policy of the layers of the copy, such as `"float32"`; by default their own.

    Returns:
        A functional model of ordinary layers, with weights of its own. It has the inputs, outputs
        and `classes` of `model`, and can be saved and loaded; the file holds no classes.

    Raises:
        ValueError: If the model is not functional or has several inputs.

    Reference:
        [Jacob et al., 2018](https://arxiv.org/abs/1712.05877), section 3.2.

    Example:

    ```python
    import keras_psp

    model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
    fast = keras_psp.fuse(model)
    image, label = keras_psp.street_scene(seed=1, image_size=(120, 160))
    same = keras_psp.segment(fast, image) == keras_psp.segment(model, image)
    print(f"{same.mean():.1%} of the pixels as before")
    ```

    ```text
    100.0% of the pixels as before
    ```
    """
    given = only_input(model)
    _, *size, channels = given.shape
    size = size if image_size is None else list(image_size)
    image = keras.Input(
        batch_shape=(batch_size, *size, channels), dtype=given.dtype, name=given.name
    )
    visit = functools.partial(_Fusion(dtype).visit, "")
    copy = keras.Model(image, walk(model, visit, image), name=model.name)
    # Half precision must not reach the image before it is normalized.
    copy.autocast = False
    copy.classes = getattr(model, "classes", None)
    return copy


class _Fusion:
    """Copies operations, and fuses each batch normalization with the convolution before it."""

    def __init__(self, dtype: str | None):
        self.dtype = dtype
        self.copies: dict[tuple, Any] = {}
        # Of a tensor in the copy that comes from a convolution: that convolution, its name in the
        # copy, its input, and the tensor itself, as only what is alive has an identity.
        self.origins: dict[int, tuple] = {}

    def visit(self, prefix: str, operation: Any, *args: Any, **kwargs: Any) -> Any:
        name = f"{prefix}{operation.name}"
        if isinstance(operation, keras.layers.Dropout):
            return args[0]
        if isinstance(operation, _CHAINS) or has_graph(operation):
            return walk(operation, functools.partial(self.visit, f"{name}_"), args[0])
        if isinstance(operation, keras.layers.BatchNormalization) and id(args[0]) in self.origins:
            conv, conv_name, x, _ = self.origins[id(args[0])]
            if operation.axis in (-1, 3) and not kwargs.get("training"):
                # The convolution's own copy drops out, unless something else needs its output.
                name = f"{conv_name}_{operation.name}"
                return self._call_copy((conv, operation), name, [x], {}, use_bias=True)
        output = self._call_copy((operation,), name, args, kwargs)
        if isinstance(operation, _FUSED) and operation.activation is keras.activations.linear:
            self.origins[id(output)] = (operation, name, args[0], output)
        return output

    def _call_copy(self, operations, name, args, kwargs, **changes):
        """Calls the copy of an operation, or of a convolution and its batch normalization."""
        operation = operations[0]
        is_layer = isinstance(operation, keras.layers.Layer)
        if operations not in self.copies:
            if is_layer and self.dtype is not None:
                changes["dtype"] = self.dtype
            self.copies[operations] = copy_operation(operation, name=name, **changes)
        copy = self.copies[operations]
        output = copy(*args, **kwargs)
        if is_layer and operation.weights:
            copy.set_weights(_fused_weights(*operations))
        return output


def _fused_weights(layer, bn=None) -> list[np.ndarray]:
    """The weights of a layer, or of a convolution and the batch normalization behind it in one."""
    weights = layer.get_weights()
    if bn is None:
        return weights
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (bn.moving_mean, bn.moving_variance))
    gamma = keras.ops.convert_to_numpy(bn.gamma) if bn.scale else 1.0
    beta = keras.ops.convert_to_numpy(bn.beta) if bn.center else 0.0
    scale = gamma / np.sqrt(variance.astype("float64") + bn.epsilon)
    bias = weights.pop() if layer.use_bias else 0.0
    kernel = weights.pop()
    # The channels of the output are the kernel's last axis, its last two, or the last but one.
    channels: tuple[int, ...] = (-1,)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        channels = kernel.shape[-2:]
    elif isinstance(layer, keras.layers.Conv2DTranspose):
        channels = (-1, 1)
    return [*weights, kernel * scale.reshape(channels), beta + (bias - mean) * scale]
