"""FCN: the fully convolutional network, a classifier that segments."""

from typing import TYPE_CHECKING, Any

import keras

from keras_psp.choices import check_name
from keras_psp.layers import BilinearUpsample, Crop, SegmentationHead
from keras_psp.models.fcn_parts import (
    PADDINGS,
    check_parts,
    pooling,
    scores,
    upscores,
    with_wide_padding,
)
from keras_psp.models.fully_connected import copy_weights, fully_connected, with_classifier
from keras_psp.models.segmentation_model import SegmentationModel, UnalignedOptions
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Stage, layer of its scores, layer that upsamples what is added to them, scale of the stage where
# all is trained at once, and where the authors crop the scores.
_POOL4 = ("P4", "score_pool4", "upscore2", 0.01, 5)
_POOL3 = ("P3", "score_pool3", "upscore_pool4", 0.0001, 9)
# Stride of the finest scores → skips, and where the authors crop the logits.
_STRIDES: dict = {32: ((), 19), 16: ((_POOL4,), 27), 8: ((_POOL4, _POOL3), 31)}


@keras.saving.register_keras_serializable("keras_psp")
class FCN(SegmentationModel):
    """The fully convolutional network: a classifier's deepest map, scored, and finer scores added.

        image → P3 ──────→ P4 ──────→ P5 → head → scores at 1/32
                │          └─ 1×1 ─────────→ + ← 2× ─┘       FCN-16s
                └─ 1×1 ────────────────────→ + ← 2× ┘        FCN-8s
                                             └─→ 8× → logits

    The three maps are at 1/8, 1/16 and 1/32 of the image. In most backbones these are the stages.
    Those of VGG and AlexNet, which end before their pooling, are at 1/4, 1/8 and 1/16; behind them
    comes a 2×2 max pooling: the paper's pool3, pool4 and pool5.

    Args:
        backbone: A name from `keras_psp.models.BACKBONES`, or a functional Keras model.
        num_classes: Number of classes K.
        stride: Stride of the finest scores: 32, 16 or 8 for FCN-32s, 16s or 8s. `weights=` of an
            FCN-32s may start a 16s, those of a 16s an 8s: the new scores start from zero.
        head: What makes scores of the deepest map. `"fc"`: VGG's fully connected layers as
            convolutions, fc6 (7×7) and fc7 (1×1), and a 1×1 to the classes. They have the trained
            weights of a VGG, by its name or given with these layers; elsewhere they are random.
            `"convolution"`: torchvision's, a 3×3 to a quarter of the channels, batch normalization,
            and a 1×1. `"linear"`: the 1×1 alone.
        fc_channels: Channels of fc6 and fc7. VGG's trained weights have 4096.
        padding: `"same"`; or `"paper"`, the authors': VGG begins with a padding of 100 pixels and
            pools what is left at borders, scores are cropped, images BGR minus the authors' mean.
        upsampling: `"bilinear"`, or `"learned"`: transposed convolutions that start as bilinear.
            The authors' padding has them in both cases, and keeps them bilinear in the first.
        at_once: Whether pool4 and pool3 are scaled by 0.01 and 0.0001, to train an 8s in one run.
            Otherwise train 32s, 16s and 8s, each from the one before.
        output_stride: Stride of the backbone: 32, or, without skips, fc6 and fc7, 16 or 8.
            torchvision's network is `FCN("resnet50_torchvision", 21, head="convolution",
            output_stride=8, auxiliary_weight=0.5)`.
        dropout: Share of values dropped in training, 0–1; by default 0.5, in torchvision's 0.1.
        auxiliary_weight: Weight of the loss of torchvision's auxiliary head on `"P4"`.
        align_corners: How scores are upsampled, see `BilinearUpsample`.
        name: Name of the model.
        **kwargs: What every `SegmentationModel` takes: `backbone_weights`, `weights`, `fresh_head`,
            `gradient_checkpointing`, `input_shape`.

    Input shape:
        `(batch, height, width, 3)`: RGB, 0–255, integer or float. The model normalizes by itself.

    Output shape:
        `(batch, height, width, num_classes)`: logits, float32.

    Raises:
        ValueError: If arguments do not go together, stages are too few, or weights do not fit.

    Reference:
        Long et al., [2015](https://arxiv.org/abs/1411.4038), figure 3, and, for `at_once`,
        [2017](https://arxiv.org/abs/1605.06211).

    Example:

    ```python
    import keras_psp

    model = keras_psp.FCN("resnet18", stride=8, fc_channels=64, backbone_weights=None)
    image, label = keras_psp.street_scene(seed=1, image_size=(48, 64))
    print(model.predict(image[None], verbose=0).shape)
    ```

    ```text
    (1, 48, 64, 11)
    ```
    """

    @passes_on(SegmentationModel.__init__)
    def __init__(
        self,
        backbone: str | keras.Model = "vgg16",
        num_classes: int = 11,
        *,
        stride: int = 32,
        head: str = "fc",
        fc_channels: int = 4096,
        padding: str = "same",
        upsampling: str = "bilinear",
        at_once: bool = False,
        output_stride: int = 32,
        dropout: float | None = None,
        auxiliary_weight: float = 0.0,
        align_corners: bool = False,
        name: str = "fcn",
        **kwargs: "Unpack[UnalignedOptions]",
    ):
        self.stride = stride
        self.head = check_name("head", head, ("fc", "convolution", "linear"))
        self.fc_channels = fc_channels
        self.padding = check_name("padding", padding, ("same", "paper"))
        self.upsampling = check_name("upsampling", upsampling, ("bilinear", "learned"))
        self.at_once = at_once
        self.dropout = dropout
        self.auxiliary_weight = auxiliary_weight
        check_parts(backbone, stride, head, padding, output_stride, auxiliary_weight)
        self._skips, self._offset = _STRIDES[stride]
        stages = {stage for stage, *_ in self._skips} | ({"P4"} if auxiliary_weight else set())
        self.stages = (*sorted(stages), "P5")
        own: Any = {"output_stride": output_stride, "align_corners": align_corners, "name": name}
        super().__init__(backbone, num_classes, **own, **kwargs)

    def build_encoder(self, backbone, weights, input_shape):
        filters = self.fc_channels if self.head == "fc" else None
        classifier, weights = with_classifier(backbone, weights, filters)
        encoder = super().build_encoder(backbone, weights, input_shape)
        if classifier is not backbone:
            copy_weights(classifier, encoder)
        if self.padding == "paper":
            encoder = with_wide_padding(encoder)
        if self.head == "fc":
            self.fully_connected = fully_connected(
                classifier,
                encoder.output["P5"].shape[-1],
                self.fc_channels,
                padding=PADDINGS[self.padding],
                dropout=0.5 if self.dropout is None else self.dropout,
            )
        return encoder

    def build_decoder(self, features):
        channels = {stage: x.shape[-1] for stage, x in features.items()}
        rate = 0.1 if self.dropout is None else self.dropout
        way = self.num_classes, self.padding, self.upsampling == "learned"
        self.pool = pooling(self.backbone, self.output_stride)
        self.score = scores(self.num_classes, "head")
        if self.head == "convolution":
            self.score = SegmentationHead(channels["P5"] // 4, self.num_classes, rate, name="head")
        for _, score, upscore, _, _ in self._skips:
            setattr(self, score, scores(self.num_classes, score))
            setattr(self, upscore, upscores(2, *way, upscore))
        factor = min(self.stride, self.output_stride)
        self.upscore = upscores(factor, *way, f"upscore{factor}")
        if self.padding == "paper":
            self.crop = Crop(name="crop")
        elif self._skips:
            self.resize = BilinearUpsample(align_corners=self.align_corners, name="resize")
        if self.auxiliary_weight:
            early = channels["P4"] // 4, self.num_classes, rate
            self.auxiliary_head = SegmentationHead(*early, name="auxiliary_head")

    def features(self, image, training=None):
        features = super().features(image, training=training)
        # With the wide padding, the maps alone do not tell how large the image is.
        return {**features, "image": image} if self.padding == "paper" else features

    def decode(self, features, training=None):
        # Figure 3: the deepest scores are upsampled and added to those of pool4, these to those of
        # pool3. The authors' padding makes the finer ones larger, and so they are cropped.
        x = self.pool(features["P5"])
        if self.head == "fc":
            x = self.fully_connected(x, training=training)
        x = self.score(x, training=training)
        for stage, score, upscore, scale, offset in self._skips:
            pooled = self.pool(features[stage])
            fine = getattr(self, score)(pooled * scale if self.at_once else pooled)
            x = getattr(self, upscore)(x)
            if self.padding == "paper":
                x = x + self.crop(fine, like=x, offset=offset)
            else:
                x = self.resize(x, like=fine) + fine
        x = self.upscore(x)
        if self.padding == "paper":
            x = self.crop(x, like=features["image"], offset=self._offset)
        return x

    def decode_auxiliary(self, features, training=None):
        return self.auxiliary_head(features["P4"], training=training)

    def get_config(self):
        own = "stride head fc_channels padding upsampling at_once dropout auxiliary_weight"
        return {**super().get_config(), **{name: getattr(self, name) for name in own.split()}}
