"""Published weights: one table of networks by name, and the files that the rows tell of."""

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from keras_psp.atomic import scratch_beside
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.class_lists import ADE20K, CITYSCAPES, VOC2012
from keras_psp.keras_internals import get_file
from keras_psp.labels import ClassList
from keras_psp.warning import warn


class WeightsNotAvailable(OSError):
    """The weights could not be found or downloaded; the message says which file to put where.

    Args:
        reason: Why, in a few words.
        repair: What to do about it.
    """

    def __init__(self, reason: str, repair: str):
        super().__init__(f"{reason}. {repair}")
        self.reason = reason


class File(NamedTuple):
    """A published file.

    Attributes:
        url: Its address; or, of a file in this package, its path there.
        digest: Its SHA-256 (of Keras' files the MD5), or the beginning if that is all the publisher
            tells; `""` of a `.safetensors` file whose digest nobody tells.
        name: Its name in the cache.
    """

    url: str
    digest: str
    name: str


@dataclass(frozen=True)
class Preset:
    """A network with published weights: one row of the table.

    Attributes:
        network: What builds it: `"PSPNet"`, `"ResNet"`, ….
        arguments: What that takes.
        file: The file of its weights.
        data: What it was trained on.
        crop: `(height, width)` of the images in training.
        score: The publisher's result.
        license: Of the publisher's code and weights; the data have their own.
        classes: Names and colors of the classes of a segmentation network.
        features: The file of a classifier without its last layers, where there is one.
    """

    network: str
    arguments: Mapping[str, Any]
    file: File
    data: str
    crop: tuple[int, int]
    score: str
    license: str
    classes: ClassList | None = None
    features: File | None = None


# The MD5 of the file with the classifier, that of the one without it, and the top-1 accuracy in
# percent, as https://keras.io/api/applications tells it.
_KERAS = [
    ("resnet50", "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626", 74.9),
    ("resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21", 76.4),
    ("resnet152", "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c", 76.6),
    ("vgg16", "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc", 71.3),
    ("vgg19", "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6", 71.3),
    ("inception_v3", "9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63", 77.9),
]
# torchvision's weights as timm publishes them, in .safetensors files: our network, timm's, and the
# top-1 accuracy in percent.
_TIMM = [
    ("resnet18", "resnet18", 69.76),
    ("resnet34", "resnet34", 73.31),
    ("resnet50_v1b", "resnet50", 76.13),
    ("resnet101_v1b", "resnet101", 77.37),
    ("resnet152_v1b", "resnet152", 78.31),
    ("resnet50_torchvision", "resnet50", 76.13),
    ("resnet101_torchvision", "resnet101", 77.37),
    ("resnet152_torchvision", "resnet152", 78.31),
    ("vgg11_torchvision", "vgg11", 69.02),
    ("vgg13_torchvision", "vgg13", 69.93),
    ("vgg16_torchvision", "vgg16", 71.59),
    ("vgg19_torchvision", "vgg19", 72.38),
    ("vgg11_bn", "vgg11_bn", 70.37),
    ("vgg13_bn", "vgg13_bn", 71.59),
    ("vgg16_bn", "vgg16_bn", 73.36),
    ("vgg19_bn", "vgg19_bn", 74.22),
    ("inception_v3_torchvision", "inception_v3", 77.29),
]
# Their SHA-256, where somebody tells it.
_TIMM_DIGESTS = {
    "resnet18": "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet50": "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
    "resnet152": "15897077afdf4d6334dc0c3f8e6fb483afb3faa9298c139f3c6eb29bca6ae5b2",
    "vgg16": "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
}
# What timm has not: torchvision's own files, which PyTorch reads. Their names end in the beginning
# of the SHA-256, and so do those of the files below.
_TORCHVISION = [
    ("alexnet_torchvision", "alexnet-owt-7be5be79", 56.52),
    ("googlenet_torchvision", "googlenet-1378be20", 69.78),
]
_OPENMMLAB = ["resnet18_v1c-b5776b93", "resnet50_v1c-2cccc1ad", "resnet101_v1c-e67eebb6"]
# Classes, data, training run, crop.
_MMSEGMENTATION_DATA: dict[str, tuple[ClassList, str, str, tuple[int, int]]] = {
    "cityscapes": (CITYSCAPES, "Cityscapes", "512x1024_80k_cityscapes", (512, 1024)),
    "ade20k": (ADE20K, "ADE20K", "512x512_160k_ade20k", (512, 512)),
    "voc2012": (VOC2012, "PASCAL VOC 2012 aug", "512x512_40k_voc12aug", (512, 512)),
}
# Data, depth, date and beginning of the SHA-256, and the mean IoU in percent.
_MMSEGMENTATION = [
    ("cityscapes", 18, "20201225_021458-09ffa746", 74.87),
    ("cityscapes", 50, "20200606_112131-2376f12b", 78.55),
    ("cityscapes", 101, "20200606_112211-e1e1100f", 79.76),
    ("ade20k", 50, "20200615_184358-1890b0bd", 42.48),
    ("ade20k", 101, "20200615_100650-967c316f", 44.39),
    ("voc2012", 50, "20200613_161222-ae9c1b8c", 77.29),
    ("voc2012", 101, "20200613_161222-bc933b18", 78.52),
]
_TORCHVISION_FCN = [(50, "1167a1af", 60.5), (101, "7ecb50ca", 63.7)]

