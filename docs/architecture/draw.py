"""Draws the pictures of "How it is built" from the package: `python docs/architecture/draw.py`.

The arrows of the map are the imports in the package's files, and each station of the two ways must
exist in the package, or drawing fails. `tests/test_architecture.py` draws the pictures again and
compares, so that they are never older than the code.
"""

import ast
import importlib
import textwrap
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
PACKAGE = FOLDER.parents[1] / "keras_psp"

# Folder or file → the question it answers. Each imports only from those above it.
ROOMS = {
    "checked": "are the arguments what they must be?",
    "warning": "which line of the user is warned of?",
    "choices": "is this one of the names that we know?",
    "atomic": "how is a file written whole or not at all?",
    "untrusted": "what may a stranger's file be and ask for?",
    "arrays": "what are these numbers in NumPy?",
    "imagenet": "what are the colors of ImageNet's images?",
    "rates": "at which rates does training begin?",
    "keras_internals": "what does Keras not offer publicly?",
    "signatures": "which arguments does it have?",
    "labels": "what do the numbers in a label map mean?",
    "data": "what are networks trained on?",
    "layers": "what are networks made of?",
    "weights": "where do weights come from?",
    "surgery": "how is a given network rewritten?",
    "losses": "what does training make small?",
    "metrics": "how are predictions scored?",
    "optimizers": "how does training move the weights?",
    "models": "what networks are there?",
    "visualization": "what does it look like?",
    "inference": "what does a trained network say?",
    "evaluation": "how good is it?",
    "callbacks": "what happens while it trains?",
    "analysis": "why does it work?",
    "experiments": "is what the papers say true?",
    "settings": "what does a run of a command use?",
    "cli": "how do I do it without Python?",
}

# The stations of a way: what is named there must exist.
WAYS = {
    "image": [
        ("data.camvid.loading:load_camvid", "finds the frames of a split and their label maps"),
        ("data.reading:LabeledImage", "decodes a frame and its labels, 0 … K−1 or 255 for void"),
        ("data.split:Split", "orders the frames of an epoch, makes batches"),
        (
            "data.augmentation:Augmentation",
            "scales, rotates, blurs, flips, crops: the authors' way",
        ),
        ("layers:ImageNormalization", "the model's first layer: what the backbone's weights need"),
        ("models.backbones:build_backbone", "features of every stage, the last ones at 1/8"),
        ("layers:PyramidPooling", "what the regions around a place look like"),
        ("layers:SegmentationHead", "from features to a score for each class"),
        ("layers:BilinearUpsample", "logits at the image's own size"),
        ("losses:SparseCategoricalCrossentropy", "the loss, in training; void counts nowhere"),
        ("metrics:MeanIoU", "the confusion matrix, and mean IoU from it"),
        ("evaluation:evaluate", "scores of a split, of each class and image, and a report"),
    ],
    "weights": [
        ("models:PSPNet", "takes weights= and backbone_weights=: a name, a file, None"),
        ("weights.published:PRESETS", "name → address, digest, license, published score"),
        ("weights.reading:read_tensors", "the tensors of the file, by their names"),
        ("weights.sources:SOURCES", "whose file it is, by the names of its tensors"),
        ("weights.comparing:check_same_tensors", "each tensor has its variable, none is left over"),
    ],
}

GAP = 22
STYLE = """
    .card { fill: #fafafa } .box { fill: #ede7f6; stroke: #7e57c2; stroke-width: 1.2 }
    .arrow { fill: none; stroke: #8d8d99; stroke-width: 1.3; marker-end: url(#head) }
    text { font: 12px system-ui, sans-serif; fill: #4a4a55 }
    .name { font: 600 14px ui-monospace, monospace; fill: #311b92 }
"""
DARK = {"#fafafa": "#22242f", "#ede7f6": "#37304f", "#4a4a55": "#d4d4de", "#311b92": "#d1c4e9"}


