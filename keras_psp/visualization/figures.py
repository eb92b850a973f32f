"""What all figures have in common: panels, a legend, and how a figure becomes a picture."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.atomic import write_whole
from keras_psp.labels import Color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

INK, GRID = "#333333", "#dddddd"


def new_figure(width: float, height: float) -> "Figure":
    """Makes an empty figure of this size, in inches."""
    # A figure without pyplot: no global state, no window, any thread, and nothing to close.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="compressed")


def image_grid(images: Sequence[np.ndarray], columns: int) -> "tuple[Figure, np.ndarray]":
    """Makes a figure with a row of panels for each image; the panels have that image's shape."""
    width = 2.6
    heights = [width * image.shape[0] / image.shape[1] for image in images]
    figure = new_figure(width * columns, sum(heights) + 0.3 * len(heights))
    ratios = {"height_ratios": heights}
    return figure, figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=ratios)


def show(axes: "Axes", picture: np.ndarray, title: str, *, smooth: bool = True, **kwargs) -> None:
    """Shows a picture in a panel. Label maps are not smoothed: a mixed color is another class's."""
    axes.imshow(picture, interpolation="antialiased" if smooth else "nearest", **kwargs)
    axes.set_title(title, fontsize=11, color=INK)
    axes.set_axis_off()


def add_legend(figure: "Figure", swatches: Sequence[tuple[str, Color]]) -> None:
    """Adds names and colors under the panels."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=np.array(color) / 255, edgecolor=INK, linewidth=0.5, label=name)
        for name, color in swatches
    ]
    columns = max(1, int(figure.get_figwidth() / 1.25))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=1.2,
    )


def readable(name: str) -> str:
    """Writes a name such as `val_mean_iou` for people."""
    return name.replace("_", " ").replace(" iou", " IoU")


def format_score(value: float, sign: str = "") -> str:
    """Writes a score; a dash for NaN, which a class has that the images do not contain."""
    return "–" if np.isnan(value) else f"{value:{sign}.3f}"


def finish(figure: "Figure", file: str | os.PathLike[str] | None) -> "Path | Image":
    """Writes a figure to a file and returns the path; without a file, returns the picture."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # Names of classes and files are no formulas.
    # A PNG that is a sixth smaller would take as long to compress as the figure takes to draw.
    options: dict[str, Any] = {"bbox_inches": "tight"}
    png = {**options, "format": "png", "pil_kwargs": {"compress_level": 1}}
    if file is not None:
        if Path(file).suffix.lower() == ".png":
            options = png
        return write_whole(file, lambda path: figure.savefig(path, **options))
    from PIL import Image

    stream = io.BytesIO()
    figure.savefig(stream, **png)
    return Image.open(stream).convert("RGB")
