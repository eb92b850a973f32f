"""PSPNet and the networks it is made of, for Keras 3."""

__version__ = "0.1.0"

from keras_psp import arguments, onednn, quiet

# Before anything imports Keras: that takes seconds, and TensorFlow reads its settings meanwhile.
arguments.answer_at_once()
with quiet.on_the_command_line():
    onednn.switch_on()
    import keras  # noqa: F401

from keras_psp import (
    analysis,
    data,
    labels,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    visualization,
)
from keras_psp.callbacks import RunFolder, SegmentationPictures, load_run
from keras_psp.data import (
    check_data,
    load_camvid,
    load_folder,
    load_pairs,
    load_street_scenes,
    merge_classes,
    street_scene,
)
from keras_psp.evaluation import compare, evaluate, evaluate_classifier
from keras_psp.inference import classify, export, segment, segment_video
from keras_psp.models import (
    FCN,
    VGG,
    AlexNet,
    DeconvNet,
    Dilation8,
    Inception,
    PSPNet,
    ResNet,
    SegNet,
    build_backbone,
    to_fully_convolutional,
)
from keras_psp.surgery import fuse
from keras_psp.weights import load_weights

__all__ = [
    "FCN",
    "VGG",
    "AlexNet",
    "DeconvNet",
    "Dilation8",
    "Inception",
    "PSPNet",
    "ResNet",
    "RunFolder",
    "SegNet",
    "SegmentationPictures",
    "analysis",
    "build_backbone",
    "check_data",
    "classify",
    "compare",
    "data",
    "evaluate",
    "evaluate_classifier",
    "export",
    "fuse",
    "labels",
    "layers",
    "load_camvid",
    "load_folder",
    "load_pairs",
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
    "to_fully_convolutional",
    "visualization",
]


def __dir__() -> list[str]:
    return __all__
