"""What the numbers in a label map mean: class names and colors, void, translations, weights.

Labels are names, never amounts. In this package a label map holds the numbers 0 … K−1 of the
classes, and `VOID` where nothing is known.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_psp.arrays import to_numpy
from keras_psp.checked import checked, short
from keras_psp.choices import repeated, same_letters

Color = tuple[int, int, int]

VOID = 255
"""The label of unknown pixels. It counts in no loss, metric or statistic."""

VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore")
"""Names in class lists (in any case of letters) that mean void, not a class."""

_UNKNOWN = 254  # Marks values and colors without a meaning inside the look-up tables below.
MAX_CLASSES = _UNKNOWN


@checked
@dataclasses.dataclass(frozen=True)
class ClassList:
    """The classes of a data set, in the order of their labels.

    Args:
        names: One name per class; the place in the sequence is the label. Letters with accents are
            kept in their composed form (Unicode's NFC).
        colors: One (red, green, blue) per class, 0–255, or `None`: `distinct_colors` are taken.

    Example:

    ```python
    from keras_psp.labels import ClassList

    classes = ClassList(["road", "other"], [(128, 64, 128), (0, 0, 192)])
    print(len(classes), classes.names, classes.colors)
    ```

    ```text
    2 ('road', 'other') ((128, 64, 128), (0, 0, 192))
    ```
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] = ()

    def __init__(self, names: Sequence[str], colors: Sequence[Sequence[int]] | None = None):
        if not 1 <= len(names) <= MAX_CLASSES:
            raise ValueError(
                f"A class list needs 1 to {MAX_CLASSES} names. Received: names={names!r}. "
                f"Pass a sequence of strings, the name of class 0 first."
            )
        names = [same_letters(name) for name in names]
        if double := repeated(names):
            raise ValueError(
                f"Class names must differ. Received: {', '.join(map(repr, double))} more than "
                f"once. Remove or rename the doubles."
            )
        colors = distinct_colors(len(names)) if colors is None else colors
        triples = tuple((int(r), int(g), int(b)) for r, g, b in colors)
        if len(triples) != len(names):
            raise ValueError(
                f"Every class needs one color. Received: {len(names)} names, {len(triples)} "
                f"colors. Pass as many colors as names, or none."
            )
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "colors", triples)

    def __len__(self) -> int:
        return len(self.names)


@checked
def distinct_colors(count: int) -> list[Color]:
    """Returns `count` colors that are easy to tell apart, none of them black, which is void's.

    The bits of the class number go to the high bits of red, green and blue in turn, as in the color
    map of PASCAL VOC.

    Args:
        count: How many.

    Returns:
        A list of (red, green, blue), 0–255.
    """
    colors = []
    for number in range(1, count + 1):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
        colors.append((channels[0], channels[1], channels[2]))
    return colors


@checked
def numbered_classes(count: int) -> ClassList:
    """Returns the classes "class 0", "class 1", … for data that nobody has named."""
    return ClassList([f"class {number}" for number in range(count)])


def named_classes(classes: ClassList | None) -> ClassList | None:
    """Returns the classes; `None` where they are unknown or `numbered_classes`."""
    return None if classes is None or classes == numbered_classes(len(classes)) else classes


def check_same_classes(num_classes: int | ClassList, classes: ClassList) -> None:
    """Refuses a model and data of different classes.

    Args:
        num_classes: The number of the model's classes; or the classes, where it knows them.
        classes: The classes of the data.

    Raises:
        ValueError: If they differ.
    """
    if isinstance(num_classes, ClassList):
        same = num_classes.names == classes.names
        model = f"a model of {len(num_classes)} classes ({', '.join(num_classes.names)})"
    else:
        same = num_classes == len(classes)
        model = f"num_classes={num_classes}"
    if same:
        return
    raise ValueError(
        f"The model must have the classes of the data. Received: {model}, data of {len(classes)} "
        f"classes ({', '.join(classes.names)}). Build the model with num_classes={len(classes)} "
        "and train it on these classes, or choose other data. Where a function of your own has "
        "changed the labels, name the classes with keras_psp.data.attach. Where other names mean "
        "the same classes, forget the model's: model.classes = None."
    )


