"""PSPNet and the networks it is made of, for Keras 3."""

__version__ = "0.1.0"

from keras_psp import arguments, onednn

# Before anything imports Keras: that takes seconds, and TensorFlow reads its settings meanwhile.
arguments.answer_at_once()
onednn.switch_on()

from keras_psp import (
    analysis,
    classes,
    classification,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    pictures,
)
from keras_psp.callbacks import RunFolder, SegmentationPictures
from keras_psp.classification import classify, evaluate_classifier, to_fully_convolutional
from keras_psp.data import check_data, load_camvid, load_folder, merge_classes
from keras_psp.data.registration import register_camvid
from keras_psp.data.street_scenes import load_street_scenes, street_scene
from keras_psp.evaluation import compare, evaluate
from keras_psp.exporting import export
from keras_psp.folding import inference_form
from keras_psp.inference import load_run, segment
from keras_psp.layers import (
    BasicBlock,
    BilinearUpsample,
    DilatedBottleneck,
    InceptionModule,
    LocalResponseNormalization,
    PyramidPooling,
)
from keras_psp.models import (
    VGG,
    AlexNet,
    Inception,
    PSPNet,
    ResNet,
    SimpleSegmentationNet,
    build_backbone,
    load_weights,
)
from keras_psp.video import segment_video

__all__ = [
    "VGG",
    "AlexNet",
    "BasicBlock",
    "BilinearUpsample",
    "DilatedBottleneck",
    "Inception",
    "InceptionModule",
    "LocalResponseNormalization",
    "PSPNet",
    "PyramidPooling",
    "ResNet",
    "RunFolder",
    "SegmentationPictures",
    "SimpleSegmentationNet",
    "analysis",
    "build_backbone",
    "check_data",
    "classes",
    "classification",
    "classify",
    "compare",
    "evaluate",
    "evaluate_classifier",
    "export",
    "inference_form",
    "layers",
    "load_camvid",
    "load_folder",
    "load_run",
    "load_street_scenes",
    "load_weights",
    "losses",
    "merge_classes",
    "metrics",
    "models",
    "optimizers",
    "pictures",
    "segment",
    "segment_video",
    "street_scene",
    "to_fully_convolutional",
]

register_camvid()
