"""Arguments of the wrong kind: every public function takes them, or says what is wrong with them.

Each row calls a function as it is meant. The test replaces one argument after the other by a
strange value: that works and means something, or the error says rule, `Received:` and repair.
"""

import importlib.util
import inspect
import numbers
import random
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import (
    analysis,
    data,
    evaluation,
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
from keras_psp.data import augmentation
from keras_psp.models import vgg
from tests import tiny

MODULES = [
    keras_psp, analysis, keras_psp.callbacks, data, augmentation, data.camvid, data.street_scenes,
    evaluation, inference, labels, layers, losses, metrics, models, optimizers, surgery,
    visualization, weights,
]  # fmt: skip

# What functions return, made by nobody else; and what losses and metrics are made of.
NOT_CALLED_BY_USERS = {
    "Box", "ClassifierEvaluation", "Comparison", "Costs", "DataReport", "EffectiveReceptiveField",
    "Evaluation", "LayerCost", "LayerField", "Preset", "ReceptiveField", "Run", "ScoredImage",
    "ScoreOfCounts", "TrainingMemory", "WeightsNotAvailable", "Classifier", "check_class_axis",
    "check_same_classes", "classes_last", "label_map", "named_classes", "valid_labels",
    "weight_map",
}  # fmt: skip
# Of Keras, which checks them in its own way.
KERAS_OWN = {"dtype", "name", "data_format", "value_range"}

_REST = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD

STRANGE = [
    None, True, 0, -1, 1.5, float("nan"), float("inf"), 10**30, np.float32(1), np.int64(10**12),
    "a", "", b"a", Path("a"), [], ["a"], [None], (0, 0), (-1, 2), (1, 2, 3, 4, 5), {}, {"a": 1},
    object(), len, np.zeros((2, 2)), np.array(["a"]), 1j, int,
]  # fmt: skip


def kind(value):
    """What a value is by a glance: a strange value of another kind than the usual is nonsense."""
    if isinstance(value, bool | np.bool_):
        return "flag"
    if isinstance(value, numbers.Integral):
        return "negative" if value < 0 else "whole" if value < 10**9 else "huge"
    if isinstance(value, numbers.Real):
        return "number" if np.isfinite(value) else "not finite"
    if isinstance(value, str | Path):
        return "text" if str(value) else "no text"
    if value is None:
        return "none"
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        return f"sequence of {'text' if np.asarray(value).dtype.kind == 'U' else 'number'}"
    if isinstance(value, list | tuple):
        of = {kind(one) for one in value}
        of = {"number" if one in ("whole", "huge", "negative") else one for one in of}
        return f"sequence of {of.pop()}" if len(of) == 1 else "sequence"
    return "mapping" if isinstance(value, dict) else type(value).__name__


def may_be(value, usual):
    """Whether a strange value may be what the `usual` kinds of an argument are."""
    found = kind(value)
    if "anything" in usual:
        return True
    if found == "whole":
        return bool(usual & {"whole", "number"})
    if found == "huge":
        return bool(usual & {"huge", "number"})
    if found == "sequence":
        return any("sequence" in one for one in usual)
    return found in usual


class Row:
    """A call as it is meant.

    Args:
        function: The function.
        valid: Its arguments.
        also: Name of an argument → kinds of other values that it takes.
        then: What is done with the result, so that nothing wrong stays unseen.
        never: Name of an argument → kind of values that are not tried.
        slow: Whether a call takes so long that fewer are tried.
    """

    def __init__(self, function, valid=None, also=None, then=None, slow=False, never=None):
        self.function, self.valid, self.also = function, valid or {}, also or {}
        self.never = never or {}
        self.then, self.slow = then or (lambda result: result), slow

    def call(self, **changes):
        return self.then(self.function(**self.valid | changes))

    def arguments(self):
        """The arguments, and the kinds of values that each of them takes."""
        for name, parameter in inspect.signature(self.function).parameters.items():
            if name in KERAS_OWN or parameter.kind in _REST:
                continue
            usual = {*self.also.get(name, "").split(", ")}
            if "seed" in name:
                usual |= {"whole", "huge"}
            for value in (self.valid.get(name, parameter.default), parameter.default):
                if value is not inspect.Parameter.empty:
                    usual.add(kind(value))
            yield name, usual


MAP = np.zeros((1, 8, 8, 4), "float32")
IMAGE = np.full((8, 8, 3), 7, "uint8")
LABEL = np.array([[0, 1, 2, 255]] * 4).repeat(2, 0).repeat(2, 1)
FILE = {"file": "none, text"}


def build_rows(folder):
    model = tiny.Tiny()
    network = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, name="conv"), keras.layers.Flatten(),
         keras.layers.Dense(3, "softmax")]
    )  # fmt: skip
    network = keras.Model(network.inputs, network.outputs)
    batches = [tiny.data(2)]
    files = make_folder(folder)
    scores = keras_psp.evaluate(model, batches)
    field = analysis.receptive_field(network, "conv")
    effective = analysis.effective_receptive_field(network, "conv", images=IMAGE[None] / 1.0)
    run = make_run(folder / "run")
    scenes = keras_psp.load_street_scenes("val", (12, 16), 2, num_images=2)
    classes = labels.ClassList(["a", "b", "c"])
    history = {"loss": [2.0, 1.0], "val_loss": [2.0, 1.5]}

    def on(x):
        return lambda layer: layer(x)

    def read(loaded):
        return [next(iter(one)) for one in (loaded if isinstance(loaded, list) else [loaded])]

    net = {"backbone": "tiny", "num_classes": 3, "backbone_weights": None}
    activated = {"input_shape": "sequence", "classifier_activation": "none"}
    top = {"include_top": False, "weights": None}
    loading = {"augment": "text, none, sequence", "crop_size": "sequence of number",
               "shuffle": "flag", "cache": "flag", "drop_remainder": "flag", "antialias": "flag",
               "split": "sequence of text",
               "image_size": "none, sequence of number",
               "centered_on": "sequence of text"}  # fmt: skip
    plain = {"batch_size": 1, "augment": None}  # TensorFlow takes a second to compile one.
    net_also = {"input_shape": "sequence", "weights": "text", "backbone_weights": "text"}
    sized = {"image_size": "none, whole, sequence of number", "views": "text"}
    own = {**loading, "classes": "sequence of text, text", "labels": "text, mapping",
           "validation_split": "number"}  # fmt: skip
    drawn = {**FILE, "classes": "none"}
    metric = {"num_classes": 3}
    metric_also = {
        "ignore_class": "none, whole, negative",
        "sparse_y_pred": "flag",
        "axis": "negative",
    }
    squares = np.eye(3, dtype=int)
    pair = {"labels": LABEL[None], "predictions": LABEL[None] % 255, "num_classes": 3}

    rows = {
        "PSPNet": Row(keras_psp.PSPNet, net, net_also, slow=True),
        "FCN": Row(keras_psp.FCN, {**net, "fc_channels": 4},
                   {**net_also, "dropout": "number"}, slow=True),
        "SegNet": Row(keras_psp.SegNet, {**net, "backbone": "vgg11_bn"}, net_also, slow=True),
        "DeconvNet": Row(keras_psp.DeconvNet, {**net, "backbone": "vgg11_bn", "fc_channels": 4},
                         net_also, slow=True),
        "Dilation8": Row(keras_psp.Dilation8, {**net, "fc_channels": 4}, net_also, slow=True),
        "SegmentationModel": Row(Simplest, net, net_also, slow=True),
        "AlexNet": Row(keras_psp.AlexNet, top, activated, slow=True),
        "VGG": Row(keras_psp.VGG, {"variant": "vgg11", **top}, activated,
                   slow=True),
        "Inception": Row(keras_psp.Inception, top,
                         {**activated, "dropout": "number"}, slow=True),
        "ResNet": Row(keras_psp.ResNet, {"variant": "resnet20", "weights": None},
                      {**activated, "dropout": "number", "num_classes": "whole",
                       "output_stride": "whole", "residual": "flag", "shortcut": "text"},
                      slow=True),
        "build_classifier": Row(
            models.build_classifier,
            {"variant": "a", "features": keras.layers.Conv2D(2, 3), "any_size": True,
             "weights": None, "num_classes": 3},
            {"hidden": "sequence of number",
             "fixed_unless": "text", "pooling": "text", "input_shape": "sequence",
             "classifier_activation": "none"},
            # Functions of users fail in their own way.
            never=dict.fromkeys(("features", "model_class"), "builtin_function_or_method, type")),
        "build_backbone": Row(models.build_backbone, {"backbone": "tiny", "weights": None},
                              {"stages": "sequence of text", "input_shape": "sequence"}),
        "to_fully_convolutional": Row(keras_psp.to_fully_convolutional, {"model": network},
                                      {"image_size": "sequence of number"}),
        "model_from_checkpoint": Row(models.model_from_checkpoint,
                                     {"path": make_checkpoint(folder)}, slow=True),
        "fuse": Row(keras_psp.fuse, {"model": model},
                    {"image_size": "sequence", "batch_size": "whole", "dtype": "text"}),
        "dilate": Row(surgery.dilate, {"model": keras.applications.MobileNet(
            include_top=False, weights=None, alpha=0.25, input_shape=(32, 32, 3)),
            "output_stride": 16}, {"input_shape": "sequence", "outputs": "sequence"}, slow=True),
        "load_weights": Row(keras_psp.load_weights, {"model": model, "path": run / "a.weights.h5"}),
        "RunFolder": Row(keras_psp.RunFolder, {"folder": folder / "new"},
                         {"settings": "mapping", "validation_data": "sequence"}),
        "SegmentationPictures": Row(keras_psp.SegmentationPictures,
                                    {"data": batches, "folder": folder / "pictures"},
                                    {"log_dir": "text"}),
        "load_run": Row(keras_psp.load_run, {"folder": run}),
        "evaluate": Row(keras_psp.evaluate, {"model": model, "data": batches},
                        {**sized, "data": "sequence"}),
        "compare": Row(keras_psp.compare, {"result": scores, "baseline": scores,
                                           "num_resamples": 10}),
        "evaluate_classifier": Row(
            keras_psp.evaluate_classifier,
            {"models": network, "data": [(IMAGE[None], np.array([1]))], "image_size": 8},
            {**sized, "crop_size": "whole"}),
        "classify": Row(keras_psp.classify,
                        {"models": network, "images": [IMAGE], "image_size": 8},
                        {**sized, "crop_size": "whole", "images": "sequence"}),
        "cut_views": Row(inference.cut_views, {"image": IMAGE, "image_size": 8, "crop_size": 4},
                         {**sized, "image": "text"}),
        "segment": Row(keras_psp.segment, {"model": model, "image": IMAGE},
                       {**sized, "image": "sequence", "max_pixels": "huge"}),
        "Views": Row(inference.Views, {}, {"window_size": "whole, sequence of number",
                                           "antialias": "flag", "crops": "sequence of text"},
                     lambda views: (views.sizes(8, 8), views.boxes(8, 8, 4))),
        "export": Row(keras_psp.export, {"model": model, "path": folder / "a.keras"},
                      {"image_size": "sequence", "batch_size": "whole", "format": "text",
                       "quantize": "text", "calibration_data": "sequence of number"}, slow=True),
        "segment_video": Row(keras_psp.segment_video,
                             {"model": model, "source": make_video(folder),
                              "target": folder / "b.mp4"}, sized, slow=True),
        "check_data": Row(keras_psp.check_data, {"folder": files},
                          {**own, "folder": "text, sequence"}),
        "load_camvid": Row(keras_psp.load_camvid, {"data_dir": make_camvid(folder), **plain,
                                                   "image_size": (12, 16)},
                           {**loading, "data_dir": "text"}, read, slow=True),
        "load_folder": Row(keras_psp.load_folder, {"folder": files, **plain}, own, read,
                           slow=True),
        "load_pairs": Row(keras_psp.load_pairs,
                          {"pairs": [(files / "train/images/0.png", files / "train/labels/0.png")],
                           "classes": classes, **plain},
                          {**own, "pairs": "text, sequence"}, read, slow=True),
        "load_street_scenes": Row(keras_psp.load_street_scenes,
                                  {"image_size": (12, 16), "num_images": 2, **plain},
                                  loading, read, slow=True,
                                  # That is hundreds of scenes.
                                  never={"num_images": "none"}),
        "street_scene": Row(keras_psp.street_scene, {"seed": 1, "image_size": (12, 16)}),
        "merge_classes": Row(keras_psp.merge_classes,
                             {"data": scenes, "classes": {"a": ["Road"]}, "rest": "b"},
                             {"data": "sequence", "rest": "none, text"}),
        "shard_batches": Row(data.shard_batches, {"data": scenes, "batch_size": 2},
                             {"num_shards": "whole", "index": "whole", "data": "sequence"}),
        "LoadingOptions": Row(data.LoadingOptions, {}, loading),
        "Batches": Row(data.Batches, {"make": lambda epoch, index: batches[0], "length": 2},
                       {"make": "builtin_function_or_method, type"}),
        "DatasetInfo": Row(data.DatasetInfo, {"classes": classes},
                           {"split": "text", "merging": "text",
                            "sample_names": "sequence of text"}),
        "attach": Row(data.attach, {"data": scenes, "info": data.info_of(scenes)},
                      {"set_epoch": "function, builtin_function_or_method, type",
                       "data": "builtin_function_or_method, type"}),
        # Whatever does not say what it is has no info.
        "info_of": Row(data.info_of, {"data": scenes}, {"data": "anything"}),
        "get": Row(augmentation.get, {"augment": "authors", "output_size": (8, 8)},
                   {"augment": "none, sequence", "centered_on": "sequence of number"}),
        "Augmentation": Row(augmentation.Augmentation, {"layers": [augmentation.RandomBlur()]},
                            {"output_size": "sequence of number"}),
        "RandomView": Row(augmentation.RandomView, {"height": 4, "width": 4},
                          {"centered_on": "sequence of number"},
                          on(IMAGE[None] / 1.0)),
        "RandomBlur": Row(augmentation.RandomBlur, {}, {"seed": "whole"}, on(IMAGE[None] / 1.0)),
        "RandomColors": Row(augmentation.RandomColors, {}, dict.fromkeys(
            ("brightness_factor", "contrast_factor", "saturation_factor"),
            "number, sequence of number"), on(IMAGE[None] / 1.0)),
        "ClassList": Row(labels.ClassList, {"names": ["a", "b"]}, {"colors": "sequence"}),
        "distinct_colors": Row(labels.distinct_colors, {"count": 3}),
        "numbered_classes": Row(labels.numbered_classes, {"count": 3}),
        "median_frequency_weights": Row(labels.median_frequency_weights,
                                        {"pixels": [5, 5], "present": [9, 9]}),
        "class_weights": Row(labels.class_weights, {"data": batches, "num_classes": 3},
                             {"power": "negative", "data": "sequence"}),
        "LabelColors": Row(labels.LabelColors, {"colors": {(1, 2, 3): 0}}),
        "LabelValues": Row(labels.LabelValues, {"labels": [255, 0]}, {"labels": "mapping"}),
        "BasicBlock": Row(layers.BasicBlock, {"filters": 4}, {"second_dilation_rate": "whole"},
                          on(MAP)),
        "DilatedBottleneck": Row(layers.DilatedBottleneck, {"filters": 4}, {}, on(MAP)),
        "BatchNormalization": Row(layers.BatchNormalization, {}, {"axis": "negative, whole"},
                                  on(MAP)),
        "BedOfNails": Row(layers.BedOfNails, {}, {}, on(MAP)),
        "Bilinear": Row(layers.Bilinear),
        "IdentityKernel": Row(layers.IdentityKernel),
        "BilinearUpsample": Row(layers.BilinearUpsample, {"factor": 2},
                                {"size": "sequence of number"}, on(MAP)),
        "Crop": Row(layers.Crop),
        "DilatedAveragePooling2D": Row(layers.DilatedAveragePooling2D, {}, {}, on(MAP)),
        "DilatedMaxPooling2D": Row(layers.DilatedMaxPooling2D, {}, {}, on(MAP)),
        "ImageNormalization": Row(layers.ImageNormalization, {}, {}, on(IMAGE[None])),
        "InceptionModule": Row(layers.InceptionModule, dict.fromkeys(
            (f"filters_{n}" for n in ["1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool"]), 2),
            {}, on(MAP)),
        "LocalResponseNormalization": Row(layers.LocalResponseNormalization, {},
                                          {"beta": "negative"}, on(MAP)),
        "MaxPoolWithArgmax": Row(layers.MaxPoolWithArgmax, {}, {}, on(MAP)),
        "MaxUnpool": Row(layers.MaxUnpool, {}, {"size": "sequence of number"},
                         lambda layer: layer(MAP, MAP.astype("uint8"))),
        "PaddedConv2D": Row(layers.PaddedConv2D, {"filters": 2, "kernel_size": 3}, {}, on(MAP)),
        "PaddedMaxPooling2D": Row(layers.PaddedMaxPooling2D, {"pool_size": 3, "strides": 2}, {},
                                  on(MAP)),
        "PyramidAveragePooling2D": Row(layers.PyramidAveragePooling2D, {"bins": [1, 2]}, {},
                                       on(MAP)),
        "PyramidMaxPooling2D": Row(layers.PyramidMaxPooling2D, {"bins": [1, 2]}, {}, on(MAP)),
        "PyramidConv2D": Row(layers.PyramidConv2D, {"filters": 2}, {}, on(MAP)),
        "PyramidPooling": Row(layers.PyramidPooling, {}, {"filters": "whole"}, on(MAP)),
        "ReflectPadding2D": Row(layers.ReflectPadding2D, {"padding": 1}, {}, on(MAP)),
        "SegmentationHead": Row(layers.SegmentationHead, {"filters": 4, "num_classes": 3}, {},
                                on(MAP)),
        "SparseCategoricalCrossentropy": Row(
            losses.SparseCategoricalCrossentropy, {},
            {"ignore_class": "none, whole, negative", "reduction": "none, text", "axis": "negative",
             "class_weights": "sequence of number"}),
        **{name: Row(getattr(metrics, name), metric, metric_also)
           for name in ("MeanIoU", "MeanAccuracy", "PixelAccuracy")},
        "ConfusionMatrixMetric": Row(metrics.ConfusionMatrixMetric, {**metric, "name": "counts"},
                                     metric_also),
        "segmentation_scores": Row(metrics.segmentation_scores, metric),
        "confusion_matrix": Row(metrics.confusion_matrix, pair,
                                {"ignore_class": "none, whole, negative"}),
        "boundary_confusion_matrix": Row(metrics.boundary_confusion_matrix, pair,
                                         {"ignore_class": "none, whole, negative"}),
        **{name: Row(getattr(metrics, name), {"confusion_matrix": squares})
           for name in ("accuracy_per_class", "class_areas", "iou_per_class")},
        # Of single numbers, too.
        "iou": Row(metrics.iou, dict.fromkeys(("intersection", "target", "predicted"), squares[0]),
                   dict.fromkeys(("intersection", "target", "predicted"), "number, negative")),
        "mean_of_present": Row(metrics.mean_of_present, {"values": np.ones(3)},
                               {"values": "number, negative, not finite, flag"}),
        "PolynomialDecay": Row(optimizers.PolynomialDecay, {}, {"total_steps": "whole"}),
        "SGD": Row(optimizers.SGD, {}, {"learning_rate": "number", "weight_decay": "number",
                                        "learning_rate_multipliers": "mapping"}),
        "recipe": Row(optimizers.recipe),
        "adamw": Row(optimizers.adamw),
        "best_at_stride": Row(analysis.best_at_stride,
                              {"labels": LABEL[None], "num_classes": 3, "steps": 1},
                              {"image_size": "sequence of number"}),
        "convolution_matrix": Row(analysis.convolution_matrix, {"kernel": [1, 2, 3], "size": 5},
                                  {"padding": "whole", "size": "sequence of number"}),
        "output_size": Row(analysis.output_size, {"size": 9, "kernel_size": 3},
                           {"padding": "whole"}),
        "count": Row(analysis.count, {"model": network}, {"image_size": "sequence of number"}),
        "receptive_field": Row(analysis.receptive_field, {"model": network, "layer": "conv"},
                               {"image_size": "sequence of number"}),
        "effective_receptive_field": Row(
            analysis.effective_receptive_field, {"model": network, "layer": "conv"},
            {"image_size": "sequence of number", "images": "sequence"}),
        "training_memory": Row(analysis.training_memory,
                               {"model": network, "image_size": (8, 8), "batch_size": 1}),
        "colorize": Row(visualization.colorize, {"labels": LABEL},
                        {"labels": "whole", "classes": "none"}),
        "overlay": Row(visualization.overlay, {"image": IMAGE, "labels": LABEL}, {}),
        "error_map": Row(visualization.error_map, {"truth": LABEL, "prediction": LABEL % 255},
                         {"label": "whole"}),
        "write_image": Row(visualization.write_image, {"file": folder / "c.png", "picture": LABEL}),
        "class_errors": Row(visualization.class_errors,
                            {"file": None, "image": IMAGE, "truth": LABEL,
                             "prediction": LABEL % 255, "classes": classes},
                            {**drawn, "names": "text, sequence of text"}, slow=True),
        "visualization.confusion_matrix": Row(visualization.confusion_matrix,
                                              {"file": None, "matrix": squares}, drawn, slow=True),
        "degradation_curves": Row(visualization.degradation_curves,
                                  {"file": None, "histories": {("a", 1): [
                                      {"step": 1, "train_error": 0.5, "test_error": 0.6}]}},
                                  FILE, slow=True),
        "legend": Row(visualization.legend, {"file": None, "classes": classes}, FILE, slow=True),
        "overlaps": Row(visualization.overlaps, {"file": None, "counts": {"a": np.eye(3)}}, FILE,
                        slow=True),
        "per_class_bars": Row(visualization.per_class_bars, {"file": None, "iou": [0.5, 0.2]},
                              drawn, slow=True),
        "points_per_seed": Row(visualization.points_per_seed,
                               {"file": None, "scores": {"a": [{"mean_iou": 0.5}]}}, FILE,
                               slow=True),
        "pyramid_activations": Row(
            visualization.pyramid_activations,
            {"file": None, "model": keras_psp.PSPNet(**net), "image": IMAGE.repeat(2, 0)}, FILE,
            slow=True),
        "visualization.receptive_field": Row(
            visualization.receptive_field,
            {"file": None, "image": IMAGE, "field": field, "effective": effective},
            {**FILE, "effective": "none", "cell": "sequence of number"}, slow=True),
        "segmentation_gallery": Row(
            visualization.segmentation_gallery,
            {"file": None, "images": [IMAGE], "truths": [LABEL], "predictions": [LABEL % 255]},
            drawn | {"truths": "none", "predictions": "none"}, slow=True),
        "training_curves": Row(visualization.training_curves, {"file": None, "history": history},
                               {**FILE, "history": "text"}, slow=True),
    }  # fmt: skip
    return rows


