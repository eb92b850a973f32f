"""What a file may be and ask for, before it is read: it may come from a stranger."""

import contextlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Trained weights hardly shrink when they are compressed: by this much only in an attack.
_RATIO, _SLACK = 100, 1 << 20
_LARGEST_TEXT = 1 << 26


def check_regular(path: str | os.PathLike[str], max_bytes: int | None = None) -> None:
    """Raises an OSError if a path is a pipe, device or folder, or larger than it may be.

    Args:
        path: The path; a link to a file is as good as the file.
        max_bytes: The largest size of the file.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise OSError(f"it is no file, but {kind}")
    if max_bytes is not None and found.st_size > max_bytes:
        raise OSError(f"it has {found.st_size:,} bytes, more than {max_bytes:,}")


def read_text(path: Path) -> str:
    """Reads a file of names or a table, in UTF-8; raises a ValueError if it is none, or too large.

    Args:
        path: The file.
    """
    try:
        check_regular(path, _LARGEST_TEXT)
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"A list is a text file in UTF-8. Received: {path}, which cannot be read ({error}). "
            "Save it as UTF-8, or remove it."
        ) from error


def check_declared(path: str | os.PathLike[str], declared: int) -> None:
    """Raises an OSError if a file says that its content is far larger than the file.

    Args:
        path: The file.
        declared: How many bytes its content has in memory, as the file says.
    """
    size = os.path.getsize(path)
    if declared > _RATIO * size + _SLACK:
        raise OSError(f"its {size:,} bytes ask for {declared:,} bytes of memory")


def check_archive(path: str | os.PathLike[str]) -> None:
    """Raises an OSError if a ZIP file, as .keras, .npz and .pth are, unpacks to far more."""
    with zipfile.ZipFile(path) as archive:
        check_declared(path, sum(member.file_size for member in archive.infolist()))


@contextlib.contextmanager
def open_keras_archive(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Opens a `.keras` file for reading, which is a ZIP file.

    Args:
        path: The file.

    Returns:
        A context manager that gives the opened file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none, is damaged, or unpacks to far more than it has bytes.
    """
    try:
        check_regular(path)
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            missing = {"config.json", "model.weights.h5"}.difference(archive.namelist())
            if damaged := missing or archive.testzip():
                raise OSError(f"{damaged} is missing or damaged")
    except FileNotFoundError:
        raise
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            "A .keras file is a whole ZIP file that Keras wrote. "
            f"Received: path='{Path(path)}', which is none ({error}). Take another copy, or save "
            "the model again."
        ) from error
    with zipfile.ZipFile(path) as archive:
        yield archive


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a regular file that begins as HDF5."""
    import h5py

    return os.path.isfile(path) and h5py.is_hdf5(path)


@contextlib.contextmanager
def open_hdf5(
    path: str | os.PathLike[str], source: str | os.PathLike[str] | None = None
) -> Iterator[Any]:
    """Opens an HDF5 file of weights for reading, if all that it holds lies in it.

    HDF5 can name other files of the machine, whose bytes would then be read as weights.

    Args:
        path: The file.
        source: What the message calls it, where it comes out of an archive.

    Returns:
        A context manager that gives the opened `h5py.File`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, is no regular file, points to anything outside of it, or
            asks for far more memory than it has bytes.
    """
    import h5py

    with contextlib.ExitStack() as stack:
        try:
            check_regular(path)
            file = stack.enter_context(h5py.File(path, "r"))
            fault = _stranger_in(file) or file.visititems(lambda _, item: _stranger_in(item))
            if fault:
                raise OSError(fault)
            check_declared(path, sum(_sizes(file)))
        except FileNotFoundError:
            raise
        except Exception as error:  # h5py's answers to damage are of many types.
            raise ValueError(
                "A file of weights is a whole HDF5 file that holds all of its numbers itself. "
                f"Received: path='{source or path}', which does not ({error}). Take a copy from a "
                "source that you trust, or save the weights again."
            ) from error
        yield file


def _stranger_in(item: Any) -> str | None:
    """Says what of a group or data set lies elsewhere, or is no number."""
    import h5py

    if isinstance(item, h5py.Group):
        for key in item:
            if not isinstance(item.get(key, getlink=True), h5py.HardLink):
                return f"{item.name.rstrip('/')}/{key} is a link"
    elif isinstance(item, h5py.Dataset):
        if item.external or item.is_virtual:
            return f"{item.name} lies in another file"
        if item.dtype.kind not in "fiubV" or item.dtype.fields:  # V: bfloat16
            return f"{item.name} is of type {item.dtype}"
    return None


def _sizes(file: Any) -> list[int]:
    sizes: list[int] = []
    file.visititems(lambda _, item: sizes.append(getattr(item, "nbytes", 0)))
    return sizes
