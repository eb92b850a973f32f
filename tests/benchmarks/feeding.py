"""What `pipeline.py` lets compete: training steps on arrays, steps fed by a loader, and reading.

Each in a process of its own, for what a loader does to a process would slow down the steps on
arrays as well.
"""

import os
import sys
import time

import contest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def make(spec):
    """The one job of a contender."""
    import keras_psp

    if spec["work"] == "steps on arrays":
        return [on_arrays(network(spec), spec)]
    options = {**spec["options"], "batch_size": spec["batch_size"], "seed": 1}
    data = getattr(keras_psp, spec["loader"])(**options)
    if spec["work"] == "reading":
        return [lambda: read(data)]
    return [fed(network(spec), data, spec["steps"])]


def network(spec):
    import keras_psp

    model = keras_psp.PSPNet(spec["backbone"], backbone_weights=None, output_stride=16)
    model.compile()
    return model


def on_arrays(model, spec):
    import numpy as np

    rng = np.random.default_rng(0)
    shape = spec["batch_size"], *spec["size"]
    images = rng.uniform(0, 255, (*shape, 3)).astype("float32")
    labels = rng.integers(0, 11, shape).astype("int32")
    model.train_on_batch(images, labels)  # which compiles it

    def run():
        for _ in range(spec["steps"]):
            model.train_on_batch(images, labels)

    return run


def fed(model, data, steps):
    import keras

    class Stopwatch(keras.callbacks.Callback):
        """Times an epoch without its first step, in which the network may still be compiled."""

        def on_train_batch_end(self, batch, logs=None):
            self.end = time.perf_counter()
            if batch == 0:
                self.start = self.end

    def run():
        watch = Stopwatch()
        model.fit(data, steps_per_epoch=steps + 1, callbacks=[watch], verbose=0)
        return {"seconds": watch.end - watch.start}

    return run


def read(data):
    """A pass over the data: what it took, also of the processor, and how many images it brought."""
    busy, start = time.process_time(), time.perf_counter()
    images = sum(len(images) for images, _ in data)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "processor_s": time.process_time() - busy, "images": images}


if __name__ == "__main__" and not contest.serve(make):
    sys.exit("Run pipeline.py.")