class Simplest(models.SegmentationModel):
    """A network of one's own, as the documentation shows one."""

    def build_decoder(self, features):
        self.head = keras.layers.Conv2D(self.num_classes, 1, name="head")

    def decode(self, features, training=None):
        return self.head(features["P5"])


def make_folder(folder):
    for number in range(2):
        visualization.write_image(folder / f"mine/train/images/{number}.png", IMAGE)
        visualization.write_image(folder / f"mine/train/labels/{number}.png", LABEL)
    (folder / "mine" / "classes.txt").write_text("a\nb\nc")
    return folder / "mine"


def make_camvid(folder):
    for split, frame in (("train", "0016E5_00901"), ("val", "0016E5_07959")):
        for part, picture in ((split, IMAGE), (f"{split}annot", LABEL % 12)):
            visualization.write_image(folder / "camvid" / part / f"{frame}.png", picture)
    return folder / "camvid"


def make_run(folder):
    model = tiny.Tiny()
    images, truths = tiny.data(2)
    model.compile(optimizers.SGD(0.1), metrics=[metrics.MeanIoU(3)])
    options = {"verbose": 0, "validation_data": (images, truths)}
    model.fit(images, truths, callbacks=[keras_psp.RunFolder(folder)], **options)
    model.save_weights(folder / "a.weights.h5")
    return folder


