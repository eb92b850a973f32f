"""Training runs and scores as figures: curves, bars, the confusion matrix."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.atomic import read_table
from keras_psp.checked import checked
from keras_psp.labels import ClassList, numbered_classes
from keras_psp.visualization import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image


@checked
def training_curves(
    file: str | os.PathLike[str] | None,
    history: Mapping[str, Sequence[Any]] | str | os.PathLike[str],
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
        if Path(history).is_dir():
            raise ValueError(
                "A history is a dictionary or a CSV file. "
                f"Received: history='{history}', a folder. Pass its history.csv."
            )
        rows = read_table(history)
        # A later epoch may have added a column: the earlier ones have no value there.
        history = {name: [float(row[name] or "nan") for row in rows] for name in (rows or [{}])[0]}
    columns = history.items()
    values = {name: to_numpy(column, name, [1]).astype(float) for name, column in columns}
    epochs = values.pop("epoch", None)
    if not any(column.size for column in values.values()):
        raise ValueError(
            "A history must hold at least one epoch. "
            f"Received: history with columns {list(history)} and no row. "
            "Give the history of a run that has finished an epoch."
        )
    panels: dict[str, list[str]] = {"Loss": [], "Scores": [], "Learning rate": []}
    for name in dict.fromkeys(name.removeprefix("val_") for name in values):
        title = "Learning rate" if name == "learning_rate" else "Scores"
        panels["Loss" if name.endswith("loss") else title].append(name)
    panels = {title: members for title, members in panels.items() if members}

    figure = figures.new_figure(4.6 * len(panels), 3.4)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, members) in zip(all_axes, panels.items(), strict=True):
        for number, member in enumerate(members):
            label = figures.readable(member)
            for name in (f"val_{member}", member):
                if name not in values:
                    continue
                line = values[name]
                x = 1 + (np.arange(line.size) if epochs is None else epochs)
                # Validation may be rarer than epochs: its line connects the epochs that have one.
                x, line = x[np.isfinite(line)], line[np.isfinite(line)]
                style = {"color": f"C{number}", "marker": "o" if line.size < 3 else ""}
                if name == "val_mean_iou" and line.size:
                    best = np.argmax(line)
                    axes.plot(x[best], line[best], "o", color=style["color"])
                    label += f", best {line[best]:.3f}"
                # The validation split's line is solid; the training split's is solid only where
                # there is no other. An underscore keeps the second line out of the legend.
                axes.plot(x, line, "--" if label.startswith("_") else "-", label=label, **style)
                label = "_" + label
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(left=0.5)
        axes.set_ylim(0, 1 if title == "Scores" else None)
        _style_curves(axes, title)
    note = "epoch (solid: validation, dashed: training)"
    compared = any(name.startswith("val_") for name in values)
    figure.supxlabel(note if compared else "epoch", fontsize=9, color=figures.INK)
    return figures.finish(figure, file)


@checked
def degradation_curves(
    file: str | os.PathLike[str] | None,
    histories: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]],
) -> "Path | Image":
    """Draws the errors of plain and of residual nets side by side, as in the ResNet paper.

    Args:
        file: Where to write the picture.
        histories: (network, seed) → rows of `step`, `train_error` and `test_error`, 0–1, as
            `keras_psp.experiments.degradation` makes them. Networks of one family share a panel:
            the part of the name before the hyphen.

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
    figure = figures.new_figure(4.6 * len(families), 3.6)
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
        _style_curves(axes, family)
    all_axes[0].set_ylabel("Error, %")
    return figures.finish(figure, file)


