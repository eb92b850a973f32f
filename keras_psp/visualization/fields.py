"""What cells see: receptive fields on an image, and overlaps of transposed convolutions."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.checked import checked, short
from keras_psp.visualization import figures
from keras_psp.visualization.label_maps import as_uint8

if TYPE_CHECKING:
    from PIL.Image import Image

_MARK = "#ff3b30"


@checked
def receptive_field(
    file: str | os.PathLike[str] | None,
    image: Any,
    field: Any,
    effective: Any = None,
    *,
    cell: tuple[int, int] | None = None,
) -> "Path | Image":
    """Draws on an image what a cell of a network sees of it.

    The first panel has the box of what the cell could see, as far as it lies in the image. The
    second one, if there is an effective field, is as bright as each pixel matters to the cell in
    the middle, and has a square of the effective field's side.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        image: RGB, 0–255, `(height, width, 3)`, of the size that the field was found out for.
        field: What `keras_psp.analysis.receptive_field` returns.
        effective: What `keras_psp.analysis.effective_receptive_field` returns.
        cell: `(row, column)` of the cell in the first panel; the one in the middle if `None`.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If the image has another size, or there is no such cell.

    Example:

    ```python
    import keras_psp
    from keras_psp import analysis, visualization

    model = keras_psp.ResNet("resnet20", include_top=False, weights=None)
    field = analysis.receptive_field(model, image_size=(96, 128))
    image, label = keras_psp.street_scene(seed=1, image_size=(96, 128))
    visualization.receptive_field("field.png", image, field)
    ```
    """
    for name, seen, part in (("field", field, "box"), ("effective", effective, "gradient")):
        if not hasattr(seen, part) and (name == "field" or seen is not None):
            raise ValueError(
                "A field is what keras_psp.analysis finds out. "
                f"Received: {name}={short(seen)}. Pass what receptive_field or "
                "effective_receptive_field returns."
            )
    image = as_uint8(image)
    for seen in (field, effective and effective.field):
        if seen is not None and image.shape[:2] != seen.image_size:
            raise ValueError(
                "A receptive field is drawn on an image of the size that it was found out for. "
                f"Received: image of {image.shape[0]}×{image.shape[1]}, field of "
                f"{seen.image_size[0]}×{seen.image_size[1]}. Pass image_size= where it is made."
            )
    figure, grid = figures.image_grid([image], 1 if effective is None else 2)
    size = f"{field.size[0]}×{field.size[1]}"
    name = field.name.rpartition("/")[2]  # without those of the layers that it is part of
    figures.show(grid[0, 0], image, f"{name}: {size} pixels")
    _draw_box(grid[0, 0], field.box(cell), image.shape)
    if effective is not None:
        # The cube root lets the flanks of the bell be seen, too.
        bright = 0.8 * np.cbrt(effective.gradient)[..., None] + 0.2
        title = f"effective: {effective.side:.1f} pixels a side"
        figures.show(grid[0, 1], (image * bright).astype("uint8"), title)
        top, left, bottom, right = effective.field.box()
        margin = np.array([bottom - top - effective.side, right - left - effective.side]) / 2
        box = (*(np.array([top, left]) + margin), *(np.array([bottom, right]) - margin))
        _draw_box(grid[0, 1], box, image.shape)
    return figures.finish(figure, file)


def _draw_box(axes: Any, box: Any, shape: Any) -> None:
    """Draws (top, left, bottom, right), cut off at the image's border."""
    from matplotlib.patches import Rectangle

    top, left = (max(value, 0) for value in box[:2])
    bottom, right = (min(value, n) for value, n in zip(box[2:], shape, strict=False))
    # A pixel's center has whole numbers.
    corner, sides = (left - 0.5, top - 0.5), (right - left, bottom - top)
    axes.add_patch(Rectangle(corner, *sides, fill=False, color=_MARK, linewidth=1.5))


@checked
def overlaps(
    file: str | os.PathLike[str] | None, counts: Mapping[str, np.ndarray]
) -> "Path | Image":
    """Draws how many cells of its input each cell of a transposed convolution's output is made of.

    Where the stride does not divide the kernel, neighbors are made of different numbers of cells:
    the checkerboard that a transposed convolution must learn to hide.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        counts: Title of each panel → numbers `(height, width)`: the sums of the rows of
            `keras_psp.analysis.convolution_matrix` for a kernel of ones.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Reference:
        [Odena et al., 2016](https://distill.pub/2016/deconv-checkerboard).

    Example:

    ```python
    import numpy as np
    from keras_psp import analysis, visualization

    counts = {}
    for side in (3, 4):
        matrix = analysis.convolution_matrix(np.ones((side, side)), 4, strides=2, transposed=True)
        size = analysis.output_size(4, side, strides=2, transposed=True)
        counts[f"{side}×{side}, stride 2"] = matrix.sum(1).reshape(size, size)
    visualization.overlaps("overlaps.png", counts)
    ```
    """
    counts = {name: to_numpy(panel, name, [2]) for name, panel in counts.items()}
    largest = max(np.max(panel) for panel in counts.values())
    figure = figures.new_figure(2.6 * len(counts), 2.9)
    grid = figure.subplots(1, len(counts), squeeze=False)
    for axes, (title, panel) in zip(grid[0], counts.items(), strict=True):
        figures.show(axes, panel, title, smooth=False, vmin=0, vmax=largest, cmap="Purples")
        for (row, column), number in np.ndenumerate(panel):
            ink = "white" if number > largest / 2 else figures.INK
            place = {"ha": "center", "va": "center", "fontsize": 7}
            axes.text(column, row, f"{number:g}", color=ink, **place)
    return figures.finish(figure, file)
