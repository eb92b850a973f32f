"""Pictures of label maps, predictions, training runs and scores.

Every function that takes a `file` writes it whole or not at all, makes the folders on its way, and
returns the path. Figures need no file: with `file=None` they come back as Pillow images, which a
notebook shows and `.show()` opens.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_psp.atomic import read_table, write_whole
from keras_psp.choices import check_name
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.labels import VOID, ClassList, Color
from keras_psp.layers import BilinearUpsample, PyramidPooling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

VOID_COLOR = (0, 0, 0)
RIGHT, WRONG = (225, 225, 225), (214, 39, 40)
# Of Okabe and Ito's colors, which people of any color vision tell apart.
HIT, MISS, FALSE_ALARM = (0, 114, 178), (213, 94, 0), (240, 228, 66)
_INK, _GRID = "#333333", "#dddddd"


def colorize(labels: Any, classes: ClassList = CAMVID) -> np.ndarray:
    """Turns a label map into a picture: class k gets `classes.colors[k]`, void becomes black.

    Args:
        labels: Integers of any shape, usually `(height, width)` or `(batch, height, width)`:
            classes 0 … K−1, 255 void.
        classes: The names and colors of the classes. Defaults to CamVid's eleven.

    Returns:
        The colors, uint8, of shape `(*labels.shape, 3)`.

    Raises:
        ValueError: If a label is neither a class that has a color nor void, or no integer.

    Example:

    ```python
    import numpy as np
    from keras_psp import visualization

    labels = np.array([[0, 5], [10, 255]])  # Building, Road; Bicyclist, void
    picture = visualization.colorize(labels)
    assert picture.tolist() == [[[128, 0, 0], [128, 64, 128]], [[0, 128, 192], [0, 0, 0]]]
    ```
    """
    labels = _labels(labels, classes)
    palette = np.full((VOID + 1, 3), VOID_COLOR, np.uint8)
    palette[: len(classes)] = classes.colors
    return palette[labels]


def overlay(image: Any, labels: Any, alpha: float = 0.5, classes: ClassList = CAMVID) -> np.ndarray:
    """Lays a label map over its image, half transparent; where the label is void, the image stays
    as it is.

    Args:
        image: RGB, 0–255, `(height, width, 3)` or `(batch, height, width, 3)`.
        labels: Integers of the same size without the channels: classes 0 … K−1, 255 void.
        alpha: How much of the result is color, from 0 (the image) to 1 (the label map).
        classes: The names and colors of the classes. Defaults to CamVid's eleven.

    Returns:
        The picture, uint8, of the image's shape.

    Raises:
        ValueError: If image and labels differ in size, or a label is neither a class nor void.

    Example:

    ```python
    import numpy as np
    from keras_psp import visualization

    image = np.full((1, 2, 3), 100, "uint8")
    picture = visualization.overlay(image, np.array([[0, 255]]))  # Building is (128, 0, 0)
    assert picture.tolist() == [[[114, 50, 50], [100, 100, 100]]]
    ```
    """
    image, labels = _image(image), ops.convert_to_numpy(labels)
    if image.shape != (*labels.shape, 3):
        raise ValueError(
            "An image must be RGB and have the size of its labels. "
            f"Received: image of shape {image.shape}, labels of shape {labels.shape}. "
            "Resize the image bilinearly or the labels to the nearest pixel."
        )
    weight = np.where(labels == VOID, 0.0, alpha)[..., None]
    return np.rint((1 - weight) * image + weight * colorize(labels, classes)).astype(np.uint8)


def error_map(truth: Any, prediction: Any, label: int | None = None) -> np.ndarray:
    """Shows where a prediction is wrong: altogether, or as regards one class.

    Without a `label`, right pixels are light gray and wrong ones red. With it, the pixels of that
    class that were found (hits) are blue, those that were not (misses) orange, those of other
    classes that were taken for it (false alarms) yellow, and all else light gray. What is void in
    truth counts nowhere and is black.

    Args:
        truth: Labels of any shape, usually `(height, width)`: classes 0 … K−1, 255 void.
        prediction: Classes 0 … K−1 of the same shape.
        label: The class, or `None` for all of them at once.

    Returns:
        The colors, uint8, of shape `(*truth.shape, 3)`.

    Raises:
        ValueError: If truth and prediction differ in shape, or the label is no class.

    Example:

    ```python
    import numpy as np
    from keras_psp import visualization

    truth, prediction = np.array([[5, 5, 3, 255]]), np.array([[5, 3, 5, 5]])
    picture = visualization.error_map(truth, prediction, label=5)
    assert picture[0, 0].tolist() == list(visualization.HIT)
    assert picture[0, 1].tolist() == list(visualization.MISS)
    assert picture[0, 2].tolist() == list(visualization.FALSE_ALARM)
    assert picture[0, 3].tolist() == list(visualization.VOID_COLOR)
    ```
    """
    truth, prediction = ops.convert_to_numpy(truth), ops.convert_to_numpy(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(
            "Errors are where two label maps of the same shape differ. "
            f"Received: truth of shape {truth.shape}, prediction of shape {prediction.shape}. "
            "Resize one of them to the nearest pixel; turn logits into classes with `.argmax(-1)`."
        )
    if label is None:
        cases = [(truth == prediction, RIGHT), (truth != prediction, WRONG)]
    else:
        if not isinstance(label, int | np.integer) or not 0 <= label < VOID:
            raise ValueError(
                "The errors of a class are found by its number, from 0 to K−1; void is no class. "
                f"Received: label={label!r}. Find the number of a name with classes.names.index."
            )
        true, predicted = truth == label, prediction == label
        cases = [
            (true & predicted, HIT),
            (true & ~predicted, MISS),
            (~true & predicted, FALSE_ALARM),
            (~true & ~predicted, RIGHT),
        ]
    picture = np.empty((*truth.shape, 3), np.uint8)
    for where, color in [*cases, (truth == VOID, VOID_COLOR)]:
        picture[where] = color
    return picture


def legend(file: str | os.PathLike[str] | None, classes: ClassList = CAMVID) -> "Path | Image":
    """Draws a strip that says which color means which class.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        classes: The names and colors of the classes. Defaults to CamVid's eleven.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Example:

    ```python
    from keras_psp import visualization
    from keras_psp.labels import ClassList

    visualization.legend("legend.png", ClassList(["Road", "Car"], [(128, 64, 128), (64, 0, 128)]))
    ```
    """
    figure = _figure(8, 0.1)
    _add_legend(figure, _swatches(range(len(classes)), classes))
    return _finish(figure, file)


def segmentation_gallery(
    file: str | os.PathLike[str] | None,
    images: Any,
    truths: Any = None,
    predictions: Any = None,
    classes: ClassList = CAMVID,
    *,
    whole_legend: bool = False,
) -> "Path | Image":
    """Draws image, truth, prediction and errors side by side, a row for each image, with a legend.

    In the last column the pixels that are right are gray, those that are wrong red, and those that
    are void in truth, and so count nowhere, black; the figure over it is the share of right pixels
    among those that count.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        images: RGB, 0–255, `(batch, height, width, 3)`, or a list of images of different sizes.
        truths: Labels 0 … K−1 or 255 (void), `(batch, height, width)` or a list, or `None`.
        predictions: Classes 0 … K−1, likewise, or `None`. Errors are shown where both are given.
        classes: The names and colors of the classes. Defaults to CamVid's eleven.
        whole_legend: Whether the legend shows every class, so that pictures of the same images are
            of one size, or those that occur.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If there is no image, or there are more or fewer label maps than images, or a
            label is neither a class nor void, or truth and prediction differ in size.

    Example:

    ```python
    import numpy as np
    from keras_psp import visualization

    images = np.zeros((2, 24, 32, 3), "uint8")
    truths = np.zeros((2, 24, 32), "int32")
    visualization.segmentation_gallery("gallery.png", images, truths, predictions=truths)
    ```
    """
    images = [_image(image) for image in images]
    columns: dict[str, list[np.ndarray]] = {"Image": images}
    label_maps = []
    for title, given in (("Truth", truths), ("Prediction", predictions)):
        if given is not None:
            labels = [ops.convert_to_numpy(one) for one in given]
            columns[title] = [colorize(one, classes) for one in labels]
            label_maps.append(labels)
    if not images or any(len(column) != len(images) for column in columns.values()):
        counts = ", ".join(f"{len(column)} of {title!r}" for title, column in columns.items())
        raise ValueError(
            "A gallery needs at least one image, and as many label maps as images. "
            f"Received: {counts}. Give batches of the same length."
        )
    shares: list[str] = []
    if len(label_maps) == 2:
        columns["Errors"] = []
        for truth, prediction in zip(*label_maps, strict=True):
            columns["Errors"].append(error_map(truth, prediction))
            right = (truth == prediction)[truth != VOID]
            shares.append(f"{right.mean():.1%} right" if right.size else "all void")

    figure, grid = _panels(images, len(columns))
    for column, (title, column_pictures) in enumerate(columns.items()):
        for row, picture in enumerate(column_pictures):
            _show(grid[row, column], picture, "" if row else title, labels=title != "Image")
    for axes, share in zip(grid[:, -1], shares, strict=False):
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        axes.text(0.02, 0.04, share, transform=axes.transAxes, fontsize=8, color=_INK, bbox=box)
    shown = {int(label) for maps in label_maps for one in maps for label in np.unique(one)}
    if whole_legend:
        shown |= {*range(len(classes)), VOID}
    swatches = _swatches(sorted(shown), classes)
    if "Errors" in columns:
        swatches += [("Right", RIGHT), ("Wrong", WRONG)]
    _add_legend(figure, swatches)
    return _finish(figure, file)


def class_errors(
    file: str | os.PathLike[str] | None,
    image: Any,
    truth: Any,
    prediction: Any,
    names: str | Sequence[str] | None = None,
    classes: ClassList = CAMVID,
) -> "Path | Image":
    """Draws hits, misses and false alarms of one class, or of each of several, in an image.

    Every class has a panel of its own, with its IoU in this image. The colors are those of
    `error_map`, which people of any color vision tell apart, unlike the colors of many class
    lists, CamVid's among them.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        image: RGB, 0–255, `(height, width, 3)`.
        truth: Labels 0 … K−1 or 255 (void), `(height, width)`.
        prediction: Classes 0 … K−1, `(height, width)`.
        names: Name or names of the classes; `None` shows all that occur in truth or prediction.
        classes: The names and colors of the classes. Defaults to CamVid's eleven.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If there is no class of such a name, or truth and prediction differ in size.

    Example:

    ```python
    import numpy as np
    from keras_psp import visualization

    image, truth = np.zeros((24, 32, 3), "uint8"), np.zeros((24, 32), "int32")
    visualization.class_errors("errors.png", image, truth, prediction=truth, names="Car")
    ```
    """
    truth, prediction = _labels(truth, classes), _labels(prediction, classes)
    if names is None:
        counted = truth != VOID
        chosen = np.union1d(truth[counted], prediction[counted]).tolist()
    else:
        names = [names] if isinstance(names, str) else names
        chosen = [classes.names.index(check_name("class", name, classes.names)) for name in names]
    maps = [(_pretty(classes.names[k]), error_map(truth, prediction, k)) for k in chosen]

    image = _image(image)
    columns = min(4, 1 + len(maps))
    rows = -(-(1 + len(maps)) // columns)
    figure, grid = _panels([image] * rows, columns)
    panels = iter(grid.flat)
    _show(next(panels), image, "Image")
    for title, errors in maps:
        hit, miss, false_alarm = (
            (errors == color).all(-1).sum() for color in (HIT, MISS, FALSE_ALARM)
        )
        union = hit + miss + false_alarm
        iou = f"IoU {hit / union:.3f}" if union else "absent"
        _show(next(panels), errors, f"{title}, {iou}", labels=True)
    for panel in panels:
        panel.set_axis_off()
    outcomes = [("Hit", HIT), ("Miss", MISS), ("False alarm", FALSE_ALARM)]
    outcomes += [("Other class", RIGHT), ("Void", VOID_COLOR)]
    _add_legend(figure, outcomes)
    return _finish(figure, file)


def pyramid_activations(
    file: str | os.PathLike[str] | None, model: keras.Model, image: Any
) -> "Path | Image":
    """Draws what each level of a model's pyramid pooling adds to the features of an image.

    The upper row shows the b×b cells of each level after its convolution, batch normalization and
    ReLU; the lower row shows them upsampled, as the head gets them, and the features they are put
    behind. Within a column, places alike have colors alike: red, green and blue are the first
    three principal components of the cells, or of the features, of this image; a single cell has
    nothing to differ from and is gray. The strength is the root mean square over cells and
    channels.

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
    import numpy as np
    import keras_psp

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    image = np.zeros((60, 81, 3), "uint8")
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
    image = _image(image)
    features = keras.Model(model.input, pyramid.input)(image[None])
    features = ops.convert_to_tensor(features)
    upsample = BilinearUpsample(tuple(features.shape[1:3]), align_corners=pyramid.align_corners)
    figure, grid = _panels([image, image], 1 + len(pyramid.bins))
    extent = (0, image.shape[1], image.shape[0], 0)
    _show(grid[0, 0], image, "Image")
    title = f"Features, strength {_strength(features):.2f}"
    _show(grid[1, 0], _as_colors(features, features), title, labels=True, extent=extent)
    for axes, bins, cells in zip(grid.T[1:], pyramid.bins, pyramid.pooled(features), strict=True):
        title = f"{bins}×{bins} cells, strength {_strength(cells):.2f}"
        _show(axes[0], _as_colors(cells, cells), title, labels=True, extent=extent)
        upsampled = _as_colors(upsample(cells), cells)
        _show(axes[1], upsampled, "upsampled", labels=True, extent=extent)
    note = "within a column, places alike have colors alike (three principal components)"
    figure.supxlabel(note, fontsize=9, color=_INK)
    return _finish(figure, file)