IN_THE_PACKAGE = "pspnet_resnet18_camvid"
"""The network whose weights need no download."""

PRESETS: dict[str, Preset] = {
    IN_THE_PACKAGE: Preset(
        "PSPNet",
        {"backbone": "resnet18_v1c", "num_classes": len(CAMVID)},
        File(f"weights/{IN_THE_PACKAGE}.8bit.h5", "", f"{IN_THE_PACKAGE}.8bit.h5"),
        "CamVid, eleven classes, from random values; a little of drawn street scenes",
        (540, 720),
        "65.8 % mIoU on the validation split, shorter side 540, one scale",
        "CC BY-NC 4.0: not for commercial use",
        CAMVID,
    )
}
"""Name → row. Each of them takes images as our network does that the row builds."""


def _file(url: str, digest: str | None = None) -> File:
    name = url.rpartition("/")[2]
    return File(url, name.rpartition("-")[2].partition(".")[0] if digest is None else digest, name)


def _add_classifier(
    variant: str, file: File, score: str, license: str, features: File | None = None
) -> None:
    families = ("resnet", "ResNet"), ("vgg", "VGG"), ("alexnet", "AlexNet"), ("", "Inception")
    network = next(name for beginning, name in families if variant.startswith(beginning))
    side = 299 if variant.startswith("inception") else 224
    PRESETS[f"{variant}_imagenet"] = Preset(
        network,
        {"variant": variant},
        file,
        "ImageNet",
        (side, side),
        score,
        license,
        features=features,
    )


for _variant, *_md5, _score in _KERAS:
    _folder = "resnet" if _variant.startswith("resnet") else _variant
    _url = f"https://storage.googleapis.com/tensorflow/keras-applications/{_folder}/{_variant}"
    _whole, _features = (
        _file(f"{_url}_weights_tf_dim_ordering_tf_kernels{kind}.h5", digest)
        for kind, digest in zip(("", "_notop"), _md5, strict=True)
    )
    _add_classifier(_variant, _whole, f"{_score} % top-1", "Apache-2.0 (Keras)", features=_features)
for _variant, _name, _score in _TIMM:
    _url = f"https://huggingface.co/timm/{_name}.tv_in1k/resolve/main/model.safetensors"
    _add_classifier(
        _variant,
        File(_url, _TIMM_DIGESTS.get(_name, ""), f"{_name}.tv_in1k.safetensors"),
        f"{_score:.2f} % top-1",
        "BSD-3-Clause (torchvision)",
    )
for _variant, _name, _score in _TORCHVISION:
    _add_classifier(
        _variant,
        _file(f"https://download.pytorch.org/models/{_name}.pth"),
        f"{_score:.2f} % top-1",
        "BSD-3-Clause (torchvision)",
    )
for _name in _OPENMMLAB:
    _add_classifier(
        _name.partition("-")[0],
        _file(f"https://download.openmmlab.com/pretrain/third_party/{_name}.pth"),
        "not published",
        "Apache-2.0 (OpenMMLab)",
    )
