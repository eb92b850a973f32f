"""Where weights come from: files, their sources, and what is published."""

from keras_psp.weights.loading import load_weights
from keras_psp.weights.published import PRESETS, Preset, WeightsNotAvailable
from keras_psp.weights.sources import SOURCES

__all__ = ["PRESETS", "SOURCES", "Preset", "WeightsNotAvailable", "load_weights"]
