"""Reading images and label maps: bad files by their messages."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_psp.data.reading import LabeledImage, read_image, read_label
from keras_psp.inference.images import as_pixels
from keras_psp.labels import LabelColors, LabelValues

THREE = LabelValues(range(3))


def save_16_bit_rgb(path):
    """Writes a 16-bit RGB PNG, which Pillow can read but not write."""
    path.write_bytes(tf.io.encode_png(np.full((4, 4, 3), 1000, "uint16")).numpy())


BAD_IMAGES = {
    "grayscale": lambda path: Image.new("L", (4, 4)).save(path),
    "RGBA, with transparency": lambda path: Image.new("RGBA", (4, 4)).save(path),
    "a palette image": lambda path: Image.new("P", (4, 4)).save(path),
    "16-bit or deeper": save_16_bit_rgb,
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_images_must_be_8_bit_rgb(tmp_path, kind):
    BAD_IMAGES[kind](tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=rf"must be 8-bit RGB\. Received: .*a\.png, which is {kind}"
    ):
        read_image(tmp_path / "a.png")


def test_a_16_bit_grayscale_label_map_is_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), "uint16")).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"Received: .*a\.png, which is 16-bit or deeper"):
        read_label(tmp_path / "a.png", THREE)


def save_turned(path, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.asarray(pixels, "uint8")).save(path, exif=exif, quality=100)


# A photo, and how it lies in the file per EXIF orientation: 6 and 8 are a quarter turn.
UPRIGHT = np.array([[200, 200, 100], [0, 0, 0]])
LYING = {1: UPRIGHT, 3: UPRIGHT[::-1, ::-1], 6: np.rot90(UPRIGHT), 8: np.rot90(UPRIGHT, -1)}
LYING |= {0: UPRIGHT, 2: UPRIGHT[:, ::-1], 5: UPRIGHT.T}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", LYING)
def test_images_are_turned_upright(tmp_path, suffix, orientation):
    lying = np.repeat(np.repeat(LYING[orientation], 8, 0), 8, 1)
    upright = np.repeat(np.repeat(UPRIGHT, 8, 0), 8, 1)
    save_turned(tmp_path / f"a.{suffix}", np.stack([lying] * 3, -1), orientation)
    with Image.open(tmp_path / f"a.{suffix}") as opened:
        for image in (read_image(tmp_path / f"a.{suffix}"), as_pixels(opened)):
            assert image.shape == (16, 24, 3)
            np.testing.assert_allclose(image[..., 0], upright, atol=9)


def test_a_turned_image_wants_a_turned_label_map(tmp_path, write_image):
    save_turned(tmp_path / "a.jpg", np.zeros((16, 24, 3)), 6)
    label = write_image(tmp_path / "b.png", np.zeros((16, 24)))
    message = r"24x16 \(turned upright by its EXIF orientation 6\).*from the upright image"
    with pytest.raises(ValueError, match=message):
        LabeledImage("a", tmp_path / "a.jpg", label, THREE).read()
    save_turned(label, np.zeros((16, 24)), 3)
    with pytest.raises(ValueError, match=r"b\.png with EXIF orientation 3.*Compare it with its"):
        LabeledImage("a", tmp_path / "a.jpg", label, THREE).read()


def test_label_maps_are_no_jpegs(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.jfif", "JPEG")
    with pytest.raises(ValueError, match=r"without losses\. Received: .*a\.jfif, a JPEG"):
        read_label(tmp_path / "a.jfif", THREE)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=rf"must be whole\. Received: .*a\.{suffix}.*truncated"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    message = r"Received: .*a\.png, which cannot be read \(unknown format\)"
    with pytest.raises(ValueError, match=message):
        read_image(path)


def test_a_file_that_is_missing_is_called_that(tmp_path):
    (tmp_path / "photo_1.png").touch()
    message = r"must exist\. Received: .*photo1\.png, .* Did you mean '.*photo_1\.png'\?"
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / "photo1.png")


def test_a_label_out_of_range_is_named(tmp_path, write_image):
    write_image(tmp_path / "b.png", [[0, 3], [255, 1]])
    with pytest.raises(ValueError, match=r"In .*b\.png: A label must be 0 to 2.*labels 3 \(1 pix"):
        read_label(tmp_path / "b.png", THREE)


def test_numbers_and_colors_are_not_mixed_up(tmp_path, write_image):
    write_image(tmp_path / "numbers.png", np.zeros((2, 2)))
    write_image(tmp_path / "colors.png", np.full((2, 2, 3), (1, 2, 3)))
    with pytest.raises(ValueError, match=r"one channel.*Received: .*colors\.png, which is RGB"):
        read_label(tmp_path / "colors.png", THREE)
    with pytest.raises(
        ValueError, match=r"8-bit RGB.*Received: .*numbers\.png, which is grayscale"
    ):
        read_label(tmp_path / "numbers.png", LabelColors({}))


def test_palettes_are_read_by_index_or_color(tmp_path):
    image = Image.fromarray(np.array([[0, 2], [1, 1]], "uint8"))
    image.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7])
    assert image.mode == "P"
    image.save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png", THREE).tolist() == [[0, 2], [1, 1]]
    colors = LabelColors({(9, 9, 9): 5, (8, 8, 8): 6, (7, 7, 7): 4})
    assert read_label(tmp_path / "a.png", colors).tolist() == [[5, 4], [6, 6]]


def test_image_and_label_must_have_one_size(tmp_path, write_image):
    image = write_image(tmp_path / "a.png", np.zeros((4, 6, 3)))
    label = write_image(tmp_path / "b.png", np.zeros((4, 5)))
    message = (
        r"same size \(height x width\)\. Received: image .*a\.png of 4x6, label map .*b\.png of 4x5"
    )
    with pytest.raises(ValueError, match=message):
        LabeledImage("a", image, label, THREE).read()
