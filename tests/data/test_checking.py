"""The checker, on a folder with one of every fault."""

import shutil

import numpy as np
import pytest

from keras_psp.data import check_data, load_folder
from keras_psp.data.camvid.classes import CAMVID, CAMVID_CLASS_WEIGHTS, CAMVID_COLORS_32
from keras_psp.labels import ClassList

NAMES = ["road", "car", "sky"]


@pytest.fixture
def folder(tmp_path, write_image):
    """Two good pairs (3 void, 12 road and 5 car pixels), and faults of seven kinds."""
    good = np.zeros((2, 5))
    with_car = np.ones((2, 5))
    with_car[0, :2], with_car[1, :3] = 0, 255
    for split in ("train", "val"):
        for name, label in [("a", good), ("b", with_car)]:
            write_image(tmp_path / split / "images" / f"{name}.png", np.zeros((2, 5, 3)))
            write_image(tmp_path / split / "labels" / f"{name}.png", label)

    def pair(name, image, label):
        write_image(tmp_path / "train" / "images" / f"{name}.png", image)
        write_image(tmp_path / "train" / "labels" / f"{name}.png", label)

    pair("c_other_size", np.zeros((2, 5, 3)), np.zeros((2, 4)))
    pair("d_grayscale", np.zeros((2, 5)), np.zeros((2, 5)))
    pair("e_label_3", np.zeros((2, 5, 3)), np.full((2, 5), 3))
    pair("f_broken", np.zeros((2, 5, 3)), np.zeros((2, 5)))
    (tmp_path / "train" / "images" / "f_broken.png").write_bytes(b"nothing")
    pair("g_no_label", np.zeros((2, 5, 3)), np.zeros((2, 5)))
    (tmp_path / "train" / "labels" / "g_no_label.png").unlink()
    pair("h_no_image", np.zeros((2, 5, 3)), np.zeros((2, 5)))
    (tmp_path / "train" / "images" / "h_no_image.png").unlink()
    return tmp_path


def test_every_fault_is_reported(folder):
    report = check_data(folder, classes=NAMES)
    found = [(problem.split, problem.kind) for problem in report.problems]
    assert found == [
        ("train", "missing partner"),
        ("train", "missing partner"),
        ("train", "size mismatch"),
        ("train", "wrong kind of file"),
        ("train", "unknown label"),
        ("train", "unreadable"),
        ("train", "absent class"),
    ]
    names = ["g_no_label", "h_no_image", "c_other_size", "d_grayscale", "e_label_3", "f_broken"]
    names.append("sky")
    for name, problem in zip(names, report.problems, strict=True):
        assert name in problem.message
    assert "labels 3 (10 pixels)" in report.problems[4].message
    assert not report.ok
    assert check_data(folder, "val", classes=NAMES).ok


def test_an_empty_split_is_a_fault(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "train" / name).mkdir(parents=True)
    report = check_data(tmp_path, classes=NAMES)
    assert [(problem.split, problem.kind) for problem in report.problems] == [
        ("train", "empty split")
    ]
    assert "train/images and " in report.problems[0].message
    assert str(report).endswith("Problems: 1 × empty split.")


@pytest.mark.parametrize(
    ("layout", "label", "double"),
    [
        ("train/{}", "labels/b.png", "images/b.jpg"),
        ("train/{}", "labels/b.png", "labels/b.bmp"),
        ("train_{}", "labels/b_L.png", "labels/b.png"),
    ],
)
def test_files_of_one_name_are_a_fault(tmp_path, write_image, layout, label, double):
    images = tmp_path / ("train" if "_" in layout else "train/images")
    label, double = (tmp_path / layout.format(name) for name in (label, double))
    write_image(images / "b.png", np.zeros((2, 5, 3)))
    write_image(label, np.zeros((2, 5)))
    assert check_data(tmp_path, classes=["road"]).ok
    first = images / "b.png" if double.suffix == ".jpg" else label
    shutil.copy(first, double)
    report = check_data(tmp_path, classes=["road"])
    assert [problem.kind for problem in report.problems] == ["same name"]
    assert str(first) in report.problems[0].message
    assert str(double) in report.problems[0].message
    assert report.images == {"train": 1}
    with pytest.raises(ValueError, match=r"must differ in more.*Received: .*b.* and .*b.*Rename"):
        load_folder(tmp_path, classes=["road"])


def test_kaggles_camvid_is_camvid(tmp_path, write_image):
    # As `load_camvid` reads it: eleven classes, and a stray color in a hundred pixels is void.
    mask = np.full((20, 20, 3), CAMVID_COLORS_32["Wall"])
    mask[0, :2] = 1, 2, 3
    write_image(tmp_path / "train" / "a.png", np.zeros((20, 20, 3)))
    write_image(tmp_path / "train_labels" / "a_L.png", mask)
    rows = [f"{name},{r},{g},{b}" for name, (r, g, b) in CAMVID_COLORS_32.items()]
    (tmp_path / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))
    report = check_data(tmp_path)
    assert [problem.kind for problem in report.problems] == ["absent class"]
    assert report.classes == CAMVID
    assert report.pixels["train"].tolist() == [398, *[0] * 10, 2]  # Walls are Building.
    assert check_data(tmp_path, classes=["Wall"]).classes.names == ("Wall",)
    # With another color it is somebody's own.
    (tmp_path / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows[:-1], "Wall,9,9,9"]))
    assert len(check_data(tmp_path).classes) == 31


