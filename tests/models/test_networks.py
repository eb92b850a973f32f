"""What every segmentation network can do: train by the recipe, be saved, loaded, fused, segment."""

import functools

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import FCN, Dilation8
from keras_psp.models import vgg
from keras_psp.models.networks import NETWORKS, Network

numpy = keras.ops.convert_to_numpy

# The others of the table have a part less; and the forms that are proven equal to their authors'.
ALL = {
    **{name: NETWORKS[name] for name in ("pspnet", "fcn8s", "segnet", "deconvnet", "dilation8")},
    "FCN of the authors": Network(
        functools.partial(FCN, padding="paper"), {"stride": 16, "fc_channels": 4}
    ),
    "FCN of torchvision": Network(
        functools.partial(FCN, head="convolution"),
        {"backbone": "resnet18", "output_stride": 8, "auxiliary_weight": 0.5},
    ),
    "Dilation8 of the authors": Network(
        functools.partial(Dilation8, padding="paper"), {"backbone": "vgg16", "fc_channels": 4}
    ),
}
# What starts from random values beside a trained backbone, and so learns ten times as fast.
NEW = ("head", "pyramid_pooling", "auxiliary_head", "decoder", "score_pool4", "score_pool3")


@pytest.mark.parametrize("name", ALL)
def test_trains_is_saved_and_segments(
    name, tiny_backbone, randomize, image, rng, tmp_path, monkeypatch, eagerly, no_pictures
):
    monkeypatch.setattr(vgg, "_FILTERS", (2, 3, 4, 5, 6))
    options = {**ALL[name].usual, "backbone_weights": None}
    if options.get("backbone") == "resnet18":
        options["backbone"] = tiny_backbone
    if "fc_channels" in options:
        options["fc_channels"] = 5
    size = (193, 199) if name == "deconvnet" else (33, 46)
    model = ALL[name].build(num_classes=3, **options)
    randomize(model)

    x, labels = image(*size, batch=2), rng.integers(0, 3, (2, *size))
    labels[:, :9] = 255
    void = np.full_like(labels, 255)
    before = model.get_weights()
    model.compile(loss=keras_psp.losses.SparseCategoricalCrossentropy())
    assert model.evaluate(x, void, verbose=0)[0] == 0
    run = keras_psp.RunFolder(tmp_path / "run", classes=keras_psp.labels.ClassList(["a", "b", "c"]))
    model.compile(keras_psp.optimizers.SGD())
    history = model.fit(x, labels, verbose=0, callbacks=[run]).history
    assert np.isfinite(history["loss"][0])
    assert 0 <= history["mean_iou"][0] <= 1
    changed = [
        not np.array_equal(numpy(v), old) for v, old in zip(model.weights, before, strict=True)
    ]
    assert all(c for c, v in zip(changed, model.weights, strict=True) if v.trainable)
    for variable in model.trainable_variables:
        fast = variable.path.startswith(NEW) or "/decoder/" in variable.path
        assert model.optimizer.multiplier_of(variable) == (10 if fast else 1), variable.path

    expected = numpy(model(x))
    assert expected.shape == (2, *size, 3)
    assert expected.std() > 0
    model.save(tmp_path / "model.keras")
    saved = keras.saving.load_model(tmp_path / "model.keras")
    for again in (saved, keras_psp.load_run(tmp_path / "run").model):
        assert type(again) is type(model)
        np.testing.assert_allclose(numpy(again(x)), expected, atol=1e-4 * expected.std())
    # Where two values of a block are nearly equal, rounding decides which of them SegNet takes.
    fused = numpy(keras_psp.fuse(model)(x))
    assert np.mean(np.abs(fused - expected) < 1e-3 * expected.std()) > 0.95
    classes = keras_psp.segment(model, x[0].astype("uint8"))
    assert np.mean(classes == expected[0].argmax(-1)) > 0.95
