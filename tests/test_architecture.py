"""The house is as its map says: imports go one way, and the pictures are of this code."""

import re
import runpy
from pathlib import Path

import pytest

import keras_psp

DRAW = Path(__file__).parents[1] / "docs" / "architecture" / "draw.py"


@pytest.fixture(scope="module")
def house():
    return runpy.run_path(str(DRAW))


def test_folders_import_only_from_those_before(house):
    order = list(house["ROOMS"])
    wrong = [
        f"{room} imports {target}"
        for room, targets in house["room_imports"]().items()
        for target in targets
        if order.index(target) >= order.index(room)
    ]
    assert not wrong


def test_no_two_files_import_each_other(house):
    imports, done = house["module_imports"](), set()

    def visit(module, path):
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for target in imports[module]:
            # A package's own file gathers what its modules define.
            if target and not module.startswith(f"{target}."):
                visit(target, [*path, module])
        done.add(module)

    for module in imports:
        if module:
            visit(module, [])


def test_no_private_name_of_another_file_is_imported(house):
    private = [
        f"{module} imports {name} of {source}"
        for module, file in house["files"]().items()
        for source, name in house["imported"](file)
        if name.startswith("_") and name != "__version__"
    ]
    assert not private


def test_every_module_has_its_room(house):
    loose = {"", "arguments", "onednn", "quiet"}  # What runs before Keras is imported.
    rooms = {name.split(".")[0] for name in house["files"]()}
    assert rooms - loose == set(house["ROOMS"])


def test_pictures_are_of_this_code(house):
    for name, content in house["pictures"]().items():
        assert (DRAW.parent / name).read_text() == content, f"run {DRAW.name}: {name} is old"


def test_only_documented_names_are_public():
    assert dir(keras_psp) == sorted(keras_psp.__all__)
    pages = "".join(page.read_text() for page in DRAW.parents[1].rglob("*.md"))
    missing = [n for n in keras_psp.__all__ if not re.search(rf"\bkeras_psp\.{n}\b", pages)]
    assert not missing
