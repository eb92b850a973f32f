"""FCNs in PyTorch, under the names of the tensors in their checkpoints.

The truth that `test_fcn.py` holds ours against: the authors' network, as its PyTorch copy names its
layers, and torchvision's. Both take RGB images, 0–255.
"""

import torch
from torch import nn
from torch.nn import functional as F

from tests.models.torch_classifiers import DEVIATION, MEAN
from tests.weights.torch_checkpoints import ResNet, conv

MEAN_BGR = torch.tensor([104.00698793, 116.66876762, 122.67891434]).reshape(1, 3, 1, 1)


class AuthorsFCN(nn.Module):
    """FCN-32s, 16s or 8s: padded by 100 pixels, then cropped."""

    def __init__(self, stride, widths, filters, num_classes, at_once=False):
        super().__init__()
        self.stride, self.scales = stride, (0.01, 0.0001) if at_once else (1, 1)
        self.counts = (2, 2, 3, 3, 3)
        channels = 3
        for stage, (count, width) in enumerate(zip(self.counts, widths, strict=True), 1):
            for i in range(1, count + 1):
                padding = 100 if stage == i == 1 else 1
                self.add_module(f"conv{stage}_{i}", nn.Conv2d(channels, width, 3, padding=padding))
                channels = width
        self.fc6, self.fc7 = nn.Conv2d(channels, filters, 7), nn.Conv2d(filters, filters, 1)
        self.score_fr = nn.Conv2d(filters, num_classes, 1)
        if stride <= 16:
            self.score_pool4 = nn.Conv2d(widths[3], num_classes, 1)
        if stride == 8:
            self.score_pool3 = nn.Conv2d(widths[2], num_classes, 1)
        factors = {
            32: {"upscore": 32},
            16: {"upscore2": 2, "upscore16": 16},
            8: {"upscore2": 2, "upscore_pool4": 2, "upscore8": 8},
        }
        for name, k in factors[stride].items():
            up = nn.ConvTranspose2d(num_classes, num_classes, 2 * k, stride=k, bias=False)
            self.add_module(name, up)

    def forward(self, image):
        x = image.flip(1) - MEAN_BGR
        pools = []
        for stage, count in enumerate(self.counts, 1):
            for i in range(1, count + 1):
                x = F.relu(getattr(self, f"conv{stage}_{i}")(x))
            x = F.max_pool2d(x, 2, stride=2, ceil_mode=True)
            pools.append(x)
        x = self.score_fr(F.relu(self.fc7(F.relu(self.fc6(x)))))
        if self.stride == 32:
            return crop(self.upscore(x), 19, image)
        x = self.upscore2(x)
        x = x + crop(self.score_pool4(pools[3] * self.scales[0]), 5, x)
        if self.stride == 16:
            return crop(self.upscore16(x), 27, image)
        x = self.upscore_pool4(x)
        x = x + crop(self.score_pool3(pools[2] * self.scales[1]), 9, x)
        return crop(self.upscore8(x), 31, image)


def crop(x, first, like):
    height, width = like.shape[2:]
    return x[:, :, first : first + height, first : first + width]


class TorchvisionFCN(nn.Module):
    """`fcn_resnet50` and its like, with an auxiliary head."""

    def __init__(self, blocks, num_classes):
        super().__init__()
        self.backbone = ResNet(blocks, True, "torchvision", dilations=(1, 1, 2, 4), contracted=True)
        late = self.backbone.channels
        self.classifier = self.head(late, num_classes)
        self.aux_classifier = self.head(late // 2, num_classes)

    @staticmethod
    def head(inputs, num_classes):
        width = inputs // 4
        last = nn.Conv2d(width, num_classes, 1)
        norm = nn.BatchNorm2d(width)
        return nn.Sequential(conv(inputs, width, 3), norm, nn.ReLU(), nn.Dropout(0.1), last)

    def forward(self, image):
        *_, early, late = self.backbone.features((image - MEAN) / DEVIATION)
        logits = self.classifier(late), self.aux_classifier(early)
        return [
            F.interpolate(x, size=image.shape[2:], mode="bilinear", align_corners=False)
            for x in logits
        ]