def training_curves(
    file: str | os.PathLike[str] | None,
    history: Mapping[str, Sequence[float]] | str | os.PathLike[str],
) -> "Path | Image":
    """Draws the curves of a training run: loss, scores and learning rate over the epochs.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        history: What `model.fit(...).history` holds, or the path of a CSV file with the same
            columns (as `keras.callbacks.CSVLogger` writes it): `loss`, `mean_iou`, `learning_rate`,
            … and, for the validation split, `val_loss`, `val_mean_iou`, …. A column `epoch` counts
            from 0.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If the history has no epoch.

    Example:

    ```python
    from keras_psp import visualization

    history = {"loss": [2.1, 1.4], "val_loss": [1.9, 1.5], "val_mean_iou": [0.1, 0.25]}
    visualization.training_curves("curves.png", history)
    ```
    """
    if isinstance(history, str | os.PathLike):
        rows = read_table(history)
        # A column that a later epoch added has no value here.
        history = {name: [float(row[name] or "nan") for row in rows] for name in (rows or [{}])[0]}
    values = {name: np.asarray(column, float) for name, column in history.items()}
    epochs = values.pop("epoch", None)
    if not any(column.size for column in values.values()):
        raise ValueError(
            "A history must hold at least one epoch. "
            f"Received: history with columns {list(history)} and no row. "
            "Give the history of a run that has finished an epoch."
        )
    names = list(dict.fromkeys(name.removeprefix("val_") for name in values))
    losses = [name for name in names if name.endswith("loss")]
    rates = [name for name in names if name == "learning_rate"]
    scores = [name for name in names if name not in losses + rates]
    panels = {"Loss": losses, "Scores": scores, "Learning rate": rates}
    panels = {title: members for title, members in panels.items() if members}

    figure = _figure(4.6 * len(panels), 3.4)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, members) in zip(all_axes, panels.items(), strict=True):
        for number, member in enumerate(members):
            label = _pretty(member)
            for name in (f"val_{member}", member):
                if name not in values:
                    continue
                line = values[name]
                x = 1 + (np.arange(line.size) if epochs is None else epochs)
                # Validation may be rarer than epochs; its line goes from point to point.
                x, line = x[np.isfinite(line)], line[np.isfinite(line)]
                style = {"color": f"C{number}", "marker": "o" if line.size < 3 else ""}
                if name == "val_mean_iou" and line.size:
                    best = np.argmax(line)
                    axes.plot(x[best], line[best], "o", color=style["color"])
                    label += f", best {line[best]:.3f}"
                # The validation split counts: its line is solid, and the training split's only
                # where there is no other. An underscore keeps the second line out of the legend.
                axes.plot(x, line, "--" if label.startswith("_") else "-", label=label, **style)
                label = "_" + label
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(left=0.5)
        axes.set_ylim(0, 1 if members == scores else None)
        _finish_curves(axes, title)
    note = "epoch (solid: validation, dashed: training)"
    compared = any(name.startswith("val_") for name in values)
    figure.supxlabel(note if compared else "epoch", fontsize=9, color=_INK)
    return _finish(figure, file)


