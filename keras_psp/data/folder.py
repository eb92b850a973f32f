"""`load_folder` and `load_pairs`: images and label maps of your own, with a class list."""

import csv
import dataclasses
import io
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from keras_psp.checked import checked
from keras_psp.data.camvid.layouts import KAGGLE, SEGNET_RELEASE
from keras_psp.data.codings import TRAIN_IDS, Classes, LabelMeaning, Labels, read_classes
from keras_psp.data.info import Dataset
from keras_psp.data.layouts import (
    SPLIT_NAMES,
    DataFiles,
    Layout,
    SplitFiles,
    find_data,
    group_by_name,
)
from keras_psp.data.options import LoadingOptions
from keras_psp.data.pipeline import load_splits
from keras_psp.data.split import Arrays, Sample
from keras_psp.labels import VOID, LabelCoding
from keras_psp.signatures import passes_on
from keras_psp.untrusted import read_text
from keras_psp.warning import warn

LAYOUTS = (
    Layout("folders", "{split}/{images}", "{split}/{labels}"),
    Layout("folders", "{images}/{split}", "{labels}/{split}"),
    SEGNET_RELEASE,
    KAGGLE,
    Layout("folders", "{split}", "{split}_{labels}"),
    Layout(
        "Cityscapes",
        "leftImg8bit/{split}",
        ["gtFine/{split}", "gtCoarse/{split}"],
        [f"_{gt}_{ids}" for gt in ("gtFine", "gtCoarse") for ids in ("labelIds", TRAIN_IDS)],
        image_ending="_leftImg8bit",
    ),
    Layout("Pascal VOC", "JPEGImages", ["SegmentationClass", "SegmentationClassAug"]),
    Layout("without splits", "{images}", "{labels}"),
    Layout("in one folder", "{split}", "{split}"),
    Layout("in one folder", ".", "."),
)

_LABEL_COLUMNS = ("label", "mask")
_LOOKED_AT = 8  # Label maps that are looked at where they are not all in memory.


@overload
def load_folder(
    folder: str | os.PathLike,
    split: str = ...,
    image_size: tuple[int, int] | None = ...,
    batch_size: int = ...,
    *,
    classes: Classes | None = ...,
    labels: Labels | None = ...,
    validation_split: float | None = ...,
    split_seed: int = ...,
    **options: Any,
) -> Dataset: ...


@overload
def load_folder(
    folder: str | os.PathLike, split: Sequence[str], *args: Any, **options: Any
) -> list[Dataset]: ...


