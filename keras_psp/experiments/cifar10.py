"""CIFAR-10, the data of the ResNet paper's smallest nets."""

import numpy as np

Split = tuple[np.ndarray, np.ndarray]


def load_cifar10(data_dir: str | None = None) -> tuple[Split, Split]:
    """Loads CIFAR-10 through TensorFlow Datasets, which downloads it the first time.

    Args:
        data_dir: Folder of TensorFlow Datasets, or `None` for its usual one.

    Returns:
        The training and the test images with their classes: images uint8 `(n, 32, 32, 3)`, RGB, and
        classes int32 `(n,)`, 0–9.

    Raises:
        ImportError: If TensorFlow Datasets is not installed.
        OSError: If the data cannot be downloaded.

    Reference:
        [Krizhevsky, 2009](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf),
        section 3.1.
    """
    import tensorflow_datasets as tfds

    data = tfds.load("cifar10", split=["train", "test"], batch_size=-1, data_dir=data_dir)
    train, test = (
        (split["image"], split["label"].astype(np.int32)) for split in map(tfds.as_numpy, data)
    )
    return train, test
