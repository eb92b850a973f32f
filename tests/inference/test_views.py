"""Which parts of an image the views are: boxes and sizes worked out by hand."""

import re

import numpy as np
import pytest

from keras_psp.inference.views import VIEWS, Views


@pytest.mark.parametrize(
    "length, starts",
    [(201, [0]), (202, [0, 1]), (320, [0, 119]), (335, [0, 134]), (336, [0, 134, 135])],
)
def test_the_last_window_ends_where_the_image_does(length, starts):
    # The stride is ceil(201 · 2/3) = 134.
    assert [box.left for box in Views(201).boxes(201, length)] == starts
    assert [box.top for box in Views(201).boxes(length, 201)] == starts


def test_small_images_lie_in_the_middle_of_windows():
    assert Views((10, 20), mirror=True).boxes(7, 30) == [
        (-1, 0, 10, 20, False),
        (-1, 0, 10, 20, True),
        (-1, 10, 10, 20, False),
        (-1, 10, 10, 20, True),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_size": 0},
        {"window_size": (3, 4, 5)},
        {"window_size": 2.5},
        {"stride": 0},
        {"stride": 1.01},
        {"scales": ()},
        {"scales": (1, 0)},
        {"window_size": 9, "crops": ("center",)},
    ],
)
def test_views_of_nothing_are_an_error(wrong):
    with pytest.raises(ValueError, match=r"at least .*\. Received: (window_size|stride)="):
        Views(**wrong)


def test_scales_multiply_the_image_size():
    views = Views(scales=(0.5, 1, 1.75))
    assert views.sizes(20, 32) == [(10, 16), (20, 32), (35, 56)]
    assert views.sizes(20, 32, (8, 6)) == [(4, 3), (8, 6), (14, 10)]  # 10.5 is rounded to even
    # The shorter side is rounded first: 17.5 to 18, and then 18 × 32 / 20 to 29.
    assert views.sizes(20, 32, 10) == [(5, 8), (10, 16), (18, 29)]
    assert views.sizes(32, 20, 10) == [(8, 5), (16, 10), (29, 18)]


def test_a_description_names_what_differs():
    assert Views().describe() == "whole images at their own size, scale 1, not mirrored"
    crops = Views(crops=("corners", "center"), scales=(1, 1.5), mirror=True)
    expected = "crops (corners, center; squares: 1) of images at shorter side 256, scales 1, 1.5, "
    assert crops.describe(256) == expected + "and mirrored"
    windows = Views((201, 301), scales=(2,)).describe((240, 320))
    assert windows.startswith("windows of 201×301 (stride 0.67 of them) of images at 240×320, ")


def test_the_papers_scales_are_exact():
    def sides(name):
        return [height for height, _ in VIEWS[name].sizes(256, 300, image_size=256)]

    assert sides("144_crops") == [256, 288, 320, 352]
    assert sides("dense_384") == [384]
    assert sides("dense_multi_scale_256") == [224, 256, 288]
    assert sides("dense_multi_scale_384") == [352, 384, 416]
    assert sides("dense_multi_scale") == [256, 384, 512]
    assert sides("resnet_multi_scale") == [224, 256, 384, 480, 640]


def test_wrong_crops_are_errors():
    with pytest.raises(ValueError, match=r"Received: crop='centre'. Did you mean 'center'"):
        Views(crops=("centre",))
    with pytest.raises(ValueError, match=re.escape("Received: squares=2.")):
        Views(squares=2)
    with pytest.raises(ValueError, match=r"Received: an image of 224×300 .*crop_size=227"):
        Views(crops=("center",)).boxes(224, 300, crop_size=227)


def ramp(height, width):
    """A picture whose first two channels are its own x and y coordinates; integers of any size."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], axis=-1)


def corner(picture, box):
    """Where a box lies, as the picture's own pixels say: x, y of the first and of the last."""
    cut = picture[box.top : box.top + box.height, box.left : box.left + box.width]
    cut = cut[:, ::-1] if box.mirrored else cut
    assert cut.shape[:2] == (box.height, box.width)
    return (*cut[0, 0, :2], *cut[-1, -1, :2])


def test_the_single_crop_is_the_center():
    (box,) = VIEWS["center_crop"].boxes(256, 341)
    # (341 - 256) // 2 = 42 columns to the central square, and 16 more.
    assert corner(ramp(256, 341), box) == (58, 16, 58 + 223, 16 + 223)
    (box,) = VIEWS["center_crop"].boxes(300, 256, crop_size=227)
    assert corner(ramp(300, 256), box) == (14, 22 + 14, 14 + 226, 22 + 14 + 226)


def test_ten_crops_are_corners_center_and_mirror_images():
    picture = ramp(256, 341)
    boxes = VIEWS["10_crops"].boxes(256, 341)
    first = [(42, 0), (74, 0), (42, 32), (74, 32), (58, 16)]  # x, y
    expected = [(x, y, x + 223, y + 223) for x, y in first]
    assert [corner(picture, box) for box in boxes[::2]] == expected
    # Mirrored, the last column comes first.
    expected = [(x + 223, y, x, y + 223) for x, y in first]
    assert [corner(picture, box) for box in boxes[1::2]] == expected


@pytest.mark.parametrize("height, width", [(288, 400), (400, 288)])
def test_googlenets_crops_are_six_of_each_square(height, width):
    picture = ramp(height, width)
    boxes = VIEWS["144_crops"].boxes(height, width)
    assert len(boxes) == len(set(boxes)) == 36
    expected = []
    for start in (0, 56, 112):  # (400 - 288) / 2
        left, top = (start, 0) if width > height else (0, start)
        places = [(0, 0), (64, 0), (0, 64), (64, 64), (32, 32)]
        expected += [(left + x, top + y, left + x + 223, top + y + 223) for x, y in places]
        expected += [(left, top, left + 287, top + 287)]
    assert [corner(picture, box) for box in boxes[::2]] == expected
    mirrored = [(right, top, left, bottom) for left, top, right, bottom in expected]
    assert [corner(picture, box) for box in boxes[1::2]] == mirrored
