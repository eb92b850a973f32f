"""Own data: layouts, class lists, label maps as numbers and as colors, splits, pairs."""

import os
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from keras_psp.data import check_data, load_folder, load_pairs, merge_classes
from keras_psp.data.class_lists import VOC2012
from keras_psp.labels import ClassList, distinct_colors

pytestmark = pytest.mark.filterwarnings("ignore:A (class|split) must")  # These are tiny.

COLORS = {"void": (0, 0, 0), "road": (128, 64, 128), "car": (64, 0, 128)}
LAYOUTS = {
    "folders": ("train/images/{}.png", "train/labels/{}.png"),
    "as SegNet": ("train/{}.png", "trainannot/{}.png"),
    "as Kaggle": ("train/{}.png", "train_labels/{}_L.png"),
    "as Kaggle without ending": ("train/{}.png", "train_labels/{}.png"),
    "as ADE20K": ("images/training/{}.png", "annotations/training/{}.png"),
    "as Carvana": ("train/{}.PNG", "train_masks/{}_mask.png"),
    "without splits": ("images/{}.png", "masks/{}.png"),
    "with endings": ("imgs/{}_image.tif", "masks/{}-label.bmp"),
    "in folders": ("images/city/{}.ppm", "labels/city/{}_labelIds.pgm"),
    "in one folder": ("{}.jpg", "{}_mask.png"),
    "in one folder with images' ending": ("{}_image.png", "{}_label.png"),
    "in one folder each": ("train/{}.png", "train/{}_L.png"),
    "somewhere inside": ("unpacked/mine/images/{}.png", "unpacked/mine/masks/{}_gt.TIFF"),
}


def fill(folder, write_image, masks, layout="folders"):
    image_path, label_path = LAYOUTS[layout]
    for name, pixels in masks.items():
        pixels = np.asarray(pixels)
        write_image(folder / image_path.format(name), np.full((*pixels.shape[:2], 3), 50))
        write_image(folder / label_path.format(name), pixels)


def labels_of(folder, **options):
    dataset = load_folder(folder, "train", batch_size=1, shuffle=False, augment=None, **options)
    return dataset.class_names, [labels.numpy()[0].tolist() for _, labels in dataset]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, write_image, layout):
    fill(tmp_path, write_image, {"a": [[0, 1]], "b": [[1, 255]]}, layout)
    root = tmp_path / "unpacked" / "mine" if "inside" in layout else tmp_path
    (root / "classes.txt").write_text("road\ncar\n\n")
    assert labels_of(tmp_path) == (["road", "car"], [[[0, 1]], [[1, 255]]])


def test_one_folder_is_divided_and_its_rule_said(tmp_path, write_image, capsys):
    for name in "abc":
        write_image(tmp_path / f"{name}.jpg", np.zeros((1, 1, 3)))
        write_image(tmp_path / f"{name}_mask.png", [[0]])
    for name in ("classes.txt", "LICENSE.md"):
        (tmp_path / name).write_text("road")
    assert check_data(tmp_path).ok
    train, val = load_folder(tmp_path, ["train", "val"], batch_size=1, validation_split=0.3)
    assert sorted(train.sample_names + val.sample_names) == ["a", "b", "c"]
    assert "2 images of train: " in (shown := capsys.readouterr().out)
    assert "_mask.png, …" in shown
    write_image(tmp_path / "d_mask.png", [[0]])
    (alone,) = check_data(tmp_path).problems
    assert "d_mask.png has no image" in alone.message


def test_void_in_the_class_list_is_no_class(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0, 1, 2, 3, 255]]})
    (tmp_path / "classes.txt").write_text("road\nUnlabelled\ncar\nVoid")
    assert labels_of(tmp_path) == (["road", "car"], [[[0, 255, 1, 255, 255]]])


def test_label_maps_as_colors(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[COLORS["car"], COLORS["void"], COLORS["road"]]]})
    rows = [f"{name}, {r}, {g}, {b}" for name, (r, g, b) in COLORS.items()]
    (tmp_path / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))
    assert labels_of(tmp_path) == (["road", "car"], [[[1, 255, 0]]])


