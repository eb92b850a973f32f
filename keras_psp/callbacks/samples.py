"""What the callbacks have in common: sample images, their predictions and classes."""

import keras
import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.data.each_batch import each_batch, only_tensor
from keras_psp.data.info import Data, DatasetInfo, shared_classes
from keras_psp.labels import ClassList


def first_samples(data: Data, number: int) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Returns the first images of a dataset, or of arrays, and their labels, if there are any."""
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch in each_batch(data):
        x, y, _ = map(only_tensor, batch)
        x = to_numpy(x)
        if x.ndim != 4:
            raise ValueError(
                "Images come in batches, (batch, height, width, 3). "
                f"Received: images of shape {x.shape}. Stack them, or put a list around a batch."
            )
        images += [*x]
        labels += [] if y is None else [*to_numpy(y)]
        if len(images) >= number:
            break
    if not images[:number]:
        raise ValueError(
            f"There must be an image to draw. Received: num_samples={number}, data with "
            f"{len(images)} images. Pass 1 or more, and data that holds some."
        )
    return images[:number], labels[:number] or None


def predict_labels(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Predicts the label map of one image, in a batch of its own, which needs the least memory."""
    return model.predict_on_batch(image[None])[0].argmax(-1)


def find_classes(
    model: keras.Model, info: DatasetInfo | None, classes: ClassList | None
) -> ClassList:
    """Returns the classes given, or the model's, or those of the data, or numbers; raises
    `ValueError` if they do not agree."""
    classes = classes or getattr(model, "classes", None)
    num_classes = getattr(model, "num_classes", None)
    if num_classes is None:
        num_classes = model.output_shape[-1] if classes is None else len(classes)
    return shared_classes(num_classes, info, classes)
