"""PSPNet in PyTorch, written out from the papers and the description of the authors' code.

The truth that `test_torch.py` holds the package's PSPNet against: a ResNet with a stem of three 3×3
convolutions, its last two stages dilated in every block, pyramid pooling, head, auxiliary head.
"""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs, outputs, kernel, stride=1, dilation=1):
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


class Block(nn.Module):
    def __init__(self, inputs, width, stride, dilation, bottleneck):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            self.convs = nn.ModuleList(
                [
                    conv(inputs, width, 1),
                    conv(width, width, 3, stride, dilation),
                    conv(width, outputs, 1),
                ]
            )
        else:
            self.convs = nn.ModuleList(
                [conv(inputs, width, 3, stride, dilation), conv(width, width, 3, 1, dilation)]
            )
        self.bns = nn.ModuleList([nn.BatchNorm2d(c.out_channels) for c in self.convs])
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i, (c, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            y = bn(c(y))
            if i < len(self.convs) - 1:
                y = F.relu(y)
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class PSPNet(nn.Module):
    def __init__(self, blocks, bottleneck, num_classes, bins=(1, 2, 3, 6)):
        super().__init__()
        self.stem = nn.Sequential(
            *(conv(3, 64, 3, 2), nn.BatchNorm2d(64), nn.ReLU()),
            *(conv(64, 64, 3), nn.BatchNorm2d(64), nn.ReLU()),
            *(conv(64, 128, 3), nn.BatchNorm2d(128), nn.ReLU()),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList()
        channels = 128
        rows = zip(blocks, (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4), strict=True)
        for count, width, stride, dilation in rows:
            stage = nn.Sequential()
            for i in range(count):
                stage.append(Block(channels, width, stride if i == 0 else 1, dilation, bottleneck))
                channels = 4 * width if bottleneck else width
            self.stages.append(stage)
        self.bins = bins
        self.levels = self.make_levels(channels, bins)
        self.head = self.make_head(2 * channels, channels // 4, num_classes)
        self.auxiliary_head = self.make_head(channels // 2, channels // 8, num_classes)
        # 0–255 RGB to what ImageNet networks in PyTorch see.
        self.mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1) * 255
        self.deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1) * 255

    @staticmethod
    def make_levels(channels, bins):
        return nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(b),
                nn.Conv2d(channels, channels // len(bins), 1, bias=False),
                nn.BatchNorm2d(channels // len(bins)),
                nn.ReLU(),
            )
            for b in bins
        )

    @staticmethod
    def make_head(inputs, width, num_classes):
        return nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(width, num_classes, 1),
        )

    def forward(self, x, auxiliary=True):
        size = x.shape[2:]
        x = self.stem((x - self.mean) / self.deviation)
        for stage in self.stages:
            early, x = x, stage(x)
        logits = [self.head(pyramid(x, self.levels))]
        if auxiliary:
            logits.append(self.auxiliary_head(early))
        return [F.interpolate(y, size=size, mode="bilinear", align_corners=True) for y in logits]


def pyramid(x, levels):
    upsampled = [
        F.interpolate(level(x), size=x.shape[2:], mode="bilinear", align_corners=True)
        for level in levels
    ]
    return torch.cat([x, *upsampled], dim=1)


def copy_weights(model, network):
    """Puts the weights of a `keras_psp.PSPNet` into a PyTorch one; every tensor exactly once."""
    copied = set()

    def copy(layer, module):
        names = ["weight", "bias", "running_mean", "running_var"]
        tensors = layer.get_weights()
        if isinstance(module, nn.Conv2d):
            tensors[0] = tensors[0].transpose(3, 2, 0, 1)
        for name, tensor in zip(names, tensors, strict=False):
            getattr(module, name).data.copy_(torch.tensor(tensor.copy()))
            copied.add(id(getattr(module, name)))

    backbone = model.backbone
    for i in range(3):
        copy(backbone.get_layer(f"stem_conv{i + 1}"), network.stem[3 * i])
        copy(backbone.get_layer(f"stem_bn{i + 1}"), network.stem[3 * i + 1])
    for s, stage in enumerate(network.stages, 1):
        for b, block in enumerate(stage, 1):
            layer = backbone.get_layer(f"stage{s}_block{b}")
            for ours, theirs in zip(layer.convolutions, block.convs, strict=True):
                copy(ours, theirs)
            for ours, theirs in zip(layer.batch_normalizations, block.bns, strict=True):
                copy(ours, theirs)
            if block.shortcut is not None:
                copy(layer.shortcut_conv, block.shortcut[0])
                copy(layer.shortcut_bn, block.shortcut[1])
    for i, level in enumerate(network.levels):
        copy(model.pyramid_pooling.convolutions[i], level[1])
        copy(model.pyramid_pooling.batch_normalizations[i], level[2])
    for ours, theirs in [
        (model.head, network.head),
        (model.auxiliary_head, network.auxiliary_head),
    ]:
        copy(ours.conv1, theirs[0])
        copy(ours.bn1, theirs[1])
        copy(ours.conv2, theirs[4])
    wanted = {
        id(t)
        for name, t in [*network.named_parameters(), *network.named_buffers()]
        if not name.endswith("num_batches_tracked")
    }
    assert copied == wanted, "the two networks have different tensors"