def test_classes_may_be_passed(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[[9, 9, 9], [8, 8, 8]]]})
    assert labels_of(tmp_path, classes=ClassList(["x", "y"], [(8, 8, 8), (9, 9, 9)])) == (
        ["x", "y"],
        [[[1, 0]]],
    )


def paint(folder, pixels, palette):
    """Saves the numbers with a palette, as the label map of a train image."""
    image = Image.fromarray(np.array(pixels, np.uint8))
    image.putpalette([channel for color in palette for channel in color])
    (folder / "train" / "labels").mkdir(parents=True, exist_ok=True)
    assert image.mode == "P"
    image.save(folder / "train" / "labels" / "a.png")


ROAD, CAR, SKY, OTHER = (128, 64, 128), (64, 0, 128), (70, 130, 180), (1, 2, 3)


@pytest.mark.parametrize(
    ("pixels", "palette", "expected"),
    [
        ([[0, 1, 1]], [SKY, ROAD], [[2, 0, 0]]),  # As Pillow's `quantize` numbers colors.
        ([[0, 1, 1]], [ROAD, SKY], [[0, 2, 2]]),
        (
            [[0, 2, 1, 255]],
            [ROAD, CAR, SKY, *[OTHER] * 253],
            [[0, 2, 1, 255]],
        ),  # Both say the same.
        ([[0, 2, 1, 255]], [OTHER] * 256, [[0, 2, 1, 255]]),  # The colors are nobody's.
        ([[0, 0, 0]], [(0, 0, 0)], [[255, 255, 255]]),
    ],
)
def test_colors_of_a_palette_decide(tmp_path, write_image, pixels, palette, expected):
    fill(tmp_path, write_image, {"a": np.zeros(np.shape(pixels))})
    paint(tmp_path, pixels, palette)
    (tmp_path / "class_dict.csv").write_text(
        "name,r,g,b\nroad,128,64,128\ncar,64,0,128\nsky,70,130,180"
    )
    assert labels_of(tmp_path)[1] == [expected]
    classes = ClassList(["road", "car", "sky"], [ROAD, CAR, SKY])
    assert labels_of(tmp_path, classes=classes)[1] == [expected]


def test_colors_that_nobody_chose_decide_nothing(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0, 0]]})
    names = ["road", "car", "sky"]
    paint(tmp_path, [[1, 2]], [OTHER, *ClassList(names).colors])
    for classes in (names, ClassList(names)):
        assert labels_of(tmp_path, classes=classes)[1] == [[[1, 2]]]


def test_a_palette_with_two_meanings_is_refused(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0, 1]]})
    paint(tmp_path, [[0, 1]], [SKY, OTHER])
    classes = ClassList(["road", "car", "sky"], [ROAD, CAR, SKY])
    message = r"a\.png: A palette's colors.*Received: 0 in \(70, 130, 180\), 1 in \(1, 2, 3\): only"
    with pytest.raises(ValueError, match=message):
        labels_of(tmp_path, classes=classes)


def test_names_without_colors_are_enough_for_numbers(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[1, 0]]})
    assert labels_of(tmp_path, classes=["x", "y"]) == (["x", "y"], [[[1, 0]]])


def test_black_is_void_unless_it_is_a_class(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[[0, 0, 0], [9, 9, 9]]]})
    assert labels_of(tmp_path, classes=ClassList(["x"], [(9, 9, 9)]))[1] == [[[255, 0]]]
    both = ClassList(["x", "y"], [(9, 9, 9), (0, 0, 0)])
    assert labels_of(tmp_path, classes=both)[1] == [[[1, 0]]]


def test_several_splits_and_options(tmp_path, write_image):
    masks = {str(number): np.zeros((8, 8)) for number in range(5)}
    fill(tmp_path, write_image, masks)
    (tmp_path / "train").rename(tmp_path / "first")
    fill(tmp_path, write_image, masks)
    train, first = load_folder(
        tmp_path, ["train", "first"], (4, 6), batch_size=2, classes=["x"], augment=None
    )
    assert (len(train), len(first)) == (2, 3)
    assert first.element_spec[0].shape[1:] == (4, 6, 3)


