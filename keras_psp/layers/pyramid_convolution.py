"""The convolution behind the pyramid; it never makes the pyramid at full size."""

import keras
from keras import ops

from keras_psp.layers import products
from keras_psp.layers.bilinear_upsample import interpolation_matrix
from keras_psp.layers.convolution import convolve
from keras_psp.layers.pyramid_pooling import split
from keras_psp.signatures import FromArguments


@keras.saving.register_keras_serializable("keras_psp")
class PyramidConv2D(FromArguments, keras.layers.Conv2D):
    """Convolves features and the levels of a pyramid, concatenated, in half of the time.

    In plain words: upsample the levels, concatenate them behind the features, and convolve. This
    layer gives the same result, except for rounding, and never makes the concatenated tensor. It
    uses that a convolution is linear. An upsampled level is U_h Y U_wᵀ, where Y are its b×b cells
    and U are the matrices of the interpolation. Shifted by (dy, dx) and multiplied by the kernel's
    W[dy, dx], it is (S_dy U_h) (Y W[dy, dx]) (S_dx U_w)ᵀ. These are small products: only the few
    cells meet the large kernel. At full size only the features are left to convolve, half of
    PSPNet's channels.

    Args:
        filters: Channels of the output.
        kernel_size: Side of the kernel, odd. The stride is 1 and the padding `"same"`.
        align_corners: How the levels are upsampled, see `BilinearUpsample`.
        **kwargs: What `keras.layers.Conv2D` takes, except strides, padding, dilation and groups.

    Input shape:
        The list that `PyramidPooling(upsample=False)` returns: features
        `(batch, height, width, channels)`, and levels `(batch, b, b, level channels)`. Or the
        features alone, for an ordinary convolution.

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
    print(tuple(layer([features, level]).shape))
    print(tuple(layer.kernel.shape))  # as if the level were enlarged and laid beside the features
    ```

    ```text
    (2, 30, 40, 8)
    (3, 3, 80, 8)
    ```
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int] = 3,
        align_corners: bool = True,
        **kwargs,
    ):
        kwargs = {"padding": "same", "data_format": "channels_last", **kwargs}
        super().__init__(filters, kernel_size, **kwargs)
        if self.kernel_size[0] % 2 == 0 or self.kernel_size[0] != self.kernel_size[1]:
            raise ValueError(
                "The kernel must be a square that lies evenly around its center. "
                f"Received: kernel_size={kernel_size}. Use 1, 3, 5, …"
            )
        self.align_corners = align_corners
        # Keras would insist on a single input with as many channels as the kernel.
        self.input_spec = None

    def build(self, input_shape):
        features, *levels = _as_list(input_shape)
        super().build((*features[:-1], features[-1] + sum(level[-1] for level in levels)))
        self.input_spec = None

    def call(self, inputs, training=None):
        inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        features, *levels = inputs
        # Split instead of sliced: the gradient of a slice would be as large as the kernel.
        kernel, *kernels = split(
            ops.cast(self.kernel, features.dtype), [x.shape[-1] for x in inputs]
        )
        outputs = convolve(features, kernel, training=training or products.PREDICTING.get())
        for level, kernel in zip(levels, kernels, strict=True):
            outputs += self._convolve_upsampled(level, kernel, features)
        if self.use_bias:
            outputs += ops.cast(self.bias, outputs.dtype)
        return self.activation(outputs)

    def _convolve_upsampled(self, level, kernel, like):
        side, bins, channels = self.kernel_size[0], level.shape[1], level.shape[3]
        height, width = ops.shape(like)[1:3]
        # Multiplies each cell by each tap of the kernel: for each tap, the cells of all images are
        # one product.
        x = ops.matmul(ops.reshape(level, (-1, channels)), kernel)
        x = ops.reshape(x, (side, side, -1, bins, bins, self.filters))
        x = ops.transpose(x, (2, 0, 3, 1, 4, 5))
        x = ops.reshape(x, (-1, side * bins, side * bins * self.filters))
        x = ops.matmul(self._interpolations(bins, height, x.dtype), x)
        x = ops.reshape(x, (-1, height, side * bins, self.filters))
        return ops.matmul(self._interpolations(bins, width, x.dtype), x)

    def _interpolations(self, size, new_size, dtype):
        """The interpolation's matrices (new_size, size) for each tap of the kernel, side by side,
        with zeros beyond the ends."""
        side = self.kernel_size[0]
        matrix = interpolation_matrix(size, new_size, self.align_corners, dtype)
        padded = ops.pad(matrix, ((side // 2, side // 2), (0, 0)))
        return ops.concatenate([padded[i : i + new_size] for i in range(side)], axis=1)

    def compute_output_shape(self, input_shape):
        return (*_as_list(input_shape)[0][:-1], self.filters)


def _as_list(input_shape):
    return input_shape if isinstance(input_shape[0], (list, tuple)) else [input_shape]