@checked
def median_frequency_weights(pixels: ArrayLike, present: ArrayLike) -> list[float]:
    """Returns class weights that balance rare and frequent classes.

    The frequency of a class is its number of pixels divided by the number of pixels of all images
    in which it occurs; its weight is the median of all frequencies divided by its own.

    Args:
        pixels: Per class, its number of pixels in the data set.
        present: Per class, the number of pixels (void included) of the images it occurs in.

    Returns:
        One weight per class; 0 for a class that never occurs, which the median leaves out.

    Example:

    ```python
    from keras_psp.labels import median_frequency_weights

    print(median_frequency_weights([50, 25, 100], [100, 100, 100]))
    ```

    ```text
    [1.0, 2.0, 0.5]
    ```

    Reference:
        Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common
        Multi-Scale Convolutional Architecture" (2015), section 6.2.
    """
    counts, totals = to_numpy(pixels, "pixels", [1]), to_numpy(present, "present", [1])
    if len(counts) != len(totals):
        raise ValueError(
            "Each class has both its numbers. "
            f"Received: {len(counts)} pixels, {len(totals)} present. Pass as many of both."
        )
    occurs = counts > 0
    frequency = counts[occurs] / totals[occurs]
    weights = np.zeros(len(counts))
    weights[occurs] = np.median(frequency) / frequency
    return [float(weight) for weight in weights]


@checked
def class_weights(data: Iterable[Any], num_classes: int, power: float = 1.0) -> list[float]:
    """Returns median-frequency weights of a dataset, for `fit(class_weight=…)`.

    Args:
        data: Batches of (image, label), as from `load_camvid`, without augmentation and with every
            image, so that every pixel counts once.
        num_classes: Number of classes K.
        power: Exponent of the weights: 0.5 helps rare classes at less cost to the others.

    Returns:
        One weight per class, as from `median_frequency_weights`.

    Raises:
        ValueError: If a label is neither a class nor void.

    Example:

    ```python
    import keras_psp
    from keras_psp.labels import class_weights

    scenes = keras_psp.load_street_scenes("train", image_size=(60, 80), num_images=8)
    weights = class_weights(scenes, num_classes=11, power=0.5)
    for name, weight in zip(scenes.class_names[4:7], weights[4:7], strict=True):
        print(f"{name:10} {weight:.1f}")
    ```

    ```text
    SignSymbol 1.8
    Road       0.3
    Pedestrian 2.4
    ```
    """
    pixels, present = np.zeros((2, num_classes), np.int64)
    for batch in data:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError(
                "Classes are counted in batches of images and labels. "
                f"Received: data={short(data)}, with a batch of {type(batch).__name__}. Pass pairs "
                "(images, labels)."
            )
        _, labels = batch
        for label in to_numpy(labels):
            known = label[label != VOID]
            if other := sorted({int(n) for n in known[(known < 0) | (known >= num_classes)]}):
                raise ValueError(
                    f"A label must be one of 0 … {num_classes - 1} or {VOID} for void. Received: "
                    f"label {', '.join(map(str, other[:5]))}. Set num_classes so that it is "
                    f"covered, or map it to {VOID} if it means void."
                )
            counts = np.bincount(known, minlength=num_classes)
            pixels += counts
            present += (counts > 0) * label.size
    return [weight**power for weight in median_frequency_weights(pixels, present)]


