"""From a tutorial, a program in cells, to its notebook and its page: CONTRIBUTING.md says how."""

import hashlib
import io
import os
import re
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from pathlib import Path

import jinja2
import jupytext
import nbclient
import nbconvert
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File
from PIL import Image
from repository import REPOSITORY

ROOT = Path(__file__).parents[1]
PICTURE = '<img alt="{}" src="data:image/webp;base64,{}">'  # in HTML, which every viewer shows


def notebook_of(script):
    """Puts a head above a script's cells, and below them the outputs that were recorded."""
    file, (title, cells) = script.with_suffix(".ipynb"), script.read_text().split("\n# %%", 1)
    record = nbformat.read(file, 4) if file.exists() else nbformat.v4.new_notebook()
    runs, head = record.metadata.get("runs", {}), ROOT / "docs/notebook.py.j2"
    packages = re.match('# %% .*packages="(.*)"', title)  # that Colab and Kaggle lack
    text = jinja2.Template(head.read_text()).render(locals(), repository=REPOSITORY)
    notebook = combine_inputs_with_outputs(jupytext.reads(text, "py:percent"), record)
    code = "\n".join(cell.source for cell in notebook.cells[3:] if cell.cell_type == "code")
    notebook.metadata.update(runs=runs, code=hashlib.sha256(code.encode()).hexdigest())
    return notebook


def run(script, size):
    """Runs a tutorial in an empty folder. A full run leaves outputs, each its time and score."""
    os.environ["TUTORIAL_SIZE"], notebook, start = size, notebook_of(script), time.time()
    with tempfile.TemporaryDirectory() as folder:
        nbclient.execute(notebook, cwd=folder, record_timing=False, coalesce_streams=True)
    ran = {"code": notebook.metadata.code, "minutes": f"{(time.time() - start) / 60:.1f}"}
    ran["machine"] = os.environ.get("TUTORIAL_MACHINE", f"{os.cpu_count()} CPU cores")
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if picture := output.get("data", {}).get("image/png"):
                Image.open(io.BytesIO(b64decode(picture))).save(webp := io.BytesIO(), "webp")
                source = b64encode(webp.getvalue()).decode()
                output.data = {"text/html": PICTURE.format(cell.metadata.get("alt", ""), source)}
        if "score" in cell.metadata.get("tags", []):
            ran["score"] = cell.outputs[0].text.strip()
    notebook = notebook if size == "full" else notebook_of(script)
    notebook.metadata.runs[size] = ran
    return notebook


def on_files(files, config):
    form = nbconvert.MarkdownExporter(template_file=str(ROOT / "docs/page.md.j2"))
    for script in (ROOT / "tutorials").glob("*.py"):
        notebook = notebook_of(script)
        if notebook.metadata.runs.get("full", {}).get("code") != notebook.metadata.code:
            get_plugin_logger(__name__).warning("%s has changed since it was recorded.", script)
        page = form.from_notebook_node(notebook, {"repository": REPOSITORY})[0]
        for number, match in enumerate(re.finditer(PICTURE.format("(.*?)", "(.*?)"), page)):
            name, content = f"{script.stem}_{number}.webp", b64decode(match[2])
            page = page.replace(match[0], f"![{match[1]}]({name})")
            files.append(File.generated(config, f"tutorials/{name}", content=content))
        files.append(File.generated(config, f"tutorials/{script.stem}.md", content=page))


if __name__ == "__main__":
    for script in map(Path, sys.argv[2:]):
        file = script.with_suffix(".ipynb")
        if sys.argv[1] != "text":
            nbformat.write(run(script, sys.argv[1]), file)
        nbformat.write(notebook_of(script), file)  # the text of today, and the runs in its head
