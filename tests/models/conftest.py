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
            lambda self, shape, dtype=None: keras.initializers.Zeros()(shape, dtype),
        )
        yield


@pytest.fixture(autouse=True)
def eager_steps(request):
    """Of models, tests of compiled steps are marked."""
    if "compiled" not in request.keywords:
        request.getfixturevalue("eagerly")
