"""Data: CamVid, own folders, augmentation, checks. TensorFlow is imported when it is used."""

from keras_psp.data.batches import Batches as Batches
from keras_psp.data.camvid.loading import load_camvid as load_camvid
from keras_psp.data.checking import DataReport as DataReport
from keras_psp.data.checking import check_data as check_data
from keras_psp.data.folder import load_folder as load_folder
from keras_psp.data.info import DatasetInfo as DatasetInfo
from keras_psp.data.info import attach as attach
from keras_psp.data.info import info_of as info_of
from keras_psp.data.merging import merge_classes as merge_classes
from keras_psp.data.sharding import shard_batches as shard_batches
