"""Pyramid pooling: PSPNet is named after it."""

import itertools
from collections.abc import Sequence

import keras
from keras import ops

from keras_psp.choices import check_name
from keras_psp.layers.batch_normalization import BatchNormalization
from keras_psp.layers.bilinear_upsample import BilinearUpsample
from keras_psp.signatures import FromArguments


@keras.saving.register_keras_serializable("keras_psp")
class PyramidAveragePooling2D(FromArguments, keras.layers.Layer):
    """Averages a map over b×b cells, for several b at once, whatever the map's size.

    For a single b it is PyTorch's adaptive average pooling: cell `i` of `b` along an axis of length
    `n` covers ⌊i·n/b⌋ … ⌈(i+1)·n/b⌉ − 1. Cells overlap where `b` does not divide `n`, and repeat
    where `b` exceeds `n`, so every size works. (`keras.layers.AdaptiveAveragePooling2D` needs a
    size that is known, on TensorFlow.)

    Args:
        bins: Cells a side, one number for each output.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`, height and width may be unknown.

    Output shape:
        A list: `(batch, b, b, channels)` for each `b` in `bins`.

    Example:

    ```python
    import numpy as np
    import keras_psp

    row = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    mean, halves = keras_psp.layers.PyramidAveragePooling2D([1, 2])(row)
    print(np.array(mean)[0, :, :, 0])
    print(np.array(halves)[0, :, :, 0])
    ```

    ```text
    [[2.]]
    [[1.5 2.5]
     [1.5 2.5]]
    ```
    """

    def __init__(self, bins: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        if not len(bins):
            raise ValueError(
                "A pyramid has at least one level. Received: bins=(). The paper's are (1, 2, 3, 6)."
            )
        self.bins = tuple(bins)

    def call(self, inputs):
        # Every b reads the strips of one product, so the map is read once.
        height, width = ops.shape(inputs)[1:3]
        channels = inputs.shape[-1]
        columns = ops.concatenate([pooling_matrix(width, b, inputs.dtype) for b in self.bins])
        strips = split(ops.matmul(columns, inputs), self.bins)
        pooled = []
        for b, strip in zip(self.bins, strips, strict=True):
            strip = ops.reshape(strip, (-1, height, b * channels))
            strip = ops.matmul(pooling_matrix(height, b, inputs.dtype), strip)
            pooled.append(ops.reshape(strip, (-1, b, b, channels)))
        return pooled

    def compute_output_shape(self, input_shape):
        return [(input_shape[0], b, b, input_shape[-1]) for b in self.bins]


@keras.saving.register_keras_serializable("keras_psp")
class PyramidMaxPooling2D(PyramidAveragePooling2D):
    """The largest value of each of b×b cells, for several b at once.

    The paper compares it with averages, which it finds better. The cells, the arguments and the
    shapes are those of `PyramidAveragePooling2D`.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), table 1.

    Example:

    ```python
    import numpy as np
    import keras_psp

    row = np.array([1.0, 3.0, 2.0]).reshape(1, 1, 3, 1)
    largest, halves = keras_psp.layers.PyramidMaxPooling2D([1, 2])(row)
    print(np.array(largest)[0, :, :, 0])
    print(np.array(halves)[0, :, :, 0])
    ```

    ```text
    [[3.]]
    [[3. 3.]
     [3. 3.]]
    ```
    """

    def call(self, inputs):
        height, width = ops.shape(inputs)[1:3]
        pooled = []
        for b in self.bins:
            rows = [ops.max(inputs[:, i:j], axis=1) for i, j in _cells(height, b)]
            strips = ops.stack(rows, axis=1)
            columns = [ops.max(strips[:, :, i:j], axis=2) for i, j in _cells(width, b)]
            pooled.append(ops.stack(columns, axis=2))
        return pooled


_POOLINGS = {"average": PyramidAveragePooling2D, "max": PyramidMaxPooling2D}


@keras.saving.register_keras_serializable("keras_psp")
class PyramidPooling(FromArguments, keras.layers.Layer):
    """Describes a feature map at several scales, up to the whole image.

    For every `b` in `bins`, the map is pooled into b×b cells, reduced to `filters` channels by a
    1×1 convolution with batch normalization and ReLU, and upsampled to the input's size. These
    levels are concatenated behind the input, in the order of `bins`.

    The cells are those of `PyramidAveragePooling2D`, so every size works.

    Args:
        bins: Cells a side of each level.
        filters: Channels of each level; `None` divides the input's channels by the number of bins,
            as the paper does.
        momentum: Momentum of the batch normalization's moving statistics.
        epsilon: Epsilon of the batch normalization.
        align_corners: How the levels are upsampled, see `BilinearUpsample`.
        upsample: Whether to upsample and concatenate the levels. `False` leaves them at b×b cells,
            which is what `PyramidConv2D` takes.
        pooling: `"average"`, the paper's, or `"max"`, which it compares.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`, height and width may be unknown.

    Output shape:
        `(batch, height, width, channels + len(bins) * filters)`. Without `upsample`, a list: the
        input, and `(batch, b, b, filters)` for each `b` in `bins`.

    Raises:
        ValueError: If `bins` is empty or holds anything but positive integers, there is no such
            pooling, or the input has fewer channels than there are levels.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 3.2 and figure 3c.

    Example:

    ```python
    import numpy as np
    import keras_psp

    layer = keras_psp.layers.PyramidPooling(bins=(1, 2, 3, 6))
    features = np.ones((2, 30, 40, 64), "float32")
    print(tuple(layer(features).shape))  # 64 channels of features, 4 levels of 16
    ```

    ```text
    (2, 30, 40, 128)
    ```
    """

    def __init__(
        self,
        bins: Sequence[int] = (1, 2, 3, 6),
        filters: int | None = None,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        align_corners: bool = True,
        upsample: bool = True,
        pooling: str = "average",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.bins = tuple(bins)
        self.filters = filters
        self.momentum = momentum
        self.epsilon = epsilon
        self.align_corners = align_corners
        self.upsample = upsample
        self.pooling = pooling
        policy = {"dtype": self.dtype_policy}
        pool = _POOLINGS[check_name("pooling", pooling, _POOLINGS)]
        self.pool = pool(self.bins, name="pool", **policy)
        self.upsampling = BilinearUpsample(align_corners=align_corners, name="upsampling", **policy)
        self.batch_normalizations = [
            BatchNormalization(momentum=momentum, epsilon=epsilon, name=f"level{i}_bn", **policy)
            for i, _ in enumerate(self.bins, 1)
        ]

    def build(self, input_shape):
        filters = self._filters(input_shape)
        self.convolutions = [
            keras.layers.Conv2D(
                filters,
                1,
                data_format="channels_last",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"level{i}_conv",
                dtype=self.dtype_policy,
            )
            for i, _ in enumerate(self.bins, 1)
        ]
        # On JAX, Keras runs a model once more if one of its layers is not built.
        self.pool.build(input_shape)
        self.upsampling.build(input_shape)
        pooled = self.pool.compute_output_shape(input_shape)
        for shape, conv, bn in self._levels(pooled):
            conv.build(shape)
            bn.build((*shape[:-1], filters))
        self.built = True

    def _filters(self, input_shape) -> int:
        filters = self.filters or input_shape[-1] // len(self.bins)
        if filters < 1:
            raise ValueError(
                "Each level of the pyramid needs at least one channel. "
                f"Received: {input_shape[-1]} channels for bins={self.bins}. "
                "Give filters=1 or more."
            )
        return filters

    def _levels(self, pooled):
        return zip(pooled, self.convolutions, self.batch_normalizations, strict=True)

    def call(self, inputs, training=None):
        levels = self.pooled(inputs, training)
        if not self.upsample:
            return [inputs, *levels]
        upsampled = [self.upsampling(level, like=inputs) for level in levels]
        return ops.concatenate([inputs, *upsampled], axis=-1)

    def pooled(self, inputs, training=None):
        """The levels before they are upsampled: a list of `(batch, b, b, filters)`."""
        levels = self._levels(self.pool(inputs))
        return [ops.relu(bn(conv(x), training=training)) for x, conv, bn in levels]

    def compute_output_shape(self, input_shape):
        *size, channels = input_shape
        filters = self._filters(input_shape)
        if self.upsample:
            return (*size, channels + len(self.bins) * filters)
        return [tuple(input_shape), *((size[0], b, b, filters) for b in self.bins)]


def split(x, sizes):
    """Splits a tensor into parts of these sizes along axis 2; TensorFlow knows no single part."""
    ends = list(itertools.accumulate(sizes))[:-1]
    return ops.split(x, ends, axis=2) if ends else [x]


def _cells(size, bins):
    """The first row or column of each cell, and the one behind its last."""
    # The numbers stay positive: converters round the quotient of negative ones differently.
    return [(i * size // bins, ((i + 1) * size + bins - 1) // bins) for i in range(bins)]


def pooling_matrix(size, bins, dtype):
    """The matrix (bins, size) whose row i averages cells ⌊i·size/bins⌋ … ⌈(i+1)·size/bins⌉−1."""
    i = ops.arange(bins, dtype="int32")[:, None]
    first = ops.floor_divide(i * size, bins)
    # The numbers stay positive: converters round the quotient of negative ones differently.
    past = ops.floor_divide((i + 1) * size + bins - 1, bins)
    cells = ops.arange(size, dtype="int32")[None, :]
    inside = ops.cast(ops.logical_and(cells >= first, cells < past), "float32")
    return ops.cast(inside / ops.cast(past - first, "float32"), dtype)
