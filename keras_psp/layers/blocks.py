"""The blocks of every ResNet: basic and bottleneck, residual and plain, dilated or not."""

from typing import Any

import keras
from keras import ops

from keras_psp.choices import check_name
from keras_psp.layers.batch_normalization import BatchNormalization, replicas
from keras_psp.layers.convolution import PaddedConv2D
from keras_psp.signatures import FromArguments


class Block(FromArguments, keras.layers.Layer):
    """A chain of convolutions, each with batch normalization and ReLU, and a shortcut around it."""

    # Whether training computes the inside of the block again on the way back instead of keeping it.
    # It is the model's option, and the model sets it.
    gradient_checkpointing = False

    def __init__(
        self, rows, filters, strides, dilation_rate, residual, shortcut, use_bias, epsilon, **kwargs
    ):
        """A row (filters, kernel size, stride, dilation rate) for each convolution."""
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.residual = residual
        self.shortcut = check_name("shortcut", shortcut, ["A", "B"])
        self.use_bias = use_bias
        self.epsilon = epsilon
        self.convolutions, self.batch_normalizations = [], []
        for i, (width, kernel_size, stride, dilation) in enumerate(rows, 1):
            self.convolutions.append(self._conv(f"conv{i}", width, kernel_size, stride, dilation))
            self.batch_normalizations.append(self._bn(f"bn{i}"))
        # `build` makes the projection if the input's shape needs one.
        self.shortcut_conv: Any = None
        self.shortcut_bn: Any = None

    def _conv(self, name, filters, kernel_size, strides, dilation_rate):
        return PaddedConv2D(
            filters,
            kernel_size,
            strides,
            dilation_rate,
            use_bias=self.use_bias,
            kernel_initializer="he_normal",
            name=name,
            dtype=self.dtype_policy,
        )

    def _bn(self, name):
        return BatchNormalization(epsilon=self.epsilon, name=name, dtype=self.dtype_policy)

    def build(self, input_shape):
        shape = tuple(input_shape)
        for conv, bn in zip(self.convolutions, self.batch_normalizations, strict=True):
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            bn.build(shape)
        changes = self.strides != 1 or input_shape[-1] != shape[-1]
        if self.residual and changes and self.shortcut == "B":
            self.shortcut_conv = self._conv("shortcut_conv", shape[-1], 1, self.strides, 1)
            self.shortcut_conv.build(input_shape)
            self.shortcut_bn = self._bn("shortcut_bn")
            self.shortcut_bn.build(shape)
        self.built = True

    def call(self, inputs, training=None):
        if not (training and self.gradient_checkpointing):
            return self._chained(inputs, lambda bn, x: bn(x, training=training))

        def pure(inputs):
            # It runs twice, so it must change nothing: the statistics are kept outside.
            statistics: list[Any] = []

            def normalize(bn, x):
                if not bn.trainable:
                    return bn(x)
                x, mean, variance = bn.normalized(x)
                statistics.extend((mean, variance))
                return x

            return self._chained(inputs, normalize), *statistics

        if replicas() > 1:
            raise ValueError(
                "TensorFlow cannot compute a block again if replicas exchange statistics in it. "
                f"Received: gradient_checkpointing=True, {replicas()} replicas. "
                "Use keras.distribution on the JAX backend, or a smaller batch."
            )
        outputs, *statistics = keras.remat(pure)(inputs)
        normalizations = [*self.batch_normalizations, self.shortcut_bn]
        trained = [bn for bn in normalizations if bn is not None and bn.trainable]
        for i, bn in enumerate(trained):
            bn.update_statistics(*statistics[2 * i : 2 * i + 2])
        return outputs

    def _chained(self, inputs, normalize):
        x = inputs
        for i, (conv, bn) in enumerate(
            zip(self.convolutions, self.batch_normalizations, strict=True)
        ):
            x = normalize(bn, conv(ops.relu(x) if i else x))
        if not self.residual:
            return ops.relu(x)
        if self.shortcut_conv is not None:
            inputs = normalize(self.shortcut_bn, self.shortcut_conv(inputs))
        elif self.shortcut == "A":
            inputs = inputs[:, :: self.strides, :: self.strides]
            new = x.shape[-1] - inputs.shape[-1]
            inputs = ops.pad(inputs, [(0, 0), (0, 0), (0, 0), (0, new)]) if new else inputs
        return ops.relu(x + inputs)

    def compute_output_shape(self, input_shape):
        for conv in self.convolutions:
            input_shape = conv.compute_output_shape(input_shape)
        return input_shape


