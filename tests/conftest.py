"""What several tests need: real CamVid where it is at hand, and tiny data sets made on the spot."""

import fcntl
import gc
import importlib.metadata
import os
import runpy

# Two workers on two cores, and arrays too small to be shared: threads would only wait for each
# other. The libraries read this when they are imported.
for threads in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(threads, "1")

# As users do: before Keras, which imports TensorFlow.
import keras_psp  # noqa: F401  # isort: skip

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_psp import visualization
from keras_psp.atomic import write_whole
from tests import browser as chromium
from tests import random_weights

UNPACK = Path(__file__).parents[2] / "shared" / "camvid" / "unpack.py"


def shared_folder(tmp_path_factory):
    """The folder of a whole run, for all its workers."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def camvid(tmp_path_factory):
    """The folder of the real CamVid, train and val splits in the layout of the SegNet release."""
    if not UNPACK.is_file():
        pytest.skip(f"real CamVid is not at hand: no {UNPACK}")
    folder = shared_folder(tmp_path_factory) / "camvid"
    folder.mkdir(exist_ok=True)
    save = Image.Image.save
    with open(folder / "lock", "w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)  # The workers unpack it once, between them.
        # Neither writing nor reading takes as long where nothing is compressed.
        patch.setattr(Image.Image, "save", lambda *args, **_: save(*args, compress_level=0))
        runpy.run_path(str(UNPACK))["unpack"](folder)
    return folder / "CamVid"


@pytest.fixture(scope="module")
def browser():
    """Chromium, for tests marked `needs_a_browser`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = chromium.start(playwright)
        yield started
        started.close()


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


@pytest.fixture(scope="session", autouse=True)
def collect_less_garbage():
    """Spares the libraries' own half a million objects from every search for what to free."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def forget_models():
    """Frees the models of a file of tests: Keras' networks refer to themselves in circles."""
    yield
    keras.utils.clear_session()
    gc.collect()
    # What is left stays: mostly the modules' own objects, a million of them, which every later
    # collection would look through again.
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def xla_compiles_quickly(tmp_path_factory):
    """Leaves out XLA's optimizations, which take longer than what tests compute, on every backend;
    and the processes that tests start on JAX share what XLA has compiled."""
    folder = shared_folder(tmp_path_factory)
    flags = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
    if importlib.metadata.version("tensorflow") >= "2.20":  # XLA aborts at a flag it does not know.
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", " ".join([os.environ.get("XLA_FLAGS", ""), *flags]))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "jax"))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        # Of each operation in a program JAX would write down which lines of Python it comes from.
        patch.setenv("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
        yield


@pytest.fixture(scope="session", autouse=True)
def data_sets_are_not_tuned():
    """Leaves out the thread that tunes a `tf.data.Dataset`: none here is read for long enough, and
    to wait for its end takes a tenth of a `fit`."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    untuned = tf.data.Options()
    untuned.autotune.enabled = False
    begin = tf.data.Dataset.__iter__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.data.Dataset, "__iter__", lambda data: begin(data.with_options(untuned)))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks():
    """Leaves what is written to the system's memory, which a killed process leaves as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


def start_weights_by_numpy(patch):
    """Has NumPy make what weights start from on JAX, which would compile that for each shape."""
    if keras.backend.backend() != "jax":
        return
    import jax

    # Keras would copy an array by a program that XLA compiles for its shape.
    def put(value, dtype):
        return jax.device_put(value.astype(keras.backend.standardize_dtype(dtype)))

    def draw(self, shape, dtype=None):
        # Of about the size that Keras would draw; no test here looks closer.
        deviation = np.prod(shape[:-1]) ** -0.5
        return put(np.random.default_rng(self.seed).normal(0, deviation, shape), dtype)

    def filled(value):
        def fill(self, shape, dtype=None):
            return put(np.full(shape, value), dtype)

        return fill

    initializers = keras.initializers
    patch.setattr(initializers.VarianceScaling, "__call__", draw)
    for kind, value in ((initializers.Zeros, 0), (initializers.Ones, 1)):
        patch.setattr(kind, "__call__", filled(value))


@pytest.fixture(scope="session", autouse=True)
def numpy_starts_weights():
    with pytest.MonkeyPatch.context() as patch:
        start_weights_by_numpy(patch)
        yield


def take_steps_eagerly(patch):
    if keras.backend.backend() == "tensorflow":
        always = property(lambda self: True, lambda self, value: None)
        patch.setattr(keras.Model, "run_eagerly", always)


@pytest.fixture
def eagerly(monkeypatch):
    """Takes steps of `fit`, `evaluate` and `predict` as they are written.

    To trace a step for TensorFlow takes several times as long as to take it.
    """
    take_steps_eagerly(monkeypatch)


@pytest.fixture(scope="module")
def all_eagerly():
    """The same for a file of tests and what they share."""
    with pytest.MonkeyPatch.context() as patch:
        take_steps_eagerly(patch)
        yield


def draw_nothing(patch):
    for name in ("training_curves", "per_class_bars", "segmentation_gallery"):
        patch.setattr(visualization, name, lambda file, *_: write_whole(file, b"a picture"))


@pytest.fixture
def no_pictures(monkeypatch):
    """Writes files of the right names in the place of figures, which take longer than all the rest.

    A fixture of a module draws all the same.
    """
    draw_nothing(monkeypatch)


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


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def randomize():
    """Returns a function that gives a model random weights, moving statistics included."""

    def randomize(model, seed=1):
        # Faster than NumPy's per tensor: slices of one long array of normal numbers.
        normal = np.random.default_rng(seed).normal(size=1 << 20).astype("float32")
        offset = 0
        for variable in model.variables:
            name = variable.path.rpartition("/")[2]
            size = int(np.prod(variable.shape))
            value = np.resize(normal[offset % 1000 :], size).reshape(variable.shape)
            if name in ("kernel", "depthwise_kernel"):
                fan_in = np.prod(variable.shape[:2] if "depthwise" in name else variable.shape[:-1])
                variable.assign(value * fan_in**-0.5)
            elif name in ("gamma", "moving_variance"):
                variable.assign(1.0 + 0.5 * np.tanh(value))
            elif name in ("beta", "moving_mean", "bias"):
                variable.assign(0.3 * value)
            offset += 37

    return randomize


@pytest.fixture(scope="session")
def image():
    """Returns a function that makes random RGB images, 0–255."""

    def image(height, width, batch=1, seed=3):
        size = (batch, height, width, 3)
        return np.random.default_rng(seed).integers(0, 256, size).astype("float32")

    return image


@pytest.fixture
def benchmark(monkeypatch):
    """Returns a function that imports a benchmark, which finds its neighbors as a script does."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "benchmarks")
    return __import__


@pytest.fixture
def tiny_backbone():
    """A functional network with features at 1/4, 1/8 and 1/16: the smallest that is a backbone."""
    image = x = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    for i, filters in enumerate([4, 8, 12, 16], 1):
        x = keras.layers.ZeroPadding2D(1, name=f"pad{i}")(x)
        x = keras.layers.Conv2D(filters, 3, 2, use_bias=False, name=f"conv{i}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{i}")(x)
        x = keras.layers.ReLU(name=f"relu{i}")(x)
    return keras.Model(image, x, name="tiny")
