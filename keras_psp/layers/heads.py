"""The head that turns features into class scores."""

import keras
from keras import ops

from keras_psp.layers.batch_normalization import BatchNormalization
from keras_psp.layers.bilinear_upsample import interpolation_matrix


@keras.saving.register_keras_serializable("keras_psp")
class SegmentationHead(keras.layers.Layer):
    """3×3 convolution, batch normalisation, ReLU, spatial dropout, 1×1 convolution to the classes.

    PSPNet has two of them: the head behind the pyramid and, in training, the auxiliary head on the
    last stage but one.

    Behind a pyramid the head need not see the levels upsampled. A convolution is linear, and a
    level upsampled is U_h Y U_wᵀ, with Y its b×b cells and U the matrices of the interpolation.
    Shifted by (dy, dx) and multiplied by the kernel's W[dy, dx] it is
    (S_dy U_h) (Y W[dy, dx]) (S_dx U_w)ᵀ: small products, in which the few cells meet the large
    kernel. The convolution proper is left with the features, half of the channels. The result is
    the same but for rounding.

    Args:
        filters: Channels of the 3×3 convolution (512 in PSPNet's head, 256 in its auxiliary head).
        num_classes: Channels of the output.
        dropout: Share of whole channels dropped in training, 0–1.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`; or a list of features and pyramid levels, as
        `PyramidPooling(upsample=False)` gives it: the head then answers as to the levels upsampled
        (aligned corners) and concatenated behind the features.

    Output shape:
        `(batch, height, width, num_classes)`: logits.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), figures 3d and 4, and the authors'
        PyTorch code for the widths.

    Example:

    ```python
    import numpy as np
    import keras_psp

    head = keras_psp.layers.SegmentationHead(filters=16, num_classes=11)
    assert head(np.ones((2, 30, 40, 64), "float32")).shape == (2, 30, 40, 11)
    ```
    """

    def __init__(self, filters: int, num_classes: int, dropout: float = 0.1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.num_classes = num_classes
        self.dropout = dropout
        policy = {"dtype": self.dtype_policy}
        channels_last = {"data_format": "channels_last", **policy}
        self.conv1 = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name="conv1",
            **channels_last,
        )
        self.bn1 = BatchNormalization(name="bn1", **policy)
        self.drop = keras.layers.SpatialDropout2D(dropout, name="dropout", **channels_last)
        self.conv2 = keras.layers.Conv2D(num_classes, 1, name="conv2", **channels_last)

    def build(self, input_shape):
        features, *levels = _as_list(input_shape)
        channels = features[-1] + sum(level[-1] for level in levels)
        self.conv1.build((*features[:-1], channels))
        hidden = (*features[:-1], self.filters)
        self.bn1.build(hidden)
        self.conv2.build(hidden)
        self.built = True

    def call(self, inputs, training=None):
        x = _convolve(self.conv1, *inputs) if isinstance(inputs, list) else self.conv1(inputs)
        x = ops.relu(self.bn1(x, training=training))
        return self.conv2(self.drop(x, training=training))

    def compute_output_shape(self, input_shape):
        return (*_as_list(input_shape)[0][:-1], self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_classes": self.num_classes,
            "dropout": self.dropout,
        }


def _as_list(input_shape):
    is_list = isinstance(input_shape[0], (list, tuple))
    return list(input_shape) if is_list else [input_shape]


def _convolve(conv, features, *levels):
    """The 3×3 convolution of the features and, concatenated to them, the levels upsampled."""
    kernel = ops.cast(conv.kernel, features.dtype)
    end = features.shape[-1]
    outputs = ops.conv(features, kernel[:, :, :end], padding="same", data_format="channels_last")
    height, width = ops.shape(features)[1:3]
    rows, columns = [], []
    for level in levels:
        bins, channels = level.shape[2:]
        begin, end = end, end + channels
        # Every cell times every tap of the kernel, the cells of all images in one product.
        x = ops.matmul(ops.reshape(level, (-1, channels)), kernel[:, :, begin:end])
        x = ops.reshape(x, (3, 3, -1, bins, bins, conv.filters))
        x = ops.reshape(
            ops.transpose(x, (2, 0, 3, 1, 4, 5)), (-1, 3 * bins, 3 * bins * conv.filters)
        )
        x = ops.matmul(_shifted_interpolation_matrix(bins, height, x.dtype), x)
        rows.append(ops.reshape(x, (-1, height, 3 * bins, conv.filters)))
        columns.append(_shifted_interpolation_matrix(bins, width, x.dtype))
    x = ops.matmul(ops.concatenate(columns, axis=1), ops.concatenate(rows, axis=2))
    return outputs + x


def _shifted_interpolation_matrix(size, new_size, dtype):
    """The matrices (new_size, size) that interpolate for the neighbour before, the place itself and
    the neighbour behind, side by side; beyond the ends there are zeros."""
    padded = ops.pad(interpolation_matrix(size, new_size, True, dtype), ((1, 1), (0, 0)))
    return ops.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=1)