def test_a_label_beyond_the_class_list_is_named(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0, 2]]})
    with pytest.raises(ValueError, match=r"a\.png: A label must be 0 to 1.*labels 2 .*class list"):
        load_folder(tmp_path, "train", batch_size=1, classes=["road", "car"])


def test_a_color_of_no_class_is_named(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[[1, 2, 3]]]})
    with pytest.raises(ValueError, match=r"a\.png: Every color.*\(1, 2, 3\)"):
        load_folder(tmp_path, "train", batch_size=1, classes=["road", "car"])


def test_gray_in_three_channels_asks_for_its_meaning(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[[0] * 3, [255] * 3]]})
    with pytest.raises(ValueError, match=r"\(255, 255, 255\).*numbers, say which: labels='binary'"):
        load_folder(tmp_path, "train", batch_size=1, classes=["road", "car"])


def test_the_coding_is_that_of_files_with_an_image(tmp_path, write_image):
    fill(tmp_path, write_image, {"b": [[0]]})
    write_image(tmp_path / "train" / "labels" / "a_color.png", [[[1, 2, 3]]])
    report = check_data(tmp_path, classes=["road"])
    assert [problem.kind for problem in report.problems] == ["missing partner"]


def test_an_unknown_split_suggests_the_nearest(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0]]})
    with pytest.raises(ValueError, match=r"split='trian'. Did you mean 'train'"):
        load_folder(tmp_path, "trian", classes=["road"])


def test_a_folder_without_layout_is_described(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ValueError, match=r"holds pictures\. Expected one of: folders: {split}/im"):
        load_folder(tmp_path, classes=["road"])


def test_a_folder_needs_a_class_list(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0]]})
    with pytest.raises(ValueError, match=r"needs a class list.*without classes.txt"):
        load_folder(tmp_path)


def test_a_folder_holds_one_data_set(tmp_path, write_image):
    for name in ("one", "other"):
        fill(tmp_path / name, write_image, {"a": [[0]]})
    (tmp_path / "other" / "train").rename(tmp_path / "other" / "val")
    fill(tmp_path / "other", write_image, {"a": [[0]]}, "as Kaggle")
    with pytest.raises(ValueError, match=r"must hold one.*which holds .*/one, .*/other\. Pass one"):
        load_folder(tmp_path, classes=["road"])


@pytest.mark.parametrize(("mark", "written"), [("", "utf-8"), ("\ufeff", "utf-8")])
@pytest.mark.parametrize("name", ["classes.txt", "class_dict.csv"])
def test_a_byte_order_mark_does_not_count(tmp_path, write_image, mark, written, name):
    fill(tmp_path, write_image, {"a": [[255]]})
    lines = {"classes.txt": ["void", "Größe"], "class_dict.csv": ["name,r,g,b", "Größe,1,2,3"]}
    (tmp_path / name).write_text(mark + "\n".join(lines[name]), written)
    assert labels_of(tmp_path)[0] == ["Größe"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
@pytest.mark.parametrize("name", ["classes.txt", "class_dict.csv"])
def test_other_encodings_are_refused(tmp_path, write_image, encoding, name):
    fill(tmp_path, write_image, {"a": [[0]]})
    (tmp_path / name).write_bytes("Größe".encode(encoding))
    with pytest.raises(ValueError, match=rf"text file in UTF-8\. Received: .*{name}"):
        load_folder(tmp_path)


def test_letters_have_one_form(tmp_path, write_image):
    one, other = (unicodedata.normalize(form, "Straßé") for form in ("NFC", "NFD"))
    assert one != other
    write_image(tmp_path / "images" / f"{one}.png", np.zeros((2, 2, 3)))
    write_image(tmp_path / "masks" / f"{other}.png", np.zeros((2, 2)))
    data = load_folder(tmp_path, classes=[other], batch_size=1)
    assert data.sample_names == data.class_names == [one]
    assert merge_classes(data, {"all": [other]}).class_names == ["all"]
    with pytest.raises(ValueError, match="more than once"):
        ClassList([one, other])


def test_classes_may_be_a_file(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[1]]})
    (tmp_path / "mine.txt").write_text("void\nroad")
    assert labels_of(tmp_path, classes=tmp_path / "mine.txt") == (["road"], [[[0]]])
    with pytest.raises(ValueError, match=r"Received: no\.txt \(.*No such file"):
        load_folder(tmp_path, classes="no.txt")