@keras.saving.register_keras_serializable("keras_psp")
class BasicBlock(Block):
    """Two 3×3 convolutions and a shortcut: the block of ResNet-18 and -34.

    The shortcut is the identity where the input has the output's shape.

    Args:
        filters: Channels of both convolutions and of the output.
        strides: Stride of the first convolution.
        dilation_rate: Dilation of both convolutions.
        residual: Whether there is a shortcut; `False` gives the plain net's block.
        shortcut: The kind of shortcut where the shape changes: `"B"`, a 1×1 convolution with batch
            normalization, or `"A"`, every second place and zeros in the new channels.
        use_bias: Whether the convolutions have biases.
        epsilon: Epsilon of the batch normalizations.
        second_dilation_rate: Dilation of the second convolution, if it differs.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), figure 5 left and table 1.

    Example:

    ```python
    import numpy as np
    import keras_psp

    block = keras_psp.layers.BasicBlock(128, strides=2)
    features = np.ones((1, 28, 28, 64), "float32")
    print(tuple(block(features).shape))
    ```

    ```text
    (1, 14, 14, 128)
    ```
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        dilation_rate: int = 1,
        residual: bool = True,
        shortcut: str = "B",
        use_bias: bool = False,
        epsilon: float = 1e-5,
        second_dilation_rate: int | None = None,
        **kwargs,
    ):
        rows = [
            (filters, 3, strides, dilation_rate),
            (filters, 3, 1, second_dilation_rate or dilation_rate),
        ]
        super().__init__(
            rows, filters, strides, dilation_rate, residual, shortcut, use_bias, epsilon, **kwargs
        )
        self.second_dilation_rate = second_dilation_rate


@keras.saving.register_keras_serializable("keras_psp")
class DilatedBottleneck(Block):
    """1×1, 3×3, 1×1 convolutions and a shortcut: the block of ResNet-50 and deeper.

    With a `dilation_rate` above 1 the 3×3 sees more of the image although the map keeps its size:
    in this way PSPNet keeps its features at 1/8 of the image.

    Args:
        filters: Channels of the first two convolutions; the output has four times as many.
        strides: Stride of the block.
        dilation_rate: Dilation of the 3×3 convolution.
        stride_on: The convolution that has the stride: `"3x3"` (torchvision, the PSPNet authors) or
            `"1x1"` (the ResNet paper, `keras.applications`).
        residual: Whether there is a shortcut; `False` gives a plain block.
        shortcut: The kind of shortcut where the shape changes: `"B"`, a 1×1 convolution with batch
            normalization, or `"A"`, every second place and zeros in the new channels.
        use_bias: Whether the convolutions have biases.
        epsilon: Epsilon of the batch normalizations.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), 4 * filters)`

    Raises:
        ValueError: If `stride_on` or `shortcut` is another name.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), figure 5 right and table 1;
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 3.3.

    Example:

    ```python
    import numpy as np
    import keras_psp

    block = keras_psp.layers.DilatedBottleneck(64, dilation_rate=2)
    features = np.ones((1, 30, 40, 256), "float32")
    print(tuple(block(features).shape))
    ```

    ```text
    (1, 30, 40, 256)
    ```
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        dilation_rate: int = 1,
        stride_on: str = "3x3",
        residual: bool = True,
        shortcut: str = "B",
        use_bias: bool = False,
        epsilon: float = 1e-5,
        **kwargs,
    ):
        check_name("stride_on", stride_on, ["3x3", "1x1"])
        rows = [
            (filters, 1, strides if stride_on == "1x1" else 1, 1),
            (filters, 3, strides if stride_on == "3x3" else 1, dilation_rate),
            (4 * filters, 1, 1, 1),
        ]
        super().__init__(
            rows, filters, strides, dilation_rate, residual, shortcut, use_bias, epsilon, **kwargs
        )
        self.stride_on = stride_on
