"""DeconvNet: a classifier down to one place, and a mirror image of it up again."""

from typing import TYPE_CHECKING

import keras

from keras_psp.models.fully_connected import (
    convolution,
    copy_weights,
    take_weights,
    with_classifier,
)
from keras_psp.models.mirrored_vgg import MirroredOptions, MirroredVGG, normalized
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack


@keras.saving.register_keras_serializable("keras_psp")
class DeconvNet(MirroredVGG):
    """DeconvNet: VGG with its fully connected layers, and its mirror image.

    Unlike `SegNet` it goes through fc6 and fc7, which see 7×7 places of the last pooling at once,
    and the decoder has a counterpart of every layer: of fc6 a 7×7 deconvolution.

        image → VGG, 5 poolings → fc6, 7×7 → fc7, 1×1 → deconv6, 7×7 → 5 unpoolings → 1×1 → logits
                         └─────────────── places of maxima ──────────────────┘

    A deconvolution is a transposed convolution. With stride 1, that is a convolution with its
    kernel turned around, so the decoder consists of 3×3 convolutions, except for deconv6. Batch
    normalization and ReLU follow each of them, but not the last 1×1.

    Args:
        backbone: A VGG, as `SegNet` takes it. Given with its fully connected layers, or by a name
            with ImageNet weights, it also gives fc6 and fc7 their weights.
        num_classes: Number of classes K.
        fc_channels: Channels of fc6 and fc7. Those of a trained VGG have 4096.
        name: Name of the model.
        **kwargs: What every `SegmentationModel` takes: `backbone_weights`, `weights`, `fresh_head`,
            `input_shape`.

    Input shape:
        `(batch, height, width, 3)`: RGB, 0–255, integer or float, of at least 193×193 pixels: five
        poolings leave 7×7 of them. The model normalizes by itself.

    Output shape:
        `(batch, height, width, num_classes)`: logits, float32.

    Raises:
        ValueError: If the backbone is no VGG, images are too small for fc6, or the weights are
            another architecture's.

    Reference:
        [Noh et al., 2015](https://arxiv.org/abs/1505.04366), figure 2. In the recipe the decoder
        has ten times the rate of the layers up to fc7, where these are trained.

    Example:

    ```python
    import keras_psp

    options = {"fc_channels": 8, "backbone_weights": None}
    model = keras_psp.DeconvNet("vgg11_bn", num_classes=11, input_shape=(193, 224, 3), **options)
    print(model.output.shape)
    ```

    ```text
    (None, 193, 224, 11)
    ```
    """

    @passes_on(MirroredVGG.__init__)
    def __init__(
        self,
        backbone: str | keras.Model = "vgg16",
        num_classes: int = 11,
        *,
        fc_channels: int = 4096,
        name: str = "deconvnet",
        **kwargs: "Unpack[MirroredOptions]",
    ):
        self.fc_channels = fc_channels
        super().__init__(backbone, num_classes, name=name, **kwargs)

    def features(self, image, training=None):
        poolings = len(self.backbone.outputs) - 2
        smallest = 6 * 2**poolings + 1
        size = image.shape[1:3]
        if any(isinstance(side, int) and side < smallest for side in size):
            raise ValueError(
                f"fc6 sees 7×7 places, which {poolings} poolings leave of {smallest} pixels or "
                f"more. Received: images of {size[0]}×{size[1]}. Enlarge them to at least "
                f"{smallest} pixels a side, or use SegNet, which takes any size."
            )
        return super().features(image, training=training)

    def build_encoder(self, backbone, weights, input_shape):
        classifier, weights = with_classifier(backbone, weights, self.fc_channels)
        encoder = super().build_encoder(backbone, weights, input_shape)
        if classifier is not backbone:
            copy_weights(classifier, encoder)
        self.fully_connected = self._fully_connected(classifier, encoder.outputs[-1].shape[-1])
        return encoder

    def _fully_connected(self, classifier, channels):
        """fc6, fc7 and deconv6."""
        fc6 = convolution(self.fc_channels, 7, "fc6")
        fc7 = convolution(self.fc_channels, 1, "fc7")
        pooled = keras.Input((None, None, channels))
        x = normalized(fc7(normalized(fc6(pooled), "fc6")), "fc7")
        take_weights([fc6, fc7], classifier)
        with keras.name_scope("decoder"):
            deconv6 = keras.layers.Conv2DTranspose(
                channels,
                7,
                kernel_initializer="he_normal",
                data_format="channels_last",
                name="deconv6",
            )
            x = normalized(deconv6(x), "deconv6")
        return keras.Model(pooled, x, name="fully_connected")

    def build_decoder(self, features):
        self.decoder = self.mirrored(features, whole=True)
        self.head = keras.layers.Conv2D(
            self.num_classes, 1, data_format="channels_last", name="head"
        )

    def decode(self, features, training=None):
        *maps, pooled = features
        x = self.fully_connected(pooled, training=training)
        x = self.decoder([*maps, x], training=training)
        return self.head(x)

    def get_config(self):
        return {**super().get_config(), "fc_channels": self.fc_channels}
