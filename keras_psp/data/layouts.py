"""How data sets lie in folders: a table of layouts, and the image files of a split."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from keras_psp.choices import check_name
from keras_psp.data.reading import LabeledImage
from keras_psp.labels import LabelCoding

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the images and the label maps of a split lie.

    Args:
        name: What messages call it.
        images: Folder of the images; `{split}` stands for the split.
        labels: Folder of the label maps.
        ending: What may follow the image's name in the label map's, before the suffix.
        splits: All splits, for layouts that keep them in one folder.
        split_of: For the same layouts, the split of the image of this name.
    """

    name: str
    images: str
    labels: str
    ending: str = ""
    splits: tuple[str, ...] = ()
    split_of: Callable[[str], str] | None = None

    def folders(self, root: Path, split: str) -> tuple[Path, Path]:
        """Returns the folders of the images and of the label maps."""
        return root / self.images.format(split=split), root / self.labels.format(split=split)

    def find_splits(self, root: Path) -> tuple[str, ...]:
        """Returns the splits that a data set's folder holds in this layout."""
        names = self.splits or sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        return tuple(
            name for name in names if all(folder.is_dir() for folder in self.folders(root, name))
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.images}/X.png with {self.labels}/X{self.ending}.png"


@dataclasses.dataclass(frozen=True)
class DataFolder:
    """A data set's folder whose layout is known.

    Args:
        root: The folder.
        layout: Its layout.
        splits: The splits it holds.
    """

    root: Path
    layout: Layout
    splits: tuple[str, ...]

    def files(self, split: str) -> tuple[dict[str, Path], dict[str, Path], list[list[Path]]]:
        """Returns the images and the label maps of a split, each by the image's name.

        Third come groups of files that share a name, as `a.png` and `a.jpg` do; the first file of a
        group is among the above.

        Raises:
            ValueError: If there is no such split.
        """
        try:
            check_name("split", split, self.splits)
        except ValueError as error:
            raise ValueError(f"In {self.root}: {error}") from None
        split_of, doubles, found = self.layout.split_of, [], []
        endings = ("", self.layout.ending)
        for folder, ending in zip(self.layout.folders(self.root, split), endings, strict=True):
            groups: dict[str, list[Path]] = {}
            for file in image_files(folder):
                name = file.stem.removesuffix(ending)
                if split_of is None or split_of(name) == split:
                    groups.setdefault(name, []).append(file)
            doubles += [files for files in groups.values() if len(files) > 1]
            found.append({name: files[0] for name, files in groups.items()})
        return found[0], found[1], doubles

    def samples(self, split: str, coding: LabelCoding) -> list[LabeledImage]:
        """Returns the images of a split with their label maps, sorted by name.

        Args:
            split: The split.
            coding: Turns the pixels of the label maps into labels.

        Raises:
            ValueError: If an image has no label map, a label map no image, if there are none, or
                if files share a name.
        """
        images, labels, doubles = self.files(split)
        folders = " and ".join(map(str, self.layout.folders(self.root, split)))
        if not images and not labels:
            raise ValueError(
                f"A split must have at least one image with its label map. Received: "
                f"split={split!r}, for which {folders} hold none. Expected files are {self.layout}."
            )
        if doubles:
            raise ValueError(same_name(doubles[0]))
        if alone := sorted(images.keys() ^ labels.keys()):
            files = ", ".join(str(images.get(name) or labels[name]) for name in alone[:3])
            raise ValueError(
                f"Every image needs a label map of the same name, and every label map an image. "
                f"Received: {len(alone)} without partner in {folders}, such as {files}. Add what "
                f"is missing or remove these (keras_psp.check_data lists all)."
            )
        return pair(images, labels, coding)


def find_data(root: str | os.PathLike, layouts: Sequence[Layout]) -> DataFolder:
    """Finds out which layout a folder has.

    Args:
        root: The data set's folder, or one that holds it under the name `CamVid`.
        layouts: The candidates.

    Raises:
        ValueError: If it has none of them.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"A data folder must exist. Received: {str(root)!r}. Pass the folder that holds the "
            f"data set."
        )
    for base in (root, root / "CamVid"):
        for layout in layouts:
            if base.is_dir() and (splits := layout.find_splits(base)):
                return DataFolder(base, layout, splits)
    entries = sorted(entry.name for entry in root.iterdir())
    listing = ", ".join(entries[:12]) + (", …" if len(entries) > 12 else "")
    raise ValueError(
        f"A data folder must have a known layout. Received: {root}, which holds "
        f"{listing or 'nothing'}. Expected one of: {'; '.join(map(str, layouts))}."
    )


def same_name(files: Sequence[Path]) -> str:
    """Returns the message about files that share a name."""
    return (
        f"Files of a split must differ in more than their ending. Received: "
        f"{' and '.join(map(str, files))}. Rename or remove all but one."
    )


def image_files(folder: Path) -> list[Path]:
    """Lists the images of a folder, in the order of their names."""
    files = sorted(folder.iterdir())
    return [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES and f.name[0] != "."]


def pair(
    images: Mapping[str, Path], labels: Mapping[str, Path], coding: LabelCoding
) -> list[LabeledImage]:
    """Joins images and label maps of the same name."""
    return [LabeledImage(n, images[n], labels[n], coding) for n in images if n in labels]
