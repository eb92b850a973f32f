"""The batches of everything that `fit` and `evaluate` of Keras take."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras

from keras_psp.arrays import to_numpy
from keras_psp.checked import short
from keras_psp.data.info import Data
from keras_psp.warning import warn

_NO_TENSOR = str | bytes | int | float


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

    images, labels = np.ones((2, 4, 4, 3)), np.ones((2, 4, 4), "int32")
    for x, y, weights in each_batch((images, labels)):
        print(x.shape, y.shape, weights)
    ```

    ```text
    (2, 4, 4, 3) (2, 4, 4) None
    ```
    """
    batches = data
    if isinstance(data, tuple) or hasattr(data, "shape"):
        batches = [data]
    elif isinstance(data, keras.utils.PyDataset):
        # Python would ask for more and more batches, until one is an IndexError.
        batches = (data[number] for number in range(data.num_batches))
    elif not isinstance(data, Iterable) or isinstance(data, str | bytes | Mapping):
        batches = [None]
    for batch in batches:
        parts = batch if isinstance(batch, tuple | list) else (batch,)
        if not 1 <= len(parts) <= 3 or batch is None or isinstance(parts[0], _NO_TENSOR):
            raise ValueError(
                "Data are batches (images, labels), or (images, labels, weights). "
                f"Received: data={short(data)}, with a batch of {type(batch).__name__}. Pass a "
                "data set, a list of such pairs, or one pair of arrays."
            )
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


def first_batch(batches: Any, number: int = 1) -> tuple[Any, Any]:
    """Looks at the first batch of what Keras gives a step, and does not use it up.

    Args:
        batches: A list of batches, or an iterator over them: Python's or TensorFlow's.
        number: How many batches the step takes at a time.

    Returns:
        The first batch, and the batches to give the step in the place of `batches`. The batch is
        `None` if there is none, or where each replica of a strategy has its own part.
    """
    if isinstance(batches, list | tuple):
        return batches[0], batches
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(batches, tf.distribute.DistributedIterator):
            return None, batches
        if isinstance(batches, tf.data.Iterator):
            # For a step that is compiled for an iterator of these very types and shapes.
            taken = [batches.get_next_as_optional() for _ in range(number)]
            taken = [batch for batch in taken if batch.has_value()]
            if not taken:
                return None, batches
            again, *others = (tf.data.Dataset.from_tensors(batch) for batch in taken)
            for other in others:
                again = again.concatenate(other)
            return taken[0].get_value(), iter(again.map(lambda batch: batch.get_value()))
    first = next(batches, None)
    return first, batches if first is None else itertools.chain([first], batches)


def warn_of_small_values(images: Any) -> bool:
    """Warns of images of floats from 0 to 1, which are nearly black to our models.

    Args:
        images: An array or a tensor of any library.

    Returns:
        Whether it warned.
    """
    if "float" not in str(getattr(images, "dtype", "")):
        return False
    if hasattr(images, "addressable_data"):
        images = images.addressable_data(0)  # JAX may spread them over several machines.
    pixels = to_numpy(images)
    if not (pixels.size and 0 < pixels.max() <= 1):
        return False
    warn(
        "Images are RGB, 0–255: models normalize them by themselves. Received: images of floats of "
        "at most 1, as if divided by 255. Leave the division out, or give 255 * images.",
    )
    return True