@pytest.mark.parametrize(
    ("labels", "pixels", "expected"),
    [
        ("binary", [[0, 255]], [[0, 1]]),
        ("binary", [[[0] * 3, [255] * 3]], [[0, 1]]),  # Gray in three channels.
        ("from_1", [[0, 1, 2, 255]], [[255, 0, 1, 255]]),
        ("from_0", [[0, 1, 255]], [[0, 1, 255]]),
        ({7: "road", 255: "car", 9: "car", 0: None}, [[7, 255, 9, 0]], [[0, 1, 1, 255]]),
    ],
)
def test_labels_say_what_numbers_mean(tmp_path, write_image, labels, pixels, expected):
    fill(tmp_path, write_image, {"a": pixels})
    assert labels_of(tmp_path, labels=labels, classes=["road", "car"])[1] == [expected]


def test_one_bit_is_0_and_1_or_black_and_white(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0, 0]]})
    write_image(tmp_path / "train" / "labels" / "a.png", [[0, 255]], "1")
    for labels in (None, "binary", {0: "road", 255: "car"}):
        assert labels_of(tmp_path, labels=labels, classes=["road", "car"])[1] == [[[0, 1]]]


def test_a_palette_may_number_classes_from_1(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0, 0, 0]]})
    paint(tmp_path, [[0, 1, 2]], [(0, 0, 0), ROAD, CAR])
    for classes in (["road", "car"], ClassList(["road", "car"], [ROAD, CAR])):
        assert labels_of(tmp_path, classes=classes, labels="from_1")[1] == [[[255, 0, 1]]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("binery", "Did you mean 'binary'"),
        ("binary", "labels='binary' is for 2 classes. Received: 3 classes"),
        ({0: "road", 300: "car"}, "from 0 to 255 .* Received: labels={0: 'road', 300: 'car'}"),
        ({0: "raod"}, "Did you mean 'road'"),
    ],
)
def test_labels_that_mean_nothing_are_refused(tmp_path, write_image, labels, message):
    fill(tmp_path, write_image, {"a": [[0]]})
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path, classes=["road", "car", "sky"], labels=labels)


def names_of(folder, split, **options):
    options |= {"classes": ["road"], "batch_size": 1, "augment": None}
    return [set(data.sample_names) for data in load_folder(folder, split, **options)]


def test_validation_split_divides_by_name(tmp_path, write_image):
    fill(tmp_path, write_image, {f"{n}": [[0]] for n in range(10)}, "without splits")
    train, val = names_of(tmp_path, ["train", "val"], validation_split=0.3)
    assert (len(train), len(val)) == (7, 3)
    assert train | val == {f"{n}" for n in range(10)}
    assert names_of(tmp_path, ["val", "train"], validation_split=0.3, seed=5) == [val, train]
    other = names_of(tmp_path, ["train", "val"], validation_split=0.3, split_seed=1)
    assert [len(names) for names in other] == [7, 3]
    assert other != [train, val]
    assert len(names_of(tmp_path, ["train"])[0]) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_files_need_not_be_utf_8(tmp_path, write_image):
    latin_1 = os.fsdecode(b"Stra\xdfe")
    fill(tmp_path, write_image, {latin_1: [[0]], "road": [[0]]}, "without splits")
    train, val = names_of(tmp_path, ["train", "val"], validation_split=0.5)
    assert train | val == {latin_1, "road"}


def test_validation_split_is_for_folders_without(tmp_path, write_image):
    fill(tmp_path, write_image, {"a": [[0]], "b": [[0]]})
    with pytest.raises(ValueError, match=r"'train'.*split='val'.*validation_split=0\.2 divides"):
        names_of(tmp_path, ["val"])
    assert list(map(len, names_of(tmp_path, ["train", "val"], validation_split=0.1))) == [1, 1]
    (tmp_path / "train").rename(tmp_path / "val")
    with pytest.raises(ValueError, match=r"Received: validation_split=0\.1, the splits val in"):
        names_of(tmp_path, ["val"], validation_split=0.1)


