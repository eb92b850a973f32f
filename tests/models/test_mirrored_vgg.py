"""SegNet and DeconvNet: parameters and layers of the papers, PyTorch's outputs, and a life."""

import keras
import numpy as np
import pytest

from keras_psp import DeconvNet, SegNet
from keras_psp.layers import MaxUnpool
from tests.whole import whole

numpy = keras.ops.convert_to_numpy
STAGES = ((4, 4), (6, 6, 6), (8,))


def narrow_vgg(normalizes=False, size=(None, None)):
    """A VGG of a few channels, by default with a convolution's ReLU in it as in the paper."""
    image = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 255, name="rescale")(image)
    for stage, widths in enumerate(STAGES, 1):
        for i, filters in enumerate(widths, 1):
            name = f"block{stage}_conv{i}"
            options = {"padding": "same", "activation": None if normalizes else "relu"}
            x = keras.layers.Conv2D(filters, 3, name=name, **options)(x)
            if normalizes:
                x = keras.layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
                x = keras.layers.ReLU(name=f"{name}_relu")(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{stage}_pool")(x)
    return keras.Model(image, x, name="narrow_vgg")


@pytest.fixture
def segnet(randomize):
    model = SegNet(narrow_vgg(), num_classes=5)
    randomize(model)
    return model


# The papers' tables -------------------------------------------------------------------------------

VGG_16 = (64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)
VGG_11 = (64,), (128,), (256, 256), (512, 512), (512, 512)
# The decoders of the authors' networks: stage, channels of its convolutions.
SEGNET = [(5, 512, 512, 512), (4, 512, 512, 256), (3, 256, 256, 128), (2, 128, 64), (1, 64)]
DECONVNET = [*SEGNET[:4], (1, 64, 64)]
SMALL_SEGNET = [(5, 512, 512), (4, 512, 256), (3, 256, 128), (2, 64), (1,)]


def parameters(inputs, *widths, side=3):
    """Of convolutions with bias, each with the two numbers for a channel of its normalization."""
    count = 0
    for outputs in widths:
        count += side**2 * inputs * outputs + 3 * outputs
        inputs = outputs
    return count


def of_decoder(rows):
    return parameters(512, *(width for _, *widths in rows for width in widths))


FC = parameters(512, 4096, side=7) + parameters(4096, 4096, side=1)
FC += parameters(4096, 512, side=7)
LAST = 9 * 64 * 11 + 11
NETWORKS = {
    "segnet": (SegNet, "vgg16", VGG_16, SEGNET, LAST, 29_449_355),
    "segnet of vgg11": (SegNet, "vgg11_bn", VGG_11, SMALL_SEGNET, LAST, 18_455_051),
    "deconvnet": (DeconvNet, "vgg16_bn", VGG_16, DECONVNET, FC + 64 * 11 + 11, 251_805_003),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_layers_are_those_of_the_papers(name):
    build, backbone, stages, decoder, rest, expected = NETWORKS[name]
    with keras.StatelessScope(initialize_variables=False):
        model = build(backbone, 11, backbone_weights=None)
    encoder = parameters(3, *(width for stage in stages for width in stage))
    assert encoder + of_decoder(decoder) + rest == expected
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == expected
    rows: list = []
    for layer in model.decoder.layers:
        if isinstance(layer, MaxUnpool):
            rows.append((int(layer.name[-1]),))
        elif isinstance(layer, keras.layers.Conv2D):
            rows[-1] += (layer.filters,)
    assert rows == decoder
    keras.utils.clear_session()


# PyTorch ------------------------------------------------------------------------------------------


def layers_of(model):
    parts = [model.backbone, getattr(model, "fully_connected", None), model.decoder]
    for layer in (layer for part in parts if part is not None for layer in part.layers):
        if layer.weights:
            yield layer
    yield model.head


@pytest.mark.parametrize(
    "build, options, sizes",
    [(SegNet, {}, [(33, 45), (1, 6)]), (DeconvNet, {"fc_channels": 5}, [(49, 70)])],
    ids=["segnet", "deconvnet"],
)
def test_same_weights_same_logits_as_in_pytorch(build, options, sizes, randomize, image):
    torch = pytest.importorskip("torch")
    from tests.models import torch_mirrored_vgg

    model = build(narrow_vgg(normalizes=build is DeconvNet), num_classes=5, **options)
    randomize(model)
    twin = getattr(torch_mirrored_vgg, build.__name__)(5).cpu()
    twin = torch_mirrored_vgg.copy_weights(layers_of(model), twin)
    for size in sizes:
        x = image(*size, batch=2)
        with torch.no_grad():
            expected = twin(torch.tensor(x.transpose(0, 3, 1, 2)).cpu())
        expected = expected.numpy().transpose(0, 2, 3, 1)
        assert expected.std() > 0.01
        outputs = numpy(whole(model)(x))
        bound = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(outputs, expected, atol=bound, rtol=0)


# Where they start from ----------------------------------------------------------------------------


def test_untrained_it_has_the_features_of_its_vgg(randomize, image):
    # The normalization that it adds begins as none, but for its epsilon.
    vgg = narrow_vgg()
    randomize(vgg)
    x = image(16, 24)
    features = numpy(SegNet(vgg, num_classes=5).features(x)[-1])
    np.testing.assert_allclose(features, numpy(vgg(x)), rtol=1e-3, atol=1e-5)


def test_fc6_and_fc7_are_those_of_the_classifier(randomize, image):
    vgg = narrow_vgg(size=(56, 56))
    x = keras.layers.Flatten()(vgg.output)
    x = keras.layers.Dense(5, "relu")(keras.layers.Dense(5, "relu")(x))
    hidden = keras.Model(vgg.input, x)
    classifier = keras.Model(vgg.input, keras.layers.Dense(9, "softmax")(x))
    randomize(classifier)
    x = image(56, 56)
    model = DeconvNet(classifier, num_classes=5, fc_channels=5)
    fc7 = keras.Model(
        model.fully_connected.input, model.fully_connected.get_layer("fc7_relu").output
    )
    places = numpy(fc7(model.features(x)[-1]))[:, 0, 0]
    np.testing.assert_allclose(places, numpy(hidden(x)), rtol=1e-3, atol=1e-5)


# Bad input ----------------------------------------------------------------------------------------


def test_a_backbone_that_is_no_vgg():
    with pytest.raises(
        ValueError, match=r"backbone='resnet18'\. SegNet and DeconvNet mirror a VGG"
    ):
        SegNet("resnet18", backbone_weights=None)


def test_a_model_that_is_no_vgg(tiny_backbone):
    message = r"Received: backbone=tiny_backbone, with pad1, a ZeroPadding2D\. Choose a VGG by"
    with pytest.raises(ValueError, match=message):
        SegNet(tiny_backbone)


def test_images_too_small_for_fc6(image):
    message = r"5 poolings leave of 193 pixels or more\. Received: images of 192×300\. Enlarge"
    with pytest.raises(ValueError, match=message):
        DeconvNet("vgg11", backbone_weights=None, fc_channels=5, input_shape=(192, 300, 3))
    model = DeconvNet(narrow_vgg(), fc_channels=5)
    with pytest.raises(
        ValueError, match=r"3 poolings leave of 49 pixels .*Received: images of 60×48"
    ):
        model(image(60, 48))


@pytest.mark.parametrize("name", ["output_stride", "classes"])
def test_arguments_that_it_has_not(name):
    with pytest.raises(TypeError, match=name):
        SegNet(backbone_weights=None, **{name: 8})
