"""How data sets lie in folders: a table of layouts, and the image files of each split."""

import collections
import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from keras_psp.choices import check_name, same_letters
from keras_psp.data.reading import IMAGE_SUFFIXES, LabeledImage
from keras_psp.labels import LabelCoding
from keras_psp.untrusted import read_text

IMAGE_FOLDERS = ("images", "imgs", "image", "img")
LABEL_FOLDERS = ("labels", "masks", "annotations", "label", "mask")
"""What `{images}` and `{labels}` stand for in a layout: the first of these that are there."""

SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
"""Other names of splits, and those that they go by here."""

_LISTS = ("", "splits", "ImageSets/Segmentation", "ImageSets")  # Where train.txt may lie.
_KNOWN_SPLITS = ("train", "val", "test", "trainval", "trainaug", "train_extra", *SPLIT_NAMES)
_LABEL_ENDING = re.compile(
    r"[-_ .](l|masks?|labels?|label_?(train_?)?ids?|gt|seg|segmentation|annot|annotations?)$", re.I
)
_IMAGE_ENDING = re.compile(r"[-_ .](images?|img|rgb|sat)$", re.I)
_DEPTH, _BREADTH = 3, 100  # Where a data set is looked for: archives nest folders, homes have many.
_NO_DATA = ("Thumbs.db", "desktop.ini")  # Windows writes them.
_TEXTS = (".txt", ".csv", ".md", ".json")  # May lie beside images where these have no folder.

Files = Mapping[str, Sequence[Path]]


