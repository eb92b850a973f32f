"""The simplest network that segments: what PSPNet is measured against."""

from collections.abc import Sequence

import keras

from keras_psp.layers import BilinearUpsample
from keras_psp.models.backbones import build_backbone
from keras_psp.models.segmentation_model import SegmentationModel


@keras.saving.register_keras_serializable("keras_psp")
class SimpleSegmentationNet(SegmentationModel):
    """A classifier's features, one 1×1 convolution to the classes, and upsampling.

        image → backbone, not dilated → 1×1 convolution → upsampling → logits

    Its features are at 1/32 of the image. What dilation, the pyramid and the auxiliary loss of
    `PSPNet` are good for shows in what it reaches by the same recipe.

    Args:
        backbone: A name from the table (`"resnet50_deep"`, …), or a functional Keras model with its
            weights, as `PSPNet` takes it.
        num_classes: Number of classes K.
        backbone_weights: What a backbone given by name starts from: `"auto"`, `"imagenet"`, `None`
            or a file, as `PSPNet` takes it. One given as a model keeps its own weights.
        weights: File of weights of the whole model, as `load_weights` takes it. The backbone's own
            are then left out, if `"auto"`.
        fresh_head: Whether these are to leave the last layer as it was made, for other classes.
        input_shape: `(height, width, 3)`, either of which may be `None`: any size.
        name: Name of the model.

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

    def __init__(
        self,
        backbone: str | keras.Model = "resnet50_deep",
        num_classes: int = 11,
        *,
        backbone_weights: str | None = "auto",
        weights: str | None = None,
        fresh_head: bool = False,
        input_shape: Sequence[int | None] = (None, None, 3),
        name: str = "simple_segmentation_net",
    ):
        source = backbone
        if weights is not None and backbone_weights == "auto":
            backbone_weights = None
        backbone = build_backbone(
            source, weights=backbone_weights, output_stride=32, input_shape=input_shape
        )
        head = keras.layers.Conv2D(num_classes, 1, data_format="channels_last", name="head")
        upsample = BilinearUpsample(name="upsample", dtype="float32")

        image = keras.Input(input_shape, name="image")
        _, features = backbone(image)
        logits = upsample(head(features), like=image)
        super().__init__(inputs=image, outputs=logits, name=name)
        self.autocast = False
        self.backbone = backbone
        self.upsample = upsample
        self.num_classes = num_classes
        self._remember(source, backbone, weights, fresh_head)

    def call(self, inputs, training=None, mask=None):
        _, features = self.backbone(inputs, training=training)
        return self._upsampled({"logits": self.get_layer("head")(features)}, like=inputs)
