"""From a checkpoint alone to the network that it is of."""

import os
from typing import Any

import keras

from keras_psp.models.alexnet import ALEXNETS, AlexNet
from keras_psp.models.inception import INCEPTIONS, Inception
from keras_psp.models.pspnet import PSPNet
from keras_psp.models.resnet import RESNETS, ResNet
from keras_psp.models.vgg import VGG, VGGS
from keras_psp.weights.checkpoints import describe

_BUILDERS: list[tuple[Any, Any]] = [
    (RESNETS, ResNet),
    (VGGS, VGG),
    (ALEXNETS, AlexNet),
    (INCEPTIONS, Inception),
]


def model_from_checkpoint(path: str | os.PathLike, **options: Any) -> keras.Model:
    """Builds the network that a checkpoint from elsewhere is of, with its weights.

    Which network that is, and its number of classes, the tensors tell. What they cannot tell is
    an option, above all `align_corners=False` of mmsegmentation's.

    Args:
        path: A checkpoint of one of the [sources](models.md#weights).
        **options: What else `PSPNet` or the classifier's builder takes.

    Returns:
        A `PSPNet`, a classifier, or, of a checkpoint without a last layer, its features.

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
    assert again.variant == "resnet18" and again.output.shape == (None, 4)
    ```
    """
    found = describe(path)
    if found.levels is None:
        builder = next(build for table, build in _BUILDERS if found.variant in table)
        ends = {"num_classes": found.num_classes} if found.num_classes else {"include_top": False}
        return builder(found.variant, weights=str(path), **{**ends, **options})
    known: dict[str, Any] = {"auxiliary_weight": 0.4 if found.auxiliary else 0.0}
    if found.levels != 4:
        known["bins"] = ()
    if found.levels not in (0, 4) and "bins" not in options:
        raise ValueError(
            f"The sides of {found.levels} pyramid levels are not in a checkpoint. "
            f"Received: path='{path}' without bins. Pass bins=, such as bins=(1, 2, 3, 6)."
        )
    return PSPNet(found.variant, found.num_classes, weights=str(path), **{**known, **options})
