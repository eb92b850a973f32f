"""`check_data`: everything that is wrong with a data set, before the first epoch."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from keras_psp.checked import checked
from keras_psp.data import folder as own
from keras_psp.data.camvid import layouts as camvid
from keras_psp.data.camvid.classes import CAMVID, CAMVID_COLORS_32
from keras_psp.data.codings import Classes, LabelMeaning, Labels, has_classes, read_classes
from keras_psp.data.layouts import DataFiles, same_name
from keras_psp.data.reading import IMAGE_SUFFIXES, DataError, LabeledImage
from keras_psp.labels import VOID, ClassList, median_frequency_weights


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        split: In which split.
        kind: `"empty split"`, `"same name"`, `"missing partner"`, `"size mismatch"`,
            `"unreadable"`, `"too large"`, `"orientation"`, `"wrong kind of file"`, `"left out"`,
            `"unknown label"`, `"absent class"`, `"all void"` or `"two meanings"`.
        message: What it is, with the file's name, and how to repair it.
    """

    split: str
    kind: str
    message: str


@dataclasses.dataclass(frozen=True)
class DataReport:
    """What `check_data` found. Printed, it is a table.

    Args:
        classes: The class list.
        images: Number of pairs per split.
        pixels: Per split, the pixels of each class, and last those of void.
        present: Per split and class, the pixels of the images in which it occurs.
        problems: All that is wrong.
    """

    classes: ClassList
    images: dict[str, int]
    pixels: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    problems: list[Problem]

    @property
    def ok(self) -> bool:
        """Whether every file can be used, and all classes occur in the split train."""
        return not self.problems

    @property
    def absent(self) -> dict[str, list[str]]:
        """The classes that never occur, per split. They cannot be learned or scored there."""
        return {
            split: [self.classes.names[label] for label in np.flatnonzero(pixels[:-1] == 0)]
            for split, pixels in self.pixels.items()
        }

    def class_weights(self, split: str = "train") -> list[float]:
        """Returns the median-frequency weights of the classes in a split."""
        return median_frequency_weights(self.pixels[split][:-1], self.present[split])

    def __str__(self) -> str:
        names = ["", "images", *self.classes.names, "void"]
        columns = [[s, str(self.images[s]), *_shares(pixels)] for s, pixels in self.pixels.items()]
        width = max(map(len, names))
        lines = [
            f"{name:<{width}}" + "".join(f"  {cell:>9}" for cell in cells)
            for name, *cells in zip(names, *columns, strict=True)
        ]
        for split, absent in self.absent.items():
            if absent:
                lines.append(f"{split} never shows: {', '.join(absent)}")
        lines += [f"{item.split}, {item.kind}: {item.message}" for item in self.problems]
        kinds = Counter(item.kind for item in self.problems)
        summary = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
        return "\n".join([*lines, f"Problems: {summary or 'none'}."])


def _shares(pixels: np.ndarray) -> list[str]:
    """Share of the labeled pixels per class; of all pixels for void, which comes last."""
    labeled, total = max(pixels[:-1].sum(), 1), max(pixels.sum(), 1)
    parts = [*(pixels[:-1] / labeled), pixels[-1] / total]
    return [f"{part:.3%}" if part else "0" for part in parts]


