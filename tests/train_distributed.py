"""Trains a small PSPNet on some devices, for `test_distribution.py`:

    python -m tests.train_distributed RESULT.npz KIND

writes the loss of every step, scores and weights to RESULT.npz. The kinds of which RunFolder writes
the run, to RESULT.npz.run, are "tensorflow-mirrored" and "jax-processes", where all processes know
each other already.
"""

import os
import shutil
import sys

import numpy as np
import pytest

from tests.without import hide

BATCH, STEPS, SIZE, CLASSES = 4, 3, (33, 41), 3


def images_and_labels():
    """10 images: the last batch is half a one. Of every other pair hardly a pixel is labeled, and
    each pair goes to a device of its own."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, *SIZE, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, (10, *SIZE)).astype("int32")
    labels[2:4, 1:] = 255
    labels[6:8] = 255
    return images, labels


def make_backbone():
    """As small a backbone as there can be."""
    import keras

    from keras_psp.layers import BatchNormalization

    image = keras.Input((None, None, 3))
    features, stages = keras.layers.Rescaling(1 / 255)(image), []
    for filters, strides in [(8, 4), (16, 2)]:
        # Names of their own: Keras' count what else was built in the process.
        conv = keras.layers.Conv2D(filters, 3, strides, padding="same", name=f"conv{filters}")
        norm = BatchNormalization(name=f"norm{filters}")
        features = keras.layers.ReLU()(norm(conv(features)))
        stages.append(features)
    return keras.Model(image, stages)


def make_model():
    from keras_psp import PSPNet
    from keras_psp.optimizers import SGD, PolynomialDecay

    model = PSPNet(make_backbone(), CLASSES, bins=(2,), dropout=0.0)
    # The same on every backend.
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if variable.path.endswith("kernel"):
            scale = np.prod(variable.shape[:-1]) ** -0.5
            variable.assign(rng.normal(0, scale, variable.shape).astype("float32"))
    # Small steps: a network of batch norms, on so few pixels, makes much of a rounding.
    model.compile(SGD(PolynomialDecay(1e-3)))
    return model


def run_folder(folder, images, labels):
    from keras_psp import RunFolder
    from keras_psp.labels import ClassList

    # As many images as cannot be shared equally.
    classes, shown = ClassList(["a", "b", "c"]), [(images[:3], labels[:3])]
    return RunFolder(folder, classes=classes, validation_data=shown)


def train(model, result, images, labels, batch_size=BATCH, callbacks=(), epochs=1):
    import keras

    from keras_psp.callbacks.run_folder import find_scores

    losses, options = [], {}
    if keras.backend.backend() == "tensorflow":  # JAX takes ten seconds to compile this
        options = {"validation_data": (images, labels), "validation_batch_size": batch_size}
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(float(logs["loss"]))
    )
    history = model.fit(
        images,
        labels,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        callbacks=[note, *callbacks],
        verbose=0,
        **options,
    ).history
    results = {"losses": losses, **{f"history {name}": v for name, v in history.items()}}
    results |= {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    if options:
        results["confusion matrix"] = find_scores(model).confusion_matrix()
    if options and epochs == 1:
        # The last batch is one image, which leaves the other replica without any.
        five = images[:5], labels[:5]
        more = model.fit(*five, batch_size, shuffle=False, validation_data=five, verbose=0).history
        results |= {f"five images {name}": v for name, v in more.items()}
    if result:
        np.savez(result, **results)


def go_on(model, folder, result, images, labels):
    """Trains for the second epoch of a run of which nothing is left in memory."""
    for variable in [*model.weights, *model.optimizer.variables]:
        variable.assign(np.zeros(variable.shape))
    run = run_folder(folder, images, labels)
    run._draw = lambda: None  # It would draw what is no longer about devices.
    train(model, result, images, labels, callbacks=[run], epochs=2)


def scores(model, images, labels):
    """What `evaluate` finds, in batches of odd numbers of images and pixels."""
    from keras_psp import evaluate
    from keras_psp.labels import ClassList

    batches = [(images[:3], labels[:3]), (images[3:6], labels[3:6])]
    result = evaluate(model, batches, classes=ClassList(["a", "b", "c"]), batch_size=3)
    assert result.confusion_matrix.sum() == np.sum(labels[:6] != 255)
    return result.mean_iou, result.mean_accuracy, result.pixel_accuracy, result.confusion_matrix


def main(result, kind):
    from tests.conftest import draw_nothing, start_weights_by_numpy

    draw_nothing(pytest.MonkeyPatch())
    start_weights_by_numpy(pytest.MonkeyPatch())
    images, labels = images_and_labels()
    if kind == "tensorflow-mirrored":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        run = f"{result}.run"
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            model = make_model()
            train(model, result, images, labels, callbacks=[run_folder(run, images, labels)])
            inside = scores(model, images, labels)
        np.testing.assert_equal(inside, scores(model, images, labels))
        # The same run goes on outside of the scope, by steps that need no graphs of their own.
        shutil.copytree(run, f"{run}.first")
        model.run_eagerly = True
        model.make_train_function(force=True)
        model.make_test_function(force=True)
        go_on(model, run, f"{result}.resumed.npz", images, labels)
    elif kind == "jax-devices":
        import keras

        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
        train(make_model(), result, images, labels)
    elif kind == "jax-processes":
        import jax

        process = jax.process_index()
        # Each process reads its half of every batch.
        mine = np.arange(10) // 2 % 2 == process
        mine[8:] = np.arange(2) == process
        run = run_folder(f"{result}.run", images, labels)
        result = result if process == 0 else None
        train(make_model(), result, images[mine], labels[mine], BATCH // 2, [run])


if __name__ == "__main__":
    assert os.environ.get("KERAS_BACKEND", "tensorflow") == sys.argv[2].partition("-")[0]
    if sys.argv[2] != "tensorflow-mirrored":
        # Keras, on JAX, would import it where a layer is asked for its configuration.
        hide(["tensorflow"])
    main(*sys.argv[1:])
