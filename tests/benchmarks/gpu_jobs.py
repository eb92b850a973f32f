"""What `gpu.py` lets other processes do: checks, steps, a training.

Each process has one device, which its environment leaves it. Nothing here needs TensorFlow, nor
anything but the package's other dependencies and JAX or PyTorch.
"""

import contextlib
import functools
import importlib.util
import math
import re
import sys
import time
import traceback
from pathlib import Path

import contest
import float16_parts
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # of `tests`, which tf2onnx installs, too

NETWORKS = {  # name → what PyTorch's must know: blocks, and whether they are bottlenecks
    None: ((1, 1, 1, 1), False),  # the miniature's, of no variant
    "resnet18_deep": ((2, 2, 2, 2), False),
    "resnet50_deep": ((3, 4, 6, 3), True),
}
CLASSES = 11


def make(spec):
    """The jobs of a process; `spec["do"]` says which."""
    if spec["library"] == "keras_psp":
        _draw_on_the_host()
    return {"look": look, "check": check, "step": step, "train": train}[spec["do"]](spec)


def _draw_on_the_host():
    """Lets NumPy draw the kernels: JAX compiles a program for every shape, a second each."""
    import keras

    rng = np.random.default_rng(0)

    def draw(self, shape, dtype=None):
        ways = {"fan_in": np.prod(shape[:-1]), "fan_out": np.prod(shape[:-2]) * shape[-1]}
        fan = ways.get(self.mode, sum(ways.values()) / 2)
        values = rng.normal(0, (self.scale / fan) ** 0.5, shape)
        return keras.ops.convert_to_tensor(values.astype("float32"), dtype)

    keras.initializers.VarianceScaling.__call__ = draw


def _pspnet(network, num_classes=CLASSES, **options):
    """PSPNet from random values; `network=None` stands for three convolutions, in miniature."""
    import keras_psp

    import keras

    if network is None:
        image = keras.Input((None, None, 3))
        features = [keras.layers.Rescaling(1 / 255)(image)]
        for filters in (8, 16, 16):
            convolution = keras.layers.Conv2D(filters, 3, 2, "same", activation="relu")
            features.append(convolution(features[-1]))
        network = keras.Model(image, features[2:])
    return keras_psp.PSPNet(network, num_classes, backbone_weights=None, **options)


# Looking around ----------------------------------------------------------------------------------


def look(spec):
    """The one job: which device there is, and how much the network computes."""
    return [lambda: {**_device(spec["backend"]), **_costs(spec["network"], spec["size"])}]


def _device(library):
    if library == "jax":
        import jax

        device = jax.devices()[0]
        found = {"platform": device.platform, "name": device.device_kind}
        if device.platform == "gpu":
            found["capability"] = float(device.compute_capability)
            found["memory_mib"] = device.memory_stats()["bytes_limit"] / 2**20
        return found
    import torch

    if not torch.cuda.is_available():
        return {"platform": "cpu", "name": "cpu"}
    about = torch.cuda.get_device_properties(0)
    return {
        "platform": "gpu",
        "name": about.name,
        "capability": float(f"{about.major}.{about.minor}"),
        "memory_mib": about.total_memory / 2**20,
    }


def _costs(network, size):
    """Multiply-adds for an image, and those of the auxiliary head, which training has besides."""
    from keras_psp.analysis.costs import count

    import keras

    with keras.StatelessScope(initialize_variables=False):
        model = _pspnet(network)
        early = model.backbone.compute_output_shape((1, size, size, 3))["P4"]
        head = keras.Sequential([keras.Input(early[1:]), model.auxiliary_head])
        costs = count(model, (size, size)).multiply_adds, count(head).multiply_adds
    return dict(zip(("multiply_adds", "auxiliary_multiply_adds"), costs, strict=True))


# Checks ------------------------------------------------------------------------------------------


def check(spec):
    """A job for each of `CHECKS`, which computes it on the device and writes it down; and then one
    for each that does so with the truth."""

    def job(name, truth):
        try:
            np.savez(spec["files"][truth], **CHECKS[name][0](spec["checked"], truth))
        except Exception as error:  # The others are still worth knowing.
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}

    return [functools.partial(job, name, truth) for truth in (False, True) for name in CHECKS]