def degradation_curves(
    file: str | os.PathLike[str] | None,
    histories: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]],
) -> "Path | Image":
    """Draws the errors of plain and of residual nets side by side, as in the ResNet paper.

    Args:
        file: Where to write the picture.
        histories: (network, seed) → rows of `step`, `train_error` and `test_error`, 0–1, as
            `keras_psp.experiments.degradation` makes them. Networks whose names begin alike share
            a panel.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), figure 6.

    Example:

    ```python
    from keras_psp import visualization

    rows = [{"step": 100, "train_error": 0.5, "test_error": 0.6}]
    histories = {("plain-20", 1): rows, ("ResNet-20", 1): rows}
    visualization.degradation_curves("curves.png", histories)
    ```
    """
    families: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for name, _ in histories):
        families.setdefault(name.partition("-")[0], []).append(name)
    figure = _figure(4.6 * len(families), 3.6)
    all_axes = figure.subplots(1, len(families), squeeze=False, sharey=True)[0]
    for axes, (family, names) in zip(all_axes, families.items(), strict=True):
        for number, name in enumerate(names):
            seeds = [rows for (n, _), rows in histories.items() if n == name]
            steps = [int(row["step"]) for row in seeds[0]]
            for column, style in [("train_error", "--"), ("test_error", "-")]:
                errors = 100 * np.array([[float(row[column]) for row in rows] for rows in seeds])
                label = f"{name}, {column.partition('_')[0]}"
                axes.plot(steps, errors.mean(0), style, color=f"C{number}", label=label)
                # From the best to the worst seed.
                axes.fill_between(
                    steps, errors.min(0), errors.max(0), color=f"C{number}", alpha=0.15
                )
        axes.set_xlabel("Steps")
        axes.set_ylim(0, 100)
        _finish_curves(axes, family)
    all_axes[0].set_ylabel("Error, %")
    return _finish(figure, file)


