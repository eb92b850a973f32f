"""Unpooling: a pooled map becomes large again, each value in one place of its block."""

import keras
from keras import ops

from keras_psp.signatures import FromArguments


class _Blocks(FromArguments, keras.layers.Layer):
    """Works on blocks of `pool_size` × `pool_size` places, side by side."""

    # The type in which places are compared: the smallest, except where a runtime cannot.
    place_dtype = "uint8"

    def __init__(self, pool_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(pool_size, int) or not 2 <= pool_size <= 16:
            raise ValueError(
                "Blocks have a side of 2 to 16 places, whose number in the block takes 8 bits. "
                f"Received: pool_size={pool_size!r}. Use pool_size=2."
            )
        self.pool_size = pool_size

    def _split(self, x):
        """A map of whole blocks → a map of each place in them, row by row."""
        height, width, channels = ops.shape(x)[1:]
        side = self.pool_size
        height, width = height // side, width // side
        # A block's rows lie behind one another in a row of blocks, and its places in its rows.
        x = ops.reshape(x, (-1, height, side * side * width * channels))
        return [
            place
            for row in ops.split(x, side, axis=-1)
            for place in ops.split(
                ops.reshape(row, (-1, height, width, side * channels)), side, axis=-1
            )
        ]

    def _join(self, places):
        """The inverse of `_split`."""
        height, width, channels = ops.shape(places[0])[1:]
        side = self.pool_size
        rows = [
            ops.reshape(
                ops.concatenate(places[i : i + side], axis=-1),
                (-1, height, side * width * channels),
            )
            for i in range(0, side * side, side)
        ]
        x = ops.concatenate(rows, axis=-1)
        return ops.reshape(x, (-1, side * height, side * width, channels))

    def _put(self, values, places):
        """A map of whole blocks: each value at its place in its block, and zeros."""
        places = ops.cast(places, self.place_dtype)
        return self._join(
            [
                ops.where(ops.equal(places, ops.cast(place, self.place_dtype)), values, 0)
                for place in range(self.pool_size**2)
            ]
        )


@keras.saving.register_keras_serializable("keras_psp")
class BedOfNails(_Blocks):
    """Makes each value a block: the value in its first corner, and zeros in the other places.

    Args:
        pool_size: Side of the blocks.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        `(batch, pool_size · height, pool_size · width, channels)`

    Raises:
        ValueError: If `pool_size` is none of 2 … 16.

    Reference:
        Lecture, "In-Network Upsampling: Unpooling".

    Example:

    ```python
    import numpy as np
    import keras_psp

    x = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    print(np.array(keras_psp.layers.BedOfNails()(x))[0, :, :, 0])
    ```

    ```text
    [[1. 0. 2. 0.]
     [0. 0. 0. 0.]
     [3. 0. 4. 0.]
     [0. 0. 0. 0.]]
    ```
    """

    def call(self, inputs):
        inputs = ops.cast(inputs, self.compute_dtype)
        zeros = ops.zeros_like(inputs)
        return self._join([inputs, *[zeros] * (self.pool_size**2 - 1)])

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        return (batch, *(None if n is None else n * self.pool_size for n in size), channels)


@keras.saving.register_keras_serializable("keras_psp")
class MaxPoolWithArgmax(_Blocks):
    """Max pooling that also tells where in its block each maximum was.

    Blocks at the right and lower border may be smaller, as in Caffe (`ceil_mode=True` in PyTorch).
    Of equal values the first counts, row by row, and gets the gradient.

    Args:
        pool_size: Side of the blocks, and the stride.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        Two tensors `(batch, ceil(height / pool_size), ceil(width / pool_size), channels)`: the
        maxima, and their places in the blocks, uint8: 0 … pool_size² − 1, row by row. For 2×2
        blocks 0 is the upper left place, 1 the upper right, 2 the lower left, 3 the lower right.

    Raises:
        ValueError: If `pool_size` is none of 2 … 16.

    Reference:
        [Badrinarayanan et al., 2015](https://arxiv.org/abs/1511.00561), section 3: the places take
        2 bits for each 2×2 block.

    Example:

    ```python
    import numpy as np
    import keras_psp

    x = np.array([[1, 5, 2], [3, 4, 2], [0, 6, 7]], "float32").reshape(1, 3, 3, 1)
    maxima, places = keras_psp.layers.MaxPoolWithArgmax()(x)
    print(np.array(maxima)[0, :, :, 0])
    again = keras_psp.layers.MaxUnpool()(maxima, places, like=x)
    print(np.array(again)[0, :, :, 0])
    ```

    ```text
    [[5. 2.]
     [6. 7.]]
    [[0. 5. 2.]
     [0. 0. 0.]
     [0. 6. 7.]]
    ```
    """

    def call(self, inputs):
        inputs = ops.cast(inputs, self.compute_dtype)
        height, width = ops.shape(inputs)[1:3]
        maxima, places = self._largest(ops.stop_gradient(inputs))

        # The backends' own gradients differ where values are equal. This is the same on all.
        @ops.custom_gradient
        def pooled(inputs):
            def gradient(*args, upstream=None):
                # PyTorch passes it by name; the others pass nothing else.
                upstream = args[0] if upstream is None else upstream
                return self._put(upstream, places)[:, :height, :width]

            return maxima, gradient

        return pooled(inputs), places

    def _largest(self, x):
        """The maximum of each block, and its place."""
        side = self.pool_size
        for axis in (1, 2):
            length = ops.shape(x)[axis]
            # Of positive numbers alone: ONNX rounds the quotient of others towards 0.
            rest = (side - length % side) % side
            if not isinstance(rest, int) or rest:
                # The last places once more are no larger, and not the first ones.
                x = ops.take(x, ops.minimum(ops.arange(length + rest), length - 1), axis=axis)
        maxima = ops.max_pool(x, side, side, "valid", data_format="channels_last")
        *values, _ = self._split(x)
        places = len(values)
        for place in reversed(range(len(values))):
            places = ops.where(values[place] < maxima, places, place)
        # Not earlier, as LiteRT does not choose between numbers of 8 bits.
        return maxima, ops.cast(places, "uint8")

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        shape = (batch, *(_pooled(n, self.pool_size) for n in size), channels)
        return shape, shape

    def compute_output_spec(self, inputs):
        shape, _ = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, self.compute_dtype), keras.KerasTensor(shape, "uint8")


