"""Segmenting images of any size: the answers to all views of an image, put together to one map.

The softmax probabilities of all views that cover a pixel are averaged.
"""

import collections
import itertools
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp import imagenet
from keras_psp.checked import checked
from keras_psp.data.resizing import interpolate, interpolation, is_smoothed
from keras_psp.inference.images import MAX_PIXELS, as_pixels, image_files, is_stream
from keras_psp.inference.views import Box, Views, find_views, predict_views


@checked
def segment(
    model: keras.Model,
    image: Any,
    image_size: int | Sequence[int] | None = None,
    views: str | Views = "single",
    *,
    batch_size: int = 8,
    max_pixels: int = MAX_PIXELS,
    probabilities: bool = False,
    progress: bool = False,
) -> Any:
    """Segments an image, or several: predicts the class of every pixel.

    By default the model sees the whole image once. `views` can be windows, several scales, mirrored
    images. The softmax probabilities of all windows of a scale are averaged at each pixel and
    resized to the image's own size; the mean over the scales is taken there, and the best class
    last.

    Memory holds the image, its label map, a batch of windows and the probabilities of one row of
    windows. So windows segment images of any size. Where several scales are averaged, or the
    probabilities returned, it holds one map of probabilities, too: 4 bytes for each pixel and
    class.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        image: A file, a Pillow image, an array, or a tensor of any library: RGB, 0–255,
            `(height, width, 3)`, integer or float; any size. Or several: a list of such images, of
            any sizes, an array `(batch, height, width, 3)`, a folder, or what yields images one by
            one, such as a generator or `Path.glob("*.jpg")`.
        image_size: The size at which the model sees the image, best the one it was trained with:
            `(height, width)`, or the shorter side. `None` is the image's own. The scales of the
            views multiply it.
        views: A name from `keras_psp.inference.VIEWS`, or `Views`.
        batch_size: Number of windows, all of one size, that the model gets at a time. They may come
            from several scales and images.
        max_pixels: The most pixels that a file may have, by its header. By default it is Pillow's
            own limit, which is for files from strangers.
        probabilities: Whether to return the probabilities instead of the best class.
        progress: Whether to show a progress bar: of the images, or of a single image's views.

    Returns:
        The label map: uint8 `(height, width)`, classes 0 … K−1; or probabilities, float32
        `(height, width, K)`. For several images a list of them. For a folder an iterator over
        `(file, label map)`, in the order of names, which segments one image after the other; for
        what yields images, likewise over `(image, label map)`, with each image as it came. These go
        on after an image that cannot be used, and name all such images in an error at their end.

    Raises:
        ValueError: If a file is not a whole 8-bit RGB image or too large, or an array not RGB
            0–255, if a folder holds no image, or if the views or the size do not exist or do not
            cover the image.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5; its authors' code for
        windows and their stride.

    Example:

    ```python
    import keras_psp
    from keras_psp.inference import Views

    model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
    photo, truth = keras_psp.street_scene(seed=1, image_size=(180, 240))
    labels = keras_psp.segment(model, photo)
    print(labels.shape, f"{(labels == truth).mean():.0%} of the pixels are right")

    windows = Views(window_size=121, scales=(0.75, 1), mirror=True)
    probabilities = keras_psp.segment(model, photo, 120, windows, probabilities=True)
    print(probabilities.shape)
    ```

    ```text
    (180, 240) 85% of the pixels are right
    (180, 240, 11)
    ```
    """
    finish = _as_they_are if probabilities else best_class
    segmenter = Segmenter(model, image_size, views, batch_size, finish)
    is_path = isinstance(image, str | os.PathLike)
    is_folder = is_path and image != "" and Path(image).is_dir()
    if is_folder or is_stream(image):
        images = image_files(image) if is_folder else image
        stream = _one_by_one(segmenter, images, max_pixels, progress)
        return stream
    # An array with one axis holds files, or images of different sizes.
    if isinstance(image, list | tuple) or len(getattr(image, "shape", ())) in (1, 4):
        bar = keras.utils.Progbar(len(image), verbose=int(progress), unit_name="image")
        found = segmenter((as_pixels(one, max_pixels), None) for one in image)
        return [found_map for _, _, found_map in _counted(found, bar)]
    pixels = as_pixels(image, max_pixels)
    count = sum(len(segmenter.views.boxes(*size)) for size in segmenter.sizes(pixels))
    bar = keras.utils.Progbar(count, verbose=int(progress), unit_name="view")
    ((_, _, found_map),) = segmenter([(pixels, None)], bar)
    return found_map


