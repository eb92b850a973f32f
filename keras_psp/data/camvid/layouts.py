"""CamVid's splits, and the three public ways in which it lies in folders."""

import os

from keras_psp.data.camvid.classes import camvid_label_colors, segnet_labels
from keras_psp.data.layouts import DataFolder, Layout, find_data
from keras_psp.labels import LabelCoding, LabelColors

HOMEPAGE = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
"""Where the original release is."""

SPLITS = ("train", "val", "test")

FOLDER_VARIABLE = "KERAS_PSP_DATA"
"""Environment variable with the folder that holds CamVid."""

# Sequence name with the frame number's format, first and last frame, step. All other frames are the
# test split's.
_FRAMES = {
    "train": (
        ("0001TP_{:06d}", 6690, 8520, 30),
        ("0006R0_f{:05d}", 930, 3930, 30),
        ("0016E5_{:05d}", 390, 870, 30),
        ("0016E5_{:05d}", 901, 901, 30),
        ("0016E5_{:05d}", 930, 2400, 30),
        ("0016E5_{:05d}", 4350, 7920, 30),
        ("0016E5_{:05d}", 8190, 8640, 30),
    ),
    "val": (("0016E5_{:05d}", 7959, 8159, 2),),
}
FRAMES = {
    split: frozenset(
        frame.format(number)
        for frame, first, last, step in ranges
        for number in range(first, last + 1, step)
    )
    for split, ranges in _FRAMES.items()
}
"""The names of the 367 training and 101 validation frames."""


def _split_of(frame: str) -> str:
    return next((split for split, frames in FRAMES.items() if frame in frames), "test")


SEGNET_RELEASE = Layout("SegNet release", "{split}", "{split}annot")
KAGGLE = Layout("Kaggle", "{split}", "{split}_labels", ending="_L")
ORIGINAL_RELEASE = Layout(
    "original release",
    "701_StillsRaw_full",
    "LabeledApproved_full",
    ending="_L",
    splits=SPLITS,
    split_of=_split_of,
)
LAYOUTS = (SEGNET_RELEASE, KAGGLE, ORIGINAL_RELEASE)

# Hand-drawn label maps contain stray pixels with a color of no class. Up to this share of a map,
# they become void.
_STRAY = 0.01


def find_camvid(folder: str | os.PathLike) -> DataFolder:
    """Finds CamVid in a folder, in any of `LAYOUTS`.

    Raises:
        ValueError: If the folder has none of the layouts.
    """
    return find_data(folder, LAYOUTS)


def camvid_coding(found: DataFolder, merging: str = "segnet") -> LabelCoding:
    """Returns what turns the label files of a folder into the eleven classes.

    Args:
        found: The folder.
        merging: `"segnet"` or `"mseg"`.

    Raises:
        ValueError: If the label files have been merged in the other way already.
    """
    if found.layout == SEGNET_RELEASE:
        check_merging(merging, found.root)
        return segnet_labels()
    return LabelColors(camvid_label_colors(merging), stray=_STRAY)


def check_merging(merging: str, source: object) -> None:
    """Refuses another merging of label maps in the SegNet release's form than that release's."""
    if merging != "segnet":
        raise ValueError(
            f"The label maps of the SegNet release are already merged from 32 classes to eleven, "
            f"in SegNet's way. Received: merging={merging!r} with {source}. Pass data_dir= a "
            f"folder with the original 32-color label maps ({ORIGINAL_RELEASE}; from {HOMEPAGE}), "
            f"or merging='segnet'."
        )
