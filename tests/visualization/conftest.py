"""Figures and pictures that can be looked into."""

import numpy as np
import pytest
from PIL import Image

from keras_psp.visualization import figures


@pytest.fixture
def figure(monkeypatch):
    """Figures come back as Matplotlib holds them, so that their panels can be looked into."""
    monkeypatch.setattr(figures, "finish", lambda figure, file: figure)


@pytest.fixture
def read():
    """Returns a function that reads the pixels of a picture file."""
    return lambda file: np.asarray(Image.open(file).convert("RGB"))