def make_checkpoint(folder):
    """A file of NumPy with the names of torchvision's AlexNet, without its last layers."""
    network = keras_psp.AlexNet("alexnet_torchvision", include_top=False, weights=None)
    tensors = {}
    for place, number in zip((0, 3, 6, 8, 10), range(1, 6), strict=True):
        kernel, bias = network.get_layer(f"conv{number}").get_weights()
        tensors |= {f"features.{place}.weight": kernel.transpose(3, 2, 0, 1)}
        tensors |= {f"features.{place}.bias": bias}
    np.savez(folder / "alexnet.npz", **tensors)
    return folder / "alexnet.npz"


def make_video(folder):
    """Two frames, or where PyAV is missing a name of none: that is what is said, then."""
    file = folder / "a.mp4"
    if importlib.util.find_spec("av"):
        import av

        with av.open(str(file), "w") as out:
            stream = out.add_stream("mpeg4", rate=10, width=16, height=16)
            for _ in range(2):
                picture = IMAGE.repeat(2, 0).repeat(2, 1)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode())
    return file


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arguments")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # Strange values are names of files, too.
        patch.setitem(models.BACKBONES, "tiny", tiny.tiny_backbone)
        patch.setattr(vgg, "_FILTERS", (2, 2, 2, 2, 2))
        yield build_rows(folder)


