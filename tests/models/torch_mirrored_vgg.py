"""SegNet and DeconvNet in PyTorch, written out from the papers' figures."""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def deconv(inputs, outputs, kernel=3):
    padding = 1 if kernel == 3 else 0
    transposed = nn.ConvTranspose2d(inputs, outputs, kernel, padding=padding)
    return nn.Sequential(transposed, nn.BatchNorm2d(outputs), nn.ReLU())


class Network(nn.Module):
    """What both are: stages of convolutions, poolings that are undone, and stages again."""

    def forward(self, x):
        x, poolings = x / 255, []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[2:]
            x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            poolings.append((indices, size))
        x = self.between(x)
        for stage in self.decoder:
            indices, size = poolings.pop()
            x = stage(F.max_unpool2d(x, indices, 2, output_size=size))
        return self.last(x)


class SegNet(Network):
    """Of three stages: 3 → 4, 4 → 6, 6, 6 → 8."""

    def __init__(self, num_classes):
        super().__init__()
        self.encoder = nn.ModuleList(
            [
                nn.Sequential(conv(3, 4), conv(4, 4)),
                nn.Sequential(conv(4, 6), conv(6, 6), conv(6, 6)),
                nn.Sequential(conv(6, 8)),
            ]
        )
        self.between = nn.Identity()
        self.decoder = nn.ModuleList(
            [
                nn.Sequential(conv(8, 6)),
                nn.Sequential(conv(6, 6), conv(6, 6), conv(6, 4)),
                nn.Sequential(conv(4, 4)),
            ]
        )
        self.last = nn.Conv2d(4, num_classes, 3, padding=1)


class DeconvNet(Network):
    """Of the same encoder, with fc6 and fc7 of 5 channels."""

    def __init__(self, num_classes):
        super().__init__()
        self.encoder = SegNet(num_classes).encoder
        self.between = nn.Sequential(
            *(nn.Conv2d(8, 5, 7), nn.BatchNorm2d(5), nn.ReLU()),
            *(nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5), nn.ReLU()),
            deconv(5, 8, kernel=7),
        )
        self.decoder = nn.ModuleList(
            [
                nn.Sequential(deconv(8, 6)),
                nn.Sequential(deconv(6, 6), deconv(6, 6), deconv(6, 4)),
                nn.Sequential(deconv(4, 4), deconv(4, 4)),
            ]
        )
        self.last = nn.Conv2d(4, num_classes, 1)


def copy_weights(layers, network):
    """Puts the weights of Keras layers into a network, both in the order of the figure."""
    kinds = nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d
    modules = [module for module in network.modules() if isinstance(module, kinds)]
    for layer, module in zip(layers, modules, strict=True):
        names = ["weight", "bias", "running_mean", "running_var"]
        for name, tensor in zip(names, layer.get_weights(), strict=False):
            if tensor.ndim == 4:
                # A deconvolution with stride 1 is a convolution by the kernel turned around.
                turned = isinstance(module, nn.ConvTranspose2d) and tensor.shape[0] == 3
                tensor = (
                    tensor[::-1, ::-1].transpose(2, 3, 0, 1)
                    if turned
                    else tensor.transpose(3, 2, 0, 1)
                )
            getattr(module, name).data.copy_(torch.tensor(tensor.copy()))
    return network.eval()
