"""Arguments, written once: what Keras saves of an object, and what a function passes on."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class FromArguments:
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
