"""Dilation8: a dilated front end, and a module that looks at its scores in context."""

from typing import TYPE_CHECKING

import keras

from keras_psp.choices import check_name
from keras_psp.layers import DilatedMaxPooling2D, IdentityKernel, ReflectPadding2D
from keras_psp.models.classifier import Classifier
from keras_psp.models.fully_connected import copy_weights, fully_connected, with_classifier
from keras_psp.models.segmentation_model import SegmentationModel, SegmentationOptions
from keras_psp.signatures import passes_on
from keras_psp.surgery.graph import walk

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Table 1, basic: dilation of the 3×3 convolutions. A cell behind them sees 3, 5, 9, 17, 33, 65 and
# 67 scores a side. The last layer is a 1×1.
CONTEXT = (1, 1, 2, 4, 8, 16, 1)

_LAST = {"data_format": "channels_last"}


@keras.saving.register_keras_serializable("keras_psp")
class Dilation8(SegmentationModel):
    """A dilated front end, and a context module of convolutions that are dilated more and more.

        image → backbone at 1/8 → fc6 → fc7 → scores → context module → upsampling → logits

    The front end is a classifier whose late strides became dilation. Max poolings that lost their
    stride in this way are left out, as the authors do with VGG's fourth; its fifth is behind the
    last stage anyway. The context module has as many channels as there are classes, and begins as
    the identity.

    Args:
        backbone: A name from the table `keras_psp.models.BACKBONES`, such as the paper's
            `"vgg16"`, or a functional Keras model with its weights.
        num_classes: Number of classes K.
        context: Whether there is a context module; without it, this is the front end alone.
            `weights=` of a trained front end start the whole network, as in the paper. From random
            values some runs never learn most of the classes.
        fc_channels: Channels of fc6 and fc7. VGG's trained weights have 4096.
        dropout: Share of values dropped behind fc6 and fc7 in training, 0–1.
        padding: `"same"`; or `"paper"`, the authors': the image is padded with 186 pixels of its
            mirror images, and no convolution of the front end is.
        output_stride: Stride of the features: 8 (the paper's), 16 or 32.
        name: Name of the model.
        **kwargs: What every `SegmentationModel` takes: `backbone_weights`, `weights`, `fresh_head`,
            `align_corners`, `gradient_checkpointing`, `input_shape`. fc6 and fc7 are VGG's fully
            connected layers as convolutions, with their trained weights if the backbone is a VGG
            with ImageNet's, or a model that has them. Elsewhere they are random.

    Input shape:
        `(batch, height, width, 3)`: RGB, 0–255, integer or float. The model normalizes by itself.

    Output shape:
        `(batch, height, width, num_classes)`: logits, float32.

    Raises:
        ValueError: If there is no such backbone, it cannot be brought to the output stride, the
            weights are another architecture's, or the authors' padding is for no such backbone.

    Reference:
        [Yu and Koltun, 2016](https://arxiv.org/abs/1511.07122), sections 3 and 4, table 1.

    Example:

    ```python
    import keras_psp

    model = keras_psp.Dilation8("resnet18", fc_channels=64, backbone_weights=None)
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
        context: bool = True,
        fc_channels: int = 4096,
        dropout: float = 0.5,
        padding: str = "same",
        output_stride: int = 8,
        name: str = "dilation8",
        **kwargs: "Unpack[SegmentationOptions]",
    ):
        self.context = context
        self.fc_channels = fc_channels
        self.dropout = dropout
        self.padding = check_name("padding", padding, ("same", "paper"))
        super().__init__(backbone, num_classes, output_stride=output_stride, name=name, **kwargs)

    def build_encoder(self, backbone, weights, input_shape):
        classifier, weights = with_classifier(backbone, weights, self.fc_channels)
        encoder = super().build_encoder(backbone, weights, input_shape)
        if classifier is not backbone:
            copy_weights(classifier, encoder)
        self.fully_connected = fully_connected(
            classifier,
            encoder.output["P5"].shape[-1],
            self.fc_channels,
            padding="same" if self.padding == "same" else "valid",
            # It sees what it saw at 1/32, when it classified.
            dilation_rate=32 // self.output_stride,
            dropout=self.dropout,
        )
        return _front_end(encoder, self.padding == "paper")

    def build_decoder(self, features):
        # Not from zero: the module's ReLUs pass no gradient there.
        self.head = keras.layers.Conv2D(self.num_classes, 1, name="head", **_LAST)
        if self.context:
            rows = [(3, rate, "relu") for rate in CONTEXT] + [(1, 1, None)]
            layers = [
                keras.layers.Conv2D(
                    self.num_classes,
                    kernel_size,
                    padding="same",
                    dilation_rate=rate,
                    activation=activation,
                    kernel_initializer=IdentityKernel(),
                    name=f"layer{i}",
                    **_LAST,
                )
                for i, (kernel_size, rate, activation) in enumerate(rows, 1)
            ]
            scores = keras.Input((None, None, self.num_classes))
            self.context_module = keras.Sequential([scores, *layers], name="context")

    def decode(self, features, training=None):
        x = self.fully_connected(features["P5"], training=training)
        x = self.head(x)
        return self.context_module(x) if self.context else x

    def get_config(self):
        own = ("context", "fc_channels", "dropout", "padding")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _front_end(encoder: keras.Model, mirrored: bool) -> keras.Model:
    """The encoder without the max poolings that have no stride any more, padded as the authors do
    if `mirrored`."""

    def visit(operation, *args, **kwargs):
        pools = isinstance(operation, keras.layers.MaxPooling2D | DilatedMaxPooling2D)
        if pools and getattr(operation, "strides", (1, 1)) == (1, 1):
            return args[0]
        if mirrored and isinstance(operation, keras.layers.Conv2D):
            operation.padding = "valid"
        return operation(*args, **kwargs)

    image = x = keras.Input(encoder.inputs[0].shape[1:], name="image")
    if mirrored:
        x = ReflectPadding2D(186, multiple=8, name="reflect_padding", dtype="float32")(x)
    own = {key: getattr(encoder, key) for key in ("variant", "initial_weights", "name")}
    model = Classifier(image, walk(encoder, visit, x), **own)
    # VGG-16 leaves 1 cell of 8 pixels, and the 24 around it that fc6 takes.
    if mirrored and model.compute_output_shape((1, 8, 8, 3))["P5"][1] != 25:
        raise ValueError(
            "The authors' padding is what the convolutions of VGG-16 take at 1/8 of the image. "
            f"Received: padding='paper', backbone={encoder.name}. Use padding='same'."
        )
    return model
