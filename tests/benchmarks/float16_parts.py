"""Weights in half the bytes and in small files, for where a large one cannot pass.

The parts are one Keras file, `*.weights.h5`, cut into pieces. Put together again, here or by
`cat NAME.part-* > best.weights.h5`, it loads like any other.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

MIB = 2**20


def write_parts(weights: str | os.PathLike[str], target: Path, part_mib: float) -> list[Path]:
    """Writes a weights file as float16, in parts.

    Kernels become float16. What has one axis stays as it is: it takes few bytes, and a variance of
    batch normalization may lie outside of float16's range.

    Args:
        weights: The file, which Keras wrote.
        target: What the parts are called, `TARGET.part-1-of-3` and so on; the folder must exist.
        part_mib: The size of a part at most, in MiB.

    Returns:
        The parts.

    Raises:
        ValueError: If a kernel has a number that is none of float16's, or the size is not positive.
    """
    import h5py
    import numpy as np

    size = int(part_mib * MIB)
    if size < 1:
        raise ValueError(f"A part must hold a byte. Received: part_mib={part_mib}. Pass more.")
    whole = target.with_name(f".partial-{target.name}.h5")

    def copy(name, item):
        if not isinstance(item, h5py.Dataset):
            group = new.require_group(name)
            group.attrs.update(item.attrs)
            return
        values = item[()]
        if values.dtype == np.float32 and values.ndim > 1:
            with np.errstate(over="ignore"):
                values = values.astype(np.float16)
            if not np.isfinite(values).all():
                raise ValueError(
                    f"A kernel must lie in float16's range, ±65504. Received: {name} in {weights}, "
                    "which does not. Keep the file as it is."
                )
        new.create_dataset(name, data=values).attrs.update(item.attrs)

    try:
        with h5py.File(weights) as old, h5py.File(whole, "w") as new:
            # The checksum is that of the numbers in float32.
            new.attrs.update({k: v for k, v in old.attrs.items() if k != "checksum"})
            old.visititems(copy)
        content = whole.read_bytes()
    finally:
        whole.unlink(missing_ok=True)
    number = -(-len(content) // size)
    parts = [target.with_name(f"{target.name}.part-{i + 1}-of-{number}") for i in range(number)]
    for i, part in enumerate(parts):
        part.write_bytes(content[i * size : (i + 1) * size])
    return parts


def join_parts(parts: Iterable[str | os.PathLike[str]], file: str | os.PathLike[str]) -> Path:
    """Puts parts together again, in whatever order they are given.

    Args:
        parts: What `write_parts` wrote.
        file: The file to write, `*.weights.h5`.

    Returns:
        Its path.

    Raises:
        ValueError: If some are missing, or are of different files.
    """
    parts = [Path(part) for part in parts]
    found = {part.name: re.fullmatch(r"(.*)\.part-(\d+)-of-(\d+)", part.name) for part in parts}
    numbers = sorted(int(match[2]) for match in found.values() if match)
    wholes = {(match[1], int(match[3])) if match else None for match in found.values()}
    (whole,) = wholes if len(wholes) == 1 else [None]
    if whole is None or numbers != list(range(1, whole[1] + 1)):
        raise ValueError(
            "The parts must be all those of one file, NAME.part-1-of-N to NAME.part-N-of-N. "
            f"Received: {', '.join(sorted(found)) or 'none'}. Bring the missing ones together."
        )
    parts.sort(key=lambda part: int(found[part.name][2]))
    file = Path(file)
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    return file
