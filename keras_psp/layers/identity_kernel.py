"""Convolutions that begin by passing their input on."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_psp")
class IdentityKernel(keras.initializers.Initializer):
    """Lets a convolution begin as the identity: the middle of every kernel passes its channel on.

    Raises:
        ValueError: If the kernel has no middle, or not as many filters as its input has channels.

    Reference:
        [Yu and Koltun, 2016](https://arxiv.org/abs/1511.07122), equation 4.

    Example:

    ```python
    import numpy as np
    import keras_psp
    import keras

    start = keras_psp.layers.IdentityKernel()
    convolution = keras.layers.Conv2D(3, 3, padding="same", kernel_initializer=start)
    image, label = keras_psp.street_scene(seed=1, image_size=(48, 64))
    print(np.array_equal(convolution(image[None].astype("float32"))[0], image))
    ```

    ```text
    True
    ```
    """

    def __call__(self, shape, dtype=None):
        *sides, channels, filters = shape
        if channels != filters or any(side % 2 == 0 for side in sides):
            raise ValueError(
                "To pass its input on, a kernel needs odd sides and as many filters as channels. "
                f"Received: shape={tuple(shape)}. Use kernels of 1, 3, 5, … and filters={channels}."
            )
        kernel = np.zeros(shape)
        kernel[tuple(side // 2 for side in sides)] = np.eye(channels)
        return ops.convert_to_tensor(kernel, dtype or keras.config.floatx())
