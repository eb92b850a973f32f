"""What the labels mean: class names, colors, CamVid's merges of 32 classes to eleven, frequencies.

Labels are names, never amounts. In this package a label map holds the numbers 0 … K-1 of the
classes and `VOID` where nothing is known; the tables here say which number is which class, in
which color it is drawn, and how the label maps of other people are translated.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_psp.naming import check_name

Color = tuple[int, int, int]

VOID = 255
"""The label of pixels of which nothing is known. It counts in no loss, metric or statistic."""

VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore")
"""Names in class lists (in any case of letters) that mean void, not a class."""

_UNKNOWN = 254  # Marks values and colors without a meaning inside the look-up tables below.
MAX_CLASSES = _UNKNOWN


@dataclasses.dataclass(frozen=True)
class ClassList:
    """The classes of a data set, in the order of their labels.

    Args:
        names: One name per class; the place in the sequence is the label.
        colors: One (red, green, blue) per class, 0–255, or `None`: `distinct_colors` are taken.

    Example:

    ```python
    from keras_psp.classes import CAMVID, ClassList

    assert CAMVID.names[5] == "Road" and CAMVID.colors[5] == (128, 64, 128)
    assert len(ClassList(["road", "other"])) == 2
    ```
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...] = ()

    def __init__(self, names: Sequence[str], colors: Sequence[Sequence[int]] | None = None):
        if isinstance(names, str) or not 1 <= len(names) <= MAX_CLASSES:
            raise ValueError(
                f"A class list needs 1 to {MAX_CLASSES} names. Received: names={names!r}. "
                f"Pass a sequence of strings, the name of class 0 first."
            )
        if len(set(names)) != len(names):
            double = sorted({name for name in names if list(names).count(name) > 1})
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


def distinct_colors(count: int) -> list[Color]:
    """Returns `count` well distinguishable colors, none of them black (void's).

    The bits of the class number are dealt out to the high bits of red, green and blue in turn, as
    in the color maps of PASCAL VOC.

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


# CamVid -----------------------------------------------------------------------------------------

CAMVID_COLORS_32: dict[str, Color] = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0),
    "Wall": (64, 192, 0),
}
"""The colors (red, green, blue) of the original release's 32 classes (Brostow et al. 2008)."""

CAMVID_CLASSES: tuple[str, ...] = (
    "Building",
    "Tree",
    "Sky",
    "Car",
    "SignSymbol",
    "Road",
    "Pedestrian",
    "Fence",
    "Column_Pole",
    "Sidewalk",
    "Bicyclist",
)
"""The eleven classes in the order used everywhere in this package."""

CAMVID_COLORS: tuple[Color, ...] = tuple(CAMVID_COLORS_32[name] for name in CAMVID_CLASSES)
"""Their colors in the original release."""

CAMVID = ClassList(CAMVID_CLASSES, CAMVID_COLORS)
"""Names and colors of the eleven classes."""

SEGNET_CLASSES: tuple[str, ...] = (
    "Sky",
    "Building",
    "Column_Pole",
    "Road",
    "Sidewalk",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
"""The same eleven in the order of the SegNet release's label maps, where 11 is unlabelled."""

CAMVID_MERGINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "segnet": {
        "Building": ("Building", "Bridge", "Wall", "Tunnel", "Archway"),
        "Tree": ("Tree", "VegetationMisc"),
        "Sky": ("Sky",),
        "Car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"),
        "SignSymbol": ("SignSymbol", "Misc_Text", "TrafficLight"),
        "Road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
        "Pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
        "Fence": ("Fence",),
        "Column_Pole": ("Column_Pole", "TrafficCone"),
        "Sidewalk": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
        "Bicyclist": ("Bicyclist", "MotorcycleScooter"),
    },
    "lecture": {name: (name,) for name in CAMVID_CLASSES},
}
"""Two ways from 32 classes to eleven; what no class takes in is void. `"segnet"` is the merge of
the SegNet release and of most papers, `"lecture"` the one of MSeg and the course, where the other
21 classes are dropped. Scores under one must not be compared with scores under the other."""

CAMVID_FREQUENCIES: tuple[float, ...] = (
    0.242148,
    0.101238,
    0.175376,
    0.061068,
    0.012212,
    0.329596,
    0.006655,
    0.011731,
    0.010233,
    0.046707,
    0.003037,
)
"""Share of each class in the labeled pixels of the train split (SegNet release)."""

CAMVID_CLASS_WEIGHTS: tuple[float, ...] = (
    0.2017,
    0.4217,
    0.2793,
    0.7889,
    3.8467,
    0.1490,
    6.3747,
    1.9736,
    4.7865,
    1.0000,
    8.8587,
)
"""Median-frequency weights of the train split (SegNet release), by `median_frequency_weights`."""

