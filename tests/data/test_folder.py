"""Own data: three layouts, class lists in two forms, label maps as numbers and as colors."""

import numpy as np
import pytest
from PIL import Image

from keras_psp.data import load_folder
from keras_psp.labels import ClassList

COLORS = {"void": (0, 0, 0), "road": (128, 64, 128), "car": (64, 0, 128)}
LAYOUTS = {
    "folders": ("train/images/{}.png", "train/labels/{}.png"),
    "as SegNet": ("train/{}.png", "trainannot/{}.png"),
    "as Kaggle": ("train/{}.png", "train_labels/{}_L.png"),
    "as Kaggle without ending": ("train/{}.png", "train_labels/{}.png"),
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
    (tmp_path / "classes.txt").write_text("road\ncar\n\n")
    assert labels_of(tmp_path) == (["road", "car"], [[[0, 1]], [[1, 255]]])


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


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("road,1,2,3", r"must have the columns name,r,g,b.*class_dict\.csv"),
        ("name,r,g,b\nroad,1,two,3", "invalid literal.*two"),
        ("name,r,g,b\nroad,1,2,300", r"each 0 to 255. Received: color=\(1, 2, 300\)"),
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
