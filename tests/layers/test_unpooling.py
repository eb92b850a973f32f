"""Unpooling and its neighbors against the lecture, numbers worked out by hand, and PyTorch."""

import keras
import numpy as np
import pytest

from keras_psp.layers import BedOfNails, BilinearUpsample, MaxPoolWithArgmax, MaxUnpool
from tests.gradients import value_and_gradient
from tests.whole import whole

numpy = keras.ops.convert_to_numpy


def one_map(rows):
    return np.array(rows, "float32")[None, :, :, None]


SMALL = [[1, 2], [3, 4]]
# The lecture's three, and a transposed convolution: each value times the kernel, side by side.
WORKED_OUT = {
    "bed of nails": (BedOfNails(), [[1, 0, 2, 0], [0] * 4, [3, 0, 4, 0], [0] * 4]),
    "nearest": (
        keras.layers.UpSampling2D(2),
        [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]],
    ),
    "bilinear": (
        BilinearUpsample(factor=2, align_corners=False),
        [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]],
    ),
    # Kernel 3×3 of ones with stride 2: where two of them overlap, their values are added.
    "transposed convolution": (
        keras.layers.Conv2DTranspose(1, 3, 2, kernel_initializer="ones"),
        [[1, 1, 3, 2, 2], [1, 1, 3, 2, 2], [4, 4, 10, 6, 6], [3, 3, 7, 4, 4], [3, 3, 7, 4, 4]],
    ),
}


@pytest.mark.parametrize("name", WORKED_OUT)
def test_upsampling_worked_out_by_hand(name):
    layer, expected = WORKED_OUT[name]
    np.testing.assert_allclose(numpy(layer(one_map(SMALL)))[0, :, :, 0], expected)


def test_unpooling_worked_out_by_hand():
    before = one_map([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]])
    maxima, places = MaxPoolWithArgmax()(before)
    assert numpy(maxima)[0, :, :, 0].tolist() == [[5, 6], [7, 8]]
    assert numpy(places)[0, :, :, 0].tolist() == [[3, 0], [2, 3]]
    unpooled = numpy(MaxUnpool()(one_map(SMALL), places))[0, :, :, 0]
    assert unpooled.tolist() == [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]


def slopes(size):
    """Another factor for each place."""
    return np.arange(1, 1 + np.prod(size), dtype="float32").reshape(*size, 1)


def of_pytorch(x, pool_size):
    """Maxima, indices, the squares of the maxima unpooled, and their gradient in `x`."""
    torch = pytest.importorskip("torch")
    x = torch.tensor(x.transpose(0, 3, 1, 2).copy()).cpu().requires_grad_()
    maxima, indices = torch.nn.functional.max_pool2d(
        x, pool_size, ceil_mode=True, return_indices=True
    )
    unpooled = torch.nn.functional.max_unpool2d(
        maxima**2, indices, pool_size, output_size=x.shape[2:]
    )
    (unpooled * torch.tensor(slopes(x.shape[2:])[..., 0])).sum().backward()
    maps = maxima, indices, unpooled, x.grad
    return [y.detach().numpy().transpose(0, 2, 3, 1) for y in maps]