@checked
def check_data(
    folder: str | os.PathLike | Sequence[Any],
    split: str | Sequence[str] | None = None,
    *,
    classes: Classes | None = None,
    labels: Labels | None = None,
    progress: bool = False,
) -> DataReport:
    """Looks at every file of a data set and reports what is wrong, without stopping at the first.

    It finds empty splits, files of one name, images and label maps without partner, files that
    cannot be read or are of the wrong kind (grayscale, transparent, 16-bit), pairs of different
    sizes, files that are no images, labels and colors that are not in the class list, splits that
    are void all over, and classes that never occur.

    Args:
        folder: A folder as for `load_folder`, a CSV file or a list of pairs as for `load_pairs`, or
            a folder that holds CamVid as for `load_camvid`.
        split: A split, or several. Default: all that the folder has.
        classes: As for `load_folder`. For a folder with CamVid's layout, and no class list or that
            of the 32 classes: CamVid's eleven.
        labels: As for `load_folder`.
        progress: Whether to show a progress bar.

    Returns:
        A `DataReport`.

    Raises:
        ValueError: If the folder has no known layout, no class list, or no such split.

    Example: (a folder made on the spot, with a label that no class has)

    ```python
    import pathlib
    import keras_psp
    from PIL import Image

    folder = pathlib.Path("streets/train")
    for name, mode, pixel in [("images", "RGB", (0, 0, 0)), ("labels", "L", 7)]:
        (folder / name).mkdir(parents=True)
        Image.new(mode, (64, 48), pixel).save(folder / name / "a.png")

    report = keras_psp.check_data("streets", classes=["road", "other"])
    print(report.problems[0].kind)
    ```

    ```text
    unknown label
    ```
    """
    found = own.find_own(folder, (*own.LAYOUTS, camvid.ORIGINAL_RELEASE))
    if classes is None and labels is None and _is_camvid(found):
        found = camvid.with_published_split(found)
        meaning = LabelMeaning(CAMVID, camvid.camvid_coding(found))
    else:
        meaning = read_classes(found.root, classes, labels)
    report = DataReport(meaning.classes, {}, {}, {}, [])
    for name in found.splits if split is None else [split] if isinstance(split, str) else split:
        _check_split(found, name, meaning, report, progress)
    return report


def _is_camvid(found: DataFiles) -> bool:
    """Tells whether a folder in CamVid's layout has no class list, or that of the 32 classes."""
    if found.layout not in camvid.LAYOUTS:
        return False
    if not has_classes(found.root):
        return True
    # Kaggle's CamVid has a class list.
    listed = read_classes(found.root).classes
    colors = {name: color for name, color in CAMVID_COLORS_32.items() if name != "Void"}
    return dict(zip(listed.names, listed.colors, strict=True)) == colors


def _check_split(
    found: DataFiles,
    split: str,
    meaning: LabelMeaning,
    report: DataReport,
    progress: bool,
) -> None:
    """Adds what is found in one split to the report."""

    def add(kind: str, message: str) -> None:
        report.problems.append(Problem(split, kind, message))

    files = found.files(split)
    if not files.images and not files.labels:
        add("empty split", f"{files.place} hold no images. Add {found.layout}, or remove them.")
    for file in files.left_out:
        known = ", ".join(IMAGE_SUFFIXES)
        add("left out", f"{file} is no image by its ending ({known}). Convert or remove it.")
    for group in files.doubles:
        add("same name", same_name(group))
    for file, lacking in files.alone:
        add("missing partner", f"{file} has no {lacking}. Add it, or remove the file.")

    coding = meaning.coding(files.label_files())
    samples = files.pair(coding)
    pixels, present = np.zeros((2, len(report.classes) + 1), np.int64)
    bar = keras.utils.Progbar(len(samples), verbose=int(progress), unit_name="file")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(_count, samples):
            if isinstance(result, DataError):
                add(result.kind, str(result))
            else:
                # Void (255) comes last, after the classes.
                counts = np.append(result[: len(report.classes)], result[VOID])
                pixels += counts
                present += (counts > 0) * counts.sum()
            bar.add(1)
    report.images[split] = len(samples)
    report.pixels[split], report.present[split] = pixels, present[:-1]
    if pixels.any():
        for kind, message in meaning.faults(split, pixels, coding):
            add(kind, message)


def _count(sample: LabeledImage) -> np.ndarray | DataError:
    """Counts each label, or returns what is wrong with the files."""
    try:
        return np.bincount(sample.read()[1].ravel(), minlength=256)
    except DataError as error:
        return error
