"""Reading images and label maps: bad files by their messages."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_psp.data.reading import LabeledImage, read_image, read_label
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


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=rf"must be whole\. Received: .*a\.{suffix}.*truncated"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "unknown format"), (b"<html>", "unknown format"), (None, "No such")],
)
def test_a_file_that_is_no_image_is_refused(tmp_path, content, reason):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"Received: .*a\.png, which cannot be read \(.*{reason}"):
        read_image(path)


def test_a_label_out_of_range_is_named(tmp_path, write_image):
    write_image(tmp_path / "b.png", [[0, 3], [255, 1]])
    with pytest.raises(ValueError, match=r"In .*b\.png: A label must be 0 to 2.*labels 3 \(1 pix"):
        read_label(tmp_path / "b.png", THREE)


def test_numbers_and_colors_are_not_mixed_up(tmp_path, write_image):
    write_image(tmp_path / "numbers.png", np.zeros((2, 2)))
    write_image(tmp_path / "colors.png", np.zeros((2, 2, 3)))
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
