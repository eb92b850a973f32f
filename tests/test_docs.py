"""Whatever the documentation shows runs: examples of docstrings, README and site.
What it says that an example prints, that prints it."""

import ast
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from keras_psp import arguments
from keras_psp.models import BACKBONES
from keras_psp.visualization import write_image
from tests.tiny import tiny_backbone

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What takes hours is run with the same words and smaller numbers.
SMALLER = {
    "epochs=50": "epochs=1",
    "epochs=60": "epochs=1",
    "image_size=(240, 320)": "image_size=(24, 32)",
}
# A backbone is as small, but where its blocks are what is shown.
BLOCKS = "gradient_checkpointing|analysis"
# The home page's three lines train as a user's do; the rest does not wait for TensorFlow's graphs,
# nor for figures where it is not about them.
WHOLE = "docs/index.md"


def examples():
    """Every ```python block, as code with empty lines before it, so that errors name its line; and
    what is in a block of text right below it."""
    for file in PAGES:
        yield from blocks(file.read_text(), str(file.relative_to(ROOT)), 1)
    for file in sorted((ROOT / "keras_psp").rglob("*.py")):
        name = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                continue
            if ast.get_docstring(node, clean=False):
                docstring = node.body[0]
                yield from blocks(docstring.value.value, name, docstring.lineno)


def blocks(text, name, first_line):
    printed = r"```(?:text| \{ \.text \.output \})\n(.*?)^\1```"
    pattern = rf"^( *)```python\n(.*?)^\1```(?:\n\n\1{printed})?"
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        line = first_line + text.count("\n", 0, match.start(2))
        code = "\n" * (line - 1) + textwrap.dedent(match[2])
        printed = None if match[3] is None else textwrap.dedent(match[3])
        yield pytest.param(name, code, printed, id=f"{name}:{line}")


def different(found):
    """What README and home page both show runs once."""
    return list({example.values[1].strip(): example for example in found}.values())


@pytest.fixture(scope="module")
def small_camvid(tmp_path_factory):
    """A folder in the layout of CamVid's SegNet release, with a few small frames of noise."""
    folder, rng = tmp_path_factory.mktemp("data") / "CamVid", np.random.default_rng(0)
    for split in ("train", "val", "test"):
        lines = []
        for number in range(8):
            name = f"{split}/{number}.png", f"{split}annot/{number}.png"
            write_image(folder / name[0], rng.integers(0, 256, (36, 48, 3)))
            write_image(folder / name[1], rng.integers(0, 12, (36, 48)))
            lines.append(" ".join(f"/SegNet/CamVid/{part}" for part in name))
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.filterwarnings("ignore:.*random:UserWarning")  # backbones without the network
@pytest.mark.parametrize("name, code, printed", different(examples()))
def test_example_runs(name, code, printed, small_camvid, tmp_path, monkeypatch, capsys, request):
    if name != WHOLE:
        request.getfixturevalue("eagerly")
        if not re.search("visualization|pictures", name):
            request.getfixturevalue("no_pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_PSP_DATA", str(small_camvid))
    if not re.search(BLOCKS, code):
        for backbone in ("resnet18", "resnet50"):
            monkeypatch.setitem(BACKBONES, backbone, tiny_backbone)
    for large, small in SMALLER.items():
        code = code.replace(large, small)
    exec(compile(code, ROOT / name, "exec"), {"__name__": "example"})
    if printed is not None:
        assert capsys.readouterr().out == printed


def programs():
    """Whatever shows how the package is used, and what measures it: name and code."""
    for name, code, _ in (example.values for example in examples()):
        yield name, code
    for file in PAGES:  # what cannot run here
        pattern = r"^( *)```py\n(.*?)^\1```"
        for match in re.finditer(pattern, file.read_text(), re.MULTILINE | re.DOTALL):
            yield str(file), textwrap.dedent(match[2])
    for folder in ("tutorials", "tests/benchmarks"):
        for file in sorted((ROOT / folder).glob("*.py")):
            yield str(file), file.read_text()


def imported(scope):
    """What a module or a function imports by itself, in this order: of TensorFlow, Keras and us."""
    names = []
    for statement in scope.body:
        if isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            names.append(statement.module)
    packages = [name.partition(".")[0] for name in names]
    return [package for package in packages if package in ("keras", "keras_psp", "tensorflow")]


def test_examples_import_us_first():
    # Set later, what makes TensorFlow fast on a CPU does nothing: see keras_psp.onednn.
    late, number = [], 0
    for name, code in programs():
        for scope in ast.walk(ast.parse(code)):
            packages = imported(scope) if isinstance(scope, ast.Module | ast.FunctionDef) else []
            number += "keras_psp" in packages
            if "keras_psp" in packages[1:] and packages[0] != "keras_psp":
                late.append(name)
    assert not late
    assert number > 60


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(file):
    targets = re.findall(r"\]\((?!https?:|REPOSITORY|#)([^)#]+)", file.read_text())
    for target in targets:
        path = (file.parent / target).resolve()
        if not path.exists() and path.parent.name == "tutorials":  # made by docs/tutorials.py
            path = ROOT / "tutorials" / re.sub(r"(_\d+)?\.\w+$", ".py", path.name)
        if path.name == "pspnet_resnet18_camvid.LICENSE.txt":  # copied by docs/browser.py
            path = ROOT / "keras_psp" / "weights" / path.name
        assert path.exists(), target


def test_all_of_keras_psp_is_on_one_page():
    api = ROOT / "docs/api"
    named = set(re.findall(r"\]\[(keras_psp[\w.]+)\]", (api / "index.md").read_text()))
    described = re.findall(
        r"^::: (\S+)", "\n".join(map(Path.read_text, api.glob("*.md"))), re.MULTILINE
    )
    # Of a module or a longer page, one name at least.
    assert not [
        name for name in described if not any(f"{n}.".startswith(f"{name}.") for n in named)
    ]


def commands():
    """Every call of the command line, in inline code or in a ```bash block."""
    for file in PAGES:
        text = file.read_text()
        shell = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        for code in [*shell, *re.findall(r"`([^`\n]+)`", text)]:
            code = code.replace("\\\n", " ")  # one command over several lines
            found = re.findall(r"^ *(?:.*&& )?keras-psp (\w.+)", code, re.MULTILINE)
            yield from (command for command in found if "$" not in command)  # not in a loop


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_have_these_options(command):
    arguments.parse(command.removesuffix(" --help").split())  # exits where one has not
