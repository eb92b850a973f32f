"""From an image to the numbers that a backbone's weights were trained on."""

import keras
from keras import ops

from keras_psp import imagenet
from keras_psp.choices import check_name
from keras_psp.signatures import FromArguments

# "caffe" networks want BGR, and no division by the deviation.
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_FCN_MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
NORMALIZATIONS = {
    "torch": {"mean": imagenet.MEAN, "deviation": imagenet.DEVIATION, "bgr": False},
    "caffe": {"mean": _CAFFE_MEAN_BGR, "deviation": (1.0, 1.0, 1.0), "bgr": True},
    "fcn": {"mean": _FCN_MEAN_BGR, "deviation": (1.0, 1.0, 1.0), "bgr": True},
    "tf": {"mean": (127.5,) * 3, "deviation": (127.5,) * 3, "bgr": False},
    "none": {"mean": (0.0,) * 3, "deviation": (1.0,) * 3, "bgr": False},
}


@keras.saving.register_keras_serializable("keras_psp")
class ImageNormalization(FromArguments, keras.layers.Layer):
    """Normalizes RGB images, 0–255, as a backbone's weights need it.

    Args:
        mode: `"torch"` (minus ImageNet's mean, divided by its deviation), `"caffe"` (BGR, minus the
            mean), `"fcn"` (the same by the mean of FCN's authors), `"tf"` (−1 … 1) or `"none"`
            (0–255, unchanged). The other names are those of
            `keras.applications.imagenet_utils.preprocess_input`.
        **kwargs: What `keras.layers.Layer` takes.

    Input shape:
        `(batch, height, width, 3)`, RGB, 0–255, integer or float.

    Output shape:
        The input's.

    Raises:
        ValueError: If there is no such mode, or the images do not have three channels.

    Example:

    ```python
    import numpy as np
    import keras_psp

    white = np.full((1, 1, 1, 3), 255, "uint8")
    for weights in ("tf", "torch"):
        print(weights, np.ravel(keras_psp.layers.ImageNormalization(weights)(white)).round(2))
    ```

    ```text
    tf [1. 1. 1.]
    torch [2.25 2.43 2.64]
    ```
    """

    def __init__(self, mode: str = "torch", **kwargs):
        # Half precision would blur the image itself before the first layer sees it.
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.mode = check_name("normalization", mode, NORMALIZATIONS)

    def call(self, inputs):
        # Otherwise one channel would silently become three equal ones.
        if inputs.shape[-1] not in (3, None):
            raise ValueError(
                "Images are RGB, (batch, height, width, 3). "
                f"Received: images of shape {tuple(inputs.shape)}. Repeat the channel of grayscale "
                "images three times; leave out a channel of transparency."
            )
        row = NORMALIZATIONS[self.mode]
        x = ops.cast(inputs, "float32")
        if row["bgr"]:
            x = ops.flip(x, axis=-1)
        mean, deviation = ops.array(row["mean"], "float32"), ops.array(row["deviation"], "float32")
        return (x - mean) / deviation

    def compute_output_shape(self, input_shape):
        return input_shape