def difference(file, truth):
    """The largest difference of two files of arrays, as a share of each array's largest number."""
    with np.load(file) as ours, np.load(truth) as theirs:
        assert set(ours) == set(theirs)
        found = [np.abs(ours[k] - theirs[k]).max() / np.abs(theirs[k]).max() for k in theirs]
    return float(np.max(found))  # NaN where there is one


def _layer(apply, alone=None):
    """A check of what a layer gives, its weights' gradients, and the one that it passes on."""

    def run(network, truth):
        import keras

        from tests.random_weights import set_random_weights

        rng = np.random.default_rng(0)
        image = keras.Input((9, 12, 6))
        features = keras.layers.Conv2D(8, 1, use_bias=False)(image)
        outputs = (alone if truth and alone else apply)(features)
        model = set_random_weights(keras.Model(image, outputs))
        x = rng.normal(size=(4, 9, 12, 6)).astype("float32")
        target = rng.normal(size=(4, *outputs.shape[1:])).astype("float32")
        return _loss_and_gradients(model, x, target, lambda y, z: keras.ops.sum((y - z) ** 2))

    return run


def _loss_and_gradients(model, x, target, loss):
    import keras

    # In a step of plain descent at rate 1, a weight changes by its gradient.
    model.compile(keras.optimizers.SGD(1.0), loss)
    before = model.get_weights()
    found = {"loss": np.asarray(model.train_on_batch(x, target))}
    for i, (old, new) in enumerate(zip(before, model.get_weights(), strict=True)):
        found[f"change {i}"] = old - new
    return found


def _pyramid_and_head(features, upsample=False):
    from keras_psp.layers import PyramidPooling, SegmentationHead

    pyramid = PyramidPooling((1, 2, 3, 6), upsample=upsample)
    return SegmentationHead(7, 3, dropout=0.0)(pyramid(features))


def _of_layers(name, *args, **kwargs):
    def apply(features):
        import keras_psp.layers

        return getattr(keras_psp.layers, name)(*args, **kwargs)(features)

    return _layer(apply)


def _loss(network, truth):
    """The loss that upsamples in strips; in truth that of the logits upsampled before."""
    import keras_psp

    import keras
    from tests.random_weights import set_random_weights

    rng, size = np.random.default_rng(0), (41, 57)
    loss = keras_psp.losses.SparseCategoricalCrossentropy(class_weights=[1, 2, 0.5, 1, 3])
    image = keras.Input((6, 8, 4))
    logits = keras.layers.Conv2D(5, 3, padding="same")(image)
    of_upsampled = loss
    if truth:
        logits = keras_psp.layers.BilinearUpsample(size)(logits)
    else:

        def of_upsampled(y, z):
            return loss.of_upsampled(y, z, size)

    model = set_random_weights(keras.Model(image, logits))
    labels = rng.integers(0, 5, (3, *size)).astype("int32")
    labels[:, :9] = 255
    x = rng.normal(size=(3, 6, 8, 4)).astype("float32")
    return _loss_and_gradients(model, x, labels, of_upsampled)


def _logits(policy):
    """PSPNet's; in truth those of the network in PyTorch where that is at hand."""

    def run(network, truth):
        import keras

        from tests.random_weights import set_random_weights

        x = np.random.default_rng(0).uniform(0, 255, (2, 65, 81, 3)).astype("float32")
        if not truth:
            keras.config.set_dtype_policy(policy)
        try:
            model = set_random_weights(_pspnet(network, 5))
        finally:
            keras.config.set_dtype_policy("float32")
        if not truth:
            return {"logits": model.predict_on_batch(x)}
        if network is None or importlib.util.find_spec("torch") is None:
            return {"logits": model.predict_on_batch(x)}
        import torch

        from tests.models import torch_pspnet

        theirs = torch_pspnet.PSPNet(*NETWORKS[network], 5).eval()
        torch_pspnet.copy_weights(model, theirs)
        with torch.no_grad():
            logits = theirs(torch.tensor(x.transpose(0, 3, 1, 2)), auxiliary=False)[0]
        return {"logits": logits.numpy().transpose(0, 2, 3, 1)}

    return run