def per_class_bars(
    file: str | os.PathLike[str] | None,
    iou: Any,
    classes: ClassList = CAMVID,
) -> "Path | Image":
    """Draws the IoU of every class as a bar in its color, and their mean as a line.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        iou: One IoU from 0 to 1 for each of the K classes; NaN where a class is absent, which
            leaves it out of the mean.
        classes: The names and colors of the classes. Defaults to CamVid's eleven.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If there are more or fewer scores than classes.

    Example:

    ```python
    from keras_psp import visualization
    from keras_psp.labels import ClassList

    visualization.per_class_bars("iou.png", [0.91, float("nan")], ClassList(["Road", "Car"]))
    ```
    """
    iou = np.asarray(ops.convert_to_numpy(iou), float)
    if iou.shape != (len(classes),):
        raise ValueError(
            "There must be one IoU for each class. "
            f"Received: iou of shape {iou.shape}, {len(classes)} classes. "
            "Give the scores of all classes, NaN for those that are absent."
        )
    absent = np.isnan(iou)
    figure = _figure(6.4, 0.8 + 0.3 * len(iou))
    axes = figure.subplots()
    rows = np.arange(len(iou))
    axes.barh(
        rows,
        np.where(absent, 0, iou),
        color=np.array(classes.colors) / 255,
        edgecolor=_INK,
        linewidth=0.5,
    )
    for row, value in enumerate(iou):
        text = "absent" if absent[row] else f"{value:.3f}"
        axes.annotate(
            text,
            (0 if absent[row] else value, row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    if not absent.all():
        mean = iou[~absent].mean()
        axes.axvline(mean, color=_INK, linestyle="--", linewidth=1)
        axes.set_title(f"mean IoU {mean:.3f}", fontsize=11, color=_INK)
    axes.set_yticks(rows, [_pretty(name) for name in classes.names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("IoU", color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    return _finish(figure, file)


def confusion_matrix(
    file: str | os.PathLike[str] | None, matrix: Any, classes: ClassList = CAMVID
) -> "Path | Image":
    """Draws a confusion matrix: of the pixels of each true class, how many got each class.

    Args:
        file: Where to write the picture.
        matrix: Pixels `(K, K)`: rows the true class, columns the predicted. They are shown as
            shares of their row, in per cent where there are at most 20 classes.
        classes: The names and colors of the classes. Defaults to CamVid's eleven.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Raises:
        ValueError: If there is not one row and one column for each class.

    Example:

    ```python
    from keras_psp import visualization
    from keras_psp.labels import ClassList

    visualization.confusion_matrix("matrix.png", [[90, 10], [40, 60]], ClassList(["Road", "Car"]))
    ```
    """
    matrix = np.asarray(ops.convert_to_numpy(matrix), float)
    if matrix.shape != (len(classes),) * 2:
        raise ValueError(
            "A confusion matrix has one row and one column for each class. "
            f"Received: matrix of shape {matrix.shape}, {len(classes)} classes. "
            "Give the list of all classes."
        )
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    side = 1.6 + 0.42 * min(len(classes), 30)
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    axes.set_facecolor(_GRID)  # Shows where a class is absent.
    shown = axes.imshow(shares, cmap="BuPu", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, shrink=0.7, format="{x:.0%}")
    if len(classes) <= 20:
        for (row, column), share in np.ndenumerate(shares):
            # A share below half a per cent is not nothing.
            text = "" if not share > 0 else f"{100 * share:.0f}" if share >= 0.005 else "·"
            color = "white" if share > 0.55 else _INK
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    names = [_pretty(name) for name in classes.names]
    axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(classes)), names, fontsize=8)
    axes.set_xlabel("predicted", color=_INK)
    axes.set_ylabel("true", color=_INK)
    return _finish(figure, file)


def write_image(file: str | os.PathLike[str], picture: Any) -> Path:
    """Writes an array as an image file: a color picture, or a label map as 8-bit gray levels with
    its classes as values.

    Args:
        file: Where to write it; the ending says the format. Label maps want one without loss, such
            as `.png`.
        picture: RGB, `(height, width, 3)`, or label map, `(height, width)`; 0–255.

    Returns:
        The path of the image.

    Raises:
        ValueError: If a value lies outside 0–255, or the ending is no format's.

    Example:

    ```python
    import numpy as np
    from keras_psp import visualization

    visualization.write_image("labels.png", np.array([[0, 10], [255, 3]]))
    ```
    """
    from PIL import Image

    return write_whole(file, Image.fromarray(_image(picture)).save)


def _image(image: Any) -> np.ndarray:
    """An image as uint8; 0–255 floats, as augmentation gives them, are rounded."""
    image = ops.convert_to_numpy(image)
    if image.size and not (image.min() >= 0 and image.max() <= 255):
        raise ValueError(
            f"Pixels must lie between 0 and 255. Received: an image of shape {image.shape} with "
            f"values {image.min()} to {image.max()}. Scale it, or clip what is noise."
        )
    return np.rint(image).astype(np.uint8)


def _labels(labels: Any, classes: ClassList) -> np.ndarray:
    """A label map as an array, if it is one of these classes."""
    labels = ops.convert_to_numpy(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            "Labels must be integers, one class for each pixel. "
            f"Received: labels of dtype {labels.dtype} and shape {labels.shape}. "
            "Turn logits into classes with `.argmax(-1)`."
        )
    strange = labels[((labels < 0) | (labels >= len(classes))) & (labels != VOID)]
    if strange.size:
        raise ValueError(
            f"A label must be a class 0 … {len(classes) - 1} or {VOID} for void. "
            f"Received: label={strange[0]}. "
            "Give `classes` with all the classes, and map what is no class to void."
        )
    return labels


def _strength(features: Any) -> float:
    features = ops.convert_to_numpy(ops.cast(features, "float32"))
    return float(np.sqrt((features**2).mean()))


def _as_colors(features: Any, cells: Any) -> np.ndarray:
    """Features `(1, height, width, channels)` as RGB from 0 to 1: their first three principal
    components, as they are among the `cells`."""
    features, cells = (ops.convert_to_numpy(ops.cast(x[0], "float32")) for x in (features, cells))
    mean = cells.mean((0, 1))
    vectors = (cells - mean).reshape(-1, cells.shape[-1])
    # Iterated, as a whole decomposition of 2048 channels takes half a minute.
    components = np.random.default_rng(0).normal(size=(len(mean), min(3, len(mean))))
    for _ in range(30):
        components, _ = np.linalg.qr(vectors.T @ (vectors @ components))
    # Which of the two directions an eigenvector has is chance.
    components *= np.sign(components[np.abs(components).argmax(0), range(components.shape[1])])
    scale = np.abs(vectors @ components).max() or 1.0
    colors = np.full((*features.shape[:-1], 3), 0.5)
    colors[..., : components.shape[1]] += (features - mean) @ components / (2 * scale)
    return colors.clip(0, 1)


def _pretty(name: str) -> str:
    return name.replace("_", " ").replace(" iou", " IoU")


def _figure(width: float, height: float) -> "Figure":
    # A figure without pyplot: no global state, no window, any thread, and nothing to close.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="compressed")


def _panels(images: Sequence[np.ndarray], columns: int) -> "tuple[Figure, np.ndarray]":
    """A figure with a row of panels for each of the images, in the shape of that image."""
    width = 2.6
    heights = [width * image.shape[0] / image.shape[1] for image in images]
    figure = _figure(width * columns, sum(heights) + 0.3 * len(heights))
    ratios = {"height_ratios": heights}
    return figure, figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=ratios)


def _show(axes: "Axes", picture: np.ndarray, title: str, labels: bool = False, **kwargs) -> None:
    """Shows an image, or a map whose colors mean something: a blend of two would mean a third."""
    interpolation = "nearest" if labels else "antialiased"
    axes.imshow(picture, interpolation=interpolation, **kwargs)
    axes.set_title(title, fontsize=11, color=_INK)
    axes.set_axis_off()


def _finish_curves(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=11, color=_INK)
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def _swatches(labels: Sequence[int], classes: ClassList) -> list[tuple[str, Color]]:
    return [
        ("Void", VOID_COLOR) if k == VOID else (_pretty(classes.names[k]), classes.colors[k])
        for k in labels
    ]


def _add_legend(figure: "Figure", swatches: Sequence[tuple[str, Color]]) -> None:
    """Adds the name of every color under the figure."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=np.array(color) / 255, edgecolor=_INK, linewidth=0.5, label=name)
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


def _finish(figure: "Figure", file: str | os.PathLike[str] | None) -> "Path | Image":
    # A PNG that is a sixth smaller would take as long to compress as the figure to draw.
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
