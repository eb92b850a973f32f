"""The command that turns other people's checkpoints into files of ours."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.cli import main
from keras_psp.models import RESNETS, model_from_checkpoint

torch = pytest.importorskip("torch", reason="PyTorch is what these are compared with")
from tests.weights import torch_checkpoints as theirs  # noqa: E402

BASIC = ((2, 2, 2, 2), False)


@pytest.fixture(scope="module", autouse=True)
def narrow_resnets():
    """An eighth of the channels; the names of tensors and their number are the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "WIDTH", 8)
        for name, row in list(RESNETS.items()):
            patch.setitem(RESNETS, name, dataclasses.replace(row, filters=8))
        yield


@pytest.fixture(scope="module")
def network():
    return theirs.randomize(theirs.MMSegmentationPSPNet(*BASIC, 3, align_corners=False))


@pytest.fixture
def checkpoint(network, tmp_path):
    torch.save({"state_dict": network.state_dict(), "meta": {}}, tmp_path / "pspnet.pth")
    return tmp_path / "pspnet.pth"


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (1, 33, 48, 3)).astype("float32")


def run(*arguments):
    return main(["convert", *map(str, arguments)])


def check_equal(model, network, x):
    with torch.no_grad():
        logits, _ = network(torch.tensor(x.transpose(0, 3, 1, 2)))
    logits = logits.numpy().transpose(0, 2, 3, 1)
    ours = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(ours, logits, rtol=0, atol=1e-4 * np.abs(logits).max())


def test_the_network_is_found_from_the_tensors(checkpoint, network, image, tmp_path, capsys):
    out = tmp_path / "ours.keras"
    assert run(checkpoint, out, "--align-corners", "no") == 0
    said = capsys.readouterr().out
    assert f"pspnet (resnet18_v1c) from the file {checkpoint} (mmsegmentation's PSPNet)" in said
    model = keras.saving.load_model(out)
    assert model.num_classes == 3
    assert not model.align_corners
    check_equal(model, network, image)
    # And from there to weights alone, with the model that is named, and back.
    weights = tmp_path / "ours.weights.h5"
    assert run(out, weights) == 0
    again = tmp_path / "again.keras"
    options = ["--backbone", "resnet18_v1c", "--num-classes", "3", "--align-corners", "no"]
    assert run(weights, again, *options) == 0
    for one, other in zip(keras.saving.load_model(again).weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_classifier_is_found_too(tmp_path):
    resnet = theirs.randomize(theirs.ResNet(*BASIC, "authors", num_classes=5))
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    out = tmp_path / "resnet.weights.h5"
    assert run(tmp_path / "resnet.pth", out) == 0
    model = keras_psp.ResNet("resnet18_deep", num_classes=5, weights=str(out))
    np.testing.assert_allclose(
        model.get_layer("predictions").get_weights()[1], resnet.fc.bias.detach()
    )
    del resnet.fc
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    assert model_from_checkpoint(tmp_path / "resnet.pth").output.shape == (None, None, None, 64)


@pytest.mark.parametrize(
    "file, out, message",
    [
        ("pspnet.pth", "ours.h5", "must be a .weights.h5 or a .keras or a .8bit.h5"),
        ("none.pth", "ours.keras", "none.pth"),
    ],
)
def test_what_cannot_be_converted(file, out, message, checkpoint, tmp_path, capsys):
    assert run(tmp_path / file, tmp_path / out) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / out).exists()


def test_a_resnet_of_another_depth_is_refused(tmp_path, capsys):
    resnet = theirs.ResNet((1, 1, 1, 1), False, "torchvision")
    torch.save(resnet.state_dict(), tmp_path / "resnet10.pth")
    assert run(tmp_path / "resnet10.pth", tmp_path / "ours.keras") == 2
    assert "whose stages have (1, 1, 1, 1) basic blocks" in capsys.readouterr().err
