"""Networks whose checkpoints are in the world, in PyTorch, under the names that they have there.

Written out from their descriptions, as the truth that `test_checkpoints.py` holds loaded weights
against. All of them take RGB images, 0–255, and do to them what theirs are trained on.
"""

import torch
from torch import nn
from torch.nn import functional as F

from tests.models.torch_classifiers import DEVIATION, MEAN


def randomize(network, seed=0):
    """Random weights and random statistics, so that no two tensors are alike."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        values = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            values *= (2 / tensor[0].numel()) ** 0.5
        elif name.endswith("running_var") or _is_factor(network, name):
            values = 1 + 0.3 * torch.tanh(values)
        else:
            values *= 0.2
        tensor.copy_(values)
    return network.eval()


def _is_factor(network, name):
    module, _, tensor = name.rpartition(".")
    return tensor == "weight" and isinstance(network.get_submodule(module), nn.BatchNorm2d)


def conv(inputs, outputs, kernel, stride=1, dilation=1):
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


# ResNet ------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, inputs, width, stride, dilation, kernels, later):
        super().__init__()
        self.count = len(kernels)
        channels = inputs
        outputs = 4 * width if self.count == 3 else width
        for i, kernel in enumerate(kernels, 1):
            last = outputs if i == self.count else width
            strided = kernel == 3 and kernels.index(3) == i - 1
            # A second 3×3 is dilated by the PSPNet authors' rule, and not by OpenMMLab's.
            rate = dilation if kernel == 3 and (strided or later) else 1
            self.add_module(
                f"conv{i}", conv(channels, last, kernel, stride if strided else 1, rate)
            )
            self.add_module(f"bn{i}", nn.BatchNorm2d(last))
            channels = last
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.count:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


WIDTH = 64  # channels of the first stage's blocks; small networks have fewer


def add_stages(network, channels, blocks, bottleneck, dilations=(1, 1, 1, 1), contracted=False):
    kernels = (1, 3, 1) if bottleneck else (3, 3)
    for s, (count, dilation) in enumerate(zip(blocks, dilations, strict=True), 1):
        stage = nn.Sequential()
        for b in range(count):
            stride = 2 if b == 0 and s > 1 and dilation == 1 else 1
            rate = max(1, dilation // 2) if contracted and b == 0 else dilation
            width = WIDTH << (s - 1)
            stage.append(Block(channels, width, stride, rate, kernels, later=not contracted))
            channels = 4 * width if bottleneck else width
        network.add_module(f"layer{s}", stage)
    return channels


def deep_stem(widths, pool=False):
    first, second, third = widths
    layers = [conv(3, first, 3, 2), nn.BatchNorm2d(first), nn.ReLU()]
    layers += [conv(first, second, 3), nn.BatchNorm2d(second), nn.ReLU()]
    layers += [conv(second, third, 3), nn.BatchNorm2d(third), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(3, 2, padding=1)] if pool else []))


class ResNet(nn.Module):
    """`kind` is torchvision's, the authors' or OpenMMLab's; `features` are those of each stage."""

    def __init__(
        self,
        blocks,
        bottleneck,
        kind,
        num_classes=None,
        dilations=(1, 1, 1, 1),
        contracted=False,
    ):
        super().__init__()
        self.kind = kind
        if kind == "v1c":
            self.stem = deep_stem((32, 32, 64))
            channels = 64
        elif kind == "authors":
            for i, (inputs, outputs) in enumerate([(3, 64), (64, 64), (64, 128)], 1):
                self.add_module(f"conv{i}", conv(inputs, outputs, 3, 2 if i == 1 else 1))
                self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
            channels = 128
        else:
            self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
            channels = 64
        channels = add_stages(self, channels, blocks, bottleneck, dilations, contracted)
        self.channels = channels
        if num_classes:
            self.fc = nn.Linear(channels, num_classes)

    def features(self, x):
        if self.kind == "v1c":
            x = self.stem(x)
        else:
            for i in range(1, 4 if self.kind == "authors" else 2):
                x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = F.max_pool2d(x, 3, 2, padding=1)
        maps = []
        for s in range(1, 5):
            x = getattr(self, f"layer{s}")(x)
            maps.append(x)
        return maps

    def forward(self, x):
        late = self.features((x - MEAN) / DEVIATION)[-1]
        return self.fc(late.mean((2, 3))) if hasattr(self, "fc") else late