@checked
class LabelColors:
    """Translates label maps whose pixels are colors.

    Args:
        colors: The label of each (red, green, blue). Black is void where it is not a class.
        stray: Share of an image's pixels, 0 to 1, that may have unknown colors and become void.

    Example:

    ```python
    import numpy as np
    from keras_psp.labels import LabelColors

    read = LabelColors({(128, 64, 128): 0, (0, 0, 192): 1})
    print(read(np.array([[[128, 64, 128], [0, 0, 192], [0, 0, 0]]], "uint8")))
    ```

    ```text
    [[  0   1 255]]
    ```
    """

    def __init__(self, colors: Mapping[Color, int], stray: float = 0.0):
        self.stray = stray
        self.table = np.full(1 << 24, _UNKNOWN, np.uint8)
        self.table[0] = VOID
        for color, label in colors.items():
            self.table[_codes(color)] = label

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Translates one map.

        Args:
            mask: uint8, `(height, width, 3)`.

        Returns:
            Labels, uint8, `(height, width)`.

        Raises:
            ValueError: If more than the share `stray` of the pixels have unknown colors.
        """
        labels = self.table[_codes(mask)]
        unknown = labels == _UNKNOWN
        if unknown.mean() > self.stray:
            colors = mask[unknown]
            is_gray = (colors == colors[:, :1]).all()
            numbers = " Where gray means numbers, say which: labels='binary', …." if is_gray else ""
            raise ValueError(
                f"Every color of a label map must be in the class list. Received: (red, green, "
                f"blue) {_listing(colors)}. Add these colors to the class list, or save the "
                f"label map without compression losses and antialiasing (as PNG).{numbers}"
            )
        labels[unknown] = VOID
        return labels


@checked
class LabelValues:
    """Translates label maps whose pixels are numbers.

    Args:
        labels: The label (or `VOID`) of each number; or a sequence, of the numbers 0, 1, 2, … in
            turn. Without a label of its own, 255 is void.
        colors: What colors mean, if the classes have any. A palette file has both a number and a
            color at each pixel. Where they disagree, the color decides: reducing an image to a
            palette numbers the colors anew.

    Example:

    ```python
    import numpy as np
    from keras_psp.labels import LabelValues

    one_based = LabelValues([255, 0, 1])
    print(one_based(np.array([[0, 1, 2]], "uint8")))
    ```

    ```text
    [[255   0   1]]
    ```
    """

    def __init__(
        self, labels: Sequence[int] | Mapping[int, int], colors: LabelColors | None = None
    ):
        self.colors = colors
        self.table = np.full(256, _UNKNOWN, np.uint8)
        self.table[VOID] = VOID
        for number, label in dict(
            labels if isinstance(labels, Mapping) else enumerate(labels)
        ).items():
            self.table[number] = label

    def __call__(self, mask: np.ndarray, palette: Sequence[int] = ()) -> np.ndarray:
        """Translates one map.

        Args:
            mask: uint8, `(height, width)`.
            palette: Red, green and blue of the numbers in turn, or nothing.

        Returns:
            Labels, uint8, `(height, width)`.

        Raises:
            ValueError: If a pixel has no meaning, or if a palette leaves two meanings.
        """
        if self.colors and len(palette):
            by_number = np.array(palette, np.uint8).reshape(-1, 3)
            if self._colors_decide(self.colors, by_number, np.unique(mask)):
                return self.colors(by_number[mask])
        labels = self.table[mask]
        if (labels == _UNKNOWN).any():
            raise ValueError(
                f"A label must be {self._known()}. "
                f"Received: labels {_listing(mask[labels == _UNKNOWN])}. Repair the label map, or "
                f"give the class list all classes."
            )
        return labels

    def _known(self) -> str:
        """Names the numbers that have a meaning."""
        known = np.flatnonzero(self.table[:VOID] != _UNKNOWN)
        gaps = np.flatnonzero(np.diff(known) > 1) + 1
        runs = [
            f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}"
            for run in np.split(known, gaps)
        ]
        return f"{', '.join(runs)}, or {VOID}{' for void' if self.table[VOID] == VOID else ''}"

    def _colors_decide(self, colors: LabelColors, palette: np.ndarray, used: np.ndarray) -> bool:
        """Tells whether the colors of the numbers that are used count, or else the numbers."""
        by_color = np.full(256, _UNKNOWN, np.uint8)
        by_color[: len(palette)] = colors.table[_codes(palette)]
        known = by_color[used] != _UNKNOWN
        if (by_color == self.table)[used[known]].all():
            return False
        if known.all():
            return True
        listed = [n for n in used[:5] if n < len(palette)]
        shown = ", ".join(f"{n} in {tuple(palette[n].tolist())}" for n in listed)
        raise ValueError(
            "A palette's colors must all be classes' colors, or its numbers the classes. "
            f"Received: {shown}{', …' if len(used) > 5 else ''}: only some are classes' colors, "
            "which are not those of the numbers. Save the label map as RGB if the colors are "
            "meant, as grayscale if the numbers are."
        )


LabelCoding = LabelValues | LabelColors
"""What turns the pixels of a label file into labels."""


def _codes(colors: ArrayLike) -> np.ndarray:
    """Returns one number for each color `(…, 3)`."""
    red, green, blue = np.moveaxis(np.asarray(colors, np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _listing(pixels: np.ndarray) -> str:
    """Lists different numbers or colors, at most five, and how many pixels have them."""
    different, counts = np.unique(pixels, axis=0, return_counts=True)
    names = [str(p) if pixels.ndim == 1 else str(tuple(p)) for p in different[:5].tolist()]
    found = [f"{name} ({count} pixels)" for name, count in zip(names, counts, strict=False)]
    return ", ".join(found) + (", …" if len(different) > 5 else "")
