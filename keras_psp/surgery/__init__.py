"""How a given network is rewritten: its batch normalization fused, its cost counted."""

from keras_psp.surgery.fusion import fuse

__all__ = ["fuse"]