def tried(row, seed, most=None):
    """Yields the calls of a row: an argument, its usual kinds and a strange value."""
    for name, usual in row.arguments():
        values = STRANGE if most is None else random.Random(f"{seed} {name}").sample(STRANGE, most)
        never = row.never.get(name, "nothing").split(", ")
        yield from ((name, usual, value) for value in values if kind(value) not in never)


def outcome(row, name, usual, value):
    """What comes of a call: works, is clear, unclear or silent; and what was said."""
    try:
        row.call(**{name: value})
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        clear = isinstance(error, ValueError | TypeError | OSError) and "Received: " in said
        return ("clear" if clear else "unclear"), said
    if may_be(value, usual):
        return "works", ""
    return "silent", ""


def public_names():
    """Yields the names of all functions and classes that users call, and these."""
    for module in MODULES:
        name = module.__name__
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == name]
        for public in getattr(module, "__all__", [n for n in own if n[0] != "_"]):
            value = getattr(module, public)
            if callable(value) and public not in NOT_CALLED_BY_USERS:
                yield f"{name}.{public}", value


def test_every_public_function_is_tried(rows):
    functions = [row.function for row in rows.values()]
    tried_here = [*functions, *Simplest.__bases__]
    missing = [name for name, value in public_names() if value not in tried_here]
    assert not missing, "give them a row above"


