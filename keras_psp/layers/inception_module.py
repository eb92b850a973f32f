"""GoogLeNet's module: convolutions of three sizes and a pooling, side by side."""

import keras
from keras import ops

from keras_psp.layers.batch_normalization import BatchNormalization
from keras_psp.layers.dilated_pooling import DilatedMaxPooling2D
from keras_psp.signatures import FromArguments


@keras.saving.register_keras_serializable("keras_psp")
class InceptionModule(FromArguments, keras.layers.Layer):
    """1×1, 3×3 and 5×5 convolutions and a 3×3 max pooling of the same input, concatenated.

        ┌─ 1×1 ──────────────────────┐
        ├─ 1×1 reduce ─── 3×3 ───────┤
      x ┤                            ├ concatenated
        ├─ 1×1 reduce ─── 5×5 ───────┤
        └─ 3×3 max pool ─ projection ┘

    The 1×1 convolutions before the large ones and behind the pooling keep the number of channels
    small, and with it the work. The naive form has none of them. Every convolution has a ReLU, and
    a bias or batch normalization.

    Args:
        filters_1x1: Channels of the 1×1 convolution.
        filters_3x3_reduce: Channels of the 1×1 before the 3×3.
        filters_3x3: Channels of the 3×3.
        filters_5x5_reduce: Channels of the 1×1 before the 5×5.
        filters_5x5: Channels of the 5×5.
        filters_pool: Channels of the 1×1 behind the pooling.
        naive: Whether to leave out the reductions and the projection. Their numbers are not used
            then.
        dilation_rate: Dilation of 3×3, 5×5 and pooling.
        batch_normalization: Whether there is batch normalization (epsilon 1e-3) instead of biases.
        largest_kernel: Side of the kernel called 5×5 here.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        `(batch, height, width, filters_1x1 + filters_3x3 + filters_5x5 + filters_pool)`; the naive
        form has the input's channels instead of `filters_pool`.

    Reference:
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), figure 2 and table 1.

    Example:

    ```python
    import numpy as np
    import keras_psp

    module = keras_psp.layers.InceptionModule(64, 96, 128, 16, 32, 32)  # 3a
    features = np.ones((1, 28, 28, 192), "float32")
    print(tuple(module(features).shape))
    ```

    ```text
    (1, 28, 28, 256)
    ```
    """

    def __init__(
        self,
        filters_1x1: int,
        filters_3x3_reduce: int,
        filters_3x3: int,
        filters_5x5_reduce: int,
        filters_5x5: int,
        filters_pool: int,
        naive: bool = False,
        dilation_rate: int = 1,
        batch_normalization: bool = False,
        largest_kernel: int = 5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters_1x1 = filters_1x1
        self.filters_3x3_reduce = filters_3x3_reduce
        self.filters_3x3 = filters_3x3
        self.filters_5x5_reduce = filters_5x5_reduce
        self.filters_5x5 = filters_5x5
        self.filters_pool = filters_pool
        self.naive = naive
        self.dilation_rate = dilation_rate
        self.batch_normalization = batch_normalization
        self.largest_kernel = largest_kernel

        pool = DilatedMaxPooling2D(3, dilation_rate, name="pool", dtype=self.dtype_policy)
        self.branches = [
            self._conv("conv_1x1", filters_1x1),
            self._reduce("reduce_3x3", filters_3x3_reduce) + self._conv("conv_3x3", filters_3x3, 3),
            self._reduce("reduce_5x5", filters_5x5_reduce)
            + self._conv("conv_5x5", filters_5x5, largest_kernel),
            [pool, *self._reduce("project_pool", filters_pool)],
        ]
        # For weight files: Keras before 3.15 looks into lists, but not into lists of lists.
        self.branch_layers = [layer for branch in self.branches for layer in branch]

    def _reduce(self, name, filters):
        return [] if self.naive else self._conv(name, filters)

    def _conv(self, name, filters, kernel_size=1):
        return convolution(
            keras.layers.Conv2D,
            filters,
            kernel_size,
            padding="same",
            dilation_rate=self.dilation_rate if kernel_size > 1 else 1,
            data_format="channels_last",
            batch_normalization=self.batch_normalization,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        for branch in self.branches:
            shape = tuple(input_shape)
            for layer in branch:
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
        self.built = True

    def call(self, inputs, training=None):
        outputs = []
        for branch in self.branches:
            x = inputs
            for layer in branch:
                normalizes = isinstance(layer, BatchNormalization)
                x = layer(x, training=training) if normalizes else layer(x)
            outputs.append(x)
        return ops.concatenate(outputs, axis=-1)

    def compute_output_shape(self, input_shape):
        pool = input_shape[-1] if self.naive else self.filters_pool
        channels = self.filters_1x1 + self.filters_3x3 + self.filters_5x5 + pool
        return (*input_shape[:-1], channels)


def convolution(layer, *args, batch_normalization, name, dtype=None, **options):
    """One convolution of GoogLeNet: the layer with bias and ReLU, or with batch normalization."""
    if not batch_normalization:
        return [layer(*args, activation="relu", name=name, dtype=dtype, **options)]
    return [
        layer(*args, use_bias=False, name=name, dtype=dtype, **options),
        BatchNormalization(epsilon=1e-3, name=f"{name}_bn", dtype=dtype),
        keras.layers.ReLU(name=f"{name}_relu", dtype=dtype),
    ]
