"""The papers' convolution."""

import functools

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_psp")
class PaddedConv2D(keras.layers.Conv2D):
    """A convolution that pads its odd kernel evenly on all sides, whatever the stride.

    `padding="same"` with stride 2 pads an image of even size by (0, 1); the papers, and every
    checkpoint of theirs, pad by (1, 1). The output has `ceil(size / strides)` cells a side, as
    with `"same"`, but sits half a stride elsewhere.

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
    assert layer(np.zeros((1, 6, 7, 3), "float32")).shape == (1, 3, 4, 4)
    ```
    """

    def __init__(
        self, filters: int, kernel_size: int, strides: int = 1, dilation_rate: int = 1, **kwargs
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

    def call(self, inputs):
        if self.padding == "valid" and self.kernel_size != (1, 1):
            sides = [
                (rate * (side - 1) // 2,) * 2
                for side, rate in zip(self.kernel_size, self.dilation_rate, strict=True)
            ]
            inputs = ops.pad(inputs, [(0, 0), *sides, (0, 0)])
        return super().call(inputs)

    def convolution_op(self, inputs, kernel):
        if max(self.dilation_rate) == 1 or not _dilates_directly(inputs.dtype):
            return super().convolution_op(inputs, kernel)
        # Keras would cut the map into one small map for each place within the dilation, filled up
        # to equal sizes, and put the answers together again.
        import tensorflow as tf

        return tf.nn.conv2d(
            inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate
        )

    def compute_output_shape(self, input_shape):
        batch, *size, _ = input_shape
        size = [None if n is None else -(-n // s) for n, s in zip(size, self.strides, strict=True)]
        return (batch, *size, self.filters)

    def get_config(self):
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("padding", "data_format")}


@functools.cache
def _dilates_directly(dtype) -> bool:
    """Whether TensorFlow has dilated convolutions that can be trained, which CPUs have by oneDNN
    only."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return True
    with tf.init_scope():
        ones = tf.ones((1, 3, 3, 1), dtype)
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=ones,
                filter_sizes=[3, 3, 1, 1],
                out_backprop=ones,
                strides=[1, 1, 1, 1],
                padding="SAME",
                dilations=[1, 2, 2, 1],
            )
        except (
            tf.errors.InvalidArgumentError,
            tf.errors.UnimplementedError,
            tf.errors.NotFoundError,
        ):
            return False
    return True
