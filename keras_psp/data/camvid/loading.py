"""`load_camvid`: from the name of a split to batches."""

import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_psp.choices import check_name
from keras_psp.data.camvid import release
from keras_psp.data.camvid.classes import CAMVID, CAMVID_MERGINGS
from keras_psp.data.camvid.layouts import FOLDER_VARIABLE, SPLITS, camvid_coding, find_camvid
from keras_psp.data.pipeline import load_splits
from keras_psp.data.reading import LabelCoding, Sample
from keras_psp.labels import LabelValues


def load_camvid(
    split: str | Sequence[str] = "train",
    image_size: tuple[int, int] | None = (360, 480),
    batch_size: int = 8,
    augment: Any = "auto",
    data_dir: str | os.PathLike | None = None,
    *,
    crop_size: tuple[int, int] | None = None,
    merging: str = "segnet",
    shuffle: bool | str = "auto",
    seed: int = 0,
    cache: bool | str = "auto",
    drop_remainder: bool | str = "auto",
    antialias: bool | str = "auto",
) -> Any:
    """Loads CamVid as batches of street scenes and their labels.

    Without a folder, the SegNet release (about 180 MB, Creative Commons BY-NC: for personal and
    research use) is downloaded by TensorFlow Datasets, once. A folder is read as it lies there, in
    any of three layouts: the SegNet release (`train/X.png`, `trainannot/X.png`), the original
    release (`701_StillsRaw_full/X.png`, `LabeledApproved_full/X_L.png`), and Kaggle's
    (`train/X.png`, `train_labels/X_L.png`).

    Frames are decoded, checked and resized once, and kept in memory where they fit.

    Args:
        split: `"train"` (367 frames), `"val"` (101) or `"test"` (233), or a list of these.
        image_size: (height, width) in pixels that frames are resized to: images bilinearly with
            half-pixel centers, labels to the nearest. `None` leaves them at 360x480 (720x960 in the
            original release).
        batch_size: Frames per batch.
        augment: A preset of `keras_psp.data.augmentation`, a mask-aware Keras or KerasCV layer, or
            `None`. `"auto"`: `"authors"` for the train split, otherwise `None`. Of several splits
            only the train split is augmented.
        data_dir: Folder that holds CamVid. Default: the environment variable `KERAS_PSP_DATA`,
            else the download.
        crop_size: (height, width) of the batches, if smaller than `image_size`: cut out by the
            augmentation (behind layers of your own at a random place), or from the middle where
            there is none.
        merging: How 32 classes become eleven: `"segnet"` or `"lecture"`, which needs the original
            or Kaggle's label maps. See `keras_psp.data.camvid.CAMVID_MERGINGS`.
        shuffle: Whether every epoch has an order of its own. `"auto"`: the train split only.
        seed: Seed of order and augmentation. The same seed gives the same batches.
        cache: Whether decoded frames are kept in memory (4 bytes a pixel: 254 MB for the train
            split at 360x480, and nearly twice that while they are read). `"auto"`: if they take at
            most a quarter of the memory of the machine or container.
        drop_remainder: Whether a last, smaller batch is left out. `"auto"`: of the train split
            only.
        antialias: Whether shrinking smooths the image first. `"auto"`: beyond a factor of two,
            where bilinear resizing starts to skip pixels. `False` is the course's convention.

    Returns:
        Batches of (image, label), or a list of such data for a list of splits: a `tf.data.Dataset`
        on the TensorFlow backend, `keras_psp.data.Batches` (a `keras.utils.PyDataset`, which needs
        no TensorFlow) on the others, with the same order and the same views. Images are float32
        `(batch, height, width, 3)`, RGB 0–255; labels int32 `(batch, height, width)`, 0–10 in the
        order of `keras_psp.data.camvid.CAMVID_CLASSES`, 255 void. `len()` is the number of batches;
        `class_names`, `class_colors` and `sample_names` are attributes. `fit` of this package's
        models sets the epoch, on which order and views depend; elsewhere `set_epoch(number)` does.

    Raises:
        ValueError: If there is no such split or option, if the folder has none of the layouts, or
            if a file in it cannot be used; the message names it.
        ConnectionError: If CamVid has to be downloaded and cannot.

    Example:

    ```python
    import keras_psp

    train, val = keras_psp.load_camvid(["train", "val"], image_size=(240, 320), batch_size=8)
    ```

    Reference:
        Brostow, Fauqueur and Cipolla, "Semantic Object Classes in Video: A High-Definition Ground
        Truth Database" (2008).
    """
    check_name("merging", merging, CAMVID_MERGINGS)
    for name in [split] if isinstance(split, str) else split:
        check_name("split", name, SPLITS)
    folder = data_dir or os.environ.get(FOLDER_VARIABLE)
    if not folder and keras.backend.backend() != "tensorflow":
        release.check_merging(merging)
        folder = release.download()

    def find(name: str) -> tuple[list[Sample], LabelCoding]:
        if not folder:
            return _prepared(name, merging)
        found = find_camvid(folder)
        return found.samples(name), camvid_coding(found, merging)

    return load_splits(
        split,
        find,
        CAMVID,
        image_size=image_size,
        batch_size=batch_size,
        augment=augment,
        crop_size=crop_size,
        shuffle=shuffle,
        seed=seed,
        cache=cache,
        drop_remainder=drop_remainder,
        antialias=antialias,
        merging=merging,
    )


def _prepared(split: str, merging: str) -> tuple[list[Sample], LabelCoding]:
    """Returns the samples that TensorFlow Datasets keeps; the first time it downloads them."""
    import tensorflow_datasets as tfds

    from keras_psp.data.camvid.builder import Camvid

    builder = Camvid(config=merging)
    builder.download_and_prepare()
    if split not in builder.info.splits:
        raise ValueError(
            f"A split must have been prepared. Received: split={split!r}, but {builder.data_path} "
            f"only has {', '.join(map(repr, builder.info.splits))}. Delete that folder to prepare "
            f"it anew."
        )
    encoded = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding(), "label": tfds.decode.SkipDecoding()},
    )
    samples = [
        Sample(f"{split}/{frame['file_name'].decode()}", frame["image"], frame["label"])
        for frame in encoded.as_numpy_iterator()
    ]
    # Prepared label maps have the eleven classes in the lecture's order and 255 already.
    return sorted(samples, key=lambda sample: sample.name), LabelValues(range(len(CAMVID)))