@dataclasses.dataclass(frozen=True)
class SplitFiles:
    """The files of a split.

    Args:
        place: Where they lie, for messages.
        images: The images by their names; several of one name are a fault.
        labels: The label maps by the names of their images.
        left_out: Files there that are no images.
    """

    place: str
    images: Files
    labels: Files
    left_out: Sequence[Path] = ()

    @property
    def doubles(self) -> list[Sequence[Path]]:
        """Groups of files that share a name, as `a.png` and `a.jpg` do."""
        groups = itertools.chain(self.images.values(), self.labels.values())
        return [files for files in groups if len(files) > 1]

    @property
    def alone(self) -> list[tuple[Path, str]]:
        """The files that lack a partner, and what that would be."""
        names = sorted(self.images.keys() ^ self.labels.keys())
        return [
            (self.images[n][0], "label map") if n in self.images else (self.labels[n][0], "image")
            for n in names
        ]

    def pair(self, coding: LabelCoding) -> list[LabeledImage]:
        """Joins images and label maps of the same name, sorted by name."""
        return [
            LabeledImage(name, self.images[name][0], self.labels[name][0], coding)
            for name in sorted(self.images.keys() & self.labels.keys())
        ]

    def label_files(self) -> Iterator[Path]:
        """Returns the label maps that have an image."""
        return (files[0] for name, files in self.labels.items() if name in self.images)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the images and the label maps of a data set lie.

    Args:
        name: What messages call it.
        images: Folder of the images, with all below it. `{split}` stands for the split; without it
            lists such as `train.txt` name the images of each split, or all are in train.
        labels: Folder of the label maps; or several, of which the first that has an image's counts.
            Where it is that of the images, label maps are the files with an ending.
        ending: What follows the image's name in the label map's, before the suffix; or several, of
            which the first that a split has counts. Where a layout has none, that of each file is
            found: `_mask`, `_L`, ….
        image_ending: What follows the name in the image's. Files of other endings do not count.
    """

    name: str
    images: str
    labels: str | Sequence[str]
    ending: str | Sequence[str] = ""
    image_ending: str = ""

    def find_splits(self, root: Path) -> dict[str, SplitFiles]:
        """Returns the files of each split that a folder holds in this layout."""
        places: dict[str, tuple[Path, list[Path]]] = {}
        for split, images, labels in self._folders(root):
            places.setdefault(SPLIT_NAMES.get(split, split), (images, labels))
        found = {split: self._files(*folders) for split, folders in places.items()}
        if "{split}" not in self.images and found:
            found = _as_listed(root, found["train"])
        return found

    def _folders(self, root: Path) -> Iterator[tuple[str, Path, list[Path]]]:
        """Finds the split, the folder of images, and those of label maps, of each split."""
        for names in itertools.product(IMAGE_FOLDERS, LABEL_FOLDERS):
            places = [
                place.replace("{images}", names[0]).replace("{labels}", names[1])
                for place in (self.images, *_several(self.labels))
            ]
            before, has_split, _ = places[0].partition("{split}")
            splits = _subfolders(root / before) if has_split else ["train"]
            if before:  # Folders inside the images' may be anything, such as cities.
                splits = [split for split in splits if split in _KNOWN_SPLITS]
            for split in splits:
                images, *labels = (root / place.format(split=split) for place in places)
                labels = [folder for folder in labels if folder.is_dir()]
                if images.is_dir() and labels and (labels != [images] or _holds_both(images)):
                    yield split, images, labels

    def _files(self, images: Path, labels: Sequence[Path]) -> SplitFiles:
        image_files: Files
        label_files: Files = {}
        image_files, left_out = _list(images)
        if labels == [images]:
            label_files = {n: f for n, f in image_files.items() if _LABEL_ENDING.search(n)}
            image_files = {n: f for n, f in image_files.items() if n not in label_files}
            left_out = [file for file in left_out if file.suffix.lower() not in _TEXTS]
        else:
            for folder in labels:
                more, others = _list(folder)
                label_files = {**more, **label_files}
                left_out = left_out + others
        if self.image_ending:
            image_files = _with_ending(image_files, [self.image_ending])
            label_files = _with_ending(label_files, _several(self.ending))
            left_out = []
        else:
            label_files = _as_images(label_files, image_files, _several(self.ending)[0])
        place = " and ".join(map(str, dict.fromkeys([images, *labels])))
        return SplitFiles(place, image_files, label_files, left_out)

    def __str__(self) -> str:
        images, labels = (
            place.replace("{images}", "images").replace("{labels}", "labels")
            for place in (self.images, _several(self.labels)[0])
        )
        ending = "_mask" if labels == images else _several(self.ending)[0]
        return f"{self.name}: {images}/X{self.image_ending}.png with {labels}/X{ending}.png"


@dataclasses.dataclass(frozen=True)
class DataFiles:
    """The files of a data set.

    Args:
        root: Its folder.
        splits: The files of each split.
        layout: How they lie there; `None` if somebody listed them.
    """

    root: Path
    splits: Mapping[str, SplitFiles]
    layout: Layout | None = None

    def files(self, split: str) -> SplitFiles:
        """Returns the files of a split.

        Raises:
            ValueError: If there is no such split.
        """
        split = SPLIT_NAMES.get(split, split)
        try:
            return self.splits[check_name("split", split, self.splits)]
        except ValueError as error:
            divide = "" if "val" in self.splits else " validation_split=0.2 divides train."
            raise ValueError(f"In {self.root}: {error}{divide}") from None

    def samples(self, split: str, coding: LabelCoding) -> list[LabeledImage]:
        """Returns the images of a split with their label maps, sorted by name.

        Args:
            split: The split.
            coding: Turns the pixels of the label maps into labels.

        Raises:
            ValueError: If an image has no label map, a label map no image, if there are none, if
                files share a name, or if one is no image.
        """
        files = self.files(split)
        if not files.images and not files.labels:
            expected = f" Expected files are {self.layout}." if self.layout else ""
            raise ValueError(
                f"A split must have at least one image with its label map. Received: "
                f"split={split!r}, for which {files.place} hold none.{left_out(files)}{expected}"
            )
        if files.doubles:
            raise ValueError(same_name(files.doubles[0]))
        if alone := files.alone:
            shown = ", ".join(str(file) for file, _ in alone[:3])
            raise ValueError(
                f"Every image needs a label map of the same name, and every label map an image. "
                f"Received: {len(alone)} without partner in {files.place}, such as {shown}."
                f"{left_out(files)} Add what is missing or remove these (keras_psp.check_data "
                "lists all)."
            )
        return files.pair(coding)

    def divide(self, share: float, seed: int) -> "DataFiles":
        """Takes a share of train as the split val.

        An image's place depends on its name and the seed alone, so that it is the same at every
        call, and on every machine.

        Args:
            share: Between 0 and 1.
            seed: Any number.

        Raises:
            ValueError: If there is a split val already, or no train.
        """
        if not 0 < share < 1 or "val" in self.splits or "train" not in self.splits:
            raise ValueError(
                "validation_split is the share, between 0 and 1, of the split train that becomes "
                f"val, where there is none. Received: validation_split={share}, the splits "
                f"{', '.join(self.splits)} in {self.root}. Leave it out, or change it."
            )
        names = self.splits["train"].images.keys() | self.splits["train"].labels.keys()

        def key(name: str) -> bytes:
            # File names of other systems may hold bytes that are no UTF-8.
            return hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest()

        order = sorted(names, key=key)
        val = set(order[: min(max(round(share * len(order)), 1), len(order) - 1)])
        splits = regroup(self.splits, lambda name: "val" if name in val else None, ["train"])
        return dataclasses.replace(self, splits=splits)


def find_data(root: str | os.PathLike, layouts: Sequence[Layout]) -> DataFiles:
    """Finds out which layout a folder has.

    Args:
        root: The data set's folder, or one that holds it, and no other, somewhere inside.
        layouts: The candidates.

    Raises:
        ValueError: If it has none of them, or if it holds several data sets.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"A data folder must exist. Received: {str(root)!r}. Pass the folder that holds the "
            f"data set."
        )
    several: list[DataFiles] = []
    for any_splits in (False, True):  # Folders that hold images are splits if nothing else is.
        for folders in _levels(root):
            found = [_find_layout(folder, layouts, any_splits) for folder in folders]
            if len(ones := [one for one in found if one]) == 1:
                return ones[0]
            if ones:
                several = several or ones
                break
    if several:
        raise ValueError(
            f"A data folder must hold one data set. Received: {root}, which holds "
            f"{', '.join(str(one.root) for one in several)}. Pass one of these."
        )
    entries = sorted(entry.name for entry in root.iterdir())
    listing = ", ".join(entries[:12]) + (", …" if len(entries) > 12 else "")
    raise ValueError(
        f"A data folder must have a known layout. Received: {root}, which holds "
        f"{listing or 'nothing'}. Expected one of: {'; '.join(map(str, layouts))}."
    )


