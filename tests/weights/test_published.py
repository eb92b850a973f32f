"""Published weights: what a publisher's server sends, and what is made of it."""

import hashlib
import http.server
import io
import re
import socket
import threading
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save

import keras_psp
from keras_psp import keras_internals
from keras_psp.data.class_lists import CITYSCAPES, VOC2012
from keras_psp.models import Classifier, SegmentationModel, vgg
from keras_psp.weights import PRESETS, SOURCES, WeightsNotAvailable, published
from keras_psp.weights.published import File, find_file
from tests.weights.conftest import BLOCKS, FILTERS, publish

LOGIN = b"\n<!DOCTYPE html><html><body>Sign in to the network</body></html>"
PAGE = Path(__file__).parents[2] / "docs" / "api" / "models.md"


@pytest.fixture(scope="module")
def web():
    """A server of files: path → content, and how many of its bytes arrive before it hangs up."""
    files = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content, sent = files.get(self.path, (LOGIN, None))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:sent])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, real_get_file, monkeypatch):
    """An empty cache; downloads, of this machine alone."""
    monkeypatch.setattr(keras.utils, "get_file", real_get_file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "keras" / "models"


TENSORS = save({"conv1.weight": np.arange(99, dtype="float32")})
SHA256 = hashlib.sha256(TENSORS).hexdigest()


@pytest.mark.parametrize(
    "content, sent, digest, reason",
    [
        (TENSORS, None, "0" * 64, f"what came has not the SHA-256 {'0' * 64}"),
        (TENSORS, None, "0" * 32, f"what came has not the MD5 {'0' * 32}"),
        (TENSORS, 100, SHA256, "retrieval incomplete: got only 100 out of"),
        (TENSORS[:100], None, SHA256, f"what came has not the SHA-256 {SHA256}"),
        (TENSORS[:100], None, "", "what came is no whole .safetensors file: "),
        (LOGIN, None, SHA256, "what came is a web page, such as that of a login"),
        (LOGIN, None, "", "what came is a web page, such as that of a login"),
    ],
)
def test_what_is_not_the_file_is_refused(content, sent, digest, reason, web, cache):
    url, files = web
    files["/model.safetensors"] = content, sent
    file = File(f"{url}/model.safetensors", digest, "tiny.tv_in1k.safetensors")
    with pytest.raises(WeightsNotAvailable) as error:
        find_file(file)
    message = str(error.value)
    assert f"tiny.tv_in1k.safetensors could not be downloaded ({reason}" in message
    assert f"Save {file.url} as {cache / file.name}. Other ways: the documentation" in message
    assert "\n" not in message
    assert not list(cache.iterdir())  # nor anything half


def test_without_a_network_the_message_is_one_line(cache):
    with pytest.raises(WeightsNotAvailable) as error:
        find_file(File("http://127.0.0.1:9/tiny", SHA256, "tiny"))
    message = str(error.value)
    assert "tiny could not be downloaded ([Errno 111] Connection refused). Save http" in message
    assert "\n" not in message
    assert "Where a download fails" in message
    assert "## Where a download fails" in PAGE.read_text()


def test_a_server_that_says_nothing_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(keras_internals, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/tiny"
        with pytest.raises(WeightsNotAvailable, match=r"could not be downloaded \(timed out\)"):
            find_file(File(url, SHA256, "tiny"))
    assert socket.getdefaulttimeout() is None


def test_a_file_comes_once(web, cache):
    url, files = web
    files["/model.safetensors"] = TENSORS, None
    file = File(f"{url}/model.safetensors", SHA256[:8], "tiny.safetensors")
    assert find_file(file) == cache / "tiny.safetensors"
    files.clear()
    assert find_file(file).read_bytes() == TENSORS


def test_a_file_without_a_digest_is_taken_aloud(web, cache):
    url, files = web
    files["/model.safetensors"] = TENSORS, None
    file = File(f"{url}/model.safetensors", "", "tiny.safetensors")
    with pytest.warns(UserWarning, match=f"taken as it came: .* with the SHA-256 {SHA256}"):
        find_file(file)
    find_file(file)  # From the cache, in silence.


def test_a_file_in_the_package_needs_no_network():
    assert find_file(File("weights/published.py", "", "")) == Path(published.__file__)


def test_the_table_is_whole():
    for name, row in PRESETS.items():
        file, backbone = row.file, row.arguments.get("backbone") or row.arguments["variant"]
        assert name.startswith(row.network.lower()) or name == f"{backbone}_imagenet"
        if row.features is not None:  # Keras': test_the_table_has_kerass_own_hashes has the rest.
            assert len(file.digest) == len(row.features.digest) == 32
        elif file.name.endswith(".safetensors"):
            timm = f"https://huggingface.co/timm/{file.name.removesuffix('.safetensors')}"
            assert file.url == f"{timm}/resolve/main/model.safetensors"
            assert re.fullmatch(r"([0-9a-f]{64})?", file.digest)
        elif name == published.IN_THE_PACKAGE:
            assert published.find_file(file).stat().st_size < 14e6
            assert published.find_file(file).with_name(f"{name}.LICENSE.txt").exists()
        else:
            assert file.url.startswith("https://download.")
            assert re.fullmatch(r"[0-9a-f]{8}", file.digest)
            assert file.url.endswith(f"-{file.digest}.pth")
        assert [source for source in SOURCES if backbone in source.variants], name
        assert row.score
        assert row.license
        if row.classes is not None:
            assert len(row.classes) == row.arguments["num_classes"]


def test_only_what_nobody_else_has_needs_pytorch():
    needing = {name for name, row in PRESETS.items() if row.file.name.endswith(".pth")}
    imagenet = {"alexnet_torchvision", "googlenet_torchvision"}
    imagenet |= {"resnet18_v1c", "resnet50_v1c", "resnet101_v1c"}
    assert {n.removesuffix("_imagenet") for n in needing if n.endswith("imagenet")} == imagenet
    assert all(name.startswith(("pspnet", "fcn")) or name.endswith("imagenet") for name in needing)


def test_without_pytorch_its_files_are_not_fetched(monkeypatch):
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsNotAvailable, match="read by PyTorch, which is not installed"):
        keras_psp.ResNet("resnet18_v1c", weights="imagenet")
    with pytest.warns(UserWarning, match="starts from random values: .*pip install torch"):
        keras_psp.ResNet("resnet18_v1c")


def test_the_documentation_has_every_source():
    page = PAGE.read_text()
    assert not [
        source.title
        for source in SOURCES
        if not source.refused and source.title.partition("-")[0] not in page
    ]


# What the files hold ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("torch", reason="PyTorch is what these are compared with")
    from tests.weights import torch_checkpoints

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_checkpoints, "WIDTH", FILTERS)
        yield torch_checkpoints


