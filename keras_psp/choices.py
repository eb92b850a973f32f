"""Names that users choose from a table, or give."""

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def check_name(
    kind: str, name: object, known: Iterable[str], repair: str = "Choose one of the names above."
) -> str:
    """Returns `name` if it is one of the `known` names of this `kind`.

    Otherwise it raises a ValueError, which suggests the nearest one, and ends in `repair`.
    """
    known = list(known)
    if name in known:
        return str(name)
    if (composed := same_letters(str(name))) in known:
        return composed
    similar = _nearest(name, known)
    hint = f"Did you mean {similar!r}? " if similar else ""
    article = "An" if kind[0] in "aeiou" else "A"
    names = ", ".join(map(repr, known))
    raise ValueError(
        f"{article} {kind} must be one of {names}. Received: {kind}={name!r}. {hint}{repair}"
    )


def same_letters(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC): macOS writes "é" as two characters."""
    return unicodedata.normalize("NFC", name)


def did_you_mean(path: Path, known: Iterable[Path] | None = None) -> str:
    """Asks whether a path means the nearest one that exists, or that is known, if there is any."""
    if known is None:
        similar = _similar(path)
    else:
        names = {one.name: one for one in known}
        similar = names.get(_nearest(path.name, sorted(names)) or "")
    return f"Did you mean '{similar}'? " if similar else ""


def _similar(path: Path) -> Path | None:
    if path.exists() or path == path.parent:
        return path
    parent = _similar(path.parent)
    if parent is None or not parent.is_dir():
        return None
    name = _nearest(path.name, sorted(os.listdir(parent)))
    return parent / name if name else None


def _nearest(name: object, known: Iterable[str]) -> str | None:
    # Case and punctuation do not count: "ResNet-50" means "resnet50".
    plain = {_plain(k): k for k in reversed(list(known))}
    nearest = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.5)
    return plain[nearest[0]] if nearest else None


def _plain(name: object) -> str:
    return re.sub(r"[\W_]", "", str(name)).lower()


def repeated(values: Iterable[Any]) -> list[Any]:
    """Returns the values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
