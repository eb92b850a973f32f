"""What a cell of an operation's output sees of its input: a rule for each kind of operation."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from keras_psp.analysis.arithmetic import padding_before

Pixels = int | Fraction


class Window(NamedTuple):
    """What a cell of an operation's output sees of its input along one axis: cell p the cells from
    p·stride − before to p·stride + after, those between two cells left out."""

    stride: Pixels = 1
    before: Pixels = 0
    after: Pixels = 0


class NotKnownError(ValueError):
    """Nobody knows what the cells of a layer see."""

    def __init__(self, name: str, operation: Any):
        super().__init__(
            "What the cells of a layer see is known for Keras' layers and this package's, and for "
            f"layers made of these or of keras.ops. Received: layer {name}, a "
            f"{type(operation).__name__}. Name a layer before it in keras.Model(image, …)."
        )


def pointwise(operation: Any, args: Any, n: int, cells: int, i: int) -> Window | None:
    """Of an operation that treats each place by itself."""
    if n == cells:
        return Window()
    if n != 1 and cells != 1:
        raise NotKnownError(operation.name, operation)
    return None  # what all places have in common


def _everything(operation, args, n, cells, i):
    return None


def _window(operation, args, n, cells, i, padding=None):
    """Of a convolution or pooling."""
    sides = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", None)
    sides = sides or args[1].shape  # of an operation's kernel
    side, stride = _along(sides, i), _along(operation.strides or sides, i)
    rate = _along(getattr(operation, "dilation_rate", 1), i)
    reach = rate * (side - 1)
    if padding is None:
        padding = operation.padding
    before = padding_before(n, side, stride, padding, rate)
    return Window(stride, before, reach - before)


def _even_window(operation, args, n, cells, i):
    """Of a convolution or pooling that pads evenly, whatever the stride."""
    window = _window(operation, args, n, cells, i, padding="valid")
    return window._replace(before=window.after // 2, after=window.after - window.after // 2)


def _dilated_pool(operation, args, n, cells, i):
    reach = operation.dilation_rate * (operation.pool_size - 1)
    before = reach // 2 if operation.centered else 0
    return Window(1, before, reach - before)


def _transposed(operation, args, n, cells, i):
    """Of a transposed convolution, which a convolution of its output would undo."""
    stride, before, after = _window(operation, args, cells, n, i)
    return Window(Fraction(1, stride), Fraction(after, stride), Fraction(before, stride))


def _blocks(operation, args, n, cells, i):
    """Of a pooling of blocks side by side, or of what undoes it."""
    side = operation.pool_size
    if cells < n:
        return Window(side, 0, side - 1)
    return Window(Fraction(1, side), 1 - Fraction(1, side), 0)


def _padding(operation, args, n, cells, i):
    return Window(1, operation.padding[i][0], -operation.padding[i][0])


def _reflected(operation, args, n, cells, i):
    return Window(1, operation.padding, -operation.padding)


def _pad(operation, args, n, cells, i):
    before, _ = operation.pad_width[1 + i]
    return Window(1, before, -before)


def _cropping(operation, args, n, cells, i):
    return Window(1, -operation.cropping[i][0], operation.cropping[i][0])


def _crop(operation, args, n, cells, i):
    _, _like, offset = (*args, 0)[:3]
    return Window(1, -offset, offset)


def _slice(operation, args, n, cells, i):
    keys = args[1] if isinstance(args[1], tuple) else (args[1],)
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        keys = (*keys[:place], *[slice(None)] * (5 - len(keys)), *keys[place + 1 :])
    key = keys[1 + i] if len(keys) > 1 + i else slice(None)
    start, _, step = key.indices(n)
    return Window(step, -start, start)


def _upsampling(operation, args, n, cells, i):
    if operation.interpolation == "nearest":
        return Window(Fraction(n, cells), 1 - Fraction(n, cells), 0)
    if operation.interpolation == "bilinear":
        return _interpolation(n, cells, align_corners=False)
    raise NotKnownError(operation.name, operation)


def _bilinear(operation, args, n, cells, i):
    return _interpolation(n, cells, operation.align_corners)


def _interpolation(n, cells, align_corners):
    """Cell p lies at p·stride + shift among the n, and sees the cells on either side."""
    stride, shift = Fraction(n, cells), (Fraction(n, cells) - 1) / 2
    if align_corners:
        stride, shift = Fraction(n - 1, max(cells - 1, 1)), Fraction(0)
    farthest = 1 - Fraction(1, math.lcm(stride.denominator, shift.denominator))
    return Window(stride, farthest - shift, farthest + shift)


def _along(values: Any, i: int) -> int:
    return values if isinstance(values, int) else values[i]


# By the names of their classes: those behind `keras.ops` are not public.
_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2D", "SeparableConv2D"), _window),
    **dict.fromkeys(("Conv", "DepthwiseConv", "SeparableConv"), _window),
    **dict.fromkeys(("MaxPooling2D", "AveragePooling2D", "MaxPool", "AveragePool"), _window),
    **dict.fromkeys(("PaddedConv2D", "PaddedMaxPooling2D"), _even_window),
    **dict.fromkeys(("DilatedMaxPooling2D", "DilatedAveragePooling2D"), _dilated_pool),
    **dict.fromkeys(("Conv2DTranspose", "ConvTranspose"), _transposed),
    **dict.fromkeys(("GlobalAveragePooling2D", "GlobalMaxPooling2D"), _everything),
    **dict.fromkeys(
        ("PyramidPooling", "PyramidAveragePooling2D", "PyramidMaxPooling2D"), _everything
    ),
    **dict.fromkeys(("MaxPoolWithArgmax", "MaxUnpool", "BedOfNails"), _blocks),
    "GroupNormalization": _everything,
    "BatchNormalization": pointwise,
    "ZeroPadding2D": _padding,
    "ReflectPadding2D": _reflected,
    "Pad": _pad,
    "Cropping2D": _cropping,
    "Crop": _crop,
    "GetItem": _slice,
    "UpSampling2D": _upsampling,
    "BilinearUpsample": _bilinear,
}


def rule_of(operation: Any) -> Callable[..., Window | None] | None:
    """The rule of an operation; `None` if it has none of its own.

    Args:
        operation: A layer, or an operation of `keras.ops`.

    Returns:
        Function `(operation, args, n, cells, i)` of the arguments of its call, and of the number of
        cells of its input and of its output along axis `i`, 0 or 1. It gives `None` where a cell
        sees all of them.
    """
    names = (base.__name__ for base in type(operation).__mro__)
    return next((_RULES[name] for name in names if name in _RULES), None)
