"""Fine-tuning: other classes, a frozen backbone, and what stays of the model it begins with."""

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import PSPNet
from keras_psp.keras_internals import layers_in
from keras_psp.models import FCN
from keras_psp.weights import load_weights

numpy = keras.ops.convert_to_numpy


@pytest.fixture
def five(tiny_backbone, randomize, tmp_path):
    """A model of five classes, and its file."""
    model = PSPNet(tiny_backbone, num_classes=5, bins=(1, 2))
    randomize(model)
    path = tmp_path / "five.weights.h5"
    model.save_weights(path)
    return model, str(path)


@pytest.fixture
def data(image, rng):
    return image(33, 40, batch=4), rng.integers(0, 2, (4, 33, 40))


def values(layer):
    return [numpy(variable).copy() for variable in layer.weights]


def same(layer, before):
    return [np.array_equal(a, b) for a, b in zip(values(layer), before, strict=True)]


@pytest.mark.parametrize("name", ["five.weights.h5", "five.keras"])
def test_other_classes_leave_the_last_layers_fresh(name, five, tiny_backbone, tmp_path):
    model, _ = five
    if name.endswith(".keras"):
        model.save(tmp_path / name)
    with pytest.raises(ValueError, match=r"head/conv2 #0 .*or pass fresh_head=True"):
        PSPNet(tiny_backbone, num_classes=2, bins=(1, 2), weights=str(tmp_path / name))
    two = PSPNet(
        tiny_backbone, num_classes=2, bins=(1, 2), weights=str(tmp_path / name), fresh_head=True
    )
    fresh = {two.head.conv2, two.auxiliary_head.conv2}
    for ours, theirs in zip(layers_in(two), layers_in(model), strict=True):
        if not layers_in(ours) and ours not in fresh:
            assert all(same(ours, values(theirs))), ours.path
    assert not any(numpy(layer.kernel).any() for layer in fresh)  # as the tests start kernels


def test_what_is_fresh_stays_as_it_was_made(five, tiny_backbone, randomize):
    _, path = five
    model = PSPNet(tiny_backbone, num_classes=5, bins=(1, 2))
    randomize(model, seed=7)
    before = values(model.head.conv2)
    load_weights(model, path, fresh_head=True)
    assert all(same(model.head.conv2, before))  # though it would have fitted
    assert not any(same(model.head.conv1, [np.zeros(1)]))
    load_weights(model, path)
    assert not any(same(model.head.conv2, before))


@pytest.mark.parametrize(
    "build, last",
    [
        (lambda k, **o: FCN("resnet18", k, head="linear", **o), "head"),
        (lambda k, **o: keras_psp.ResNet("resnet18", num_classes=k, **o), "predictions"),
    ],
)
def test_other_models_have_last_layers_too(build, last, tmp_path):
    path = str(tmp_path / "five.weights.h5")
    options = {} if last == "predictions" else {"backbone_weights": None}
    build(5, **options, weights=None).save_weights(path)
    model = build(3, weights=path, fresh_head=True)
    assert model.get_layer(last).kernel.shape[-1] == 3


def test_googlenets_three_classifiers_are_fresh(tmp_path):
    options = {"input_shape": (65, 65, 3)}
    path = str(tmp_path / "five.weights.h5")
    keras_psp.Inception(num_classes=5, weights=None, **options).save_weights(path)
    model = keras_psp.Inception(num_classes=3, weights=path, fresh_head=True, **options)
    assert model.auxiliary_heads["inception_4a"].chain[-1].kernel.shape[-1] == 3


def test_frozen_backbones_keep_weights_and_statistics(five, tiny_backbone, data):
    x, y = data
    model = PSPNet(tiny_backbone, num_classes=2, bins=(1, 2), weights=five[1], fresh_head=True)
    model.backbone.trainable = False
    frozen, head = values(model.backbone), values(model.head)
    model.fit(x, y, batch_size=2, epochs=2, verbose=0)
    assert all(same(model.backbone, frozen))
    assert not any(same(model.head, head))
    assert any("moving_mean" in variable.path for variable in model.backbone.weights)

    # Nobody had called compile: fit does so again for what is trainable now.
    model.backbone.trainable = True
    model.fit(x, y, batch_size=2, verbose=0)
    assert not any(same(model.backbone, frozen))


def test_frozen_after_it_was_trained(five, tiny_backbone, data):
    x, y = data
    model = PSPNet(tiny_backbone, num_classes=2, bins=(1, 2), weights=five[1], fresh_head=True)
    model.compile("adam")
    model.fit(x, y, batch_size=2, verbose=0)
    model.backbone.trainable = False
    frozen, head = values(model.backbone), values(model.head)
    model.fit(x, y, batch_size=2, verbose=0)
    assert all(same(model.backbone, frozen))
    assert not any(same(model.head, head))


def test_own_optimizers_must_be_compiled_anew(five, tiny_backbone, data):
    x, y = data
    model = PSPNet(tiny_backbone, num_classes=2, bins=(1, 2), weights=five[1], fresh_head=True)
    model.backbone.trainable = False
    model.compile("adam")
    model.fit(x, y, batch_size=2, verbose=0)
    model.backbone.trainable = True
    with pytest.raises(ValueError, match=r"8 .*variables more\. Call compile again|variables more"):
        model.fit(x, y, batch_size=2, verbose=0)
    model.compile("adam")
    frozen = values(model.backbone)
    model.fit(x, y, batch_size=2, verbose=0)
    assert not any(same(model.backbone, frozen))