def _one_by_one(
    segmenter: "Segmenter", images: Iterable[Any], max_pixels: int, progress: bool
) -> Iterator[tuple[Any, np.ndarray]]:
    """Yields images with what is found; those that cannot be used are an error at the end."""
    failures: list[str] = []

    def usable() -> Iterator[tuple[np.ndarray, Any]]:
        for one in images:
            try:
                pixels = as_pixels(one, max_pixels)
            except ValueError as error:
                failures.append(str(error))
            else:
                yield pixels, one

    count = operator.length_hint(images) or None
    bar = keras.utils.Progbar(count, verbose=int(progress), unit_name="image")
    for _, one, found_map in _counted(segmenter(usable()), bar):
        yield one, found_map
    if failures:
        raise ValueError(
            f"Every image must be one that can be used. Received: {len(failures)} that cannot; all "
            "others were segmented. Repair these, or leave them out:\n" + "\n".join(failures)
        )


def _counted(found: Iterable[Any], bar: Any) -> Iterator[Any]:
    for one in found:
        yield one
        bar.add(1)


_ROWS = 32  # Rows of a map that are worked on together; all of them would double the memory.


def best_class(probabilities: np.ndarray) -> np.ndarray:
    """Returns the label map, uint8 `(height, width)`, of probabilities `(height, width, K)`; uint16
    where K is above 256."""
    kind = np.min_scalar_type(probabilities.shape[-1] - 1)
    labels = np.empty(probabilities.shape[:2], kind)
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        labels[rows] = probabilities[rows].argmax(axis=-1)
    return labels


def _as_they_are(probabilities: np.ndarray) -> np.ndarray:
    return probabilities


