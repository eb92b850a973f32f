"""Names that users choose from a table, or give."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any


def check_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Returns `name` if it is one of the `known` names of this `kind`.

    Otherwise it raises a ValueError, which suggests the nearest one.
    """
    known = list(known)
    if name in known:
        return str(name)
    if (composed := same_letters(str(name))) in known:
        return composed
    # Case and punctuation do not count: "ResNet-50" means "resnet50".
    plain = {_plain(k): k for k in reversed(known)}
    nearest = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.5)
    hint = f"Did you mean {plain[nearest[0]]!r}? " if nearest else ""
    raise ValueError(
        f"A {kind} must be one of {', '.join(map(repr, known))}. Received: {kind}={name!r}. {hint}"
        f"Choose one of the names above."
    )


def same_letters(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC): macOS writes "é" as two characters."""
    return unicodedata.normalize("NFC", name)


def _plain(name: object) -> str:
    return re.sub(r"[\W_]", "", str(name)).lower()


def repeated(values: Iterable[Any]) -> list[Any]:
    """Returns the values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
