"""`load_camvid`: from the name of a split to batches."""

import os
from collections.abc import Sequence
from typing import Any, overload

import keras

from keras_psp.checked import checked
from keras_psp.choices import check_name
from keras_psp.data.camvid import release
from keras_psp.data.camvid.classes import CAMVID, CAMVID_MERGINGS
from keras_psp.data.camvid.layouts import SPLITS, camvid_coding, find_camvid, own_folder
from keras_psp.data.info import Dataset
from keras_psp.data.options import LoadingOptions, is_trained_on
from keras_psp.data.pipeline import load_splits
from keras_psp.data.split import Sample
from keras_psp.data.street_scenes.loading import find_scenes
from keras_psp.signatures import passes_on


@overload
def load_camvid(
    split: str = ...,
    image_size: tuple[int, int] | None = ...,
    batch_size: int = ...,
    augment: Any = ...,
    data_dir: str | os.PathLike | None = ...,
    *,
    merging: str = ...,
    split_by: str = ...,
    street_scenes: float = ...,
    **options: Any,
) -> Dataset: ...


@overload
def load_camvid(split: Sequence[str], *args: Any, **options: Any) -> list[Dataset]: ...


@checked
@passes_on(LoadingOptions)
def load_camvid(
    split: str | Sequence[str] = "train",
    image_size: tuple[int, int] | None = (360, 480),
    batch_size: int = 8,
    augment: str | keras.Layer | Sequence[keras.Layer] | None = "auto",
    data_dir: str | os.PathLike | None = None,
    *,
    merging: str = "segnet",
    split_by: str = "frame",
    street_scenes: float = 0.0,
    **options: Any,
) -> "Dataset | list[Dataset]":
    """Loads CamVid as batches of street scenes and their labels.

    Without a folder, the SegNet release (about 180 MB, Creative Commons BY-NC: for personal and
    research use) is downloaded once, to Keras' cache. A folder is read as it lies there, in any of
    three layouts: the SegNet release (`train/X.png`, `trainannot/X.png`), the original
    release (`701_StillsRaw_full/X.png`, `LabeledApproved_full/X_L.png`), and Kaggle's
    (`train/X.png`, `train_labels/X_L.png`).

    Images are decoded, checked and resized once, and kept in memory where they fit.

    Args:
        split: `"train"` (367 images), `"val"` (101) or `"test"` (233), or a list of these.
        image_size: (height, width) in pixels that images and labels are resized to. `None` leaves
            them at 360x480 (720x960 in the original release).
        batch_size: Images per batch.
        augment: How training images are changed at random: a preset's name, a layer, a list of
            layers, or `None`. `"auto"`: the preset `"authors"` for the train split, otherwise
            `None`.
        data_dir: Folder that holds CamVid. Default: the environment variable `KERAS_PSP_DATA`,
            else a CamVid among the inputs of a Kaggle notebook or in kagglehub's cache, else the
            download.
        merging: How 32 classes become eleven: `"segnet"` or `"mseg"`, which needs the original or
            Kaggle's label maps. See `keras_psp.data.camvid.CAMVID_MERGINGS`.
        split_by: `"frame"`: the published split, by the frames' names, whatever folders they lie
            in. `"folder"`: as they lie; Kaggle's folders are another split, whose scores compare
            with nobody's. `"drive"`: no drive is in two splits. The published validation frames are
            a clip of a drive that is trained on; here they are trained on, too, and the 101 frames
            of drive 0006R0 are the validation split, which is harder.
        street_scenes: Share of drawn scenes among the images of the train split, 0 – 1, see
            `load_street_scenes`: with 1/8, each epoch shows the 367 frames and 52 scenes, in one
            order. Other splits remain as they are.
        **options: `crop_size`, `centered_on`, `shuffle`, `seed`, `cache`, `drop_remainder` and
            `antialias`: see `keras_psp.data.LoadingOptions`.

    Returns:
        Batches of (image, label), or a list of such data for a list of splits: a `tf.data.Dataset`
        on the TensorFlow backend, `keras_psp.data.Batches` (a `keras.utils.PyDataset`, which needs
        no TensorFlow) on the others, with the same order and the same views. Images are float32
        `(batch, height, width, 3)`, RGB 0–255; labels int32 `(batch, height, width)`, 0–10 in the
        order of `keras_psp.data.camvid.CAMVID_CLASSES`, 255 void. `len()` is the number of batches;
        `class_names`, `class_colors` and `sample_names` are attributes, and
        `keras_psp.data.info_of` says the same of what `take`, `map`, … make of the data. `fit` of
        this package's models sets the epoch, on which order and views depend; elsewhere
        `set_epoch(number)` does.

    Raises:
        ValueError: If there is no such split, share or option, if the folder has none of the
            layouts, or if a file in it cannot be used; the message names it.
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
    if not 0 <= street_scenes < 1:
        raise ValueError(
            "Street scenes are a share of the images, from 0 to less than 1. "
            f"Received: street_scenes={street_scenes}. Pass 0.125 for one image in eight."
        )
    found = find_camvid(own_folder(data_dir) or release.download(merging), split_by)
    coding = camvid_coding(found, merging)

    def find(name: str) -> list[Sample]:
        frames: list[Sample] = [*found.samples(name, coding)]
        if is_trained_on(name):
            frames += find_scenes("train", round(len(frames) / (1 - street_scenes)) - len(frames))
        return frames

    options |= {"image_size": image_size, "batch_size": batch_size, "augment": augment}
    return load_splits(split, find, CAMVID, options, merging=merging)