def _find_layout(folder: Path, layouts: Sequence[Layout], any_splits: bool) -> DataFiles | None:
    for layout in layouts:
        splits = layout.find_splits(folder)
        if splits and (any_splits or not splits.keys().isdisjoint(_KNOWN_SPLITS)):
            return DataFiles(folder, splits, layout)
    return None


def _levels(root: Path) -> Iterator[list[Path]]:
    """Returns the folder, the one inside called CamVid, and all others inside by their depth."""
    yield [root]
    yield [root / "CamVid"] if (root / "CamVid").is_dir() else []
    level = [root]
    for _ in range(_DEPTH):
        level = [folder / name for folder in level for name in _subfolders(folder)]
        if len(level) > _BREADTH:
            return
        yield level


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir() or not os.access(folder, os.R_OK):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")


def same_name(files: Sequence[Path]) -> str:
    """Returns the message about files that share a name."""
    return (
        f"Files of a split must differ in more than their ending. Received: "
        f"{' and '.join(map(str, files))}. Rename or remove all but one."
    )


def left_out(files: SplitFiles) -> str:
    """Returns the sentence about files that are no images; nothing if there are none."""
    if not files.left_out:
        return ""
    shown = ", ".join(map(str, files.left_out[:3])) + (", …" if len(files.left_out) > 3 else "")
    return f" No images by their endings ({', '.join(IMAGE_SUFFIXES)}) are {shown}."


def image_files(folder: Path) -> list[Path]:
    """Lists the images of a folder, in the order of their names."""
    return [f for f in sorted(folder.iterdir()) if _is_image(f) and f.name[0] != "."]


