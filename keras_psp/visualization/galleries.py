"""Images beside their label maps: truth, prediction and errors, with a legend of the classes."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.checked import checked, short
from keras_psp.choices import check_name
from keras_psp.labels import MAX_CLASSES, VOID, ClassList, Color, numbered_classes
from keras_psp.visualization import figures
from keras_psp.visualization.label_maps import (
    FALSE_ALARM,
    HIT,
    MISS,
    RIGHT,
    VOID_COLOR,
    WRONG,
    as_uint8,
    check_label_map,
    colorize,
    error_map,
)

if TYPE_CHECKING:
    from PIL.Image import Image


@checked
def legend(file: str | os.PathLike[str] | None, classes: ClassList) -> "Path | Image":
    """Draws a strip with the color and the name of every class.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        classes: Names and colors of the classes.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Example:

    ```python
    from keras_psp import visualization
    from keras_psp.labels import ClassList

    visualization.legend("legend.png", ClassList(["Road", "Car"], [(128, 64, 128), (64, 0, 128)]))
    ```
    """
    figure = figures.new_figure(8, 0.1)
    figures.add_legend(figure, swatches(range(len(classes)), classes))
    return figures.finish(figure, file)


@checked
def segmentation_gallery(
    file: str | os.PathLike[str] | None,
    images: Any,
    truths: Any = None,
    predictions: Any = None,
    classes: ClassList | None = None,
    *,
    whole_legend: bool = False,
) -> "Path | Image":
    """Draws image, truth, prediction and errors side by side, a row for each image, with a legend.

    In the last column, right pixels are gray, wrong pixels are red, and pixels that are void in
    truth are black: they count nowhere. The text in it is the share of right pixels among those
    that count.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        images: RGB, 0–255, `(batch, height, width, 3)`, or a list of images of different sizes.
        truths: Labels 0 … K−1 or 255 (void), `(batch, height, width)` or a list, or `None`.
        predictions: Classes 0 … K−1, likewise, or `None`. Errors are shown where both are given.
        classes: Names and colors of the classes; `None` numbers them, as in `colorize`.
        whole_legend: Whether the legend shows all the given `classes`, so that pictures of the
            same images have the same size, or only those that occur.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If there is no image, or not one label map for each image, or a label is neither
            a class nor void, or truth and prediction differ in size.

    Example:

    ```python
    import keras_psp
    from keras_psp import visualization

    model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
    image, truth = keras_psp.street_scene(seed=1, image_size=(120, 160))
    labels = keras_psp.segment(model, image)
    visualization.segmentation_gallery("street.png", [image], [truth], [labels], model.classes)
    ```
    """
    if classes is None:
        classes, whole_legend = numbered_classes(MAX_CLASSES), False
    given = {"images": images, "truths": truths, "predictions": predictions}
    for name, several in given.items():
        missing = several is None and name != "images"
        if not (missing or isinstance(several, Sequence) or bool(getattr(several, "shape", ()))):
            raise ValueError(
                "A gallery shows lists or batches. "
                f"Received: {name}={short(several)}. Pass a list of one or more."
            )
    images = [as_uint8(image) for image in images]
    columns: dict[str, list[np.ndarray]] = {"Image": images}
    label_maps = []
    for title, given in (("Truth", truths), ("Prediction", predictions)):
        if given is not None:
            label_maps.append([to_numpy(one) for one in given])
            columns[title] = [colorize(one, classes) for one in label_maps[-1]]
    if not images or any(len(column) != len(images) for column in columns.values()):
        counts = ", ".join(f"{len(column)} of {title!r}" for title, column in columns.items())
        raise ValueError(
            "A gallery needs at least one image, and as many label maps as images. "
            f"Received: {counts}. Give batches of the same length."
        )
    outcomes = []
    if len(label_maps) == 2:
        columns["Errors"] = list(map(error_map, *label_maps))
        outcomes = [("Right", RIGHT), ("Wrong", WRONG)]

    figure, grid = figures.image_grid(images, len(columns))
    for column, (title, column_pictures) in enumerate(columns.items()):
        for row, picture in enumerate(column_pictures):
            heading = "" if row else title
            figures.show(grid[row, column], picture, heading, smooth=title == "Image")
    if outcomes:
        for axes, truth, prediction in zip(grid[:, -1], *label_maps, strict=True):
            right = (truth == prediction)[truth != VOID]
            share = f"{right.mean():.1%} right" if right.size else "all void"
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
            style = {"transform": axes.transAxes, "fontsize": 8, "color": figures.INK, "bbox": box}
            axes.text(0.02, 0.04, share, **style)
    shown = {int(label) for maps in label_maps for one in maps for label in np.unique(one)}
    if whole_legend:
        shown |= {*range(len(classes)), VOID}
    figures.add_legend(figure, swatches(sorted(shown), classes) + outcomes)
    return figures.finish(figure, file)


@checked
def class_errors(
    file: str | os.PathLike[str] | None,
    image: Any,
    truth: Any,
    prediction: Any,
    names: str | Sequence[str] | None = None,
    classes: ClassList | None = None,
) -> "Path | Image":
    """Draws hits, misses and false alarms of one class, or of each of several, in an image.

    Every class has a panel of its own, with its IoU in this image. The colors are those of
    `error_map`: people of any color vision tell them apart, unlike the colors of many class lists,
    CamVid's among them.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        image: RGB, 0–255, `(height, width, 3)`.
        truth: Labels 0 … K−1 or 255 (void), `(height, width)`.
        prediction: Classes 0 … K−1, `(height, width)`.
        names: Name or names of the classes; `None` shows all that occur in truth or prediction.
        classes: Names and colors of the classes; `None` numbers them: "class 0", ….

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If no class has such a name, or truth and prediction differ in size.

    Example:

    ```python
    import keras_psp
    from keras_psp import visualization

    model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
    image, truth = keras_psp.street_scene(seed=1, image_size=(120, 160))
    labels = keras_psp.segment(model, image)
    visualization.class_errors("cars.png", image, truth, labels, "Car", model.classes)
    ```
    """
    classes = numbered_classes(MAX_CLASSES) if classes is None else classes
    image = as_uint8(image)
    truth, prediction = (check_label_map(labels, classes) for labels in (truth, prediction))
    if not truth.shape == prediction.shape == image.shape[:2]:
        raise ValueError(
            "Image, truth and prediction are of one size. Received: image, truth and prediction of "
            f"shape {image.shape}, {truth.shape} and {prediction.shape}. Resize label maps to the "
            "nearest pixel."
        )
    if names is None:
        counted = truth != VOID
        chosen = np.union1d(truth[counted], prediction[counted]).tolist()
    else:
        names = [names] if isinstance(names, str) else names
        chosen = [classes.names.index(check_name("class", name, classes.names)) for name in names]

    columns = min(4, 1 + len(chosen))
    rows = -(-(1 + len(chosen)) // columns)
    figure, grid = figures.image_grid([image] * rows, columns)
    panels = iter(grid.flat)
    figures.show(next(panels), image, "Image")
    for label in chosen:
        errors = error_map(truth, prediction, label)
        hit, miss, false_alarm = (
            (errors == color).all(-1).sum() for color in (HIT, MISS, FALSE_ALARM)
        )
        # As in all scores, what is not in truth has no IoU, whether it was predicted or not.
        iou = hit / (hit + miss + false_alarm) if hit + miss else np.nan
        title = f"{figures.readable(classes.names[label])}, IoU {figures.format_score(iou)}"
        figures.show(next(panels), errors, title, smooth=False)
    for panel in panels:
        panel.set_axis_off()
    outcomes = [("Hit", HIT), ("Miss", MISS), ("False alarm", FALSE_ALARM)]
    outcomes += [("Other class", RIGHT), ("Void", VOID_COLOR)]
    figures.add_legend(figure, outcomes)
    return figures.finish(figure, file)


def swatches(labels: Iterable[int], classes: ClassList) -> list[tuple[str, Color]]:
    """Lists the names and colors of some labels, such as for a legend."""
    names = {VOID: "Void", **dict(enumerate(map(figures.readable, classes.names)))}
    colors = {VOID: VOID_COLOR, **dict(enumerate(classes.colors))}
    return [(names[k], colors[k]) for k in labels]
