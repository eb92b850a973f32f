"""From a trained model and images of any size to label maps, and from a run folder to the model.

A `Policy` says what a network looks at: whole images or windows of them, at one scale or several,
mirrored too or not; `POLICIES` holds the usual ones. What a pixel was said to be is averaged over
all looks that covered it.
"""

import collections
import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_psp.callbacks.run_folder import _BEST, _CHECKPOINT
from keras_psp.choices import check_name
from keras_psp.data.augmentation import MEAN_COLOR
from keras_psp.data.layouts import IMAGE_SUFFIXES
from keras_psp.data.reading import read_image
from keras_psp.data.resizing import interpolate, interpolation, is_smoothed, scaled_size
from keras_psp.labels import ClassList

# What to look at ---------------------------------------------------------------------------------


class Box(NamedTuple):
    """A rectangle of an image, in pixels.

    Args:
        top: Rows above it; below 0 where it begins outside.
        left: Columns to the left of it, likewise.
        height: Rows of it.
        width: Columns of it.
        mirrored: Whether it is looked at with left and right exchanged.
    """

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


@dataclasses.dataclass(frozen=True)
class Policy:
    """What of an image a segmentation model looks at.

    Args:
        window_size: Side of square windows in pixels, or their `(height, width)`: best the size of
            the crops that the model was trained with. `None` looks at whole images. An image that
            is smaller is padded with the mean color, and what is said of the padding is cut off.
        stride: From one window to the next, as a share of the window, above 0 to 1. The last
            windows of a row and of a column end where the image does.
        scales: Times the size that the images are looked at, one after the other.
        mirrored: Whether every look is taken at the mirrored image too.
        antialias: Whether an image that shrinks is smoothed first; `"auto"`: where it shrinks by
            more than a factor of two, as in `load_camvid`.

    Raises:
        ValueError: If there is no scale, or one is not above 0, or a window or stride is none.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5: six scales, mirrored.

    Example:

    ```python
    from keras_psp.inference.segmenting import Policy

    policy = Policy(window_size=201)
    assert [box[:2] for box in policy.boxes(240, 320)] == [(0, 0), (0, 119), (39, 0), (39, 119)]
    ```
    """

    window_size: int | tuple[int, int] | None = None
    stride: float = 2 / 3
    scales: tuple[float, ...] = (1.0,)
    mirrored: bool = False
    antialias: bool | str = "auto"

    def __post_init__(self):
        window = self.window_size
        windows = window is None or _sides(window)
        if not (windows and 0 < self.stride <= 1 and self.scales and min(self.scales) > 0):
            raise ValueError(
                "A policy needs windows with sides of at least one pixel, a stride above 0 and at "
                "most 1, and at least one scale, above 0. "
                f"Received: window_size={window}, stride={self.stride}, scales={self.scales}. "
                "Leave out what need not differ from the default."
            )

    def boxes(self, height: int, width: int) -> list[Box]:
        """Says which parts of an image at one of the scales are looked at.

        Args:
            height: The image's height in pixels.
            width: Its width.

        Returns:
            The boxes, row by row, each followed by itself mirrored. They are all of one size. That
            of an image smaller than the windows reaches beyond it on both sides.
        """
        sides = _sides(self.window_size) or (height, width)
        rows, columns = (
            _starts(length, side, math.ceil(side * self.stride))
            for length, side in zip((height, width), sides, strict=True)
        )
        return [
            Box(top, left, *sides, mirrored)
            for top, left in itertools.product(rows, columns)
            for mirrored in ([False, True] if self.mirrored else [False])
        ]


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width of a size that may be one number for both; `None` if it is no size."""
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    whole = len(sides) == 2 and all(isinstance(side, int | np.integer) for side in sides)
    return sides if whole and min(sides) > 0 else None


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where the windows along one side of the image begin."""
    if length < side:
        return [-((side - length) // 2)]
    last = length - side
    return [min(number * step, last) for number in range(math.ceil(last / step) + 1)]


_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)

# single                      the whole image, once: what the network says in training
# multi_scale                 the PSPNet paper's, with whole images
# course, course_multi_scale  the lecture's course, of images whose shorter side becomes 240
POLICIES: dict[str, Policy] = {
    "single": Policy(),
    "multi_scale": Policy(scales=_SCALES, mirrored=True),
    "course": Policy(201, mirrored=True, antialias=False),
    "course_multi_scale": Policy(201, scales=_SCALES, mirrored=True, antialias=False),
}


# Segmenting --------------------------------------------------------------------------------------


def segment(
    model: keras.Model,
    image: Any,
    image_size: int | Sequence[int] | None = None,
    policy: str | Policy = "single",
    *,
    batch_size: int = 8,
    probabilities: bool = False,
    progress: bool = False,
) -> Any:
    """Says for every pixel of an image, or of several, what it belongs to.

    By default the model looks at the whole image once. With a `Policy` it looks at windows, at
    several scales, at mirrored images. The softmax probabilities of all windows of a scale are
    divided by how often a pixel was covered and enlarged to the image's own size; there the mean
    over the scales is taken, and then the best class.

    Whatever an image's size, there is one map of probabilities for it (4 bytes for each pixel and
    class), and beside it a batch of windows and one row of them.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        image: A file, a Pillow image, or an array `(height, width, 3)`, RGB, 0–255, integer or
            float; any size. Or several: a list of such images, of any sizes, an array
            `(batch, height, width, 3)`, or a folder.
        image_size: At which size the model looks at the image, best the one it was trained with:
            `(height, width)`, or the shorter side. `None` is the image's own. The scales multiply
            it.
        policy: A name from `keras_psp.inference.segmenting.POLICIES`, or a `Policy`.
        batch_size: How many windows, of one size, the model sees at a time. They may come from
            several scales and images.
        probabilities: Whether to return the probabilities instead of the best class.
        progress: Whether to show a progress bar: of the images, or of the windows of a single one.

    Returns:
        The label map: uint8 `(height, width)`, classes 0 … K−1; or probabilities, float32
        `(height, width, K)`. For several images a list of them. For a folder an iterator over
        `(file, label map)`, in the order of names, which segments as it goes along.

    Raises:
        ValueError: If a file is not a whole 8-bit RGB image, or an array not RGB 0–255, if a folder
            holds no image, or there is no such policy or size.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5; its authors' code for
        windows and their stride.

    Example:

    ```python
    import numpy as np
    import keras_psp
    from keras_psp.inference.segmenting import Policy

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    photo = np.zeros((90, 122, 3), "uint8")
    assert keras_psp.segment(model, photo, image_size=(48, 64)).shape == (90, 122)

    windows = Policy(window_size=33, scales=(0.5, 1), mirrored=True)
    mean = keras_psp.segment(model, photo, 48, windows, probabilities=True)
    assert mean.shape == (90, 122, 11) and np.allclose(mean.sum(-1), 1)
    ```
    """
    segmenter = Segmenter(model, image_size, policy, batch_size)
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
    windows = segmenter.views(*pixels.shape[:2])
    bar = keras.utils.Progbar(windows, verbose=int(progress), unit_name="window")
    ((_, _, mean),) = segmenter([(pixels, None)], bar)
    return finish(mean)


def _counted(found: Iterable[Any], bar: Any) -> Iterator[Any]:
    for one in found:
        yield one
        bar.add(1)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The images of a folder, in the order of their names.

    Args:
        folder: The folder.

    Returns:
        Their paths.

    Raises:
        ValueError: If there is none.
    """
    entries = sorted(Path(folder).iterdir())
    files = [f for f in entries if f.suffix.lower() in IMAGE_SUFFIXES and f.name[0] != "."]
    if not files:
        raise ValueError(
            f"A folder to segment must hold images ({', '.join(IMAGE_SUFFIXES)}). Received: "
            f"{folder} with {len(entries)} entries, none of them an image. Pass another folder."
        )
    return files


def as_pixels(image: Any) -> np.ndarray:
    """The pixels of a file, a Pillow image or an array, checked: RGB, 0–255, `(height, width, 3)`.

    Args:
        image: The image.

    Returns:
        Integers or floats `(height, width, 3)`.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    # Other modes than RGB can have three channels too: YCbCr, LAB, HSV.
    mode = getattr(image, "mode", "RGB")
    pixels = ops.convert_to_numpy(image) if mode == "RGB" else np.asarray(image)
    is_rgb = mode == "RGB" and pixels.ndim == 3 and pixels.shape[-1] == 3
    if not (is_rgb and pixels.size and pixels.min() >= 0 and pixels.max() <= 255):
        values = f"values {pixels.min()} to {pixels.max()}" if pixels.size else "no pixel"
        raise ValueError(
            "An image must be RGB, 0–255, (height, width, 3). "
            f"Received: image of shape {pixels.shape}, mode {mode}, {values}. "
            'Convert it, for instance with Pillow\'s image.convert("RGB").'
        )
    return pixels


_ROWS = 32  # Of a map, looked at together where the whole would need as much memory again.


def best_class(probabilities: np.ndarray) -> np.ndarray:
    """The label map, uint8 `(height, width)`, of probabilities `(height, width, K)`."""
    labels = np.empty(probabilities.shape[:2], np.uint8)
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        labels[rows] = probabilities[rows].argmax(axis=-1)
    return labels


class Segmenter:
    """A model that looks at images by a policy, for whoever has many of them.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        image_size: See `segment`, and so for `policy` and `batch_size`.
        policy: A name, or a `Policy`.
        batch_size: How many windows the model sees at a time.

    Raises:
        ValueError: If there is no such policy or size.
    """

    def __init__(
        self,
        model: keras.Model,
        image_size: int | Sequence[int] | None = None,
        policy: str | Policy = "single",
        batch_size: int = 8,
    ):
        if image_size is not None and not _sides(image_size):
            raise ValueError(
                "image_size must be (height, width) in pixels, or the shorter side. "
                f"Received: image_size={image_size!r}. Pass positive integers, such as (240, 320) "
                "or 240; None takes images at their own size."
            )
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(
                "A batch has at least one window. "
                f"Received: batch_size={batch_size!r}. Pass 1 or more."
            )
        if not isinstance(policy, Policy):
            policy = POLICIES[check_name("policy", policy, POLICIES)]
        self.model = model
        self.image_size = image_size
        self.policy = policy
        self.batch_size = batch_size

    def __str__(self) -> str:
        policy, size = self.policy, self.image_size
        if size is None:
            at = "their own size"
        else:
            at = "×".join(map(str, size)) if isinstance(size, Sequence) else f"shorter side {size}"
        look = "whole images"
        if policy.window_size is not None:
            sides = "×".join(map(str, _sides(policy.window_size) or ()))
            look = f"windows of {sides} (stride {policy.stride:.2f} of them) of images"
        scales = ", ".join(f"{scale:g}" for scale in policy.scales)
        scales = f"scale {scales}" if len(policy.scales) == 1 else f"scales {scales}"
        return f"{look} at {at}, {scales}, {'and' if policy.mirrored else 'not'} mirrored"

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """The (height, width) of an image of this size at each of the scales."""
        sizes = []
        for scale in self.policy.scales:
            if isinstance(self.image_size, int | np.integer):
                # The shorter side is rounded first, as in the course.
                size = scaled_size(height, width, round(scale * self.image_size))
            else:
                own = self.image_size or (height, width)
                size = round(scale * own[0]), round(scale * own[1])
            if min(size) < 1:
                raise ValueError(
                    "An image must have pixels at every scale. "
                    f"Received: an image of {height}×{width} (height×width), "
                    f"image_size={self.image_size}, scale {scale}: {size[0]}×{size[1]}. "
                    "Use larger scales or a larger image_size."
                )
            sizes.append(size)
        return sizes

    def views(self, height: int, width: int) -> int:
        """How often the model looks at an image of this size."""
        return sum(len(self.policy.boxes(*size)) for size in self.sizes(height, width))

    def __call__(
        self, images: Iterable[tuple[np.ndarray, Any]], bar: Any = None
    ) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
        """Segments images one after the other; windows of several share batches.

        Args:
            images: Pixels `(height, width, 3)`, 0–255, and anything that is to stay with them.
            bar: A `keras.utils.Progbar` of windows.

        Yields:
            Both, and the probabilities, float32 `(height, width, K)`, a new array each time.
        """
        waiting: collections.deque = collections.deque()
        answers = self._answers(self._views(images, waiting))
        for first in answers:
            pixels, tag = waiting.popleft()
            size = pixels.shape[:2]
            total = np.zeros((*size, first.shape[-1]), np.float32)
            looks = itertools.chain([first], answers)
            for scaled in self.sizes(*size):
                boxes = self.policy.boxes(*scaled)
                mosaic = _Mosaic(total, scaled, boxes, 1 / len(self.policy.scales))
                for box in boxes:
                    mosaic.add(box, next(looks))
                    if bar is not None:
                        bar.add(1)
                mosaic.finish()
            yield pixels, tag, total

    def _views(self, images, waiting) -> Iterator[np.ndarray]:
        """What is looked at, one after the other; an image waits from then on for its answers."""
        for pixels, tag in images:
            waiting.append((pixels, tag))
            for size in self.sizes(*pixels.shape[:2]):
                smooth = is_smoothed(pixels.shape[:2], size, self.policy.antialias)
                rows, columns = (
                    interpolation(old, new, smooth)
                    for old, new in zip(pixels.shape, size, strict=False)
                )
                for box in self.policy.boxes(*size):
                    if not box.mirrored:  # Else it is the one before.
                        view = _window(pixels, box, rows, columns)
                    yield view[:, ::-1] if box.mirrored else view

    def _answers(self, views: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The probabilities of each view, `(height, width, K)`."""
        for _, group in itertools.groupby(views, key=lambda view: view.shape):
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
    """A window of an image that is resized by these rules, float32, padded with the mean color."""
    window = np.empty((box.height, box.width, 3), np.float32)
    window[:] = MEAN_COLOR
    inside = []
    for axis, start, side, (numbers, shares) in [
        (0, box.top, box.height, rows),
        (1, box.left, box.width, columns),
    ]:
        part = slice(max(start, 0), start + side)
        # Of the other axis, too, only what is needed is resized.
        first, last = numbers[part].min(), numbers[part].max()
        pixels = pixels[first : last + 1] if axis == 0 else pixels[:, first : last + 1]
        pixels = interpolate(pixels, axis, numbers[part] - first, shares[part])
        inside.append(slice(max(-start, 0), max(-start, 0) + pixels.shape[axis]))
    window[tuple(inside)] = pixels
    return window


class _Mosaic:
    """The probabilities of an image at one scale, put together from those of its windows.

    The windows come row by row. What the next row of windows does not cover any more is divided by
    how often it was covered, resized and added to the map of the whole image, so that one row of
    windows is all there ever is.

    Args:
        total: Where to add, `(height, width, K)`, at the image's own size.
        size: The image's (height, width) at this scale.
        boxes: The windows.
        weight: How much this scale counts.
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
        # Means at this scale, as wide as the image, of the rows from the first one still needed.
        self.means = np.zeros((0, *total.shape[1:]), np.float32)
        self.first = 0
        self.done = 0  # Rows of the map.

    def add(self, box: Box, probabilities: np.ndarray) -> None:
        """Adds a window's."""
        if box.top > self.top:
            self._settle(box.top - self.top)
        columns = slice(box.left - self.left, box.left - self.left + box.width)
        self.sums[:, columns] += probabilities[:, ::-1] if box.mirrored else probabilities
        self.counts[:, columns] += 1

    def finish(self) -> None:
        """Adds what is left, after the last window."""
        self._settle(len(self.sums))

    def _settle(self, rows: int) -> None:
        """Moves the windows' row down."""
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
        """Makes all rows of the map that can be made, and forgets what no other needs."""
        numbers, shares = self.rows
        ready = int(np.searchsorted(numbers[:, -1], self.first + len(self.means)))
        for block in range(self.done, ready, _ROWS):
            part = slice(block, min(block + _ROWS, ready))
            share = shares[part] * np.float32(self.weight)
            self.total[part] += interpolate(self.means, 0, numbers[part] - self.first, share)
        self.done = ready
        if ready < len(numbers):
            # Where the map is smaller, the next row needed may not be there yet.
            dropped = min(int(numbers[ready, 0]) - self.first, len(self.means))
            self.means = self.means[dropped:]
            self.first += dropped


# Runs --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Args:
        folder: The folder.
        model: The model with the weights that were asked for.
        classes: Names and colors of its classes.
        settings: What the run was told: data, sizes, rates, ….
    """

    folder: Path
    model: keras.Model
    classes: ClassList
    settings: dict[str, Any]


def load_run(folder: str | os.PathLike[str], weights: str = "best") -> Run:
    """Rebuilds the model that a run folder holds.

    Args:
        folder: A folder that `RunFolder` wrote.
        weights: `"best"`, those with the best validation mean IoU, or `"last"`, those of the last
            epoch.

    Returns:
        A `Run`: `.model`, `.classes` and `.settings`.

    Raises:
        FileNotFoundError: If the folder holds no run, or one that has not finished an epoch.
        ValueError: If there are no such weights.

    Example:

    ```python
    import tempfile
    import numpy as np
    import keras_psp

    images, labels = np.zeros((2, 33, 33, 3)), np.zeros((2, 33, 33), "int32")
    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    with tempfile.TemporaryDirectory() as folder:
        run = keras_psp.RunFolder(folder)
        model.fit(images, labels, callbacks=[run], verbose=0)
        again = keras_psp.load_run(folder).model
    assert np.allclose(again.predict(images, verbose=0), model.predict(images, verbose=0))
    ```
    """
    files = {"best": _BEST, "last": _CHECKPOINT}
    folder, file = Path(folder), files[check_name("weights", weights, files)]
    for name, origin in (("config.json", "keras-psp train"), (file, "its first finished epoch")):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"A run folder holds config.json and {file}. Received: folder='{folder}', which "
                f"has no {name}: {origin} writes it. Check the path, or train first."
            )
    config = json.loads((folder / "config.json").read_text())
    model = keras.models.model_from_json(json.dumps(config["model"]))
    model.load_weights(folder / file)
    classes = ClassList(config["classes"]["names"], config["classes"]["colors"])
    return Run(folder, model, classes, config["settings"])
