"""Checkpoints of other people's networks in ours: the same outputs, or a clear refusal."""

import os
import pickle
import shutil

import h5py
import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.weights import SOURCES, reading
from keras_psp.weights.reading import read_tensors
from keras_psp.weights.sources import identify

torch = pytest.importorskip("torch", reason="PyTorch is what these are compared with")
from tests.models import torch_fcn  # noqa: E402
from tests.weights import torch_checkpoints as theirs  # noqa: E402
from tests.weights.conftest import BLOCKS, FILTERS  # noqa: E402

SIZES = [(65, 81), (64, 80)]
BASIC, BOTTLENECK = (BLOCKS, False), (BLOCKS, True)


@pytest.fixture(scope="module", autouse=True)
def small_torch_resnets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "WIDTH", FILTERS)
        yield


def numpy(x):
    return keras.ops.convert_to_numpy(x)


@torch.no_grad()
def expected(function, x):
    return function(torch.tensor(x.transpose(0, 3, 1, 2)))


def maps_last(y):
    return y.numpy().transpose(0, 2, 3, 1)


def check_equal(ours, theirs):
    assert theirs.std() > 1e-3 * np.abs(theirs).max()
    np.testing.assert_allclose(numpy(ours), theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def check_both_heads(model, network, image):
    for size in SIZES:
        x = image(*size)
        logits, auxiliary = map(maps_last, expected(network, x))
        check_equal(model(x), logits)
        early = model.backbone(x, training=False)["P4"]
        check_equal(model.upsample(model.auxiliary_head(early), like=x), auxiliary)


def save(network, path, **beside):
    state = network if isinstance(network, dict) else network.state_dict()
    torch.save({"state_dict": state, **beside} if beside else state, path)
    return str(path)


# Equal outputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth, shape", [(18, BASIC), (50, BOTTLENECK)])
def test_the_authors_pspnet(depth, shape, image, tmp_path):
    network = theirs.randomize(theirs.AuthorsPSPNet(*shape, num_classes=7))
    # As their training script saves it, from several GPUs.
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    path = save(state, tmp_path / "train_epoch_100.pth", epoch=100, optimizer={"lr": 0.01})
    model = keras_psp.PSPNet(f"resnet{depth}_deep", num_classes=7, weights=path)
    assert model.initial_weights == f"the file {path} (the PSPNet authors' PSPNet)"
    check_both_heads(model, network, image)


@pytest.mark.parametrize(
    "depth, shape, align_corners", [(18, BASIC, True), (18, BASIC, False), (50, BOTTLENECK, False)]
)
@pytest.mark.filterwarnings("ignore:.*align_corners=False; no tensor tells")
def test_mmsegmentations_pspnet(depth, shape, align_corners, image, tmp_path):
    network = theirs.MMSegmentationPSPNet(*shape, num_classes=7, align_corners=align_corners)
    theirs.randomize(network)
    path = save(network, tmp_path / "pspnet.pth", meta={"CLASSES": ("road", "sky")})
    model = keras_psp.PSPNet(
        f"resnet{depth}_v1c", num_classes=7, weights=path, align_corners=align_corners
    )
    check_both_heads(model, network, image)


@pytest.mark.parametrize(
    "variant, shape, kind",
    [
        ("resnet18", BASIC, "torchvision"),
        ("resnet50_v1b", BOTTLENECK, "torchvision"),
        ("resnet18_deep", BASIC, "authors"),
        ("resnet50_deep", BOTTLENECK, "authors"),
        ("resnet18_v1c", BASIC, "v1c"),
        ("resnet50_v1c", BOTTLENECK, "v1c"),
    ],
)
def test_resnets_as_classifiers_and_as_backbones(variant, shape, kind, image, tmp_path):
    network = theirs.randomize(theirs.ResNet(*shape, kind, num_classes=9))
    path = save(network, tmp_path / "resnet.pth")
    model = keras_psp.ResNet(variant, num_classes=9, weights=path, classifier_activation=None)
    # The classifier is left out where there is no place for it.
    segmenting = keras_psp.PSPNet(variant, backbone_weights=path, output_stride=32)
    assert segmenting.initial_weights.startswith("the file")
    assert segmenting.initial_weights.endswith(", without predictions)")
    backbone = segmenting.backbone
    for size in SIZES:
        x = image(*size)
        check_equal(model(x), expected(network, x).numpy())
        *_, early, late = expected(
            lambda x, net=network: net.features((x - theirs.MEAN) / theirs.DEVIATION), x
        )
        for stage, features in [("P4", early), ("P5", late)]:
            check_equal(backbone(x)[stage], maps_last(features))


def test_torchvisions_vgg_with_batch_normalization(image, tmp_path):
    network = theirs.vgg((1, 1, 2, 2, 2), side=2, num_classes=9, hidden=8, normalizes=True)
    path = save(theirs.randomize(network), tmp_path / "vgg.pth")
    x = image(64, 96)
    features = maps_last(expected(network.maps, x))
    check_equal(keras_psp.VGG("vgg11_bn", include_top=False, weights=path)(x), features)
    model = keras_psp.SegNet("vgg11_bn", backbone_weights=path)
    assert model.initial_weights.endswith(", without fc1, fc2, predictions)")
    check_equal(model.features(x)[-1], features)


@pytest.mark.parametrize(
    "variant, counts",
    [
        ("vgg11", (1, 1, 2, 2, 2)),
        ("vgg13", (2, 2, 2, 2, 2)),
        ("vgg16", (2, 2, 3, 3, 3)),
        ("vgg19", (2, 2, 4, 4, 4)),
    ],
)
def test_torchvisions_vgg(variant, counts, image, tmp_path):
    # Of 64×64 pixels 2×2 places are left, in another order here than there.
    hidden = 4096 if variant == "vgg11" else 8  # in the layers that only VGG-11 is compared in
    network = theirs.randomize(theirs.vgg(counts, side=2, num_classes=9, hidden=hidden))
    path = save(network, tmp_path / "vgg.pth")
    name = f"{variant}_torchvision"
    backbone = keras_psp.VGG(name, include_top=False, weights=path)
    x = image(65, 81)
    check_equal(backbone(x), maps_last(expected(network.maps, x)))
    if variant == "vgg11":
        model = keras_psp.VGG(
            name,
            num_classes=9,
            weights=path,
            classifier_activation=None,
            input_shape=(64, 64, 3),
        )
        x = image(64, 64)
        check_equal(model(x), expected(network, x).numpy())


def test_torchvisions_alexnet(image, tmp_path):
    network = theirs.randomize(theirs.alexnet(side=2, num_classes=9))
    path = save(network, tmp_path / "alexnet.pth")
    options = {"weights": path, "classifier_activation": None}
    for size in [(95, 95), (96, 96)]:
        model = keras_psp.AlexNet(
            "alexnet_torchvision", num_classes=9, input_shape=(*size, 3), **options
        )
        x = image(*size)
        check_equal(model(x), expected(network, x).numpy())
    backbone = keras_psp.AlexNet("alexnet_torchvision", include_top=False, weights=path)
    x = image(101, 128)
    check_equal(backbone(x), maps_last(expected(network.maps, x)))


@pytest.fixture(scope="module")
def googlenet(tmp_path_factory):
    """The network and its file."""
    network = theirs.randomize(theirs.GoogLeNet(num_classes=9))
    return network, save(network, tmp_path_factory.mktemp("googlenet") / "googlenet.pth")


def test_torchvisions_googlenet(googlenet, image):
    network, path = googlenet
    model = keras_psp.Inception(
        "googlenet_torchvision",
        num_classes=9,
        weights=path,
        classifier_activation=None,
        auxiliary_weight=0,
        input_shape=(None, None, 3),
    )
    assert "without auxiliary classifiers, which differ from ours)" in model.initial_weights
    backbone = keras_psp.build_backbone("googlenet_torchvision", weights=path, output_stride=32)
    for size in [(65, 97), (64, 80)]:
        x = image(*size)
        check_equal(model(x), expected(network, x).numpy())
        for stage, features in zip(("P4", "P5"), expected(network.maps, x), strict=True):
            check_equal(backbone(x)[stage], maps_last(features))


def test_dilated_googlenet_computes_the_same_features(googlenet, image):
    network, path = googlenet
    x = image(129, 161)
    sparse = maps_last(expected(network.maps, x)[1])
    for stride in (16, 8):
        backbone = keras_psp.build_backbone(
            "googlenet_torchvision", weights=path, output_stride=stride
        )
        step = 32 // stride
        check_equal(numpy(backbone(x)["P5"])[:, ::step, ::step], sparse)


def test_torchvisions_inception_v3(image, tmp_path):
    network = theirs.randomize(theirs.InceptionV3(num_classes=9))
    path = save(network, tmp_path / "inception.pth")
    model = keras_psp.Inception(
        "inception_v3_torchvision", num_classes=9, weights=path, classifier_activation=None
    )
    assert "without an auxiliary classifier, which ours is without)" in model.initial_weights
    for size in [(107, 131), (96, 128)]:
        x = image(*size)
        check_equal(model(x), expected(network, x).numpy())


# File formats -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet():
    return theirs.randomize(theirs.ResNet(*BASIC, "torchvision", num_classes=9))


@pytest.fixture(scope="module")
def resnet18():
    """Ours, to load into: what a file is refused for changes nothing."""
    return keras_psp.ResNet("resnet18", num_classes=9, weights=None, classifier_activation=None)


@pytest.fixture(scope="module")
def arrays(resnet):
    return {name: value.numpy() for name, value in resnet.state_dict().items()}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".safetensors", ".npz", ".h5"])
