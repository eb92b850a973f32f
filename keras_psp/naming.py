"""Names that users choose from tables."""

import difflib
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
    from keras_psp.naming import check_name
    assert check_name("split", "val", ["train", "val", "test"]) == "val"
    ```
    """
    known = list(known)
    if name in known:
        return str(name)
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"A {kind} must be one of {', '.join(map(repr, known))}. Received: {kind}={name!r}. {hint}"
        f"Choose one of the names above."
    )
