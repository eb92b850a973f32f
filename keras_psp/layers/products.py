"""Convolutions as matrix products: TensorFlow trains them fastest in this form on a CPU."""

import contextvars
import functools
from typing import Any

import keras
import numpy as np
from keras import ops

# Winograd's F(2, 3): the matrices for four inputs, for a kernel's three taps, and for two outputs.
_INPUTS = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], "float32")
_TAPS = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], "float32") / 2
_OUTPUTS = np.array([[1, 0], [1, 1], [1, -1], [0, -1]], "float32")

# Whether a model predicts. Nobody else reads its graph then. In an exported graph a convolution
# should look like one.
PREDICTING: contextvars.ContextVar = contextvars.ContextVar("predicting", default=False)


def convolve(x, kernel, dilation_rate: int):
    """A convolution with stride 1 and padding `"same"`, or `None` where another way is faster.

    A 1×1 convolution is a matrix product, whose gradients take less time than the convolution's. A
    3×3 convolution of many channels takes four multiplications for each output in Winograd's form,
    instead of nine. For each tile of 2×2 outputs, the 4×4 inputs and the kernel become sixteen
    numbers each; these are multiplied, and the products become the outputs. All three steps are
    linear, along one axis after the other, so each is a small matrix product, too. Its matrix takes
    care of tiles, padding and dilation.

    Args:
        x: Tensor `(batch, height, width, channels)`.
        kernel: Tensor `(side, side, channels, filters)`.
        dilation_rate: Dilation, the same in both directions.

    Returns:
        Tensor `(batch, height, width, filters)`, equal to the convolution's except for rounding; or
        `None`.

    Reference:
        [Lavin and Gray, 2016](https://arxiv.org/abs/1509.09308), section 4.
    """
    if not on_tensorflows_cpu() or keras.backend.standardize_dtype(x.dtype) != "float32":
        return None
    kernel = ops.convert_to_tensor(kernel)
    *side, channels, filters = kernel.shape
    if side == [1, 1]:
        products = ops.matmul(ops.reshape(x, (-1, channels)), kernel[0, 0])
        return ops.reshape(products, (-1, *ops.shape(x)[1:3], filters))
    size = x.shape[1:3]
    if side == [3, 3] and None not in size and _pays(size, channels, filters, dilation_rate):
        return _winograd(x, kernel, dilation_rate)
    return None


@functools.cache
def on_tensorflows_cpu() -> bool:
    """Whether TensorFlow is Keras' backend, and has no GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _pays(size, channels, filters, dilation_rate) -> bool:
    """Whether Winograd's form saves three tenths of the time, tiles and kernel included."""
    (height, width), (rows, columns) = size, (len(_tiles(n, dilation_rate)) for n in size)
    direct = 9 * height * width * channels * filters
    tiles = 4 * rows * width * (height + 4 * columns) * (channels + filters)
    # The speed of memory limits the kernel's sixteen numbers: each counts as 32 multiplications.
    numbers = 16 * (rows * columns + 32) * channels * filters
    return numbers + tiles < 0.7 * direct


def _tiles(size, dilation_rate) -> list[int]:
    """Where each tile's two outputs begin along an axis; they lie one dilation apart."""
    step = 2 * dilation_rate
    return [i for first in range(dilation_rate) for i in range(first, size, step)]


def _matrices(size, dilation_rate):
    """The matrices from inputs to tiles, and from outputs to tiles: both (4, tiles, size)."""
    tiles = _tiles(size, dilation_rate)
    matrices = []
    for transform, first in (_INPUTS, -1), (_OUTPUTS, 0):
        matrix = np.zeros((4, len(tiles), size), "float32")
        for i, column in enumerate(transform.T, first):
            for tile, place in enumerate(tiles):
                if 0 <= place + i * dilation_rate < size:  # Beyond the ends there are zeros.
                    matrix[:, tile, place + i * dilation_rate] = column
        matrices.append(matrix)
    return matrices


def _winograd(x, kernel, dilation_rate):
    import tensorflow as tf

    _, height, width, channels = x.shape
    filters = kernel.shape[-1]
    # Of inputs and of outputs, each along rows and along columns.
    pairs = list(zip(*(_matrices(n, dilation_rate) for n in (height, width)), strict=True))
    inputs, outputs = ([tf.unstack(matrices) for matrices in pair] for pair in pairs)
    inputs_back, outputs_back = (
        [tf.unstack(matrices.transpose(0, 2, 1)) for matrices in pair] for pair in pairs
    )
    taps = tf.unstack(np.einsum("it,ju->ijtu", _TAPS, _TAPS).reshape(4, 4, 9))

    def along_rows(matrix, x):
        """(…, size, width, n) to (… · new size, width, n)."""
        n = x.shape[-1]
        x = tf.matmul(matrix, tf.reshape(x, (-1, matrix.shape[1], width * n)))
        return tf.reshape(x, (-1, width, n))

    def along_columns(matrix, x):
        """(…, size, n) to (… · new size, n)."""
        n = x.shape[-1]
        x = tf.matmul(matrix, tf.reshape(x, (-1, matrix.shape[1], n)))
        return tf.reshape(x, (-1, n))

    # A tile's sixteen numbers come one after the other, since all at once would take four times the
    # memory. Each waits for its turn, because TensorFlow starts whatever it can. Nothing is kept
    # for the gradients: computing it again is quicker.
    after = tf.control_dependencies

    def convolve_tiles(x, kernel, to_tiles, from_tiles, transpose):
        y = tf.constant(0.0)
        for i in range(4):
            with after([x, y]):
                tall = along_rows(to_tiles[0][i], x)
                weights = tf.matmul(taps[i], tf.reshape(kernel, (9, channels * filters)))
                weights = tf.unstack(tf.reshape(weights, (4, channels, filters)))
            row = tf.constant(0.0)
            for j in range(4):
                with after([row]):
                    tiles = along_columns(to_tiles[1][j], tall)
                    products = tf.matmul(tiles, weights[j], transpose_b=transpose)
                    row += along_columns(from_tiles[1][j], products)
            y += along_rows(from_tiles[0][i], row)
        return tf.reshape(y, (-1, height, width, y.shape[-1]))

    @tf.custom_gradient
    def convolved(x, kernel):
        def gradients(dy):
            dkernel = tf.constant(0.0)
            for i in range(4):
                with after([dy, dkernel]):
                    tall, tall_dy = along_rows(inputs[0][i], x), along_rows(outputs[0][i], dy)
                products: Any = []
                for j in range(4):
                    with after(products):
                        given = along_columns(inputs[1][j], tall)
                        wanted = along_columns(outputs[1][j], tall_dy)
                        products.append(tf.matmul(given, wanted, transpose_a=True))
                products = tf.reshape(tf.stack(products), (4, channels * filters))
                dkernel += tf.matmul(taps[i], products, transpose_a=True)
            # This comes last, since a frozen backbone does not need it.
            with after([dkernel]):
                dy = tf.identity(dy)
            dx = convolve_tiles(dy, kernel, outputs, inputs_back, transpose=True)
            return dx, tf.reshape(dkernel, kernel.shape)

        return convolve_tiles(x, kernel, inputs, outputs_back, transpose=False), gradients

    return convolved(x, kernel)
