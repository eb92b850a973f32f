"""The degradation experiment: plain nets learn worse when they get deeper, residual ones do not."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp import optimizers, pictures
from keras_psp.files import read_table, write_table
from keras_psp.models import ResNet

# name → variant, whether it has its shortcuts
NETWORKS = {
    "plain-20": ("resnet20", False),
    "plain-56": ("resnet56", False),
    "ResNet-20": ("resnet20", True),
    "ResNet-56": ("resnet56", True),
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
    pixels. The experiment may be cut off: a net that has been trained is not trained again.

    Args:
        folder: Where histories, the table and the picture go.
        train: Images `(n, height, width, 3)`, RGB 0–255, and classes `(n,)`.
        test: The same, of other scenes.
        networks: Names from `NETWORKS`.
        seeds: A net is trained once with each.
        steps: Steps of training; the paper's are 64,000.
        batch_size: Images per step.
        learning_rate: At the beginning.
        evaluations: How often the errors are taken; there is a point in the curves for each.

    Returns:
        For each net and seed the last row of its history: `network`, `seed`, `step`, `loss`,
        `train_error` (over the images as they were learned from, since the point before) and
        `test_error`, 0–1.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), section 4.2 and figure 6.

    Example:

    ```python
    import numpy as np, tempfile
    from keras_psp.degradation import run_degradation

    images, classes = np.zeros((8, 8, 8, 3), "uint8"), np.arange(8) % 2
    with tempfile.TemporaryDirectory() as folder:
        options = {"networks": ["plain-20"], "seeds": [1], "steps": 2, "evaluations": 1}
        (row,) = run_degradation(folder, (images, classes), (images, classes), **options)
    assert 0 <= row["test_error"] <= 1
    ```
    """
    folder = Path(folder)
    histories = {}
    for name in networks:
        for seed in seeds:
            file = folder / f"{name}-seed{seed}.csv"
            if not file.exists():
                print(f"{name}, seed {seed}")
                rows = _train(
                    name, seed, train, test, steps, batch_size, learning_rate, evaluations
                )
                write_table(file, rows)
            histories[name, seed] = read_table(file)
    last = [
        {"network": name, "seed": seed, **{key: float(v) for key, v in rows[-1].items()}}
        for (name, seed), rows in histories.items()
    ]
    write_table(folder / "table.csv", last)
    pictures.degradation_curves(folder / "curves.png", histories)
    return last


def _train(name, seed, train, test, steps, batch_size, learning_rate, evaluations):
    variant, residual = NETWORKS[name]
    keras.utils.set_random_seed(seed)
    (images, classes), num_classes = train, int(train[1].max()) + 1
    model = ResNet(
        variant,
        num_classes=num_classes,
        weights=None,
        residual=residual,
        input_shape=images.shape[1:],
        classifier_activation=None,
    )
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps // 2, steps * 3 // 4], [learning_rate, learning_rate / 10, learning_rate / 100]
    )
    model.compile(
        optimizers.SGD(schedule, multipliers={}),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(evaluations):
        first, end = (steps * n // evaluations for n in (number, number + 1))
        batches = _Batches(images, classes, batch_size, end - first, rng)
        result = model.fit(batches, verbose=2).history
        accuracy = model.evaluate(*test, batch_size=256, verbose=0, return_dict=True)["accuracy"]
        rows.append(
            {
                "step": end,
                "loss": result["loss"][0],
                "train_error": 1 - result["accuracy"][0],
                "test_error": 1 - accuracy,
            }
        )
    return rows


class _Batches(keras.utils.PyDataset):
    """Random batches, mirrored half of the time and shifted by up to four pixels."""

    def __init__(self, images, classes, batch_size, steps, rng):
        super().__init__()
        pad = [(0, 0), (4, 4), (4, 4), (0, 0)]
        # What lies outside has the mean colour, which the network's normalisation makes nearly 0.
        self.images = np.pad(images, pad, constant_values=114)
        self.classes = classes
        self.batch_size = batch_size
        self.steps = steps
        self.rng = rng

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        chosen = self.rng.integers(len(self.classes), size=self.batch_size)
        height, width = (side - 8 for side in self.images.shape[1:3])
        batch = np.empty((self.batch_size, height, width, 3), np.float32)
        for i, n in enumerate(chosen):
            y, x = self.rng.integers(9, size=2)
            patch = self.images[n, y : y + height, x : x + width]
            batch[i] = patch[:, ::-1] if self.rng.integers(2) else patch
        return batch, self.classes[chosen]
