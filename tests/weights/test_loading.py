"""ImageNet weights from files in the format that `keras.applications` downloads, and our own."""

import dataclasses
import hashlib
import importlib
import inspect
import warnings

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications.resnet import WEIGHTS_HASHES, stack_residual_blocks_v1
from keras.src.applications.resnet import ResNet as KerasResNet

from keras_psp import PSPNet, ResNet, load_weights
from keras_psp.models import RESNETS, build_backbone, model_from_checkpoint
from keras_psp.weights import PRESETS, WeightsNotAvailable
from keras_psp.weights.reading import read_tensors
from keras_psp.weights.sources import identify
from tests.weights.conftest import BLOCKS, FILTERS

FILE = "resnet50_weights_tf_dim_ordering_tf_kernels{}.h5"
RESNET50 = "resnet50_imagenet"
FEATURES = f"conv5_block{BLOCKS[-1]}_out"


@pytest.fixture(scope="module")
def application(randomize):
    model = small_application()
    randomize(model)
    return model


def small_application():
    """Keras' own ResNet-50, with the blocks and channels of `small_resnets`."""

    def stages(x):
        for i, count in enumerate(BLOCKS):
            x = stack_residual_blocks_v1(
                x, FILTERS << i, count, stride1=2 if i else 1, name=f"conv{i + 2}"
            )
        return x

    return KerasResNet(stages, preact=False, use_bias=True, weights=None, input_shape=(64, 64, 3))


def write_published(path, layers, tensor_names=None):
    """A file as Keras 2 wrote it: groups and attributes, layers without weights listed too."""
    with h5py.File(path, "w") as file:
        # The classifier was called "probs" when the published files were made.
        names = ["probs" if layer.name == "predictions" else layer.name for layer in layers]
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name, layer in zip(names, layers, strict=True):
            group = file.create_group(name)
            tensors = {
                f"{name}/{(tensor_names or {}).get(v.name, v.name)}:0": v.numpy()
                for v in layer.weights
            }
            group.attrs["weight_names"] = [tensor.encode() for tensor in tensors]
            for tensor, value in tensors.items():
                group[tensor] = value


