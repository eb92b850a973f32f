"""Label maps as pictures: in the colors of their classes, over the image, and where they err."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.atomic import write_whole
from keras_psp.checked import checked
from keras_psp.labels import MAX_CLASSES, VOID, ClassList, numbered_classes

VOID_COLOR = (0, 0, 0)
RIGHT, WRONG = (225, 225, 225), (214, 39, 40)
# Okabe and Ito's colors: people of any color vision tell them apart.
HIT, MISS, FALSE_ALARM = (0, 114, 178), (213, 94, 0), (240, 228, 66)
# Void in files where black is a class, as in those of PASCAL VOC, whose color this is.
_OTHER_VOID_COLOR = (224, 224, 192)
_KEEP_NUMBERS = (".png", ".tif", ".tiff", ".bmp")


@checked
def colorize(labels: Any, classes: ClassList | None = None) -> np.ndarray:
    """Turns a label map into a picture: class k gets `classes.colors[k]`, void becomes black.

    Args:
        labels: Integers of any shape, usually `(height, width)` or `(batch, height, width)`:
            classes 0 … K−1, 255 void.
        classes: Names and colors of the classes; `None` numbers them and gives each number a color
            of its own, the same in every picture.

    Returns:
        The colors, uint8, of shape `(*labels.shape, 3)`.

    Raises:
        ValueError: If a label is neither a class nor void, or not an integer.

    Example:

    ```python
    import numpy as np
    from keras_psp import visualization
    from keras_psp.labels import ClassList

    classes = ClassList(["Road", "Car"], [(128, 64, 128), (64, 0, 128)])
    print(visualization.colorize(np.array([[0, 1, 255]]), classes))
    ```

    ```text
    [[[128  64 128]
      [ 64   0 128]
      [  0   0   0]]]
    ```
    """
    classes = numbered_classes(MAX_CLASSES) if classes is None else classes
    labels = check_label_map(labels, classes)
    return _palette(classes)[labels]


def _palette(classes: ClassList) -> np.ndarray:
    """Returns the color of each of the numbers 0 … 255."""
    palette = np.full((VOID + 1, 3), VOID_COLOR, np.uint8)
    palette[: len(classes)] = classes.colors
    return palette


@checked(alpha=(0, 1))
def overlay(
    image: Any, labels: Any, alpha: float = 0.5, classes: ClassList | None = None
) -> np.ndarray:
    """Lays a half-transparent label map over its image. Where the label is void, the image stays.

    Args:
        image: RGB, 0–255, `(height, width, 3)` or `(batch, height, width, 3)`.
        labels: Integers of the same size without the channels: classes 0 … K−1, 255 void.
        alpha: The share of the color in the result, from 0 (the image) to 1 (the label map).
        classes: Names and colors of the classes; `None` numbers them, as in `colorize`.

    Returns:
        The picture, uint8, of the image's shape.

    Raises:
        ValueError: If image and labels differ in size, or a label is neither a class nor void.

    Example:

    ```python
    import keras_psp
    from keras_psp import visualization

    image, label = keras_psp.street_scene(seed=1, image_size=(120, 160))
    picture = visualization.overlay(image, label, classes=keras_psp.data.CAMVID)
    visualization.write_image("overlay.png", picture)
    ```
    """
    image, labels = as_uint8(image), to_numpy(labels)
    if image.shape != (*labels.shape, 3):
        raise ValueError(
            "An image must be RGB and have the size of its labels. "
            f"Received: image of shape {image.shape}, labels of shape {labels.shape}. "
            "Resize the image bilinearly or the labels to the nearest pixel."
        )
    weight = np.where(labels == VOID, 0.0, alpha)[..., None]
    return np.rint((1 - weight) * image + weight * colorize(labels, classes)).astype(np.uint8)


@checked(label=(0, MAX_CLASSES))
def error_map(truth: Any, prediction: Any, label: int | None = None) -> np.ndarray:
    """Shows where a prediction is wrong, for all classes together or for one.

    Without a `label`, right pixels are light gray and wrong ones red. With a `label`, the pixels of
    that class are blue where they were found (hits) and orange where they were not (misses). Pixels
    of other classes are yellow where that class was predicted (false alarms) and light gray
    elsewhere. Pixels that are void in truth count nowhere and are black.

    Args:
        truth: Labels of any shape, usually `(height, width)`: classes 0 … K−1, 255 void.
        prediction: Classes 0 … K−1 of the same shape.
        label: The class, or `None` for all of them at once.

    Returns:
        The colors, uint8, of shape `(*truth.shape, 3)`.

    Raises:
        ValueError: If truth and prediction differ in shape, or the label is no class.

    Example:

    ```python
    import numpy as np
    from keras_psp import visualization

    truth, prediction = np.array([[5, 5, 3, 255]]), np.array([[5, 3, 5, 5]])
    picture = visualization.error_map(truth, prediction, label=5)
    colors = {visualization.HIT: "hit", visualization.MISS: "miss"}
    colors |= {visualization.FALSE_ALARM: "false alarm", visualization.VOID_COLOR: "void"}
    print([colors[tuple(pixel)] for pixel in picture[0].tolist()])
    ```

    ```text
    ['hit', 'miss', 'false alarm', 'void']
    ```
    """
    truth, prediction = to_numpy(truth), to_numpy(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(
            "Errors are where two label maps of the same shape differ. "
            f"Received: truth of shape {truth.shape}, prediction of shape {prediction.shape}. "
            "Resize one of them to the nearest pixel; turn logits into classes with `.argmax(-1)`."
        )
    if label is None:
        cases = [(truth == prediction, RIGHT), (truth != prediction, WRONG)]
    else:
        true, predicted = truth == label, prediction == label
        cases = [
            (true & predicted, HIT),
            (true & ~predicted, MISS),
            (~true & predicted, FALSE_ALARM),
            (~true & ~predicted, RIGHT),
        ]
    picture = np.empty((*truth.shape, 3), np.uint8)
    for where, color in [*cases, (truth == VOID, VOID_COLOR)]:
        picture[where] = color
    return picture


@checked
def write_image(
    file: str | os.PathLike[str], picture: Any, classes: ClassList | None = None
) -> Path:
    """Writes a picture, or a label map, as an image file.

    A label map becomes a palette image: viewers show the colors of the classes, and what programs
    read are the same numbers.

    Args:
        file: Where to write it; the ending says the format. A label map's is `.png`, `.tif` or
            `.bmp`, which keep the numbers.
        picture: RGB, `(height, width, 3)`, 0–255; or a label map, integers `(height, width)`:
            classes 0 … K−1, 255 void.
        classes: Names and colors of a label map's classes; `None` numbers them, as in `colorize`.

    Returns:
        The path of the image.

    Raises:
        ValueError: If a color lies outside 0–255, if a label is neither a class nor void, or if no
            format has this ending, or none that keeps numbers.

    Example:

    ```python
    import numpy as np
    import keras_psp
    from keras_psp import visualization
    from PIL import Image

    image, label = keras_psp.street_scene(seed=1, image_size=(120, 160))
    visualization.write_image("labels.png", label, keras_psp.data.CAMVID)
    print(np.unique(Image.open("labels.png")))
    ```

    ```text
    [ 0  1  2  3  4  5  6  8  9 10]
    ```
    """
    from PIL import Image

    picture = to_numpy(picture)
    if picture.ndim != 2:
        return write_whole(file, Image.fromarray(as_uint8(picture)).save)
    if Path(file).suffix.lower() not in _KEEP_NUMBERS:
        raise ValueError(
            f"A label map is written as {', '.join(_KEEP_NUMBERS)}: other formats change its "
            f"numbers. Received: file='{file}'. Choose one of these endings, usually .png."
        )
    classes = numbered_classes(MAX_CLASSES) if classes is None else classes
    image = Image.fromarray(check_label_map(picture, classes).astype(np.uint8))
    palette = _palette(classes)
    if VOID_COLOR in classes.colors:
        palette[VOID] = _OTHER_VOID_COLOR
    image.putpalette(palette.tobytes())
    return write_whole(file, image.save)


def as_uint8(image: Any) -> np.ndarray:
    """Turns an image into uint8; floats 0–255, which augmentation returns, are rounded."""
    image = to_numpy(image)
    if image.size and not (image.min() >= 0 and image.max() <= 255):
        raise ValueError(
            f"Pixels must lie between 0 and 255. Received: an image of shape {image.shape} with "
            f"values {image.min()} to {image.max()}. Scale it, or clip what is noise."
        )
    if image.ndim not in (3, 4) or image.shape[-1] != 3 or not image.size:
        raise ValueError(
            "An image is RGB, (height, width, 3). "
            f"Received: image of shape {image.shape}. Repeat the one channel of a gray image."
        )
    return np.rint(image).astype(np.uint8)


def check_label_map(labels: Any, classes: ClassList) -> np.ndarray:
    """Returns a label map as an array; raises `ValueError` if a label is not one of `classes`."""
    labels = to_numpy(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            "Labels must be integers, one class for each pixel. "
            f"Received: labels of dtype {labels.dtype} and shape {labels.shape}. "
            "Turn logits into classes with `.argmax(-1)`."
        )
    strange = labels[((labels < 0) | (labels >= len(classes))) & (labels != VOID)]
    if strange.size:
        raise ValueError(
            f"A label must be a class 0 … {len(classes) - 1} or {VOID} for void. "
            f"Received: label={strange[0]}. "
            "Give `classes` with all the classes, and map what is no class to void."
        )
    return labels
