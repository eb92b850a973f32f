"""One HTML page of an evaluation, for phone and desktop, with its pictures inside."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp import visualization
from keras_psp.labels import ClassList
from keras_psp.visualization.figures import format_score
from keras_psp.visualization.galleries import swatches

_WIDTH = 400  # Largest width of a gallery's pictures, in pixels.
_STYLE = Path(__file__).with_name("report.css")


def page(evaluation: Any, confusion_matrix: bytes, comparison: Any = None) -> str:
    """Makes the page.

    Args:
        evaluation: The scores, an `Evaluation`.
        confusion_matrix: A picture of the confusion matrix, the bytes of a PNG file.
        comparison: A `Comparison` with another model, or `None`.

    Returns:
        A whole HTML document.
    """
    count = f"{len(evaluation.names)} images, {evaluation.confusion_matrix.sum():,} labeled pixels"
    parts = [
        f"<h1>Mean IoU {evaluation.mean_iou:.3f}</h1>",
        f'<p class="soft">{count}. Views: {html.escape(evaluation.views or "unknown")}. '
        f"The model had started from {html.escape(evaluation.initial_weights)}.</p>",
        _tiles(evaluation),
        _comparison(comparison) if comparison else "",
        _section("Classes", _classes(evaluation)),
        _section(
            "Confusion matrix",
            "<p class=soft>How many per cent of the pixels of each true class (row) were predicted "
            "as each class (column).</p>"
            f'<div class="scroll">{_image(confusion_matrix, "confusion matrix")}</div>',
        ),
        _gallery("Worst images", evaluation.worst, evaluation),
        _gallery("Best images", evaluation.best, evaluation),
        _gallery("Images spread over the split", evaluation.samples, evaluation),
        _every_image(evaluation, comparison),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Mean IoU {evaluation.mean_iou:.3f}</title>\n"
        f"<style>\n{_STYLE.read_text()}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _tiles(evaluation: Any) -> str:
    tiles = [
        ("mean IoU", f"{evaluation.mean_iou:.3f}"),
        (f"boundary IoU, {evaluation.boundary_width} px", f"{evaluation.mean_boundary_iou:.3f}"),
        ("mean accuracy", f"{evaluation.mean_accuracy:.3f}"),
        ("pixel accuracy", f"{evaluation.pixel_accuracy:.3f}"),
        ("images", len(evaluation.names)),
    ]
    return f'<div class="tiles">{"".join(f"<div>{n}<b>{v}</b></div>" for n, v in tiles)}</div>'


def _section(title: str, *content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{chr(10).join(content)}\n</section>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Makes a table of HTML cells; only wide pages show a column whose header ends in *."""
    styles = [' class="wide"' if name.endswith("*") else "" for name in header]
    lines = [[f"<th{s}>{n.rstrip('*')}</th>" for n, s in zip(header, styles, strict=True)]]
    lines += [[f"<td{s}>{c}</td>" for c, s in zip(row, styles, strict=True)] for row in rows]
    body = "\n".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<div class="scroll {kind}"><table>\n{body}\n</table></div>'


def _classes(evaluation: Any) -> str:
    matrix = evaluation.confusion_matrix
    target = matrix.sum(axis=1)
    names = _names(range(len(target)), evaluation.classes)
    scores = zip(
        evaluation.per_class,
        evaluation.per_class_boundary_iou,
        evaluation.per_class_accuracy,
        strict=True,
    )
    rows = []
    for number, (iou, boundary_iou, accuracy) in enumerate(scores):
        missed = matrix[number].copy()
        missed[number] = 0
        share = missed.max() / max(target[number], 1)
        rows.append(
            [
                names[number],
                format_score(iou),
                f'<span class="bar"><i style="width:{np.nan_to_num(iou):.1%}"></i></span>',
                format_score(boundary_iou),
                format_score(accuracy),
                f"{target[number] / max(target.sum(), 1):.2%}",
                f"{share:.0%} {names[missed.argmax()]}" if share else "",
            ]
        )
    header = [
        "class",
        "IoU",
        "*",
        "boundary IoU",
        "accuracy",
        "share of pixels*",
        "most often mistaken for",
    ]
    return _table(header, rows)


def _comparison(comparison: Any) -> str:
    one, other = (html.escape(name) for name in comparison.names)
    rows = []
    for name, *scores, difference, low, high in comparison.rows():
        interval = "" if np.isnan(low) else f"{low:+.3f} … {high:+.3f}"
        rows.append([html.escape(name), *map(format_score, scores), _change(difference), interval])
    header = ["", one, other, "difference", f"{comparison.confidence:.0%} interval"]
    return _section(
        f"{one} and {other}",
        f"<p>{html.escape(comparison.verdict)}</p>",
        _table(header, rows, "sum"),
    )


def _gallery(title: str, images: Sequence[Any], evaluation: Any) -> str:
    if not images:
        return ""
    classes = evaluation.classes
    occurring = sorted({int(k) for one in images for k in np.unique([one.label, one.prediction])})
    legend = "".join(f"<span>{name}</span>" for name in _names(occurring, classes))
    parts = [f'<div class="legend">{legend}</div>']
    for one in images:
        panels = {
            "image": one.image,
            "truth": visualization.colorize(one.label, classes),
            "prediction": visualization.colorize(one.prediction, classes),
            "errors": visualization.error_map(one.label, one.prediction),
        }
        cells = "".join(
            f"<figure>{_image(_png(picture, smooth=name == 'image'), name)}"
            f"<figcaption>{name}</figcaption></figure>"
            for name, picture in panels.items()
        )
        score = "all void" if np.isnan(one.mean_iou) else f"mean IoU {one.mean_iou:.3f}"
        parts.append(f'<h3>{html.escape(one.name)}: {score}</h3><div class="panels">{cells}</div>')
    return _section(f"{title} ({len(images)} of {len(evaluation.names)})", *parts)


def _every_image(evaluation: Any, comparison: Any) -> str:
    header = ["image", "mean IoU"]
    columns = [map(html.escape, evaluation.names), map(format_score, evaluation.per_image)]
    if comparison:
        header += [html.escape(comparison.names[1]), "difference"]
        columns += [
            map(format_score, comparison.baseline.per_image),
            map(_change, comparison.per_image),
        ]
    rows = list(zip(*columns, strict=True))
    # Images that are all void have NaN and come last.
    order = np.argsort(evaluation.per_image, kind="stable")
    table = _table(header, [rows[number] for number in order])
    return f"<details>\n<summary>Every image, the worst first</summary>\n{table}\n</details>"


def _names(labels: Iterable[int], classes: ClassList) -> list[str]:
    """Makes the colors and names of some labels."""
    return [
        f'<i class="swatch" style="background:rgb{color}"></i>{html.escape(name)}'
        for name, color in swatches(labels, classes)
    ]


def _change(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f'<span class="{"up" if value > 0 else "down" if value < 0 else ""}">{value:+.3f}</span>'


def _png(picture: np.ndarray, smooth: bool) -> bytes:
    """Returns the bytes of a PNG file, no wider than the page needs."""
    from PIL import Image

    image = Image.fromarray(picture)
    # A mixed color of a label map would be another class's.
    kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    image.thumbnail((_WIDTH, image.height), kind, reducing_gap=None)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _image(png: bytes, text: str) -> str:
    return f'<img alt="{text}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
