"""Does the network ever wait for its data? Images per second of either alone, and of both.

    python tests/benchmarks/pipeline.py path/of/CamVid

Prints, for several settings, what the pipeline makes (the first epoch and the second), what the
network takes from a batch that lies ready, and what it takes from the pipeline. Where all work is
done by the same cores, the best that both can reach together is 1 / (1 / pipeline + 1 / network):
the last column says how much of that is reached. On a GPU, it should be near the network's own
rate.
"""

import argparse
import time

import keras

import keras_psp

SETTINGS = [
    {"image_size": (180, 240), "augment": None},
    {"image_size": (180, 240), "augment": "flip"},
    {"image_size": (180, 240), "augment": "authors"},
    {"image_size": (360, 480), "augment": "scratch", "crop_size": (240, 320)},
]


class Stopwatch(keras.callbacks.Callback):
    """Times an epoch without its first step, in which the network may still be compiled."""

    def on_train_batch_end(self, batch, logs=None):
        self.end = time.perf_counter()
        if batch == 0:
            self.start = self.end


def pipeline_rate(data, batch_size):
    start = time.perf_counter()
    steps = sum(1 for _ in data)
    return steps * batch_size / (time.perf_counter() - start)


def network_rate(model, data, batch_size, steps):
    watch = Stopwatch()
    model.fit(data, steps_per_epoch=steps, callbacks=[watch], verbose=0)
    return (steps - 1) * batch_size / (watch.end - watch.start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("camvid", help="folder of CamVid")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12, help="steps of the network to time")
    args = parser.parse_args()

    names = ["epoch 1", "epoch 2", "network", "both", "of the best possible"]
    print("images per second".ljust(36), *(f"{name:>10}" for name in names))
    for setting in SETTINGS:
        start = time.perf_counter()
        data = keras_psp.load_camvid(
            "train", batch_size=args.batch_size, data_dir=args.camvid, seed=1, **setting
        )
        loading = time.perf_counter() - start
        first, second = (pipeline_rate(data, args.batch_size) for _ in range(2))
        model = keras_psp.PSPNet(args.backbone, backbone_weights=None, output_stride=16)
        model.compile(metrics=None)
        ready = data.take(1).cache().repeat()
        alone = network_rate(model, ready, args.batch_size, args.steps)
        fed = network_rate(model, data.repeat(), args.batch_size, args.steps)
        best = 1 / (1 / second + 1 / alone)
        size = "x".join(map(str, setting.get("crop_size", setting["image_size"])))
        name = f"{size}, {setting['augment'] or 'not augmented'} (loaded in {loading:.1f} s)"
        rates = [f"{rate:10.1f}" for rate in (first, second, alone, fed)]
        print(f"{name:36}", *rates, f"{fed / best:9.0%}", flush=True)


if __name__ == "__main__":
    main()
