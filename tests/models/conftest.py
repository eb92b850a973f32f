"""What the tests of models share."""

import keras
import numpy as np
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
