"""Feature extractors for segmentation: by name from one table, or any Keras model."""

import warnings
from collections.abc import Sequence

import keras

from keras_psp.choices import check_name
from keras_psp.layers import ImageNormalization
from keras_psp.models.alexnet import ALEXNETS, AlexNet
from keras_psp.models.classifier import checked_shape
from keras_psp.models.googlenet import GOOGLENETS, GoogLeNet
from keras_psp.models.inception import V3S, Inception
from keras_psp.models.resnet import RESNETS, ResNet
from keras_psp.models.vgg import VGG, VGGS
from keras_psp.surgery.dilation import CONVOLUTIONS, dilate, strides_of


def _resnet(name, weights, output_stride, input_shape):
    model = ResNet(
        name,
        include_top=False,
        weights=weights,
        output_stride=output_stride,
        input_shape=input_shape,
    )
    last = [f"stage{stage}_block{RESNETS[name].blocks[stage - 1]}" for stage in (3, 4)]
    return model, [model.get_layer(layer).output for layer in last]


def _googlenet(name, weights, output_stride, input_shape):
    model = GoogLeNet(
        name,
        include_top=False,
        weights=weights,
        output_stride=output_stride,
        input_shape=input_shape,
    )
    return model, [model.get_layer(f"inception_{module}").output for module in ("4e", "5b")]


def _dilated(build):
    """For a network that cannot dilate itself."""

    def features(name, weights, output_stride, input_shape):
        source = build(name, weights)
        model = _from_model(source, output_stride, input_shape, "none")
        model.initial_weights = source.initial_weights
        return model, model.outputs

    return features


def _inception(name, weights):
    model = Inception(name, include_top=False, weights=weights)
    # Its branches are maps of their own: which are the features must be said.
    maps = [model.get_layer(module).output for module in ("mixed7", "mixed10")]
    features = keras.Model(model.input, maps, name=name)
    features.initial_weights = model.initial_weights
    return features


_VGG = _dilated(lambda name, weights: VGG(name, include_top=False, weights=weights))
_ALEXNET = _dilated(lambda name, weights: AlexNet(name, include_top=False, weights=weights))

# name → function (name, weights, output_stride, input_shape) → model and its two feature maps
BACKBONES: dict = {
    **dict.fromkeys(RESNETS, _resnet),
    **dict.fromkeys(VGGS, _VGG),
    **dict.fromkeys(GOOGLENETS, _googlenet),
    **dict.fromkeys(ALEXNETS, _ALEXNET),
    **dict.fromkeys(V3S, _dilated(_inception)),
}

# What the published weights of `keras.applications` want done to an image, by the start of the
# model's name; the other families begin with layers that do it.
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


def build_backbone(
    backbone: str | keras.Model,
    *,
    weights: str | None = "auto",
    output_stride: int = 8,
    input_shape: Sequence[int | None] = (None, None, 3),
    normalization: str = "auto",
) -> keras.Model:
    """Builds a feature extractor at 1/`output_stride` of the image.

    Args:
        backbone: A name from the table (`"resnet50"`, …), or a functional Keras model with images
            as input, with its weights: from `keras.applications`, KerasHub, KerasCV or your own.
            A model given is copied, never changed. Strides beyond `output_stride` are taken out of
            its copy, and the layers behind them dilated instead, so that it computes the very
            same features, only at more places. (Where a layer averages over the whole map, as in
            squeeze-and-excitation, it averages over these places too.) Of a model with several
            outputs the last two are the features.
        weights: For a name: `"auto"`, `"imagenet"`, `None` or a file, as `ResNet` takes it, also
            one of a whole classifier or segmentation model, whose ends are left out. A model keeps
            its own: `"auto"` and `None` leave them as they are, anything else is an error.
        output_stride: The wanted stride of the features.
        input_shape: `(height, width, 3)`, either of which may be `None`.
        normalization: For a model: what it wants done to an image (a mode of `ImageNormalization`,
            `"none"` for RGB 0–255 as it is). `"auto"` takes models of KerasHub to want `"torch"`,
            others that begin with something else than a convolution to normalize themselves, and
            knows the families of `keras.applications` by name; the rest get RGB 0–255, and a
            warning.

    Returns:
        A functional model from RGB images, 0–255, to a list of two feature maps: of the last stage
        but one (for an auxiliary head), and of the last. `initial_weights` says what it started
        from.

    Raises:
        ValueError: If there is no such name, the model is not functional, has fewer than two
            stages, or has strides that cannot be turned into dilation.

    Reference:
        [Yu and Koltun, 2016](https://arxiv.org/abs/1511.07122), section 2;
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 3.3.

    Example:

    ```python
    from keras_psp.models.backbones import build_backbone
    import keras

    network = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3))
    features = build_backbone(network, output_stride=8)
    assert features.output[1].shape[-1] == 1024
    ```
    """
    if isinstance(backbone, keras.Model):
        if weights not in ("auto", None):
            raise ValueError(
                "A backbone given as a model brings its own weights. "
                f"Received: backbone={backbone.name} (a model), backbone_weights={weights!r}. "
                "Leave backbone_weights out."
            )
        return _from_model(backbone, output_stride, input_shape, normalization)
    check_name("backbone", backbone, BACKBONES)
    model, maps = BACKBONES[backbone](backbone, weights, output_stride, input_shape)
    features = keras.Model(model.input, maps, name=backbone)
    features.autocast = False
    features.variant = backbone
    features.initial_weights = model.initial_weights
    return features


