"""Data: CamVid, own folders, street scenes; augmentation, checks, and what data say they are.

TensorFlow is imported when it is used.
"""

from keras_psp.data import augmentation
from keras_psp.data.batches import Batches
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.camvid.loading import load_camvid
from keras_psp.data.checking import DataReport, check_data
from keras_psp.data.class_lists import ADE20K, CITYSCAPES, VOC2012
from keras_psp.data.folder import load_folder, load_pairs
from keras_psp.data.info import DatasetInfo, attach, info_of
from keras_psp.data.merging import merge_classes
from keras_psp.data.options import LoadingOptions
from keras_psp.data.sharding import shard_batches
from keras_psp.data.street_scenes import load_street_scenes, street_scene

__all__ = [
    "ADE20K",
    "CAMVID",
    "CITYSCAPES",
    "VOC2012",
    "Batches",
    "DataReport",
    "DatasetInfo",
    "LoadingOptions",
    "attach",
    "augmentation",
    "check_data",
    "info_of",
    "load_camvid",
    "load_folder",
    "load_pairs",
    "load_street_scenes",
    "merge_classes",
    "shard_batches",
    "street_scene",
]
