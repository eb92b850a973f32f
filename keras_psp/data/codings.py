"""What the numbers and colors in label files mean: class lists, and codings that have a name."""

import contextlib
import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_psp.choices import check_name, repeated
from keras_psp.data.class_lists import ADE20K, CITYSCAPES, VOC2012
from keras_psp.data.options import is_trained_on
from keras_psp.data.reading import DataError, has_colors
from keras_psp.labels import (
    VOID,
    VOID_NAMES,
    ClassList,
    LabelCoding,
    LabelColors,
    LabelValues,
    distinct_colors,
)
from keras_psp.untrusted import read_text

COLORS_FILE, NAMES_FILE = "class_dict.csv", "classes.txt"
COLUMNS = ("name", "r", "g", "b")

Classes = ClassList | Sequence[str] | str | os.PathLike
"""A class list, names, or a file with one of them."""


@dataclasses.dataclass(frozen=True)
class Numbering:
    """Which numbers in label files are the classes.

    Args:
        numbers: Those of the classes in turn.
        void: Those that are void; 255 is, if it is no class.
        classes: The classes, if it is the numbering of one data set.
    """

    numbers: Sequence[int]
    void: Sequence[int] = ()
    classes: ClassList | None = None


_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)

NUMBERINGS = {
    "from_0": Numbering(range(VOID)),
    "from_1": Numbering(range(1, VOID), [0]),
    "binary": Numbering((0, 255)),
    "cityscapes": Numbering(_CITYSCAPES_IDS, sorted({*range(34)} - {*_CITYSCAPES_IDS}), CITYSCAPES),
    "ade20k": Numbering(range(1, 151), [0], ADE20K),
    "voc": Numbering(range(21), (), VOC2012),
}
"""The names that `labels=` takes. Cityscapes' are the numbers in its `labelIds` files."""

TRAIN_IDS = "labelTrainIds"
"""How Cityscapes' files end whose numbers are its classes in turn."""

Labels = str | Mapping[int, str | None]
"""A name from `NUMBERINGS`, or the class of each number, `None` for void."""


@dataclasses.dataclass(frozen=True)
class LabelMeaning:
    """What the label files of a data set mean.

    Args:
        classes: The classes, without void.
        numbers: The coding of files with numbers.
        colors: The coding of files with colors; `None` where only numbers are meant.
        train_ids: The coding of files called `…labelTrainIds`, where it differs.
        asks: Whether nobody said what 255 is, beside two classes.
    """

    classes: ClassList
    numbers: LabelCoding
    colors: LabelCoding | None = None
    train_ids: LabelCoding | None = None
    asks: bool = False

    def coding(self, files: Iterable[Path]) -> LabelCoding:
        """Returns the coding of a data set: that of its first label file that can be read."""
        for file in files:
            with contextlib.suppress(DataError):  # Reported when the file is read for its labels.
                if self.colors and has_colors(file):
                    return self.colors
                if self.train_ids and file.stem.endswith(TRAIN_IDS):
                    return self.train_ids
                return self.numbers
        return self.numbers

    def faults(self, split: str, counts: np.ndarray, coding: LabelCoding) -> list[tuple[str, str]]:
        """Says what is wrong with the labels of a split as a whole.

        Args:
            split: Its name.
            counts: The pixels of each class, and last those of void.
            coding: What its files were read with.

        Returns:
            What kind of fault and a message, for each.
        """
        names = self.classes.names
        in_doubt = self.asks and coding is self.numbers
        if in_doubt and counts[0] and not counts[1] and counts[2]:
            return [
                (
                    "two meanings",
                    f"Two classes have the labels 0 and 1. Received: the split {split} with 0 and "
                    f"255 only. Pass labels='binary' if 255 is {names[1]}, or labels='from_0' if "
                    "it is void.",
                )
            ]
        if counts[:-1].sum() * 1000 < counts.sum():
            return [
                (
                    "all void",
                    f"A split must show its classes. Received: the split {split}, of which "
                    f"{counts[-1] / counts.sum():.1%} of the pixels are void. Check what the "
                    "numbers in its label maps mean (labels=…), and the class list.",
                )
            ]
        absent = [names[label] for label in np.flatnonzero(counts[:-1] == 0)]
        if not is_trained_on(split) or not absent:
            return []
        return [
            (
                "absent class",
                f"A class must occur in the split {split} to be learned. Received: "
                f"{', '.join(absent)} in no pixel. Check what the numbers in its label maps mean "
                "(labels=…), or take it out of the class list.",
            )
        ]


def has_classes(root: Path) -> bool:
    """Tells whether a folder holds a class list."""
    return any((root / name).is_file() for name in (COLORS_FILE, NAMES_FILE))