@checked
@passes_on(LoadingOptions)
def load_folder(
    folder: str | os.PathLike,
    split: str | Sequence[str] = "train",
    image_size: tuple[int, int] | None = None,
    batch_size: int = 8,
    *,
    classes: Classes | None = None,
    labels: Labels | None = None,
    validation_split: float | None = None,
    split_seed: int = 0,
    **options: Any,
) -> "Dataset | list[Dataset]":
    """Loads images and label maps of your own, or of a public data set, as batches.

    The folder has one of these layouts, where `train` may be any split's name: `train/images/X.png`
    with `train/labels/X.png`, `images/train/X.png` with `labels/train/X.png`, `train/X.png` with
    `trainannot/X.png` or `train_labels/X.png`; or `images/X.png` with `labels/X.png` without
    splits, where `train.txt`, `val.txt`, … may name the images of each. `masks` or `annotations`
    will do for `labels`, and a label map may be called `X_mask.png`, `X_L.png`, `X_labelIds.png`
    and the like. With such an ending it may also lie beside its image: `X.jpg` with `X_mask.png`.
    Folders in these folders are looked through as well. Cityscapes, ADE20K and Pascal VOC 2012 are
    read as they are unpacked.

    Images are 8-bit RGB: PNG, JPEG, BMP, TIFF, WebP, PPM; they are turned upright as their EXIF
    orientation says. Label maps are of the same formats but JPEG, either with one channel, whose
    numbers 0, 1, 2, … are the classes in the order of the class list and 255 is void, or with the
    classes' colors (black is void unless it is a class). Palette images have both: where the class
    list has colors of its own, the colors decide.

    The class list lies in the folder: `classes.txt` with one name a line, or `class_dict.csv` with
    the columns `name,r,g,b`, in UTF-8. Classes called void, unlabelled, unlabeled or ignore become
    void, and those after them move up.

    Args:
        folder: The folder, or a CSV file as for `load_pairs`.
        split: A split, or a list of them. A folder without splits is all `"train"`.
        image_size: (height, width) in pixels, or `None` for the size that all images have.
        batch_size: Images per batch.
        classes: Class names, a `ClassList` with colors, or a file like those above, instead of the
            folder's class list.
        labels: What the numbers in label maps mean, if not the above: `"from_1"`, classes from 1
            and 0 void; `"binary"`, 0 and 255 (or black and white of one bit) for two classes;
            `"cityscapes"` (`labelIds` or `labelTrainIds`), `"ade20k"` or `"voc"`, the numbers and
            the classes of that data set; or the class of each number, as in
            `{0: "background", 255: "person", 128: None}`, `None` for void. `"from_0"` says that 255
            is void, where label maps of two classes hold 0 and 255 only.
        validation_split: Share of the split `"train"`, between 0 and 1, that becomes `"val"`, for
            folders without. An image's name decides where it goes: at every call the same.
        split_seed: Another seed divides differently.
        **options: `augment`, `crop_size`, `centered_on`, `shuffle`, `seed`, `cache`,
            `drop_remainder` and `antialias`: see `keras_psp.data.LoadingOptions`.

    Returns:
        Batches of (image, label), or a list of such data for a list of splits: the same as from
        `load_camvid`. The number of classes is `len(dataset.class_names)`. Labels that cannot be
        meant so, such as a class that the split train never shows, give a warning when all label
        maps have been read: at once where the split is kept in memory, otherwise by `fit`, in the
        first epoch.

    Raises:
        ValueError: If the folder has no known layout or no class list, if there is no such split or
            option, if a file cannot be used; the message names it. `keras_psp.check_data` lists
            all such files at once. Or if label maps of two classes hold 0 and 255 only, and
            `labels` does not say what 255 is.

    Example: (a folder made on the spot)

    ```python
    import keras_psp
    from keras_psp.visualization import write_image

    for number in range(10):
        image, label = keras_psp.street_scene(seed=number, image_size=(48, 64))
        write_image(f"streets/images/{number}.png", image)
        write_image(f"streets/masks/{number}.png", (label == 5).astype("uint8"))

    classes = ["other", "road"]
    train, val = keras_psp.load_folder(
        "streets", ["train", "val"], batch_size=2, classes=classes, validation_split=0.2
    )
    print(len(train), "and", len(val), "batches of", train.class_names)
    ```

    ```text
    4 and 1 batches of ['other', 'road']
    ```
    """
    return _load(
        find_own(folder),
        split,
        classes,
        labels,
        validation_split,
        split_seed,
        image_size=image_size,
        batch_size=batch_size,
        **options,
    )


Pairs = str | os.PathLike | Sequence[Any]
"""A list of (image, label map), or a CSV file of them."""


@overload
def load_pairs(pairs: Pairs, split: str = ..., **options: Any) -> Dataset: ...


@overload
def load_pairs(pairs: Pairs, split: Sequence[str], **options: Any) -> list[Dataset]: ...


@checked
@passes_on(load_folder, "split")
def load_pairs(
    pairs: Pairs, split: str | Sequence[str] = "train", **options: Any
) -> "Dataset | list[Dataset]":
    """Loads images and label maps that a list names, wherever they lie, as batches.

    Args:
        pairs: A list of pairs of files, `[(image, label map), …]`. Or a CSV file with the columns
            `image` and `label` (or `mask`), relative to its folder, and perhaps `split`, which
            otherwise is `"train"`.
        split: A split, or a list of them.
        **options: As of `load_folder`: `image_size`, `batch_size`, `classes`, `labels`,
            `validation_split`, ….

    Returns:
        Batches of (image, label), as from `load_folder`.

    Raises:
        ValueError: If `pairs` is something else; otherwise as `load_folder`.

    Example: (files made on the spot)

    ```python
    import keras_psp
    from keras_psp.visualization import write_image

    image, label = keras_psp.street_scene(seed=1, image_size=(48, 64))
    write_image("photo.png", image)
    write_image("drawing.png", (label == 5).astype("uint8"))

    pairs, classes = [("photo.png", "drawing.png")], ["other", "road"]
    data = keras_psp.load_pairs(pairs, batch_size=1, classes=classes)
    print(data.sample_names, data.class_names)
    ```

    ```text
    1 images of train: photo.png with drawing.png, …
    ['photo'] ['other', 'road']
    ```
    """
    return _load(find_own(pairs), split, **options)


