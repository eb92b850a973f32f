"""Fused models: the same outputs, from fewer steps."""

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import layers
from keras_psp.keras_internals import layers_in
from tests.whole import whole


def image(*size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype("float32")


def outputs(model, x):
    return keras.ops.convert_to_numpy(whole(model)(x))


def kinds(model):
    return {type(layer) for layer in layers_in(model)}


def small_backbone():
    """Padded convolutions and a block, with features at 1/16."""
    x = images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    for i, filters in enumerate([4, 8, 12, 16], 1):
        x = layers.PaddedConv2D(filters, 3, 2, use_bias=i == 2, name=f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"bn{i}")(x)
        x = keras.layers.ReLU(name=f"relu{i}")(x)
    return keras.Model(images, layers.BasicBlock(16, name="block")(x), name="small")


def test_worked_out_by_hand():
    x = inputs = keras.Input((None, None, 1))
    conv = keras.layers.Conv2D(1, 1, name="conv")
    bn = keras.layers.BatchNormalization(epsilon=1.0, name="bn")
    model = keras.Model(inputs, bn(conv(x)))
    conv.set_weights([np.full((1, 1, 1, 1), 2.0), np.ones(1)])
    bn.set_weights([np.full(1, v) for v in (5.0, 7.0, 3.0, 3.0)])  # γ, β, μ, σ²
    # 5 · (2x + 1 − 3) / √(3 + 1) + 7 = 5x + 2
    kernel, bias = keras_psp.fuse(model).get_weights()
    assert (kernel.item(), bias.item()) == (5.0, 2.0)


@pytest.mark.parametrize(
    "layer",
    [
        layers.BasicBlock(6, strides=2),
        layers.BasicBlock(6, strides=2, shortcut="A", use_bias=True),
        layers.BasicBlock(6, residual=False),
        layers.DilatedBottleneck(3, dilation_rate=2),
        layers.DilatedBottleneck(3, 2, stride_on="1x1", use_bias=True, epsilon=1.001e-5),
        layers.PyramidPooling(bins=(1, 3), filters=2),
        layers.SegmentationHead(5, 4),
    ],
    ids=lambda layer: layer.name,
)
@pytest.mark.parametrize("size", [(None, None), (9, 12)])
def test_fused_blocks_pyramid_and_heads_compute_the_same(layer, size, set_random_weights):
    inputs = keras.Input((*size, 4))
    model = set_random_weights(keras.Model(inputs, layer(inputs)))
    fused = keras_psp.fuse(model)
    x = np.random.default_rng(0).normal(size=(2, 9, 12, 4)).astype("float32")
    np.testing.assert_allclose(outputs(fused, x), outputs(model, x), rtol=1e-4, atol=1e-4)
    assert not kinds(fused) & {
        layers.BatchNormalization,
        type(layer),
        keras.layers.SpatialDropout2D,
    }


@pytest.mark.parametrize("variant, top", [("resnet20", True), ("resnet18_deep", False)])
def test_classifiers_and_backbones(variant, top, set_random_weights):
    model = set_random_weights(keras_psp.ResNet(variant, weights=None, include_top=top))
    fused = keras_psp.fuse(model)
    x = image(2, 32, 32)
    expected = outputs(model, x)
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(outputs(fused, x), expected, atol=1e-4 * np.abs(expected).max())
    assert layers.BatchNormalization not in kinds(fused)


def test_a_fused_pspnet_of_any_size_or_one(set_random_weights, tmp_path):
    model = set_random_weights(keras_psp.PSPNet(small_backbone(), num_classes=5, output_stride=16))
    fused = keras_psp.fuse(model)
    assert not [v for v in fused.variables if "auxiliary" in v.path or "moving" in v.path]
    for x in (image(1, 61, 83), image(2, 40, 33)):
        np.testing.assert_allclose(outputs(fused, x), outputs(model, x), atol=1e-4)
    before = outputs(model, x)
    fused.set_weights([0 * w for w in fused.get_weights()])
    np.testing.assert_array_equal(outputs(model, x), before)

    fixed = keras_psp.fuse(model, image_size=(40, 33), batch_size=2)
    assert fixed.input.shape == (2, 40, 33, 3)
    fixed.save(tmp_path / "fixed.keras")
    again = keras.saving.load_model(tmp_path / "fixed.keras")
    np.testing.assert_allclose(outputs(again, x), before, atol=1e-4)


def test_other_convolutions_nested_models_and_normalizations_that_stay(set_random_weights):
    def chain(*parts):
        return keras.Sequential([keras.Input((None, None, 3)), *parts])

    bn = keras.layers.BatchNormalization
    model = chain(
        bn(name="before"),
        chain(keras.layers.DepthwiseConv2D(3, depth_multiplier=2), bn(scale=False)),
        keras.layers.SeparableConv2D(4, 3, use_bias=False),
        bn(center=False),
        keras.layers.Conv2DTranspose(5, 3, 2),
        bn(),
        keras.layers.Conv2D(4, 1, activation="relu"),
        bn(name="behind_relu"),
    )
    set_random_weights(model)
    fused = keras_psp.fuse(model)
    x = image(2, 9, 8) / 255
    np.testing.assert_allclose(outputs(fused, x), outputs(model, x), atol=1e-4)
    left = [layer.name for layer in fused.layers if isinstance(layer, bn)]
    assert left == ["before", "behind_relu"]


def test_what_else_needs_the_convolution_still_gets_it(set_random_weights):
    inputs = keras.Input((None, None, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same")(inputs)
    once, twice = (keras.layers.BatchNormalization()(conv) for _ in range(2))
    model = set_random_weights(keras.Model(inputs, keras.layers.Add()([once, conv])))
    x = image(1, 6, 6) / 255
    fused = keras_psp.fuse(model)
    np.testing.assert_allclose(outputs(fused, x), outputs(model, x), atol=1e-4)
    model = set_random_weights(keras.Model(inputs, keras.layers.Add()([once, twice])))
    fused = keras_psp.fuse(model)
    np.testing.assert_allclose(outputs(fused, x), outputs(model, x), atol=1e-4)


def test_half_precision_stays_or_goes(set_random_weights):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = keras_psp.PSPNet(small_backbone(), num_classes=3, output_stride=16)
    finally:
        keras.config.set_dtype_policy("float32")
    set_random_weights(model)
    full = keras_psp.fuse(model, dtype="float32")
    x = image(1, 33, 48)
    assert {layer.compute_dtype for layer in full.layers} == {"float32"}
    assert np.abs(outputs(full, x) - outputs(model, x)).max() < 0.1
    same = keras_psp.fuse(model)
    assert same.get_layer("head_conv1_bn1").compute_dtype == "bfloat16"


def test_wants_a_functional_model_with_one_input():
    images = [keras.Input((4, 4, 3)) for _ in range(2)]
    model = keras.Model(images, keras.layers.Add()(images), name="two")
    with pytest.raises(ValueError, match=r"with one input. Received: model=two, .* 2 inputs"):
        keras_psp.fuse(model)
