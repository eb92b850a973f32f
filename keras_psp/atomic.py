"""Files and folders that are written whole or not at all."""

import contextlib
import csv
import ctypes
import functools
import io
import itertools
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PARTIAL = ".partial-"
_DAY = 24 * 60 * 60


@contextlib.contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Gives a new folder on the disk of a file that is to be written, and removes it at the end.

    Nobody can guess its name or put anything into it. What a killed process left there a day ago or
    earlier goes, too.

    Args:
        target: The file; missing folders are made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target.parent.resolve())
    with tempfile.TemporaryDirectory(
        prefix=_PARTIAL, dir=target.parent, ignore_cleanup_errors=True
    ) as scratch:
        yield Path(scratch)


@functools.cache  # Once in a process: the folder may hold many files.
def _remove_leftovers(folder: Path) -> None:
    for old in folder.glob(f"{_PARTIAL}*"):
        # Links are not followed.
        is_folder = old.is_dir() and not old.is_symlink()
        with contextlib.suppress(OSError):
            parts = [old, *old.iterdir()] if is_folder else [old]
            if max(part.lstat().st_mtime for part in parts) < time.time() - _DAY:
                shutil.rmtree(old) if is_folder else old.unlink()


def write_whole(file: str | os.PathLike[str], content: bytes | Callable[[Path], Any]) -> Path:
    """Writes a file whole or not at all, even if the process is killed meanwhile.

    Args:
        file: The file; missing folders are made.
        content: Its bytes, or a function that gets a path and writes them there.

    Returns:
        The path of the file.
    """
    file = Path(file)
    if file.is_dir():
        raise IsADirectoryError(
            f"A file takes the place of a file alone. Received: '{file}', which is a folder. "
            "Choose another path, or move the folder away."
        )
    with scratch_beside(file) as scratch:
        partial = scratch / file.name
        if isinstance(content, bytes):
            partial.write_bytes(content)
        else:
            content(partial)
        _flush(partial)
        os.replace(partial, file)
    return file


def _flush(file: Path) -> None:
    with open(file, "rb+") as written:
        os.fsync(written.fileno())


def write_folder_whole(
    folder: str | os.PathLike[str], write: Callable[[Path], Any], member: str
) -> Path:
    """Writes a folder whole or not at all, and replaces an older one of the same kind.

    Linux and macOS exchange the two in one step. Elsewhere the older one has another name for a
    moment; if the process is killed then, the next call gives it its name back.

    Args:
        folder: The folder; missing parents are made.
        write: A function that gets a path and makes the folder there.
        member: A file that every folder of this kind holds. What lacks it is not replaced.

    Returns:
        The path of the folder.

    Raises:
        ValueError: If something else is at this path.
    """
    folder = Path(folder)
    aside = folder.with_name(f".old-{folder.name}")
    if not folder.exists() and (aside / member).is_file():
        os.replace(aside, folder)
    if folder.exists() and not (folder / member).is_file():
        raise ValueError(
            f"A new folder replaces only one that holds {member}. "
            f"Received: path='{folder}', which is something else. Choose another path."
        )
    with scratch_beside(folder) as scratch:
        new = scratch / folder.name
        write(new)
        for file in new.rglob("*"):
            if file.is_file():
                _flush(file)
        if not folder.exists():
            os.replace(new, folder)
        elif not _exchange(new, folder):
            if (aside / member).is_file():  # A process was killed behind the next two lines.
                os.replace(aside, scratch / aside.name)
            os.replace(folder, aside)
            os.replace(new, folder)
            os.replace(aside, new)
    return folder


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; returns False where the system cannot."""
    here, swap = -100, 2  # AT_FDCWD; RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS
    paths = os.fsencode(one), os.fsencode(other)
    with contextlib.suppress(OSError, AttributeError):  # An old system, or an old C library.
        if sys.platform == "linux":
            return ctypes.CDLL(None).renameat2(here, paths[0], here, paths[1], swap) == 0
        if sys.platform == "darwin":
            return ctypes.CDLL(None).renamex_np(*paths, swap) == 0
    return False


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Makes a folder if it is missing; raises an OSError if nothing can be written there."""
    probe = Path(folder, ".writable")
    try:
        # Another process may look at the same time.
        write_whole(probe, b"").unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"A run needs a folder that can be written to. Received: folder='{folder}' ({error}). "
            "Choose another one."
        ) from error


def write_table(file: str | os.PathLike[str], rows: list[dict[str, Any]]) -> Path:
    """Writes rows as CSV; a value that a row lacks, or that is NaN, stays empty. Before a text that
    spreadsheets would compute stands an apostrophe."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(itertools.chain(*rows))))
    writer.writeheader()
    # NaN is the one number that is not equal to itself.
    writer.writerows({key: _as_text(v) for key, v in row.items() if v == v} for row in rows)
    # File names of other systems may hold bytes that are no UTF-8.
    return write_whole(file, table.getvalue().encode(errors="backslashreplace"))


_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # with apostrophes, so that reading takes off one


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def read_table(file: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Reads the rows of a CSV file with a header."""
    with open(file, newline="", encoding="utf-8") as table:
        return [
            {
                key: value[1:] if value and value[0] == "'" and _FORMULA.match(value) else value
                for key, value in row.items()
            }
            for row in csv.DictReader(table)
        ]
