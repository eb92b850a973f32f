"""Feature extractors for segmentation: by name from one table, or any Keras model."""

import os
from collections.abc import Sequence

import keras

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.layers import ImageNormalization
from keras_psp.models.alexnet import ALEXNETS, AlexNet
from keras_psp.models.classifier import Classifier, checked_shape
from keras_psp.models.googlenet import GOOGLENETS, build_googlenet
from keras_psp.models.inception import V3S, Inception
from keras_psp.models.resnet import RESNETS, ResNet, stage_dilations
from keras_psp.models.vgg import VGG, VGGS
from keras_psp.surgery.dilation import CONVOLUTIONS, dilate, strides_of
from keras_psp.warning import warn


def _resnet(name, **options):
    network = ResNet(name, include_top=False, **options)
    row = RESNETS[name]
    blocks = [f"stage{stage}_block{count}" for stage, count in enumerate(row.blocks, 1)]
    return network, _maps(network, f"stem_relu{len(row.stem)}", *blocks)


def _googlenet(name, **options):
    network = build_googlenet(name, include_top=False, **options)
    stem = (
        ("conv1_relu", "conv2_relu") if GOOGLENETS[name].batch_normalization else ("conv1", "lrn2")
    )
    return network, _maps(network, *stem, "inception_3b", "inception_4e", "inception_5b")


def _dilated(build, *ends):
    """For networks that cannot dilate themselves; `ends` are the layers that end their stages."""

    def dilated(name, weights, output_stride, input_shape):
        network = build(name, include_top=False, weights=weights)
        maps = _maps(network, *ends) if ends else _stages(network)
        copy = dilate(network, output_stride, maps, input_shape=input_shape)
        copy.initial_weights = network.initial_weights
        return copy, copy.outputs

    return dilated


def _first_stages(name, **options):
    """The stages of a ResNet up to the one in its name. It is built whole, to take the same
    weights, and `build_backbone` leaves out what leads to none of these maps."""
    whole, _, last = name.partition("_stage")
    network, maps = _resnet(whole, **options)
    return network, maps[: 1 + int(last)]


def _maps(network, *layers):
    return [network.get_layer(layer).output for layer in layers]


# name → function (name, weights, output_stride, input_shape) → network, and the last map of each of
# its stages, the largest first
BACKBONES: dict = {
    **dict.fromkeys(RESNETS, _resnet),
    # For small budgets and small devices: the second stage is at 1/8 of the image without dilation.
    **{
        f"resnet{name}_stage{n}": _first_stages
        for name in ("18", "18_v1c", "34", "50")
        for n in (2, 3)
    },
    **dict.fromkeys(VGGS, _dilated(VGG)),
    **dict.fromkeys(GOOGLENETS, _googlenet),
    **dict.fromkeys(ALEXNETS, _dilated(AlexNet)),
    # The branches of its modules are maps, too: which end a stage must be said.
    **dict.fromkeys(V3S, _dilated(Inception, "relu3", "relu5", "mixed2", "mixed7", "mixed10")),
}

# How the published weights of `keras.applications` need images to be normalized, by the beginning
# of the model's name. The other families normalize them by themselves.
_APPLICATIONS_NORMALIZATION = {
    "resnet50v2": "tf",
    "resnet101v2": "tf",
    "resnet152v2": "tf",
    "resnet": "caffe",
    "vgg": "caffe",
    "densenet": "torch",
    "mobilenet": "tf",
    "xception": "tf",
    "inception": "tf",
    "nasnet": "tf",
}


@checked
def build_backbone(
    backbone: str | keras.Model,
    *,
    weights: str | os.PathLike[str] | None = "auto",
    stages: Sequence[str] | None = None,
    output_stride: int = 8,
    input_shape: Sequence[int | None] = (None, None, 3),
    normalization: str = "auto",
) -> keras.Model:
    """Builds a feature extractor, which gives the last map of each stage of a network.

    A stage is all that a network computes at one resolution. The deepest stage is `"P5"`, and the
    keys count down from it: of a ResNet they are `"P1"` (its stem), `"P2"`, …, `"P5"`. A network
    with fewer stages has fewer keys. From the output stride on, all maps have the same size.

    Args:
        backbone: A name from the table (`"resnet50"`, …), or a functional Keras model with images
            as input, with its weights: from `keras.applications`, KerasHub, KerasCV or your own.
            A model given is copied, never changed. Strides beyond `output_stride` become dilation
            in the copy, see `keras_psp.surgery.dilation.dilate`. Of a model with several outputs
            these are the stages, the last one `"P5"`; of KerasHub's, their `pyramid_outputs`.
        weights: For a name: `"auto"`, `"imagenet"`, `None` or a file, as `ResNet` takes it, also
            one of a whole classifier or segmentation model, whose last layers are left out. A model
            keeps its own: `"auto"` and `None` leave them as they are, anything else is an error.
        stages: Keys of the stages that are wanted, such as `("P4", "P5")`; all of them if `None`.
        output_stride: Stride of the deepest map: 8, 16 or 32; less where the network has less.
        input_shape: `(height, width, 3)`, either of which may be `None`.
        normalization: For a model: how it wants images to be normalized (a mode of
            `ImageNormalization`, `"none"` for RGB 0–255 as it is). `"auto"` chooses `"torch"` for
            models of KerasHub, knows the families of `keras.applications` by name, and leaves
            networks alone that begin with another layer than a convolution, because they normalize
            by themselves. All others get RGB 0–255, and a warning.

    Returns:
        A functional model from RGB images, 0–255, to a dictionary of maps
        `{…, "P4": …, "P5": …}`, each `(batch, height / stride, width / stride, channels)`. In VGG
        and AlexNet a stage ends before its pooling. `initial_weights` says what it started from.

    Raises:
        ValueError: If there is no such name, the model is not functional, has fewer than two
            stages or none of those that are wanted, or has strides that cannot become dilation.

    Reference:
        [Yu and Koltun, 2016](https://arxiv.org/abs/1511.07122), section 2;
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 3.3.

    Example:

    ```python
    from keras_psp.models import build_backbone
    import keras

    network = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3))
    for stage, features in build_backbone(network, output_stride=8).output.items():
        print(stage, features.shape[1:])
    ```

    ```text
    P1 (None, None, 64)
    P2 (None, None, 128)
    P3 (None, None, 256)
    P4 (None, None, 512)
    P5 (None, None, 1024)
    ```
    """
    shape = checked_shape(input_shape)
    stage_dilations(output_stride)  # which refuses another stride
    if isinstance(backbone, keras.Model):
        if weights not in ("auto", None):
            raise ValueError(
                "A backbone given as a model brings its own weights. "
                f"Received: backbone={backbone.name} (a model), backbone_weights={weights!r}. "
                "Leave backbone_weights out."
            )
        network, maps = _from_model(backbone, output_stride, shape, normalization)
        name = f"{backbone.name}_backbone"
    else:
        name = _checked(backbone)
        network, maps = BACKBONES[backbone](
            name, weights=weights, output_stride=output_stride, input_shape=shape
        )
    pyramid = {f"P{6 - i}": maps[-i] for i in range(len(maps), 0, -1)}
    stages = tuple(stages or pyramid)
    if not pyramid.keys() >= set(stages):
        raise ValueError(
            "A backbone gives the stages that it has. "
            f"Received: stages={stages} of backbone={name}, which has {', '.join(pyramid)}. "
            "Take a network with more stages."
        )
    return Classifier(
        network.input,
        {stage: pyramid[stage] for stage in stages},
        variant=backbone if isinstance(backbone, str) else "",
        initial_weights=network.initial_weights,
        name=name,
    )