@keras.saving.register_keras_serializable("keras_psp")
class MaxUnpool(_Blocks):
    """Undoes a max pooling: puts each value where the maximum was, and zeros everywhere else.

    With the places of the same pooling, pooling what comes out gives the values again if they are 0
    or more, as behind a ReLU.

    Args:
        pool_size: Side of the blocks.
        size: `(height, width)` of the output.
        **kwargs: What `keras.layers.Layer` takes.

    Call arguments:
        inputs: Tensor `(batch, height, width, channels)`.
        indices: Tensor of the same shape: what `MaxPoolWithArgmax` says about places.
        like: Tensor `(batch, height', width', …)`: the output gets its height and width. Without
            it and without `size`, the output consists of whole blocks.

    Output shape:
        `(batch, height', width', channels)`

    Raises:
        ValueError: If `pool_size` is none of 2 … 16, `indices` has another shape than `inputs`, or
            the pooling makes another size of the output's.

    Reference:
        [Badrinarayanan et al., 2015](https://arxiv.org/abs/1511.00561), figure 3;
        [Noh et al., 2015](https://arxiv.org/abs/1505.04366), section 3.2.1.

    Example:

    ```python
    import numpy as np
    import keras_psp

    values, places = np.array([[[[7.0], [8.0]]]]), np.array([[[[3], [0]]]])
    print(np.array(keras_psp.layers.MaxUnpool()(values, places))[0, :, :, 0])
    ```

    ```text
    [[0. 0. 8. 0.]
     [0. 7. 0. 0.]]
    ```
    """

    def __init__(self, pool_size: int = 2, size: tuple[int, int] | None = None, **kwargs):
        super().__init__(pool_size, **kwargs)
        self.size = None if size is None else tuple(size)

    def call(self, inputs, indices, like=None):
        inputs = ops.cast(inputs, self.compute_dtype)
        shapes = [x if x is None else ops.shape(x) for x in (inputs, indices, like)]
        _, height, width, _ = self.compute_output_shape(*shapes)
        return self._put(inputs, indices)[:, :height, :width]

    def compute_output_shape(self, inputs_shape, indices_shape, like_shape=None):
        batch, *size, channels = inputs_shape
        if _differ(inputs_shape[1:], indices_shape[1:]):
            raise ValueError(
                "Each value has its place: indices have the shape of the inputs. "
                f"Received: inputs of shape {tuple(inputs_shape)}, indices of "
                f"{tuple(indices_shape)}. Pass those of the pooling that is undone."
            )
        if like_shape is not None:
            new_size = like_shape[1:3]
        elif self.size is not None:
            new_size = self.size
        else:
            new_size = [None if n is None else n * self.pool_size for n in size]
        if _differ(size, [_pooled(n, self.pool_size) for n in new_size]):
            raise ValueError(
                f"Pooling by {self.pool_size} makes ceil(n / {self.pool_size}) places of n. "
                f"Received: inputs of size {tuple(size)}, to be unpooled to {tuple(new_size)}. "
                "Pass the size, or as like= the map, before that pooling."
            )
        return (batch, *new_size, channels)


def _pooled(n, pool_size):
    return None if n is None else (n + pool_size - 1) // pool_size


def _differ(size, other):
    """Whether two sizes are not the same, as far as they are known."""
    pairs = zip(size, other, strict=True)
    return any(n != m for n, m in pairs if isinstance(n, int) and isinstance(m, int))
