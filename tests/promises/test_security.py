"""What strangers made may not read other files, run anything, or fill the memory.

Each file is an attack. What reads it answers with an error that names it, at once.
"""

import os
import zipfile

import h5py
import numpy as np
import pytest

import keras_psp
from keras_psp import ResNet, load_weights, untrusted
from keras_psp.labels import ClassList
from keras_psp.weights.reading import read_tensors
from tests.tiny import Tiny, data

SECRET = np.arange(9, dtype="float32").tobytes()


@pytest.fixture(scope="module")
def model():
    return ResNet("resnet18", num_classes=3, weights=None)


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret.txt"
    file.write_bytes(SECRET)
    return file


def external(file, secret):
    file.create_dataset("layers/vars/0", (9,), "float32", external=[(str(secret), 0, 36)])


def external_to_the_end(file, secret):
    parts = [(str(secret), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("layers/vars/0", (9,), "float32", external=parts)


def virtual(file, secret):
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["secret"] = np.frombuffer(SECRET, "float32")
    layout = h5py.VirtualLayout((9,), "float32")
    layout[:] = h5py.VirtualSource(secret.with_suffix(".h5"), "secret", (9,))
    file.create_virtual_dataset("layers/vars/0", layout)


def linked(file, secret):
    virtual(file, secret)
    del file["layers/vars/0"]
    file["layers/vars/0"] = h5py.ExternalLink(secret.with_suffix(".h5"), "secret")


def linked_inside(file, secret):
    file["layers/vars/0"] = h5py.SoftLink("/somewhere")


def endless(file, secret):
    file.create_dataset("layers/vars/0", (1 << 31,), "float32", chunks=(1 << 20,))


def text(file, secret):
    file["layers/vars/0"] = ["text"]


def complex_numbers(file, secret):
    file["layers/vars/0"] = np.ones(9, "complex64")


ATTACKS = external, external_to_the_end, virtual, linked, linked_inside, endless
ATTACKS += text, complex_numbers


@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5", "a.hdf5", "a.keras", "config/a.h5"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_hdf5_holds_its_own_numbers(tmp_path, secret, model, attack, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    inside = path.with_name("model.weights.h5") if path.suffix == ".keras" else path
    with h5py.File(inside, "w") as file:
        attack(file, secret)
        if name.startswith("config/"):  # a whole model of Keras 2's kind
            file.attrs["model_config"] = '{"class_name": "PSPNet"}'
            file.move("layers", "model_weights")
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
            archive.write(inside, inside.name)
    message = rf"of weights .*Received: path='.*{path.name}'.*(link|other file|memory|type)"
    with pytest.raises(ValueError, match=message):
        load_weights(model, path)


def test_hdf5_of_every_run_is_checked(tmp_path, secret):
    tiny = keras_psp.PSPNet("resnet18", num_classes=2, backbone_weights=None, auxiliary_weight=0)
    folder = tiny.save_to_preset(tmp_path / "preset")
    with h5py.File(folder / "model.weights.h5", "a") as file:
        external(file, secret)
    for load in (keras_psp.load_run, keras_psp.PSPNet.from_preset):
        with pytest.raises(ValueError, match="lies in another file"):
            load(folder)


@pytest.mark.parametrize("name", ["a.npz", "a.pth", "a.keras"])
def test_archives_do_not_unpack_to_gigabytes(tmp_path, model, name):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ("config.json", "model.weights.h5", "a.npy", "a/data.pkl"):
            archive.writestr(member, bytes(40_000_000))
    with pytest.raises(ValueError, match=r"ask for 160,000,000 bytes of memory"):
        load_weights(model, path)


@pytest.mark.parametrize("of", [np.ones((2, 2), "complex64"), np.array([b"text"])])
def test_what_is_no_number_is_no_weight(tmp_path, of):
    np.savez(tmp_path / "a.npz", kernel=of)
    with pytest.raises(ValueError, match=r"tensors of real numbers\. Received: .*kernel is of "):
        read_tensors(tmp_path / "a.npz")


def test_expanded_tensors_ask_for_no_memory(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"kernel": torch.zeros(1).expand(1 << 36)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"bytes ask for 274,877,906,944 bytes"):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.filterwarnings("ignore")  # Quantized tensors are old to PyTorch.
def test_tensors_of_pytorch_in_any_form(tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 3)
    torch.save(dict(layer.named_parameters()), tmp_path / "a.pth")
    np.testing.assert_array_equal(
        read_tensors(tmp_path / "a.pth")["weight"], layer.weight.detach().numpy()
    )
    others = {
        "sparse": torch.eye(3).to_sparse(),
        "quantized": torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8),
        "complex": torch.eye(3, dtype=torch.complex64),
    }
    for name, tensor in others.items():
        torch.save({name: tensor}, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=rf"Received: weights='.*a\.pth', in which {name} is"):
            read_tensors(tmp_path / "a.pth")
    torch.save({0: torch.eye(3)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"in which a name is 0, a int"):
        read_tensors(tmp_path / "a.pth")


@pytest.fixture(params=["pipe", "device", "folder"])
def no_file(request, tmp_path):
    """A function: puts something there that is no file, under a name."""

    def put(name):
        path = tmp_path / name
        if request.param == "folder":
            path.mkdir()
        elif not hasattr(os, "mkfifo"):
            pytest.skip("this system has no pipes among its files")
        elif request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        return path

    return put


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.npz", "a.pth", "a.h5"])
def test_weights_are_files(no_file, model, name):
    with pytest.raises(ValueError, match=r"Received: .*(it is no file|without it)"):
        load_weights(model, no_file(name))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_photos_are_files(no_file, name):
    with pytest.raises(ValueError, match=r"Received: .*it is no file, but a"):
        keras_psp.inference.images.as_pixels(no_file(name))


def test_a_link_to_a_photo_is_a_photo(tmp_path, write_image):
    write_image(tmp_path / "a.png", np.zeros((4, 5, 3), "uint8"))
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    assert keras_psp.inference.images.as_pixels(tmp_path / "link.png").shape == (4, 5, 3)


@pytest.mark.parametrize("max_pixels", [None, 1000])
def test_the_content_of_an_image_is_of_a_format_that_we_name(tmp_path, max_pixels):
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(secret) (r) file\n%%EOF"
    )
    with pytest.raises(ValueError, match=r"a\.png, which cannot be read \(unknown format\)"):
        keras_psp.data.reading.read_image(tmp_path / "a.png", max_pixels)


def test_a_file_larger_than_its_pixels_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"a\.png, which cannot be read \(it has 1,099,"):
        keras_psp.inference.images.as_pixels(tmp_path / "a.png")