def test_lists_name_the_images_of_splits(tmp_path, write_image):
    fill(tmp_path, write_image, {name: [[0]] for name in "abcd"}, "without splits")
    (tmp_path / "train.txt").write_text("a\nimages/b.png masks/b.png\n")
    (tmp_path / "validation.txt").write_text("d.png\n\n")
    assert names_of(tmp_path, ["train", "val"]) == [{"a", "b"}, {"d"}]
    (tmp_path / "train.txt").write_text("a\ne\n")
    with pytest.raises(
        ValueError, match=r"Received: .*train\.txt, which names 1 others, such as e"
    ):
        names_of(tmp_path, ["train"])


def test_pairs_may_lie_anywhere(tmp_path, write_image, capsys):
    files = [
        (
            write_image(tmp_path / place / "x.png", np.zeros((1, 2, 3))),
            write_image(tmp_path / "drawn" / f"{place}.png", [[0, 1]]),
        )
        for place in ("one", "two")
    ]
    options = {"classes": ["road", "car"], "batch_size": 1, "augment": None, "shuffle": False}
    data = load_pairs(files, **options)
    assert data.sample_names == ["one/x", "two/x"]
    assert [labels.numpy().tolist() for _, labels in data] == [[[[0, 1]]]] * 2
    assert "2 images of train: " in capsys.readouterr().out
    table = tmp_path / "pairs.csv"
    table.write_text("image,mask,split\none/x.png,drawn/one.png,\ntwo/x.png,drawn/two.png,valid")
    train, val = load_pairs(table, ["train", "val"], **options)
    assert (train.sample_names, val.sample_names) == (["x"], ["x"])
    train, val = load_pairs(files, ["train", "val"], validation_split=0.5, **options)
    assert {*train.sample_names, *val.sample_names} == {"one/x", "two/x"}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "at least one"),
        (["a.png"], r"consists of \(image, label map\).*Received: 'a\.png'"),
        ("image\na.png", r"columns image,label.*Received: .*pairs\.csv \(columns image\)"),
        ("image,label\na.png", r"pairs\.csv"),
        ([("a.png", "b.png")], r"must exist\. Received: a\.png"),
    ],
)
def test_pairs_that_are_none_are_refused(tmp_path, pairs, message):
    if isinstance(pairs, str):
        (tmp_path / "pairs.csv").write_text(pairs)
        pairs = tmp_path / "pairs.csv"
    with pytest.raises(ValueError, match=message):
        load_pairs(pairs, classes=["road"])


