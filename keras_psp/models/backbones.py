"""Feature extractors for segmentation: by name from one table, or any Keras model."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_psp.choices import check_name
from keras_psp.layers import (
    DilatedAveragePooling2D,
    DilatedMaxPooling2D,
    ImageNormalization,
    LocalResponseNormalization,
    PaddedConv2D,
)
from keras_psp.models.alexnet import ALEXNETS, AlexNet
from keras_psp.models.classifier import checked_shape
from keras_psp.models.googlenet import GOOGLENETS, GoogLeNet
from keras_psp.models.inception import V3S, Inception
from keras_psp.models.resnet import RESNETS, ResNet
from keras_psp.models.vgg import VGG, VGGS


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
    dilation = _Dilation(source, output_stride)
    if normalization == "auto":
        normalization = _wanted_normalization(source, dilation.operations)
    shape = checked_shape(input_shape)
    image = keras.Input(shape, name="image")
    normalize = ImageNormalization(normalization, name=f"{source.name}_normalize")
    features = dilation.copy(image, normalize(image))
    model = keras.Model(image, features, name=f"{source.name}_backbone")
    for layer in model.layers[2:]:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
    model.autocast = False
    model.initial_weights = f"the weights of {source.name} as it was given"
    return model


def _wanted_normalization(source, operations) -> str:
    if type(source).__module__.startswith("keras_hub"):
        return "torch"
    before = (keras.layers.InputLayer, keras.layers.ZeroPadding2D)
    first = next((x for x in operations if not isinstance(x, before)), None)
    if not isinstance(first, _CONVOLUTIONS):
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


_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
# Poolings, and what they are behind a stride that was taken out.
_DILATED_POOLS: dict[type, Any] = {
    keras.layers.MaxPooling2D: DilatedMaxPooling2D,
    keras.layers.AveragePooling2D: DilatedAveragePooling2D,
}
_POOLS = tuple(_DILATED_POOLS)
# Layers that need no dilation: they treat every place alike, and by itself or with all the others.
_POINTWISE = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dropout,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Multiply,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.SpatialDropout2D,
    keras.layers.ZeroPadding2D,
    LocalResponseNormalization,
)


class _Dilation:
    """Copies a model, its late strides turned into dilation.

    A layer that skips every second place shows the layers behind it the places that are left. If it
    skips none, they must look twice as far to see the same ones: every stride that is taken out
    doubles the dilation of all that follows.
    """

    def __init__(self, source: keras.Model, output_stride: int):
        self.source = source
        self.output_stride = output_stride
        self.operations = keras.Model(source.inputs, source.outputs).operations
        self.strides = self._strides()
        # Of tensors in the copy: the product of the strides taken out before them …
        self.undone: dict[int, int] = {}
        # … and what was padded, and how much, to become them.
        self.padded: dict[int, tuple] = {}
        # Keras tensors are told apart by identity, so none of them may be freed meanwhile.
        self.alive: list = []

    def copy(self, image, normalized) -> list:
        """The last two feature maps of the copy, which sees `normalized` in place of `image`."""
        trunk = keras.Model(self.source.inputs, self._last_two_maps())
        self.alive.append(normalized)

        def call(operation, *args, **kwargs):
            args, kwargs = keras.tree.map_structure(
                lambda x: normalized if x is image else x, (args, kwargs)
            )
            return self._call(operation, *args, **kwargs)

        return keras.models.clone_model(
            trunk, [image], clone_function=lambda layer: layer, call_function=call
        ).outputs

    def _strides(self) -> dict[str, int]:
        """Name of an operation → stride of its output in the source; 0 where that is no map."""
        of_tensors: dict[int, int] = {}
        strides = {}
        for operation in self.operations:
            stride = 1
            outputs = keras.tree.flatten(operation.output)
            if not isinstance(operation, keras.layers.InputLayer):
                inputs = keras.tree.flatten(operation.input)
                stride = max(of_tensors.get(id(x), 0) for x in inputs)
                if isinstance(operation, _CONVOLUTIONS + _POOLS):
                    stride *= operation.strides[0]
                elif len(outputs[0].shape) != 4 or _squeezes(inputs[0], outputs[0]):
                    stride = 0
            strides[operation.name] = stride
            of_tensors.update({id(x): stride for x in outputs})
        return strides

    def _last_two_maps(self) -> list:
        pyramid = getattr(self.source, "pyramid_outputs", None)
        if isinstance(pyramid, dict) and len(pyramid) >= 2:
            return list(pyramid.values())[-2:]
        if len(self.source.outputs) >= 2:
            return self.source.outputs[-2:]
        last = {}
        stages = set()
        for operation in self.operations:
            stride = self.strides[operation.name]
            if isinstance(operation, _CONVOLUTIONS):
                stages.add(stride)
            # A padding is the beginning of the next stage; a pool that ends a network is none.
            if stride in stages and not isinstance(operation, keras.layers.ZeroPadding2D):
                last[stride] = operation.output
        last.pop(0, None)
        if len(last) < 2:
            raise ValueError(
                "A backbone must have at least two stages of different resolution. "
                f"Received: backbone={self.source.name}, whose features have strides "
                f"{sorted(last)}. Give a convolutional network without models among its layers."
            )
        return [last[stride] for stride in sorted(last)[-2:]]

    def _call(self, operation, *args, **kwargs):
        inputs = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        undone = max(self.undone.get(id(x), 1) for x in inputs)
        stride = self.strides[operation.name]
        removed = 1
        if stride and isinstance(operation, _CONVOLUTIONS + _POOLS):
            # What is still beyond the wanted stride, the strides taken out before it allowed for.
            removed = min(operation.strides[0], max(1, stride // (undone * self.output_stride)))
            output = self._look_further(operation, args[0], undone, removed)
        else:
            known = isinstance(operation, (*_CONVOLUTIONS, *_POINTWISE))
            if undone > 1 and isinstance(operation, keras.layers.Layer) and not known:
                raise self._error(f"its layer {operation.name} ({type(operation).__name__})")
            output = _copy(operation)(*args, **kwargs)
        if isinstance(operation, keras.layers.ZeroPadding2D):
            self.padded[id(output)] = (args[0], operation.padding)
        for x in keras.tree.flatten(output):
            self.undone[id(x)] = undone * removed
            self.alive.append(x)
        return output

    def _look_further(self, layer, x, undone, removed):
        """The layer without the stride `removed`, looking `undone` times as far."""
        if undone == removed == 1:
            return _copy(layer)(x)
        pool = isinstance(layer, _POOLS)
        kernel, rates = (
            (layer.pool_size, (1, 1)) if pool else (layer.kernel_size, layer.dilation_rate)
        )
        changes: dict[str, Any] = {"strides": tuple(s // removed for s in layer.strides)}
        if not pool:
            changes["dilation_rate"] = tuple(undone * rate for rate in rates)
        if isinstance(layer, PaddedConv2D):
            return _copy(layer, **changes)(x)
        # How far a kernel reaches beyond one place, and how much of that lies before the place.
        reach = [rate * (side - 1) for side, rate in zip(kernel, rates, strict=True)]
        padded = layer.padding != "same" and id(x) in self.padded
        if layer.padding == "same":
            before = [max(r + 1 - layer.strides[0], 0) // 2 for r in reach]
        elif padded:
            x, padding = self.padded[id(x)]
            before = [first for first, _ in padding]
        else:
            before = [r // 2 for r in reach]
        changes["padding"] = "same"
        if pool and undone > 1 and max(kernel) > 1:
            odd = all(r % 2 == 0 and b == r // 2 for b, r in zip(before, reach, strict=True))
            if not odd or kernel[0] != kernel[1] or changes["strides"] != (1, 1):
                raise self._error(f"its pooling layer {layer.name} ({kernel[0]}×{kernel[1]})")
            options = {"name": layer.name, "dtype": layer.dtype_policy}
            if padded and isinstance(layer, keras.layers.AveragePooling2D):
                options["count_outside"] = True  # as zeros that were put there
            return _DILATED_POOLS[type(layer)](kernel[0], undone, **options)(x)
        if any(undone * b != undone * r // 2 for b, r in zip(before, reach, strict=True)):
            # The map keeps its size, but sees further to one side than to the other.
            sides = [(undone * b, undone * (r - b)) for b, r in zip(before, reach, strict=True)]
            outside = float("-inf") if isinstance(layer, keras.layers.MaxPooling2D) else 0.0
            x = keras.ops.pad(x, [(0, 0), *sides, (0, 0)], constant_values=outside)
            changes["padding"] = "valid"
        return _copy(layer, **changes)(x)

    def _error(self, culprit):
        return ValueError(
            "A backbone's strides beyond output_stride are turned into dilation. "
            f"Received: backbone={self.source.name}, output_stride={self.output_stride}, where "
            f"{culprit} cannot be dilated. Use a larger output_stride, 16 or 32."
        )


def _squeezes(x, y) -> bool:
    """Whether a map goes in and one value per channel comes out."""
    return y.shape[1] == 1 and len(x.shape) == 4 and x.shape[1] != 1


def _copy(operation, **changes):
    return type(operation).from_config({**operation.get_config(), **changes})
