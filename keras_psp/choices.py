"""Names that users choose from tables."""

import difflib
import re
from collections.abc import Iterable


def check_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Returns `name` if it is one of the `known` names of this `kind`.

    Args:
        kind: What is being named, for the message: `"backbone"`, `"split"`, ….
        name: The name a user gave.
        known: All names there are.

    Returns:
        The name itself.

    Raises:
        ValueError: If `name` is none of them; the message suggests the nearest one.

    Example:

    ```python
    from keras_psp.choices import check_name
    assert check_name("split", "val", ["train", "val", "test"]) == "val"
    ```
    """
    known = list(known)
    if name in known:
        return str(name)
    # "ResNet-50" is as near to "resnet50" as can be.
    plain = {_plain(k): k for k in reversed(known)}
    nearest = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.5)
    hint = f"Did you mean {plain[nearest[0]]!r}? " if nearest else ""
    raise ValueError(
        f"A {kind} must be one of {', '.join(map(repr, known))}. Received: {kind}={name!r}. {hint}"
        f"Choose one of the names above."
    )


def _plain(name: object) -> str:
    return re.sub(r"[\W_]", "", str(name)).lower()