def test_classes_are_counted(folder):
    report = check_data(folder, classes=NAMES)
    assert report.images == {"train": 6, "val": 2}
    assert report.pixels["val"].tolist() == [12, 5, 0, 3]
    assert report.pixels["train"].tolist() == [12, 5, 0, 3]  # Only of files that can be used.
    assert report.present["val"].tolist() == [20, 10, 0]
    assert report.absent == {"train": ["sky"], "val": ["sky"]}
    # Frequencies 12/20 and 5/10, median .55.
    assert report.class_weights("val") == pytest.approx([0.55 / 0.6, 0.55 / 0.5, 0])


def test_the_report_is_a_table(folder):
    lines = str(check_data(folder, classes=NAMES)).splitlines()
    assert lines[0].split() == ["train", "val"]
    assert lines[1].split() == ["images", "6", "2"]
    assert lines[2].split() == ["road", "70.588%", "70.588%"]
    assert lines[5].split() == ["void", "15.000%", "15.000%"]
    assert "train never shows: sky" in lines
    assert lines[-1].startswith("Problems: 2 × missing partner, 1 × size mismatch")
    assert str(check_data(folder, "val", classes=NAMES)).endswith("Problems: none.")


def test_files_that_are_no_images_are_named(tmp_path, write_image):
    for folder, pixels in [("images", np.zeros((2, 5, 3))), ("masks", np.zeros((2, 5)))]:
        write_image(tmp_path / folder / "a.png", pixels)
        for name in ("b.heic", "notes.txt", ".hidden", "Thumbs.db"):
            (tmp_path / folder / name).touch()
    report = check_data(tmp_path, classes=["road"])
    received = [(problem.kind, problem.message.split()[0]) for problem in report.problems]
    expected = [tmp_path / f / n for f in ("images", "masks") for n in ("b.heic", "notes.txt")]
    assert received == [("left out", str(file)) for file in expected]
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"without partner.*No images by.*b\.heic"):
        load_folder(tmp_path, classes=["road"])


FAULTS = [
    ("train", [0, 255], NAMES[:2], None, "two meanings", "0 and 255 only. Pass labels='binary'"),
    ("val", [0, 255], NAMES[:2], None, "two meanings", "255 is car, or labels='from_0'"),
    ("train", [0, 255], NAMES[:2], "from_0", "absent class", "Received: car in no pixel"),
    ("val", [0, 255], NAMES[:2], "from_0", None, None),
    ("train", [0, 255], NAMES[:2], "binary", None, None),
    ("train", [1, 2, 0], NAMES[:2], "from_1", None, None),
    ("train", [0, 255], NAMES, None, "absent class", "Received: car, sky in no pixel"),
    ("val", [255, 255], NAMES, None, "all void", "the split val, of which 100.0% of the pixels"),
]


@pytest.mark.parametrize(("split", "pixels", "classes", "labels", "kind", "message"), FAULTS)
def test_labels_that_cannot_be_meant(
    tmp_path, write_image, split, pixels, classes, labels, kind, message
):
    options = {"classes": classes, "labels": labels}
    write_image(tmp_path / split / "images" / "a.png", np.zeros((1, len(pixels), 3)))
    write_image(tmp_path / split / "labels" / "a.png", [pixels])
    report = check_data(tmp_path, **options)
    assert [(problem.split, problem.kind) for problem in report.problems] == [(split, kind)] * (
        kind is not None
    )
    options |= {"batch_size": 1, "augment": None}
    if kind is None:
        load_folder(tmp_path, split, **options)
    elif kind == "two meanings":
        for cache in (True, False):
            with pytest.raises(ValueError, match=message):
                load_folder(tmp_path, split, cache=cache, **options)
    else:
        with pytest.warns(UserWarning, match=message):
            load_folder(tmp_path, split, **options)
    if kind is not None:
        assert message in report.problems[0].message


def test_an_epoch_counts_what_is_not_in_memory(tmp_path, write_image):
    for number in range(10):  # Only the last shows a car.
        write_image(tmp_path / "train" / "images" / f"{number}.png", np.zeros((1, 2, 3)))
        write_image(tmp_path / "train" / "labels" / f"{number}.png", [[0, number == 9]])
    options = {"batch_size": 5, "augment": None, "cache": False}
    for _ in load_folder(tmp_path, classes=NAMES[:2], **options):
        pass
    data = load_folder(tmp_path, classes=NAMES, **options)
    with pytest.warns(UserWarning, match="Received: sky in no pixel"):
        list(data)
    list(data)  # Once is enough.


def test_black_beside_one_color_is_void(tmp_path, write_image):
    classes = ClassList(["road", "car"], [(128, 64, 128), (64, 0, 128)])
    write_image(tmp_path / "val" / "images" / "a.png", np.zeros((1, 2, 3)))
    write_image(tmp_path / "val" / "labels" / "a.png", [[(128, 64, 128), (0, 0, 0)]])
    assert check_data(tmp_path, classes=classes).ok
    assert len(load_folder(tmp_path, "val", batch_size=1, classes=classes)) == 1


def test_progress_is_shown_on_demand(folder, capsys):
    check_data(folder, "val", classes=NAMES)
    assert capsys.readouterr().out == ""
    check_data(folder, "val", classes=NAMES, progress=True)
    assert "2/2" in capsys.readouterr().out


def test_an_unknown_split_is_refused(folder):
    with pytest.raises(ValueError, match=r"split='vall'. Did you mean 'val'"):
        check_data(folder, "vall", classes=NAMES)


def test_a_folder_needs_a_class_list(folder):
    with pytest.raises(ValueError, match="needs a class list"):
        check_data(folder)


def test_real_camvid_has_no_faults(camvid):
    report = check_data(camvid)
    assert report.ok
    assert report.images == {"train": 367, "val": 101}
    assert report.class_weights() == pytest.approx(CAMVID_CLASS_WEIGHTS, abs=1e-4)
    assert report.absent == {"train": [], "val": []}