def find_own(source: Any, layouts: Sequence[Layout] = LAYOUTS) -> DataFiles:
    """Finds the files of a data set.

    Args:
        source: A folder, a CSV file of pairs, or a list of pairs.
        layouts: How a folder may look.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(source, str | os.PathLike):
        file = Path(source).expanduser()
        if file.suffix.lower() != ".csv" or file.is_dir():
            return find_data(file, layouts)
        rows, root = _read_pairs(file), file.parent
    else:
        rows, root = [("train", *_as_pair(pair)) for pair in source], Path()
    if not rows:
        raise ValueError("A list of pairs must name at least one. Received: none. Add some.")
    splits = {}
    for split in dict.fromkeys(split for split, *_ in rows):
        pairs = [(image, label) for name, image, label in rows if name == split]
        # Names differ as short as can be: without the folders that all images share.
        above = os.path.commonpath([image.parent.absolute() for image, _ in pairs])
        names = [
            image.absolute().relative_to(above).with_suffix("").as_posix() for image, _ in pairs
        ]
        images, labels = (
            group_by_name(zip(names, files, strict=True)) for files in zip(*pairs, strict=True)
        )
        splits[SPLIT_NAMES.get(split, split)] = SplitFiles(f"the list ({root})", images, labels)
    return DataFiles(root, splits)


def _as_pair(pair: Any) -> tuple[Path, Path]:
    files = isinstance(pair, Sequence) and all(isinstance(f, str | os.PathLike) for f in pair)
    if isinstance(pair, str) or not files or len(pair) != 2:
        raise ValueError(
            "A list of pairs consists of (image, label map), two files each. "
            f"Received: {pair!r}. Pass [(image, label map), …], or a CSV file of them."
        )
    image, label = (Path(file).expanduser() for file in pair)
    return image, label


def _read_pairs(file: Path) -> list[tuple[str, Path, Path]]:
    """Reads split, image and label map of each line of a CSV file."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(file), newline=""), skipinitialspace=True)
        heading, rows = reader.fieldnames or [], list(reader)
        label = next((name for name in _LABEL_COLUMNS if name in heading), None)
        if "image" not in heading or label is None:
            raise ValueError(f"columns {', '.join(heading)}")
        return [
            (row.get("split") or "train", file.parent / row["image"], file.parent / row[label])
            for row in rows
        ]
    except (TypeError, ValueError) as error:  # A short line ends in None.
        raise ValueError(
            "A CSV file of pairs must be UTF-8 with the columns image,label and perhaps split. "
            f"Received: {file} ({error}). Correct the heading or the line."
        ) from None


def _load(
    found: DataFiles,
    split: str | Sequence[str],
    classes: Classes | None = None,
    labels: Labels | None = None,
    validation_split: float | None = None,
    split_seed: int = 0,
    **options: Any,
) -> Any:
    if validation_split is not None:
        found = found.divide(validation_split, split_seed)
    meaning = read_classes(found.root, classes, labels)
    splits = []

    def find(name: str) -> Sequence[Sample]:
        coding = meaning.coding(found.files(name).label_files())
        samples = found.samples(name, coding)
        first = samples[0]
        if first.image.stem != first.label.stem:
            print(f"{len(samples)} images of {name}: {first.image} with {first.label}, …")
        splits.append(_LabelCount(name, samples, meaning, coding))
        return splits[-1].samples

    loaded = load_splits(split, find, meaning.classes, options)
    for count in splits:
        count.begin()
    return loaded


class _LabelCount:
    """Counts the labels of a split where its files are read anyway, and says what is wrong."""

    def __init__(
        self, split: str, samples: Sequence[Sample], meaning: LabelMeaning, coding: LabelCoding
    ):
        self.split, self.meaning, self.coding = split, meaning, coding
        self.samples = [_Counted(sample, self.add) for sample in samples]
        self.counts = np.zeros(256, np.int64)
        self.unread = {sample.name for sample in samples}
        self.lock = threading.Lock()
        self.begun = False

    def begin(self) -> None:
        """Looks at what loading has read; where that was not all, at some label maps at least."""
        if self.unread:
            for sample in self.samples[:_LOOKED_AT]:
                sample.read()
        for kind, message in self.faults():
            if kind == "two meanings":
                raise ValueError(message)
            if not self.unread:
                warn(message)
        self.begun = True

    def add(self, name: str, label: np.ndarray) -> None:
        """Counts a label map, once. Behind the last one it warns: an epoch has read them all."""
        if name not in self.unread:
            return
        counts = np.bincount(label.ravel(), minlength=256)
        with self.lock:
            was_last = self.unread == {name}
            if name in self.unread:
                self.unread.remove(name)
                self.counts += counts
        if was_last and self.begun:
            for _, message in self.faults():
                warn(message)

    def faults(self) -> list[tuple[str, str]]:
        classes = len(self.meaning.classes)
        counts = np.append(self.counts[:classes], self.counts[VOID])
        return self.meaning.faults(self.split, counts, self.coding)


@dataclasses.dataclass(frozen=True)
class _Counted:
    """A sample that lets somebody count its labels whenever it is read."""

    sample: Sample
    count: Callable[[str, np.ndarray], None]

    @property
    def name(self) -> str:
        return self.sample.name

    def read(self, size: tuple[int, int] | None = None, antialias: bool | str = "auto") -> Arrays:
        image, label = self.sample.read(size, antialias)
        self.count(self.name, label)
        return image, label
