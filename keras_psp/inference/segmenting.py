"""Segmenting images of any size: the answers to all views of an image, put together to one map.

The softmax probabilities of all views that cover a pixel are averaged.
"""

import collections
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp import imagenet
from keras_psp.data.reading import read_image
from keras_psp.data.resizing import interpolate, interpolation, is_smoothed
from keras_psp.inference.images import as_pixels, image_files
from keras_psp.inference.views import Box, Views, find_views


def segment(
    model: keras.Model,
    image: Any,
    image_size: int | Sequence[int] | None = None,
    views: str | Views = "single",
    *,
    batch_size: int = 8,
    probabilities: bool = False,
    progress: bool = False,
) -> Any:
    """Segments an image, or several: predicts the class of every pixel.

    By default the model sees the whole image once. `views` can be windows, several scales, mirrored
    images. The softmax probabilities of all windows of a scale are averaged at each pixel and
    resized to the image's own size; the mean over the scales is taken there, and the best class
    last.

    Memory holds one map of probabilities for the image (4 bytes for each pixel and class), a batch
    of windows and one row of windows, whatever the image's size.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        image: A file, a Pillow image, or an array `(height, width, 3)`, RGB, 0–255, integer or
            float; any size. Or several: a list of such images, of any sizes, an array
            `(batch, height, width, 3)`, or a folder.
        image_size: The size at which the model sees the image, best the one it was trained with:
            `(height, width)`, or the shorter side. `None` is the image's own. The scales of the
            views multiply it.
        views: A name from `keras_psp.inference.VIEWS`, or `Views`.
        batch_size: Number of windows, all of one size, that the model gets at a time. They may come
            from several scales and images.
        probabilities: Whether to return the probabilities instead of the best class.
        progress: Whether to show a progress bar: of the images, or of a single image's views.

    Returns:
        The label map: uint8 `(height, width)`, classes 0 … K−1; or probabilities, float32
        `(height, width, K)`. For several images a list of them. For a folder an iterator over
        `(file, label map)`, in the order of names, which segments one image after the other.

    Raises:
        ValueError: If a file is not a whole 8-bit RGB image, or an array not RGB 0–255, if a folder
            holds no image, or if the views or the size do not exist or do not cover the image.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5; its authors' code for
        windows and their stride.

    Example:

    ```python
    import numpy as np
    import keras_psp
    from keras_psp.inference import Views

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    photo = np.zeros((90, 122, 3), "uint8")
    assert keras_psp.segment(model, photo, image_size=(48, 64)).shape == (90, 122)

    windows = Views(window_size=33, scales=(0.5, 1), mirror=True)
    mean = keras_psp.segment(model, photo, 48, windows, probabilities=True)
    assert mean.shape == (90, 122, 11) and np.allclose(mean.sum(-1), 1)
    ```
    """
    segmenter = Segmenter(model, image_size, views, batch_size)
    finish = (lambda mean: mean) if probabilities else best_class
    if isinstance(image, str | os.PathLike) and Path(image).is_dir():
        files = image_files(image)
        bar = keras.utils.Progbar(len(files), verbose=int(progress), unit_name="image")
        found = segmenter((read_image(file), file) for file in files)
        return ((file, finish(mean)) for _, file, mean in _counted(found, bar))
    if isinstance(image, list | tuple) or len(getattr(image, "shape", ())) == 4:
        bar = keras.utils.Progbar(len(image), verbose=int(progress), unit_name="image")
        found = segmenter((as_pixels(one), None) for one in image)
        return [finish(mean) for _, _, mean in _counted(found, bar)]
    pixels = as_pixels(image)
    count = sum(len(segmenter.views.boxes(*size)) for size in segmenter.sizes(pixels))
    bar = keras.utils.Progbar(count, verbose=int(progress), unit_name="view")
    ((_, _, mean),) = segmenter([(pixels, None)], bar)
    return finish(mean)


def _counted(found: Iterable[Any], bar: Any) -> Iterator[Any]:
    for one in found:
        yield one
        bar.add(1)


