"""Networks made from what is given: from a checkpoint alone, and from a classifier."""

import os
import re
from collections.abc import Iterable
from typing import Any

import keras

from keras_psp.checked import checked
from keras_psp.models.alexnet import ALEXNETS, AlexNet
from keras_psp.models.classifier import Classifier
from keras_psp.models.fcn import FCN
from keras_psp.models.inception import INCEPTIONS, Inception
from keras_psp.models.pspnet import PSPNet
from keras_psp.models.resnet import RESNETS, ResNet
from keras_psp.models.vgg import VGG, VGGS
from keras_psp.surgery.graph import copy_operation, operations_of, walk
from keras_psp.weights.reading import read_tensors
from keras_psp.weights.sources import identify

_BUILDERS: list[tuple[Any, Any]] = [
    (RESNETS, ResNet),
    (VGGS, VGG),
    (ALEXNETS, AlexNet),
    (INCEPTIONS, Inception),
]


@checked
def model_from_checkpoint(path: str | os.PathLike, **options: Any) -> PSPNet | Classifier:
    """Builds the network that a checkpoint from elsewhere is of, with its weights.

    The tensors tell which network that is, and its number of classes. What they do not tell you
    pass as an option, above all `align_corners=False` of mmsegmentation's, and `at_once=True` of an
    FCN that was trained so.

    Args:
        path: A checkpoint of one of the [sources](models.md#weights).
        **options: What else `PSPNet`, `FCN` or the classifier's builder takes.

    Returns:
        A `PSPNet`, an `FCN`, a classifier, or, of a checkpoint without a last layer, its features.

    Raises:
        ValueError: If the checkpoint is of none of our networks, or does not tell its bins.

    Example:

    ```python
    import tempfile
    import numpy as np
    import keras_psp

    # torchvision's names of the tensors of a ResNet-18, as a file of NumPy's
    model = keras_psp.ResNet("resnet18", num_classes=4, weights=None)
    names = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
    names |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    layers = {"stem_conv1": "conv1", "stem_bn1": "bn1", "predictions": "fc"}
    layers |= {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}
    tensors = {}
    for variable in model.variables:
        *block, layer, kind = variable.path.split("/")
        name = f"{layers.get(layer, layer)}.{names[kind]}"
        if block:
            stage, number = block[0].removeprefix("stage").split("_block")
            name = f"layer{stage}.{int(number) - 1}.{name}"
        value = np.array(variable)
        tensors[name] = value.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim])
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/resnet18.npz", **tensors)
        again = keras_psp.models.model_from_checkpoint(f"{folder}/resnet18.npz")
    print(again.variant, again.output.shape)
    ```

    ```text
    resnet18 (None, 4)
    ```
    """
    tensors = read_tensors(path)
    source = identify(path, tensors)
    known: dict[str, Any]
    channels = {t.layer: t.value.shape[-1] for t in source.translate(tensors) if t.layer}
    variant = _fitting_variant(path, source, channels)
    if source.network == "FCN":
        known = {**source.usual, **_parts_of_fcn(channels)}
        return FCN(variant, weights=str(path), **{**known, **options})
    if "head/conv2" not in channels:
        builder = next(build for table, build in _BUILDERS if variant in table)
        classes = channels.get("predictions")
        known = {"num_classes": classes} if classes else {"include_top": False}
        return builder(variant, weights=str(path), **{**known, **options})
    levels = sum(bool(re.fullmatch(r"pyramid_pooling/level\d+_conv", name)) for name in channels)
    if levels not in (0, 4) and "bins" not in options:
        raise ValueError(
            f"The sides of {levels} pyramid levels are not in a checkpoint. "
            f"Received: path='{path}' without bins. Pass bins=, such as bins=(1, 2, 3, 6)."
        )
    known = {"auxiliary_weight": 0.4 if "auxiliary_head/conv2" in channels else 0.0}
    if not levels:
        known["bins"] = ()
    return PSPNet(variant, channels["head/conv2"], weights=str(path), **{**known, **options})


def _parts_of_fcn(channels: dict[str, int]) -> dict[str, Any]:
    """What the tensors of an FCN tell of its arguments."""
    if "head/conv2" in channels:
        auxiliary_weight = 0.5 if "auxiliary_head/conv2" in channels else 0.0
        known = {"head": "convolution", "auxiliary_weight": auxiliary_weight}
        return {"num_classes": channels["head/conv2"], **known}
    finest = {"score_pool3": 8, "score_pool4": 16, "head": 32}
    stride = next(stride for layer, stride in finest.items() if layer in channels)
    filters = channels["fully_connected/fc6"]
    return {"num_classes": channels["head"], "stride": stride, "fc_channels": filters}


def _fitting_variant(path: str | os.PathLike, source: Any, channels: Iterable[str]) -> str:
    """The name of our network that has the layers of a checkpoint."""
    kind = "bottleneck" if "stage1_block1/conv3" in channels else "basic"
    counts = tuple(
        sum(bool(re.fullmatch(rf"stage{stage}_block\d+/conv1", layer)) for layer in channels)
        for stage in (1, 2, 3, 4)
    )
    for name in source.variants:
        if name not in RESNETS or (RESNETS[name].blocks, RESNETS[name].block) == (counts, kind):
            return name
    raise ValueError(
        f"A checkpoint of {source.title} fits {', '.join(source.variants)}. Received: "
        f"weights='{path}', whose stages have {counts} {kind} blocks. Choose another file."
    )


_POOLINGS = keras.layers.Flatten, keras.layers.GlobalAveragePooling2D


