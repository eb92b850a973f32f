"""Arguments, written once: what Keras saves of an object, and what a function passes on."""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from keras_psp.checked import ChecksArguments

Function = TypeVar("Function", bound=Callable[..., Any])


# What segmentation_models, torchvision, keras.applications and others call our arguments, and what
# to write here.
NAMES_ELSEWHERE = {
    **dict.fromkeys(("classes", "n_classes", "nclass", "num_labels"), "Write num_classes=…."),
    **dict.fromkeys(("encoder_name", "encoder", "backbone_name"), "Write backbone=…."),
    **dict.fromkeys(("encoder_weights", "weights_backbone"), "Write backbone_weights=…."),
    **dict.fromkeys(("encoder_output_stride", "downsample_factor"), "Write output_stride=…."),
    **dict.fromkeys(("pretrained", "checkpoint_path"), "Write weights=…, a name or a file."),
    **dict.fromkeys(("psp_dropout", "dropout_rate", "drop_rate"), "Write dropout=…."),
    **dict.fromkeys(("aux_loss", "aux_params"), "Write auxiliary_weight=…; 0 is without."),
    **dict.fromkeys(("input_size", "image_shape"), "Write input_shape=(height, width, 3)."),
    **dict.fromkeys(
        ("in_channels", "in_chans"),
        "Leave it out: images are RGB; repeat the channel of gray images three times.",
    ),
    **dict.fromkeys(
        ("activation", "final_activation"),
        "Segmentation models return logits, of which keras.ops.softmax(logits) makes "
        "probabilities; classifiers take classifier_activation=….",
    ),
    "input_tensor": "Call the model on the tensor: model(tensor).",
}


def explains_other_names(function: Function) -> Function:
    """Lets a function that is given an argument of another library say what its name is here."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def explained(*args: Any, **kwargs: Any) -> Any:
        for name in NAMES_ELSEWHERE.keys() & kwargs.keys() - known.keys():
            raise TypeError(
                "Arguments have the names of this package. "
                f"Received: {name}={kwargs[name]!r}. {NAMES_ELSEWHERE[name]}"
            )
        return function(*args, **kwargs)

    return explained  # type: ignore[return-value]


class FromArguments(ChecksArguments):
    """Gives a class of Keras a `get_config` of all arguments of its `__init__`, defaults included.

    Each argument must be an attribute of the same name. Among the bases this comes first.
    """

    def get_config(self) -> dict[str, Any]:
        _self, *names = inspect.signature(type(self).__init__).parameters
        own = {name: getattr(self, name) for name in names if name != "kwargs"}
        return {**super().get_config(), **own}  # type: ignore[misc]


def passes_on(
    receiver: Callable[..., Any], first: str | None = None
) -> Callable[[Function], Function]:
    """Shows, in `help` and in notebooks, the arguments that a function passes on as `**kwargs`.

    Args:
        receiver: The function or class that takes them.
        first: The first of its arguments that are meant; by default all are.
    """
    parameters = inspect.signature(receiver).parameters.values()
    passed = list(itertools.dropwhile(lambda p: first not in (None, p.name), parameters))

    def show(function: Function) -> Function:
        signature = inspect.signature(function)
        *own, _ = signature.parameters.values()
        others = [p for p in passed if p.name not in signature.parameters]
        shown = [*own, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in others)]
        setattr(function, "__signature__", signature.replace(parameters=shown))  # noqa: B010
        return function

    return show
