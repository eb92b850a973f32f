"""Test-time augmentation: which views of an image a network sees.

`Views` describes them, for segmenting and classifying alike: scales, windows or crops, mirrored or
not. `VIEWS` holds the usual ones by name. The network's answers to all views are averaged.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.data.resizing import scaled_size
from keras_psp.weights.comparing import not_finite

_MAX_PIXELS = 10**10  # No memory holds the answers to more.


class Box(NamedTuple):
    """A rectangle of an image, in pixels.

    Args:
        top: Rows above it; negative where it begins outside the image.
        left: Columns to the left of it, likewise.
        height: Its height.
        width: Its width.
        mirrored: Whether the network sees it with left and right exchanged.
    """

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


CROPS = ("corners", "center", "square")


@checked
@dataclasses.dataclass(frozen=True)
class Views:
    """The views of an image that a network sees (test-time augmentation).

    The image is resized to each of the scales. There the network sees the whole image, or windows
    that cover it, or, if it is a classifier, crops of the size of its input.

    Args:
        window_size: Side of square windows in pixels, or their `(height, width)`: best the size of
            the crops that the model was trained with. `None` means whole images. In segmenting, a
            smaller image is padded with the mean color, and the answers for the padding are
            dropped.
        stride: Distance from one window to the next, as a share of the window, above 0 to 1. The
            last windows of a row and of a column end where the image ends.
        scales: Factors on the `image_size` that `segment` or `classify` is given.
        mirror: Whether the network sees every view mirrored, too.
        antialias: Whether images are smoothed before they shrink; `"auto"`: where they shrink by
            more than a factor of two, as in `load_camvid`.
        crops: For classifiers: which crops of each square of the image to take, instead of windows:
            `"corners"`, its four corners; `"center"`, its center; `"square"`, all of it, resized to
            the size of the crops.
        squares: How many squares of the image, as large as fits, the crops are taken from: 1, in
            its center, or 3, at both ends as well.

    Raises:
        ValueError: If there is no scale, or one is not above 0, if a window, stride or crop is
            none, or if both windows and crops are given.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5: six scales, mirrored;
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 4.1: ten crops.

    Example:

    ```python
    from keras_psp.inference.views import Views

    windows = Views(window_size=201)
    print([box[:2] for box in windows.boxes(240, 320)])  # top and left of each

    crops = Views(crops=("corners", "center"))
    print(crops.boxes(256, 320, crop_size=224)[3])
    ```

    ```text
    [(0, 0), (0, 119), (39, 0), (39, 119)]
    Box(top=32, left=64, height=224, width=224, mirrored=False)
    ```
    """

    window_size: int | tuple[int, int] | None = None
    stride: float = 2 / 3
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    antialias: bool | str = "auto"
    crops: tuple[str, ...] = ()
    squares: int = 1

    def __post_init__(self):
        for name in ("scales", "crops"):  # From a list or an array.
            object.__setattr__(self, name, tuple(getattr(self, name)))
        window = self.window_size
        windows = window is None or (_sides(window) and not self.crops)
        scales = self.scales and all(0 < scale < math.inf for scale in self.scales)
        if not (windows and 0 < self.stride <= 1 and scales):
            raise ValueError(
                "Views need windows with sides of at least one pixel, or crops instead, a stride "
                "above 0 and at most 1, and at least one scale, above 0. Received: "
                f"window_size={window}, stride={self.stride}, scales={self.scales}, "
                f"crops={self.crops}. Leave out what need not differ from the default."
            )
        if isinstance(self.antialias, str):
            check_name("antialias", self.antialias, ["auto"], "Or pass True or False.")
        for crop in self.crops:
            check_name("crop", crop, CROPS)
        if self.squares not in (1, 3):
            raise ValueError(
                "Crops come from 1 square of an image or from 3. "
                f"Received: squares={self.squares}. Pass one of these."
            )

    def sizes(
        self, height: int, width: int, image_size: int | Sequence[int] | None = None
    ) -> list[tuple[int, int]]:
        """Computes the size of an image at each of the scales.

        Args:
            height: The image's height in pixels.
            width: Its width.
            image_size: `(height, width)` at scale 1, or the shorter side; `None` is the image's
                own.

        Returns:
            `(height, width)` at each of the scales.

        Raises:
            ValueError: If there is no such size, or no pixel is left at one of the scales.
        """
        if image_size is not None and not _sides(image_size):
            raise ValueError(
                "image_size must be (height, width) in pixels, or the shorter side. "
                f"Received: image_size={image_size!r}. Pass positive integers, such as (240, 320) "
                "or 240; None takes images at their own size."
            )
        sizes = []
        for scale in self.scales:
            if isinstance(image_size, int | np.integer):
                # The shorter side is rounded first, as in the course.
                size = scaled_size(height, width, round(scale * image_size))
            else:
                own = image_size or (height, width)
                size = round(scale * own[0]), round(scale * own[1])
            if size[0] * size[1] > _MAX_PIXELS:
                raise ValueError(
                    f"An image has at most {_MAX_PIXELS:,} pixels at every scale. "
                    f"Received: an image of {height}×{width} (height×width), "
                    f"image_size={image_size}, scale {scale:g}. Use smaller scales or a smaller "
                    "image_size."
                )
            if min(size) < 1:
                raise ValueError(
                    "An image must have pixels at every scale. "
                    f"Received: an image of {height}×{width} (height×width), "
                    f"image_size={image_size}, scale {scale}: {size[0]}×{size[1]}. "
                    "Use larger scales or a larger image_size."
                )
            sizes.append(size)
        return sizes

    def boxes(self, height: int, width: int, crop_size: int = 224) -> list[Box]:
        """Lists the parts of an image that the network sees at one of the scales.

        Args:
            height: The image's height in pixels at this scale.
            width: Its width.
            crop_size: Side of the crops.

        Returns:
            The windows, row by row, or the crops, square by square; each is followed by its mirror
            image if there are any. All windows have one size. If the image is smaller, they reach
            beyond it on both sides.

        Raises:
            ValueError: If the crops are larger than the image.
        """
        found = self._windows(height, width)
        if self.crops:
            found = self._crops(height, width, crop_size)
        mirror = (False, True) if self.mirror else (False,)
        return [box._replace(mirrored=mirrored) for box in found for mirrored in mirror]

    def _windows(self, height: int, width: int) -> Iterator[Box]:
        sides = _sides(self.window_size) or (height, width)
        rows, columns = (
            _starts(length, side, math.ceil(side * self.stride))
            for length, side in zip((height, width), sides, strict=True)
        )
        for top, left in itertools.product(rows, columns):
            yield Box(top, left, *sides)

    def _crops(self, height: int, width: int, crop_size: int) -> Iterator[Box]:
        side = min(height, width)
        free = side - crop_size
        if free < 0:
            raise ValueError(
                "The image's shorter side must be at least a crop's. "
                f"Received: an image of {height}×{width} (height×width), crop_size={crop_size}. "
                "Use larger scales or smaller crops."
            )
        for share in (0, 0.5, 1) if self.squares == 3 else (0.5,):
            top, left = int(share * (height - side)), int(share * (width - side))
            for crop in self.crops:
                if crop == "square":
                    yield Box(top, left, side, side)
                    continue
                corners = itertools.product((0, free), repeat=2)
                for down, right in corners if crop == "corners" else [(free // 2, free // 2)]:
                    yield Box(top + down, left + right, crop_size, crop_size)

    def describe(self, image_size: int | Sequence[int] | None = None) -> str:
        """Describes the views in a few words, for reports."""
        at = "their own size" if image_size is None else f"shorter side {image_size}"
        if isinstance(image_size, Sequence):
            at = "×".join(map(str, image_size))
        what = "whole images"
        if self.crops:
            what = f"crops ({', '.join(self.crops)}; squares: {self.squares}) of images"
        elif self.window_size is not None:
            sides = "×".join(map(str, _sides(self.window_size) or ()))
            what = f"windows of {sides} (stride {self.stride:.2f} of them) of images"
        scales = "scales " if len(self.scales) > 1 else "scale "
        scales += ", ".join(f"{scale:g}" for scale in self.scales)
        return f"{what} at {at}, {scales}, {'and' if self.mirror else 'not'} mirrored"


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


_SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)

VIEWS: dict[str, Views] = {
    "single": Views(),
    "multi_scale": Views(scales=_SIX_SCALES, mirror=True),
    "course": Views(201, mirror=True, antialias=False),
    "course_multi_scale": Views(201, scales=_SIX_SCALES, mirror=True, antialias=False),
    "center_crop": Views(crops=("center",)),
    "10_crops": Views(crops=("corners", "center"), mirror=True),
    "144_crops": Views(scales=(1, 1.125, 1.25, 1.375), mirror=True, crops=CROPS, squares=3),
    "dense_256": Views(mirror=True),
    "dense_384": Views(scales=(1.5,), mirror=True),
    "dense_multi_scale_256": Views(scales=(0.875, 1, 1.125), mirror=True),
    "dense_multi_scale_384": Views(scales=(1.375, 1.5, 1.625), mirror=True),
    "dense_multi_scale": Views(scales=(1, 1.5, 2), mirror=True),
    "resnet_multi_scale": Views(scales=(0.875, 1, 1.5, 1.875, 2.5), mirror=True),
}
"""The usual views by name.

