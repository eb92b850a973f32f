"""Tutorials run, their notebooks hold what they say now, and their pages what they showed."""

import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("jupytext", reason="what makes tutorials comes with [docs]")
import nbformat
from mkdocs.config import load_config
from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "tutorials").glob("*.py"))


def load():
    """`docs/tutorials.py`, as MkDocs loads it."""
    spec = importlib.util.spec_from_file_location("tutorials", ROOT / "docs" / "tutorials.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        spec.loader.exec_module(module)
    return module


tutorials = load()
each_tutorial = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


def has_changed(script):
    notebook = tutorials.notebook_of(script)
    return notebook.metadata.runs.get("small", {}).get("code") != notebook.metadata.code


@pytest.mark.parametrize("script", filter(has_changed, SCRIPTS), ids=lambda script: script.stem)
def test_changed_tutorial_runs(script):
    tutorials.run(script, "small")


@pytest.mark.tutorials
@each_tutorial
def test_tutorial_runs(script):
    tutorials.run(script, "small")


@pytest.fixture(scope="module")
def only_the_wheel(tmp_path_factory):
    """Has notebooks run in a new environment that holds the package's wheel."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    for command in (
        f"{sys.executable} -m venv {folder}",
        f"{python} -m pip install --quiet {ROOT} ipykernel",
        f"{python} -m ipykernel install --prefix {folder}",
    ):
        subprocess.run(command.split(), check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "share" / "jupyter"))
        patch.delenv("PYTHONPATH", raising=False)
        yield


@pytest.mark.tutorials
@pytest.mark.parametrize("script", SCRIPTS[:3], ids=lambda script: script.stem)
def test_tutorial_runs_with_only_the_wheel(script, only_the_wheel):
    tutorials.run(script, "small")


@each_tutorial
def test_notebook_is_what_the_script_says(script):
    def cells(notebook):
        return [(cell.cell_type, cell.source) for cell in notebook.cells]

    now, recorded = tutorials.notebook_of(script), nbformat.read(script.with_suffix(".ipynb"), 4)
    command = f"python docs/tutorials.py SIZE {script.relative_to(ROOT)}"
    assert now.metadata.code == recorded.metadata.runs.full.code, f"{command}, SIZE is full"
    assert cells(now) == cells(recorded), f"{command}, SIZE is text"
    nbformat.validate(recorded)


@each_tutorial
def test_tutorial_has_what_readers_expect(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), 4)
    assert len(script.read_text().splitlines()) <= 300
    assert script.with_suffix(".ipynb").stat().st_size <= 1_000_000
    head, links, install = notebook.cells[:3]
    assert all(words in head.source for words in ("**You learn**", "**You need**"))
    assert f"blob/main/tutorials/{script.stem}.ipynb" in links.source
    assert "%pip install --quiet --no-deps git+" in install.source
    assert {"full", "small"} == set(notebook.metadata.runs)
    assert all(run["score"] for run in notebook.metadata.runs.values())

    exercises = sum(len(re.findall(r"^\*\*\d\.\*\*", cell.source, re.M)) for cell in notebook.cells)
    answers = [cell for cell in notebook.cells if "answer" in cell.metadata.get("tags", [])]
    assert 3 <= exercises <= 5
    assert sum("assert" in cell.source for cell in answers) == exercises
    assert "Where to go" in notebook.cells[-1].source


def test_notebook_installs_what_its_head_names(tmp_path):
    script = tmp_path / "one.py"
    script.write_text(SCRIPT.replace("[markdown]", '[markdown] packages="onnx tf2onnx"', 1))
    install = tutorials.notebook_of(script).cells[2].source.splitlines()
    assert install[-1] == "    %pip install --quiet onnx tf2onnx"
    assert install[-2].startswith("    %pip install --quiet --no-deps git+")


@each_tutorial
def test_pictures_are_small_and_described(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), 4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.data for output in outputs if "data" in output]
    assert not any(kind.startswith("image/") for data in shown for kind in data)
    pictures = re.findall(r'alt="(.*?)" src="data:image/webp;base64,(.*?)"', str(shown))
    assert pictures
    for text, picture in pictures:
        assert len(text) > 20
        assert len(picture) * 3 / 4 <= 150_000


@each_tutorial
def test_links_of_tutorials_lead_somewhere(script):
    text = "\n".join(line for line in script.read_text().splitlines() if line.startswith("#"))
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert target.startswith("../"), target
        assert (script.parent / target).exists(), target


# What makes them --------------------------------------------------------------------------------

SCRIPT = """# %% [markdown]
# # Title
#
# **You learn** [more](../docs/index.md).

# %%
import os, sys

print(os.environ["TUTORIAL_SIZE"], file=sys.stderr)

# %% tags=["score"]
print(6 * 7)

# %% alt="A red square"
from PIL import Image

Image.new("RGB", (9, 9), "red")

# %% [markdown]
# **1.** [What](../tutorials/two.ipynb) is 2 + 2?

# %% tags=["answer"]
2 + 2

# %% [markdown] tags=["answer"]
# Four.
"""

PAGE = """---
search:
  boost: 2
---

# Title

**You learn** [more](../index.md).

[Open in Colab](https://colab.research.google.com/github/OWNER/keras-psp/blob/main/tutorials/one.ipynb){ .md-button }
[Open in Kaggle](https://kaggle.com/kernels/welcome?src=https://github.com/OWNER/keras-psp/blob/main/tutorials/one.ipynb){ .md-button }

| run | on | takes | reaches |
| --- | --- | --- | --- |
| full size | a laptop | 0.0 minutes | 42 |

```python
import os, sys

print(os.environ["TUTORIAL_SIZE"], file=sys.stderr)
```

```python
print(6 * 7)
```

``` { .text .output }
42
```

```python
from PIL import Image

Image.new("RGB", (9, 9), "red")
```

![A red square](one_0.webp)

**1.** [What](../tutorials/two.md) is 2 + 2?

??? success "Answer"

    ```python
    2 + 2
    ```

    ``` { .text .output }
    4
    ```

    Four.
"""


def test_page_shows_text_code_and_output(tmp_path, monkeypatch, caplog):
    config, files = load_config(str(ROOT / "mkdocs.yml"), plugins=[], hooks=[]), Files([])
    config.plugins["tutorials"] = tutorials
    script = tmp_path / "tutorials" / "one.py"
    script.parent.mkdir()
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    script.write_text(SCRIPT)
    monkeypatch.setattr(tutorials, "ROOT", tmp_path)
    monkeypatch.setattr(tutorials, "REPOSITORY", "https://github.com/OWNER/keras-psp")
    monkeypatch.setenv("TUTORIAL_MACHINE", "a laptop")
    monkeypatch.setattr(tutorials.time, "time", lambda: 0)

    nbformat.write(tutorials.run(script, "full"), script.with_suffix(".ipynb"))
    config.plugins.on_files(files, config=config)
    page = re.sub("\n\\s*\n+", "\n\n", files.get_file_from_path("tutorials/one.md").content_string)
    assert page.strip() == PAGE.strip()
    picture = Image.open(io.BytesIO(files.get_file_from_path("tutorials/one_0.webp").content_bytes))
    assert (picture.format, picture.size) == ("WEBP", (9, 9))
    assert not caplog.records

    script.write_text(SCRIPT.replace("6 * 7", "6 * 8"))
    config.plugins.on_files(files, config=config)
    assert "has changed since it was recorded" in caplog.text
