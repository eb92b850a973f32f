"""Convolution arithmetic: sizes and matrices against Keras and PyTorch, and worked out by hand."""

import numpy as np
import pytest
from keras import ops

from keras_psp.analysis import convolution_matrix, output_size


def test_a_matrix_worked_out_by_hand():
    kernel = [[1, 2], [3, 4]]
    expected = [
        [1, 2, 0, 3, 4, 0, 0, 0, 0],
        [0, 1, 2, 0, 3, 4, 0, 0, 0],
        [0, 0, 0, 1, 2, 0, 3, 4, 0],
        [0, 0, 0, 0, 1, 2, 0, 3, 4],
    ]
    np.testing.assert_array_equal(convolution_matrix(kernel, (3, 3)), expected)
    # Transposed, every number of a 2×2 map is copied to a kernel's worth of the 3×3.
    matrix = convolution_matrix(kernel, (2, 2), transposed=True)
    np.testing.assert_array_equal(matrix, np.transpose(expected))
    enlarged = matrix @ [10, 20, 30, 40]
    np.testing.assert_array_equal(enlarged, [10, 40, 40, 60, 200, 160, 90, 240, 160])


# Size, kernel size, strides, padding, dilation rate
CONVOLUTIONS = [
    ((5, 6), (3, 2), 1, "valid", 1),
    ((5, 6), (3, 2), 1, "same", 1),
    ((6, 7), (3, 4), 2, "valid", 1),
    ((6, 7), (3, 4), 2, "same", 1),
    ((7, 8), (2, 2), 3, "valid", 1),
    ((7, 8), (3, 3), 1, "valid", 2),
    ((7, 8), (3, 3), 1, "same", 3),
]


@pytest.mark.parametrize("size, sides, strides, padding, dilation_rate", CONVOLUTIONS)
def test_equals_the_convolutions_of_keras(rng, size, sides, strides, padding, dilation_rate):
    kernel, x = rng.normal(size=sides), rng.normal(size=size)
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    wanted = ops.conv(x[None, ..., None], kernel[..., None, None], **options)
    matrix = convolution_matrix(kernel, size, **options)
    outputs = (matrix @ x.ravel()).reshape(wanted.shape[1:3])
    np.testing.assert_allclose(outputs, wanted[0, ..., 0], atol=1e-6)
    sizes = [output_size(n, side, **options) for n, side in zip(size, sides, strict=True)]
    assert sizes == [*wanted.shape[1:3]]
    if dilation_rate == 1:  # TensorFlow has no others on a CPU
        wanted = ops.conv_transpose(x[None, ..., None], kernel[..., None, None], **options)
        matrix = convolution_matrix(kernel, size, **options, transposed=True)
        outputs = (matrix @ x.ravel()).reshape(wanted.shape[1:3])
        np.testing.assert_allclose(outputs, wanted[0, ..., 0], atol=1e-6)


@pytest.mark.parametrize(
    "strides, padding, dilation_rate", [(1, 2, 1), (2, 1, 1), (3, 0, 2), (2, 3, 2)]
)
def test_the_transposed_convolution_is_the_transposed_matrix(rng, strides, padding, dilation_rate):
    torch = pytest.importorskip("torch", reason="PyTorch is what this is compared with")
    from torch.nn import functional as F

    kernel, x, y = (rng.normal(size=size) for size in [(4, 3), (4, 5), (13, 17)])
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    theirs = {"stride": strides, "padding": padding, "dilation": dilation_rate}
    weight = torch.tensor(kernel)[None, None]
    wanted = F.conv_transpose2d(torch.tensor(x)[None, None], weight, **theirs)[0, 0].numpy()
    transposed = convolution_matrix(kernel, x.shape, **options, transposed=True)
    np.testing.assert_allclose((transposed @ x.ravel()).reshape(wanted.shape), wanted, atol=1e-9)
    # It transposes the convolution from the large map to the small one.
    matrix = convolution_matrix(kernel, wanted.shape, **options)
    np.testing.assert_array_equal(transposed, matrix.T)
    convolved = F.conv2d(torch.tensor(y)[None, None], weight, **theirs)[0, 0].numpy()
    ours = convolution_matrix(kernel, y.shape, **options) @ y.ravel()
    np.testing.assert_allclose(ours.reshape(convolved.shape), convolved, atol=1e-9)


@pytest.mark.parametrize(
    "side, strides, even", [(2, 2, True), (3, 2, False), (4, 2, True), (5, 3, False), (6, 3, True)]
)
def test_checkerboards_come_from_uneven_overlap(side, strides, even):
    matrix = convolution_matrix(np.ones((side, side)), 6, strides, transposed=True)
    size = output_size(6, side, strides, transposed=True)
    counts = matrix.sum(1).reshape(size, size)
    inside = counts[side:-side, side:-side]  # the border has fewer anyway
    assert (inside.min() == inside.max()) == even
    # A constant map comes out as these counts.
    ones, kernel = np.ones((1, 6, 6, 1)), np.ones((side, side, 1, 1))
    np.testing.assert_allclose(ops.conv_transpose(ones, kernel, strides)[0, ..., 0], counts)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"strides": 0}, "at least 1. Received: strides=0"),
        ({"padding": "full"}, "Received: padding='full'"),
        ({"kernel_size": 5}, r"Received: size=4, padding='valid', for a kernel that spans 5 cells"),
        ({"padding": 4, "transposed": True}, "Received: size=4, padding=4"),
    ],
)
def test_sizes_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        output_size(**{"size": 4, "kernel_size": 2, **options})
