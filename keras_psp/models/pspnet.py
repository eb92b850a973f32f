"""PSPNet: the Pyramid Scene Parsing Network."""

from collections.abc import Sequence

import keras

from keras_psp.layers import BilinearUpsample, PyramidPooling, SegmentationHead
from keras_psp.layers.blocks import Block
from keras_psp.models.backbones import build_backbone
from keras_psp.models.segmentation_model import SegmentationModel


@keras.saving.register_keras_serializable("keras_psp")
class PSPNet(SegmentationModel):
    """The Pyramid Scene Parsing Network: any image in, class scores for each of its pixels out.

    A dilated backbone gives features at 1/8 of the image, pyramid pooling adds to every place what
    the regions around it and the whole image look like, and a head turns that into classes:

        image → backbone → pyramid pooling → head → upsampling → logits
                   └──────→ auxiliary head (in training only)

    Args:
        backbone: A name from the table `keras_psp.models.BACKBONES` (`"resnet18"` … `"resnet269"`,
            each also `_deep`: the stem of the PSPNet authors, or `_v1c`: OpenMMLab's; `"vgg16"`,
            `"googlenet"`, …), or a functional Keras model with its weights (from
            `keras.applications`, KerasHub, KerasCV, your own), which is copied and dilated. What it
            wants done to an image is found out, or a warning says how to say it: see
            `build_backbone`.
        num_classes: Number of classes K.
        backbone_weights: What a backbone given by name starts from: `"auto"` (ImageNet where
            weights can be had, otherwise random values and a warning that says why), `"imagenet"`
            (those or an error), `None` (random values), or a file. A backbone given as a model
            keeps its own weights: `"auto"` and `None` leave them as they are, and anything else
            is an error.
        weights: Weights of the whole model, as `load_weights` takes them: a file of ours or of
            somebody else's, or a name such as `"cityscapes"`. The backbone's own are then left out,
            if `"auto"`.
        fresh_head: Whether these are to leave the last layers as they were made, for other classes:
            the beginning of fine-tuning.
        output_stride: Stride of the features: 8 (the paper's), 16 or 32.
        bins: Cells a side of each pyramid level; `()` leaves the pyramid out.
        dropout: Share of the heads' channels dropped in training, 0–1.
        auxiliary_weight: Weight of the auxiliary loss on the last stage but one; 0 leaves the
            auxiliary head out.
        align_corners: How the pyramid and the logits are upsampled, see `BilinearUpsample`: with
            aligned corners (the paper's way), or with half-pixel centers (most of
            mmsegmentation's).
        recompute: Whether training keeps of a ResNet's blocks only what goes into them, and
            computes the rest again on the way back: about half of the memory, a quarter more time.
        input_shape: `(height, width, 3)`, either of which may be `None`: any size.
        name: Name of the model.

    Input shape:
        `(batch, height, width, 3)`: RGB, 0–255, integer or float. The model normalizes by itself.

    Output shape:
        `(batch, height, width, num_classes)`: logits, float32.

    Raises:
        ValueError: If there is no such backbone, it cannot be brought to the output stride, the
            weights are another architecture's, or it has no blocks to `recompute`.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), figure 3, and the authors' PyTorch
        code for the details. The widths of the heads are a quarter of their features' channels,
        which for ResNet-50 and deeper gives the authors' 512 and 256.
        [Chen et al., 2016](https://arxiv.org/abs/1604.06174) for `recompute`.

    Example:

    ```python
    import numpy as np
    import keras_psp

    model = keras_psp.PSPNet(backbone="resnet18", num_classes=11, backbone_weights=None)
    image = np.zeros((1, 60, 81, 3), "uint8")
    assert model.predict(image, verbose=0).shape == (1, 60, 81, 11)
    ```
    """

    def __init__(
        self,
        backbone: str | keras.Model = "resnet50",
        num_classes: int = 11,
        *,
        backbone_weights: str | None = "auto",
        weights: str | None = None,
        fresh_head: bool = False,
        output_stride: int = 8,
        bins: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        auxiliary_weight: float = 0.4,
        align_corners: bool = True,
        recompute: bool = False,
        input_shape: Sequence[int | None] = (None, None, 3),
        name: str = "pspnet",
    ):
        source = backbone
        if weights is not None and backbone_weights == "auto":
            backbone_weights = None
        backbone = build_backbone(
            source, weights=backbone_weights, output_stride=output_stride, input_shape=input_shape
        )
        early, late = (features.shape[-1] for features in backbone.outputs)
        if recompute:
            _recompute(backbone)

        pyramid_pooling = None
        if bins:
            pyramid_pooling = PyramidPooling(
                bins, align_corners=align_corners, upsample=False, name="pyramid_pooling"
            )
        head = SegmentationHead(late // 4, num_classes, dropout, align_corners, name="head")
        auxiliary_head = None
        if auxiliary_weight:
            auxiliary_head = SegmentationHead(
                early // 4, num_classes, dropout, name="auxiliary_head"
            )
            auxiliary_head.build(backbone.outputs[0].shape)
        # Logits at full size are what a loss or an argmax works on: always in full precision.
        upsample = BilinearUpsample(align_corners=align_corners, name="upsample", dtype="float32")

        image = keras.Input(input_shape, name="image")
        logits = upsample(
            _small_logits(image, backbone, pyramid_pooling, head)["logits"], like=image
        )
        super().__init__(inputs=image, outputs=logits, name=name)
        self.autocast = False
        self.backbone = backbone
        self.pyramid_pooling = pyramid_pooling
        self.head = head
        self.auxiliary_head = auxiliary_head
        self.upsample = upsample

        self.num_classes = num_classes
        self.output_stride = output_stride
        self.bins = tuple(bins)
        self.dropout = dropout
        self.auxiliary_weight = auxiliary_weight
        self.align_corners = align_corners
        self.recompute = recompute
        self._remember(source, backbone, weights, fresh_head)

    def call(self, inputs, training=None, mask=None):
        parts = self.backbone, self.pyramid_pooling, self.head
        auxiliary_head = self.auxiliary_head if training else None
        small = _small_logits(inputs, *parts, auxiliary_head, training)
        return self._upsampled(small, like=inputs)

    def get_config(self):
        return {
            **super().get_config(),
            "output_stride": self.output_stride,
            "bins": self.bins,
            "dropout": self.dropout,
            "auxiliary_weight": self.auxiliary_weight,
            "align_corners": self.align_corners,
            "recompute": self.recompute,
        }


def _recompute(backbone):
    blocks = [layer for layer in backbone.layers if isinstance(layer, Block)]
    if not blocks:
        raise ValueError(
            "What is computed again are the blocks of this package's ResNets. "
            f"Received: recompute=True, backbone={backbone.name} without such blocks. Take a "
            'ResNet such as "resnet50", or smaller batches.'
        )
    for block in blocks:
        block.gradient_checkpointing = True


def _small_logits(image, backbone, pyramid_pooling, head, auxiliary_head=None, training=None):
    early, late = backbone(image, training=training)
    features = pyramid_pooling(late, training=training) if pyramid_pooling else late
    logits = {"logits": head(features, training=training)}
    if auxiliary_head is not None:
        logits["auxiliary"] = auxiliary_head(early, training=training)
    return logits
