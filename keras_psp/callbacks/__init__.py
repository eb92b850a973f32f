"""What happens while a network trains: the run folder, and pictures of every epoch."""

from keras_psp.callbacks.pictures import SegmentationPictures
from keras_psp.callbacks.run_folder import Run, RunFolder, load_run

__all__ = ["Run", "RunFolder", "SegmentationPictures", "load_run"]
