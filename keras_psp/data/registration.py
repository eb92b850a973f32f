"""Makes `tfds.load("camvid")` work after `import keras_psp`, without importing TensorFlow Datasets.

TensorFlow Datasets knows a builder as soon as its class exists. Importing it costs seconds, and a
user who never says `tfds` should not pay for it: so the class is made right after somebody imports
the package, or at once where somebody has.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = "tensorflow_datasets"
_BUILDER = "keras_psp.data.camvid.builder"


def register_camvid() -> None:
    """Registers CamVid with TensorFlow Datasets, now or when that package is imported."""
    if sys.modules.get(_PACKAGE):  # `None` there means that it must not be imported.
        importlib.import_module(_BUILDER)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow Datasets where it lies, and adds one step to its import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _PACKAGE:
            return None
        sys.meta_path.remove(self)  # Once is enough, and the search below must not come back here.
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            importlib.import_module(_BUILDER)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
