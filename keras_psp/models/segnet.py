"""SegNet: an encoder, and a decoder that puts maxima back where they were."""

from typing import TYPE_CHECKING

import keras

from keras_psp.layers import PaddedConv2D
from keras_psp.models.mirrored_vgg import MirroredOptions, MirroredVGG
from keras_psp.signatures import passes_on

if TYPE_CHECKING:
    from typing_extensions import Unpack


@keras.saving.register_keras_serializable("keras_psp")
class SegNet(MirroredVGG):
    """SegNet: VGG without its fully connected layers, and its mirror image.

    Each pooling tells where its maxima were, and the decoder puts them back there: this costs no
    parameters and keeps borders sharp. Convolutions fill the places between.

        image → conv 64, 64 → pool ──── places ────→ unpool → conv 64, K → logits
                → conv 128, 128 → pool ──── … ────→ unpool → conv 128, 64 ─↑
                  → 256, 256, 256 → pool ── … ──→ unpool → 256, 256, 128 ─↑
                    → 512, 512, 512 → pool ─ … ─→ unpool → 512, 512, 256 ─↑
                      → 512, 512, 512 → pool ──→ unpool → 512, 512, 512 ─↑

    Every convolution is 3×3, with batch normalization and ReLU behind it, but for the last one.

    Args:
        backbone: A VGG, by its name (`"vgg16"`, `"vgg16_bn"`, `"vgg11_bn"`, …), or a functional
            Keras model of convolutions and 2×2 max poolings, such as `keras.applications.VGG16`
            without its last layers. Where it has no batch normalization, the network gets it.
        num_classes: Number of classes K.
        name: Name of the model.
        **kwargs: What every `SegmentationModel` takes: `backbone_weights`, `weights`, `fresh_head`,
            `input_shape`.

    Input shape:
        `(batch, height, width, 3)`: RGB, 0–255, integer or float. The model normalizes by itself.
        Any size: poolings round up, and each unpooling gives the size that was there before.

    Output shape:
        `(batch, height, width, num_classes)`: logits, float32.

    Raises:
        ValueError: If the backbone is no VGG, or the weights are another architecture's.

    Reference:
        [Badrinarayanan et al., 2015](https://arxiv.org/abs/1511.00561), figure 2. In the recipe the
        decoder has ten times the rate of a trained encoder: 0.1, the paper's.

    Example:

    ```python
    import keras_psp

    model = keras_psp.SegNet("vgg11_bn", num_classes=11, backbone_weights=None)
    image, label = keras_psp.street_scene(seed=1, image_size=(48, 64))
    print(model.predict(image[None], verbose=0).shape)
    ```

    ```text
    (1, 48, 64, 11)
    ```
    """

    @passes_on(MirroredVGG.__init__)
    def __init__(
        self,
        backbone: str | keras.Model = "vgg16",
        num_classes: int = 11,
        *,
        name: str = "segnet",
        **kwargs: "Unpack[MirroredOptions]",
    ):
        super().__init__(backbone, num_classes, name=name, **kwargs)

    def build_decoder(self, features):
        self.decoder = self.mirrored(features, whole=False)
        self.head = PaddedConv2D(self.num_classes, 3, kernel_initializer="he_normal", name="head")

    def decode(self, features, training=None):
        return self.head(self.decoder(features, training=training), training=training)
