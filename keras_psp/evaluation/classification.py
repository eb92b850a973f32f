"""How good classifiers are: top-1 and top-5 errors, and what their answers cost."""

import collections
import dataclasses
import operator
from collections.abc import Sequence

import keras
import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.checked import checked
from keras_psp.data.each_batch import check_ends, each_batch
from keras_psp.data.info import Data
from keras_psp.inference.classifying import Member, as_bytes, ensemble
from keras_psp.inference.views import Views
from keras_psp.surgery.cost import layer_costs


@dataclasses.dataclass(frozen=True)
class ClassifierEvaluation:
    """The errors of classifiers, and the cost of their answers. Printed, it is a row of a table.

    Args:
        images: Number of images.
        models: Number of models that classified each image.
        crops: Number of views of an image that each model got.
        multiply_adds: Multiply-adds of all models and views together for one image: the image of
            the median aspect ratio.
        top1_error: Share of the images whose class did not get the highest probability, 0–1.
        top5_error: Share of the images whose class was not among the five highest, 0–1.
    """

    images: int
    models: int
    crops: int
    multiply_adds: int
    top1_error: float
    top5_error: float

    @property
    def cost(self) -> int:
        """Models × crops: how often a network runs for one image."""
        return self.models * self.crops

    def __str__(self) -> str:
        models = f"{self.models} model{'s' if self.models > 1 else ''}"
        crops = f"{self.crops:>3} crop{'s' if self.crops > 1 else ''}"
        return (
            f"{models:>9} × {crops:<9} = {self.cost:>5,}  "
            f"{self.multiply_adds / 1e9:>9,.1f}G multiply-adds  "
            f"top-1 error {self.top1_error:>6.2%}  top-5 error {self.top5_error:>6.2%}"
        )


@checked
def evaluate_classifier(
    models: keras.Model | Sequence[keras.Model],
    data: Data,
    image_size: int | Sequence[int] | None = 256,
    views: str | Views = "center_crop",
    *,
    crop_size: int | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> ClassifierEvaluation:
    """Computes top-1 and top-5 errors of classifiers, and what their answers cost.

    Args:
        models: A classifier or several: see `classify`.
        data: Batches of images and classes, as `evaluate` takes them, without weights: images as
            `classify` takes them, classes integers `(n,)`, 0 … K−1.
        image_size: The size that images are resized to before the views are cut; see `classify`.
        views: A name from `keras_psp.inference.VIEWS`, or `Views`.
        crop_size: Side of the crops; see `classify`.
        batch_size: Number of views, all of one size, that a model gets at a time.
        progress: Whether to show a progress bar.

    Returns:
        A `ClassifierEvaluation`. Of classes with the same probability the first counts as higher.

    Raises:
        ValueError: If there is no image, if a label is no class, or where `classify` raises it.

    Reference:
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), table 3: models, crops and cost.

    Example:

    ```python
    import numpy as np
    import keras_psp

    model = keras_psp.ResNet("resnet20", weights=None, input_shape=(32, 32, 3))
    images = np.random.default_rng(0).uniform(0, 255, (2, 60, 80, 3))
    result = keras_psp.evaluate_classifier(model, [(images, np.array([3, 7]))], views="10_crops")
    print(f"{result.cost:.0f} crops of each image")
    ```

    ```text
    10 crops of each image
    ```
    """
    members = ensemble(models, image_size, views, crop_size, batch_size)
    check_ends(data)
    number = None if isinstance(data, tuple) else operator.length_hint(data) or None
    bar = keras.utils.Progbar(number, verbose=int(progress))
    hits, shapes = [], []
    for images, labels, weights in each_batch(data):
        if labels is None or weights is not None:
            raise ValueError(
                "Classifiers are scored on batches of images and classes, and all images count. "
                f"Received: {'images alone' if labels is None else 'weights, too'}. Give pairs "
                "(images, classes)."
            )
        pixels, labels = [as_bytes(image) for image in images], to_numpy(labels)
        _check_labels(labels, len(pixels), members[0].num_classes)
        # Equal probabilities stay in the order of their classes.
        probabilities = np.mean([member(pixels) for member in members], axis=0)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        hits.append((order == labels[:, None])[:, :5])
        shapes += [one.shape[:2] for one in pixels]
        bar.add(1)
    if not shapes:
        raise ValueError(
            "An evaluation needs at least one image. Received: data without any. Check the data's "
            "folder and its split."
        )
    shapes.sort(key=lambda shape: max(shape) / min(shape))
    sizes = [_view_sizes(member, *shapes[len(shapes) // 2]) for member in members]
    top5 = np.concatenate(hits)
    return ClassifierEvaluation(
        images=len(top5),
        models=len(members),
        crops=sizes[0].total(),
        multiply_adds=sum(
            number * layer.multiply_adds
            for member, counter in zip(members, sizes, strict=True)
            for size, number in counter.items()
            for layer in layer_costs(member.network, size)
        ),
        top1_error=1.0 - float(top5[:, 0].mean()),
        top5_error=1.0 - float(top5.any(axis=1).mean()),
    )


def _view_sizes(member: Member, height: int, width: int) -> collections.Counter:
    """Counts the sizes of the views that a model gets of an image of this size."""
    crop, views = member.crop_size, member.views
    return collections.Counter(
        (crop, crop) if views.crops else (box.height, box.width)
        for size in views.sizes(height, width, member.image_size)
        for box in views.boxes(*size, crop)
    )


def _check_labels(labels: np.ndarray, images: int, num_classes: int) -> None:
    whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == (images,)
    if not whole or ((labels < 0) | (labels >= num_classes)).any():
        raise ValueError(
            f"Labels must be integers, one class from 0 to {num_classes - 1} for each image. "
            f"Received: labels of dtype {labels.dtype} and shape {labels.shape} for {images} "
            f"images, {np.unique(labels)[:10]} …. Turn one-hot labels into classes with "
            "`.argmax(-1)`."
        )
