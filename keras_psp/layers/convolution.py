"""The papers' convolution."""

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

    def compute_output_shape(self, input_shape):
        batch, *size, _ = input_shape
        size = [None if n is None else -(-n // s) for n, s in zip(size, self.strides, strict=True)]
        return (batch, *size, self.filters)

    def get_config(self):
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("padding", "data_format")}