def _from_model(source, output_stride, input_shape, normalization):
    if not getattr(source, "inputs", None):
        raise ValueError(
            "A backbone must be a functional Keras model. "
            f"Received: backbone={source.name}, a {type(source).__name__}. "
            "Build it with keras.Model(inputs, outputs)."
        )
    if output_stride not in (8, 16, 32):
        raise ValueError(
            "A backbone's features are at 1/32, 1/16 or 1/8 of the image. "
            f"Received: output_stride={output_stride}. Use 32, 16 or 8."
        )
    if any(getattr(layer, "data_format", "") == "channels_first" for layer in source.layers):
        raise ValueError(
            "A backbone must be channels last. "
            f"Received: backbone={source.name}, which is channels first. Build it after "
            "keras.config.set_image_data_format('channels_last')."
        )
    if normalization == "auto":
        normalization = _wanted_normalization(source)
    model = dilate(
        source,
        output_stride,
        _last_two_maps(source),
        input_shape=checked_shape(input_shape),
        preprocessing=ImageNormalization(normalization, name=f"{source.name}_normalize"),
    )
    model.name = f"{source.name}_backbone"
    model.autocast = False
    model.initial_weights = f"the weights of {source.name} as it was given"
    return model


def _last_two_maps(source) -> list:
    pyramid = getattr(source, "pyramid_outputs", None)
    if isinstance(pyramid, dict) and len(pyramid) >= 2:
        return list(pyramid.values())[-2:]
    if len(source.outputs) >= 2:
        return source.outputs[-2:]
    last = {}
    stages = set()
    for operation, stride in strides_of(source).items():
        if isinstance(operation, CONVOLUTIONS):
            stages.add(stride)
        # A padding is the beginning of the next stage; a pool that ends a network is none.
        if stride in stages and not isinstance(operation, keras.layers.ZeroPadding2D):
            last[stride] = operation.output
    last.pop(0, None)
    if len(last) < 2:
        raise ValueError(
            "A backbone must have at least two stages of different resolution. "
            f"Received: backbone={source.name}, whose features have strides "
            f"{sorted(last)}. Give a convolutional network without models among its layers."
        )
    return [last[stride] for stride in sorted(last)[-2:]]


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
    warnings.warn(
        "What a backbone wants done to an image is known of keras.applications, by the model's "
        "name, and of networks that begin by doing it. "
        f"Received: backbone={source.name}, which begins with a convolution and gets RGB 0–255 as "
        "it is. Give build_backbone(model, output_stride=32, normalization=…) in its place, with "
        "'tf' (−1 … 1), 'torch' or 'caffe', or with 'none' if that is what it wants.",
        stacklevel=4,
    )
    return "none"
