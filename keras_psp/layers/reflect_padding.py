"""Padding with mirror images."""

import keras
from keras import ops

from keras_psp.signatures import FromArguments


@keras.saving.register_keras_serializable("keras_psp")
class ReflectPadding2D(FromArguments, keras.layers.Layer):
    """Pads a map with its own mirror images, and its sides up to a multiple.

    The mirror is in the middle of the last row or column, which is not repeated. What is wider than
    the map is mirrored again.

    Args:
        padding: Number of places on each side.
        multiple: The map's sides, without these places, become multiples of this number, by further
            places below and to the right.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`, height and width may be unknown.

    Output shape:
        `(batch, height' + 2 * padding, width' + 2 * padding, channels)`, where height' and width'
        are the next multiples.

    Example:

    ```python
    import numpy as np
    import keras_psp

    row = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    padded = keras_psp.layers.ReflectPadding2D(2, multiple=2)(row)
    print(np.array(padded)[0, 0, :, 0])
    ```

    ```text
    [3. 2. 1. 2. 3. 2. 1. 2.]
    ```
    """

    def __init__(self, padding: int, multiple: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding
        self.multiple = multiple

    def call(self, inputs):
        for axis in (1, 2):
            size = ops.shape(inputs)[axis]
            # Remainders of positive numbers alone: ONNX has others of negative ones.
            rest = (self.multiple - size % self.multiple) % self.multiple
            places = ops.abs(ops.arange(-self.padding, size + self.padding + rest, dtype="int32"))
            # There and back again; a single place is its own mirror image.
            period = ops.maximum(2 * size - 2, 1)
            places = ops.mod(places, period)
            inputs = ops.take(inputs, ops.minimum(places, period - places), axis)
        return inputs

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = [None if n is None else n + -n % self.multiple + 2 * self.padding for n in size]
        return (batch, *size, channels)
