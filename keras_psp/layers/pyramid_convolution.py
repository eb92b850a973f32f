"""The convolution behind the pyramid, without the pyramid at full size."""

import itertools

import keras
from keras import ops

from keras_psp.layers import products
from keras_psp.layers.bilinear_upsample import interpolation_matrix
from keras_psp.layers.convolution import convolve


@keras.saving.register_keras_serializable("keras_psp")
class PyramidConv2D(keras.layers.Conv2D):
    """Convolves features and the levels of a pyramid, concatenated, in half of the time.

    Its answer is that of a convolution of the features and, behind them, the levels upsampled, with
    the same kernel, but for rounding. It never makes that tensor: a convolution is linear, and a
    level upsampled is U_h Y U_wᵀ, with Y its b×b cells and U the matrices of the interpolation.
    Shifted by (dy, dx) and multiplied by the kernel's W[dy, dx] it is
    (S_dy U_h) (Y W[dy, dx]) (S_dx U_w)ᵀ: small products, in which the few cells meet the large
    kernel. What is left to convolve at full size is the features, half of PSPNet's channels.

    Args:
        filters: Channels of the output.
        kernel_size: Side of the kernel, odd. The stride is 1 and the padding `"same"`.
        align_corners: How the levels are upsampled, see `BilinearUpsample`.
        **kwargs: What `keras.layers.Conv2D` takes beside strides, padding, dilation and groups.

    Input shape:
        A list as `PyramidPooling(upsample=False)` gives it: features
        `(batch, height, width, channels)`, and levels `(batch, b, b, level channels)`; or the
        features alone, which makes it an ordinary convolution.

    Output shape:
        `(batch, height, width, filters)`

    Raises:
        ValueError: If `kernel_size` is even.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), figure 3: from c to d.

    Example:

    ```python
    import numpy as np
    import keras_psp

    features, level = np.ones((2, 30, 40, 64), "float32"), np.ones((2, 3, 3, 16), "float32")
    layer = keras_psp.layers.PyramidConv2D(8, 3)
    assert layer([features, level]).shape == (2, 30, 40, 8)
    assert layer.kernel.shape == (3, 3, 64 + 16, 8)
    ```
    """

    def __init__(self, filters: int, kernel_size: int = 3, align_corners: bool = True, **kwargs):
        kwargs = {"padding": "same", "data_format": "channels_last", **kwargs}
        super().__init__(filters, kernel_size, **kwargs)
        if self.kernel_size[0] % 2 == 0 or self.kernel_size[0] != self.kernel_size[1]:
            raise ValueError(
                "The kernel must be a square that lies evenly around each place. "
                f"Received: kernel_size={kernel_size}. Use 1, 3, 5, …"
            )
        self.align_corners = align_corners
        # Keras would ask for a single input, with as many channels as the kernel.
        self.input_spec = None

    def build(self, input_shape):
        features, *levels = _as_list(input_shape)
        super().build((*features[:-1], features[-1] + sum(level[-1] for level in levels)))
        self.input_spec = None

    def call(self, inputs, training=None):
        features, *levels = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        kernels = [ops.cast(self.kernel, features.dtype)]
        if levels:
            # Split, not sliced: the gradient of each slice would be as large as the whole kernel.
            ends = itertools.accumulate(x.shape[-1] for x in inputs[:-1])
            kernels = ops.split(kernels[0], list(ends), axis=2)
        kernel, *kernels = kernels
        outputs = None
        if training or products.PREDICTING.get():
            outputs = products.convolve(features, kernel, 1)
        if outputs is None:
            outputs = convolve(features, kernel)
        for level, kernel in zip(levels, kernels, strict=True):
            outputs += self._convolve_upsampled(level, kernel, features)
        if self.use_bias:
            outputs += ops.cast(self.bias, outputs.dtype)
        return self.activation(outputs)

    def _convolve_upsampled(self, level, kernel, like):
        side, bins, channels = self.kernel_size[0], level.shape[1], level.shape[3]
        height, width = ops.shape(like)[1:3]
        # Each cell times each tap of the kernel: the cells of all images in one product per tap.
        x = ops.matmul(ops.reshape(level, (-1, channels)), kernel)
        x = ops.reshape(x, (side, side, -1, bins, bins, self.filters))
        x = ops.transpose(x, (2, 0, 3, 1, 4, 5))
        x = ops.reshape(x, (-1, side * bins, side * bins * self.filters))
        x = ops.matmul(self._interpolations(bins, height, x.dtype), x)
        x = ops.reshape(x, (-1, height, side * bins, self.filters))
        return ops.matmul(self._interpolations(bins, width, x.dtype), x)

    def _interpolations(self, size, new_size, dtype):
        """The matrices (new_size, size) that interpolate for each place under the kernel, side by
        side; beyond the ends there are zeros."""
        side = self.kernel_size[0]
        matrix = interpolation_matrix(size, new_size, self.align_corners, dtype)
        padded = ops.pad(matrix, ((side // 2, side // 2), (0, 0)))
        return ops.concatenate([padded[i : i + new_size] for i in range(side)], axis=1)

    def compute_output_shape(self, input_shape):
        return (*_as_list(input_shape)[0][:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "align_corners": self.align_corners}


def _as_list(input_shape):
    return input_shape if isinstance(input_shape[0], (list, tuple)) else [input_shape]