for _name, _depth, _date, _score in _MMSEGMENTATION:
    _classes, _data, _run, _crop = _MMSEGMENTATION_DATA[_name]
    _folder = f"pspnet_r{_depth}-d8_{_run}"
    _url = f"https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/{_folder}/{_folder}"
    PRESETS[f"pspnet_resnet{_depth}_{_name}"] = Preset(
        "PSPNet",
        {
            "backbone": f"resnet{_depth}_v1c",
            "num_classes": len(_classes),
            "align_corners": False,
        },
        _file(f"{_url}_{_date}.pth"),
        _data,
        _crop,
        f"{_score:.2f} % mIoU, whole image, one scale",
        "Apache-2.0 (mmsegmentation)",
        _classes,
    )
for _depth, _digest, _score in _TORCHVISION_FCN:
    PRESETS[f"fcn_resnet{_depth}_coco"] = Preset(
        "FCN",
        {
            "backbone": f"resnet{_depth}_torchvision",
            "num_classes": len(VOC2012),
            "head": "convolution",
            "output_stride": 8,
            "auxiliary_weight": 0.5,
        },
        _file(f"https://download.pytorch.org/models/fcn_resnet{_depth}_coco-{_digest}.pth"),
        "COCO's images with the classes of PASCAL VOC",
        (480, 480),
        f"{_score} % mIoU, shorter side 520",
        "BSD-3-Clause (torchvision)",
        VOC2012,
    )


def find_file(file: File) -> Path:
    """Returns a published file in the package or in Keras' cache; downloads it if it is in neither.

    Args:
        file: The file.

    Returns:
        Its path.

    Raises:
        WeightsNotAvailable: If it cannot be downloaded, what came is not the file, or PyTorch is
            not installed, which reads it.
    """
    if "://" not in file.url:
        return Path(__file__).parents[1] / file.url
    other_ways = 'Other ways: the documentation, page "Models", "Where a download fails".'
    if file.name.endswith(".pth") and importlib.util.find_spec("torch") is None:
        raise WeightsNotAvailable(
            f"{file.name} is read by PyTorch, which is not installed",
            f"Install it: pip install torch. {other_ways}",
        )
    models = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    cached = models / file.name
    fault = _fault_of(cached, file) if cached.exists() else "is missing"
    if not fault:
        return cached
    try:
        # Not straight into the cache: get_file deletes a file that it fails to download.
        with scratch_beside(cached) as folder:
            came = get_file(file.name, file.url, cache_dir=folder, cache_subdir="")
            if wrong := _fault_of(came, file):
                raise OSError(f"what came {wrong}")
            os.replace(came, cached)
    except Exception as error:  # get_file raises a bare Exception where there is no network.
        there = f"the one that is there {fault}; " if cached.exists() else ""
        # What get_file raises begins with the address.
        said = str(error).rpartition(" -- ")[2]
        raise WeightsNotAvailable(
            f"{file.name} could not be downloaded ({there}{said})",
            f"Save {file.url} as {cached}. {other_ways}",
        ) from error
    if not file.digest:
        warn(
            f"Nobody tells the digest of {file.url}, which was taken as it came: {cached}, with "
            f"the SHA-256 {_digest_of(cached, 'sha256')}.",
        )
    return cached


def _fault_of(path: str | os.PathLike, file: File) -> str:
    """What is wrong with what should be a published file; `""` if nothing is."""
    with open(path, "rb") as opened:
        if opened.read(256).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return "is a web page, such as that of a login"
    if file.digest:
        algorithm = "MD5" if len(file.digest) == 32 else "SHA-256"
        same = _digest_of(path, algorithm.replace("-", "").lower()).startswith(file.digest)
        return "" if same else f"has not the {algorithm} {file.digest}"
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy"):  # The head of the file says how long it is.
            return ""
    except SafetensorError as error:
        return f"is no whole .safetensors file: {error}"


def _digest_of(path: str | os.PathLike, algorithm: str) -> str:
    found = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as opened:
        while block := opened.read(1 << 20):
            found.update(block)
    return found.hexdigest()
