"""The arithmetic of convolutions: how large their output is, and which matrix they are."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.checked import checked
from keras_psp.choices import check_name


@checked
def output_size(
    size: int,
    kernel_size: int,
    strides: int = 1,
    padding: int | str = "valid",
    dilation_rate: int = 1,
    *,
    transposed: bool = False,
) -> int:
    """The size of what a convolution or a pooling makes of a map, along one axis.

    Args:
        size: Number of cells of the map.
        kernel_size: Side of the kernel or window.
        strides: Cells from one place of the kernel to the next; a transposed convolution makes so
            many cells of one.
        padding: `"valid"`, `"same"`, or the number of cells that are put on both sides. Of a
            transposed convolution, it is that of the convolution which it transposes.
        dilation_rate: Cells from one number of the kernel to the next.
        transposed: Whether it is a transposed convolution.

    Returns:
        Number of cells of the output, as Keras' layers have it.

    Raises:
        ValueError: If a number is too small, or the kernel is larger than the padded map.

    Reference:
        [Dumoulin and Visin, 2016](https://arxiv.org/abs/1603.07285), relationships 5 to 15.

    Example:

    ```python
    from keras_psp.analysis import output_size

    print(output_size(224, 7, strides=2, padding=3))  # the first convolution of a ResNet
    print(output_size(7, 64, strides=32, padding=16, transposed=True))  # the last one of FCN-32s
    ```

    ```text
    112
    224
    ```
    """
    if isinstance(padding, str):
        check_name("padding", padding, ["valid", "same"])
    span = dilation_rate * (kernel_size - 1) + 1
    if padding == "same":
        return size * strides if transposed else -(-size // strides)
    if not transposed:
        padded = size if padding == "valid" else size + 2 * int(padding)
        cells = (padded - span) // strides + 1
    elif padding == "valid":
        # Where the stride is larger than the kernel, it leaves cells out, also behind the last one.
        cells = size * strides + max(span - strides, 0)
    else:
        cells = (size - 1) * strides + span - 2 * int(padding)
    if cells < 1:
        raise ValueError(
            "Something must be left of a map. "
            f"Received: size={size}, padding={padding!r}, for a kernel that spans {span} cells. "
            "Take a smaller kernel or dilation rate, or another padding."
        )
    return cells


def padding_before(
    size: int, kernel_size: int, strides: int, padding: int | str, dilation_rate: int
) -> int:
    """The number of cells that a convolution puts before the first cell along one axis."""
    if padding == "valid":
        return 0
    if padding == "same":
        cells, reach = -(-size // strides), dilation_rate * (kernel_size - 1)
        return max((cells - 1) * strides + reach + 1 - size, 0) // 2
    return int(padding)


@checked
def convolution_matrix(
    kernel: Any,
    size: int | Sequence[int],
    strides: int = 1,
    padding: int | str = "valid",
    dilation_rate: int = 1,
    *,
    transposed: bool = False,
) -> np.ndarray:
    """The matrix that a small convolution of one channel multiplies its flattened map by.

    Most of it is zeros, and its rows are the kernel, moved. The matrix of the transposed
    convolution is the transposed matrix. What was a row, the cells that one cell of the output
    sees, is now a column, the cells that one cell of the map is copied to. Where the sums of the
    rows differ, a transposed convolution draws a checkerboard.

    Args:
        kernel: The numbers of the kernel, `(height, width)`, or `(width,)` for one axis only.
        size: `(height, width)` of the map, or its width. A single number stands for all axes.
        strides: As in `output_size`, along every axis.
        padding: As in `output_size`, along every axis.
        dilation_rate: As in `output_size`, along every axis.
        transposed: Whether it is a transposed convolution.

    Returns:
        Array `(cells of the output, cells of the map)`, row by row: `matrix @ map.ravel()` is the
        output.

    Raises:
        ValueError: As `output_size`.

    Reference:
        [Dumoulin and Visin, 2016](https://arxiv.org/abs/1603.07285), section 4.1;
        [Odena et al., 2016](https://distill.pub/2016/deconv-checkerboard).

    Example:

    ```python
    import numpy as np
    from keras_psp.analysis import convolution_matrix

    print(convolution_matrix([1, 2, 3], 5, strides=2))
    print(convolution_matrix([1, 2, 3], 2, strides=2, transposed=True))  # the same, transposed

    # How often each place is reached: the checkerboard
    print(convolution_matrix(np.ones(3), 4, strides=2, transposed=True).sum(1))
    ```

    ```text
    [[1 2 3 0 0]
     [0 0 1 2 3]]
    [[1 0]
     [2 0]
     [3 1]
     [0 2]
     [0 3]]
    [1. 1. 2. 1. 2. 1. 2. 1. 1.]
    ```
    """
    kernel = to_numpy(kernel, "kernel", [1, 2])
    sizes = size if isinstance(size, Sequence) else [size] * kernel.ndim
    if len(sizes) != kernel.ndim or not kernel.size:
        raise ValueError(
            "A kernel has numbers, and the map has its axes. "
            f"Received: kernel of shape {kernel.shape}, size={size}. Pass one size for each axis."
        )
    axes = []  # of each: which cell of the map every number of the kernel meets, at every place
    for side, cells in zip(kernel.shape, sizes, strict=True):
        places = output_size(cells, side, strides, padding, dilation_rate, transposed=transposed)
        if transposed:
            places, cells = cells, places
        first = np.arange(places) * strides
        first -= padding_before(cells, side, strides, padding, dilation_rate)
        met = first + np.arange(side)[:, None] * dilation_rate
        axes.append(met[..., None] == np.arange(cells))
    matrix = sum(
        kernel[taps]
        * functools.reduce(np.kron, [met[i] for met, i in zip(axes, taps, strict=True)])
        for taps in np.ndindex(kernel.shape)
    )
    return matrix.T if transposed else matrix