def read_classes(
    root: Path, classes: Classes | None = None, labels: Labels | None = None
) -> LabelMeaning:
    """Finds out what the label files of a folder mean.

    Where the classes have colors of their own, numbers respect the colors of palettes, too.

    Args:
        root: The folder.
        classes: The class list, if it is not to be read from there.
        labels: What the numbers mean, if they are not 0, 1, 2, … for the classes in turn.

    Raises:
        ValueError: If there is no class list or no such numbering, or if they make no sense.
    """
    numbering, by_name = NUMBERINGS["from_0"], None
    if isinstance(labels, Mapping):
        by_name = labels
        named = [name for name in labels.values() if name is not None]
        classes = list(dict.fromkeys(named)) if classes is None else classes
    elif labels is not None:
        numbering = NUMBERINGS[check_name("numbering of labels", labels, NUMBERINGS)]
    if isinstance(classes, str | os.PathLike):
        classes = _read_file(Path(classes))
    elif isinstance(classes, ClassList) and list(classes.colors) == distinct_colors(len(classes)):
        classes = classes.names  # Colors that nobody chose say nothing about the files.
    elif classes is None:
        classes = numbering.classes or _read_list(root)
    whole = classes if isinstance(classes, ClassList) else ClassList(classes)
    kept = [name for name in whole.names if name.lower() not in VOID_NAMES]
    known = ClassList(kept, [whole.colors[whole.names.index(name)] for name in kept])
    meant = {name: kept.index(name) if name in kept else VOID for name in whole.names}
    if by_name is None:
        values = _numbers(numbering, list(meant.values()), labels)
    else:
        values = {
            int(number): VOID if name is None else meant[check_name("class", name, whole.names)]
            for number, name in by_name.items()
        }
    own_colors = whole is classes
    colors = LabelColors(dict(zip(whole.colors, meant.values(), strict=True)))
    numbers = LabelValues(values, colors if own_colors else None)
    return LabelMeaning(
        known,
        numbers,
        colors if own_colors or labels is None else None,
        LabelValues(list(meant.values())) if labels == "cityscapes" else None,
        asks=labels is None and len(whole) == len(kept) == 2,
    )


def _numbers(numbering: Numbering, meant: list[int], labels: Labels | None) -> dict[int, int]:
    """Returns the label of each number."""
    if len(numbering.numbers) < len(meant) or (labels == "binary" and len(meant) != 2):
        raise ValueError(
            f"labels={labels!r} is for {len(numbering.numbers)} classes. Received: {len(meant)} "
            "classes. Correct the class list, or choose another numbering."
        )
    return dict(zip(numbering.numbers, meant, strict=False)) | dict.fromkeys(numbering.void, VOID)


def _read_list(root: Path) -> ClassList | list[str]:
    """Reads a folder's class list, with colors where they are given."""
    for name in (COLORS_FILE, NAMES_FILE):
        if (root / name).is_file():
            return _read_file(root / name)
    known = ", ".join(f"labels={name!r}" for name, row in NUMBERINGS.items() if row.classes)
    raise ValueError(
        f"A data folder needs a class list. Received: {root} without {NAMES_FILE} (one name a "
        f"line) and {COLORS_FILE} (name,r,g,b). Write one of them, or pass classes=[names], or say "
        f"which public data set it is: {known}."
    )


def _read_file(file: Path) -> ClassList | list[str]:
    """Reads a file of names, or of names and colors."""
    try:
        text = read_text(file)
        if "\0" in text:
            raise ValueError("it is UTF-16")
    except ValueError as error:
        raise ValueError(
            f"A class list must be a text file in UTF-8. Received: {file} ({error}). Save it as "
            "UTF-8."
        ) from None
    if file.suffix.lower() == ".csv":
        return _read_table(file, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read_table(file: Path, text: str) -> ClassList:
    """Reads names and colors."""
    try:
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        heading, rows = reader.fieldnames or [], list(reader)
        if missing := [column for column in COLUMNS if column not in heading]:
            raise ValueError(f"no column {missing[0]!r}")
        colors = [tuple(int(row[channel]) for channel in COLUMNS[1:]) for row in rows]
        if double := repeated(colors):
            raise ValueError(f"{double[0]} more than once")
        return ClassList([row["name"].strip() for row in rows], colors)
    except (AttributeError, TypeError, ValueError) as error:  # A short line ends in None.
        raise ValueError(
            f"A class_dict.csv must have the columns {','.join(COLUMNS)}, and a color of its own "
            f"for every class, 0 to 255. Received: {file} ({error}). Correct the heading or the "
            f"line."
        ) from None