SEGNET_CLASS_WEIGHTS: tuple[float, ...] = (
    0.1826,
    0.3826,
    0.2595,
    0.6823,
    9.6446,
    0.1417,
    6.2478,
    1.8418,
    4.5640,
    0.9051,
    7.3614,
)
"""The weights that SegNet was trained with, as published. The same rule on the released label maps
gives `CAMVID_CLASS_WEIGHTS`: ten within 17 % of these, but 3.85 instead of 9.64 for SignSymbol."""


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
    from keras_psp.classes import median_frequency_weights

    assert median_frequency_weights([50, 25, 100], [100, 100, 100]) == [1.0, 2.0, 0.5]
    ```

    Reference:
        Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common
        Multi-Scale Convolutional Architecture" (2015), section 6.2.
    """
    counts, totals = np.asarray(pixels, float), np.asarray(present, float)
    occurs = counts > 0
    frequency = counts[occurs] / totals[occurs]
    weights = np.zeros(len(counts))
    weights[occurs] = np.median(frequency) / frequency
    return [float(weight) for weight in weights]


def class_weights(data: Iterable[Any], num_classes: int, power: float = 1.0) -> list[float]:
    """Returns median-frequency weights from one pass over a dataset, for `fit(class_weight=…)`.

    Args:
        data: Batches of (image, label), as from `load_camvid`; not augmented and not shuffled, so
            that every pixel is counted once.
        num_classes: Number of classes K.
        power: Exponent of the weights: 0.5 helps rare classes at less cost to the others.

    Returns:
        One weight per class, as from `median_frequency_weights`.

    Raises:
        ValueError: If a label is neither a class nor void.

    Example:

    ```python
    import numpy as np
    from keras_psp.classes import class_weights

    labels = np.array([[[0, 0, 0, 0, 1, 255]]])
    assert class_weights([(None, labels)], num_classes=2, power=0.5) == [0.625**0.5, 2.5**0.5]
    ```
    """
    pixels, present = np.zeros((2, num_classes), np.int64)
    for _, labels in data:
        for label in np.asarray(labels):
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


# Translating label maps -------------------------------------------------------------------------


def camvid_label_colors(merging: str = "segnet") -> dict[Color, int]:
    """Returns the label (0–10, or 255) of each of CamVid's 32 colors.

    Args:
        merging: `"segnet"` or `"lecture"`, see `CAMVID_MERGINGS`.
    """
    table = CAMVID_MERGINGS[check_name("merging", merging, CAMVID_MERGINGS)]
    label = {old: CAMVID_CLASSES.index(new) for new, olds in table.items() for old in olds}
    return {color: label.get(name, VOID) for name, color in CAMVID_COLORS_32.items()}


class LabelValues:
    """Translates label maps whose pixels are numbers.

    Args:
        labels: The label (or `VOID`) of the numbers 0, 1, 2, … in turn. 255 is void in any case.

    Example:

    ```python
    import numpy as np
    from keras_psp.classes import LabelValues

    segnet = LabelValues.segnet()
    assert segnet(np.array([[0, 11]], "uint8")).tolist() == [[2, 255]]  # Sky, unlabelled
    ```
    """

    def __init__(self, labels: Sequence[int]):
        self.count = len(labels)
        self.table = np.full(256, _UNKNOWN, np.uint8)
        self.table[: len(labels)] = labels
        self.table[VOID] = VOID

    @classmethod
    def segnet(cls) -> "LabelValues":
        """The label maps of the SegNet release, to the lecture's order."""
        return cls([*(CAMVID_CLASSES.index(name) for name in SEGNET_CLASSES), VOID])

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Translates one map.

        Args:
            mask: uint8, `(height, width)`.

        Returns:
            Labels, uint8, `(height, width)`.

        Raises:
            ValueError: If a pixel has a number without a meaning.
        """
        labels = self.table[mask]
        if (labels == _UNKNOWN).any():
            values, counts = np.unique(mask[labels == _UNKNOWN], return_counts=True)
            found = ", ".join(f"{v} ({n} pixels)" for v, n in zip(values[:5], counts, strict=False))
            raise ValueError(
                f"A label must be 0 to {self.count - 1}, or {VOID} for unlabelled. "
                f"Received: labels {found}{', …' if len(values) > 5 else ''}. Repair the label "
                f"map, or give the class list all classes."
            )
        return labels


class LabelColors:
    """Translates label maps whose pixels are colors.

    Args:
        colors: The label of each (red, green, blue). Black is void where it is not a class.
        stray: Share of an image's pixels, 0 to 1, that may have unknown colors and become void.

    Example:

    ```python
    import numpy as np
    from keras_psp.classes import LabelColors, camvid_label_colors

    lecture = LabelColors(camvid_label_colors("lecture"))
    mask = np.array([[[128, 64, 128], [128, 0, 192]]], "uint8")  # Road, LaneMkgsDriv
    assert lecture(mask).tolist() == [[5, 255]]
    ```
    """

    def __init__(self, colors: Mapping[Color, int], stray: float = 0.0):
        self.stray = stray
        self.table = np.full(1 << 24, _UNKNOWN, np.uint8)
        self.table[0] = VOID
        for (red, green, blue), label in colors.items():
            self.table[red << 16 | green << 8 | blue] = label

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Translates one map.

        Args:
            mask: uint8, `(height, width, 3)`.

        Returns:
            Labels, uint8, `(height, width)`.

        Raises:
            ValueError: If more than the share `stray` of the pixels have unknown colors.
        """
        red, green, blue = np.moveaxis(mask.astype(np.int32), -1, 0)
        codes = red << 16 | green << 8 | blue
        labels = self.table[codes]
        unknown = labels == _UNKNOWN
        if unknown.any():
            if unknown.mean() > self.stray:
                values, counts = np.unique(codes[unknown], return_counts=True)
                found = ", ".join(
                    f"{(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255)} ({n} pixels)"
                    for v, n in zip(values[:5], counts, strict=False)
                )
                raise ValueError(
                    f"Every color of a label map must be in the class list. Received: (red, "
                    f"green, blue) {found}{', …' if len(values) > 5 else ''}. Add these colors to "
                    f"the class list, or save the label map without compression losses and "
                    f"antialiasing (as PNG)."
                )
            labels[unknown] = VOID
        return labels