# PyTorch looks for a GPU before its first gradient.
@pytest.mark.filterwarnings("ignore:CUDA initialization")
@pytest.mark.parametrize("pool_size", [2, 3])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1), (6, 3)])
def test_pooling_and_unpooling_equal_pytorchs(size, pool_size, rng):
    # Of few different values: the first of several maxima counts, and gets the gradient.
    x = rng.integers(-2, 3, (2, *size, 3)).astype("float32")
    maxima, indices, unpooled, gradient = of_pytorch(x, pool_size)
    pool, unpool = MaxPoolWithArgmax(pool_size), MaxUnpool(pool_size)

    ours, places = (numpy(y) for y in whole(pool)(x))
    np.testing.assert_array_equal(ours, maxima)
    # PyTorch counts the places of the whole map, row by row.
    corners = pool_size * np.indices(maxima.shape[1:3])[:, None, :, :, None]
    rows, columns = corners + np.stack(np.divmod(places.astype(int), pool_size))
    np.testing.assert_array_equal(rows * size[1] + columns, indices)
    np.testing.assert_array_equal(numpy(whole(unpool)(maxima**2, places, x)), unpooled)

    def total(x):
        maxima, places = pool(x)
        return keras.ops.sum(keras.ops.multiply(unpool(maxima**2, places, like=x), slopes(size)))

    np.testing.assert_allclose(value_and_gradient(total, x)[1], gradient)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_pooling_gives_back_what_was_unpooled(size, rng):
    places = rng.integers(0, 4, (2, 2, 3, 5)) if size == (4, 6) else None
    if places is None:  # In smaller blocks at the border the last places do not exist.
        _, places = MaxPoolWithArgmax()(rng.normal(size=(2, *size, 5)).astype("float32"))
    values = rng.uniform(0, 1, places.shape).astype("float32")
    pooled, again = MaxPoolWithArgmax()(MaxUnpool(size=size)(values, places))
    np.testing.assert_array_equal(numpy(pooled), values)
    np.testing.assert_array_equal(numpy(again), numpy(places))


def test_bed_of_nails_keeps_the_contract_of_a_layer(rng, check_layer):
    check_layer(BedOfNails(3), rng.normal(size=(2, 3, 2, 4)).astype("float32"))


def test_unpooling_keeps_the_contract_of_a_layer(rng, check_layer):
    values = rng.uniform(0, 1, (2, 3, 4, 5)).astype("float32")
    places = rng.integers(0, 4, values.shape).astype("uint8")
    check_layer(MaxUnpool(), values, places, np.zeros((2, 5, 7, 1), "float32"))
    check_layer(MaxUnpool(size=(5, 8)), values, places)


@keras.saving.register_keras_serializable("keras_psp_tests")
class PooledAndUnpooled(MaxPoolWithArgmax):
    """A layer with one output, as the contract wants."""

    def call(self, inputs):
        return MaxUnpool()(*super().call(inputs), like=inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, self.compute_dtype)


def test_pooling_keeps_the_contract_of_a_layer(rng, check_layer):
    check_layer(PooledAndUnpooled(), rng.normal(size=(2, 5, 6, 4)).astype("float32"))
    maxima, places = MaxPoolWithArgmax(dtype="float16")(keras.Input((None, 7, 4)))
    assert maxima.shape == places.shape == (None, None, 4, 4)
    assert (maxima.dtype, places.dtype) == ("float16", "uint8")


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, places, like, message",
    [
        ((1, 2, 3, 4), (1, 2, 2, 4), (1, 4, 6, 1), r"Received: inputs of shape \(1, 2, 3, 4\), in"),
        (
            (1, 2, 3, 4),
            (1, 2, 3, 4),
            (1, 4, 7, 1),
            r"makes ceil\(n / 2\) .*to be unpooled to \(4, 7",
        ),
        ((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 6, 1), r"Pass the size, or as like= the map, before"),
    ],
)
def test_what_pooling_cannot_have_made_is_an_error(values, places, like, message):
    for make in (lambda shape, dtype: np.zeros(shape, dtype), keras.KerasTensor):
        with pytest.raises(ValueError, match=message):
            MaxUnpool()(make(values, "float32"), make(places, "uint8"), like=make(like, "float32"))


@pytest.mark.parametrize(
    "layer, pool_size", [(BedOfNails, 0), (MaxUnpool, (2, 2)), (MaxPoolWithArgmax, 17)]
)
def test_blocks_of_no_size_are_an_error(layer, pool_size):
    with pytest.raises(ValueError, match=r"Received: pool_size=.*\. (Use|Pass) "):
        layer(pool_size)