def test_calls_as_they_are_meant_work(rows):
    for row in rows.values():
        row.call()


@pytest.mark.filterwarnings("ignore")  # Of values that are strange, but no nonsense.
def test_strange_arguments_work_or_are_named(rows):
    calls, faults = 0, []
    for function, row in rows.items():
        for name, usual, value in tried(row, function, most=3 if row.slow else 10):
            what, said = outcome(row, name, usual, value)
            calls += 1
            if what in ("unclear", "silent"):
                faults.append(f"{function}({name}={value!r}): {what} {said}")
    assert calls >= 1000
    assert not faults, "\n".join(faults)


WORDS = {
    "num_classes": r"must be a whole number from 1 to 32768\. Received: num_classes='11'",
    "bins": r"bins must be a list, each a whole number of at least 1\. Received: bins=5\. Pass",
    "dropout": r"from 0 to 1\. Received: dropout='a'\. Pass such a value, or leave it out for 0\.1",
    "auxiliary_weight": r"a number of at least 0\. Received: auxiliary_weight='a'",
    "align_corners": r"align_corners must be True or False\. Received: align_corners='no'",
    "fresh_head": "fresh_head must be True or False",
}


@pytest.mark.parametrize("name", WORDS)
def test_a_message_has_rule_value_and_repair(name):
    value = {"num_classes": "11", "bins": 5, "align_corners": "no", "fresh_head": "no"}
    with pytest.raises(ValueError, match=WORDS[name]):
        keras_psp.PSPNet(**{name: value.get(name, "a")})


