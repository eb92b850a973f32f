"""The form of a network that computes the same in fewer steps, once it has learned."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_psp.layers import BasicBlock, DilatedBottleneck, PyramidPooling, SegmentationHead

# Layers that are chains of others, which may therefore stand in their place.
_CHAINS = (BasicBlock, DilatedBottleneck, PyramidPooling, SegmentationHead)
_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


def inference_form(
    model: keras.Model,
    image_size: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Copies a trained model into one that does the same with less work.

    Batch normalization is folded into the convolution before it, whose kernel and bias become
    γ/√(σ²+ε) times the kernel and β + (bias − μ)·γ/√(σ²+ε). A normalization that follows no
    convolution stays what it is. Dropout and the auxiliary heads, which exist for training, are
    gone.

    Args:
        model: A functional Keras model with one input: every network of this package, also
            classifiers, and others.
        image_size: `(height, width)` that the copy takes, either of which may be `None`: any;
            by default the model's own. What depends on the size is then computed once.
        batch_size: Images that the copy takes at once, if it takes no other number.
        dtype: Policy of the layers of the copy, such as `"float32"`; by default their own.

    Returns:
        A functional model of ordinary layers, with weights of its own. It takes and gives what
        `model` does, and can be saved and loaded.

    Raises:
        ValueError: If the model is not functional or has several inputs.

    Reference:
        [Jacob et al., 2018](https://arxiv.org/abs/1712.05877), section 3.2.

    Example:

    ```python
    import keras_psp

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    fast = keras_psp.inference_form(model)
    assert fast.count_params() < model.count_params()
    ```
    """
    if len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(
            "The inference form is that of a functional Keras model with one input. "
            f"Received: model={getattr(model, 'name', model)}, a {type(model).__name__} with "
            f"{len(getattr(model, 'inputs', None) or ())} inputs. Build it with "
            "keras.Model(image, outputs)."
        )
    (given,) = model.inputs
    _, *size, channels = given.shape
    size = size if image_size is None else list(image_size)
    image = keras.Input(
        batch_shape=(batch_size, *size, channels), dtype=given.dtype, name=given.name
    )
    copy = keras.Model(image, _Folding(dtype).run(model, image), name=model.name)
    # Half precision must not reach the image before it is normalized.
    copy.autocast = False
    return copy


class _Folding:
    """Copies the graph of a model, operation by operation."""

    def __init__(self, dtype: str | None):
        self.dtype = dtype
        self.copies: dict[tuple, Any] = {}
        # Of a tensor in the copy that comes from a convolution: that convolution, its name in the
        # copy, what it saw, and the tensor itself, as only what is alive has an identity.
        self.origins: dict[int, tuple] = {}

    def run(self, model: Any, inputs: Any, prefix: str = "") -> Any:
        """What the copy of `model` gives for `inputs`."""
        if isinstance(model, keras.Sequential):
            model = model._functional
        call = functools.partial(self._call, prefix)
        return model._run_through_graph(inputs, operation_fn=lambda x: x, call_fn=call)

    def _call(self, prefix, operation, *args, **kwargs):
        name = f"{prefix}{operation.name}"
        if isinstance(operation, keras.layers.Dropout):
            return args[0]
        if isinstance(operation, _CHAINS):
            x = keras.tree.map_structure(
                lambda given: keras.Input(batch_shape=given.shape, dtype=given.dtype), args[0]
            )
            return self.run(keras.Model(x, operation.call(x)), args[0], f"{name}_")
        if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
            return self.run(operation, args[0], f"{name}_")
        if isinstance(operation, keras.layers.BatchNormalization) and id(args[0]) in self.origins:
            conv, conv_name, x, _ = self.origins[id(args[0])]
            if operation.axis in (-1, 3) and not kwargs.get("training"):
                # What the convolution alone gives is left out, unless something else needs it.
                name = f"{conv_name}_{operation.name}"
                return self._call_copy((conv, operation), name, [x], {}, use_bias=True)
        output = self._call_copy((operation,), name, args, kwargs)
        if (
            isinstance(operation, _CONVOLUTIONS)
            and operation.activation is keras.activations.linear
        ):
            self.origins[id(output)] = (operation, name, args[0], output)
        return output

    def _call_copy(self, operations, name, args, kwargs, **changes):
        """Calls the copy of an operation, or of a convolution and what is folded into it."""
        operation = operations[0]
        is_layer = isinstance(operation, keras.layers.Layer)
        if operations not in self.copies:
            config = {**operation.get_config(), **changes}
            if "name" in config:
                config["name"] = name
            if is_layer and self.dtype is not None:
                config["dtype"] = self.dtype
            self.copies[operations] = type(operation).from_config(config)
        copy = self.copies[operations]
        output = copy(*args, **kwargs)
        if is_layer and operation.weights:
            copy.set_weights(_folded(*operations))
        return output


def _folded(layer, bn=None) -> list[np.ndarray]:
    """The weights of a layer; of a convolution, with the batch normalization behind it."""
    weights = layer.get_weights()
    if bn is None:
        return weights
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (bn.moving_mean, bn.moving_variance))
    gamma = keras.ops.convert_to_numpy(bn.gamma) if bn.scale else 1.0
    beta = keras.ops.convert_to_numpy(bn.beta) if bn.center else 0.0
    scale = gamma / np.sqrt(variance.astype("float64") + bn.epsilon)
    bias = weights.pop() if layer.use_bias else 0.0
    kernel = weights.pop()
    # The channels of the output are the kernel's last axis, or its last two.
    channels = kernel.shape[-2:] if isinstance(layer, keras.layers.DepthwiseConv2D) else -1
    return [*weights, kernel * scale.reshape(channels), beta + (bias - mean) * scale]
