"""The simplest network that segments: what PSPNet is measured against."""

from typing import TYPE_CHECKING

import keras

from keras_psp.models.segmentation_model import SegmentationModel, SegmentationOptions
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack


@keras.saving.register_keras_serializable("keras_psp")
class SimpleSegmentationNet(SegmentationModel):
    """A classifier's features, one 1×1 convolution to the classes, and upsampling.

        image → backbone, not dilated → 1×1 convolution → upsampling → logits

    Its features are at 1/32 of the image. What dilation, the pyramid and the auxiliary loss of
    `PSPNet` are good for shows in what it reaches by the same recipe.

    Args:
        backbone: A name from the table, such as `"resnet50"`, or a functional Keras model with its
            weights, as `PSPNet` takes it.
        num_classes: Number of classes K.
        output_stride: Stride of the features.
        name: Name of the model.
        **kwargs: What every `SegmentationModel` takes: `backbone_weights`, `weights`, `fresh_head`,
            `align_corners`, `gradient_checkpointing`, `input_shape`.

    Input shape:
        `(batch, height, width, 3)`: RGB, 0–255, integer or float. The model normalizes by itself.

    Output shape:
        `(batch, height, width, num_classes)`: logits, float32.

    Raises:
        ValueError: If there is no such backbone, or the weights are another architecture's.

    Reference:
        The lecture's project on semantic segmentation, its baseline; in essence FCN-32s of
        [Long et al., 2015](https://arxiv.org/abs/1411.4038), section 4.

    Example:

    ```python
    import numpy as np
    import keras_psp

    model = keras_psp.SimpleSegmentationNet("resnet18", backbone_weights=None)
    image = np.zeros((1, 60, 81, 3), "uint8")
    assert model.predict(image, verbose=0).shape == (1, 60, 81, 11)
    ```
    """

    @passes_on(SegmentationModel.__init__)
    def __init__(
        self,
        backbone: str | keras.Model = "resnet50",
        num_classes: int = 11,
        *,
        output_stride: int = 32,
        name: str = "simple_segmentation_net",
        **kwargs: "Unpack[SegmentationOptions]",
    ):
        super().__init__(backbone, num_classes, output_stride=output_stride, name=name, **kwargs)

    def build_decoder(self, features):
        self.head = keras.layers.Conv2D(
            self.num_classes, 1, data_format="channels_last", name="head"
        )

    def decode(self, features, training=None):
        return self.head(features["P5"])
