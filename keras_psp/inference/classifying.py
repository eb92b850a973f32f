"""Classifying images as the papers do: by one crop, by many, or by the network at every place.

A `Policy` says what a network looks at; `POLICIES` holds those of the papers. Several models may
look, and what they say is averaged.
"""

import dataclasses
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.choices import check_name
from keras_psp.data.resizing import resize_image, scaled_size
from keras_psp.inference.segmenting import Box, as_pixels
from keras_psp.models.conversion import to_fully_convolutional
from keras_psp.surgery.cost import layer_costs

# What to look at ---------------------------------------------------------------------------------


_PLACES = ("corners", "center", "square")


@dataclasses.dataclass(frozen=True)
class Policy:
    """What of an image a classifier looks at.

    Args:
        scales: Lengths that the image's shorter side gets, one after the other; the aspect ratio is
            kept.
        places: Which crops of each square of the image there are: `"corners"`, its four corners;
            `"center"`, its center; `"square"`, the whole of it, resized to the crops' size. Without
            any the network looks at the whole image, as a fully convolutional one.
        squares: How many squares of an image, as large as fits, the crops are taken from: 1, the
            central one, or 3, those at both ends too.
        mirrored: Whether every view is looked at mirrored too.

    Raises:
        ValueError: If there is no scale, no such place, or another number of squares.

    Example:

    ```python
    from keras_psp.inference.classifying import Policy

    policy = Policy(scales=(256,), places=("corners", "center"))
    assert policy.views == 5
    assert policy.boxes(256, 320, crop_size=224)[3] == (32, 64, 224, 224, False)
    ```
    """

    scales: tuple[int, ...] = (256,)
    places: tuple[str, ...] = ("center",)
    squares: int = 1
    mirrored: bool = False

    def __post_init__(self):
        for place in self.places:
            check_name("place", place, _PLACES)
        if not self.scales or self.squares not in (1, 3):
            raise ValueError(
                "A policy needs at least one scale, and 1 square of the image or 3. "
                f"Received: scales={self.scales}, squares={self.squares}."
            )

    @property
    def dense(self) -> bool:
        """Whether the network looks at the whole image."""
        return not self.places

    @property
    def views(self) -> int:
        """How often a network looks at an image."""
        size = max(self.scales)
        return len(self.scales) * len(self.boxes(size, size, size))

    def boxes(self, height: int, width: int, crop_size: int = 224) -> list[Box]:
        """Says which parts of an image at one of the scales are looked at.

        Args:
            height: The image's height in pixels.
            width: Its width.
            crop_size: Side of the crops.

        Returns:
            The boxes: square by square, place by place (the corners row by row), and then all of
            them mirrored.

        Raises:
            ValueError: If the crops are larger than the image.
        """
        side = min(height, width)
        if side < crop_size:
            raise ValueError(
                "The image's shorter side must be at least a crop's. "
                f"Received: an image of {height}×{width} (height×width), crop_size={crop_size}. "
                "Use larger scales or smaller crops."
            )
        if self.dense:
            boxes = [Box(0, 0, height, width)]
        else:
            shares = (0, 0.5, 1) if self.squares == 3 else (0.5,)
            boxes = [
                box
                for share in shares
                for box in self._crops(
                    int(share * (height - side)), int(share * (width - side)), side, crop_size
                )
            ]
        return boxes + [box._replace(mirrored=True) for box in boxes if self.mirrored]

    def _crops(self, top: int, left: int, side: int, crop_size: int) -> Iterator[Box]:
        """The crops of the square whose upper left corner is at `(top, left)`."""
        free = side - crop_size
        for place in self.places:
            if place == "square":
                yield Box(top, left, side, side)
                continue
            corners = itertools.product((0, free), repeat=2)
            for down, right in corners if place == "corners" else [(free // 2, free // 2)]:
                yield Box(top + down, left + right, crop_size, crop_size)


# The papers' ways. VGG's scale is Q; S was the shorter side of the images that it was trained with.
#
# single                   the center
# 10                       AlexNet's, and ResNet's for comparison: corners and center of the central
#                          square, mirrored too (AlexNet, section 4.1)
# 144                      GoogLeNet's: 4 scales × 3 squares × 6 × 2 (section 7)
# dense_256, dense_384     VGG's at one scale (section 4.1): Q = S; 384 also for S from 256 to 512
# multi_scale_256, _384    VGG's at three (section 4.2): Q = S − 32, S, S + 32
# multi_scale              … for S from 256 to 512
# multi_scale_resnet       ResNet's (section 3.4)
POLICIES: dict[str, Policy] = {
    "single": Policy(),
    "10": Policy(places=("corners", "center"), mirrored=True),
    "144": Policy((256, 288, 320, 352), _PLACES, squares=3, mirrored=True),
    "dense_256": Policy((256,), places=(), mirrored=True),
    "dense_384": Policy((384,), places=(), mirrored=True),
    "multi_scale_256": Policy((224, 256, 288), places=(), mirrored=True),
    "multi_scale_384": Policy((352, 384, 416), places=(), mirrored=True),
    "multi_scale": Policy((256, 384, 512), places=(), mirrored=True),
    "multi_scale_resnet": Policy((224, 256, 384, 480, 640), places=(), mirrored=True),
}


def crops(image: Any, policy: str | Policy = "single", crop_size: int = 224) -> list[np.ndarray]:
    """Cuts out of an image what a classifier looks at.

    Args:
        image: A file, a Pillow image, or an array `(height, width, 3)`, RGB, 0–255; any size. It is
            resized bilinearly.
        policy: A name from `POLICIES`, or a `Policy`.
        crop_size: Side of the crops; AlexNet's is 227.

    Returns:
        The views, scale by scale, each in the order of `Policy.boxes`: uint8
        `(crop_size, crop_size, 3)`, or the whole image at each scale.

    Raises:
        ValueError: If there is no such policy, if the crops are larger than one of its scales, or
            if the image is not RGB 0–255.

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 4.1;
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), section 7.

    Example:

    ```python
    import numpy as np
    from keras_psp.inference.classifying import crops

    photo = np.zeros((300, 400, 3), "uint8")
    assert len(crops(photo, "144")) == 144
    assert [view.shape for view in crops(photo, "dense_384")] == 2 * [(384, 512, 3)]
    ```
    """
    policy, pixels = _policy(policy), _pixels(image)
    return [v for scale in policy.scales for v in _views(pixels, policy, scale, crop_size)]


def _policy(policy: str | Policy) -> Policy:
    if isinstance(policy, Policy):
        return policy
    return POLICIES[check_name("policy", policy, POLICIES)]


def _pixels(image: Any) -> np.ndarray:
    return np.rint(as_pixels(image)).astype(np.uint8)


def _views(pixels: np.ndarray, policy: Policy, scale: int, crop_size: int) -> Iterator[np.ndarray]:
    """What is looked at at one scale."""
    size = scaled_size(pixels.shape[0], pixels.shape[1], scale)
    boxes = policy.boxes(*size, crop_size)
    pixels = resize_image(pixels, size)
    for box in boxes:
        view = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        if not policy.dense:
            view = resize_image(view, (crop_size, crop_size))
        yield view[:, ::-1] if box.mirrored else view


# Classifying -------------------------------------------------------------------------------------


def classify(
    models: keras.Model | Sequence[keras.Model],
    images: Sequence[Any] | np.ndarray,
    policy: str | Policy = "single",
    *,
    crop_size: int | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> np.ndarray:
    """Says what is in each image, after one look or many, by one model or several.

    The softmax probabilities of all crops, scales and models are averaged, as in the papers. Of a
    fully convolutional network's class map the scores are averaged first, before the softmax: it is
    the class *score* map that VGG's paper averages over its places, and the *posteriors* that it
    averages over mirrored images and scales.

    Args:
        models: A classifier, or several that know the same classes: functional, RGB images 0–255
            in, softmax probabilities or logits out.
        images: Files, Pillow images or arrays `(height, width, 3)`, RGB, 0–255, of any sizes; or
            one array `(n, height, width, 3)`.
        policy: A name from `POLICIES`, or a `Policy`.
        crop_size: Side of the crops and, for a policy that looks at whole images, of the images
            that the model was trained with. By default each model's own input size, and 224 of one
            that takes any.
        batch_size: How many views, of one size, a model sees at a time; also how many images are
            read at a time.
        progress: Whether to show a progress bar.

    Returns:
        Probabilities, float64 `(n, num_classes)`.

    Raises:
        ValueError: If there is no such policy or no model, the models do not know the same classes,
            end otherwise or take other sizes, the crops are larger than a scale, or an image is not
            RGB 0–255.

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 4.1;
        [Simonyan and Zisserman, 2015](https://arxiv.org/abs/1409.1556), sections 3.2 and 4;
        [Szegedy et al., 2015](https://arxiv.org/abs/1409.4842), section 7;
        [He et al., 2016](https://arxiv.org/abs/1512.03385), section 3.4.

    Example:

    ```python
    import numpy as np
    import keras_psp
    from keras_psp.inference.classifying import Policy

    models = [keras_psp.ResNet("resnet20", weights=None) for _ in range(2)]
    photos = [np.zeros((60, 80, 3), "uint8"), np.zeros((50, 40, 3), "uint8")]
    ten = Policy(scales=(36,), places=("corners", "center"), mirrored=True)
    probabilities = keras_psp.classify(models, photos, ten, crop_size=32)
    assert np.allclose(probabilities.sum(axis=1), 1)
    ```
    """
    ensemble = _Ensemble(models, _policy(policy), crop_size, batch_size)
    bar = keras.utils.Progbar(len(images), verbose=int(progress))
    probabilities = np.zeros((len(images), ensemble.num_classes))
    for start in range(0, len(images), batch_size):
        pixels = [_pixels(image) for image in images[start : start + batch_size]]
        probabilities[start : start + len(pixels)] = ensemble(pixels)
        bar.add(len(pixels))
    return probabilities


class _Ensemble:
    """Models that look at images by a policy."""

    def __init__(self, models, policy: Policy, crop_size: int | None, batch_size: int):
        models = list(models) if isinstance(models, Sequence) else [models]
        classes = sorted({model.outputs[0].shape[-1] for model in models})
        if len(classes) != 1:
            raise ValueError(
                "An ensemble is at least one model, and all of its models know the same classes. "
                f"Received: {len(models)} models, of {classes} classes. Leave some out."
            )
        (self.num_classes,) = classes
        self.policy = policy
        self.members = [_Member(model, policy, crop_size, batch_size) for model in models]

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images `(height, width, 3)`, uint8 → probabilities `(n, num_classes)`."""
        return np.mean([member(images) for member in self.members], axis=0)

    def multiply_adds(self, aspect_ratio: float) -> int:
        """Of all members and views together, for an image of this aspect ratio."""
        return sum(member.multiply_adds(aspect_ratio) for member in self.members)


class _Member:
    """A model that looks at images by a policy."""

    def __init__(self, model: keras.Model, policy: Policy, crop_size: int | None, batch_size: int):
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
        self.policy = policy
        self.crop_size = size[0]
        self.batch_size = batch_size
        self.network = model
        self.gives_logits = policy.dense or activation is keras.activations.linear
        if policy.dense:
            self.network = to_fully_convolutional(model, size)
            self.network.layers[-1].activation = keras.activations.linear
            # Images of many sizes: XLA would compile the network for each of them.
            self.network.compile(jit_compile=False)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images `(height, width, 3)`, uint8 → probabilities `(n, num_classes)`."""
        total = np.zeros((len(images), self.network.outputs[0].shape[-1]))
        # Views of one size come together, as far as images of one shape do.
        for _, group in itertools.groupby(self._views(images), lambda view: view[1].shape):
            while batch := list(itertools.islice(group, self.batch_size)):
                numbers, views = zip(*batch, strict=True)
                np.add.at(total, list(numbers), self._probabilities(np.stack(views)))
        return total / self.policy.views

    def _views(self, images: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Every view, and the number of its image."""
        order = sorted(range(len(images)), key=lambda i: images[i].shape[0] / images[i].shape[1])
        for scale in self.policy.scales:
            for number in order:
                for view in _views(images[number], self.policy, scale, self.crop_size):
                    yield number, view

    def _probabilities(self, views: np.ndarray) -> np.ndarray:
        # Under MirroredStrategy every replica answers for the whole batch.
        scores = self.network.predict_on_batch(views)[: len(views)].astype("float64")
        if self.policy.dense:
            scores = scores.mean(axis=(1, 2))
        if not self.gives_logits:
            return scores
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return scores / scores.sum(axis=-1, keepdims=True)

    def multiply_adds(self, aspect_ratio: float) -> int:
        """Of all views together, for an image of this aspect ratio."""
        if not self.policy.dense:
            size = (self.crop_size, self.crop_size)
            return self.policy.views * _multiply_adds(self.network, size)
        sizes = [(scale, round(scale * aspect_ratio)) for scale in self.policy.scales]
        views = self.policy.views // len(sizes)
        return views * sum(_multiply_adds(self.network, size) for size in sizes)


def _multiply_adds(network: keras.Model, size: tuple[int, int]) -> int:
    return sum(layer.multiply_adds for layer in layer_costs(network, size))


# Evaluating --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ClassifierEvaluation:
    """How often classifiers err, and what their answers cost. Printed, it is a row of a table.

    Args:
        images: How many images were classified.
        models: How many models looked at each.
        crops: How often each of them did: the policy's views.
        multiply_adds: Of all models and crops together, for one image; where whole images are
            looked at, for one of the images' median aspect ratio.
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


def evaluate_classifier(
    models: keras.Model | Sequence[keras.Model],
    data: Iterable[tuple[Any, Any]],
    policy: str | Policy = "single",
    *,
    crop_size: int | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> ClassifierEvaluation:
    """Counts how often classifiers err, and says what it costs.

    Args:
        models: A classifier or several: see `classify`.
        data: Batches of images and classes: images as `classify` takes them, classes integers
            `(n,)`, 0 … K−1.
        policy: A name from `POLICIES`, or a `Policy`.
        crop_size: See `classify`.
        batch_size: How many views, of one size, a model sees at a time.
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
    data = [(np.zeros((2, 60, 80, 3)), np.array([3, 7]))]
    result = keras_psp.evaluate_classifier(model, data, "10")
    assert result.cost == 10 and 0.5 <= result.top1_error <= 1
    ```
    """
    ensemble = _Ensemble(models, _policy(policy), crop_size, batch_size)
    bar = keras.utils.Progbar(operator.length_hint(data) or None, verbose=int(progress))
    hits, aspect_ratios = [], []
    for images, labels in data:
        pixels, labels = [_pixels(image) for image in images], ops.convert_to_numpy(labels)
        _check_labels(labels, len(pixels), ensemble.num_classes)
        # Equal probabilities stay in the order of their classes.
        order = np.argsort(-ensemble(pixels), axis=1, kind="stable")
        hits.append((order == labels[:, None])[:, :5])
        aspect_ratios += [max(p.shape[:2]) / min(p.shape[:2]) for p in pixels]
        bar.add(1)
    if not aspect_ratios:
        raise ValueError(
            "An evaluation needs at least one image. Received: data without any. Check the data's "
            "folder and its split."
        )
    rights = np.concatenate(hits)
    return ClassifierEvaluation(
        images=len(rights),
        models=len(ensemble.members),
        crops=ensemble.policy.views,
        multiply_adds=ensemble.multiply_adds(float(np.median(aspect_ratios))),
        top1_error=1.0 - float(rights[:, 0].mean()),
        top5_error=1.0 - float(rights.any(axis=1).mean()),
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