class Segmenter:
    """A model, and the views of an image that it gets. Segments one image after the other.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        image_size: See `segment`, also for `views` and `batch_size`.
        views: A name, or `Views`.
        batch_size: Number of windows that the model gets at a time.
        finish: What becomes of the probabilities of some rows, such as `best_class`.

    Raises:
        ValueError: If the views do not exist or do not cover an image.
    """

    def __init__(
        self,
        model: keras.Model,
        image_size: int | Sequence[int] | None = None,
        views: str | Views = "single",
        batch_size: int = 8,
        finish: Callable[[np.ndarray], np.ndarray] = _as_they_are,
    ):
        self.model = model
        self.finish = finish
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
            Both, and what `finish` makes of the probabilities, float32 `(height, width, K)`; a new
            array each time.
        """
        waiting: collections.deque = collections.deque()
        answers = self._answers(self._windows(images, waiting), bar)
        for first in answers:
            pixels, tag = waiting.popleft()
            shape = (*pixels.shape[:2], first[1].shape[-1])
            of_image = itertools.chain([first], answers)
            size, *others = self.sizes(pixels)
            if not others:
                yield pixels, tag, self._by_rows(shape, size, of_image)
                continue
            total = np.zeros(shape, np.float32)
            for one in (size, *others):
                for _, rows, shares in self._scale(shape, one, of_image):
                    total[rows] += shares
            yield pixels, tag, self.finish(total)

    def _windows(self, images, waiting) -> Iterator[tuple[Box, np.ndarray]]:
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
                    yield box, window[:, ::-1] if box.mirrored else window

    def _answers(self, windows, bar) -> Iterator[tuple[Box, np.ndarray]]:
        """Predicts the probabilities of each window, `(height, width, K)`."""
        for box, logits in predict_views(self.model, windows, self.batch_size):
            size = box.height, box.width
            if logits.shape[:2] != size:
                logits = ops.image.resize(logits, size, data_format="channels_last")
            if bar is not None:
                bar.add(1)
            yield box, ops.convert_to_numpy(ops.softmax(ops.cast(logits, "float32"), axis=-1))

    def _by_rows(self, shape, size, answers) -> np.ndarray:
        """Finishes rows as soon as no window covers them any more."""
        start, kept = 0, np.zeros((0, *shape[1:]), np.float32)
        kind = self.finish(np.zeros((1, *shape[1:]), np.float32))
        found = np.empty((shape[0], *kind.shape[1:]), kind.dtype)
        for affected, rows, shares in self._scale(shape, size, answers):
            if affected[0] > start:
                done = affected[0] - start
                found[start : affected[0]] = self.finish(kept[:done])
                start, kept = affected[0], kept[done:].copy()
            missing = affected[-1] + 1 - start - len(kept)
            if missing > 0:
                kept = np.concatenate([kept, np.zeros((missing, *shape[1:]), np.float32)])
            kept[rows - start] += shares
        found[start:] = self.finish(kept)
        return found

    def _scale(self, shape, size, answers) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields what an image's windows at one scale add to the map of the whole image.

        The mean over windows and scales lies in the shares that resizing gives each value. So rows
        of windows are added one by one, and memory never holds more than one of them.

        Yields:
            The numbers of all rows that a row of windows adds to, of some of them, and what is to
            be added to these.
        """
        boxes = self.views.boxes(*size)
        height, left = boxes[0].height, boxes[0].left
        width = boxes[-1].left + boxes[-1].width - left
        rows, row_shares = _averaging(size[0], shape[0], {box.top for box in boxes}, height)
        columns, column_shares = _averaging(
            size[1], shape[1], {box.left for box in boxes}, boxes[0].width
        )
        row_shares /= np.float32(len(self.views.scales) * (1 + self.views.mirror))
        of_scale = itertools.islice(answers, len(boxes))
        for top, row in itertools.groupby(of_scale, key=lambda answer: answer[0].top):
            sums = np.zeros((height, width, shape[-1]), np.float32)
            for box, answer in row:
                part = sums[:, box.left - left :][:, : box.width]
                part += answer[:, ::-1] if box.mirrored else answer
            inside = (top <= rows) & (rows < top + height)
            affected = np.flatnonzero(inside.any(axis=1))
            for start in range(0, len(affected), _ROWS):
                block = affected[start : start + _ROWS]
                numbers = np.clip(rows[block], top, top + height - 1)
                first, end = numbers.min(), numbers.max() + 1
                wide = interpolate(sums[first - top : end - top], 1, columns - left, column_shares)
                shares = row_shares[block] * inside[block]
                yield affected, block, interpolate(wide, 0, numbers - first, shares)


Interpolation = tuple[np.ndarray, np.ndarray]


def _averaging(old: int, new: int, starts: set[int], side: int) -> Interpolation:
    """Says of which values of windows a resized row is made; where they overlap, of their mean."""
    numbers, shares = interpolation(old, new)
    covering = sum((start <= numbers) & (numbers < start + side) for start in starts)
    return numbers, (shares / covering).astype(np.float32)


def _window(
    pixels: np.ndarray, box: Box, rows: Interpolation, columns: Interpolation
) -> np.ndarray:
    """Cuts a window out of an image that is resized by these rules; float32, padded with the mean
    color."""
    top, left = max(box.top, 0), max(box.left, 0)
    for axis, start, end, (numbers, shares) in [
        (0, top, box.top + box.height, rows),
        (1, left, box.left + box.width, columns),
    ]:
        pixels = interpolate(pixels, axis, numbers[start:end], shares[start:end])
    window = np.full((box.height, box.width, 3), imagenet.MEAN, np.float32)
    height, width, _ = pixels.shape
    window[top - box.top :][:height, left - box.left :][:, :width] = pixels
    return window
