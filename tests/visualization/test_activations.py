"""Activations of a pyramid, of weights worked out by hand."""

import keras
import numpy as np
import pytest

from keras_psp import visualization
from keras_psp.layers import PyramidPooling
from tests.tiny import Tiny


def pyramid(bins):
    """A model whose pyramid passes the red of an image on."""
    image = keras.Input((None, None, 3))
    layer = PyramidPooling(bins, filters=1, epsilon=1e-12)
    model = keras.Model(image, layer(image))
    for convolution in layer.convolutions:
        convolution.set_weights([np.array([1.0, 0, 0]).reshape(1, 1, 3, 1)])
    return model


@pytest.mark.parametrize("bins", [(1,), (2, 1), (3, 4, 12)])
def test_pyramid_shows_the_cells_of_every_level(figure, bins):
    image = np.random.default_rng(0).integers(0, 256, (12, 24, 3), "uint8")
    shown = visualization.pyramid_activations(None, pyramid(bins), image)
    panels = [axes for axes in shown.axes if axes.images]
    maps = [np.asarray(panel.images[0].get_array()) for panel in panels]
    above, below = maps[: 1 + len(bins)], maps[1 + len(bins) :]
    assert np.array_equal(above[0], image)
    strength = f"strength {np.sqrt((image.astype(float) ** 2).mean()):.2f}"
    assert panels[1 + len(bins)].get_title() == f"Features, {strength}"
    for i, b in enumerate(bins, 1):
        red = image[..., 0].reshape(b, 12 // b, b, 24 // b).mean((1, 3))
        strength = f"strength {np.sqrt((red**2).mean()):.2f}"
        assert panels[i].get_title() == f"{b}×{b} cells, {strength}"
        # One channel has one component, which becomes red; its mean is 0.5.
        change = red - red.mean()
        expected = 0.5 + 0.5 * change / max(np.abs(change).max(), 1e-9)
        np.testing.assert_allclose(above[i][..., 0], expected, atol=1e-5)
        np.testing.assert_allclose(above[i][..., 1:], 0.5, atol=1e-5)
        assert below[i].shape == (12, 24, 3)
        # Aligned corners.
        rows, columns = (np.round(np.linspace(0, n - 1, min(b, 2))).astype(int) for n in (12, 24))
        expected = above[i][:: max(b - 1, 1), :: max(b - 1, 1)]
        np.testing.assert_allclose(below[i][np.ix_(rows, columns)], expected, atol=1e-5)


def test_features_alike_have_colors_alike(figure):
    # Red, green and blue among eight channels, of which three components lose nothing: colors lie
    # as far from each other as features do.
    image = keras.Input((None, None, 3))
    features = keras.layers.Dense(8)
    model = keras.Model(image, PyramidPooling((1,))(features(image)))
    features.set_weights([np.eye(3, 8, k=4), np.zeros(8)])
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), "uint8")
    shown = visualization.pyramid_activations(None, model, pixels)
    colors = np.asarray(shown.axes[2].images[0].get_array()).reshape(-1, 3)
    far, near = (
        np.linalg.norm(x[:, None] - x, axis=-1) for x in (pixels.reshape(-1, 3) / 255, colors)
    )
    np.testing.assert_allclose(near, far * near.max() / far.max(), atol=1e-5)
    assert 0 <= colors.min() < colors.max() <= 1
    # The first of them is the one in which they differ most.
    assert (np.diff(colors.var(0)) < 0).all()


def test_pyramid_of_a_model_without_one():
    message = r"Only a model with a PyramidPooling layer .* Received: model 'tiny"
    with pytest.raises(ValueError, match=message):
        visualization.pyramid_activations(None, Tiny(), np.zeros((8, 8, 3)))