def test_formats(suffix, resnet, arrays, resnet18, randomize, image, tmp_path):
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".safetensors":
        numpy_files = pytest.importorskip("safetensors.numpy", reason="reads .safetensors")
        numpy_files.save_file(arrays, path)
    elif suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value
    else:
        save(resnet, path)
    randomize(resnet18)
    keras_psp.load_weights(resnet18, path)
    x = image(65, 64)
    check_equal(resnet18(x), expected(resnet, x).numpy())


def test_half_precision_is_read(resnet, tmp_path):
    path = save(
        {name: value.bfloat16() for name, value in resnet.state_dict().items()},
        tmp_path / "half.pth",
    )
    value = read_tensors(path)["conv1.weight"]
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, resnet.conv1.weight.detach(), rtol=2**-8)


class Malicious:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("writer", [torch.save, lambda x, p: p.write_bytes(pickle.dumps(x))])
def test_code_in_a_file_is_never_run(writer, resnet18, tmp_path):
    path, proof = tmp_path / "malicious.pth", tmp_path / "i was here"
    writer({"state_dict": {"conv1.weight": Malicious(proof)}}, path)
    with pytest.raises(ValueError, match=r"a file of tensors alone, which is read without running"):
        keras_psp.load_weights(resnet18, path)
    assert not proof.exists()
    array = tmp_path / "malicious.npz"
    np.savez(array, **{"conv1.weight": np.array([Malicious(proof)], object)})
    with pytest.raises(ValueError, match="a file of tensors alone"):
        keras_psp.load_weights(resnet18, array)
    assert not proof.exists()
    torch.load(path, weights_only=False) if writer is torch.save else pickle.loads(
        path.read_bytes()
    )
    assert proof.exists()  # The file would have done it.


