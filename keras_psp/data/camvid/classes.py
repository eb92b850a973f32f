"""CamVid's classes: their names and colors, the merges of 32 classes to eleven, frequencies."""

from keras_psp.labels import VOID, ClassList, Color, LabelValues

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
    "Building", "Tree", "Sky", "Car", "SignSymbol", "Road", "Pedestrian", "Fence", "Column_Pole",
    "Sidewalk", "Bicyclist",
)  # fmt: skip
"""The eleven classes in the order used everywhere in this package."""

CAMVID_COLORS: tuple[Color, ...] = tuple(CAMVID_COLORS_32[name] for name in CAMVID_CLASSES)
"""Their colors in the original release."""

CAMVID = ClassList(CAMVID_CLASSES, CAMVID_COLORS)
"""Names and colors of the eleven classes."""

SEGNET_CLASSES: tuple[str, ...] = (
    "Sky", "Building", "Column_Pole", "Road", "Sidewalk", "Tree", "SignSymbol", "Fence", "Car",
    "Pedestrian", "Bicyclist",
)  # fmt: skip
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
    "mseg": {name: (name,) for name in CAMVID_CLASSES},
}
"""Two ways from 32 classes to eleven; what no class takes in is void. `"segnet"` is the merge of
the SegNet release and of most papers. `"mseg"` keeps the eleven classes of the same names and
drops the other 21, as MSeg does (Lambert et al. 2020). Scores under one must not be compared with
scores under the other."""

CAMVID_FREQUENCIES: tuple[float, ...] = (
    0.242148, 0.101238, 0.175376, 0.061068, 0.012212, 0.329596, 0.006655, 0.011731, 0.010233,
    0.046707, 0.003037,
)  # fmt: skip
"""Share of each class in the labeled pixels of the train split (SegNet release)."""

CAMVID_CLASS_WEIGHTS: tuple[float, ...] = (
    0.2017, 0.4217, 0.2793, 0.7889, 3.8467, 0.1490, 6.3747, 1.9736, 4.7865, 1.0000, 8.8587,
)  # fmt: skip
"""Median-frequency weights of the train split (SegNet release), by `median_frequency_weights`."""

SEGNET_CLASS_WEIGHTS: tuple[float, ...] = (
    0.1826, 0.3826, 0.2595, 0.6823, 9.6446, 0.1417, 6.2478, 1.8418, 4.5640, 0.9051, 7.3614,
)  # fmt: skip
"""The weights that SegNet was trained with, as published. The same rule on the released label maps
gives `CAMVID_CLASS_WEIGHTS`: ten within 17 % of these, but 3.85 instead of 9.64 for SignSymbol."""


def camvid_label_colors(merging: str) -> dict[Color, int]:
    """Returns the label (0–10, or 255) of each of CamVid's 32 colors.

    Args:
        merging: `"segnet"` or `"mseg"`, see `CAMVID_MERGINGS`.
    """
    merged = CAMVID_MERGINGS[merging].items()
    label = {old: CAMVID_CLASSES.index(new) for new, olds in merged for old in olds}
    return {color: label.get(name, VOID) for name, color in CAMVID_COLORS_32.items()}


def segnet_labels() -> LabelValues:
    """Returns what translates the label maps of the SegNet release to the order used here.

    Example:

    ```python
    import numpy as np
    from keras_psp.data.camvid.classes import segnet_labels

    print(segnet_labels()(np.array([[0, 11]], "uint8")))  # Sky, unlabelled
    ```

    ```text
    [[  2 255]]
    ```
    """
    return LabelValues([*(CAMVID_CLASSES.index(name) for name in SEGNET_CLASSES), VOID])
