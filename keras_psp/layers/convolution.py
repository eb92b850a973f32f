"""The papers' convolution and max pooling, which pad evenly, and the fastest way to convolve."""

import itertools
import math
from typing import Any

import keras
from keras import ops

from keras_psp.checked import ChecksArguments
from keras_psp.keras_internals import uses_onednn
from keras_psp.layers import products


class _PadsEvenly(keras.layers.Layer):
    """A layer whose padding is no argument, and whose output has the size of `padding="same"`."""

    strides: tuple[int, int]

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = [None if n is None else -(-n // s) for n, s in zip(size, self.strides, strict=True)]
        return (batch, *size, getattr(self, "filters", channels))

    def get_config(self):
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("padding", "data_format")}


@keras.saving.register_keras_serializable("keras_psp")
class PaddedConv2D(ChecksArguments, _PadsEvenly, keras.layers.Conv2D):
    """A convolution that pads its odd kernel evenly on all sides, whatever the stride.

    With stride 2, `padding="same"` pads an image of even size by (0, 1). The papers and all of
    their checkpoints pad by (1, 1). The output has `ceil(size / strides)` cells a side, as with
    `"same"`, but lies half a stride elsewhere.

    Args:
        filters: Number of output channels.
        kernel_size: Side of the square kernel, odd.
        strides: Stride, the same in both directions.
        dilation_rate: Dilation, the same in both directions.
        **kwargs: What `keras.layers.Conv2D` takes, except `padding` and `data_format`.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`

    Raises:
        ValueError: If `kernel_size` is even.
        TypeError: If `padding` or `data_format` is given.

    Example:

    ```python
    import numpy as np
    import keras_psp

    layer = keras_psp.layers.PaddedConv2D(4, 3, strides=2)
    features = np.ones((1, 6, 7, 3), "float32")
    print(tuple(layer(features).shape))
    ```

    ```text
    (1, 3, 4, 4)
    ```
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        dilation_rate: int | tuple[int, int] = 1,
        **kwargs,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            dilation_rate=dilation_rate,
            padding="same" if strides in (1, (1, 1), [1, 1]) else "valid",
            data_format="channels_last",
            **kwargs,
        )
        if any(side % 2 == 0 for side in self.kernel_size):
            raise ValueError(
                "Even padding needs an odd kernel. "
                f"Received: kernel_size={kernel_size}. Use 1, 3, 5, 7, …"
            )

    def call(self, inputs, training=None):
        padding = self.padding
        if padding == "valid" and self.kernel_size != (1, 1):
            sides = _even_padding(self.kernel_size, self.dilation_rate)
            inputs, padding = _padded_evenly(inputs, sides, self.strides)
        outputs = convolve(
            inputs, self.kernel, self.strides, padding, self.dilation_rate, training=training
        )
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)


@keras.saving.register_keras_serializable("keras_psp")
class PaddedMaxPooling2D(ChecksArguments, _PadsEvenly, keras.layers.MaxPooling2D):
    """Max pooling that pads evenly on all sides, with zeros: for maps behind a ReLU.

    It is to max pooling what `PaddedConv2D` is to convolution.

    Args:
        pool_size: Side of the square window, odd.
        strides: Stride, the same in both directions.
        **kwargs: What `keras.layers.MaxPooling2D` takes, except `padding` and `data_format`.

    Input shape:
        `(batch, height, width, channels)`, all numbers 0 or more.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), channels)`

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), table 1, conv2_x.

    Example:

    ```python
    import numpy as np
    import keras_psp

    x = np.arange(16.0).reshape(1, 4, 4, 1)
    pooled = keras_psp.layers.PaddedMaxPooling2D(3, 2)(x)
    print(np.array(pooled)[0, :, :, 0])
    ```

    ```text
    [[ 5.  7.]
     [13. 15.]]
    ```
    """

    def __init__(self, pool_size: int | tuple[int, int], strides: int | tuple[int, int], **kwargs):
        super().__init__(pool_size, strides, padding="valid", data_format="channels_last", **kwargs)

    def call(self, inputs):
        sides = [side // 2 for side in self.pool_size]
        inputs, padding = _padded_evenly(inputs, sides, self.strides)
        return ops.max_pool(inputs, self.pool_size, self.strides, padding, self.data_format)


def convolve(x, kernel, strides=(1, 1), padding="same", dilation_rate=(1, 1), *, training):
    """Convolves a map `(batch, height, width, channels)` in the fastest way on this machine."""
    plain = strides == (1, 1) and padding == "same" and kernel.shape[2] == x.shape[3]
    if training and plain:
        outputs = products.convolve(x, kernel, dilation_rate[0])
        if outputs is not None:
            return outputs
    if keras.backend.backend() == "jax":
        sizes = zip(x.shape[1:3], kernel.shape, strict=False)
        if plain and any(isinstance(n, int) and n < side for n, side in sizes):
            # On a CPU, XLA takes up to twenty times as long if the map is smaller than the kernel.
            return _as_one_product(x, kernel, dilation_rate)
    if keras.backend.backend() == "torch":
        return _of_pytorch(x, kernel, strides, padding, dilation_rate)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        dilates, on_cpu = max(dilation_rate) > 1, products.on_tensorflows_cpu()
        if plain and on_cpu and (dilates or not uses_onednn()):
            return _with_gradients_of_all_images(x, kernel, dilation_rate)
        # On a CPU most builds of TensorFlow lack its gradients.
        if dilates and not on_cpu:
            # Keras would cut the map into one small map for each place within the dilation, pad
            # them to equal sizes, and put the results together again.
            return tf.nn.conv2d(x, kernel, strides, padding.upper(), dilations=dilation_rate)
    return ops.conv(x, kernel, list(strides), padding, "channels_last", dilation_rate)


def _of_pytorch(x, kernel, strides, padding, dilation_rate):
    """PyTorch's convolution. Keras would copy the map twice before each, to change its layout."""
    import torch

    x, kernel = (ops.convert_to_tensor(one) for one in (x, kernel))
    outputs = torch.nn.functional.conv2d(
        x.permute(0, 3, 1, 2),  # A view, which is PyTorch's channels-last layout.
        kernel.permute(3, 2, 0, 1),
        stride=strides,
        padding=_even_padding(kernel.shape[:2], dilation_rate) if padding == "same" else 0,
        dilation=dilation_rate,
        groups=x.shape[3] // kernel.shape[2],
    )
    return outputs.permute(0, 2, 3, 1)


def _with_gradients_of_all_images(x, kernel, dilation_rate):
    """A convolution with stride 1 that computes the gradients of all images at once.

    Without oneDNN, TensorFlow's own gradients go from image to image, and each time through the
    whole kernel: the smaller the images, the more they cost. They know no dilation, either. With
    oneDNN but without AVX-512, the kernel's gradient under dilation takes 80 MB, which are mapped
    anew in each step.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def convolved(x, kernel):
        def gradients(upstream):
            mirrored = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            of_x = tf.nn.conv2d(upstream, mirrored, 1, "SAME", dilations=dilation_rate)
            *sides, channels, filters = kernel.shape
            rows = tf.reshape(upstream, (-1, filters))
            of_taps: list[Any] = []
            taps = _seen_by_taps(x, sides, dilation_rate)
            for _ in range(math.prod(sides)):
                # TensorFlow starts whatever it can: without this all of them, in the forward pass.
                with tf.control_dependencies([upstream, *of_taps]):
                    seen = tf.reshape(next(taps), (-1, channels))
                    of_taps.append(tf.matmul(seen, rows, transpose_a=True))
            return of_x, tf.reshape(tf.stack(of_taps), kernel.shape)

        return tf.nn.conv2d(x, kernel, 1, "SAME", dilations=dilation_rate), gradients

    # A tensor instead of the variable, for which a custom gradient would be asked separately.
    return convolved(x, tf.convert_to_tensor(kernel))


def _as_one_product(x, kernel, dilation_rate):
    """A convolution with stride 1 as one product of the kernel and all that its taps see."""
    *sides, _, filters = kernel.shape
    seen = ops.concatenate(list(_seen_by_taps(x, sides, dilation_rate)), axis=-1)
    return ops.matmul(seen, ops.reshape(kernel, (-1, filters)))


def _seen_by_taps(x, sides, dilation_rate):
    """The map as each tap of a kernel of these sides sees it: moved, with zeros around it."""
    height, width = ops.shape(x)[1:3]
    rims = [rate * (side // 2) for side, rate in zip(sides, dilation_rate, strict=True)]
    x = ops.pad(x, [(0, 0), *((rim, rim) for rim in rims), (0, 0)])
    for i, j in itertools.product(*map(range, sides)):
        top, left = i * dilation_rate[0], j * dilation_rate[1]
        yield x[:, top : top + height, left : left + width]


def _even_padding(kernel_size, dilation_rate):
    """By how much a map is padded on either side along each axis."""
    rates = zip(kernel_size, dilation_rate, strict=True)
    return tuple(rate * (side - 1) // 2 for side, rate in rates)


def _padded_evenly(x, sides, strides):
    """The padded map and the padding that is left to do: `"valid"`, or `"same"` and the map itself
    where that pads evenly, too."""
    size = x.shape[1:3]
    if all(n is not None and n % s == 1 % s for n, s in zip(size, strides, strict=True)):
        return x, "same"
    return ops.pad(x, [(0, 0), *((side, side) for side in sides), (0, 0)]), "valid"