def serve(web, preset, content, monkeypatch):
    """Lets the server have such a file, and the table tell of it."""
    url, files = web
    files[f"/{preset}"] = content, None
    publish(monkeypatch, preset, f"{url}/{preset}", hashlib.sha256(content).hexdigest())


def timms(state):
    return save({name: tensor.numpy() for name, tensor in state.items()})


def check_equal(ours, network, x):
    import torch

    with torch.no_grad():
        expected = network(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    assert expected.std() > 1e-3 * np.abs(expected).max()
    ours = keras.ops.convert_to_numpy(ours(x))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("variant", ["resnet18", "resnet50_v1b"])
def test_a_resnet_starts_from_timms_file(variant, theirs, web, no_torch, image, monkeypatch):
    network = theirs.ResNet(BLOCKS, variant != "resnet18", "torchvision", num_classes=1000)
    state = theirs.randomize(network).state_dict()
    serve(web, f"{variant}_imagenet", timms(state), monkeypatch)
    logits = {"classifier_activation": None}
    model = keras_psp.ResNet(variant, **logits)
    assert model.initial_weights == "ImageNet"
    check_equal(model, network, image(65, 81))
    check_equal(Classifier.from_preset(f"{variant}_imagenet", **logits), network, image(65, 81))
    five = keras_psp.ResNet(variant, num_classes=5)
    assert five.initial_weights == "ImageNet"
    assert not five.get_layer("predictions").get_weights()[0].any()


@pytest.mark.parametrize("normalizes", [False, True])
def test_a_vgg_starts_from_timms_file(normalizes, theirs, web, no_torch, image, monkeypatch):
    # Of 64×64 pixels 2×2 places are left.
    monkeypatch.setattr(vgg, "HIDDEN", 8)
    variant = "vgg11_bn" if normalizes else "vgg11_torchvision"
    network = theirs.vgg((1, 1, 2, 2, 2), 2, 1000, hidden=8, normalizes=normalizes)
    state = theirs.randomize(network).state_dict()
    # timm makes convolutions of the fully connected layers.
    for old, new, shape in [
        ("classifier.0", "pre_logits.fc1", (8, 512, 2, 2)),
        ("classifier.3", "pre_logits.fc2", (8, 8, 1, 1)),
        ("classifier.6", "head.fc", (1000, 8)),
    ]:
        state[f"{new}.weight"] = state.pop(f"{old}.weight").reshape(shape)
        state[f"{new}.bias"] = state.pop(f"{old}.bias")
    serve(web, f"{variant}_imagenet", timms(state), monkeypatch)
    options = {"classifier_activation": None, "input_shape": (64, 64, 3)}
    check_equal(keras_psp.VGG(variant, **options), network, image(64, 64))


@pytest.mark.parametrize(
    "name, network_of, built",
    [
        (
            "pspnet_resnet50_cityscapes",
            lambda theirs: theirs.MMSegmentationPSPNet(BLOCKS, True, 19, False),
            (keras_psp.PSPNet, "resnet50_v1c", CITYSCAPES),
        ),
        (
            "fcn_resnet101_coco",
            lambda theirs: import_module("tests.models.torch_fcn").TorchvisionFCN(BLOCKS, 21),
            (keras_psp.FCN, "resnet101_torchvision", VOC2012),
        ),
    ],
)
def test_a_preset_fills_everything(name, network_of, built, theirs, web, image, monkeypatch):
    import torch

    network, content = theirs.randomize(network_of(theirs)), io.BytesIO()
    torch.save({"state_dict": network.state_dict(), "meta": {}}, content)
    serve(web, name, content.getvalue(), monkeypatch)
    model = SegmentationModel.from_preset(name)
    assert (type(model), model.backbone.variant, model.classes) == built
    check_equal(model, lambda x: network(x)[0].permute(0, 2, 3, 1), image(65, 81))

    two = built[0].from_preset(name, num_classes=2, fresh_head=True)
    assert (two.num_classes, two.classes) == (2, None)
    assert "without head/conv2, which starts afresh" in two.initial_weights
    with pytest.raises(ValueError, match=f"of {built[0].__name__}, in SegNet"):
        keras_psp.SegNet.from_preset(name)


def test_a_preset_is_a_source_of_a_backbone(theirs, web, monkeypatch):
    import torch

    name, content = "pspnet_resnet50_cityscapes", io.BytesIO()
    network = theirs.randomize(theirs.MMSegmentationPSPNet(BLOCKS, True, 19, False))
    torch.save(network.state_dict(), content)
    serve(web, name, content.getvalue(), monkeypatch)
    model = keras_psp.PSPNet("resnet50_v1c", backbone_weights=name)
    np.testing.assert_array_equal(
        model.backbone.get_layer("stem_conv1").get_weights()[0],
        network.backbone.stem[0].weight.detach().numpy().transpose(2, 3, 1, 0),
    )
    assert model.classes is None
    named = keras_psp.PSPNet("resnet50_v1c", 19, weights=name, align_corners=False)
    assert named.classes == CITYSCAPES
