"""What the tests of models share."""

import keras
import pytest


@pytest.fixture(scope="module", autouse=True)
def zeros_first():
    """Starts kernels from zeros: drawing millions of numbers that no test looks at takes time.

    A test that needs weights that differ calls `randomize`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            keras.initializers.VarianceScaling,
            "__call__",
            lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
        )
        yield


@pytest.fixture(autouse=True)
def eager_steps(request, monkeypatch):
    """Takes steps of `fit`, `evaluate` and `predict` as they are written.

    To trace a step takes ten times as long as to take it. Tests of compiled steps are marked.
    """
    if "compiled" not in request.keywords and keras.backend.backend() == "tensorflow":
        always = property(lambda self: True, lambda self, value: None)
        monkeypatch.setattr(keras.Model, "run_eagerly", always)