@pytest.mark.parametrize(
    "function, valid, wrong",
    [
        ("PSPNet", {}, {"weights": 5}),
        ("PSPNet", {}, {"weights": ["a"]}),
        ("PSPNet", {}, {"backbone_weights": True}),
        ("ClassList", {}, {"names": 5}),
        ("Views", {}, {"scales": 0.5}),
        ("segment", {}, {"model": None}),
        ("evaluate", {}, {"data": lambda: iter(())}),
        ("MeanIoU", {}, {"num_classes": 1}),
        ("export", {}, {"image_size": 0}),
        ("export", {}, {"batch_size": -1}),
        ("export", {"format": "litert", "quantize": "int8"}, {"calibration_data": 5}),
        ("compare", {}, {"num_resamples": 0}),
        ("load_folder", {}, {"split": None}),
        ("load_folder", {}, {"seed": "a"}),
        ("load_weights", {}, {"model": None}),
        ("RunFolder", {}, {"settings": {"a": np.float32(1)}}),
    ],
)
def test_what_once_was_taken_or_failed_in_the_dark(rows, function, valid, wrong):
    (name,) = wrong
    with pytest.raises((ValueError, TypeError), match=f"Received: .*{name}"):
        rows[function].call(**valid, **wrong)


def test_numbers_of_numpy_are_numbers(rows):
    layer = layers.SegmentationHead(np.int64(4), np.int32(3), dropout=np.float32(0.5))
    assert layer.filters == 4
    assert inference.Views(scales=np.array([0.5, 1.0])).sizes(8, 8) == [(4, 4), (8, 8)]
    rows["compare"].call(seed=np.int64(3), confidence=np.float64(0.9))