def _fit(network, truth):
    """Losses, scores and weights of a training of four steps by the recipe."""
    from tests.random_weights import set_random_weights

    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (8, 65, 81, 3)).astype("float32")
    labels = rng.integers(0, 5, images.shape[:3]).astype("int32")
    labels[:, :9] = 255
    model = set_random_weights(_pspnet(network, 5, dropout=0.0))
    history = model.fit(images, labels, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    found = {name: np.array(values) for name, values in history.items()}
    return found | {"kernel": model.head.conv2.get_weights()[0]}


# What is checked, and how large a difference to the CPU is allowed.
CHECKS = {
    "PSPNet's logits": (_logits("float32"), 1e-3),
    "loss that upsamples": (_loss, 1e-4),
    "dilated convolution": (_of_layers("PaddedConv2D", 5, 3, dilation_rate=2), 1e-4),
    "strided convolution": (_of_layers("PaddedConv2D", 5, 3, 2), 1e-4),
    "max pooling": (_of_layers("PaddedMaxPooling2D", 3, 2), 1e-4),
    "batch normalization": (_of_layers("BatchNormalization"), 1e-4),
    "upsampling": (_of_layers("BilinearUpsample", (17, 25)), 1e-4),
    "bottleneck": (_of_layers("DilatedBottleneck", 4, dilation_rate=2), 1e-4),
    "inception module": (_of_layers("InceptionModule", 3, 4, 5, 2, 3, 4), 1e-4),
    "response normalization": (_of_layers("LocalResponseNormalization"), 1e-4),
    "pyramid and head, levels left small": (
        _layer(_pyramid_and_head, lambda features: _pyramid_and_head(features, upsample=True)),
        1e-4,
    ),
    # They take a compiler longest.
    "PSPNet's logits, bfloat16": (_logits("mixed_bfloat16"), 5e-2),
    "fit": (_fit, 1e-2),
}


# Steps -------------------------------------------------------------------------------------------


def step(spec):
    """Jobs for the `TASKS`: the time of a step, and the most memory of the device."""
    rng = np.random.default_rng(0)
    batch, size = spec["batch"], spec["size"]
    images = rng.uniform(0, 255, (batch, size, size, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, images.shape[:3]).astype("int32")
    labels[:, :20] = 255
    library = {"keras_psp": _keras_steps, "pytorch": _pytorch_steps}[spec["library"]]
    runs = library(spec, images, labels)
    return [lambda run=runs[task]: _measure(run, spec) for task in TASKS]


# The cheapest first: the peak of JAX's memory is that of the whole process.
TASKS = ("inference", "training", "training, fed by the host")


def _measure(run, spec):
    """Seconds of a step; `run(n)` does n steps and returns when the last one is done."""
    with _memory_errors():
        _reset_peak(spec["device_library"])
        first = _seconds(run, 1)
        run(1)  # A library may have tried its ways in the first.
        steps = math.ceil(min(max(spec["seconds"] / (_seconds(run, 2) / 2), 2), 500))
        seconds = _seconds(run, steps)
    found = {"first_s": first, "steps": steps, "step_s": seconds / steps}
    peak = _peak(spec["device_library"])
    return found if peak is None else {**found, "device_peak_mib": peak / 2**20}


def _seconds(run, steps):
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def _reset_peak(library):
    if library == "torch":
        import torch

        torch.cuda.reset_peak_memory_stats()


def _peak(library):
    if library == "jax":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if library == "torch":
        import torch

        return torch.cuda.max_memory_allocated()
    return None


@contextlib.contextmanager
def _memory_errors():
    """Makes one error of the many that say that memory is short."""
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        signs = "RESOURCE_EXHAUSTED|out of memory|OutOfMemory|failed to allocate|ALLOC_FAILED"
        if re.search(signs, text, re.IGNORECASE):
            raise MemoryError(text[:200]) from None
        raise


def _keras_steps(spec, images, labels):
    import keras_psp

    import keras

    if spec["device_library"] == "torch":
        import torch

        torch.backends.cudnn.benchmark = True
    keras.config.set_dtype_policy(f"mixed_{spec['half']}")
    model = _pspnet(spec["network"])
    model.compile(keras_psp.optimizers.SGD(0.01))
    # What is asked of a network is the class of each pixel; logits would take ten times as long
    # to come back from the device.
    best = keras.ops.cast(keras.ops.argmax(model.output, axis=-1), "uint8")
    classes = keras.Model(model.inputs, best)
    here = images, labels
    there = tuple(keras.ops.convert_to_tensor(one) for one in here)

    # By `fit` and `predict`: they leave the state on the device from step to step, and wait for
    # the last one only.
    def fit(batch, steps):
        batches = (batch for _ in range(steps))
        model.fit(batches, steps_per_epoch=steps, verbose=0)
        _wait(spec["device_library"])

    def predict(steps):
        batches = ((there[0],) for _ in range(steps))
        classes.predict(batches, steps=steps, verbose=0)

    return {
        "inference": predict,
        "training": lambda steps: fit(there, steps),
        "training, fed by the host": lambda steps: fit(here, steps),
    }


def _wait(library):
    if library == "torch":
        import torch

        torch.cuda.synchronize()


def _pytorch_steps(spec, images, labels):
    import torch

    from tests.models import torch_pspnet

    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    device = "cuda" if spec["device_library"] else "cpu"
    network = torch_pspnet.PSPNet(*NETWORKS[spec["network"]], CLASSES)
    network.to(device, memory_format=torch.channels_last)
    network.mean, network.deviation = network.mean.to(device), network.deviation.to(device)
    call = torch.compile(network) if spec["compiled"] else network
    half = getattr(torch, spec["half"])
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device, enabled=half == torch.float16)

    def pinned(tensor):
        return tensor.pin_memory() if spec["device_library"] else tensor

    layout = torch.channels_last
    x = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous(memory_format=layout)
    here = pinned(x), pinned(torch.tensor(labels, dtype=torch.int64))
    there = tuple(one.to(device) for one in here)

    def predict(steps):
        network.eval()
        with torch.inference_mode(), torch.autocast(device, half):
            found = [
                # The auxiliary head exists in training only.
                call(there[0], auxiliary=False)[0].argmax(1).to(torch.uint8)
                for _ in range(steps)
            ]
        return [one.cpu() for one in found]

    def fit(batch, steps):
        network.train()
        for _ in range(steps):
            x, y = (one.to(device, non_blocking=True) for one in batch)
            optimizer.zero_grad()
            with torch.autocast(device, half):
                loss, auxiliary = (
                    torch.nn.functional.cross_entropy(z, y, ignore_index=255) for z in call(x)
                )
            scaler.scale(loss + 0.4 * auxiliary).backward()
            scaler.step(optimizer)
            scaler.update()
        _wait(spec["device_library"])

    return {
        "inference": predict,
        "training": lambda steps: fit(there, steps),
        "training, fed by the host": lambda steps: fit(here, steps),
    }


# Training ----------------------------------------------------------------------------------------

# For batches of 16 from random values: the command line's .02, chosen at 4, times the root of 16/4.
RATE = 0.04
# At most this share of the time goes into validating and writing.
OVERHEAD = 0.15


# What steps may take longer than in the beginning.
MARGIN = 0.05


def schedule(seconds, epoch_s, extra_s):
    """How a training fits into the seconds that are left.

    Args:
        seconds: That are left.
        epoch_s: Of a pass over the training split.
        extra_s: Of validating and of writing the run folder.

    Returns:
        After how many epochs the model is validated and written down, and how many there are, which
        is a multiple of that.
    """
    seconds *= 1 - MARGIN
    every = math.ceil(extra_s * (1 - OVERHEAD) / OVERHEAD / epoch_s)
    # Where time is short, at least once.
    every = max(1, min(every, int((seconds - extra_s) / epoch_s)))
    rounds = int(seconds / (every * epoch_s + extra_s))
    return every, every * max(1, rounds)


def train(spec):
    """Two jobs: to train until `spec["end"]`, and to write down what was learned."""
    import keras_psp
    from keras_psp import losses, optimizers
    from keras_psp.data.camvid.classes import CAMVID_CLASS_WEIGHTS
    from keras_psp.labels import ClassList

    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(spec["policy"])
    train, val = _data(spec)
    classes = ClassList(train.class_names, train.class_colors)
    model = _pspnet(spec["backbone"], len(classes))
    # As in docs/results.md: a backbone that knows nothing learns as fast as the heads, and
    # the roots of the weights help rare classes.
    weights = [weight**0.5 for weight in CAMVID_CLASS_WEIGHTS]
    model.compile(
        optimizers.recipe(RATE, head_multiplier=1.0),
        losses.SparseCategoricalCrossentropy(class_weights=weights),
    )
    out = Path(spec["out"])
    run = out / "run"

    def learn():
        def fit(run, passes, rounds, callback, **settings):
            options = {"validation_data": val, "classes": classes, "settings": settings}
            folder = keras_psp.RunFolder(run, **options)
            data, callbacks = _passes(train, passes), [folder, callback]
            model.fit(data, validation_data=val, epochs=rounds, callbacks=callbacks, verbose=2)
            return folder

        # The first epochs tell what an epoch takes, and warm up: in the second all is compiled.
        clock = _clock()
        fit(out / "warm_up", spec["warm_up"], 2, clock)
        epoch_s = clock.epoch_s / spec["warm_up"]
        end = spec["end"] - spec["reserve"] - 2 * clock.extra_s
        end = min(end, time.time() + spec["longest_s"])
        every, epochs = schedule(end - time.time(), epoch_s, clock.extra_s)
        settings = {name: spec[name] for name in ("data", "backbone", "policy", "batch")}
        settings |= {"image_size": spec["image_size"], "crop_size": spec["crop_size"]}
        settings |= {"rate": RATE, "warm_up_epochs": 2 * spec["warm_up"], "epochs": epochs}
        folder = fit(run, every, epochs // every, _in_time(end), **settings)
        scores = [row["val_mean_iou"] for row in folder.history]
        return {
            **settings,
            "train_images": len(train.sample_names),
            "val_images": len(val.sample_names),
            "epoch_s": epoch_s,
            "extra_s": clock.extra_s,
            "every": every,
            "epochs_done": every * len(scores),
            "mean_iou": max(scores, default=None),
            "mean_iou_last": scores[-1] if scores else None,
        }

    def keep():
        folder = out / "weights"
        folder.mkdir()
        (folder / "config.json").write_bytes((run / "config.json").read_bytes())
        target = folder / "best.weights.h5"
        parts = float16_parts.write_parts(run / target.name, target, spec["part_mib"])
        # What can be put together again is what counts: it is scored and drawn.
        model.load_weights(float16_parts.join_parts(parts, run / "joined.weights.h5"))
        scores = model.evaluate(val, return_dict=True, verbose=0)
        per_class = keras_psp.callbacks.run_folder.find_scores(model).per_class()
        images, labels = (np.asarray(part)[:4] for part in next(iter(val)))
        found = [model.predict_on_batch(image[None])[0].argmax(-1) for image in images]
        keras_psp.visualization.segmentation_gallery(
            out / "samples.png", images, labels, found, classes
        )
        (out / "history.csv").write_bytes((run / "history.csv").read_bytes())
        return {
            "parts": {part.name: part.stat().st_size for part in parts},
            "float16_mean_iou": float(scores["mean_iou"]),
            "per_class": dict(zip(classes.names, map(float, per_class), strict=True)),
        }

    return [learn, keep]


def _data(spec):
    import keras_psp

    given = tuple(spec["image_size"]), spec["batch"]
    # There will be many passes over the data.
    views = {"augment": "scratch_long", "crop_size": tuple(spec["crop_size"])}
    load, options = keras_psp.load_street_scenes, {"num_images": spec["scenes"]}
    if spec["data"] == "camvid":
        load, options = keras_psp.load_camvid, {"data_dir": spec["camvid"]}
    # Validated on whole frames.
    return load("train", *given, **views, **options), load("val", *given, **options)


def _clock():
    import keras

    class Clock(keras.callbacks.Callback):
        """Seconds of the last epoch, and of its validation and the callbacks before this one."""

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.time()

        def on_test_begin(self, logs=None):
            self.epoch_s, self.start = time.time() - self.start, time.time()

        def on_epoch_end(self, epoch, logs=None):
            self.extra_s = time.time() - self.start

    return Clock()


def _passes(data, count):
    """Data of which an epoch is that many of the given ones, with no pause between them."""
    from keras_psp.data import Batches

    length = len(data)

    def make(epoch, index):
        return data.make(epoch * count + index // length, index % length)

    return Batches(make, count * length, data.info)


def _in_time(end):
    import keras

    class InTime(keras.callbacks.Callback):
        """Ends a training whose next validation would come after `end`."""

        def on_train_begin(self, logs=None):
            self.last = time.time()

        def on_epoch_end(self, epoch, logs=None):
            now = time.time()
            self.model.stop_training = now + (now - self.last) > end
            self.last = now

    return InTime()


if __name__ == "__main__":
    from tests.without import hide

    # Where it is installed, Keras imports it even to write a configuration.
    hide({"tensorflow"})
    contest.serve(make)
