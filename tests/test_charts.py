"""The charts of the site say what the tables beside them say; its pictures are all there."""

import runpy
from pathlib import Path

import pytest

from keras_psp import visualization

DRAW = Path(__file__).parents[1] / "docs/charts.py"


@pytest.fixture(scope="module")
def charts():
    return runpy.run_path(str(DRAW))


def test_charts_are_of_these_tables(charts):
    for name, content in charts["charts"]().items():
        assert (DRAW.parent / name).read_text() == content, f"run {DRAW.name}: {name} is old"


def test_figures_are_those_of_the_cell(charts, tmp_path, monkeypatch):
    page = "# A\n| x | IoU |\n| --- | --- |\n| one | .1 |\n\n## B\n\n??? note\n\n"
    page += "    | y | IoU, % |\n    | --- | --- |\n    | one and two | 3 |\n"
    page += "    | **one** | **.68** (.5 … .9), 7 |\n"
    (tmp_path / "page.md").write_text(page)
    figures = charts["figures"]
    monkeypatch.setitem(figures.__globals__, "DOCS", tmp_path)
    assert figures("page.md", "A", "x", "one", "IoU") == [".1"]
    assert figures("page.md", "B", "y", "one", "IoU") == [".68", "7"]
    with pytest.raises(ValueError, match="Say where it is now"):
        figures("page.md", "B", "x", "one", "IoU")


def test_every_function_that_draws_shows_a_picture():
    page = (DRAW.parent / "api/pictures.md").read_text()
    functions = [name for name in visualization.__all__ if name.islower()]
    shown = [name for name in functions if f"[`{name}`][keras_psp.visualization.{name}]" in page]
    assert shown == functions
    assert page.count("![") == len(functions)
    sizes = [file.stat().st_size for file in (DRAW.parent / "api/pictures").glob("*.webp")]
    assert max(sizes) < 60_000