_ROWS = 32  # Rows of a map that are worked on together; all of them would double the memory.


def best_class(probabilities: np.ndarray) -> np.ndarray:
    """Returns the label map, uint8 `(height, width)`, of probabilities `(height, width, K)`."""
    labels = np.empty(probabilities.shape[:2], np.uint8)
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        labels[rows] = probabilities[rows].argmax(axis=-1)
    return labels


class Segmenter:
    """A model, and the views of an image that it gets. Segments one image after the other.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        image_size: See `segment`, also for `views` and `batch_size`.
        views: A name, or `Views`.
        batch_size: Number of windows that the model gets at a time.

    Raises:
        ValueError: If the views do not exist or do not cover an image.
    """

    def __init__(
        self,
        model: keras.Model,
        image_size: int | Sequence[int] | None = None,
        views: str | Views = "single",
        batch_size: int = 8,
    ):
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(
                "A batch has at least one window. "
                f"Received: batch_size={batch_size!r}. Pass 1 or more."
            )
        self.model = model
        self.image_size = image_size
        self.views = find_views(views)
        self.batch_size = batch_size
        if self.views.crops:
            raise ValueError(
                "A segmentation needs views that cover the whole image. "
                f"Received: views with crops={self.views.crops}. Leave the crops to classifiers, "
                "and pass views of windows or whole images."
            )

    def sizes(self, pixels: np.ndarray) -> list[tuple[int, int]]:
        """Computes the `(height, width)` of an image at each of the scales."""
        return self.views.sizes(pixels.shape[0], pixels.shape[1], self.image_size)

    def __call__(
        self, images: Iterable[tuple[np.ndarray, Any]], bar: Any = None
    ) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
        """Segments images one after the other; windows of several share batches.

        Args:
            images: Pixels `(height, width, 3)`, 0–255, each with any object that goes with them.
            bar: A `keras.utils.Progbar` of views.

        Yields:
            Both, and the probabilities, float32 `(height, width, K)`, a new array each time.
        """
        waiting: collections.deque = collections.deque()
        answers = self._answers(self._windows(images, waiting))
        for first in answers:
            pixels, tag = waiting.popleft()
            total = np.zeros((*pixels.shape[:2], first.shape[-1]), np.float32)
            of_image = itertools.chain([first], answers)
            for size in self.sizes(pixels):
                boxes = self.views.boxes(*size)
                mosaic = _Mosaic(total, size, boxes, 1 / len(self.views.scales))
                for box in boxes:
                    mosaic.add(box, next(of_image))
                    if bar is not None:
                        bar.add(1)
                mosaic.finish()
            yield pixels, tag, total

    def _windows(self, images, waiting) -> Iterator[np.ndarray]:
        """Cuts the views of every image, which waits for their answers from then on."""
        for pixels, tag in images:
            waiting.append((pixels, tag))
            for size in self.sizes(pixels):
                smooth = is_smoothed(pixels.shape[:2], size, self.views.antialias)
                rows, columns = (
                    interpolation(old, new, smooth)
                    for old, new in zip(pixels.shape, size, strict=False)
                )
                for box in self.views.boxes(*size):
                    if not box.mirrored:  # Else it is the one before.
                        window = _window(pixels, box, rows, columns)
                    yield window[:, ::-1] if box.mirrored else window

    def _answers(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Predicts the probabilities of each window, `(height, width, K)`."""
        for _, group in itertools.groupby(windows, key=lambda window: window.shape):
            while batch := list(itertools.islice(group, self.batch_size)):
                # Under MirroredStrategy every replica answers for the whole batch.
                logits = self.model.predict_on_batch(np.stack(batch))[: len(batch)]
                if logits.shape[1:3] != batch[0].shape[:2]:
                    size = batch[0].shape[:2]
                    logits = ops.image.resize(logits, size, data_format="channels_last")
                logits = ops.cast(logits, "float32")
                yield from ops.convert_to_numpy(ops.softmax(logits, axis=-1))


Interpolation = tuple[np.ndarray, np.ndarray]


def _window(
    pixels: np.ndarray, box: Box, rows: Interpolation, columns: Interpolation
) -> np.ndarray:
    """Cuts a window out of an image that is resized by these rules; float32, padded with the mean
    color."""
    window = np.empty((box.height, box.width, 3), np.float32)
    window[:] = imagenet.MEAN
    inside = []
    for axis, start, side, (numbers, shares) in [
        (0, box.top, box.height, rows),
        (1, box.left, box.width, columns),
    ]:
        part = slice(max(start, 0), start + side)
        # Resize only what the window needs, also along the other axis.
        first, last = numbers[part].min(), numbers[part].max()
        pixels = pixels[first : last + 1] if axis == 0 else pixels[:, first : last + 1]
        pixels = interpolate(pixels, axis, numbers[part] - first, shares[part])
        inside.append(slice(max(-start, 0), max(-start, 0) + pixels.shape[axis]))
    window[tuple(inside)] = pixels
    return window


class _Mosaic:
    """Adds the probabilities of an image's windows at one scale to the map of the whole image.

    The windows come row by row. Rows of pixels that the next windows no longer cover are averaged,
    resized and added to the map, so that memory never holds more than one row of windows.

    Args:
        total: The map, `(height, width, K)`, at the image's own size.
        size: The image's (height, width) at this scale.
        boxes: The windows.
        weight: The weight of this scale in the mean.
    """

    def __init__(
        self, total: np.ndarray, size: tuple[int, int], boxes: Sequence[Box], weight: float
    ):
        self.total, self.size, self.weight = total, size, weight
        self.top, self.left = boxes[0].top, boxes[0].left
        shape = boxes[0].height, boxes[-1].left + boxes[-1].width - self.left
        self.sums = np.zeros((*shape, total.shape[-1]), np.float32)
        self.counts = np.zeros((*shape, 1), np.float32)
        self.rows, self.columns = (
            interpolation(old, new) for old, new in zip(size, total.shape, strict=False)
        )
        # Means at this scale, as wide as the image, from `first` on: the first row still needed.
        self.means = np.zeros((0, *total.shape[1:]), np.float32)
        self.first = 0
        self.done = 0  # Rows of the map.

    def add(self, box: Box, probabilities: np.ndarray) -> None:
        """Adds the probabilities of one window."""
        if box.top > self.top:
            self._settle(box.top - self.top)
        columns = slice(box.left - self.left, box.left - self.left + box.width)
        self.sums[:, columns] += probabilities[:, ::-1] if box.mirrored else probabilities
        self.counts[:, columns] += 1

    def finish(self) -> None:
        """Adds the rest, after the last window."""
        self._settle(len(self.sums))

    def _settle(self, rows: int) -> None:
        """Averages the rows that are complete, and moves the sums down by as many."""
        inside = slice(-min(self.left, 0), -min(self.left, 0) + self.size[1])
        start, end = max(0, -self.top), min(rows, self.size[0] - self.top)
        for block in range(start, end, _ROWS):
            part = slice(block, min(block + _ROWS, end)), inside
            means = interpolate(self.sums[part] / self.counts[part], 1, *self.columns)
            self.means = np.concatenate([self.means, means])
            self._enlarge()
        self.top += rows
        for array in (self.sums, self.counts):
            array[: len(array) - rows] = array[rows:]
            array[len(array) - rows :] = 0

    def _enlarge(self) -> None:
        """Adds to all rows of the map that are ready, and drops the means that no other needs."""
        numbers, shares = self.rows
        ready = int(np.searchsorted(numbers[:, -1], self.first + len(self.means)))
        for block in range(self.done, ready, _ROWS):
            part = slice(block, min(block + _ROWS, ready))
            share = shares[part] * np.float32(self.weight)
            self.total[part] += interpolate(self.means, 0, numbers[part] - self.first, share)
        self.done = ready
        if ready < len(numbers):
            # Where the map is smaller than this scale, the next row may not be there yet.
            dropped = min(int(numbers[ready, 0]) - self.first, len(self.means))
            self.means = self.means[dropped:]
            self.first += dropped
