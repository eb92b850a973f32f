"""Classifying images by one crop, by many, or fully convolutionally on whole images.

The probabilities of all views, and of several models, are averaged.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_psp.checked import checked
from keras_psp.data.resizing import resize_image
from keras_psp.inference.images import as_pixels
from keras_psp.inference.views import Views, find_views, predict_views
from keras_psp.models.conversion import to_fully_convolutional


@checked
def classify(
    models: keras.Model | Sequence[keras.Model],
    images: Iterable[Any],
    image_size: int | Sequence[int] | None = 256,
    views: str | Views = "center_crop",
    *,
    crop_size: int | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> np.ndarray:
    """Classifies images, from one view of each or many, by one model or several.

    The softmax probabilities of all views and models are averaged, as in the papers. On whole
    images and windows the classifier is made fully convolutional (`to_fully_convolutional`) and
    returns a class map. Its scores are averaged over the places of the map *before* the softmax,
    as in VGG's paper; the probabilities after it are averaged over mirror images and scales.

    Args:
        models: A classifier, or several with the same classes: functional, RGB images 0–255 in,
            softmax probabilities or logits out.
        images: Files, Pillow images or arrays `(height, width, 3)`, RGB, 0–255, of any sizes, in a
            list or such as `Path.glob("*.jpg")` yields; or one array `(n, height, width, 3)`.
        image_size: The size that images are resized to before the views are cut: `(height, width)`,
            or the shorter side. `None` is the image's own. The scales of the views multiply it.
        views: A name from `keras_psp.inference.VIEWS`, or `Views`.
        crop_size: Side of the crops, or, for views of whole images and windows, of the images that
            the model was trained with. By default each model's own input size, and 224 for a model
            that takes any.
        batch_size: Number of views, all of one size, that a model gets at a time; also how many
            images are read at a time.
        progress: Whether to show a progress bar.

    Returns:
        Probabilities, float64 `(n, num_classes)`.

    Raises:
        ValueError: If the views or the size do not exist, if there is no model, if the models
            differ in their classes, end otherwise or take other sizes, if a batch has no view, if
            the crops are larger than an image at one of the scales, or if an image is not RGB
            0–255.

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 4.1;
        [Simonyan and Zisserman, 2015](https://arxiv.org/abs/1409.1556), sections 3.2 and 4;
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), section 7;
        [He et al., 2016](https://arxiv.org/abs/1512.03385), section 3.4.

    Example:

    ```python
    import keras_psp

    models = [keras_psp.ResNet("resnet20", weights=None) for _ in range(2)]
    photos = [keras_psp.street_scene(seed, image_size=(60, 80))[0] for seed in (1, 2, 3)]
    probabilities = keras_psp.classify(models, photos, 36, "10_crops", crop_size=32)
    print(probabilities.shape)  # images, classes
    ```

    ```text
    (3, 10)
    ```
    """
    members = ensemble(models, image_size, views, crop_size, batch_size)
    images = list(images)
    bar = keras.utils.Progbar(len(images), verbose=int(progress))
    probabilities = np.zeros((len(images), members[0].num_classes))
    for start in range(0, len(images), batch_size):
        pixels = [as_bytes(image) for image in images[start : start + batch_size]]
        answers = [member(pixels) for member in members]
        probabilities[start : start + len(pixels)] = np.mean(answers, axis=0)
        bar.add(len(pixels))
    return probabilities


@checked
def cut_views(
    image: Any,
    image_size: int | Sequence[int] | None = 256,
    views: str | Views = "center_crop",
    crop_size: int = 224,
) -> list[np.ndarray]:
    """Cuts out of an image the views that a classifier gets.

    Args:
        image: A file, a Pillow image, or an array `(height, width, 3)`, RGB, 0–255; any size. It is
            resized bilinearly.
        image_size: See `classify`, also for `views`.
        views: A name from `keras_psp.inference.VIEWS`, or `Views`.
        crop_size: Side of the crops; AlexNet's is 227.

    Returns:
        The views, scale by scale, each in the order of `Views.boxes`: uint8
        `(crop_size, crop_size, 3)`, or of the size of the window or the whole image.

    Raises:
        ValueError: If the views or the size do not exist, if the crops are larger than the image at
            one of the scales, or if the image is not RGB 0–255.

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 4.1;
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), section 7.

    Example:

    ```python
    import keras_psp
    from keras_psp.inference import cut_views

    photo, label = keras_psp.street_scene(seed=1, image_size=(300, 400))
    print(len(cut_views(photo, views="144_crops")), "crops")
    print([view.shape for view in cut_views(photo, 384, "dense_256")])  # and mirrored
    ```

    ```text
    144 crops
    [(384, 512, 3), (384, 512, 3)]
    ```
    """
    views, pixels = find_views(views), as_bytes(image)
    sizes = views.sizes(pixels.shape[0], pixels.shape[1], image_size)
    return [view for size in sizes for view in _cut(pixels, views, size, crop_size)]


def as_bytes(image: Any) -> np.ndarray:
    """Returns the pixels of an image, checked and rounded: uint8 `(height, width, 3)`."""
    return np.rint(as_pixels(image)).astype(np.uint8)


def _cut(
    pixels: np.ndarray, views: Views, size: tuple[int, int], crop_size: int
) -> Iterator[np.ndarray]:
    """Cuts the views of an image at one scale."""
    pixels = resize_image(pixels, size, views.antialias)
    for box in views.boxes(*size, crop_size):
        top, left = max(box.top, 0), max(box.left, 0)
        view = pixels[top : box.top + box.height, left : box.left + box.width]
        if views.crops:
            view = resize_image(view, (crop_size, crop_size))
        elif min(view.shape[:2]) < crop_size:
            raise ValueError(
                "A view's shorter side must be at least as long as in training. Received: a view "
                f"of {view.shape[0]}×{view.shape[1]} (height×width), crop_size={crop_size}. "
                "Use larger scales, a larger image_size, or the crop_size of the training."
            )
        yield view[:, ::-1] if box.mirrored else view


class Member:
    """A classifier, and the views of an image that it gets.

    Args:
        model: The classifier.
        image_size: See `classify`, also for the other arguments.
        views: A name, or `Views`.
        crop_size: Side of the crops.
        batch_size: Number of views that the model gets at a time.

    Raises:
        ValueError: If the views do not exist, or if the model ends otherwise or takes other sizes.
    """

    def __init__(
        self,
        model: keras.Model,
        image_size: int | Sequence[int] | None,
        views: str | Views,
        crop_size: int | None,
        batch_size: int,
    ):
        activation = getattr(model.layers[-1], "activation", None)
        if activation not in (keras.activations.softmax, keras.activations.linear):
            raise ValueError(
                "A classifier must give softmax probabilities or logits. "
                f"Received: {model.name}, whose last layer is a {type(model.layers[-1]).__name__} "
                f"with activation={getattr(activation, '__name__', activation)}. Let it be "
                "'softmax' or None."
            )
        own = tuple(model.inputs[0].shape[1:3])
        size = (crop_size or own[0] or 224,) * 2
        if any(o not in (None, s) for o, s in zip(own, size, strict=True)):
            raise ValueError(
                "Crops are squares, of the size that the model takes. "
                f"Received: crop_size={crop_size} for {model.name}, which takes {own} (height, "
                "width). Leave crop_size out, and use a model for squares."
            )
        self.image_size = image_size
        self.views = find_views(views)
        self.crop_size = size[0]
        self.batch_size = batch_size
        self.network = model
        self.num_classes = model.outputs[0].shape[-1]
        self.gives_logits = activation is keras.activations.linear
        if not self.views.crops:
            self.network = to_fully_convolutional(model, size)
            self.network.layers[-1].activation = keras.activations.linear
            self.gives_logits = True
            # Images of many sizes: XLA would compile the network for each of them.
            self.network.compile(jit_compile=False)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Turns images `(height, width, 3)`, uint8, into probabilities `(n, num_classes)`."""
        total = np.zeros((len(images), self.num_classes))
        counts = np.zeros((len(images), 1))
        for i, scores in predict_views(self.network, self._views(images), self.batch_size):
            total[i] += self._probabilities(scores.astype("float64"))
            counts[i] += 1
        return total / counts

    def _views(self, images: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Cuts every view, and says which image it is of."""
        # Images of one shape follow one another, so that their views of one size share batches.
        order = sorted(range(len(images)), key=lambda i: images[i].shape[0] / images[i].shape[1])
        sizes = [self.views.sizes(one.shape[0], one.shape[1], self.image_size) for one in images]
        for scale in range(len(self.views.scales)):
            for i in order:
                for view in _cut(images[i], self.views, sizes[i][scale], self.crop_size):
                    yield i, view

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        if not self.views.crops:
            scores = scores.mean(axis=(0, 1))
        if not self.gives_logits:
            return scores
        scores = np.exp(scores - scores.max())
        return scores / scores.sum()


def ensemble(models: keras.Model | Sequence[keras.Model], *options: Any) -> list[Member]:
    """Returns the members of an ensemble.

    Args:
        models: A classifier, or several with the same classes.
        *options: What `Member` takes after the model.

    Raises:
        ValueError: If there is no model, or if they differ in their classes.
    """
    models = list(models) if isinstance(models, Sequence) else [models]
    classes = sorted({model.outputs[0].shape[-1] for model in models})
    if len(classes) != 1:
        raise ValueError(
            "An ensemble is at least one model, and all of its models know the same classes. "
            f"Received: {len(models)} models, of {classes} classes. Leave some out."
        )
    return [Member(model, *options) for model in models]
