"""PSPNet and the networks it is made of, for Keras 3."""

__version__ = "0.1.0"

from keras_psp import arguments, onednn

# Before anything imports Keras: that takes seconds, and TensorFlow reads its settings meanwhile.
arguments.answer_at_once()
onednn.switch_on()

from keras_psp import (
    analysis,
    callbacks,
    data,
    evaluation,
    experiments,
    inference,
    labels,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    surgery,
    visualization,
    weights,
)
from keras_psp.callbacks import RunFolder, SegmentationPictures, load_run
from keras_psp.data import check_data, load_camvid, load_folder, merge_classes
from keras_psp.data.street_scenes import load_street_scenes, street_scene
from keras_psp.evaluation import compare, evaluate, evaluate_classifier
from keras_psp.inference import (
    classify,
    export,
    segment,
    segment_video,
)
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
    to_fully_convolutional,
)
from keras_psp.surgery import fuse
from keras_psp.weights import load_weights

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
    "callbacks",
    "check_data",
    "classify",
    "compare",
    "data",
    "evaluate",
    "evaluate_classifier",
    "evaluation",
    "experiments",
    "export",
    "fuse",
    "inference",
    "labels",
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
    "segment",
    "segment_video",
    "street_scene",
    "surgery",
    "to_fully_convolutional",
    "visualization",
    "weights",
]