@pytest.mark.parametrize("suffix, package", [(".pth", "torch"), (".safetensors", "safetensors")])
def test_a_package_that_is_not_there_is_named(suffix, package, resnet18, tmp_path, monkeypatch):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(b"anything")

    def absent(path):
        raise ImportError(package)

    monkeypatch.setitem(reading.READERS, suffix, absent)
    with pytest.raises(ImportError, match=f"needs the package {package}.*pip install {package}"):
        keras_psp.load_weights(resnet18, path)


def test_other_files_are_refused(resnet18, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"Weights come from a \.pth, .*Received: .*model\.onnx"):
        keras_psp.load_weights(resnet18, path)
    path = save({"hello": "world"}, tmp_path / "words.pth")
    with pytest.raises(ValueError, match=r"must hold named tensors.*with 'hello'"):
        keras_psp.load_weights(resnet18, path)


# What does not fit ------------------------------------------------------------------------------


def refusal(path, builder=keras_psp.ResNet, variant="resnet18", **options):
    with pytest.raises(ValueError) as error:
        builder(variant, **{"num_classes": 9, "weights": path, **options})
    return str(error.value)


def test_every_tensor_is_used_or_named(resnet, tmp_path):
    state = dict(resnet.state_dict())
    del state["layer3.0.bn1.bias"], state["layer1.0.bn1.num_batches_tracked"]
    state["layer1.0.se.fc.weight"] = torch.zeros(3)
    state["layer2.0.conv1.weight"] = torch.zeros(16, 4, 3, 3)
    message = refusal(save(state, tmp_path / "changed.pth"))
    assert "layer1.0.se.fc.weight of the file has no place in the model" in message
    assert (
        "layer2.0.conv1.weight is (3, 3, 4, 16) in the file, "
        "stage2_block1/conv1/kernel (3, 3, 8, 16) in the model" in message
    )
    assert "stage3_block1/bn1/beta of the model is not in the file" in message
    assert "Build the model that the file was saved from" in message


