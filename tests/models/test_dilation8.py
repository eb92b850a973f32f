"""Dilation8 against the same network written out in PyTorch; where it comes from and goes to."""

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.analysis import receptive_field
from keras_psp.layers import IdentityKernel
from keras_psp.models import Dilation8

numpy = keras.ops.convert_to_numpy

WIDTHS = {1: (4, 4), 2: (5, 5), 3: (6, 6, 6), 4: (7, 7, 7), 5: (8, 8, 8)}


def narrow_vgg(*end, input_shape=(None, None, 3)):
    """VGG-16 with few channels; it normalizes by itself."""
    image = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255)(image)
    for stage, widths in WIDTHS.items():
        for i, width in enumerate(widths, 1):
            name = f"block{stage}_conv{i}"
            x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=name)(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{stage}_pool")(x)
    for layer in end:
        x = layer(x)
    return keras.Model(image, x, name="narrow")


def written_out(torch, context, mirrored, num_classes=5, width=9):
    """Dilation8 from the description of the authors' network, in PyTorch."""
    from torch import nn

    layers, channels = [nn.ReflectionPad2d(186)] if mirrored else [], 3

    def convolve(filters, side, dilation=1, relu=True, padded=not mirrored):
        nonlocal channels
        padding = dilation * (side // 2) if padded else 0
        layers.append(nn.Conv2d(channels, filters, side, padding=padding, dilation=dilation))
        layers.extend([nn.ReLU()] if relu else [])
        channels = filters

    for stage, widths in WIDTHS.items():
        for filters in widths:
            convolve(filters, 3, 2 if stage == 5 else 1)
        layers.extend([nn.MaxPool2d(2)] if stage <= 3 else [])
    convolve(width, 7, 4)  # fc6
    convolve(width, 1)  # fc7
    convolve(num_classes, 1, relu=False)
    for dilation in (1, 1, 2, 4, 8, 16, 1) if context else ():
        convolve(num_classes, 3, dilation, padded=True)
    if context:
        convolve(num_classes, 1, relu=False)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    "context, padding, size",
    [(True, "same", (67, 80)), (False, "same", (64, 64)), (True, "paper", (192, 200))],
)
def test_same_weights_same_logits(set_random_weights, image, context, padding, size):
    torch = pytest.importorskip("torch")
    model = Dilation8(narrow_vgg(), 5, context=context, padding=padding, fc_channels=9)
    set_random_weights(model)
    network = written_out(torch, context, padding == "paper")
    ours, theirs = model.weights, list(network.parameters())
    for variable, tensor in zip(ours, theirs, strict=True):
        value = numpy(variable)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        assert value.shape == tuple(tensor.shape)
        tensor.data.copy_(torch.tensor(value.copy()))
    x = image(*size)
    with torch.no_grad():
        small = network(torch.tensor(x.transpose(0, 3, 1, 2) / 255))
        options = {"mode": "bilinear", "align_corners": True}
        expected = torch.nn.functional.interpolate(small, size, **options)
    assert padding == "same" or small.shape[2:] == (192 // 8, 200 // 8)
    expected = expected.numpy().transpose(0, 2, 3, 1)
    assert expected.std() > 0.01
    atol = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(numpy(model(x)), expected, atol=atol, rtol=0)


def test_parameters_are_those_of_the_paper():
    with keras.StatelessScope(initialize_variables=False):
        model = Dilation8("vgg16", 11, backbone_weights=None)
    parts = model.backbone, model.fully_connected, model.head, model.context_module
    counts = [part.count_params() for part in parts]
    fc6, fc7 = 49 * 512 * 4096 + 4096, 4096 * 4096 + 4096
    assert counts == [14_714_688, fc6 + fc7, 4096 * 11 + 11, 7 * (9 * 121 + 11) + 121 + 11]
    assert model.count_params() == sum(counts) == 134_313_443
    # What the context module sees of the scores, layer by layer; the last one is 1×1.
    seen = [row.size[0] for row in receptive_field(model.context_module).layers]
    assert seen == [3, 5, 9, 17, 33, 65, 67, 67]
    # Of the image: pool3 sees 44 pixels at 1/8. Behind it 3·2 cells at dilation 1, 3·2·2 at 2, and
    # fc6's 6·4 add 8 pixels each.
    front_end = 44 + 8 * (6 + 12 + 24)
    sizes = [receptive_field(model, name).size[0] for name in ("head", "context")]
    assert sizes == [front_end, front_end + 8 * 66]
    keras.utils.clear_session()


def test_the_authors_padding_leaves_the_authors_maps():
    with keras.StatelessScope(initialize_variables=False):
        model = Dilation8("vgg16", 11, backbone_weights=None, padding="paper")
    # Their layers on the 900 pixels of a mirrored image of 528.
    field = receptive_field(model, image_size=(528, 528))
    sides = {row.name.partition("/")[2]: row.output_shape[0] for row in field.layers}
    assert sides["reflect_padding"] == 900
    assert [sides[f"block{i}_pool"] for i in (1, 2, 3)] == [448, 222, 108]
    assert (sides["block5_conv3"], sides["fc6"], sides["layer7"]) == (90, 66, 66)
    keras.utils.clear_session()


def test_context_begins_as_the_identity(image, randomize):
    model = Dilation8(narrow_vgg(), 5, fc_channels=9)
    start = model.context_module.get_weights()
    randomize(model)
    model.context_module.set_weights(start)
    scores = model.head(model.fully_connected(model.features(image(48, 48))["P5"]))
    logits = numpy(model.decode(model.features(image(48, 48))))
    assert (logits > 0).any()
    np.testing.assert_allclose(logits, np.maximum(numpy(scores), 0), atol=1e-6)
    with pytest.raises(ValueError, match=r"Received: shape=\(3, 3, 4, 5\). Use .* filters=4"):
        IdentityKernel()((3, 3, 4, 5))


def test_a_front_end_starts_the_whole(tiny_backbone, randomize, tmp_path):
    front_end = Dilation8(tiny_backbone, 3, fc_channels=8, context=False)
    randomize(front_end)
    file = tmp_path / "front_end.weights.h5"
    front_end.save_weights(file)
    model = Dilation8(tiny_backbone, 3, fc_channels=8, weights=file)
    start, layers = len(front_end.weights), model.context_module.layers
    for ours, theirs in zip(model.weights[:start], front_end.weights, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))
    assert np.array_equal(numpy(layers[0].kernel), IdentityKernel()((3, 3, 3, 3)))
    model.save_weights(file)
    with pytest.raises(ValueError, match=r"has no place in .*Build Dilation8 with context=True"):
        Dilation8(tiny_backbone, 3, fc_channels=8, context=False, weights=file)


def test_fully_connected_layers_become_convolutions(image, randomize):
    # With strides in place of the last poolings, the front end must say what the classifier says.
    image_, channels = keras.Input((224, 224, 3)), (2, 3, 4, 5, 6)
    x = keras.layers.Rescaling(1 / 255)(image_)
    for i, width in enumerate(channels):
        x = keras_psp.layers.PaddedConv2D(width, 3, 2, activation="relu", name=f"conv{i}")(x)
    x = keras.layers.Flatten()(x)
    for i, width in enumerate((8, 8), 1):
        x = keras.layers.Dense(width, "relu", name=f"fc{i}")(x)
    classifier = keras.Model(image_, keras.layers.Dense(5, name="predictions")(x))
    randomize(classifier)
    model = Dilation8(classifier, 5, context=False, fc_channels=8)
    kernel, bias = classifier.get_layer("predictions").get_weights()
    model.head.set_weights([kernel[None, None], bias])
    x = image(224, 224)
    scores = numpy(model.decode(model.features(x)))
    assert scores.shape == (1, 28, 28, 5)
    # The classifier looks at cells 0, 4, …, 24; fc6 does so from cell 12 on.
    np.testing.assert_allclose(scores[:, 12, 12], numpy(classifier(x)), atol=1e-5)


def test_only_poolings_without_a_stride_are_left_out():
    model = Dilation8(narrow_vgg(), 5, fc_channels=4)
    names = [layer.name for layer in model.backbone.layers if "pool" in layer.name]
    assert names == ["block1_pool", "block2_pool", "block3_pool"]
    with keras.StatelessScope(initialize_variables=False):
        model = Dilation8("resnet18", 5, fc_channels=4, backbone_weights=None)
    assert model.backbone.get_layer("stem_pool").strides == (2, 2)
    keras.utils.clear_session()


def test_mirrored_images_may_have_any_size(tiny_backbone, image):
    model = Dilation8(narrow_vgg(), 5, fc_channels=4, padding="paper")
    assert model.features(image(17, 9))["P5"].shape[1:3] == (24 + 3, 24 + 2)
    assert model(image(17, 9)).shape == (1, 17, 9, 5)
    with pytest.raises(ValueError, match=r"padding='paper', backbone=tiny_backbone\. Use"):
        Dilation8(tiny_backbone, 5, padding="paper")


def test_another_number_of_classes_starts_scores_and_context_afresh(tiny_backbone, tmp_path):
    path = str(tmp_path / "five.weights.h5")
    model = Dilation8(tiny_backbone, 5, fc_channels=6)
    model.save_weights(path)
    with pytest.raises(ValueError, match="fresh_head=True"):
        Dilation8(tiny_backbone, 3, fc_channels=6, weights=path)
    again = Dilation8(tiny_backbone, 3, fc_channels=6, weights=path, fresh_head=True)
    for ours, theirs in zip(
        again.fully_connected.weights, model.fully_connected.weights, strict=True
    ):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))
