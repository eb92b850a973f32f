"""Models by name, from folders and from files; and the classes that travel with them."""

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import FCN, PSPNet, RunFolder, SegNet, load_run
from keras_psp.callbacks.samples import find_classes
from keras_psp.data import DatasetInfo, attach
from keras_psp.labels import ClassList
from keras_psp.models import Classifier, SegmentationModel, build_classifier
from keras_psp.weights import PRESETS
from tests.tiny import Tiny, data

ABC = ClassList(["a", "b", "c"], [(1, 2, 3), (4, 5, 6), (7, 8, 9)])
numpy = keras.ops.convert_to_numpy


@pytest.fixture
def model(tiny_backbone, set_random_weights):
    model = set_random_weights(PSPNet(tiny_backbone, 3, bins=(1, 2), output_stride=16))
    model.classes = ABC
    return model


def saved(model, form, place):
    """The model as a folder, as a run, or as a file."""
    if form == "run":
        run = RunFolder(place / "run")
        model.compile()
        run.set_model(model)
        run.on_train_begin()
        model.save_weights(run.folder / "best.weights.h5")
        return run.folder
    if form == "folder":
        return model.save_to_preset(place / "preset")
    model.save(place / "model.keras")
    return place / "model.keras"


@pytest.mark.parametrize("form", ["folder", "run", "file"])
def test_a_saved_model_comes_back(form, model, image, tmp_path):
    preset = saved(model, form, tmp_path)
    again = SegmentationModel.from_preset(preset)
    assert type(again) is PSPNet
    assert not again.compiled
    assert (again.classes, again.output_stride, again.bins) == (ABC, 16, (1, 2))
    x = image(33, 48)
    np.testing.assert_allclose(numpy(again(x)), numpy(model(x)), atol=1e-6)
    with pytest.raises(ValueError, match=r"of PSPNet, in FCN\.from_preset. Call PSPNet\.from_pres"):
        FCN.from_preset(preset)


