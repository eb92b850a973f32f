"""What several tests need: real CamVid where it is at hand, and tiny data sets made on the spot."""

# As users do: before Keras, which imports TensorFlow.
import keras_psp  # noqa: F401  # isort: skip

import gc
import os
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tests import random_weights

UNPACK = Path(__file__).parents[2] / "shared" / "camvid" / "unpack.py"


@pytest.fixture(scope="session")
def camvid(tmp_path_factory):
    """The folder of the real CamVid, train and val splits in the layout of the SegNet release."""
    if not UNPACK.is_file():
        pytest.skip(f"real CamVid is not at hand: no {UNPACK}")
    folder = tmp_path_factory.mktemp("camvid")
    runpy.run_path(str(UNPACK))["unpack"](folder)
    return folder / "CamVid"


@pytest.fixture
def write_image():
    """Returns a function that saves pixels as a PNG, in folders made as needed."""

    def write(path: Path, pixels, mode: str | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.asarray(pixels, np.uint8))
        (image.convert(mode) if mode else image).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def set_random_weights():
    """Returns a function that sets random values everywhere, also where Keras starts from zeros and
    ones, and returns the model or layer."""
    return random_weights.set_random_weights


@pytest.fixture(scope="module", autouse=True)
def forget_models():
    """Frees the models of a file of tests: Keras' networks refer to themselves in circles."""
    yield
    keras.utils.clear_session()
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def jax_compiles_once(tmp_path_factory):
    """Lets the processes that tests start on JAX share what XLA has compiled."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "jax"))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="session")
def real_get_file():
    """Keras' own, for files that a test serves itself."""
    return keras.utils.get_file


@pytest.fixture(scope="session", autouse=True)
def no_downloads(real_get_file):
    """Lets no test wait for weights from the network, or depend on whether there is one."""
    get_file = real_get_file

    def offline(fname, origin, *args, **kwargs):
        if origin.startswith("http"):
            raise OSError("tests do without the network")
        return get_file(fname, origin, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.utils, "get_file", offline)
        yield