def test_a_file_that_does_not_fit_changes_nothing(resnet, tmp_path):
    model = keras_psp.ResNet("resnet18", num_classes=5, weights=None)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"fc.weight is \(64, 9\) in the file, predictions/kernel"):
        keras_psp.load_weights(model, save(resnet, tmp_path / "nine.pth"))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_other_classes_need_to_be_asked_for(resnet, tmp_path):
    path = save(resnet, tmp_path / "nine.pth")
    assert "or pass fresh_head=True" in refusal(path, num_classes=5)
    model = keras_psp.ResNet("resnet18", num_classes=5, weights=path, fresh_head=True)
    assert "without predictions, which starts afresh" in model.initial_weights
    stem = model.get_layer("stem_conv1").get_weights()[0]
    np.testing.assert_array_equal(stem, resnet.conv1.weight.detach().numpy().transpose(2, 3, 1, 0))
    assert not model.get_layer("predictions").get_weights()[0].any()  # as the tests start kernels
    # Asked for, it is fresh with the same number of classes as well.
    again = keras_psp.ResNet("resnet18", num_classes=9, weights=path, fresh_head=True)
    assert not again.get_layer("predictions").get_weights()[0].any()


def test_auxiliary_heads_may_be_absent_on_either_side(image, tmp_path):
    network = theirs.randomize(theirs.AuthorsPSPNet(*BASIC, num_classes=7))
    path = save(network, tmp_path / "with.pth")
    x = image(65, 81)
    logits = maps_last(expected(network, x)[0])
    model = keras_psp.PSPNet("resnet18_deep", 7, weights=path, auxiliary_weight=0)
    assert model.initial_weights.endswith("without auxiliary_head)")
    check_equal(model(x), logits)
    del network.aux
    path = save(network, tmp_path / "without.pth")
    model = keras_psp.PSPNet("resnet18_deep", 7, weights=path)
    check_equal(model(x), logits)
    assert not model.auxiliary_head.conv1.get_weights()[0].any()


def test_half_an_auxiliary_head_is_none(tmp_path):
    state = theirs.AuthorsPSPNet(*BASIC, num_classes=7).state_dict()
    del state["aux.1.bias"]
    path = save(dict(state), tmp_path / "half.pth")
    message = refusal(path, keras_psp.PSPNet, "resnet18_deep", num_classes=7)
    assert "where auxiliary_head/bn1/beta of the model is not in the file." in message


def test_a_backbone_is_taken_from_a_whole_pspnet(resnet, image, tmp_path):
    network = theirs.randomize(theirs.AuthorsPSPNet(*BASIC, num_classes=7))
    path = save(network, tmp_path / "pspnet.pth")
    model = keras_psp.PSPNet("resnet18_deep", num_classes=3, backbone_weights=path)
    np.testing.assert_array_equal(
        model.backbone.get_layer("stem_conv3").get_weights()[0],
        network.layer0[6].weight.detach().numpy().transpose(2, 3, 1, 0),
    )
    path = save(resnet, tmp_path / "resnet.pth")
    message = refusal(path, keras_psp.PSPNet)
    assert "fc.weight of the file has no place in the model" in message
    assert "pass it as backbone_weights=" in message


def test_a_checkpoint_fits_only_networks_of_its_source(resnet, tmp_path):
    path = save(theirs.vgg((1, 1, 2, 2, 2), 1, 9), tmp_path / "vgg.pth")
    message = refusal(path, keras_psp.VGG, "vgg11", include_top=False)
    assert "torchvision's or timm's VGG-11 fits vgg11_torchvision. Received" in message
    assert "for vgg11, which is vgg11. Build one of those" in message
    own = keras_psp.ResNet("resnet18", include_top=False, weights=None)
    path = save(resnet, tmp_path / "resnet.pth")
    model = keras.Model(own.input, own.output, name="mine")
    with pytest.raises(ValueError, match="for mine, which is none of the table"):
        keras_psp.load_weights(model, path)


