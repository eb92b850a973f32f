"""Draws the charts of "Results" and "Speed and memory": `python docs/charts.py`.

Every bar is a cell of a table on the page itself. `tests/test_charts.py` draws the charts again and
compares, so that they never say something else than the tables.
"""

import re
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent

GPU = "ResNet-18 from random values, on a GPU"
CPU = "ResNet-18 from random values, on two CPU cores"
BEFORE = "The networks before PSPNet"
PACKAGE = "In the package"
MINUTES = "Accuracy per minute"
TORCH = "Beside PyTorch"
RATIO = "of PyTorch's best"
H200 = "On a GPU"


def beside_pytorch(job):
    """The bars of a job on two CPU cores."""
    return [
        ("keras-psp, AVX-512, AMX", True, TORCH, "", f"AVX-512 and AMX: {job}", RATIO),
        ("keras-psp, AVX2", True, TORCH, "", f"AVX2, emulated: {job}", RATIO),
        ("PyTorch, torch.compile", False, TORCH, job, "PyTorch, torch", RATIO),
        ("PyTorch", False, TORCH, job, "PyTorch, contiguous", RATIO),
        ("keras-psp on PyTorch", True, TORCH, job, "keras-psp on PyTorch", RATIO),
        ("keras-psp on JAX", True, TORCH, job, "keras-psp on JAX", RATIO),
    ]


# A chart: its page and its panels. A panel: title, what the bars are, and the bars. A bar: what
# it is, whether it is ours, and where its figure stands: section, table, row and column.
CHARTS = {
    "results/summary": (
        "results.md",
        [
            (
                "PSPNet-ResNet-18 from random values",
                "mean IoU on CamVid's validation frames; longer is better",
                [
                    ("H200, 5.6 min; four scales", True, GPU, "", "four scales,", "mean IoU"),
                    ("H200, 5.6 min; one scale", True, GPU, "", "one scale", "mean IoU"),
                    ("in the package, 12 MB", True, PACKAGE, "", "the mean in 8", "CamVid's"),
                    ("two CPU cores, 82 min", True, CPU, "", "mean IoU", "`runs/fine`"),
                    ("60 min of two cores, small", True, MINUTES, "", "keras-psp, three", "60 min"),
                    ("5 min of two cores, small", True, MINUTES, "", "keras-psp, light", "5 min"),
                ],
            ),
            (
                "Eight networks under one budget",
                "40 epochs at 120×160 on CamVid, mean IoU of both seeds",
                [
                    ("PSPNet", True, BEFORE, "", "PSPNet", "mean IoU"),
                    ("FCN-8s", False, BEFORE, "", "FCN-8s", "mean IoU"),
                    ("Dilation8's front end", False, BEFORE, "", "Dilation8's", "mean IoU"),
                    ("FCN-16s", False, BEFORE, "", "FCN-16s", "mean IoU"),
                    ("SegNet", False, BEFORE, "", "SegNet", "mean IoU"),
                    ("Dilation8", False, BEFORE, "", "Dilation8", "mean IoU"),
                    ("DeconvNet", False, BEFORE, "", "DeconvNet", "mean IoU"),
                    ("FCN-32s", False, BEFORE, "", "FCN-32s", "mean IoU"),
                ],
            ),
        ],
    ),
    "performance/summary": (
        "performance.md",
        [
            (
                "Inference on two CPU cores",
                "time of an image, PyTorch takes 1; shorter is faster",
                beside_pytorch("inference"),
            ),
            (
                "A training step on two CPU cores",
                "time of an image, PyTorch takes 1; shorter is faster",
                beside_pytorch("training"),
            ),
            (
                "Inference on an H200",
                "images a second, bfloat16; longer is faster",
                [
                    ("keras-psp on JAX", True, H200, "", "keras-psp on JAX", "inference"),
                    ("PyTorch, torch.compile", False, H200, "", "PyTorch, `torch", "inference"),
                    ("PyTorch", False, H200, "", "PyTorch, channels", "inference"),
                    (
                        "keras-psp on PyTorch",
                        True,
                        H200,
                        "",
                        "keras-psp on PyTorch, s",
                        "inference",
                    ),
                ],
            ),
            (
                "Training on an H200",
                "images a second, bfloat16; longer is faster",
                [
                    ("keras-psp on JAX", True, H200, "", "keras-psp on JAX", "training"),
                    ("PyTorch", False, H200, "", "PyTorch, channels", "training"),
                    ("keras-psp on PyTorch", True, H200, "", "keras-psp on PyTorch, u", "training"),
                ],
            ),
        ],
    ),
}

