"""Bilinear interpolation in both conventions, as two small matrix products."""

import keras
import numpy as np
from keras import ops

from keras_psp.signatures import FromArguments


@keras.saving.register_keras_serializable("keras_psp")
class BilinearUpsample(FromArguments, keras.layers.Layer):
    """Resizes feature maps by bilinear interpolation.

    There are two conventions for where the samples of an image lie. With *aligned corners*, as in
    PSPNet, the centers of the corner pixels of input and output coincide. With *half-pixel
    centers*, as in image libraries, the corners of the corner pixels coincide. Keras itself has
    only the second.

    The size comes from one of three places: `size`, `factor`, or the tensor `like` of the call.
    Heights and widths may be unknown until run time.

    Args:
        size: `(height, width)` of the output.
        factor: Integer by which height and width grow.
        align_corners: The convention, see above.
        **kwargs: What `keras.layers.Layer` takes.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        like: Tensor `(batch, height', width', …)`: the output gets its height and width. It is
            needed where the layer has neither `size` nor `factor`.

    Output shape:
        `(batch, height', width', channels)`

    Raises:
        ValueError: If the output's size is missing, is given more than once, or is no size.

    Reference:
        Lecture, "Upsampling: Bilinear Interpolation":
        f(x, y) = Σ f(i, j) max(0, 1 − |x − i|) max(0, 1 − |y − j|).

    Example:

    ```python
    import numpy as np
    import keras_psp

    x = np.array([[1.0, 2.0], [3.0, 4.0]], "float32").reshape(1, 2, 2, 1)
    aligned = keras_psp.layers.BilinearUpsample(size=(3, 3))(x)
    print(np.array(aligned)[0, :, :, 0])
    half_pixel = keras_psp.layers.BilinearUpsample(factor=2, align_corners=False)(x)
    print(np.array(half_pixel)[0, 0, :, 0])  # the first row
    ```

    ```text
    [[1.  1.5 2. ]
     [2.  2.5 3. ]
     [3.  3.5 4. ]]
    [1.   1.25 1.75 2.  ]
    ```
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        factor: int | None = None,
        align_corners: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if size is not None and factor is not None:
            raise ValueError(
                "The output's size must be given once. "
                f"Received: size={size}, factor={factor}. Leave one of them out."
            )
        self.size = None if size is None else tuple(size)
        self.factor = factor
        self.align_corners = align_corners

    def call(self, inputs, like=None):
        inputs = ops.cast(inputs, self.compute_dtype)
        shape = ops.shape(inputs)
        new_shape = self.compute_output_shape(shape, None if like is None else ops.shape(like))
        return resize_bilinear(inputs, shape[1:3], new_shape[1:3], self.align_corners)

    def compute_output_shape(self, inputs_shape, like_shape=None):
        if (like_shape is None) == (self.size is None and self.factor is None):
            raise ValueError(
                "The output's size must be given once: size= or factor= of the layer, or like= of "
                f"the call. Received: size={self.size}, factor={self.factor}, "
                f"like={None if like_shape is None else tuple(like_shape)}."
            )
        batch, *size, channels = inputs_shape
        if like_shape is not None:
            size = like_shape[1:3]
        elif self.size is not None:
            size = self.size
        else:
            size = [None if n is None else n * self.factor for n in size]
        return (batch, *size, channels)


def resize_bilinear(x, size, new_size, align_corners):
    """Resizes `(batch, *size, channels)` to `new_size` by two matrix products."""
    if all(isinstance(n, int) for n in (*size, *new_size)) and tuple(size) == tuple(new_size):
        return x
    rows = interpolation_matrix(size[0], new_size[0], align_corners, x.dtype)
    columns = interpolation_matrix(size[1], new_size[1], align_corners, x.dtype)
    # Columns come first: there are fewer rows then, and the rows become one large product.
    channels = x.shape[-1]
    x = ops.matmul(columns, x)
    x = ops.reshape(x, (-1, size[0], new_size[1] * channels))
    x = ops.matmul(rows, x)
    return ops.reshape(x, (-1, *new_size, channels))


class Strips:
    """A map that is upsampled strip by strip, a few rows at a time.

    At the image's size the logits of many classes are the largest tensor of all. A loss and the
    best class are one number for each pixel, so they need only one strip at a time.

    Args:
        x: The map, `(batch, height, width, channels)`.
        new_size: `(new height, new width)`.
        align_corners: See `BilinearUpsample`.
    """

    NUMBERS = 2**20  # of logits in a strip, roughly

    def __init__(self, x, new_size, align_corners):
        batch, *self.size, self.channels = ops.shape(x)
        self.height, self.width = new_size
        # A replica's batch may be empty.
        rows = self.NUMBERS // _largest(1, batch * self.width * self.channels)
        self.rows = _largest(1, _smallest(rows, self.height))
        self.number = (self.height + self.rows - 1) // self.rows
        self.columns = interpolation_matrix(self.size[1], self.width, align_corners, x.dtype)
        rows = interpolation_matrix(self.size[0], self.height, align_corners, x.dtype)
        rows = ops.pad(rows, ((0, self.number * self.rows - self.height), (0, 0)))
        self.strips_rows = ops.reshape(rows, (self.number, self.rows, self.size[0]))
        # Already as wide as the output, still as high as the input.
        self.wide = self._flat(ops.matmul(self.columns, x), self.size[0])

    def _flat(self, x, height):
        return ops.reshape(x, (-1, height, self.width * self.channels))

    def __getitem__(self, i):
        """Strip `i`: `(batch, rows, new width, channels)`, with zeros below the last row."""
        strip = ops.matmul(self.strips_rows[i], self.wide)
        return ops.reshape(strip, (-1, self.rows, self.width, self.channels))

    def cut(self, pixels):
        """Cuts numbers `(batch, new height, new width)` into strips `(number, batch, rows, …)`."""
        below = self.number * self.rows - self.height
        pixels = ops.pad(pixels, ((0, 0), (0, below), (0, 0)))
        pixels = ops.reshape(pixels, (-1, self.number, self.rows, self.width))
        return ops.transpose(pixels, (1, 0, 2, 3))

    def join(self, strips):
        """Joins strips to a map again: the inverse of `cut`."""
        pixels = ops.transpose(strips, (1, 0, 2, 3))
        pixels = ops.reshape(pixels, (-1, self.number * self.rows, self.width))
        return pixels[:, : self.height]

    def gathered(self, i, gradient):
        """The part of the gradient of `wide` that comes from strip `i`."""
        return ops.matmul(ops.transpose(self.strips_rows[i]), self._flat(gradient, self.rows))

    def gradient(self, wide):
        """The gradient of the map, given that of `wide`."""
        wide = ops.reshape(wide, (-1, self.size[0], self.width, self.channels))
        return ops.matmul(ops.transpose(self.columns), wide)


def _smallest(*numbers):
    return min(numbers) if all(isinstance(n, int) for n in numbers) else ops.minimum(*numbers)


def _largest(*numbers):
    return max(numbers) if all(isinstance(n, int) for n in numbers) else ops.maximum(*numbers)


def upsampled_argmax(x, new_size, align_corners):
    """The index of the largest channel of the upsampled map: int32 `(batch, *new_size)`."""
    strips = Strips(x, new_size, align_corners)
    return strips.join(
        ops.map(lambda i: ops.argmax(strips[i], axis=-1), ops.arange(strips.number, dtype="int32"))
    )


def interpolation_matrix(size, new_size, align_corners, dtype):
    """The matrix (new_size, size) that interpolates linearly along one axis.

    Row `p` holds the lecture's weights max(0, 1 − |x(p) − i|), where x(p) is the place of the
    output's sample p among the input's.
    """
    # Of known sizes it is a constant: one operation, not a dozen to trace and to compile.
    known = isinstance(size, int) and isinstance(new_size, int)
    module, cast = (np, np.float32) if known else (ops, lambda x: ops.cast(x, "float32"))
    positions, cells = cast(module.arange(new_size)), cast(module.arange(size))
    size, new_size = cast(size), cast(new_size)
    if align_corners:
        positions = positions * ((size - 1.0) / module.maximum(new_size - 1.0, 1.0))
    else:
        positions = (positions + 0.5) * (size / new_size) - 0.5
    positions = module.clip(positions, 0.0, size - 1.0)
    weights = module.maximum(0.0, 1.0 - module.abs(positions[:, None] - cells[None, :]))
    return ops.cast(ops.convert_to_tensor(weights), dtype)