def test_honest_files_are_not_suspected(tmp_path):
    """The limit leaves room: zeros that are compressed, and small files."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("zeros", data=np.zeros(250_000, "float32"), compression="gzip")
    with untrusted.open_hdf5(tmp_path / "a.h5") as file:
        assert file["zeros"].shape == (250_000,)


def test_names_are_text_in_pictures_tables_and_pages(tmp_path):
    names = ["=1+1", r"$\frac$", "<script>alert(1)</script>"]
    images, labels = data(2)
    keras_psp.evaluate(Tiny(), (images, labels), classes=ClassList(names)).write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "'=1+1" in (tmp_path / "per_class.csv").read_text()


@pytest.mark.timeout(60)
def test_a_video_is_no_playlist(tmp_path):
    """FFmpeg would open the files that a playlist names."""
    pytest.importorskip("av")
    (tmp_path / "secret.ts").write_bytes(SECRET)
    (tmp_path / "street.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(ValueError, match=r"its content that of a \.mp4.* Received: .*street\.mp4"):
        keras_psp.segment_video(Tiny(), tmp_path / "street.mp4", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.timeout(60)
def test_videos_and_lists_are_files(no_file, tmp_path, write_image):
    pytest.importorskip("av")
    with pytest.raises(ValueError, match=r"Received: .*street\.mp4 \(it is no file"):
        keras_psp.segment_video(Tiny(), no_file("street.mp4"), tmp_path / "out.mp4")
    with pytest.raises(ValueError, match=r"Received: .*pairs\.csv"):
        keras_psp.load_folder(no_file("pairs.csv"), "train", classes=["a", "b"])
    for place in ("images", "labels"):
        (tmp_path / "data" / "train" / place).mkdir(parents=True)
        write_image(tmp_path / "data" / "train" / place / "a.png", np.zeros((6, 7), "uint8"))
    write_image(tmp_path / "data" / "train" / "images" / "a.png", np.zeros((6, 7, 3), "uint8"))
    no_file("data/classes.txt")
    with pytest.raises(ValueError, match=r"Received: .*(classes\.txt|class list|data)"):
        keras_psp.load_folder(tmp_path / "data", "train")