# PSPNet ------------------------------------------------------------------------------------------


class AuthorsPSPNet(nn.Module):
    def __init__(self, blocks, bottleneck, num_classes, auxiliary=True):
        super().__init__()
        self.layer0 = deep_stem((64, 64, 128), pool=True)
        late = add_stages(self, 128, blocks, bottleneck, (1, 1, 2, 4))
        self.ppm = nn.Module()
        self.ppm.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(b),
                conv(late, late // 4, 1),
                nn.BatchNorm2d(late // 4),
                nn.ReLU(),
            )
            for b in (1, 2, 3, 6)
        )
        self.cls = self.head(2 * late, late // 4, num_classes)
        if auxiliary:
            self.aux = self.head(late // 2, late // 8, num_classes)

    @staticmethod
    def head(inputs, width, num_classes):
        last = nn.Conv2d(width, num_classes, 1)
        norm = nn.BatchNorm2d(width)
        return nn.Sequential(conv(inputs, width, 3), norm, nn.ReLU(), nn.Dropout2d(0.1), last)

    def forward(self, x):
        size = x.shape[2:]
        x = self.layer2(self.layer1(self.layer0((x - MEAN) / DEVIATION)))
        early = self.layer3(x)
        late = self.layer4(early)
        levels = [enlarge(level(late), late.shape[2:], True) for level in self.ppm.features]
        outputs = [self.cls(torch.cat([late, *levels], 1))]
        if hasattr(self, "aux"):
            outputs.append(self.aux(early))
        return [enlarge(y, size, True) for y in outputs]


def enlarge(x, size, align_corners):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


class ConvModule(nn.Module):
    def __init__(self, inputs, outputs, kernel):
        super().__init__()
        self.conv, self.bn = conv(inputs, outputs, kernel), nn.BatchNorm2d(outputs)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class MMSegmentationPSPNet(nn.Module):
    def __init__(self, blocks, bottleneck, num_classes, align_corners):
        super().__init__()
        self.align_corners = align_corners
        self.backbone = ResNet(blocks, bottleneck, "v1c", dilations=(1, 1, 2, 4), contracted=True)
        late = self.backbone.channels
        self.decode_head, self.auxiliary_head = nn.Module(), nn.Module()
        self.decode_head.conv_seg = nn.Conv2d(late // 4, num_classes, 1)
        self.decode_head.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(b), ConvModule(late, late // 4, 1))
            for b in (1, 2, 3, 6)
        )
        self.decode_head.bottleneck = ConvModule(2 * late, late // 4, 3)
        self.auxiliary_head.conv_seg = nn.Conv2d(late // 8, num_classes, 1)
        self.auxiliary_head.convs = nn.Sequential(ConvModule(late // 2, late // 8, 3))

    def forward(self, x):
        size = x.shape[2:]
        *_, early, late = self.backbone.features((x - MEAN) / DEVIATION)
        head, auxiliary = self.decode_head, self.auxiliary_head
        levels = [enlarge(m(late), late.shape[2:], self.align_corners) for m in head.psp_modules]
        logits = head.conv_seg(head.bottleneck(torch.cat([late, *levels], 1)))
        early = auxiliary.conv_seg(auxiliary.convs(early))
        return [enlarge(y, size, self.align_corners) for y in (logits, early)]


# torchvision's others ----------------------------------------------------------------------------


class Sequences(nn.Module):
    """VGG and AlexNet: features, a map of `side`×`side`, and a classifier."""

    def __init__(self, features, channels, side, classifier):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = classifier(channels * side * side)

    def forward(self, x):
        return self.classifier(self.maps(x).flatten(1))

    def maps(self, x):
        return self.features((x - MEAN) / DEVIATION)


def vgg(stages, side, num_classes, hidden=4096, normalizes=False):
    layers, channels = [], 3
    for count, width in zip(stages, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            norm = [nn.BatchNorm2d(width)] if normalizes else []
            layers += [nn.Conv2d(channels, width, 3, padding=1), *norm, nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return Sequences(
        layers,
        512,
        side,
        lambda inputs: nn.Sequential(
            *(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
            nn.Linear(hidden, num_classes),
        ),
    )


def alexnet(side, num_classes):
    return Sequences(
        [
            *(nn.Conv2d(3, 64, 11, 4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        ],
        256,
        side,
        lambda inputs: nn.Sequential(
            *(nn.Dropout(), nn.Linear(inputs, 4096), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()),
            nn.Linear(4096, num_classes),
        ),
    )


class BasicConv2d(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class GoogLeNetModule(nn.Module):
    def __init__(self, inputs, ones, reduce3, threes, reduce5, fives, pool):
        super().__init__()
        self.branch1 = BasicConv2d(inputs, ones, 1)
        self.branch2 = nn.Sequential(
            BasicConv2d(inputs, reduce3, 1), BasicConv2d(reduce3, threes, 3, padding=1)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(inputs, reduce5, 1), BasicConv2d(reduce5, fives, 3, padding=1)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), BasicConv2d(inputs, pool, 1))

    def forward(self, x):
        branches = self.branch1, self.branch2, self.branch3, self.branch4
        return torch.cat([branch(x) for branch in branches], 1)


class GoogLeNet(nn.Module):
    MODULES = (
        ("3a", 192, 64, 96, 128, 16, 32, 32),
        ("3b", 256, 128, 128, 192, 32, 96, 64),
        ("4a", 480, 192, 96, 208, 16, 48, 64),
        ("4b", 512, 160, 112, 224, 24, 64, 64),
        ("4c", 512, 128, 128, 256, 24, 64, 64),
        ("4d", 512, 112, 144, 288, 32, 64, 64),
        ("4e", 528, 256, 160, 320, 32, 128, 128),
        ("5a", 832, 256, 160, 320, 32, 128, 128),
        ("5b", 832, 384, 192, 384, 48, 128, 128),
    )

    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = BasicConv2d(3, 64, 7, 2, padding=3)
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3, padding=1)
        for name, *widths in self.MODULES:
            self.add_module(f"inception{name}", GoogLeNetModule(*widths))
        for name, inputs in [("aux1", 512), ("aux2", 528)]:
            head = nn.Module()
            head.conv = BasicConv2d(inputs, 128, 1)
            head.fc1, head.fc2 = nn.Linear(2048, 1024), nn.Linear(1024, num_classes)
            self.add_module(name, head)
        self.fc = nn.Linear(1024, num_classes)

    def maps(self, x):
        """What 4e and 5b say."""
        x = F.max_pool2d(self.conv1(x / 127.5 - 1), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        maps = {}
        for name, *_ in self.MODULES:
            if name == "4a":
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            elif name == "5a":
                x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            maps[name] = x = getattr(self, f"inception{name}")(x)
        return maps["4e"], maps["5b"]

    def forward(self, x):
        return self.fc(self.maps(x)[1].mean((2, 3)))


class V3Module(nn.Module):
    """Branches from rows (name, filters, kernel, what comes before); see `inception_v3`."""

    def __init__(self, inputs, rows, ends, pool):
        super().__init__()
        channels = {"x": inputs, "average": inputs}
        self.rows, self.ends, self.pool = rows, ends, pool
        for name, filters, kernel, before in rows:
            kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
            # Only the reducing modules, which pool by the maximum, have strides.
            stride = 2 if pool == "max" and name in ends else 1
            padding = (0, 0) if stride == 2 else tuple(k // 2 for k in kernel)
            module = BasicConv2d(channels[before], filters, kernel, stride, padding)
            self.add_module(name, module)
            channels[name] = filters
        self.outputs = sum(channels[end] for end in ends) + (inputs if pool == "max" else 0)

    def forward(self, x):
        values = {"x": x, "average": F.avg_pool2d(x, 3, 1, padding=1)}
        for name, _, _, before in self.rows:
            values[name] = getattr(self, name)(values[before])
        outputs = [values[end] for end in self.ends]
        if self.pool == "max":
            outputs.append(F.max_pool2d(x, 3, 2))
        return torch.cat(outputs, 1)


def _chain(name, before, *rows):
    """A branch of several convolutions, `name_1`, `name_2`, …"""
    names = [f"{name}_{suffix}" for suffix, *_ in rows]
    befores = [before, *names]
    return [(n, *row[1:], b) for n, b, row in zip(names, befores, rows, strict=False)]


def module_a(inputs, pool):
    rows = [
        ("branch1x1", 64, 1, "x"),
        *_chain("branch5x5", "x", (1, 48, 1), (2, 64, 5)),
        *_chain("branch3x3dbl", "x", (1, 64, 1), (2, 96, 3), (3, 96, 3)),
        ("branch_pool", pool, 1, "average"),
    ]
    return V3Module(
        inputs, rows, ["branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool"], "average"
    )


def module_b(inputs):
    rows = [
        ("branch3x3", 384, 3, "x"),
        *_chain("branch3x3dbl", "x", (1, 64, 1), (2, 96, 3), (3, 96, 3)),
    ]
    return V3Module(inputs, rows, ["branch3x3", "branch3x3dbl_3"], "max")


def module_c(inputs, n):
    wide, high = (1, 7), (7, 1)
    double = [(1, n, 1), (2, n, high), (3, n, wide), (4, n, high), (5, 192, wide)]
    rows = [
        ("branch1x1", 192, 1, "x"),
        *_chain("branch7x7", "x", (1, n, 1), (2, n, wide), (3, 192, high)),
        *_chain("branch7x7dbl", "x", *double),
        ("branch_pool", 192, 1, "average"),
    ]
    return V3Module(
        inputs, rows, ["branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"], "average"
    )


def module_d(inputs):
    seven = [(1, 192, 1), (2, 192, (1, 7)), (3, 192, (7, 1)), (4, 192, 3)]
    rows = [
        *_chain("branch3x3", "x", (1, 192, 1), (2, 320, 3)),
        *_chain("branch7x7x3", "x", *seven),
    ]
    return V3Module(inputs, rows, ["branch3x3_2", "branch7x7x3_4"], "max")


def module_e(inputs):
    rows = [
        ("branch1x1", 320, 1, "x"),
        ("branch3x3_1", 384, 1, "x"),
        ("branch3x3_2a", 384, (1, 3), "branch3x3_1"),
        ("branch3x3_2b", 384, (3, 1), "branch3x3_1"),
        ("branch3x3dbl_1", 448, 1, "x"),
        ("branch3x3dbl_2", 384, 3, "branch3x3dbl_1"),
        ("branch3x3dbl_3a", 384, (1, 3), "branch3x3dbl_2"),
        ("branch3x3dbl_3b", 384, (3, 1), "branch3x3dbl_2"),
        ("branch_pool", 192, 1, "average"),
    ]
    ends = ["branch1x1", "branch3x3_2a", "branch3x3_2b", "branch3x3dbl_3a", "branch3x3dbl_3b"]
    return V3Module(inputs, rows, [*ends, "branch_pool"], "average")


class InceptionV3(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        makers = {
            **{"5b": (module_a, 32), "5c": (module_a, 64), "5d": (module_a, 64)},
            **{"6a": (module_b,), "6b": (module_c, 128), "6c": (module_c, 160)},
            **{"6d": (module_c, 160), "6e": (module_c, 192)},
            **{"7a": (module_d,), "7b": (module_e,), "7c": (module_e,)},
        }
        channels = 192
        for name, (make, *arguments) in makers.items():
            module = make(channels, *arguments)
            channels = module.outputs
            self.add_module(f"Mixed_{name}", module)
        self.AuxLogits = nn.Module()
        self.AuxLogits.conv0 = BasicConv2d(768, 128, 1)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x / 127.5 - 1)))
        x = F.max_pool2d(x, 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for name, module in self.named_children():
            if name.startswith("Mixed"):
                x = module(x)
        return self.fc(x.mean((2, 3)))
