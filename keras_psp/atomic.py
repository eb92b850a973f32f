"""Files and folders that are written whole or not at all."""

import csv
import io
import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(file: str | os.PathLike[str], content: bytes | Callable[[Path], Any]) -> Path:
    """Writes a file whole or not at all, even if the process is killed meanwhile.

    Args:
        file: The file; missing folders are made.
        content: Its bytes, or a function that gets a path and writes them there.

    Returns:
        The path of the file.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since Keras, Pillow and Matplotlib choose the format by it.
    partial = file.with_name(f".partial-{file.name}")
    try:
        if isinstance(content, bytes):
            partial.write_bytes(content)
        else:
            content(partial)
        with open(partial, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return file


def write_folder_whole(
    folder: str | os.PathLike[str], write: Callable[[Path], Any], member: str
) -> Path:
    """Writes a folder whole or not at all, and replaces an older one of the same kind.

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
    if folder.exists() and not (folder / member).is_file():
        raise ValueError(
            f"A new folder replaces only one that holds {member}. "
            f"Received: path='{folder}', which is something else. Choose another path."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as partial:
        write(Path(partial, "new"))
        if folder.exists():
            os.replace(folder, Path(partial, "old"))
        os.replace(Path(partial, "new"), folder)
    return folder


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Makes a folder if it is missing; raises an OSError if nothing can be written there."""
    probe = Path(folder, ".writable")
    try:
        write_whole(probe, b"").unlink()
    except OSError as error:
        raise OSError(
            f"A run needs a folder that can be written to. Received: folder='{folder}' ({error}). "
            "Choose another one."
        ) from error


def write_table(file: str | os.PathLike[str], rows: list[dict[str, Any]]) -> Path:
    """Writes rows as CSV; a value that a row lacks, or that is NaN, stays empty."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(itertools.chain(*rows))))
    writer.writeheader()
    # NaN is the one number that is not equal to itself.
    writer.writerows({key: v for key, v in row.items() if v == v} for row in rows)
    return write_whole(file, table.getvalue().encode())


def read_table(file: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Reads the rows of a CSV file with a header."""
    with open(file, newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))
