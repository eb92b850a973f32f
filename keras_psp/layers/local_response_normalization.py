"""Local response normalization, as in AlexNet and GoogLeNet."""

import keras
from keras import ops

from keras_psp.signatures import FromArguments


@keras.saving.register_keras_serializable("keras_psp")
class LocalResponseNormalization(FromArguments, keras.layers.Layer):
    """Divides every value by how strongly the neighboring channels respond at its place.

        y[c] = x[c] / (bias + alpha · Σ x[d]²)^beta, over the `size` channels d around c

    At the first and last channels the sum is over fewer channels. `alpha` multiplies the sum, as in
    the paper and in TensorFlow; PyTorch and Caffe divide their alpha by `size` first.

    Args:
        size: Number of channels in the sum, odd.
        alpha: Factor on the sum.
        beta: Exponent.
        bias: Added to the sum, more than 0: the paper's k.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, channels)`

    Output shape:
        The input's.

    Raises:
        ValueError: If `size` is even.

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.3.

    Example:

    ```python
    import numpy as np
    import keras_psp

    layer = keras_psp.layers.LocalResponseNormalization(3, alpha=1.0, beta=1.0, bias=1.0)
    print(np.ravel(layer(np.array([[[[1.0, 2.0, 3.0]]]]))).round(3))  # 1/6, 2/15, 3/14
    ```

    ```text
    [0.167 0.133 0.214]
    ```
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        bias: float = 2.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if size % 2 == 0:
            raise ValueError(
                "The channels in the sum must lie evenly around their center. "
                f"Received: size={size}. Use 3, 5, 7, …"
            )
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.bias = bias

    def call(self, inputs):
        # Squares soon leave the range of half precision.
        x = ops.cast(inputs, "float32")
        channels, reach = inputs.shape[-1], self.size // 2
        squares = ops.pad(ops.square(x), [(0, 0)] * 3 + [(reach, reach)])
        total = sum(squares[..., i : i + channels] for i in range(self.size))
        return ops.cast(x * (self.bias + self.alpha * total) ** -self.beta, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape
