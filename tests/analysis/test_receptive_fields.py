"""Receptive fields: the papers' figures, chains worked out by hand, and gradients as the truth."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import layers

import keras_psp
from keras_psp.analysis import effective_receptive_field, receptive_field
from keras_psp.layers import (
    BasicBlock,
    BedOfNails,
    BilinearUpsample,
    Crop,
    DilatedBottleneck,
    InceptionModule,
    MaxPoolWithArgmax,
    MaxUnpool,
    PaddedConv2D,
    PaddedMaxPooling2D,
    PyramidPooling,
)


def chain(shape, *behind, dtype=None):
    x = image = keras.Input(shape, dtype=dtype, name="image")
    for layer in behind:
        x = layer(x)
    return keras.Model(image, x)


def square(field):
    """Size, stride and offset of a field that is the same along both axes."""
    numbers = field.size, field.stride, field.offset
    assert all(vertical == horizontal for vertical, horizontal in numbers)
    return tuple(vertical for vertical, _ in numbers)


@pytest.fixture
def without_values():
    """Makes networks whose variables get no values: shapes are enough."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session()


# Figures of the papers and of Araujo et al. -----------------------------------------------------


def networks(builder, *variants, **options):
    options = {"include_top": False, "weights": None, **options}
    return [pytest.param(builder, variant, options, id=variant) for variant in variants]


# Variant → layer, size, stride
FIGURES = {
    "vgg16": [("block5_conv3", 196, 16), (None, 212, 32)],
    "vgg19": [(None, 268, 32)],
    "alexnet": [(None, 195, 32)],
    "googlenet": [("inception_5b", 715, 32)],
    "inception_v3": [(None, 1311, 32)],
    "resnet18": [(None, 435, 32)],
    "resnet34": [(None, 899, 32)],
    "resnet50": [(None, 483, 32), ("stage4_block3", 483, 32)],
    "resnet50_v1b": [(None, 427, 32)],
    "resnet101": [(None, 1027, 32)],
    "resnet101_v1b": [(None, 971, 32)],
    "resnet152": [(None, 1507, 32)],
    "resnet152_v1b": [(None, 1451, 32)],
    "resnet20": [("stage3_block3", 81, 4)],
    "resnet56": [(None, 249, 4)],
    "resnet110": [(None, 501, 4)],
}


@pytest.mark.parametrize(
    "builder, variant, options",
    [
        *networks(keras_psp.VGG, "vgg16", "vgg19"),
        *networks(keras_psp.AlexNet, "alexnet"),
        *networks(keras_psp.Inception, "googlenet", "inception_v3"),
        *networks(keras_psp.ResNet, *(name for name in FIGURES if "resnet" in name)),
    ],
)
@pytest.mark.usefixtures("without_values")
def test_figures_of_the_lectures_classifiers(builder, variant, options):
    model = builder(variant, **options)
    for layer, size, stride in FIGURES[variant]:
        assert square(receptive_field(model, layer))[:2] == (size, stride)


@pytest.mark.parametrize(
    "variant, size",
    [
        ("resnet50_v1b", 475),
        ("resnet50_deep", 479),
        ("resnet101_v1b", 1019),
        ("resnet101_deep", 1023),
    ],
)
@pytest.mark.usefixtures("without_values")
def test_figures_of_dilated_networks(variant, size):
    model = keras_psp.ResNet(variant, output_stride=8, include_top=False, weights=None)
    assert square(receptive_field(model))[:2] == (size, 8)


def narrow_resnet(
    blocks, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), contracted=False, **options
):
    rows = [PaddedConv2D(1, 7, 2), PaddedMaxPooling2D(3, 2)]
    for count, stride, dilation in zip(blocks, strides, dilations, strict=True):
        for i in range(count):
            rate = dilation // 2 if contracted and i == 0 and dilation > 1 else dilation
            rows.append(DilatedBottleneck(1, 1 if i else stride, rate, **options))
    return chain((None, None, 1), *rows)


@pytest.mark.usefixtures("without_values")
def test_figure_of_resnet_200():
    model = narrow_resnet((3, 24, 36, 3), stride_on="1x1")
    assert square(receptive_field(model))[:2] == (1763, 32)


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("blocks, size", [((3, 4, 6, 3), 427), ((3, 4, 23, 3), 971)])
def test_contracted_dilation_sees_what_strides_saw(blocks, size):
    model = narrow_resnet(blocks, (1, 2, 1, 1), (1, 1, 2, 4), contracted=True)
    assert square(receptive_field(model))[:2] == (size, 8)


@pytest.mark.usefixtures("without_values")
def test_figure_of_fully_convolutional_vgg():
    features = keras_psp.VGG("vgg16", include_top=False, weights=None)
    x = layers.Conv2D(1, 7, name="fc6")(features.output)
    model = keras.Model(features.input, layers.Conv2D(1, 1)(x))
    assert square(receptive_field(model, "fc6"))[:2] == (404, 32)


@pytest.mark.parametrize(
    "stride, sizes", [(1, [3, 5, 7, 9]), (2, [3, 5, 9, 13]), (3, [3, 5, 11, 17])]
)
def test_the_lectures_chain(stride, sizes):
    pair = lambda: [layers.Conv2D(1, 3), layers.MaxPooling2D(3, stride)]  # noqa: E731
    field = receptive_field(chain((40, 40, 1), *pair(), *pair()))
    assert [square(row)[0] for row in field.layers] == sizes


@pytest.mark.parametrize("depth", [1, 4, 10])
def test_a_stack_grows_by_two_for_each_layer(depth):
    model = chain((None, None, 1), *(layers.Conv2D(1, 3, padding="same") for _ in range(depth)))
    assert square(receptive_field(model)) == (1 + 2 * depth, 1, -depth)


# Worked out by hand -----------------------------------------------------------------------------


# Layers behind an image of 24×24, and what a cell sees: size, stride, offset
@pytest.mark.parametrize(
    "behind, seen",
    [
        ([layers.Conv2D(1, 3, 2, "same")], (3, 2, 0)),  # pads (0, 1) at an even size
        ([PaddedConv2D(1, 3, 2)], (3, 2, -1)),
        ([layers.ZeroPadding2D(2), layers.Conv2D(1, 3, dilation_rate=2)], (5, 1, -2)),
        ([layers.Cropping2D(3), layers.AveragePooling2D(2)], (2, 2, 3)),
        ([layers.Lambda(lambda x: x[:, 1::3, 1::3])], (1, 3, 1)),
        ([keras_psp.layers.DilatedMaxPooling2D(2, 4, centered=False)], (5, 1, 0)),
        # Two pixels make a cell, which becomes two again: pixel p sees those from p − 1 to p + 1.
        ([layers.MaxPooling2D(2), layers.UpSampling2D(2)], (3, 1, -1)),
        # The kernel of 4 with a stride of 2: a cell sees two of the cells before.
        ([layers.MaxPooling2D(2), layers.Conv2DTranspose(1, 4, 2, "same")], (5, 1, -2)),
        ([layers.MaxPooling2D(2), BilinearUpsample(factor=2, align_corners=False)], (5, 1, -2)),
        # A cell of 12 lies at p·11/23, so that 22/23 of a cell of two pixels may be before it.
        (
            [layers.MaxPooling2D(2), BilinearUpsample(factor=2)],
            (5, Fraction(22, 23), Fraction(-44, 23)),
        ),
        ([layers.Conv2D(1, 3), layers.GlobalMaxPooling2D(keepdims=True)], (24, 0, 0)),
        ([layers.Conv2D(4, 3), PyramidPooling((2,))], (24, 0, 0)),
        ([layers.Flatten(), layers.Dense(2)], (24, 0, 0)),
        ([layers.GroupNormalization(1)], (24, 0, 0)),
    ],
)
def test_a_layer(behind, seen):
    assert square(receptive_field(chain((24, 24, 1), *behind))) == seen


def test_unpooled_and_cropped_maps():
    image = keras.Input((24, 24, 1))
    maxima, places = MaxPoolWithArgmax()(image)
    for output, seen in [
        (maxima, (2, 2, 0)),
        # Every second pixel sees the two of its block, from p − 1 or from p on.
        (MaxUnpool()(maxima, places, like=image), (3, 1, -1)),
        (BedOfNails()(maxima), (3, 1, -1)),
        (Crop()(image, like=maxima, offset=5), (1, 1, 5)),
    ]:
        assert square(receptive_field(keras.Model(image, output))) == seen


def test_same_pads_as_the_image_size_asks():
    model = chain((None, None, 1), layers.Conv2D(1, 3, 2, "same", name="conv"))
    # 24 are padded by (0, 1), 25 by (1, 1).
    field = receptive_field(model, image_size=(24, 25))
    assert (field.offset, field.image_size) == ((0, -1), (24, 25))
    assert receptive_field(model).offset == (0, 0)


def test_branches_are_united():
    image = keras.Input((None, None, 1))
    wide = layers.Conv2D(1, (1, 5), padding="same")(image)
    high = layers.Conv2D(1, (7, 3), padding="same")(image)
    field = receptive_field(keras.Model(image, layers.Add()([wide, high])))
    assert (field.size, field.offset) == ((7, 5), (-3, -2))
    # Squeeze and excitation looks at everything.
    mean = layers.GlobalAveragePooling2D(keepdims=True)(high)
    model = keras.Model(image, [high, layers.Multiply()([wide, mean])])
    assert receptive_field(model, image_size=(40, 50)).size == (40, 50)


class Scaled(layers.Layer):
    """A user's own layer, of operations."""

    def call(self, inputs):
        x = keras.ops.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
        return keras.ops.max_pool(x, 3, 2) * 2


def test_what_is_nested_is_walked_into():
    inner = chain((None, None, 1), BasicBlock(2, 2, name="block"), Scaled(name="scaled"))
    inner.name = "inner"
    model = chain((None, None, 1), inner, layers.ReLU(name="relu"))
    seen = {row.name: (row.size[0], row.stride[0]) for row in receptive_field(model).layers}
    assert (seen["inner/block/conv1"], seen["inner/block/shortcut_conv"]) == ((3, 2), (1, 2))
    assert (seen["inner/block"], seen["inner/scaled"], seen["relu"]) == ((7, 2), (11, 4), (11, 4))
    assert square(receptive_field(model, "inner/block/conv2"))[0] == 7
    assert receptive_field(model, model.get_layer("relu")).name == "relu"


def test_the_box_of_a_cell():
    field = receptive_field(chain((9, 12, 1), layers.Conv2D(2, 3, 3, "same")))
    assert field.output_shape == (3, 4, 2)
    assert field.box((1, 2)) == (3, 6, 6, 9)
    assert field.box() == field.box((1, 2))
    with pytest.raises(ValueError, match=r"Received: cell=\(3, 0\) of .*, which has 3×4. Choose"):
        field.box((3, 0))


def test_printed_it_is_a_table():
    behind = layers.Conv2D(2, (3, 5), name="conv"), layers.ReLU(), layers.Flatten(name="flat")
    lines = str(receptive_field(chain((9, 9, 1), *behind))).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "size", "stride", "offset"]
    assert [line.split() for line in lines[2:]] == [
        ["conv", "Conv2D", "7×5×2", "3×5", "1", "0"],
        ["flat", "Flatten", "70", "9", "0", "0"],
    ]


@pytest.mark.parametrize(
    "model, layer, message",
    [
        (keras.Sequential([layers.Dense(2)], name="unbuilt"), None, "functional.*model=unbuilt"),
        (chain((8, 8, 1), layers.ReLU(name="relu")), "rely", "layer='rely'. Did you mean 'relu'"),
        (chain((8, 8, 1), layers.Resizing(4, 4, name="a")), None, "layer a, a Resizing. Name a"),
        (
            chain((1, 8, 8), layers.Conv2D(1, 3, data_format="channels_first", name="conv")),
            None,
            "Received: layer conv with data_format='channels_first'. Build",
        ),
    ],
    ids=["no graph", "no such layer", "no rule", "channels first"],
)
def test_what_cannot_be_found_out(model, layer, message):
    with pytest.raises(ValueError, match=message):
        receptive_field(model, layer)


class Opaque(layers.Layer):
    """A layer that needs values."""

    def call(self, inputs):
        return inputs if keras.ops.convert_to_numpy(inputs).any() else inputs + 1

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape)


def test_a_layer_that_needs_values():
    with pytest.raises(ValueError, match=r"keras.ops. Received: layer opaque, a Opaque. Name a"):
        receptive_field(chain((8, 8, 1), Opaque(name="opaque")))


# Gradients are the truth ------------------------------------------------------------------------


def average(size, stride):
    """Instead of a maximum, whose gradient goes to one place only."""
    return [layers.ZeroPadding2D(size // 2), layers.AveragePooling2D(size, stride)]


def vgg_like():
    def convolutions(number):
        return [layers.Conv2D(1, 3, padding="same", activation="relu") for _ in range(number)]

    pools = [layers.AveragePooling2D(2) for _ in range(3)]
    return [*convolutions(1), pools[0], *convolutions(2), pools[1], *convolutions(3), pools[2]]


def resnet_like(strides=(1, 2, 2), dilations=(1, 1, 1)):
    rows = zip(strides, dilations, strict=True)
    blocks = [DilatedBottleneck(1, stride, dilation) for stride, dilation in rows]
    return [PaddedConv2D(1, 7, 2), *average(3, 2), *blocks]


NETWORKS = {
    "vgg": vgg_like,
    "resnet": resnet_like,
    "dilated": lambda: resnet_like((2, 1, 1), (1, 2, 4)),
    "contracted": lambda: [
        *resnet_like((2, 1, 1), (1, 1, 2)),
        BasicBlock(1, 1, 2, second_dilation_rate=1),
    ],
    "inception": lambda: [
        layers.Conv2D(1, 7, 2, "same"),
        layers.AveragePooling2D(3, 2, "same"),
        InceptionModule(1, 1, 1, 1, 1, 1),
        layers.AveragePooling2D(3, 2, "same"),
        InceptionModule(1, 1, 1, 1, 1, 1, dilation_rate=2),
    ],
    "alexnet": lambda: [
        layers.Conv2D(1, 11, 4),
        layers.AveragePooling2D(3, 2),
        layers.Conv2D(1, 5, padding="same"),
        layers.AveragePooling2D(3, 2),
        layers.Conv2D(1, (3, 1), padding="same"),
    ],
}


def make_positive(model, seed=0):
    """Gives every kernel positive weights of sum 1; biases and normalizations stay."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            value = rng.uniform(0.5, 1.5, weight.shape)
            weight.assign(value / value.sum((0, 1, 2)))


@pytest.fixture
def float64():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX calculates in float64 only where it is told before anything else")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_prove_the_box(network, float64):
    model = chain((None, None, 1), *NETWORKS[network](), dtype="float64")
    make_positive(model)
    field = receptive_field(model)
    image_size = [size + 3 * stride for size, stride in zip(field.size, field.stride, strict=True)]
    images = np.ones((1, *image_size, 1))
    gradient = effective_receptive_field(model, images=images).gradient
    top, left, bottom, right = receptive_field(model, image_size=image_size).box()
    assert min(top, left) > 0
    assert (bottom < image_size[0], right < image_size[1]) == (True, True)
    corners = gradient[[top, top, bottom - 1, bottom - 1], [left, right - 1, left, right - 1]]
    assert (corners > 0).all()
    gradient[top:bottom, left:right] = 0
    assert not gradient.any()


# The effective field ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "depth, side", [(5, 8.31), (10, 11.70), (20, 16.16), (40, 22.74), (80, 32.26)]
)
def test_effective_sizes_of_luo_et_al(float64, depth, side):
    blur = layers.Conv2D(1, 3, padding="same", use_bias=False)
    size = 1 + 2 * depth
    model = chain((size, size, 1), *[blur] * depth, dtype="float64")
    blur.kernel.assign(np.full((3, 3, 1, 1), 1 / 9))
    effective = effective_receptive_field(model, images=np.ones((1, size, size, 1)))
    assert effective.field.size == (size, size)
    assert effective.side == pytest.approx(side, abs=0.005)


def test_effective_field_of_a_layer_inside_a_block():
    image = keras.Input((11, 13, 2))
    model = keras.Model(image, BasicBlock(2, dilation_rate=2, name="block")(image))
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            weight.assign(np.ones(weight.shape))
    effective = effective_receptive_field(model, "block/conv1", seed=1)
    # Nine pixels, two apart, around the middle cell, all of them equal.
    expected = np.zeros((11, 13))
    expected[3:8:2, 4:9:2] = 1.0
    np.testing.assert_allclose(effective.gradient, expected)
    assert effective.side == 3
    assert effective.field.box() == (3, 4, 8, 9)
