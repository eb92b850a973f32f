"""How much memory does an image take, when a network looks at windows of it?

    python tests/benchmarks/memory.py

Prints, for images up to 4000×6000 pixels, the size of one map of probabilities (4 bytes for each
pixel and class) and by how much the process grew at most. The network is tiny, so that its own
memory, which is that of a batch of windows, counts for little. Linux or macOS.
"""

import argparse
import resource
import sys
import time

import keras_psp
from keras_psp.inference.views import Views

import keras
import numpy as np

SIZES = [(1000, 1500), (2000, 3000), (4000, 6000)]


def peak():
    """The most memory that this process ever had, in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6  # Linux counts in KiB.


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--windows", type=int, default=473)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 1.75])
    parser.add_argument("--batch-size", type=int, default=4)
    args = parser.parse_args()

    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(args.classes, 3, padding="same")(image))
    views = Views(args.windows, scales=tuple(args.scales))
    # What TensorFlow and a batch of windows take is there before.
    options = {"views": views, "batch_size": args.batch_size}
    keras_psp.segment(model, np.zeros((2 * args.windows,) * 2 + (3,), "uint8"), **options)
    before = peak()
    print(f"{before:.0f} MB before; windows of {args.windows}, scales {args.scales}")
    print(f"{'image':>11}  {'windows':>7}  {'map':>8}  {'growth':>8}  {'time':>6}")
    for size in SIZES:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), "uint8")
        start = time.perf_counter()
        labels = keras_psp.segment(model, pixels, **options)
        seconds = time.perf_counter() - start
        windows = sum(len(views.boxes(*scaled)) for scaled in views.sizes(*size))
        one = labels.size * args.classes * 4 / 1e6
        shape, growth = "{}×{}".format(*size), peak() - before
        print(f"{shape:>11}  {windows:>7}  {one:>5.0f} MB  {growth:>5.0f} MB  {seconds:>4.0f} s")


if __name__ == "__main__":
    main()