def files() -> dict[str, Path]:
    """The modules of the package by their dotted names, without the package's own."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(file: Path) -> list[tuple[str, str]]:
    """What a file imports of the package, also inside functions: (module, name), both dotted."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "keras_psp":
            module = node.module.partition(".")[2]
            found += [(module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found += [(n.partition(".")[2], "") for n in names if n.startswith("keras_psp.")]
    return found


def module_imports() -> dict[str, set[str]]:
    """Module → the modules that it imports, itself left out."""
    known = files()
    found = {}
    for name, file in known.items():
        targets = set()
        for module, imported_name in imported(file):
            deeper = f"{module}.{imported_name}".strip(".")
            targets.add(deeper if deeper in known else module)
        found[name] = targets - {name}
    return found


def room_imports() -> dict[str, set[str]]:
    """Room → the rooms that it imports from."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for name, targets in module_imports().items():
        room = name.split(".")[0]
        if room in found:
            found[room] |= {target.split(".")[0] for target in targets} & set(ROOMS) - {room}
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from others."""

    def reach(room):
        return set().union(*({to} | reach(to) for to in graph[room]), set())

    return {
        room: {to for to in targets if not any(to in reach(other) for other in targets - {to})}
        for room, targets in graph.items()
    }


def draw_map() -> str:
    """The rooms from top to bottom, and an arrow from each to those that it imports."""
    width, step = 440, 46
    row = {room: 20 + n * step for n, room in enumerate(ROOMS)}
    parts = [box(GAP, y, room, ROOMS[room], width, height=38) for room, y in row.items()]
    for room, targets in reduced(room_imports()).items():
        for to in sorted(targets, key=row.__getitem__):
            # Out of the upper half of a box, and into the lower half of another.
            start, end = row[room] + 12, row[to] + 28
            x, reach = GAP + width, 30 + 16 * (row[room] - row[to]) / step
            curve = f"M{x} {start} C{x + reach:.0f} {start} {x + reach:.0f} {end} {x + 2} {end}"
            parts.append(f'<path class="arrow" d="{curve}"/>')
    return svg(GAP + width + 290, 10 + len(ROOMS) * step + 10, parts)


def draw_way(stations: list[tuple[str, str]]) -> str:
    """The way from the first station to the last, two in a row, which a phone can show."""
    parts, columns, wide, step = [], 2, 262, 112
    for n, (station, what) in enumerate(stations):
        check(station)
        row, column = divmod(n, columns)
        x, y = GAP + column * (wide + GAP), 20 + row * step
        module, _, name = station.partition(":")
        parts.append(box(x, y, name, what, wide, f"keras_psp/{module.replace('.', '/')}"))
        if n + 1 < len(stations):
            end = f"h{GAP - 4}" if column + 1 < columns else ""
            start = f"M{x + wide} {y + 31}"
            if not end:  # To the row below, back to the left.
                start, turn = f"M{x + wide / 2:.0f} {y + 80}", (step - 80) / 2
                end = f"v{turn:.0f} H{GAP + wide / 2:.0f} v{turn - 3:.0f}"
            parts.append(f'<path class="arrow" d="{start} {end}"/>')
    rows = -(-len(stations) // columns)
    return svg(columns * (wide + GAP) + GAP, rows * step + 10, parts)


def check(station: str) -> None:
    """Raises an error if what a station names is not there."""
    module, _, name = station.partition(":")
    if not hasattr(importlib.import_module(f"keras_psp.{module}"), name):
        raise ValueError(f"A station must exist. Received: {station}. Say where it is now.")


def box(x, y, name, text, width, where="", height=80) -> str:
    lines = [where, *textwrap.wrap(text, int(width / 7))] if where else []
    beside = "" if where else f'<text x="{x + 150}" y="{y + 24}">{escape(text)}</text>'
    below = "".join(
        f'<text x="{x + 10}" y="{y + 36 + 15 * i}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
        f'<text class="name" x="{x + 10}" y="{y + (19 if where else 24)}">{escape(name)}</text>'
        f"{beside}{below}"
    )


def svg(width, height, parts) -> str:
    marker = (
        '<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        '<path d="M0 0 L7 3 L0 6 z" fill="#8d8d99"/></marker>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">',
            f"<style>{STYLE}</style><defs>{marker}</defs>",
            f'<rect class="card" width="{width:.0f}" height="{height:.0f}" rx="12"/>',
            *parts,
            "</svg>\n",
        ]
    )


def darkened(picture: str) -> str:
    """The picture for a dark page."""
    for light, dark in DARK.items():
        picture = picture.replace(light, dark)
    return picture


def pictures() -> dict[str, str]:
    """Name of each picture → what is in its file."""
    drawn = {name: draw_way(stations) for name, stations in WAYS.items()} | {"folders": draw_map()}
    dark = {f"{name}_dark.svg": darkened(picture) for name, picture in drawn.items()}
    return {f"{name}.svg": picture for name, picture in drawn.items()} | dark


if __name__ == "__main__":
    for name, content in pictures().items():
        (FOLDER / name).write_text(content)
        print(FOLDER / name)