def regroup(
    splits: Mapping[str, SplitFiles],
    split_of: Callable[[str], str | None],
    places: Iterable[str] | None = None,
) -> dict[str, SplitFiles]:
    """Divides files into other splits.

    Args:
        splits: The files as they are divided now.
        split_of: Names the split of an image; `None` for those that stay where they are.
        places: The splits whose images may go elsewhere; by default all.

    Returns:
        The files of every split that there was or is.
    """
    kinds = ("images", "labels")
    new: dict[str, dict[str, dict[str, list[Path]]]] = {
        split: {kind: {} for kind in kinds} for split in splits
    }
    for split, files in splits.items():
        for kind in kinds:
            for name, group in getattr(files, kind).items():
                moves = places is None or split in places
                target = (split_of(name) if moves else None) or split
                target_files = new.setdefault(target, {kind: {} for kind in kinds})
                target_files[kind].setdefault(name, []).extend(group)
    everywhere = " and ".join(files.place for files in splits.values())
    return {
        split: SplitFiles(
            splits[split].place if split in splits else everywhere,
            files["images"],
            files["labels"],
            splits[split].left_out if split in splits else (),
        )
        for split, files in new.items()
    }


def group_by_name(files: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    """Gathers the files of each name."""
    groups: dict[str, list[Path]] = {}
    for name, file in files:
        groups.setdefault(same_letters(name), []).append(file)
    return groups


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES


def _list(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Lists the images of a folder and those below it, by name, and what is no image."""
    files = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        shown = (name for name in sorted(names) if name[0] != "." and name not in _NO_DATA)
        files += [Path(path, name) for name in shown]
    images = [file for file in files if _is_image(file)]
    named = ((file.relative_to(folder).with_suffix("").as_posix(), file) for file in images)
    return group_by_name(named), [file for file in files if not _is_image(file)]


def _several(one_or_more: str | Sequence[str]) -> Sequence[str]:
    return [one_or_more] if isinstance(one_or_more, str) else one_or_more


def _holds_both(folder: Path) -> bool:
    """Tells whether a folder holds an image and its label map: `X` and `X_mask`, …."""
    names = {file.stem for file in image_files(folder)} if os.access(folder, os.R_OK) else set()
    images = names | {_IMAGE_ENDING.sub("", name) for name in names}
    return any(_LABEL_ENDING.sub("", name) in images - {name} for name in names)


def _with_ending(files: Files, endings: Sequence[str]) -> Files:
    """Keeps the files of the first ending that is there, under their names without it."""
    for ending in endings:
        if kept := {n.removesuffix(ending): f for n, f in files.items() if n.endswith(ending)}:
            return kept
    return {}


def _as_images(labels: Files, images: Files, ending: str) -> dict[str, list[Path]]:
    """Names label maps as their images: the same, or but for an ending of either."""
    plain = {_IMAGE_ENDING.sub("", name): name for name in images}
    renamed: dict[str, list[Path]] = collections.defaultdict(list)
    for name, files in labels.items():
        short = name.removesuffix(ending) if ending else _LABEL_ENDING.sub("", name)
        candidates = [name, short, plain.get(short, ""), plain.get(name, "")]
        known = [one for one in candidates if one in images]
        renamed[known[0] if known else short].extend(files)
    return dict(renamed)


def _as_listed(root: Path, files: SplitFiles) -> dict[str, SplitFiles]:
    """Divides files as lists of names in the folder say; without such lists all are in train."""
    for place in _LISTS:
        lists = [
            file for file in sorted((root / place).glob("*.txt")) if file.stem in _KNOWN_SPLITS
        ]
        if lists:
            return {SPLIT_NAMES.get(f.stem, f.stem): _chosen(files, f) for f in lists}
    return {"train": files}


def _chosen(files: SplitFiles, file: Path) -> SplitFiles:
    """Returns the files of the images that a list names at the start of its lines."""
    lines = [line for line in read_text(file).splitlines() if line.strip()]
    names = {same_letters(Path(line.split()[0]).name) for line in lines}
    names = {Path(name).stem if _is_image(Path(name)) else name for name in names}
    by_name = {name.rpartition("/")[2]: name for name in files.images}
    if missing := sorted(names - by_name.keys()):
        raise ValueError(
            f"A list of a split's images must name images that are there. Received: {file}, which "
            f"names {len(missing)} others, such as {missing[0]}. Correct it, or remove it."
        )
    chosen = [by_name[name] for name in sorted(names)]
    return SplitFiles(
        f"{files.place} (of {file.name})",
        {name: files.images[name] for name in chosen},
        {name: files.labels[name] for name in chosen if name in files.labels},
        files.left_out,
    )
