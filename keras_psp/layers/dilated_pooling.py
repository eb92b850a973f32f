"""Poolings that can be dilated, as the convolutions around them."""

import functools
import operator

import keras
from keras import ops


class _DilatedPooling2D(keras.layers.Layer):
    """Brings together what lies `dilation_rate` apart, along one axis and then the other."""

    def __init__(self, pool_size: int = 3, dilation_rate: int = 1, centered: bool = True, **kwargs):
        super().__init__(**kwargs)
        if centered and pool_size % 2 == 0:
            raise ValueError(
                "The places to pool must lie evenly around each. "
                f"Received: pool_size={pool_size}. Use 3, 5, 7, …"
            )
        self.pool_size = pool_size
        self.dilation_rate = dilation_rate
        self.centered = centered

    def _gather(self, x, function, outside):
        """`function` of the values in the square around each place."""
        reach = self.dilation_rate * (self.pool_size - 1)
        before = reach // 2 if self.centered else 0
        for axis in (1, 2):
            length, cut = ops.shape(x)[axis], [slice(None)] * 4
            sides = [(before, reach - before) if a == axis else (0, 0) for a in range(4)]
            padded = ops.pad(x, sides, constant_values=outside)
            shifted = []
            for i in range(self.pool_size):
                start = i * self.dilation_rate
                cut[axis] = slice(start, start + length)
                shifted.append(padded[tuple(cut)])
            x = functools.reduce(function, shifted)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "dilation_rate": self.dilation_rate,
            "centered": self.centered,
        }


@keras.saving.register_keras_serializable("keras_psp")
class DilatedMaxPooling2D(_DilatedPooling2D):
    """The maximum over a square of places that lie `dilation_rate` apart, without a stride.

    What a max pooling becomes where the strides before it were turned into dilation. What lies
    outside of the input counts nowhere.

    Args:
        pool_size: Places a side of the square; odd, if it is centered.
        dilation_rate: From one of them to the next.
        centered: Whether the square lies around its place; otherwise it begins there.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        The input's.

    Raises:
        ValueError: If `pool_size` is even and the square centered.

    Example:

    ```python
    import numpy as np
    import keras_psp

    row = np.array([3.0, 1.0, 0.0, 2.0]).reshape(1, 1, 4, 1)
    pooled = keras_psp.layers.DilatedMaxPooling2D(3, dilation_rate=2)(row)
    assert np.array_equal(np.ravel(pooled), [3, 2, 3, 2])
    ```
    """

    def call(self, inputs):
        if self.dilation_rate == 1 and self.centered:
            return ops.max_pool(
                inputs, self.pool_size, 1, padding="same", data_format="channels_last"
            )
        return self._gather(inputs, ops.maximum, outside=float("-inf"))


@keras.saving.register_keras_serializable("keras_psp")
class DilatedAveragePooling2D(_DilatedPooling2D):
    """The mean over a square of places that lie `dilation_rate` apart, without a stride.

    What an average pooling becomes where the strides before it were turned into dilation. What lies
    outside of the input counts nowhere, so that at the border the mean is over fewer places, or as
    zeros.

    Args:
        pool_size: Places a side of the square; odd, if it is centered.
        dilation_rate: From one of them to the next.
        centered: Whether the square lies around its place; otherwise it begins there.
        count_outside: Whether what lies outside counts, as zeros.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        The input's.

    Raises:
        ValueError: If `pool_size` is even and the square centered.

    Example:

    ```python
    import numpy as np
    import keras_psp

    row = np.array([3.0, 1.0, 0.0, 2.0]).reshape(1, 1, 4, 1)
    pooled = keras_psp.layers.DilatedAveragePooling2D(3, dilation_rate=2)(row)
    assert np.array_equal(np.ravel(pooled), [1.5, 1.5, 1.5, 1.5])
    ```
    """

    def __init__(self, *args, count_outside: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.count_outside = count_outside

    def call(self, inputs):
        # The sum of many values leaves the precision of half floats.
        x = ops.cast(inputs, "float32")
        places = self.pool_size**2
        if not self.count_outside:
            places = self._gather(ops.ones_like(x), operator.add, 0.0)
        return ops.cast(self._gather(x, operator.add, 0.0) / places, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "count_outside": self.count_outside}
