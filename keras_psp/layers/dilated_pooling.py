"""Poolings with dilation, for networks whose convolutions are dilated."""

import functools
import operator

import keras
from keras import ops

from keras_psp.signatures import FromArguments


class _DilatedPooling2D(FromArguments, keras.layers.Layer):
    """Pools places that lie `dilation_rate` apart, along one axis and then along the other."""

    def __init__(self, pool_size: int = 3, dilation_rate: int = 1, centered: bool = True, **kwargs):
        super().__init__(**kwargs)
        if centered and pool_size % 2 == 0:
            raise ValueError(
                "The pooled places must lie evenly around their center. "
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
            length = ops.shape(x)[axis]
            sides = [(before, reach - before) if a == axis else (0, 0) for a in range(4)]
            padded = ops.pad(x, sides, constant_values=outside)
            cuts = [slice(i, i + length) for i in range(0, reach + 1, self.dilation_rate)]
            shifted = [padded[:, cut] if axis == 1 else padded[:, :, cut] for cut in cuts]
            x = functools.reduce(function, shifted)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("keras_psp")
class DilatedMaxPooling2D(_DilatedPooling2D):
    """The maximum over a square of places that lie `dilation_rate` apart, without a stride.

    A max pooling becomes this where the strides before it were turned into dilation. Places outside
    of the input do not count.

    Args:
        pool_size: Places a side of the square; odd if it is centered.
        dilation_rate: Distance from one place to the next.
        centered: Whether the output's place is the center of the square; otherwise it is the first
            corner.
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
    print(np.ravel(pooled))
    ```

    ```text
    [3. 2. 3. 2.]
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

    An average pooling becomes this where the strides before it were turned into dilation. Places
    outside of the input do not count, so the mean at the border is over fewer places; or they count
    as zeros.

    Args:
        pool_size: Places a side of the square; odd if it is centered.
        dilation_rate: Distance from one place to the next.
        centered: Whether the output's place is the center of the square; otherwise it is the first
            corner.
        count_outside: Whether places outside count, as zeros.
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
    print(np.ravel(pooled))
    ```

    ```text
    [1.5 1.5 1.5 1.5]
    ```
    """

    def __init__(
        self,
        pool_size: int = 3,
        dilation_rate: int = 1,
        centered: bool = True,
        *,
        count_outside: bool = False,
        **kwargs,
    ):
        super().__init__(pool_size, dilation_rate, centered, **kwargs)
        self.count_outside = count_outside

    def call(self, inputs):
        # Half floats are not precise enough for the sum of many values.
        x = ops.cast(inputs, "float32")
        places = self.pool_size**2
        if not self.count_outside:
            places = self._gather(ops.ones_like(x), operator.add, 0.0)
        return ops.cast(self._gather(x, operator.add, 0.0) / places, self.compute_dtype)