WIDTH, LEFT, LONGEST, STEP = 560, 216, 250, 27
STYLE = """
    .card { fill: #fafafa } text { font: 14px system-ui, sans-serif; fill: #33333d }
    .title { font-weight: 600; font-size: 16px } .what { fill: #5d5d68 }
    .ours { fill: #7e57c2 } .other { fill: #a9a9b5 } .seed { stroke: #33333d; stroke-width: 2 }
"""
DARK = {"#fafafa": "#22242f", "#33333d": "#e4e4ec", "#5d5d68": "#b4b4c0"}
DARK |= {"#7e57c2": "#a587e0", "#a9a9b5": "#74747f"}


def tables(page: str) -> dict[str, list[list[list[str]]]]:
    """Section → its tables: rows of cells, the first row is the head."""
    found: dict[str, list[list[list[str]]]] = {}
    section, inside = "", False
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        is_row = line.lstrip().startswith("|")
        if is_row:
            of_section = found.setdefault(section, [])
            if not inside:
                of_section.append([])
            of_section[-1].append([cell.strip() for cell in line.strip().strip("|").split("|")])
        inside = is_row
    return found


def figures(page: str, section: str, table: str, row: str, column: str) -> list[str]:
    """The figures of one cell. A table is known by its corner, each of the three by its beginning;
    where several rows begin so, the shortest is meant."""
    for head, _, *rows in tables(page)[section]:
        named = {cells[0].replace("*", ""): cells for cells in rows}
        fitting = sorted((name for name in named if name.startswith(row)), key=len)
        columns = [n for n, name in enumerate(head) if name.startswith(column)]
        if head[0].startswith(table) and fitting and columns:
            cell = re.sub(r"\*|\(.*?\)", "", named[fitting[0]][columns[0]])
            return re.findall(r"\d*\.?\d+", cell)
    raise ValueError(
        f"A bar must be a figure of the page. Received: {section}, {table}, {row}, {column}. "
        f"Say where it is now in {page}."
    )


def draw(page: str, panels: list) -> str:
    """One panel below the other."""
    parts, y = [], 12
    for title, what, bars in panels:
        found = [figures(page, *bar[2:]) for bar in bars]
        scale = LONGEST / max(float(value) for values in found for value in values)
        parts += [
            f'<text class="title" x="16" y="{y + 18}">{escape(title)}</text>',
            f'<text class="what" x="16" y="{y + 38}">{escape(what)}</text>',
        ]
        y += 50
        for (name, ours, *_), values in zip(bars, found, strict=True):
            lengths = sorted(float(value) * scale for value in values)
            x = [LEFT + length for length in lengths]
            parts += [
                f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
                f'<rect class="{"ours" if ours else "other"}" x="{LEFT}" y="{y + 2}" '
                f'width="{lengths[-1]:.1f}" height="17" rx="2"/>',
                f'<text x="{x[-1] + 7:.1f}" y="{y + 15}">{escape(", ".join(values))}</text>',
            ]
            for seed in x[:-1]:
                parts.append(f'<path class="seed" d="M{seed:.1f} {y + 2} v17"/>')
            y += STEP
        y += 14
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}"',
            f'  viewBox="0 0 {WIDTH} {y}">',
            f"<style>{STYLE}</style>",
            f'<rect class="card" width="{WIDTH}" height="{y}" rx="12"/>',
            *parts,
            "</svg>\n",
        ]
    )


def charts() -> dict[str, str]:
    """Name of each chart, for light pages and for dark ones → what is in its file."""
    found = {}
    for name, (page, panels) in CHARTS.items():
        found[f"{name}.svg"] = light = draw(page, panels)
        found[f"{name}_dark.svg"] = re.sub("|".join(DARK), lambda color: DARK[color[0]], light)
    return found


if __name__ == "__main__":
    for name, content in charts().items():
        (DOCS / name).write_text(content)
        print(DOCS / name)