def _checked(name):
    """The name, if it is in the table; Keras' own networks are given as models."""
    if name in BACKBONES:
        return name
    plain = str(name).lower().replace("-", "").replace("_", "")
    builders = [builder for builder in dir(keras.applications) if builder[0].isupper()]
    builder = next((one for one in builders if one.lower() == plain), None)
    if builder is not None and plain not in BACKBONES:
        raise ValueError(
            "A backbone is a name from the table keras_psp.models.BACKBONES, or a Keras model. "
            f"Received: backbone={name!r}, which is no such name. Pass the model: "
            f"backbone=keras.applications.{builder}(include_top=False)."
        )
    repair = (
        "Choose one of the names above, or pass a Keras model: "
        "backbone=keras.applications.EfficientNetB0(include_top=False)."
    )
    return check_name("backbone", name, BACKBONES, repair)


def _from_model(source, output_stride, input_shape, normalization):
    if not getattr(source, "inputs", None):
        raise ValueError(
            "A backbone must be a functional Keras model. "
            f"Received: backbone={source.name}, a {type(source).__name__}. "
            "Build it with keras.Model(inputs, outputs)."
        )
    if any(getattr(layer, "data_format", "") == "channels_first" for layer in source.layers):
        raise ValueError(
            "A backbone must be channels last. "
            f"Received: backbone={source.name}, which is channels first. Build it after "
            "keras.config.set_image_data_format('channels_last')."
        )
    if normalization == "auto":
        normalization = _wanted_normalization(source)
    copy = dilate(
        source,
        output_stride,
        _stages(source),
        input_shape=input_shape,
        preprocessing=ImageNormalization(normalization, name=f"{source.name}_normalize"),
    )
    copy.initial_weights = f"the weights of {source.name} as it was given"
    return copy, copy.outputs


def _stages(network) -> list:
    """The last map of each stage of a network, the largest first."""
    pyramid = getattr(network, "pyramid_outputs", None)  # KerasHub's
    if isinstance(pyramid, dict) and len(pyramid) >= 2:
        return list(pyramid.values())
    if len(network.outputs) >= 2:
        return network.outputs
    last = {}
    convolved = set()
    for operation, stride in strides_of(network).items():
        if isinstance(operation, CONVOLUTIONS):
            convolved.add(stride)
        # A padding is the beginning of the next stage; a pooling that ends a network is none.
        if stride in convolved and not isinstance(operation, keras.layers.ZeroPadding2D):
            last[stride] = operation.output
    last.pop(0, None)
    if len(last) < 2:
        raise ValueError(
            "A backbone must have at least two stages of different resolution. "
            f"Received: backbone={network.name}, whose features have strides "
            f"{sorted(last)}. Give a convolutional network without models among its layers."
        )
    return [last[stride] for stride in sorted(last)]


def _wanted_normalization(source) -> str:
    if type(source).__module__.startswith("keras_hub"):
        return "torch"
    before = (keras.layers.InputLayer, keras.layers.ZeroPadding2D)
    first = next((x for x in strides_of(source) if not isinstance(x, before)), None)
    if not isinstance(first, CONVOLUTIONS):
        return "none"
    for family, normalization in _APPLICATIONS_NORMALIZATION.items():
        if source.name.startswith(family):
            return normalization
    warn(
        "The normalization of images is detected for models of keras.applications, by their name, "
        "and for networks that normalize by themselves. "
        f"Received: backbone={source.name}, which begins with a convolution and gets RGB 0–255 as "
        "it is. Give build_backbone(model, output_stride=32, normalization=…) in its place, with "
        "'tf' (−1 … 1), 'torch' or 'caffe', or with 'none' if RGB 0–255 is right.",
    )
    return "none"