@pytest.mark.parametrize(
    "names, message",
    [
        (
            ["conv1.0.weight", "layer1.0.conv1.weight", "layer2.0.downsample.2.weight"],
            "of a ResNet-D. It averages in its shortcuts",
        ),
        (
            ["backbone.conv1.weight", "decode_head.psp_modules.0.1.conv.weight"],
            "Those with three 3×3 in the stem are read: r50-d8, not r50b-d8",
        ),
        (["blocks.0.attn.qkv.weight"], "of nobody known, with blocks.0.attn.qkv.weight"),
        (
            ["conv1.weight", "stem.0.weight", "layer1.0.conv1.weight"],
            "of torchvision's or timm's ResNet or OpenMMLab's ResNet v1c, with conv1.weight",
        ),
    ],
)
def test_whose_a_checkpoint_is_is_never_guessed(names, message, resnet18, tmp_path):
    path = save({name: torch.zeros(1) for name in names}, tmp_path / "file.pth")
    with pytest.raises(ValueError) as error:
        keras_psp.load_weights(resnet18, path)
    assert message in str(error.value)


def test_no_source_is_taken_for_another():
    with torch.device("meta"):  # Names are all it takes.
        networks = {
            "the PSPNet authors' PSPNet": theirs.AuthorsPSPNet(*BASIC, 3),
            "the PSPNet authors' ResNet": theirs.ResNet(*BASIC, "authors"),
            "torchvision's or timm's ResNet": theirs.ResNet(*BASIC, "torchvision"),
            "mmsegmentation's PSPNet": theirs.MMSegmentationPSPNet(*BASIC, 3, False),
            "OpenMMLab's ResNet v1c": theirs.ResNet(*BASIC, "v1c"),
            "torchvision's FCN": torch_fcn.TorchvisionFCN(BLOCKS, 3),
            "the FCN authors' FCN in PyTorch": torch_fcn.AuthorsFCN(8, 5 * [2], 3, 3),
            "torchvision's or timm's VGG-11": theirs.vgg((1, 1, 2, 2, 2), 1, 3),
            "torchvision's or timm's VGG-13": theirs.vgg((2, 2, 2, 2, 2), 1, 3),
            "torchvision's or timm's VGG-16": theirs.vgg((2, 2, 3, 3, 3), 1, 3),
            "torchvision's or timm's VGG-19": theirs.vgg((2, 2, 4, 4, 4), 1, 3),
            **{
                f"torchvision's or timm's VGG-{depth} with batch normalization": theirs.vgg(
                    (first, first, *(rest,) * 3), 1, 3, normalizes=True
                )
                for depth, first, rest in [(11, 1, 2), (13, 2, 2), (16, 2, 3), (19, 2, 4)]
            },
            "torchvision's AlexNet": theirs.alexnet(1, 3),
            "torchvision's GoogLeNet": theirs.GoogLeNet(3),
            "torchvision's or timm's Inception v3": theirs.InceptionV3(3),
        }
    titles = {source.title for source in SOURCES if not source.refused}
    assert set(networks) == {title for title in titles if "keras" not in title}
    for title, network in networks.items():
        assert identify("a file", network.state_dict()).title == title


def test_mmsegmentations_convention_is_asked_about(tmp_path):
    network = theirs.randomize(theirs.MMSegmentationPSPNet(*BASIC, 7, False))
    path = save(network, tmp_path / "pspnet.pth")
    with pytest.warns(UserWarning, match="align_corners=False; no tensor tells.*=True. See the"):
        keras_psp.PSPNet("resnet18_v1c", 7, weights=path)


def test_own_files_of_another_ending(tmp_path):
    model = keras_psp.ResNet("resnet18", num_classes=4, weights=None)
    model.save_weights(tmp_path / "own.weights.h5")
    shutil.copy(tmp_path / "own.weights.h5", tmp_path / "own.h5")
    again = keras_psp.ResNet("resnet18", num_classes=4, weights=str(tmp_path / "own.h5"))
    assert again.initial_weights == f"the file {tmp_path / 'own.h5'}"
