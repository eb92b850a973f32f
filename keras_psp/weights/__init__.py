"""Where weights come from: files, their sources, and what is published."""

from keras_psp.weights.loading import load_weights
from keras_psp.weights.published import PUBLISHED, WeightsNotAvailable
from keras_psp.weights.sources import SOURCES

__all__ = ["PUBLISHED", "SOURCES", "WeightsNotAvailable", "load_weights"]
