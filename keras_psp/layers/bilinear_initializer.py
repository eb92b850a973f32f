"""Transposed convolutions that begin as bilinear interpolation."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_psp")
class Bilinear(keras.initializers.Initializer):
    """Lets a transposed convolution begin as bilinear upsampling, every channel by itself.

    `Conv2DTranspose(channels, 2 * factor, factor, use_bias=False, kernel_initializer=Bilinear())`
    then upsamples by exactly `factor`, with half-pixel centers and zeros outside of the map. With
    `padding="same"` the output is `factor` times as large; with `"valid"` it has `factor / 2` more
    on each side, which fade to zero.

    Raises:
        ValueError: If the kernel is not square, or has other channels than its inputs.

    Reference:
        [Long et al., 2015](https://arxiv.org/abs/1411.4038), section 3.3.

    Example:

    ```python
    import numpy as np
    import keras_psp
    import keras

    x = np.array([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1)
    options = {"padding": "same", "use_bias": False}
    options["kernel_initializer"] = keras_psp.layers.Bilinear()
    upsample = keras.layers.Conv2DTranspose(1, (4, 4), 2, **options)
    # The only row has zeros above and below.
    print((np.array(upsample(x))[0, 0, 1:-1, 0] / 0.75).round(2))
    ```

    ```text
    [1.25 1.75 2.5  3.5 ]
    ```
    """

    def __call__(self, shape, dtype=None):
        height, width, outputs, inputs = shape
        if height != width or outputs != inputs:
            raise ValueError(
                "A bilinear kernel is square, and keeps every channel to itself. "
                f"Received: shape={tuple(shape)}. Use as many filters as the input has channels."
            )
        factor = (height + 1) // 2
        distances = np.abs(np.arange(height) - (height - 1) / 2) / factor
        weights = 1 - distances
        square = weights[:, None] * weights[None, :]
        kernel = square[:, :, None, None] * np.eye(outputs)
        return ops.convert_to_tensor(kernel, dtype or keras.config.floatx())
