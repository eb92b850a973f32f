"""From a tutorial, a Python program in cells, to the page that shows it with its output.

`python tutorials/pages.py tutorials/first_segmentation.py` runs a tutorial and keeps what it
printed and drew in `docs/tutorials/first_segmentation/`. `mkdocs build` calls `on_files` below,
which makes the page from the program and that record, so that neither is written twice.

A cell begins with `# %%` (code) or `# %% [markdown]` (comments that are the page's text), as in
Jupytext, VS Code and PyCharm, all of which open such a program as a notebook. The names that the
cell with the tag "parameters" sets can be given other values: the tests run everything small.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RECORDS = FOLDER.parent / "docs" / "tutorials"


@dataclasses.dataclass
class Cell:
    kind: str
    text: str
    has_parameters: bool


def cells(program: Path) -> list[Cell]:
    """Splits a program into its cells; what stands before the first one is not shown."""
    found = []
    for part in re.split(r"^# %%", program.read_text(), flags=re.MULTILINE)[1:]:
        header, _, text = part.partition("\n")
        markdown = "[markdown]" in header
        if markdown:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        found.append(
            Cell("markdown" if markdown else "code", text.strip("\n"), '"parameters"' in header)
        )
    return found


def run(program: Path, **parameters: Any) -> list[str]:
    """Runs a tutorial in the working folder.

    Args:
        program: The tutorial.
        **parameters: Other values for names that its cell of parameters sets.

    Returns:
        What each of its code cells printed.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for number, cell in enumerate(cells(program)):
        if cell.kind == "markdown":
            continue
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(cell.text, f"{program.name}, cell {number}", "exec"), namespace)
        outputs.append(printed.getvalue())
        if cell.has_parameters:
            if unknown := parameters.keys() - namespace.keys():
                raise ValueError(f"{program} sets no parameters named {sorted(unknown)}.")
            namespace.update(parameters)
    return outputs


def record(program: Path) -> None:
    """Runs a tutorial at full size and keeps its output for the page."""
    program, folder = program.resolve(), RECORDS / program.stem
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        try:
            outputs = run(program)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for picture in Path(program.stem).glob("*.png"):
                shutil.copy(picture, folder)
        finally:
            os.chdir(before)
    content = {"code": _digest(program), "outputs": outputs}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / "record.json").write_text(text + "\n")


def page(program: Path) -> str:
    """The page of a tutorial: its text, its code, and what that printed when it was recorded."""
    recorded = json.loads((RECORDS / program.stem / "record.json").read_text())
    if recorded["code"] != _digest(program):
        # A warning fails the strict build: the site must not show the output of other code.
        logging.getLogger("mkdocs.hooks.tutorials").warning(
            "The output of %s was recorded from other code. Run: python tutorials/pages.py %s",
            program.name,
            program.relative_to(FOLDER.parent),
        )
    outputs = iter(recorded["outputs"])
    parts = []
    for cell in cells(program):
        if cell.kind == "markdown":
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        if printed := next(outputs, ""):
            parts.append(f"``` {{ .text .output }}\n{printed.rstrip()}\n```")
    parts.append(f"*This page is the program `tutorials/{program.name}` and what it wrote.*")
    return "\n\n".join(parts) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """The hook: MkDocs calls it when it has collected the files of the site."""
    from mkdocs.structure.files import File

    for program in sorted(FOLDER.glob("*.py")):
        if program != Path(__file__):
            name = f"tutorials/{program.stem}.md"
            files.append(File.generated(config, name, content=page(program)))
    return files


def _digest(program: Path) -> str:
    code = "\n".join(cell.text for cell in cells(program) if cell.kind == "code")
    return hashlib.sha256(code.encode()).hexdigest()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        record(Path(name))
