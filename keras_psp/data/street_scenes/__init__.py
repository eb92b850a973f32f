"""Street scenes that the program draws: data with CamVid's classes where there is no data set."""

from keras_psp.data.street_scenes.drawing import street_scene
from keras_psp.data.street_scenes.loading import load_street_scenes

__all__ = ["load_street_scenes", "street_scene"]
