"""Cutting one map to the size of another."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_psp")
class Crop(keras.layers.Layer):
    """Cuts a map to the height and width of another one, from a row and column on.

    Args:
        **kwargs: What `keras.layers.Layer` takes.

    Call arguments:
        inputs: Tensor `(batch, height, width, channels)`.
        like: Tensor `(batch, height', width', …)` with `height' + offset <= height`, and so on.
        offset: The first row and the first column that stay.

    Output shape:
        `(batch, height', width', channels)`

    Reference:
        Caffe's layer of this name, which the authors of FCN
        ([Long et al., 2015](https://arxiv.org/abs/1411.4038)) made for their wide padding.

    Example:

    ```python
    import numpy as np
    import keras_psp

    x = np.arange(5.0).reshape(1, 1, 5, 1).repeat(5, 1)
    cropped = keras_psp.layers.Crop()(x, like=np.ones((1, 1, 3, 8)), offset=2)
    print(np.array(cropped)[0, 0, :, 0])
    ```

    ```text
    [2. 3. 4.]
    ```
    """

    def call(self, inputs, like, offset=0):
        height, width = ops.shape(like)[1:3]
        return inputs[:, offset : offset + height, offset : offset + width]

    def compute_output_shape(self, inputs_shape, like_shape):
        return (inputs_shape[0], *like_shape[1:3], inputs_shape[-1])
