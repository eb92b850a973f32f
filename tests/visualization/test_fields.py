"""Pictures of what cells see: boxes where they belong, numbers that were worked out by hand."""

import keras
import numpy as np
import pytest

from keras_psp import visualization
from keras_psp.analysis import EffectiveReceptiveField, convolution_matrix, receptive_field


@pytest.fixture
def field():
    image = keras.Input((12, 16, 3))
    return receptive_field(keras.Model(image, keras.layers.Conv2D(1, 5, 4, "same")(image)))


def corners(axes):
    """Left, top, width and height of the box in a panel, in pixels."""
    (box,) = axes.patches
    return box.get_x() + 0.5, box.get_y() + 0.5, box.get_width(), box.get_height()


def test_boxes_are_drawn_inside_the_image(figure, field):
    image = np.full((12, 16, 3), 200, "uint8")
    gradient = np.zeros((12, 16))
    gradient[5:9, 7:11] = 1.0
    effective = EffectiveReceptiveField(field, gradient)
    shown = visualization.receptive_field(None, image, field, effective, cell=(0, 1))
    theory, measured = shown.axes
    assert corners(theory) == (4, 0, 5, 5)  # padded by (0, 1)
    assert measured.get_title() == "effective: 4.0 pixels a side"
    # The middle of rows 4 to 8 and columns 8 to 12.
    assert corners(measured) == (8.5, 4.5, 4, 4)
    bright = np.asarray(measured.images[0].get_array())
    assert (bright[5, 7, 0], bright[0, 0, 0]) == (200, 40)
    # Cut off where the box reaches beyond the image.
    assert corners(visualization.receptive_field(None, image, field, cell=(2, 3)).axes[0]) == (
        12,
        8,
        4,
        4,
    )


def test_field_and_image_are_of_one_size(field):
    message = "Received: image of 12×15, field of 12×16. Pass image_size="
    with pytest.raises(ValueError, match=message):
        visualization.receptive_field(None, np.zeros((12, 15, 3), "uint8"), field)


def test_overlaps_show_their_numbers(figure):
    matrix = convolution_matrix(np.ones((3, 3)), 2, 2, transposed=True)
    shown = visualization.overlaps(None, {"3×3": matrix.sum(1).reshape(5, 5)})
    numbers = [int(text.get_text()) for text in shown.axes[0].texts]
    once = [1, 1, 2, 1, 1]
    assert numbers == np.outer(once, once).ravel().tolist()
    assert shown.axes[0].get_title() == "3×3"
