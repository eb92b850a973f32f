"""Activations inside a network as pictures."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_psp.checked import checked
from keras_psp.layers import BilinearUpsample, PyramidPooling
from keras_psp.visualization import figures
from keras_psp.visualization.label_maps import as_uint8

if TYPE_CHECKING:
    from PIL.Image import Image


@checked
def pyramid_activations(
    file: str | os.PathLike[str] | None, model: keras.Model, image: Any
) -> "Path | Image":
    """Draws what each level of a model's pyramid pooling adds to the features of an image.

    The upper row shows the b×b cells of each level after its convolution, batch normalization and
    ReLU. The lower row shows the features, and beside them the cells upsampled, as the head gets
    them. Within a column, similar places have similar colors: red, green and blue are the first
    three principal components of this image's cells, or features; a single cell is gray. The
    strength is the root mean square over cells and channels.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        model: A functional model with a `PyramidPooling` layer, such as `PSPNet`.
        image: RGB, 0–255, `(height, width, 3)`.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If the model has no pyramid.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), figure 3c.

    Example:

    ```python
    import keras_psp

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    image, label = keras_psp.street_scene(seed=1, image_size=(60, 81))
    keras_psp.visualization.pyramid_activations("pyramid.png", model, image)
    ```
    """
    pyramid = next((layer for layer in model.layers if isinstance(layer, PyramidPooling)), None)
    if pyramid is None:
        raise ValueError(
            "Only a model with a PyramidPooling layer has a pyramid to show. "
            f"Received: model {model.name!r} without one. "
            "Give a keras_psp.PSPNet whose `bins` are not empty."
        )
    image = as_uint8(image)
    features = keras.Model(model.input, pyramid.input)(image[None])
    features = ops.convert_to_tensor(features)
    upsample = BilinearUpsample(tuple(features.shape[1:3]), align_corners=pyramid.align_corners)
    figure, grid = figures.image_grid([image, image], 1 + len(pyramid.bins))
    style: dict[str, Any] = {"smooth": False}
    style["extent"] = (0, image.shape[1], image.shape[0], 0)
    figures.show(grid[0, 0], image, "Image")
    title = f"Features, strength {_strength(features):.2f}"
    figures.show(grid[1, 0], _as_colors(features, features), title, **style)
    for axes, bins, cells in zip(grid.T[1:], pyramid.bins, pyramid.pooled(features), strict=True):
        title = f"{bins}×{bins} cells, strength {_strength(cells):.2f}"
        figures.show(axes[0], _as_colors(cells, cells), title, **style)
        figures.show(axes[1], _as_colors(upsample(cells), cells), "upsampled", **style)
    note = "within a column, similar places have similar colors (three principal components)"
    figure.supxlabel(note, fontsize=9, color=figures.INK)
    return figures.finish(figure, file)


def _strength(features: Any) -> float:
    features = ops.convert_to_numpy(ops.cast(features, "float32"))
    return float(np.sqrt((features**2).mean()))


def _as_colors(features: Any, cells: Any) -> np.ndarray:
    """Turns features `(1, height, width, channels)` into RGB, 0–1: the first three principal
    components of the `cells`."""
    features, cells = (ops.convert_to_numpy(ops.cast(x[0], "float32")) for x in (features, cells))
    mean = cells.mean((0, 1))
    vectors = (cells - mean).reshape(-1, cells.shape[-1])
    # By iteration: a whole decomposition of 2048 channels takes half a minute.
    components = np.random.default_rng(0).normal(size=(len(mean), min(3, len(mean))))
    for _ in range(30):
        components, _ = np.linalg.qr(vectors.T @ (vectors @ components))
    # An eigenvector's sign is arbitrary.
    components *= np.sign(components[np.abs(components).argmax(0), range(components.shape[1])])
    scale = np.abs(vectors @ components).max() or 1.0
    colors = np.full((*features.shape[:-1], 3), 0.5)
    colors[..., : components.shape[1]] += (features - mean) @ components / (2 * scale)
    return colors.clip(0, 1)
