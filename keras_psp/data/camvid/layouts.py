"""CamVid's splits, and the three public ways in which it lies in folders."""

import contextlib
import dataclasses
import glob
import os
import re

from keras_psp.choices import check_name
from keras_psp.data.camvid.classes import camvid_label_colors, segnet_labels
from keras_psp.data.layouts import DataFiles, Layout, find_data, regroup
from keras_psp.labels import LabelCoding, LabelColors
from keras_psp.warning import warn

HOMEPAGE = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
"""Where the original release is."""

SPLITS = ("train", "val", "test")

SPLIT_BY = ("frame", "folder", "drive")
"""How the split of a frame is found: by its name, as published; by the folder it lies in; or by the
drive it was taken on."""

FOLDER_VARIABLE = "KERAS_PSP_DATA"
"""Environment variable with the folder that holds CamVid."""

NOTEBOOK_FOLDERS = ["/kaggle/input/*/CamVid", "/kaggle/input/datasets/*/*/CamVid"]
"""Where Kaggle mounts a CamVid that a notebook has among its inputs."""

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


_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+")


def published_split(name: str) -> str | None:
    """Returns the split of a frame; `None` if the name is not that of a frame."""
    frame = name.rpartition("/")[2]
    if not _FRAME.fullmatch(frame):
        return None
    return next((split for split, frames in FRAMES.items() if frame in frames), "test")


def split_by_drive(name: str) -> str | None:
    """Returns the split of a frame where no drive is in two: 0006R0 is the validation split."""
    split = published_split(name)
    if split in ("train", "val"):
        return "val" if name.rpartition("/")[2].startswith("0006R0") else "train"
    return split


SEGNET_RELEASE = Layout("SegNet release", "{split}", "{split}annot")
KAGGLE = Layout("Kaggle", "{split}", "{split}_labels", ending="_L")
ORIGINAL_RELEASE = Layout(
    "original release", "701_StillsRaw_full", "LabeledApproved_full", ending="_L"
)
LAYOUTS = (SEGNET_RELEASE, KAGGLE, ORIGINAL_RELEASE)

# Hand-drawn label maps contain stray pixels with a color of no class. Up to this share of a map,
# they become void.
_STRAY = 0.01


def own_folder(folder: str | os.PathLike | None) -> str | os.PathLike | None:
    """Returns the folder that holds CamVid on this machine, if there is one.

    It is the given one, that of the environment, one among a Kaggle notebook's inputs, or one that
    kagglehub has downloaded, and then says which.
    """
    if given := folder or os.environ.get(FOLDER_VARIABLE):
        return given
    cache = os.environ.get("KAGGLEHUB_CACHE", "~/.cache/kagglehub")
    downloads = os.path.expanduser(f"{cache}/datasets/*/*/versions/*/CamVid")
    for pattern in [*NOTEBOOK_FOLDERS, downloads]:
        for found in sorted(glob.glob(pattern), reverse=True):  # The newest version first.
            with contextlib.suppress(ValueError):  # Another data set of that name.
                find_data(found, LAYOUTS)
                print(f"CamVid is read from {found}")
                return found
    return None


def find_camvid(folder: str | os.PathLike, split_by: str = "frame") -> DataFiles:
    """Finds CamVid in a folder, in any of `LAYOUTS`.

    Args:
        folder: The folder.
        split_by: `"frame"`, the published split; `"folder"`, as the files lie; or `"drive"`.

    Raises:
        ValueError: If the folder has none of the layouts, or if there is no such way to split.
    """
    check_name("split_by", split_by, SPLIT_BY)
    found = find_data(folder, LAYOUTS)
    if split_by == "drive":
        return dataclasses.replace(found, splits=regroup(found.splits, split_by_drive))
    return with_published_split(found) if split_by == "frame" else found


def with_published_split(found: DataFiles) -> DataFiles:
    """Divides the frames as everybody does, and says so if they lie in other folders."""
    moved = [
        name
        for split, files in found.splits.items()
        for name in files.images
        if published_split(name) not in (None, split)
    ]
    if not moved:
        return found
    if found.layout != ORIGINAL_RELEASE:
        warn(
            f"{len(moved)} frames in {found.root}, such as {moved[0]}, lie in another split's "
            "folder than the published split says. That split is used (367, 101 and 233 frames), "
            "so that scores compare; load_camvid(..., split_by='folder') takes them as they lie.",
        )
    return dataclasses.replace(found, splits=regroup(found.splits, published_split))


def camvid_coding(found: DataFiles, merging: str = "segnet") -> LabelCoding:
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