@pytest.fixture(scope="module")
def published(application, tmp_path_factory):
    """The server: a folder with the files."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "resnet").mkdir()
    write_published(folder / "resnet" / FILE.format(""), application.layers)
    write_published(folder / "resnet" / FILE.format("_notop"), application.layers[:-2])
    return folder


def publish(monkeypatch, base, digests=None):
    """Lets the files of ResNet-50 lie elsewhere, and perhaps be others."""
    row = PRESETS[RESNET50]
    files = {}
    for name, kind in [("file", ""), ("features", "_notop")]:
        url = f"{base}/resnet/{FILE.format(kind)}"
        digest = digests[kind] if digests else getattr(row, name).digest
        files[name] = getattr(row, name)._replace(url=url, digest=digest)
    monkeypatch.setitem(PRESETS, RESNET50, dataclasses.replace(row, **files))


@pytest.fixture
def server(published, tmp_path, monkeypatch):
    """The server and an empty cache in place of the real ones."""
    digests = {
        kind: hashlib.md5((published / "resnet" / FILE.format(kind)).read_bytes()).hexdigest()
        for kind in ("", "_notop")
    }
    publish(monkeypatch, published.as_uri(), digests)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return published


@pytest.fixture
def offline(tmp_path, monkeypatch):
    publish(monkeypatch, (tmp_path / "nowhere").as_uri())
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def test_the_files_are_what_keras_reads(application, published, tmp_path, image):
    twin = small_application()
    twin.load_weights(published / "resnet" / FILE.format(""))
    x = image(64, 64)
    np.testing.assert_array_equal(
        *(keras.ops.convert_to_numpy(model(x)) for model in (twin, application))
    )


def test_the_table_has_kerass_own_hashes():
    rows = {row.arguments["variant"]: row for row in PRESETS.values() if row.features}
    for name, row in rows.items():
        md5 = row.file.digest, row.features.digest
        if name in WEIGHTS_HASHES:
            assert md5 == WEIGHTS_HASHES[name]
        else:  # Keras has them in the text of the network's function.
            source = inspect.getsource(importlib.import_module(f"keras.src.applications.{name}"))
            assert [digest in source for digest in md5] == [True, True]
    assert {*rows} >= {"resnet50", "resnet101", "resnet152", "vgg16", "inception_v3"}


def test_imagenet_weights_give_the_applications_output(application, server, tmp_path, image):
    x = image(64, 64)
    preprocessed = keras.applications.resnet.preprocess_input(x.copy())
    expected = keras.ops.convert_to_numpy(application(preprocessed))
    model = ResNet("resnet50", weights="imagenet")
    assert model.initial_weights == "ImageNet"
    outputs = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * expected.max())
    assert [f.name for f in (tmp_path / "keras" / "models").iterdir()] == [FILE.format("")]

    features = keras.Model(application.input, application.get_layer(FEATURES).output)
    expected = keras.ops.convert_to_numpy(features(preprocessed))
    backbone = build_backbone("resnet50", weights="auto", output_stride=32)
    assert backbone.initial_weights == "ImageNet"
    outputs = keras.ops.convert_to_numpy(backbone(x)["P5"])
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * expected.max())

    # The second time they come from the cache.
    for file in (server / "resnet").iterdir():
        file.rename(file.with_suffix(".away"))
    try:
        assert PSPNet("resnet50", backbone_weights="imagenet").initial_weights == "ImageNet"
        # Another number of classes keeps the features and leaves the classifier random.
        five = ResNet("resnet50", num_classes=5)
    finally:
        for file in (server / "resnet").iterdir():
            file.rename(file.with_suffix(".h5"))
    assert five.initial_weights == "ImageNet"
    np.testing.assert_array_equal(
        five.get_layer("stem_conv1").get_weights()[0],
        application.get_layer("conv1_conv").get_weights()[0],
    )


@pytest.mark.parametrize("kind", ["", "_notop"])
def test_a_file_can_be_given_by_its_path(kind, application, published, offline, image):
    x = image(64, 64)
    file = published / "resnet" / FILE.format(kind)
    model = ResNet("resnet50", include_top=False, weights=str(file))
    features = keras.Model(application.input, application.get_layer(FEATURES).output)
    expected = features(keras.applications.resnet.preprocess_input(x.copy()))
    given, expected = map(keras.ops.convert_to_numpy, (model(x), expected))
    # Rounding is that of the largest, which are about 100.
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=atol)
    assert str(file) in model.initial_weights


@pytest.mark.parametrize(
    "variant, application, mode, title",
    [
        ("vgg16", keras.applications.VGG16, "caffe", "VGG-16"),
        ("vgg19", keras.applications.VGG19, "caffe", "VGG-19"),
        ("inception_v3", keras.applications.InceptionV3, "tf", "Inception v3"),
    ],
)
def test_files_of_the_other_networks(variant, application, mode, title, randomize, image, tmp_path):
    theirs = application(include_top=False, weights=None, input_shape=(75, 75, 3))
    randomize(theirs)
    path = tmp_path / f"{variant}.h5"
    # VGG's files are so old that Keras had other names for the tensors.
    write_published(path, theirs.layers, {"kernel": "W_1", "bias": "b_1"})
    assert identify(path, read_tensors(path)).title == f"keras.applications' {title}"
    model = model_from_checkpoint(path)  # It builds the variant without its top, from this file.
    assert model.variant == variant
    assert str(path) in model.initial_weights
    x = image(75, 75)
    preprocess = keras.applications.imagenet_utils.preprocess_input
    expected = keras.ops.convert_to_numpy(theirs(preprocess(x.copy(), mode=mode)))
    outputs = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_offline_the_error_tells_how_to_go_on(offline, tmp_path):
    with pytest.raises(WeightsNotAvailable) as error:
        ResNet("resnet50", weights="imagenet")
    message = str(error.value)
    assert f"Save {(tmp_path / 'nowhere').as_uri()}/resnet/{FILE.format('')} as" in message
    assert f"as {tmp_path / 'keras' / 'models' / FILE.format('')}. Other ways: the doc" in message
    assert "\n" not in message


def test_offline_auto_warns_and_starts_from_random_values(offline):
    with pytest.warns(UserWarning, match="starts from random values: .*could not be downloaded"):
        model = PSPNet("resnet50", num_classes=3)
    assert model.initial_weights.startswith("random values (resnet50_weights")


def test_none_asks_for_nothing(offline):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ResNet("resnet50", weights=None).initial_weights == "random values, as asked"


def test_a_file_cut_short_is_not_taken(server, tmp_path, monkeypatch):
    cached = tmp_path / "keras" / "models" / FILE.format("_notop")
    cached.parent.mkdir(parents=True)
    cached.write_bytes((server / "resnet" / FILE.format("_notop")).read_bytes()[:1000])
    publish(monkeypatch, (tmp_path / "nowhere").as_uri())
    with pytest.raises(WeightsNotAvailable, match=f"{cached.name} .*that is there has not the MD5"):
        build_backbone("resnet50", weights="imagenet")
    assert cached.stat().st_size == 1000  # the user's file, which only the user removes

    publish(monkeypatch, server.as_uri())
    assert build_backbone("resnet50", weights="imagenet").initial_weights == "ImageNet"


@pytest.mark.parametrize(
    "variant, changes",
    [
        ("resnet18_deep", {}),
        ("plain34", {}),
        ("resnet50", {"residual": False}),
        ("resnet50", {"shortcut": "A"}),
    ],
)
def test_where_none_are_published_auto_says_so(variant, changes):
    options = {**changes, "include_top": False}
    reason = f"No ImageNet weights are published for {variant}.*Choose one of resnet50, resnet101"
    with pytest.warns(UserWarning, match=reason):
        ResNet(variant, **options)
    with pytest.raises(WeightsNotAvailable, match=reason):
        ResNet(variant, weights="imagenet", **options)


def test_a_file_of_another_network_is_an_error(server, tmp_path, monkeypatch):
    file = server / "resnet" / FILE.format("_notop")
    path = tmp_path / "keras" / "models" / FILE.format("_notop")
    path.parent.mkdir(parents=True)
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as published:
        del published["conv1_conv/conv1_conv/kernel:0"]
        published["conv1_conv/conv1_conv/kernel:0"] = np.zeros((3, 3, 3, 64), "float32")
        published["conv1_bn"].attrs["weight_names"] = [b"conv1_bn/gamma:0"]
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    publish(monkeypatch, server.as_uri(), {"": md5, "_notop": md5})
    with pytest.raises(ValueError) as error:
        build_backbone("resnet50")
    message = str(error.value)
    wrong = "conv1_conv.kernel is (3, 3, 3, 64) in the file, stem_conv1/kernel (7, 7, 3, 64) in the"
    assert wrong in message
    assert "stem_bn1/beta of the model is not in the file" in message
    assert "; and 3 more" in message  # γ, μ and σ², which Keras tells apart by their number


# Our own files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet.weights.h5", "resnet.keras"])
def test_load_weights(name, tmp_path, randomize):
    first, second = (ResNet("resnet18", num_classes=5, weights=None) for _ in range(2))
    randomize(first)
    save = first.save if name.endswith(".keras") else first.save_weights
    save(tmp_path / name)
    load_weights(second, tmp_path / name)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    third = ResNet("resnet18", num_classes=5, weights=str(tmp_path / name))
    assert third.initial_weights == f"the file {tmp_path / name}"
    np.testing.assert_array_equal(third.get_weights()[0], first.get_weights()[0])


def test_an_error_names_the_tensors_that_differ(tmp_path, monkeypatch):
    path = tmp_path / "eighteen.weights.h5"
    ResNet("resnet18", num_classes=5, weights=None).save_weights(path)
    with pytest.raises(ValueError) as error:
        ResNet("resnet18", num_classes=6, weights=str(path))
    message = str(error.value)
    assert f"Received: weights='{path}' for resnet18" in message
    shapes = "predictions #0 is (64, 5) in the file, predictions #0 (64, 6) in the model"
    assert shapes in message
    assert "or pass fresh_head=True" in message
    deeper = dataclasses.replace(RESNETS["resnet34"], blocks=(1, 1, 5, 2))
    monkeypatch.setitem(RESNETS, "resnet34", deeper)
    extra = r"stage3_block5/bn1 #0 of the model is not in the file; .* more"
    with pytest.raises(ValueError, match=extra):
        ResNet("resnet34", num_classes=5, weights=str(path))


def test_load_weights_wants_a_file_it_can_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights='.*none.weights.h5', which does not"):
        ResNet("resnet18", weights=str(tmp_path / "none.weights.h5"))
    path = tmp_path / "text.weights.h5"
    path.write_text("no weights")
    with pytest.raises(ValueError, match=r"Received: path='.*text.weights.h5', which does not"):
        ResNet("resnet18", weights=str(path))