| segmenting | |
| --- | --- |
| `single` | the whole image, once: what the network sees in training |
| `multi_scale` | the PSPNet paper's six scales, mirrored too, of whole images |
| `course` | windows as in Georgia Tech's course in computer vision, with `image_size=240` |
| `course_multi_scale` | the same at the six scales |

| classifying, with `image_size=256` | |
| --- | --- |
| `center_crop` | one crop |
| `10_crops` | AlexNet's (section 4.1), and ResNet's for comparison |
| `144_crops` | GoogLeNet's (section 7): 4 scales × 3 squares × 6 crops × 2 |
| `dense_256`, `dense_384` | VGG's at one scale (section 4.1): Q = S, or 384 for S = 256 … 512 |
| `dense_multi_scale_256`, `…_384` | VGG's at three (section 4.2): Q = S − 32, S, S + 32 |
| `dense_multi_scale` | … for S = 256 … 512: Q = 256, 384, 512 |
| `resnet_multi_scale` | ResNet's (section 3.4): 224, 256, 384, 480, 640 |

VGG's paper calls the shorter side S in training and Q in the test.
"""


def predict_views(
    model: Any, views: Iterator[tuple[Any, np.ndarray]], batch_size: int
) -> Iterator[tuple[Any, np.ndarray]]:
    """Predicts views, each of which comes with a tag and leaves with it; views of one size that
    follow one another share batches."""
    for _, group in itertools.groupby(views, key=lambda view: view[1].shape):
        while batch := list(itertools.islice(group, batch_size)):
            tags, pixels = zip(*batch, strict=True)
            answers = model.predict_on_batch(np.stack(pixels))
            if not np.isfinite(answers).all():
                raise FloatingPointError(
                    "A network answers with finite numbers. Received: NaN or infinity from model="
                    f"{model.name}{_where(model)}. Load other weights, or train it again with a "
                    "lower learning rate."
                )
            # Under MirroredStrategy every replica answers for the whole batch: there are more.
            yield from zip(tags, answers, strict=False)


def _where(model: Any) -> str:
    broken = not_finite(model)
    return f", whose {broken} has such weights" if broken else ""


def find_views(views: str | Views) -> Views:
    """Returns the views with this name, or those given; raises `ValueError` for another name."""
    return views if isinstance(views, Views) else VIEWS[check_name("set of views", views, VIEWS)]
