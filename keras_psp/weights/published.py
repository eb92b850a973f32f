"""Weights that somebody publishes, under names of ours: a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """One row of the table.

    Attributes:
        url: Where the file is.
        sha256: How its SHA-256 begins, as the publisher tells by the file's name.
        num_classes: How many classes it knows.
        data: What it was trained on, and whose order the classes are in.
        score: What its publisher measured.
        license: Of the publisher's code and weights; the data have their own.
        options: Arguments that the model must have.
    """

    url: str
    sha256: str
    num_classes: int
    data: str
    score: str
    license: str
    options: Mapping[str, Any] = field(default_factory=dict)


_TORCHVISION = "https://download.pytorch.org/models/{}.pth"
_OPENMMLAB = "https://download.openmmlab.com/pretrain/third_party/{}.pth"
_MMSEGMENTATION = "https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/{0}/{0}_{1}.pth"
_CITYSCAPES = "Cityscapes, 19 classes by train id"

# (name, our network or backbone) → row; all of them see images as our network of that name does
PUBLISHED: dict[tuple[str, str], Published] = {
    **{
        ("imagenet", variant): Published(
            _TORCHVISION.format(file),
            file.rpartition("-")[2],
            1000,
            "ImageNet",
            f"{score:.2f} % top-1",
            "BSD-3-Clause (torchvision)",
        )
        for variant, file, score in [
            ("resnet18", "resnet18-f37072fd", 69.76),
            ("resnet34", "resnet34-b627a593", 73.31),
            ("resnet50_v1b", "resnet50-0676ba61", 76.13),
            ("resnet101_v1b", "resnet101-63fe2227", 77.37),
            ("resnet152_v1b", "resnet152-394f9c45", 78.31),
            ("vgg11_torchvision", "vgg11-8a719046", 69.02),
            ("vgg13_torchvision", "vgg13-19584684", 69.93),
            ("vgg16_torchvision", "vgg16-397923af", 71.59),
            ("vgg19_torchvision", "vgg19-dcbb9e9d", 72.38),
            ("alexnet_torchvision", "alexnet-owt-7be5be79", 56.52),
            ("googlenet_torchvision", "googlenet-1378be20", 69.78),
            ("inception_v3_torchvision", "inception_v3_google-0cc3c7bd", 77.29),
        ]
    },
    **{
        ("imagenet", variant): Published(
            _OPENMMLAB.format(file),
            file.rpartition("-")[2],
            1000,
            "ImageNet",
            "not published",
            "Apache-2.0 (OpenMMLab)",
        )
        for variant, file in [
            ("resnet18_v1c", "resnet18_v1c-b5776b93"),
            ("resnet50_v1c", "resnet50_v1c-2cccc1ad"),
            ("resnet101_v1c", "resnet101_v1c-e67eebb6"),
        ]
    },
    **{
        (name, variant): Published(
            _MMSEGMENTATION.format(folder, file),
            file.rpartition("-")[2],
            num_classes,
            data,
            f"{score:.2f} % mIoU, whole image, one scale",
            "Apache-2.0 (mmsegmentation)",
            {"align_corners": False, "output_stride": 8},
        )
        for name, variant, num_classes, data, folder, file, score in [
            (
                *("cityscapes", "resnet18_v1c", 19, _CITYSCAPES),
                *("pspnet_r18-d8_512x1024_80k_cityscapes", "20201225_021458-09ffa746", 74.87),
            ),
            (
                *("cityscapes", "resnet50_v1c", 19, _CITYSCAPES),
                *("pspnet_r50-d8_512x1024_80k_cityscapes", "20200606_112131-2376f12b", 78.55),
            ),
            (
                *("cityscapes", "resnet101_v1c", 19, _CITYSCAPES),
                *("pspnet_r101-d8_512x1024_80k_cityscapes", "20200606_112211-e1e1100f", 79.76),
            ),
            (
                *("ade20k", "resnet50_v1c", 150, "ADE20K, 150 classes"),
                *("pspnet_r50-d8_512x512_160k_ade20k", "20200615_184358-1890b0bd", 42.48),
            ),
            (
                *("ade20k", "resnet101_v1c", 150, "ADE20K, 150 classes"),
                *("pspnet_r101-d8_512x512_160k_ade20k", "20200615_100650-967c316f", 44.39),
            ),
            (
                *("voc2012", "resnet50_v1c", 21, "PASCAL VOC 2012 aug, background and 20 classes"),
                *("pspnet_r50-d8_512x512_40k_voc12aug", "20200613_161222-ae9c1b8c", 77.29),
            ),
            (
                *("voc2012", "resnet101_v1c", 21, "PASCAL VOC 2012 aug, background and 20 classes"),
                *("pspnet_r101-d8_512x512_40k_voc12aug", "20200613_161222-bc933b18", 78.52),
            ),
        ]
    },
}