@checked
def to_fully_convolutional(
    model: keras.Model, image_size: tuple[int, int] | None = None
) -> keras.Model:
    """Turns a classifier into a network that classifies at every place of an image of any size.

    Fully connected layers behind `Flatten` (AlexNet, VGG) become convolutions: the first has a
    kernel as large as the map that was flattened, the others are 1×1. Global average pooling
    (GoogLeNet, ResNet) becomes an average pooling with stride 1, whose windows are as large as the
    map was in training, and the fully connected layer behind it a 1×1 convolution. The weights are
    copies of the same numbers.

    For an image of the training size there is one place, with the classifier's answer. In a larger
    image, a place is not quite the classifier's answer to a window of the image: behind the
    window's borders the convolutions see the image instead of zeros.

    Args:
        model: A functional classifier that ends in `Flatten` or `GlobalAveragePooling2D` and fully
            connected layers: all of this package, and most of `keras.applications`.
        image_size: `(height, width)` of the images that it was trained with. By default the size
            that it takes; if it takes any, 32×32 for a CIFAR net of this package, 299×299 for its
            Inception v3, and 224×224 otherwise.

    Returns:
        A functional Keras model. It takes images `(batch, height, width, 3)` of the training size
        or larger, and gives a class map `(batch, h, w, num_classes)`: logits or probabilities, as
        the classifier does. For an image's side Q, the side of VGG's map is Q // 32 − 6.

    Raises:
        ValueError: If the model ends otherwise, or if it takes images of one size and another is
            named.

    Reference:
        [Sermanet et al., 2014](https://arxiv.org/abs/1312.6229), section 3.5;
        [Simonyan and Zisserman, 2015](https://arxiv.org/abs/1409.1556), section 3.2.

    Example:

    ```python
    import keras_psp

    model = keras_psp.ResNet("resnet20", weights=None)  # of 32×32 pixels
    everywhere = keras_psp.to_fully_convolutional(model)
    image, label = keras_psp.street_scene(seed=1, image_size=(32, 48))
    print(tuple(model(image[None, :, :32]).shape), tuple(everywhere(image[None]).shape))
    ```

    ```text
    (1, 10) (1, 1, 5, 10)
    ```
    """
    pooling, *behind = _end(model)
    (given,) = model.inputs
    own = tuple(given.shape[1:3])
    if image_size is not None and None not in own and tuple(image_size) != own:
        raise ValueError(
            "A model that takes images of one size was trained with that size. "
            f"Received: image_size={tuple(image_size)} for {model.name}, which takes {own}. "
            "Leave image_size out."
        )
    side = getattr(model, "image_size", 224)
    trained = tuple(s or t for s, t in zip(own, image_size or (side, side), strict=True))
    features = keras.Model(given, pooling.input)
    window = tuple(features.compute_output_shape((1, *trained, given.shape[-1]))[1:3])

    def options(layer):
        return {"data_format": "channels_last", "name": layer.name, "dtype": layer.dtype_policy}

    copies: dict[Any, Any] = {}
    kernel_size = window
    if isinstance(pooling, keras.layers.GlobalAveragePooling2D):
        copies[pooling] = keras.layers.AveragePooling2D(window, 1, **options(pooling))
        kernel_size = (1, 1)
    for layer in behind:
        if isinstance(layer, keras.layers.Dense):
            copies[layer] = keras.layers.Conv2D(
                layer.units,
                kernel_size,
                activation=layer.activation,
                use_bias=layer.use_bias,
                **options(layer),
            )
            kernel_size = (1, 1)

    def visit(operation, *args, **kwargs):
        if operation is pooling and pooling not in copies:
            return args[0]  # What is not flattened stays a map.
        if operation not in copies:
            copies[operation] = copy_operation(operation)
        return copies[operation](*args, **kwargs)

    image = keras.Input((None, None, given.shape[-1]), dtype=given.dtype, name="image")
    outputs = walk(model, visit, image)
    for operation, copy in copies.items():
        if isinstance(operation, keras.Layer):
            # A flattened map is height, width, channels: the order of a kernel's axes.
            pairs = zip(operation.get_weights(), copy.weights, strict=True)
            copy.set_weights([value.reshape(weight.shape) for value, weight in pairs])
    return Classifier(
        image,
        outputs,
        initial_weights=getattr(model, "initial_weights", ""),
        image_size=side,
        name=f"{model.name}_fully_convolutional",
    )


def _end(model: keras.Model) -> list[Any]:
    """The layers of a classifier from the flattening or pooling on, one behind the other."""
    end: list[Any] = []
    for layer in reversed(operations_of(model)):
        end.insert(0, layer)
        if isinstance(layer, _POOLINGS):
            break
        if not isinstance(
            layer, keras.layers.Dense | keras.layers.Dropout | keras.layers.Activation
        ):
            break
    single = len(model.inputs) == len(model.outputs) == 1
    if not (
        single
        and isinstance(end[0], _POOLINGS)
        and len(end[0].input.shape) == 4
        and end[0].data_format == "channels_last"
        and any(isinstance(layer, keras.layers.Dense) for layer in end)
    ):
        raise ValueError(
            "A classifier must end in Flatten or GlobalAveragePooling2D of a map, channels last, "
            "and Dense layers (with Dropout and Activation between them). "
            f"Received: {model.name}, which ends in "
            f"{', '.join(type(layer).__name__ for layer in end)}. Give it such an end, "
            "for instance with include_top=True."
        )
    return end
