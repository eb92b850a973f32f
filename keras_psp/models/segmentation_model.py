"""What every segmentation model has in common: how it is built, trained, scored and saved."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import keras
from keras import ops

from keras_psp.checked import ChecksArguments
from keras_psp.data.each_batch import only_tensor
from keras_psp.keras_internals import add_layers, compiled_loss, layers_in
from keras_psp.labels import ClassList
from keras_psp.layers.batch_normalization import at_least_one_image
from keras_psp.layers.bilinear_upsample import BilinearUpsample, upsampled_argmax
from keras_psp.layers.blocks import Block
from keras_psp.layers.products import PREDICTING
from keras_psp.models.backbones import build_backbone
from keras_psp.models.recipe import RecipeModel
from keras_psp.models.training import check_not_hdf5
from keras_psp.signatures import explains_other_names
from keras_psp.weights.loading import load_weights


class UnalignedOptions(TypedDict, total=False):
    """What networks pass on to `SegmentationModel` that do not align corners, for editors."""

    backbone_weights: str | os.PathLike[str] | None
    weights: str | os.PathLike[str] | None
    fresh_head: bool
    gradient_checkpointing: bool
    input_shape: Sequence[int | None]


class SegmentationOptions(UnalignedOptions, total=False):
    """The same, of those that do unless asked not to."""

    align_corners: bool


class SegmentationModel(ChecksArguments, RecipeModel):
    """The base of the segmentation networks: any image in, class scores for each pixel out.

        image → features → decode → upsampling → logits

    A network says in `build_decoder` which layers it has behind its backbone, and in `decode` how
    they make logits of the backbone's maps. Building, weights, training by the paper's recipe and
    files are here. A copy is `type(model).from_config(model.get_config())`, with the weights set;
    `keras.models.clone_model` gives a plain functional model, without recipe and auxiliary head.

    Args:
        backbone: A name from the table `keras_psp.models.BACKBONES` (`"resnet18"` … `"resnet269"`,
            each also `_deep`: the stem of the PSPNet authors, or `_v1c`: OpenMMLab's;
            `"resnet18_stage2"`: its first stages; `"vgg16"`, `"googlenet"`, …), or a functional
            Keras model with its weights (from `keras.applications`, KerasHub, KerasCV, your own),
            which is copied and dilated. Preprocessing is detected; where it cannot be, a warning
            tells you how to set it: see `build_backbone`.
        num_classes: Number of classes K.
        backbone_weights: What a backbone given by name starts from: `"auto"` (ImageNet where
            weights can be had, otherwise random values and a warning that says why), `"imagenet"`
            (those or an error), `None` (random values), or a file. A backbone given as a model
            keeps its own weights: `"auto"` and `None` leave them as they are, and anything else
            is an error.
        weights: Weights of the whole model, as `load_weights` takes them: a file of ours or of
            somebody else's, or the name of a preset. With them, `"auto"` loads no weights for the
            backbone alone. `from_preset` also builds what the weights are of.
        fresh_head: Whether `weights` leave the last layers as they were made, for other classes:
            the beginning of fine-tuning.
        output_stride: Stride of the deepest features: 8, 16 or 32; less where the backbone has
            less.
        align_corners: How logits are upsampled, see `BilinearUpsample`: with aligned corners
            (PSPNet's way), or with half-pixel centers (most of mmsegmentation's).
        gradient_checkpointing: Whether training keeps of a ResNet's blocks only what goes into
            them, and computes the rest again on the way back: about half of the memory, a quarter
            more time.
        input_shape: `(height, width, 3)`, either of which may be `None`: any size.
        name: Name of the model.

    Attributes:
        stages: Of a class: the backbone's maps that `features` gives, see `build_backbone`.
        auxiliary_weight: Weight of the loss of the auxiliary head; 0 if there is none.
        initial_weights: What the model started from, in words: "random values" and why, or what
            `backbone_weights`, `weights` or `keras_psp.load_weights` loaded. It travels with a
            saved model. Keras' own `load_weights`, which puts back what the same model has learned,
            leaves it as it is.
        classes: Names and colors of the classes, or `None` where nobody named them. They come with
            a preset, a run or a saved model, or from the data of the first `fit`.

    Raises:
        ValueError: If there is no such backbone, it cannot be brought to the output stride, the
            weights are another architecture's, or it has no blocks for `gradient_checkpointing`.

    Reference:
        [Chen et al., 2016](https://arxiv.org/abs/1604.06174) for `gradient_checkpointing`.

    Example: (a network of one's own)

    ```python
    import keras_psp
    import keras

    class Stride16(keras_psp.models.SegmentationModel):
        stages = ("P4",)

        def build_decoder(self, features):
            self.head = keras.layers.Conv2D(self.num_classes, 3, padding="same", name="head")

        def decode(self, features, training=None):
            return self.head(features["P4"])

    model = Stride16("resnet18", num_classes=11, backbone_weights=None, output_stride=32)
    ```
    """

    stages: Sequence[str] = ("P5",)
    auxiliary_weight: float = 0.0
    _made = False

    @explains_other_names
    def __init__(
        self,
        backbone: str | keras.Model,
        num_classes: int,
        *,
        backbone_weights: str | os.PathLike[str] | None = "auto",
        weights: str | os.PathLike[str] | None = None,
        fresh_head: bool = False,
        output_stride: int = 8,
        align_corners: bool = True,
        gradient_checkpointing: bool = False,
        input_shape: Sequence[int | None] = (None, None, 3),
        name: str | None = None,
    ):
        self.num_classes = num_classes
        self.output_stride = output_stride
        self.align_corners = align_corners
        self.gradient_checkpointing = gradient_checkpointing
        if weights is not None and backbone_weights == "auto":
            backbone_weights = None
        self.backbone = self.build_encoder(backbone, backbone_weights, input_shape)
        if gradient_checkpointing:
            _checkpoint_blocks(self.backbone)
        # Logits at full size are what a loss or an argmax works on: always in full precision.
        self.upsample = BilinearUpsample(
            align_corners=align_corners, name="upsample", dtype="float32"
        )

        image = keras.Input(input_shape, name="image")
        features = self.features(image)
        self.build_decoder(features)
        if self.auxiliary_weight:
            self.decode_auxiliary(features)  # which builds its layers
        logits = self.decode(features)
        layers = [value for value in vars(self).values() if isinstance(value, keras.Layer)]
        super().__init__(inputs=image, outputs=self.upsample(logits, like=image), name=name)
        self._made = True
        add_layers(self, layers)  # also those of the auxiliary head, which are not in the graph
        # Half precision must not reach the image before it is normalized.
        self.autocast = False

        # The configuration alone: the model that was copied is no part of this one.
        self._source = (
            backbone if isinstance(backbone, str) else keras.saving.serialize_keras_object(backbone)
        )
        self.initial_weights = self.backbone.initial_weights
        if weights is not None:
            load_weights(self, weights, fresh_head=fresh_head)

    def __setattr__(self, name, value):
        if isinstance(value, keras.Layer) and not self._made:
            # PyTorch takes no layers before the model itself is made, and that needs them.
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # What a network is ---------------------------------------------------------------------------

    def build_encoder(
        self,
        backbone: str | keras.Model,
        weights: str | os.PathLike[str] | None,
        input_shape: Sequence[int | None],
    ) -> keras.Model:
        """Makes the model that gives the features. A network may override it with its own.

        Args:
            backbone: As the constructor gets it.
            weights: What it starts from.
            input_shape: The shape of its images.

        Returns:
            A functional model from images to anything that `decode` takes, with the attribute
            `initial_weights`.
        """
        return build_backbone(
            backbone,
            weights=weights,
            stages=self.stages,
            output_stride=self.output_stride,
            input_shape=input_shape,
        )

    def build_decoder(self, features: Any) -> None:
        """Makes the layers behind the encoder, as attributes of the model.

        Args:
            features: What `features` gives, of which the shapes are known.
        """
        raise NotImplementedError

    def features(self, image: Any, training: bool | None = None) -> Any:
        """Computes the features of images.

        Args:
            image: RGB images `(batch, height, width, 3)`, 0–255.
            training: Whether the model is being trained.

        Returns:
            What the encoder gives: for a backbone, the maps named in `stages`.
        """
        return self.backbone(image, training=training)

    def decode(self, features: Any, training: bool | None = None) -> Any:
        """Computes logits from the features.

        Args:
            features: What `features` gives, whatever that is.
            training: Whether the model is being trained. The layers must be told.

        Returns:
            Logits `(batch, height, width, num_classes)` of any size.
        """
        raise NotImplementedError

    def decode_auxiliary(self, features: Any, training: bool | None = None) -> Any:
        """Computes the logits of the auxiliary head, where `auxiliary_weight` is not 0.

        Args:
            features: As in `decode`.
            training: As in `decode`.

        Returns:
            Logits as those of `decode`.
        """
        raise NotImplementedError

    def call(self, inputs, training=None):
        with at_least_one_image(only_tensor(inputs)) as (images, of_real):
            logits = self.decode(self.features(images, training=training), training=training)
            return of_real(self.upsample(logits, like=images))

    # What its steps compute -----------------------------------------------------------------------

    def predict_step(self, *args):
        token = PREDICTING.set(True)
        try:
            return super().predict_step(*args)
        finally:
            PREDICTING.reset(token)

    def loss_and_outputs(self, x, y, sample_weight, training):
        with_auxiliary = training and self.auxiliary_weight
        with at_least_one_image(x) as (images, of_real):
            features = self.features(images, training=training)
            logits = of_real(self.decode(features, training=training))
            if with_auxiliary:
                auxiliary = of_real(self.decode_auxiliary(features, training=training))
        if training and self.class_weights is not None:
            sample_weight = self.class_weights.times(y, sample_weight)
        if self.upsamples_in_loss:
            size = tuple(ops.shape(x)[1:3])

            def loss_of(logits):
                return self.loss.of_upsampled(y, logits, size, self.align_corners, sample_weight)

            outputs = logits
            loss = loss_of(logits) + sum(self.losses)
        else:

            def weight():
                # Losses of Keras change the weights in place on PyTorch.
                return None if sample_weight is None else ops.copy(sample_weight)

            def loss_of(logits):
                return compiled_loss(self)(y, self.upsample(logits, like=x), weight())

            outputs = self.upsample(logits, like=x)
            loss = self.compute_loss(x, y, outputs, weight(), training=training)
        if with_auxiliary:
            loss += self.auxiliary_weight * loss_of(auxiliary)
        return loss, outputs

    def predictions(self, x, outputs):
        if not self.upsamples_in_loss:
            return outputs
        # The loss has seen the small map; our own scores, too, need no logits for each pixel, but
        # the best class.
        if self.scores_class_maps:
            return upsampled_argmax(outputs, tuple(ops.shape(x)[1:3]), self.align_corners)
        return self.upsample(outputs, like=x)

    # Files ---------------------------------------------------------------------------------------

    def get_config(self):
        check_not_hdf5()
        return {
            "backbone": self._source,
            "num_classes": self.num_classes,
            "output_stride": self.output_stride,
            "align_corners": self.align_corners,
            "gradient_checkpointing": self.gradient_checkpointing,
            "input_shape": self.inputs[0].shape[1:],
            "initial_weights": self.initial_weights,
            "classes": self.classes and dataclasses.asdict(self.classes),
            "name": self.name,
            "dtype": self.dtype_policy.name,
            "trainable": self.trainable,
            "frozen": [i for i, layer in enumerate(layers_in(self)) if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        # The weights come from the file that the configuration came from.
        initial_weights, classes = config.pop("initial_weights"), config.pop("classes", None)
        trainable, frozen = config.pop("trainable"), config.pop("frozen")
        if not isinstance(config["backbone"], str):
            config["backbone"] = keras.saving.deserialize_keras_object(
                config["backbone"], custom_objects=custom_objects
            )
        # The constructor makes layers of the global policy, and that may be another one by now.
        with _dtype_policy(config.pop("dtype")):
            model = cls(backbone_weights=None, **config)
        model.trainable = trainable
        for i, layer in enumerate(layers_in(model)):
            layer.trainable = i not in frozen
        model.initial_weights = initial_weights
        model.classes = classes and ClassList(**classes)
        return model


def _checkpoint_blocks(backbone: keras.Model) -> None:
    blocks = [layer for layer in backbone.layers if isinstance(layer, Block)]
    if not blocks:
        raise ValueError(
            "Gradient checkpointing computes the blocks of this package's ResNets again. Received: "
            f"gradient_checkpointing=True, backbone={backbone.name} without such blocks. Take a "
            'ResNet such as "resnet50", or smaller batches.'
        )
    for block in blocks:
        block.gradient_checkpointing = True


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
