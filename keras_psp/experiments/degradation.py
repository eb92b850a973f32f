"""The degradation experiment: deeper plain nets learn worse, deeper residual nets do not."""

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp import optimizers, visualization
from keras_psp.atomic import read_table, write_table, write_whole
from keras_psp.callbacks.run_folder import keep_settings
from keras_psp.choices import check_name
from keras_psp.data.batches import Batches, to_tf_dataset
from keras_psp.models import ResNet

# name → variant
NETWORKS = {
    "plain-20": "plain20",
    "plain-56": "plain56",
    "ResNet-20": "resnet20",
    "ResNet-56": "resnet56",
}


def run_degradation(
    folder: str | os.PathLike[str],
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    networks: Sequence[str] = tuple(NETWORKS),
    seeds: Sequence[int] = (1, 2),
    steps: int = 64_000,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    evaluations: int = 20,
) -> list[dict[str, Any]]:
    """Trains shallow and deep nets, with and without shortcuts, by the paper's recipe for CIFAR-10.

    The recipe: SGD with momentum 0.9 and weight decay 1e-4, the learning rate divided by 10 at 1/2
    and 3/4 of the steps (of 64,000, at 32,000 and 48,000), images mirrored and shifted by up to 4
    pixels. The experiment may be interrupted: called again, it goes on from the last evaluation.

    Args:
        folder: Folder for the histories, the table and the picture.
        train: Images `(n, height, width, 3)`, RGB 0–255, and classes `(n,)`.
        test: The same, of other scenes.
        networks: Names from `NETWORKS`.
        seeds: Seeds; each net is trained once with each of them.
        steps: Steps of training; the paper's are 64,000.
        batch_size: Images per step.
        learning_rate: Learning rate of the first half.
        evaluations: Number of times that the errors are measured, each a point in the curves.

    Returns:
        For each net and seed the last row of its history: `network`, `seed`, `step`, `loss`,
        `train_error` (of the training images as augmented, since the last evaluation) and
        `test_error`, 0–1.

    Raises:
        ValueError: If there is no such network, if there are fewer steps than evaluations, or if
            the folder holds an experiment with other settings.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), section 4.2 and figure 6.

    Example:

    ```python
    import numpy as np
    from keras_psp.experiments.degradation import run_degradation

    rng = np.random.default_rng(0)  # in the place of CIFAR-10
    data = rng.integers(0, 256, (8, 8, 8, 3), "uint8"), np.arange(8) % 2
    options = {"networks": ["plain-20"], "seeds": [1], "steps": 2, "evaluations": 1}
    for row in run_degradation("runs/degradation", data, data, **options):
        print(f"{row['network']}: test error {row['test_error']:.0%}")
    ```
    """
    folder = Path(folder)
    if not 1 <= evaluations <= steps:
        raise ValueError(
            "Between two evaluations there is at least one step. "
            f"Received: steps={steps}, evaluations={evaluations}. Take more steps."
        )
    runs = list(itertools.product([check_name("network", n, NETWORKS) for n in networks], seeds))
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "evaluations": evaluations,
        "images": [len(train[1]), len(test[1])],
    }
    keep_settings(folder, settings)
    histories: dict[tuple[str, int], Any] = {}
    for number, (name, seed) in enumerate(runs, 1):
        file = folder / f"{name}-seed{seed}.csv"
        if not file.exists() or int(read_table(file)[-1]["step"]) < steps:
            print(f"{name}, seed {seed}: net {number} of {len(runs)}")
            _train(file, NETWORKS[name], seed, train, test, settings)
        histories[name, seed] = read_table(file)
        last = [
            {
                "network": name,
                "seed": seed,
                **{key: float(v or "nan") for key, v in rows[-1].items()},
            }
            for (name, seed), rows in histories.items()
        ]
        write_table(folder / "table.csv", last)
        visualization.degradation_curves(folder / "curves.png", histories)
    return last


def _train(file: Path, variant, seed, train, test, settings) -> None:
    """Trains a net, from its checkpoint if there is one, and writes its history to the file."""
    keras.utils.set_random_seed(seed)
    (images, classes), num_classes = train, int(train[1].max()) + 1
    model = ResNet(
        variant,
        num_classes=num_classes,
        weights=None,
        input_shape=images.shape[1:],
        classifier_activation=None,
    )
    steps, evaluations = settings["steps"], settings["evaluations"]
    rates = [settings["learning_rate"] / 10**n for n in range(3)]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps // 2, steps * 3 // 4], rates
    )
    model.compile(
        optimizers.SGD(schedule, learning_rate_multipliers={}),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # An optimizer that has no variables yet would not load its state.
    model.optimizer.build(model.trainable_variables)
    checkpoint, rows = file.with_suffix(".weights.h5"), []
    if checkpoint.exists():
        model.load_weights(checkpoint)
        done = int(model.optimizer.iterations)
        # The history is written before the checkpoint, and may be one row ahead of it.
        rows = [row for row in read_table(file) if int(row["step"]) <= done]
        print(f"Going on after step {done:,}")
    for number in range(len(rows), evaluations):
        first, end = (steps * n // evaluations for n in (number, number + 1))
        key = seed, number
        batches = _batches(images, classes, settings["batch_size"], end - first, key)
        verbose = int(sys.stdout.isatty())
        result = model.fit(batches, shuffle=False, verbose=verbose).history
        accuracy = model.evaluate(*test, batch_size=256, verbose=0, return_dict=True)["accuracy"]
        row = {
            "step": end,
            "loss": result["loss"][0],
            "train_error": 1 - result["accuracy"][0],
            "test_error": 1 - accuracy,
        }
        errors = f"train error {row['train_error']:.1%}, test error {row['test_error']:.1%}"
        print(f"step {end:,} of {steps:,}: loss {row['loss']:.3f}, {errors}", flush=True)
        rows.append(row)
        write_table(file, rows)
        write_whole(checkpoint, model.save_weights)
    checkpoint.unlink()


def _batches(images, classes, batch_size: int, steps: int, key: tuple[int, int]) -> Any:
    """Random batches, mirrored half of the time and shifted by up to four pixels."""
    # What lies outside has the mean color, which the network's normalization makes nearly 0.
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)], constant_values=114)
    height, width = images.shape[1:3]

    def make(epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        # A batch's numbers are its own, so that those after a kill are the same as without one.
        rng = np.random.default_rng([*key, index])
        chosen = rng.integers(len(classes), size=batch_size)
        batch = np.empty((batch_size, height, width, 3), np.float32)
        for i, n in enumerate(chosen):
            y, x = rng.integers(9, size=2)
            patch = padded[n, y : y + height, x : x + width]
            batch[i] = patch[:, ::-1] if rng.integers(2) else patch
        return batch, classes[chosen]

    batches = Batches(make, steps)
    return to_tf_dataset(batches) if keras.backend.backend() == "tensorflow" else batches
