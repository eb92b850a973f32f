"""Writes the networks that the widget of receptive fields begins with, as the package builds them:
`python docs/widgets/networks.py`.
"""

import json
from pathlib import Path

import keras_psp
from keras_psp import analysis

FILE = Path(__file__).with_name("networks.js")

SCRIPT = """\
// Made by docs/widgets/networks.py: of each layer its name, kernel, stride and dilation. Layers
// that see no more than the one before are left out.
window.KerasPsp = window.KerasPsp || {};

KerasPsp.networks = [
"""


def networks():
    """The networks, by the names that readers see."""
    build = keras_psp.build_backbone
    return {
        "VGG-16": keras_psp.VGG("vgg16", include_top=False, weights=None),
        "ResNet-18": build("resnet18", weights=None, output_stride=32),
        "ResNet-18, output stride 8": build("resnet18", weights=None, output_stride=8),
        "ResNet-18 of the PSPNet in the package": build(
            "resnet18_v1c", weights=None, output_stride=8
        ),
        "ResNet-50, output stride 8": build("resnet50", weights=None, output_stride=8),
    }


def layers(network):
    """The convolutions and poolings on the way that sees most: not those of shortcuts."""
    parts = {part.path or part.name: part for part in network._flatten_layers()}
    for row in analysis.receptive_field(network).layers:
        part = parts.get(row.name)
        kernel = getattr(part, "kernel_size", None) or getattr(part, "pool_size", None)
        if kernel is None or "shortcut" in row.name:
            continue
        sides = kernel[0], part.strides[0], getattr(part, "dilation_rate", (1, 1))[0]
        if sides[:2] != (1, 1):
            yield row.name, *sides


def script(networks):
    """The whole of `networks.js`."""
    lines = []
    for name, network in networks.items():
        lines.append(f"  {{name: {json.dumps(name)}, layers: [")
        lines += [f"    {json.dumps(layer)}," for layer in layers(network)]
        lines.append("  ]},")
    return SCRIPT + "\n".join([*lines, "];", ""])


if __name__ == "__main__":
    FILE.write_text(script(networks()))
