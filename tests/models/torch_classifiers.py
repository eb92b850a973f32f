"""The classifiers in PyTorch, written out from the papers: the truth that ours are held against."""

import torch
from torch import nn
from torch.nn import functional as F

MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1) * 255
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1) * 255


class Flatten(nn.Module):
    """Height, width, channels: the order in which Keras flattens."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class LRN(nn.LocalResponseNorm):
    def __init__(self):
        # PyTorch shares alpha among the channels, the paper does not.
        super().__init__(5, alpha=5e-4, beta=0.75, k=2.0)


class AlexNet(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(
            *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), LRN(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), LRN(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, num_classes)),
        )

    def forward(self, x):
        return super().forward((x - MEAN) / DEVIATION)


class Inception(nn.Module):
    def __init__(self, inputs, ones, reduce3, threes, reduce5, fives, pool):
        super().__init__()
        self.ones = nn.Conv2d(inputs, ones, 1)
        self.reduce3 = nn.Conv2d(inputs, reduce3, 1)
        self.threes = nn.Conv2d(reduce3, threes, 3, padding=1)
        self.reduce5 = nn.Conv2d(inputs, reduce5, 1)
        self.fives = nn.Conv2d(reduce5, fives, 5, padding=2)
        self.pool = nn.Conv2d(inputs, pool, 1)

    def forward(self, x):
        branches = [
            self.ones(x),
            self.threes(F.relu(self.reduce3(x))),
            self.fives(F.relu(self.reduce5(x))),
            self.pool(F.max_pool2d(x, 3, 1, padding=1)),
        ]
        return F.relu(torch.cat(branches, 1))


class Auxiliary(nn.Sequential):
    def __init__(self, inputs, num_classes):
        super().__init__(
            *(nn.AvgPool2d(5, 3), nn.Conv2d(inputs, 128, 1), nn.ReLU(), Flatten()),
            *(nn.Linear(2048, 1024), nn.ReLU(), nn.Dropout(0.7), nn.Linear(1024, num_classes)),
        )


class GoogLeNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.start = nn.Sequential(
            *(nn.Conv2d(3, 64, 7, 2, padding=3), nn.ReLU(), pool, LRN()),
            *(nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 192, 3, padding=1), nn.ReLU()),
            *(LRN(), pool),
            Inception(192, 64, 96, 128, 16, 32, 32),
            Inception(256, 128, 128, 192, 32, 96, 64),
            pool,
            Inception(480, 192, 96, 208, 16, 48, 64),
        )
        self.middle = nn.Sequential(
            Inception(512, 160, 112, 224, 24, 64, 64),
            Inception(512, 128, 128, 256, 24, 64, 64),
            Inception(512, 112, 144, 288, 32, 64, 64),
        )
        self.end = nn.Sequential(
            Inception(528, 256, 160, 320, 32, 128, 128),
            pool,
            Inception(832, 256, 160, 320, 32, 128, 128),
            Inception(832, 384, 192, 384, 48, 128, 128),
        )
        self.predictions = nn.Linear(1024, num_classes)
        self.auxiliary = nn.ModuleList([Auxiliary(512, num_classes), Auxiliary(528, num_classes)])

    def forward(self, x):
        early = self.start((x - MEAN) / DEVIATION)
        middle = self.middle(early)
        main = self.predictions(self.end(middle).mean((2, 3)))
        return [main, self.auxiliary[0](early), self.auxiliary[1](middle)]


class BasicBlock(nn.Module):
    def __init__(self, inputs, width, stride, option):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.new, self.option = stride, width - inputs, option
        if self.new and option == "B":
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.option is None:
            return F.relu(y)
        if self.new and self.option == "B":
            x = self.shortcut(x)
        elif self.new:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return F.relu(y + x)


class ResNet(nn.Sequential):
    """With basic blocks: for ImageNet (four stages), or for CIFAR (three)."""

    def __init__(self, blocks, num_classes, option):
        cifar = len(blocks) == 3
        width = 16 if cifar else 64
        layers = [
            nn.Conv2d(
                3, width, 3 if cifar else 7, 1 if cifar else 2, 1 if cifar else 3, bias=False
            ),
            *(nn.BatchNorm2d(width), nn.ReLU()),
            *([] if cifar else [nn.MaxPool2d(3, 2, padding=1)]),
        ]
        channels = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                layers.append(BasicBlock(channels, width << stage, stride, option))
                channels = width << stage
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
        super().__init__(*layers)

    def forward(self, x):
        return super().forward((x - MEAN) / DEVIATION)


def copy_weights(pairs):
    """Puts the weights of Keras layers into PyTorch modules, pair by pair.

    Returns the identities of the tensors that were copied into, so that a test can see that none
    was forgotten.
    """
    copied = set()
    for layer, module in pairs:
        names = ["weight", "bias", "running_mean", "running_var"]
        tensors = layer.get_weights()
        tensors[0] = tensors[0].transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[tensors[0].ndim])
        for name, tensor in zip(names, tensors, strict=False):
            parameter = getattr(module, name)
            assert parameter.shape == tensor.shape, (layer.path, tensor.shape, parameter.shape)
            parameter.data.copy_(torch.tensor(tensor.copy()))
            copied.add(id(parameter))
    return copied


def tensors(network):
    named = [*network.named_parameters(), *network.named_buffers()]
    return {id(t) for name, t in named if not name.endswith("num_batches_tracked")}
