"""PSPNet: the Pyramid Scene Parsing Network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_psp.layers import PyramidPooling, SegmentationHead
from keras_psp.models.segmentation_model import SegmentationModel, SegmentationOptions
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack


@keras.saving.register_keras_serializable("keras_psp")
class PSPNet(SegmentationModel):
    """The Pyramid Scene Parsing Network: any image in, class scores for each of its pixels out.

    A dilated backbone gives features at 1/8 of the image, pyramid pooling adds to every place what
    the regions around it and the whole image look like, and a head turns that into classes:

        image → backbone → pyramid pooling → head → upsampling → logits
                   └──────→ auxiliary head (in `fit` only)

    Args:
        backbone: A name from the table `keras_psp.models.BACKBONES`, such as `"resnet50"`, or a
            functional Keras model with its weights.
        num_classes: Number of classes K.
        output_stride: Stride of the features: 8 (the paper's), 16 or 32.
        bins: Cells a side of each pyramid level; `()` leaves the pyramid out.
        pooling: What a cell has of its features: their `"average"` (the paper's) or their `"max"`.
        dropout: Share of the heads' channels dropped in training, 0–1.
        auxiliary_weight: Weight of the auxiliary loss on the last stage but one; 0 leaves the
            auxiliary head out. The head trains where `fit` is called on this model. Where the model
            is a part of another, the other model does not know of it: its weights stay as they
            are, and Keras warns that they have no gradients.
        name: Name of the model.
        **kwargs: What every `SegmentationModel` takes: `backbone_weights`, `weights`, `fresh_head`,
            `align_corners`, `gradient_checkpointing`, `input_shape`.

    Input shape:
        `(batch, height, width, 3)`: RGB, 0–255, integer or float. The model normalizes by itself.

    Output shape:
        `(batch, height, width, num_classes)`: logits, float32.

    Raises:
        ValueError: If there is no such backbone, it cannot be brought to the output stride, the
            weights are another architecture's, or it has no blocks for `gradient_checkpointing`.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), figure 3, and the authors' PyTorch
        code for the details. The widths of the heads are a quarter of their features' channels,
        which for ResNet-50 and deeper gives the authors' 512 and 256.

    Example:

    ```python
    import keras_psp

    train, val = keras_psp.load_street_scenes(["train", "val"], (48, 64), 4, num_images=8)
    model = keras_psp.PSPNet(backbone="resnet18", num_classes=11, backbone_weights=None)
    model.fit(train, validation_data=val, epochs=1, verbose=0)  # by the paper's recipe

    image, label = keras_psp.street_scene(seed=1, image_size=(60, 81))
    print(model.predict(image[None], verbose=0).shape)
    ```

    ```text
    (1, 60, 81, 11)
    ```
    """

    stages = ("P4", "P5")
    pyramid_pooling: PyramidPooling | None
    auxiliary_head: Any

    @passes_on(SegmentationModel.__init__)
    def __init__(
        self,
        backbone: str | keras.Model = "resnet50",
        num_classes: int = 11,
        *,
        output_stride: int = 8,
        bins: Sequence[int] = (1, 2, 3, 6),
        pooling: str = "average",
        dropout: float = 0.1,
        auxiliary_weight: float = 0.4,
        name: str = "pspnet",
        **kwargs: "Unpack[SegmentationOptions]",
    ):
        self.bins = tuple(bins)
        self.pooling = pooling
        self.dropout = dropout
        self.auxiliary_weight = auxiliary_weight
        super().__init__(backbone, num_classes, output_stride=output_stride, name=name, **kwargs)

    def build_decoder(self, features):
        early, late = (features[stage].shape[-1] for stage in self.stages)
        self.pyramid_pooling = self.auxiliary_head = None
        if self.bins:
            self.pyramid_pooling = PyramidPooling(
                self.bins,
                align_corners=self.align_corners,
                upsample=False,
                pooling=self.pooling,
                name="pyramid_pooling",
            )
        self.head = SegmentationHead(
            late // 4, self.num_classes, self.dropout, self.align_corners, name="head"
        )
        if self.auxiliary_weight:
            self.auxiliary_head = SegmentationHead(
                early // 4, self.num_classes, self.dropout, name="auxiliary_head"
            )

    def decode(self, features, training=None):
        # Figure 3c: the features are averaged over 1×1, 2×2, 3×3 and 6×6 cells, each level has a
        # 1×1 convolution, is upsampled, and all are concatenated with the features. Figure 3d: a
        # 3×3 convolution of that, and a 1×1 to the classes. Upsampling and the 3×3 convolution are
        # both linear, so the head does them in one, on the few cells: see `PyramidConv2D`.
        x = features["P5"]
        if self.pyramid_pooling is not None:
            x = self.pyramid_pooling(x, training=training)
        return self.head(x, training=training)

    def decode_auxiliary(self, features, training=None):
        return self.auxiliary_head(features["P4"], training=training)

    def get_config(self):
        return {
            **super().get_config(),
            "bins": self.bins,
            "pooling": self.pooling,
            "dropout": self.dropout,
            "auxiliary_weight": self.auxiliary_weight,
        }
