"""Arguments of the wrong kind are refused where they come in: the signature says what they are."""

import functools
import inspect
import math
import numbers
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

Checked = TypeVar("Checked", bound=Callable[..., Any])
Limits = tuple[float, float]

_MOST = 2**31 - 1
_SHARE = 0, 1
# Numbers by the names of their arguments. All others are not negative, whole ones at least 1.
LIMITS: dict[str, Limits] = {
    **dict.fromkeys(("dropout", "momentum", "center_probability", "confidence"), _SHARE),
    **dict.fromkeys(("rotation_probability", "flip_probability", "stray"), _SHARE),
    **dict.fromkeys(("cell", "centered_on", "index", "label", "length", "num_samples"), (0, _MOST)),
    **dict.fromkeys(("seed", "split_seed"), (0, 2**63 - 1)),
    **dict.fromkeys(("axis", "ignore_class"), (-_MOST, _MOST)),
    "colors": (0, 255),
    "histories": (0, _MOST),
    "labels": (0, 255),
    "max_pixels": (1, 2**63 - 1),
    "num_classes": (1, 2**15),
    "padding": (0, _MOST),
    "power": (-100, 100),
    "scale": (0.001, 1000),
}
_LENGTHS = {"image_size": 2, "resize": 2}
_NOT_EMPTY = {"labels", "histories", "scores", "counts"}

_LIMITS: dict[Any, Limits] = {int: (1, _MOST), float: (0, math.inf)}
_WORDS = {bool: "True or False", str: "text", None: "None", type(None): "None", Any: "anything"}

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 100
short = _shortened.repr


def checked(function: Any = None, /, **limits: Limits) -> Any:
    """Lets a function or class refuse arguments that are not what its signature says.

    Args:
        function: The function or class. A class checks what its `__init__` gets.
        **limits: Name of an argument → the least and the greatest number that it may be or have in
            it, where `LIMITS` does not say so.

    Returns:
        The function, or the class itself. A wrong argument is a ValueError.
    """
    if function is None:
        return functools.partial(checked, **limits)
    if inspect.isclass(function):
        setattr(function, "__init__", checked(function.__init__, **limits))  # noqa: B010
        return function

    @functools.wraps(function)
    def checking(*args: Any, **kwargs: Any) -> Any:
        check_arguments(function, args, kwargs, limits)
        return function(*args, **kwargs)

    return checking


class ChecksArguments:
    """The same for classes of Keras, which looks at the code of their `__init__`.

    Among the bases this comes before those of Keras.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        check_arguments(cls.__init__, (None, *args), kwargs, {})
        make = super().__new__
        return make(cls) if make is object.__new__ else make(cls, *args, **kwargs)


# When it is called for the first time: to look at all functions would lengthen the import.
_signature = functools.cache(inspect.signature)


def check_arguments(
    function: Callable[..., Any],
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    limits: Mapping[str, Limits],
) -> None:
    """Raises a ValueError if an argument is not what the signature of a function says.

    Args:
        function: The function.
        args: What it is given by place.
        kwargs: What it is given by name.
        limits: As in `checked`.
    """
    parameters = _signature(function).parameters
    for name, value in [*zip(parameters, args, strict=False), *kwargs.items()]:
        if name in parameters:
            _check(parameters[name], value, limits.get(name))


def _check(parameter: inspect.Parameter, value: Any, limits: Limits | None) -> None:
    name, kind = parameter.name, parameter.annotation
    if value is parameter.default or kind is parameter.empty:
        return
    limits = limits or LIMITS.get(name)
    length = len(value) if isinstance(value, Sequence | Mapping) else None
    wanted = _LENGTHS.get(name)
    if wanted and length not in (None, wanted) and not isinstance(value, str):
        fits, rule = False, f", of length {wanted}"
    elif length == 0 and name in _NOT_EMPTY:
        fits, rule = False, ", not empty"
    else:
        fits, rule = _fits(value, kind, limits), ""
    if not fits:
        usual = parameter.default
        repair = f"[{short(value)}]" if _fits([value], kind, limits) else "such a value"
        instead = "" if usual is parameter.empty else f", or leave it out for {usual!r}"
        raise ValueError(
            f"{name} must be {_words(kind, limits)}{rule}. "
            f"Received: {name}={short(value)}. Pass {repair}{instead}."
        )


def _fits(value: Any, kind: Any, limits: Limits | None) -> bool:
    """Whether a value is what an annotation says. Names of types and `Any` say nothing."""
    if kind in (Any, ArrayLike, np.ndarray):  # What is an array, `to_numpy` finds out.
        return True
    if kind in (int, float):
        exact = numbers.Integral if kind is int else numbers.Real
        least, most = limits or _LIMITS[kind]
        number = isinstance(value, exact) and not isinstance(value, bool)
        return number and least <= value <= most and abs(value) < math.inf
    if kind in (bool, None):
        return value is None if kind is None else isinstance(value, bool | np.bool_)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is str:
        return isinstance(value, str) and value != ""
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part, limits) for part in parts)
    if not inspect.isclass(origin or kind):  # A name in quotes.
        return True
    if origin is None:
        return isinstance(value, kind)
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(one, part, limits)
            for pair in value.items()
            for one, part in zip(pair, parts, strict=True)
        )
    if not issubclass(origin, Iterable):
        return callable(value) if origin is Callable else isinstance(value, origin)
    if isinstance(value, str | bytes | Mapping):
        return False
    # An array is as good as a list, and a list as a tuple. What can be read but once is not.
    if not isinstance(value, Sequence | np.ndarray):
        return origin is Iterable and isinstance(value, Iterable)
    if _is_fixed(origin, parts):
        return len(value) == len(parts) and all(map(_fits, value, parts, [limits] * len(parts)))
    return getattr(value, "ndim", 1) > 0 and all(_fits(one, parts[0], limits) for one in value)


def _is_fixed(origin: Any, parts: Sequence[Any]) -> bool:
    """Whether an annotation is a tuple of so many values."""
    return origin is tuple and parts[-1] is not ...


def _words(kind: Any, limits: Limits | None) -> str:
    """Says in words what an annotation says."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind in (int, float):
        least, most = limits or _LIMITS[kind]
        what = "a whole number" if kind is int else "a number"
        if most > 10**6:
            return what if least < -(10**6) else f"{what} of at least {least}"
        return f"{what} from {least} to {most}"
    if kind in _WORDS:
        return _WORDS[kind]
    if origin in (typing.Union, types.UnionType):
        return _any_of(sorted(parts, key=lambda part: part is not type(None)), limits)
    if origin is None:
        if not inspect.isclass(kind):
            return "something else"
        return f"a {kind.__module__.partition('.')[0]}.{kind.__name__}"
    if issubclass(origin, Mapping):
        return "a dictionary of {} to {}".format(*(_words(part, limits) for part in parts))
    if issubclass(origin, Iterable):
        what = f"{len(parts)} values" if _is_fixed(origin, parts) else "a list"
        return f"{what}, each {_any_of(parts, limits)}"
    return {Callable: "a function", type: "a class"}.get(origin, "a path")


def _any_of(kinds: Iterable[Any], limits: Limits | None) -> str:
    return " or ".join(dict.fromkeys(_words(kind, limits) for kind in kinds if kind is not ...))
