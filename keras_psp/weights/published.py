"""Published weights, under names of ours: a table, and the download of its files."""

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import keras


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
        url: Its address.
        algorithm: `"MD5"` or `"SHA-256"`.
        digest: Its digest by that algorithm, or the beginning if that is all the publisher tells.
    """

    url: str
    algorithm: str
    digest: str


@dataclass(frozen=True)
class Published:
    """One row of the table.

    Attributes:
        file: The file of the whole network.
        num_classes: Number of classes.
        data: The training data, and the order of the classes.
        score: The publisher's result.
        license: Of the publisher's code and weights; the data have their own.
        options: Arguments that the model must have.
        features: The file of the same network without its classifier, where there is one.
    """

    file: File
    num_classes: int
    data: str
    score: str
    license: str
    options: Mapping[str, Any] = field(default_factory=dict)
    features: File | None = None


# The MD5 of the file with the classifier, and of the one without it.
_KERAS = [
    ("resnet50", "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    ("resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    ("resnet152", "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    ("vgg16", "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
    ("vgg19", "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
    ("inception_v3", "9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
]
# The file, whose name ends in the beginning of its SHA-256, and the top-1 accuracy in percent.
_TORCHVISION = [
    ("resnet18", "resnet18-f37072fd", 69.76),
    ("resnet34", "resnet34-b627a593", 73.31),
    ("resnet50_v1b", "resnet50-0676ba61", 76.13),
    ("resnet101_v1b", "resnet101-63fe2227", 77.37),
    ("resnet152_v1b", "resnet152-394f9c45", 78.31),
    ("resnet50_torchvision", "resnet50-0676ba61", 76.13),
    ("resnet101_torchvision", "resnet101-63fe2227", 77.37),
    ("resnet152_torchvision", "resnet152-394f9c45", 78.31),
    ("vgg11_torchvision", "vgg11-8a719046", 69.02),
    ("vgg13_torchvision", "vgg13-19584684", 69.93),
    ("vgg16_torchvision", "vgg16-397923af", 71.59),
    ("vgg19_torchvision", "vgg19-dcbb9e9d", 72.38),
    ("vgg11_bn", "vgg11_bn-6002323d", 70.37),
    ("vgg13_bn", "vgg13_bn-abd245e5", 71.59),
    ("vgg16_bn", "vgg16_bn-6c64b313", 73.36),
    ("vgg19_bn", "vgg19_bn-c79401a0", 74.22),
    ("alexnet_torchvision", "alexnet-owt-7be5be79", 56.52),
    ("googlenet_torchvision", "googlenet-1378be20", 69.78),
    ("inception_v3_torchvision", "inception_v3_google-0cc3c7bd", 77.29),
]
_OPENMMLAB = ["resnet18_v1c-b5776b93", "resnet50_v1c-2cccc1ad", "resnet101_v1c-e67eebb6"]
# Number of classes, data, training run.
_DATA: dict[str, tuple[int, str, str]] = {
    "cityscapes": (19, "Cityscapes, 19 classes by train id", "512x1024_80k_cityscapes"),
    "ade20k": (150, "ADE20K, 150 classes", "512x512_160k_ade20k"),
    "voc2012": (21, "PASCAL VOC 2012 aug, background and 20 classes", "512x512_40k_voc12aug"),
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


def _file(url: str) -> File:
    return File(url, "SHA-256", url.removesuffix(".pth").rpartition("-")[2])


# (name, our network or backbone) → row. Each of them takes images as our network of that name does.
PUBLISHED: dict[tuple[str, str], Published] = {}
_IMAGENET = 1000, "ImageNet"
for _variant, *_md5 in _KERAS:
    _folder = "resnet" if _variant.startswith("resnet") else _variant
    _url = f"https://storage.googleapis.com/tensorflow/keras-applications/{_folder}/{_variant}"
    _whole, _features = (
        File(f"{_url}_weights_tf_dim_ordering_tf_kernels{kind}.h5", "MD5", digest)
        for kind, digest in zip(("", "_notop"), _md5, strict=True)
    )
    PUBLISHED["imagenet", _variant] = Published(
        _whole, *_IMAGENET, "see keras.applications", "Apache-2.0 (Keras)", features=_features
    )
for _variant, _name, _score in _TORCHVISION:
    PUBLISHED["imagenet", _variant] = Published(
        _file(f"https://download.pytorch.org/models/{_name}.pth"),
        *_IMAGENET,
        f"{_score:.2f} % top-1",
        "BSD-3-Clause (torchvision)",
    )
for _name in _OPENMMLAB:
    PUBLISHED["imagenet", _name.partition("-")[0]] = Published(
        _file(f"https://download.openmmlab.com/pretrain/third_party/{_name}.pth"),
        *_IMAGENET,
        "not published",
        "Apache-2.0 (OpenMMLab)",
    )
for _name, _depth, _date, _score in _MMSEGMENTATION:
    _num_classes, _data, _run = _DATA[_name]
    _folder = f"pspnet_r{_depth}-d8_{_run}"
    _url = f"https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/{_folder}/{_folder}"
    PUBLISHED[_name, f"resnet{_depth}_v1c"] = Published(
        _file(f"{_url}_{_date}.pth"),
        _num_classes,
        _data,
        f"{_score:.2f} % mIoU, whole image, one scale",
        "Apache-2.0 (mmsegmentation)",
        {"align_corners": False, "output_stride": 8},
    )


def download(file: File) -> Path:
    """Returns a published file in Keras' cache, and downloads it if it is not there.

    Args:
        file: The file.

    Returns:
        Its path.

    Raises:
        WeightsNotAvailable: If it cannot be downloaded, what came is not the file, or PyTorch is
            not installed, which reads it.
    """
    name = file.url.rpartition("/")[2]
    without = "go without: weights=None (in a segmentation model backbone_weights=None)."
    if name.endswith(".pth") and importlib.util.find_spec("torch") is None:
        raise WeightsNotAvailable(
            f"{name} is read by PyTorch, which is not installed",
            f"Install it (pip install torch), or {without}",
        )
    models = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    cached = models / name
    if cached.exists() and _has_digest(cached, file):
        return cached
    digest = f"the {file.algorithm} {file.digest}"
    try:
        models.mkdir(parents=True, exist_ok=True)
        # Not straight into the cache: get_file deletes a file that it fails to download.
        with tempfile.TemporaryDirectory(dir=models) as folder:
            downloaded = keras.utils.get_file(name, file.url, cache_dir=folder, cache_subdir="")
            if not _has_digest(downloaded, file):
                raise OSError(f"what came has not {digest}")
            os.replace(downloaded, cached)
    except Exception as error:  # get_file raises a bare Exception where there is no network.
        there = f"the one that is there has not {digest}; " if cached.exists() else ""
        # What get_file raises begins with the address.
        said = str(error).rpartition(" -- ")[2]
        raise WeightsNotAvailable(
            f"{name} could not be downloaded ({there}{said})",
            f"Put {file.url} into {models}, pass the path of such a file, or {without}",
        ) from error
    return cached


def _has_digest(path: str | os.PathLike, file: File) -> bool:
    found = hashlib.new(file.algorithm.replace("-", "").lower(), usedforsecurity=False)
    with open(path, "rb") as opened:
        while block := opened.read(1 << 20):
            found.update(block)
    return found.hexdigest().startswith(file.digest)
