"""The head that turns features into class scores."""

import keras
from keras import ops

from keras_psp.layers.batch_normalization import BatchNormalization
from keras_psp.layers.pyramid_convolution import PyramidConv2D
from keras_psp.signatures import FromArguments


@keras.saving.register_keras_serializable("keras_psp")
class SegmentationHead(FromArguments, keras.layers.Layer):
    """3×3 convolution, batch normalization, ReLU, spatial dropout, 1×1 convolution to the classes.

    PSPNet has two such heads: one behind the pyramid and, in training, the auxiliary head on the
    last stage but one.

    Args:
        filters: Channels of the 3×3 convolution (512 in PSPNet's head, 256 in its auxiliary head).
        num_classes: Channels of the output.
        dropout: Share of whole channels dropped in training, 0–1.
        align_corners: How pyramid levels are upsampled, see `BilinearUpsample`.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`; or the list of features and pyramid levels of
        `PyramidPooling(upsample=False)`. The output is the same as if the levels were upsampled and
        concatenated (see `PyramidConv2D`).

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
    features = np.ones((2, 30, 40, 64), "float32")
    print(tuple(head(features).shape))
    ```

    ```text
    (2, 30, 40, 11)
    ```
    """

    def __init__(
        self,
        filters: int,
        num_classes: int,
        dropout: float = 0.1,
        align_corners: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.num_classes = num_classes
        self.dropout = dropout
        self.align_corners = align_corners
        policy = {"dtype": self.dtype_policy}
        channels_last = {"data_format": "channels_last", **policy}
        self.conv1 = PyramidConv2D(
            filters,
            3,
            align_corners,
            use_bias=False,
            kernel_initializer="he_normal",
            name="conv1",
            **policy,
        )
        self.bn1 = BatchNormalization(name="bn1", **policy)
        self.drop = keras.layers.SpatialDropout2D(dropout, name="dropout", **channels_last)
        self.conv2 = keras.layers.Conv2D(num_classes, 1, name="conv2", **channels_last)

    def build(self, input_shape):
        self.conv1.build(input_shape)
        hidden = self.conv1.compute_output_shape(input_shape)
        self.bn1.build(hidden)
        self.conv2.build(hidden)
        self.built = True

    def call(self, inputs, training=None):
        x = ops.relu(self.bn1(self.conv1(inputs), training=training))
        return self.conv2(self.drop(x, training=training))

    def compute_output_shape(self, input_shape):
        return (*self.conv1.compute_output_shape(input_shape)[:-1], self.num_classes)
