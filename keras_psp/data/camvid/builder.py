"""CamVid for TensorFlow Datasets. Importing this module registers it: then `tfds.load("camvid")`.

Nothing else imports it, so that the rest of the package needs no TensorFlow Datasets.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_psp.choices import check_name
from keras_psp.data.camvid import release
from keras_psp.data.camvid.classes import CAMVID, CAMVID_COLORS, CAMVID_FREQUENCIES, CAMVID_MERGINGS
from keras_psp.data.camvid.layouts import HOMEPAGE, camvid_coding, find_camvid, own_folder
from keras_psp.data.reading import LabeledImage


class Camvid(tfds.core.GeneratorBasedBuilder):
    """CamVid with eleven classes.

    It downloads the SegNet release, or reads a folder in any of CamVid's layouts.

    Args:
        folder: Folder that holds CamVid. Default: as in `keras_psp.load_camvid`. Data
            prepared from a folder are kept under a config of their own, and prepared again when a
            file in the folder changes.
        config: `"segnet"`, the default, or `"mseg"`: how 32 classes became eleven.
        **kwargs: `data_dir` (where the prepared data lies) and whatever else TensorFlow Datasets
            knows.

    Raises:
        ValueError: If the folder does not hold CamVid.

    Example: (no network is needed up to here, but `download_and_prepare()` downloads)

    ```python
    import keras_psp.data.camvid.builder  # registers it
    import tensorflow_datasets as tfds

    builder = tfds.builder("camvid")
    print(builder.info.features["label"].names[:6])
    ```

    ```text
    ['Building', 'Tree', 'Sky', 'Car', 'SignSymbol', 'Road']
    ```
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The SegNet release, eleven classes."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(
            name="segnet", description="Classes merged as in the SegNet release (the default)."
        ),
        tfds.core.BuilderConfig(
            name="mseg",
            description="Only the eleven classes of the same names, the other 21 void; needs a "
            "folder with the original 32 classes.",
        ),
    ]

    def __init__(
        self, *, folder: str | os.PathLike | None = None, config: Any = None, **kwargs: Any
    ):
        self.folder = own_folder(folder)
        if self.folder and not isinstance(config, tfds.core.BuilderConfig):
            # Not to be mistaken for the download, another folder, or this one's older files.
            place = Path(self.folder).expanduser().resolve()
            source = _fingerprint(place)
            known = self.builder_configs[check_name("config", config or "segnet", CAMVID_MERGINGS)]
            config = tfds.core.BuilderConfig(
                name=f"{known.name}-{source}", description=f"{known.description} From {place}."
            )
        super().__init__(config=config, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="701 frames of street scenes from Cambridge, every pixel with one of "
            "eleven classes in the order Building, Tree, Sky, …, or 255 for unlabelled.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": tfds.features.LabeledImage(
                        labels=list(CAMVID.names), shape=(None, None, 1), encoding_format="png"
                    ),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage=HOMEPAGE,
            license=release.LICENSE,
            citation="""@article{brostow2009camvid,
  title = {Semantic object classes in video: A high-definition ground truth database},
  author = {Brostow, Gabriel J. and Fauqueur, Julien and Cipolla, Roberto},
  journal = {Pattern Recognition Letters},
  volume = {30}, number = {2}, pages = {88--97}, year = {2009}
}""",
            metadata=tfds.core.MetadataDict(
                classes=list(CAMVID.names),
                colors=[list(color) for color in CAMVID_COLORS],
                void=255,
                train_frequencies=list(CAMVID_FREQUENCIES) if self._merging == "segnet" else None,
            ),
        )

    @property
    def _merging(self) -> str:
        return self.builder_config.name.split("-")[0]

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        # Not by dl_manager, whose cache would keep what is not the release.
        folder = self.folder or release.download(self._merging)
        found = find_camvid(folder)
        coding = camvid_coding(found, self._merging)
        return {s: self._generate_examples(found.samples(s, coding)) for s in found.splits}

    def _generate_examples(
        self, samples: list[LabeledImage]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for sample in samples:
            image, label = sample.read()
            example = {"image": image, "label": label[..., None], "file_name": sample.name}
            yield sample.name, example


def _fingerprint(folder: Path) -> str:
    """Returns eight characters that change with the folder's path and the files in it."""
    digest = hashlib.sha256(str(folder).encode())
    found = find_camvid(folder)
    for split in found.splits:
        files = found.files(split)
        for file in itertools.chain(*files.images.values(), *files.labels.values()):
            state = file.stat()
            digest.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:8]