def test_a_saved_model_starts_another(model, tmp_path):
    preset = saved(model, "folder", tmp_path)
    two = PSPNet.from_preset(preset, num_classes=2, fresh_head=True)
    assert (two.num_classes, two.classes) == (2, None)
    assert str(preset) in two.initial_weights
    for own, other in zip(two.backbone.weights, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(own, other)
    with pytest.raises(ValueError, match="or pass fresh_head=True"):
        PSPNet.from_preset(preset, num_classes=2)
    with pytest.raises(ValueError, match=r"built with, and fresh_head\. Received: depth for"):
        PSPNet.from_preset(preset, depth=50)


def test_classifiers_are_saved_likewise(tmp_path):
    model = build_classifier("small", keras.layers.Conv2D(2, 1), any_size=True, weights=None)
    again = Classifier.from_preset(model.save_to_preset(tmp_path / "small"))
    assert (again.variant, again.output.shape) == ("small", (None, 1000))
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_a_preset_is_a_source_of_weights(model, tmp_path):
    folder = model.save_to_preset(tmp_path / "preset")
    assert load_run(folder).classes == ABC
    other = PSPNet.from_config(model.get_config() | {"classes": None})
    keras_psp.load_weights(other, folder)
    assert other.classes == ABC
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


def test_a_preset_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    first, second = Tiny(), Tiny(2)
    folder = first.save_to_preset(tmp_path / "mine")
    second.save_to_preset(folder)
    assert Tiny.from_preset(folder).num_classes == 2

    def fail(path):
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(first, "save_weights", fail)
    with pytest.raises(OSError, match="disk is full"):
        first.save_to_preset(folder)
    assert Tiny.from_preset(folder).num_classes == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    run = saved(second, "run", tmp_path)
    with pytest.raises(ValueError, match=r"only one that holds model\.weights\.h5"):
        second.save_to_preset(run)


def test_a_plain_model_is_left_to_keras(tmp_path):
    image = keras.Input((None, None, 3))
    keras.Model(image, keras.layers.Conv2D(2, 1)(image)).save(tmp_path / "plain.keras")
    with pytest.raises(ValueError, match=r"of Functional, in .*Call keras\.saving\.load_model"):
        SegmentationModel.from_preset(tmp_path / "plain.keras")


@pytest.mark.parametrize(
    "preset, hint",
    [
        ("pspnet_resnet50_cityscape", "Did you mean 'pspnet_resnet50_cityscapes'?"),
        ("ResNet-18 ImageNet", "Did you mean 'resnet18_imagenet'?"),
        ("rum", "Did you mean 'run'?"),
        ("run", "preset='run'"),
        ("c.keras", "preset='c.keras'"),
    ],
)
def test_what_is_no_preset_is_answered(preset, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "b.keras").touch()
    with pytest.raises(ValueError, match=r"one of PSPNet\.presets, a folder .* Choose") as error:
        PSPNet.from_preset(preset)
    assert hint in str(error.value)
    with pytest.raises(ValueError, match=r"a whole ZIP file .* Received: path='b\.keras', which"):
        PSPNet.from_preset("b.keras")


def test_a_class_lists_its_own():
    depths = {"cityscapes": (18, 50, 101), "ade20k": (50, 101), "voc2012": (50, 101)}
    names = {f"pspnet_resnet{n}_{data}" for data, ns in depths.items() for n in ns}
    assert PSPNet.presets.keys() == names | {"pspnet_resnet18_camvid"}
    assert FCN.presets.keys() == {"fcn_resnet50_coco", "fcn_resnet101_coco"}
    assert SegNet.presets == {}
    segmenting = SegmentationModel.presets
    assert segmenting == PSPNet.presets | FCN.presets
    assert Classifier.presets.keys() == PRESETS.keys() - segmenting.keys()
    row = PSPNet.presets["pspnet_resnet50_cityscapes"]
    assert row.classes.names[:3] == ("road", "sidewalk", "building")
    assert row.arguments["align_corners"] is False
    assert (row.crop, row.license[:10]) == ((512, 1024), "Apache-2.0")
    with pytest.raises(ValueError, match=r"of Classifier, in PSPNet\.from_preset. Call Classifier"):
        PSPNet.from_preset("resnet18_imagenet")


# Classes ------------------------------------------------------------------------------------------


class Frames(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return data(2)


def test_fit_names_the_classes(tmp_path):
    model = Tiny()
    model.fit(attach(Frames(), DatasetInfo(ABC)), verbose=0)
    assert model.classes == ABC
    result = keras_psp.evaluate(model, data(2))  # Arrays say nothing.
    assert result.classes == ABC
    assert find_classes(keras_psp.fuse(model), None, None) == ABC
    others = attach(Frames(), DatasetInfo(ClassList(["x", "y", "z"])))
    for use in (model.fit, model.evaluate, lambda x: keras_psp.evaluate(model, x)):
        with pytest.raises(ValueError, match=r"3 classes \(a, b, c\), data of 3 .* model\.classes"):
            use(others)
    model.classes = None  # They mean the same, only in other words.
    model.fit(others, verbose=0)
    assert model.classes.names == ("x", "y", "z")


def test_classes_are_kept_in_files_and_runs(model, tmp_path):
    assert keras.models.model_from_json(model.to_json()).classes == ABC
    config = PSPNet.from_config(model.get_config()).get_config()
    assert config["classes"] == {"names": ABC.names, "colors": ABC.colors}
    unnamed = Tiny()
    run = saved(unnamed, "run", tmp_path)
    assert unnamed.classes is None
    assert load_run(run).classes.names == ("class 0", "class 1", "class 2")
    assert load_run(run).model.classes is None
    given = RunFolder(tmp_path / "given", classes=ABC)
    unnamed.compile()
    given.set_model(unnamed)
    given.on_train_begin()
    assert unnamed.classes == ABC
