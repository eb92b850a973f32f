"""What happens while a network trains: the run folder, and pictures of every epoch."""

from keras_psp.callbacks.run_folder import RunFolder, SegmentationPictures

__all__ = ["RunFolder", "SegmentationPictures"]