# Of each data set the files of a small copy, as they are unpacked.
PUBLIC = {
    "cityscapes": (
        "leftImg8bit/{}/ulm/ulm_0_1_leftImg8bit.png",
        "gtFine/{}/ulm/ulm_0_1_gtFine_{}.png",
        ("train", "val"),
        {"labelIds": [[7, 33, 11, 0, 9, 255]], "instanceIds": [[1] * 6], "color": [[[1] * 3] * 6]},
        ("ulm/ulm_0_1", "road", "bicycle", [[0, 18, 2, 255, 255, 255]]),
    ),
    "ade20k": (
        "ADEChallengeData2016/images/{}/ADE_1.jpg",
        "ADEChallengeData2016/annotations/{}/ADE_1.png",
        ("training", "validation"),
        {"": [[0, 1, 150]]},
        ("ADE_1", "wall", "flag", [[255, 0, 149]]),
    ),
    "voc": (
        "VOCdevkit/VOC2012/JPEGImages/2007_{}.jpg",
        "VOCdevkit/VOC2012/SegmentationClass/2007_{}.png",
        ("train", "val"),
        {"": [[0, 15, 20, 255]]},
        ("2007_val", "background", "tvmonitor", [[0, 15, 20, 255]]),
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_data_sets_are_read_as_unpacked(tmp_path, write_image, name):
    images, labels, splits, files, (sample, first, last, expected) = PUBLIC[name]
    for split in splits:
        for kind, pixels in files.items():
            write_image(tmp_path / images.format(split), np.zeros((*np.shape(pixels)[:2], 3)))
            write_image(tmp_path / labels.format(split, kind), pixels)
    (tmp_path / "gtFine").mkdir(exist_ok=True)
    (tmp_path / "gtFine" / "ulm_0_1_gtFine_polygons.json").touch()
    if name == "voc":
        write_image(tmp_path / images.format("without_labels"), np.zeros((1, 1, 3)))
        voc = tmp_path / "VOCdevkit" / "VOC2012"
        (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
        for split in splits:
            (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"2007_{split}\n")
            label = Image.fromarray(np.array(files[""], "uint8"))
            palette = [(0, 0, 0), *distinct_colors(254), (224, 224, 192)]
            label.putpalette([channel for color in palette for channel in color])
            label.save(tmp_path / labels.format(split))
    options = {"batch_size": 1, "augment": None, "labels": name}
    train, val = load_folder(tmp_path, ["train", "val"], **options)
    assert val.sample_names == [sample]
    assert len(train) == 1
    assert (val.class_names[0], val.class_names[-1]) == (first, last)
    assert next(iter(val))[1].numpy()[0].tolist() == expected
    kinds = {problem.kind for problem in check_data(tmp_path, labels=name).problems}
    assert kinds == {"absent class"}


def test_cityscapes_in_other_forms(tmp_path, write_image):
    files = {
        ("train", "gtFine_labelTrainIds"): [[0, 18, 255]],
        ("train", "gtCoarse_labelIds"): [[11, 11, 11]],
        ("val", "gtFine_labelIds"): [[7, 33, 0]],
        ("val", "gtFine_labelTrainIds"): [[1, 1, 1]],
        ("train_extra", "gtCoarse_labelIds"): [[33, 7, 0]],
    }
    for (split, ending), pixels in files.items():
        folder = tmp_path / ending.partition("_")[0] / split / "ulm"
        write_image(folder / f"ulm_0_1_{ending}.png", pixels)
        image = tmp_path / "leftImg8bit" / split / "ulm" / "ulm_0_1_leftImg8bit.png"
        write_image(image, np.zeros((1, 3, 3)))
    (tmp_path / "leftImg8bit" / "test").mkdir()
    loaded = load_folder(
        tmp_path, ["train", "val", "train_extra"], batch_size=1, augment=None, labels="cityscapes"
    )
    received = [labels.numpy().tolist() for data in loaded for _, labels in data]
    assert received == [[[[0, 18, 255]]], [[[0, 18, 255]]], [[[18, 0, 255]]]]


def test_voc_with_its_additional_label_maps(tmp_path, write_image):
    lists = tmp_path / "ImageSets" / "Segmentation"
    for folder, name, pixels in [
        ("SegmentationClass", "2007_1", [[15, 255]]),
        ("SegmentationClassAug", "2007_1", [[15, 15]]),
        ("SegmentationClassAug", "2008_2", [[0, 20]]),
    ]:
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg", np.zeros((1, 2, 3)))
        write_image(tmp_path / folder / f"{name}.png", pixels)
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_1\n")
    (lists / "trainaug.txt").write_text("2007_1\n2008_2\n")
    options = {"batch_size": 1, "augment": None, "shuffle": False, "labels": "voc"}
    train, more = load_folder(tmp_path, ["train", "trainaug"], **options)
    assert [labels.numpy().tolist() for _, labels in train] == [[[[15, 255]]]]
    assert [labels.numpy().tolist() for _, labels in more] == [[[[15, 255]]], [[[0, 20]]]]


def test_voc_colors_are_the_palette_of_its_files():
    assert VOC2012.colors == ((0, 0, 0), *distinct_colors(20))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("road,1,2,3", r"must have the columns name,r,g,b.*class_dict\.csv"),
        ("name,r,g,b\nroad,1,two,3", "invalid literal.*two"),
        ("name,r,g,b\nroad,1,2,300", r"from 0 to 255. Received: colors=\[\(1, 2, 300\)\]"),
        ("name,r,g,b\nroad,1,2", "must have the columns"),
        ("name,r,g,b\nroad,1,2,3\ncar,1,2,3", r"\(1, 2, 3\) more than once"),
        ("name,r,g,b", "needs 1 to 254 names"),
    ],
)
def test_a_bad_class_table_is_refused(tmp_path, write_image, table, message):
    fill(tmp_path, write_image, {"a": [[0]]})
    (tmp_path / "class_dict.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)
