"""The batches of everything that `fit` and `evaluate` of Keras take."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_psp.data.info import Data


def each_batch(data: Data) -> Iterator[tuple[Any, Any, Any]]:
    """Yields images, labels and weights of every batch.

    Args:
        data: An array of images, or a tuple of arrays, `(images, labels)` or
            `(images, labels, weights)`, which is one batch; otherwise a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a `DataLoader`, a list or a generator of such batches.

    Yields:
        `(images, labels, weights)`; labels and weights are `None` where the data have none.

    Example:

    ```python
    import numpy as np
    from keras_psp.data.each_batch import each_batch

    images, labels = np.zeros((2, 4, 4, 3)), np.zeros((2, 4, 4), "int32")
    assert [len(x) for x, y, weights in each_batch((images, labels))] == [2]
    ```
    """
    batches = data
    if isinstance(data, tuple) or hasattr(data, "shape"):
        batches = [data]
    elif isinstance(data, keras.utils.PyDataset):
        # Python would ask for more and more batches, until one is an IndexError.
        batches = (data[number] for number in range(data.num_batches))
    for batch in batches:
        yield keras.utils.unpack_x_y_sample_weight(batch)


def check_ends(data: Data) -> None:
    """Raises a ValueError if the data are known to repeat without end."""
    cardinality = getattr(data, "cardinality", None)
    endless = callable(cardinality) and int(cardinality()) == -1
    if endless or (isinstance(data, keras.utils.PyDataset) and data.num_batches is None):
        raise ValueError(
            "Every image is scored once, so the data must end. Received: data that repeat without "
            "end. Leave out repeat(), or take(number) as many batches as there are."
        )


def only_tensor(given: Any) -> Any:
    """Returns the one tensor of a dictionary or list, which Keras takes as well; or `None`.

    Raises:
        ValueError: If there are several.
    """
    tensors = keras.tree.flatten(given)
    if len(tensors) != 1:
        names = f" ({', '.join(map(str, given))})" if isinstance(given, dict) else ""
        raise ValueError(
            "Data are pairs (images, labels), or triples (images, labels, weights), of one tensor "
            f"each. Received: {len(tensors)} tensors{names} in the place of one. Map a data set to "
            'such pairs: data.map(lambda x: (x["image"], x["label"])).'
        )
    return tensors[0]
