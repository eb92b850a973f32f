"""`load_folder`: images and label maps of your own, with a class list."""

import contextlib
import csv
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from keras_psp.choices import repeated
from keras_psp.data.camvid.layouts import KAGGLE, SEGNET_RELEASE
from keras_psp.data.layouts import Layout, find_data
from keras_psp.data.options import LoadingOptions
from keras_psp.data.pipeline import load_splits
from keras_psp.data.reading import DataError, LabeledImage, has_colors
from keras_psp.labels import (
    VOID,
    VOID_NAMES,
    ClassList,
    LabelCoding,
    LabelColors,
    LabelValues,
    distinct_colors,
)
from keras_psp.signatures import passes_on

FOLDERS = Layout("folders", "{split}/images", "{split}/labels")
LAYOUTS = (FOLDERS, SEGNET_RELEASE, KAGGLE)

COLORS_FILE, NAMES_FILE = "class_dict.csv", "classes.txt"
COLUMNS = ("name", "r", "g", "b")


@passes_on(LoadingOptions)
def load_folder(
    folder: str | os.PathLike,
    split: str | Sequence[str] = "train",
    image_size: tuple[int, int] | None = None,
    batch_size: int = 8,
    *,
    classes: ClassList | Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Loads images and label maps of your own as batches.

    The folder has one of these layouts, where `train` may be any split's name: `train/images/X.png`
    with `train/labels/X.png`, `train/X.png` with `trainannot/X.png`, or `train/X.png` with
    `train_labels/X_L.png` (or `X.png`). Images are 8-bit RGB, PNG or JPEG. Label maps are PNG,
    either with one channel, whose numbers 0, 1, 2, … are the classes in the order of the class list
    and 255 is void, or with the classes' colors (black is void unless it is a class). Palette
    images have both: where the class list has colors of its own, the colors decide.

    The class list lies in the folder: `classes.txt` with one name a line, or `class_dict.csv` with
    the columns `name,r,g,b`. Classes called void, unlabelled, unlabeled or ignore become void, and
    those after them move up.

    Args:
        folder: The folder.
        split: A split, or a list of them.
        image_size: (height, width) in pixels, or `None` for the size that all images have.
        batch_size: Images per batch.
        classes: Class names, or a `ClassList` with colors, instead of the folder's class list.
        **options: `augment`, `crop_size`, `shuffle`, `seed`, `cache`, `drop_remainder` and
            `antialias`: see `keras_psp.data.LoadingOptions`.

    Returns:
        Batches of (image, label), or a list of such data for a list of splits: the same as from
        `load_camvid`. The number of classes is `len(dataset.class_names)`.

    Raises:
        ValueError: If the folder has no known layout or no class list, if there is no such split or
            option, or if a file cannot be used; the message names it. `keras_psp.check_data` lists
            all such files at once.

    Example: (a folder made on the spot)

    ```python
    import pathlib, tempfile
    import keras_psp
    from PIL import Image

    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "classes.txt").write_text("road\\nother\\n")
    for name, mode in [("images", "RGB"), ("labels", "L")]:
        (folder / "train" / name).mkdir(parents=True)
        Image.new(mode, (64, 48)).save(folder / "train" / name / "a.png")

    train = keras_psp.load_folder(folder, "train", batch_size=1)
    assert train.class_names == ["road", "other"]
    ```
    """
    found = find_data(folder, LAYOUTS)
    names, coding_of = read_classes(found.root, classes)

    def find(name: str) -> list[LabeledImage]:
        _, labels, _ = found.files(name)
        return found.samples(name, coding_of(labels.values()))

    options |= {"image_size": image_size, "batch_size": batch_size}
    return load_splits(split, find, names, options)


def has_classes(root: Path) -> bool:
    """Tells whether a folder holds a class list."""
    return any((root / name).is_file() for name in (COLORS_FILE, NAMES_FILE))


def read_classes(
    root: Path, classes: ClassList | Sequence[str] | None = None
) -> tuple[ClassList, Callable[[Iterable[Path]], LabelCoding]]:
    """Returns the class list of a folder, without void, and what finds the coding of label files.

    Where the classes have colors of their own, the coding of numbers respects the colors of
    palettes, too.

    Args:
        root: The folder.
        classes: The class list, if it is not to be read from there.

    Raises:
        ValueError: If there is no class list, or if it makes no sense.
    """
    if isinstance(classes, ClassList) and list(classes.colors) == distinct_colors(len(classes)):
        classes = classes.names  # Colors that nobody chose say nothing about the files.
    elif classes is None:
        classes = _read_list(root)
    whole = classes if isinstance(classes, ClassList) else ClassList(classes)
    kept = [name for name in whole.names if name.lower() not in VOID_NAMES]
    labels = [kept.index(name) if name in kept else VOID for name in whole.names]
    colors = LabelColors(dict(zip(whole.colors, labels, strict=True)))
    numbers = LabelValues(labels, colors if whole is classes else None)
    known = ClassList(kept, [whole.colors[whole.names.index(name)] for name in kept])
    return known, lambda files: _choose_coding(files, numbers, colors)


def _read_list(root: Path) -> ClassList | list[str]:
    """Reads a folder's class list, with colors where they are given."""
    table, text = root / COLORS_FILE, root / NAMES_FILE
    if table.is_file():
        return _read_table(table)
    if text.is_file():
        return [line.strip() for line in text.read_text("utf-8").splitlines() if line.strip()]
    raise ValueError(
        f"A data folder needs a class list. Received: {root} without {NAMES_FILE} (one name a "
        f"line) and {COLORS_FILE} (name,r,g,b). Write one of them, or pass classes=[names]."
    )


def _read_table(file: Path) -> ClassList:
    """Reads names and colors from a class_dict.csv."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
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


def _choose_coding(files: Iterable[Path], numbers: LabelCoding, colors: LabelColors) -> LabelCoding:
    """Returns the coding of a data set: that of its first label file that can be read."""
    for file in files:
        with contextlib.suppress(DataError):  # Reported when the file is read for its labels.
            return colors if has_colors(file) else numbers
    return numbers