@checked
def points_per_seed(
    file: str | os.PathLike[str] | None,
    scores: Mapping[str, Sequence[Mapping[str, float]]],
) -> "Path | Image":
    """Draws the scores of several models, every training run of each as a point.

    Args:
        file: Where to write the picture.
        scores: Name of the model → for each of its runs (seeds) the scores by name, such as
            `{"mean IoU": 0.5, "pixel accuracy": 0.86}`. Each score has a panel of its own; a run
            may lack some.

    Returns:
        The path of the picture, or the picture if `file` is `None`.

    Example:

    ```python
    from keras_psp import visualization

    runs = {"FCN-8s": [{"mean IoU": 0.51}, {"mean IoU": 0.53}], "PSPNet": [{"mean IoU": 0.52}]}
    visualization.points_per_seed("seeds.png", runs)
    ```
    """
    panels = list(dict.fromkeys(panel for runs in scores.values() for run in runs for panel in run))
    figure = figures.new_figure(1.8 + 2.4 * len(panels), 1.8 + 0.3 * len(scores))
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        for row, runs in enumerate(scores.values()):
            # A line without points would lie in the figure's corner.
            if values := [run[panel] for run in runs if panel in run]:
                axes.plot(values, [row] * len(values), "o", color="C0", alpha=0.8, clip_on=False)
        axes.set_title(panel, fontsize=11, color=figures.INK)
        axes.locator_params(axis="x", nbins=3)  # More would touch each other.
        axes.grid(color=figures.GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_yticks(range(len(scores)), list(scores))
    all_axes[0].invert_yaxis()
    return figures.finish(figure, file)


@checked
def per_class_bars(
    file: str | os.PathLike[str] | None,
    iou: Any,
    classes: ClassList | None = None,
) -> "Path | Image":
    """Draws the IoU of every class as a bar in its color, and their mean as a line.

    Args:
        file: Where to write the picture; the ending says the format, usually `.png`.
        iou: One IoU from 0 to 1 for each of the K classes; NaN where a class is absent, which
            leaves it out of the mean.
        classes: Names and colors of the classes; `None` numbers them: "class 0", ….

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
    iou, classes, names = _of_classes("iou", iou, 1, classes)
    present = iou[~np.isnan(iou)]
    figure = figures.new_figure(6.4, 0.8 + 0.3 * len(iou))
    axes = figure.subplots()
    bars = axes.barh(
        range(len(iou)),
        np.nan_to_num(iou),
        tick_label=names,
        color=np.array(classes.colors) / 255,
        edgecolor=figures.INK,
        linewidth=0.5,
    )
    axes.bar_label(bars, list(map(figures.format_score, iou)), padding=4, fontsize=8)
    if present.size:
        axes.axvline(present.mean(), color=figures.INK, linestyle="--", linewidth=1)
        axes.set_title(f"mean IoU {present.mean():.3f}", fontsize=11, color=figures.INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("IoU", color=figures.INK)
    axes.spines[["top", "right"]].set_visible(False)
    return figures.finish(figure, file)


@checked
def confusion_matrix(
    file: str | os.PathLike[str] | None, matrix: Any, classes: ClassList | None = None
) -> "Path | Image":
    """Draws a confusion matrix: which classes the pixels of each true class were given.

    Args:
        file: Where to write the picture.
        matrix: Pixels `(K, K)`: rows the true class, columns the predicted. The figure shows each
            cell's share of its row, in per cent where there are at most 20 classes.
        classes: Names and colors of the classes; `None` numbers them: "class 0", ….

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
    from matplotlib.ticker import PercentFormatter

    matrix, classes, names = _of_classes("matrix", matrix, 2, classes)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    side = 1.6 + 0.42 * min(len(classes), 30)
    figure = figures.new_figure(side + 0.6, side)
    axes = figure.subplots()
    axes.set_facecolor(figures.GRID)  # Shows where a class is absent.
    shown = axes.imshow(shares, cmap="BuPu", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, shrink=0.7, format=PercentFormatter(1))
    if len(classes) <= 20:
        for (row, column), share in np.ndenumerate(shares):
            # A share below half a per cent is not nothing.
            text = f"{100 * share:.0f}" if share >= 0.005 else "·" if share > 0 else ""
            text = "–" if np.isnan(share) else text
            color = "white" if share > 0.55 else figures.INK
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(classes)), names, fontsize=8)
    axes.set_xlabel("predicted", color=figures.INK)
    axes.set_ylabel("true", color=figures.INK)
    return figures.finish(figure, file)


def _of_classes(
    kind: str, scores: Any, axes: int, classes: ClassList | None
) -> tuple[np.ndarray, ClassList, list[str]]:
    """Returns scores as an array, once along each axis for each class; the classes, and their names
    for people."""
    scores = to_numpy(scores, kind, [axes]).astype(float)
    classes = numbered_classes(len(scores)) if classes is None else classes
    if scores.shape != (len(classes),) * axes:
        raise ValueError(
            "Every class needs its score, or its row and its column. "
            f"Received: {kind} of shape {scores.shape}, {len(classes)} classes. "
            "Give those of all classes; of absent ones the IoU is NaN."
        )
    return scores, classes, [figures.readable(name) for name in classes.names]


def _style_curves(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=11, color=figures.INK)
    axes.grid(color=figures.GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
