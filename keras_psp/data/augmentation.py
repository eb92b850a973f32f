"""Random changes of training images, and of their labels with them.

Everything here stands on Keras' own mask-aware layers, which take and return
`{"images": ..., "segmentation_masks": ...}`. What they lack is added around them: what a layer
moves in from outside the picture is void, not class 0, and has the mean color; and the random
numbers depend on a seed alone, however many threads draw them.
"""

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_psp.choices import check_name
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.tensors import Epochs
from keras_psp.labels import VOID

# Mean color of ImageNet (RGB, 0-255): what a network that normalizes by it sees as nothing.
MEAN_COLOR = (123.675, 116.28, 103.53)

UNIFORMS = 6
"""How many random numbers a view is made of."""


@keras.saving.register_keras_serializable("keras_psp")
class RandomView(keras.layers.RandomRotation):
    """Takes a random view of each picture and its label: scaled, rotated, mirrored and cropped.

    One affine map and one resampling for what would otherwise be four: faster, and less blurred.
    As in the PSPNet authors' code, a scaled image that is larger than the crop is cut at a random
    place, and a smaller one comes to lie in the middle. Images are resampled bilinearly (half-pixel
    centers, no antialiasing), labels take the nearest pixel. Outside the picture the image has the
    mean color (RGB 124, 116, 104) and the mask 255, void.

    Args:
        height: Height of the view in pixels.
        width: Width of the view in pixels.
        scale: Smallest and largest scale, drawn uniformly for each image; 2 doubles its size.
        degrees: Largest angle, to either side; drawn uniformly for each image that is rotated.
        rotated: Share of the images that are rotated, 0-1.
        mirrored: Share of the images whose left and right are swapped, 0-1.
        **kwargs: `seed`, `name` and `dtype`, as in every Keras layer.

    Input shape: `(batch, any height, any width, channels)`.

    Output shape: `(batch, height, width, channels)`.

    Example:

    ```python
    import numpy as np
    from keras_psp.data.augmentation import RandomView

    view = RandomView(64, 96, scale=(0.5, 2.0))
    assert view(np.zeros((2, 80, 120, 3)), training=True).shape == (2, 64, 96, 3)
    ```

    Reference:
        [The PSPNet authors' semseg](https://github.com/hszhao/semseg): `RandScale`, `RandRotate`,
        `RandomHorizontalFlip` and `Crop`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        scale: tuple[float, float] = (1.0, 1.0),
        degrees: float = 0.0,
        rotated: float = 0.5,
        mirrored: float = 0.5,
        **kwargs: Any,
    ):
        super().__init__(
            factor=degrees / 360,
            fill_mode="constant",
            fill_value=float(VOID),
            data_format="channels_last",
            **kwargs,
        )
        self.height = height
        self.width = width
        self.scale = tuple(scale)
        self.degrees = degrees
        self.rotated = rotated
        self.mirrored = mirrored

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        if not training:
            return None
        images = data["images"] if isinstance(data, dict) else data
        batch, *size, _ = self.backend.shape(images)
        if seed is None:
            seed = self._get_seed_generator(self.backend._backend)
        # An augmentation brings numbers of its own, which belong to the samples.
        numbers = seed.of_view() if isinstance(seed, _Numbers) else None
        if numbers is None:
            numbers = self.backend.random.uniform((batch, UNIFORMS), seed=seed)
        return self._affine(
            self.backend.numpy, numbers, [self.backend.cast(n, "float32") for n in size]
        )

    def _affine(self, np_: Any, uniforms: Any, size: Sequence[Any]) -> dict[str, Any]:
        """Returns the row and the column of the picture at (x, y) of the view: a·x + b·y + c.

        Args:
            np_: NumPy, or a backend's functions of these names.
            uniforms: Random numbers 0–1, float32 `(batch, UNIFORMS)`.
            size: Height and width of the pictures, float32.
        """
        scaled, turned, angle, mirrored, *corners = (uniforms[:, i] for i in range(UNIFORMS))
        scale = self.scale[0] + scaled * (self.scale[1] - self.scale[0])
        angle = np_.where(turned < self.rotated, (2 * angle - 1) * self.degrees, 0.0)
        cos, sin = np_.cos(angle * (np.pi / 180)), np_.sin(angle * (np.pi / 180))
        side = np_.where(mirrored < self.mirrored, -1.0, 1.0)

        # Pixel p of the view is the point p·side/scale + start of the picture, relative to its
        # middle and with pixels at half-integers; this point is then turned and moved back.
        starts, middles = [], []
        for corner, length, view in zip(corners, size, (self.height, self.width), strict=True):
            slack = np_.round(scale * length) - view
            corner = np_.where(slack > 0, np_.floor(corner * (slack + 1)), np_.floor(slack / 2))
            starts.append((corner + 0.5) / scale - length / 2)
            middles.append((length - 1) / 2)
        y, x = starts[0], side * starts[1]
        return {
            "rows": (side * sin / scale, cos / scale, sin * x + cos * y + middles[0]),
            "columns": (side * cos / scale, -sin / scale, cos * x - sin * y + middles[1]),
        }

    def on_arrays(
        self, images: np.ndarray, masks: np.ndarray, numbers: "_Numbers"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes the views of NumPy arrays: the same pixels within 1, without a backend.

        Args:
            images: `(batch, height, width, 3)`, RGB, 0–255.
            masks: uint8 `(batch, height, width)`.
            numbers: Where the random numbers come from.

        Returns:
            Images, float32, and masks, uint8, of the view's size.
        """
        from PIL import Image

        batch, height, width, _ = images.shape
        size = np.float32(height), np.float32(width)
        affine = self._affine(np, numbers.of_view(), size)
        x, y = np.arange(self.width, dtype="float32"), np.arange(self.height, dtype="float32")
        views = np.empty((batch, self.height, self.width, 3), np.float32)
        new_masks = np.empty(views.shape[:3], np.uint8)
        # A rim of one pixel is what all that lies outside looks like.
        image = np.empty((height + 2, width + 2, 3), images.dtype)
        image[:] = np.rint(MEAN_COLOR)
        mask = np.full(image.shape[:2], VOID, np.uint8)
        for i in range(batch):
            image[1:-1, 1:-1] = images[i]
            mask[1:-1, 1:-1] = masks[i]
            rows, columns = ([part[i] for part in affine[axis]] for axis in ("rows", "columns"))
            row, column = (
                np.clip(a * x + b * y[:, None] + (c + 1.5), 0, length + 1).astype(np.int32)
                for (a, b, c), length in zip((rows, columns), (height, width), strict=True)
            )
            places = row * (width + 2) + column
            new_masks[i] = mask.ravel().take(places)
            if rows[0] == 0 and rows[1] == abs(columns[0]) == 1:  # No pixel lies between two.
                views[i] = image.reshape(-1, 3).take(places, axis=0)
                continue
            # Pillow's pixels have their middles at half-integers.
            data = [(a, b, c + 1.5 - (a + b) / 2) for a, b, c in (columns, rows)]
            whole = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 255))
            view = Image.fromarray(whole.astype(np.uint8, copy=False)).transform(
                (self.width, self.height),
                Image.Transform.AFFINE,
                [float(value) for line in data for value in line],
                Image.Resampling.BILINEAR,
                fillcolor=tuple(int(value) for value in MEAN_COLOR),
            )
            np.add(np.asarray(view), np.float32(0.5), out=views[i])  # Pillow rounds down.
        return views, new_masks

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        if not training:
            return self.backend.cast(images, self.compute_dtype)
        view = functools.partial(
            self._view, outside=MEAN_COLOR, dtype=self.compute_dtype, interpolation="bilinear"
        )
        return _compiled(view, self.backend)(images, transformation)

    # Keras' own interpolates masks as it does images, up to 3.13.
    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        if not training:
            return segmentation_masks
        view = functools.partial(
            self._view, outside=[VOID], dtype="float32", interpolation="nearest"
        )
        masks = _compiled(view, self.backend)(segmentation_masks, transformation)
        return self.backend.cast(masks, keras.backend.standardize_dtype(segmentation_masks.dtype))

    def _view(
        self, images: Any, transformation: Any, outside: Any, dtype: str, interpolation: str
    ) -> Any:
        # Keras' affine map computes as many pixels as come in, of which a view may be a few.
        np_, cast = self.backend.numpy, self.backend.cast
        batch, height, width, channels = self.backend.shape(images)
        x = np_.arange(self.width, dtype="float32")
        y = np_.arange(self.height, dtype="float32")[:, None]

        def neighbors(axis: str, length: Any) -> list[tuple[Any, Any]]:
            """Returns the numbers of the rows or columns next to each place, and their shares."""
            along_x, along_y, start = (part[:, None, None] for part in transformation[axis])
            place = along_x * x + along_y * y + start
            low = np_.floor(place + (0.5 if interpolation == "nearest" else 0.0))
            parts = [(low, 1.0 + low - place), (low + 1.0, place - low)]
            if interpolation == "nearest":
                parts = [(low, np_.ones_like(place))]
            last = cast(length, "float32") - 1.0
            return [
                (cast(np_.clip(n, 0.0, last), "int32"), np_.where((n < 0) | (n > last), 0.0, share))
                for n, share in parts
            ]

        # What is shared with the outside counts as 0: so let 0 be what is there.
        outside = self.backend.convert_to_tensor(outside, dtype=dtype)
        pixels = cast(np_.reshape(images, (batch * height * width, channels)), dtype) - outside
        first = (np_.arange(batch, dtype="int32") * (height * width))[:, None, None]
        columns, view = neighbors("columns", width), outside
        for row, of_row in neighbors("rows", height):
            for column, of_column in columns:
                share = cast(of_row * of_column, dtype)[..., None]
                view = view + share * np_.take(pixels, first + row * width + column, axis=0)
        return view

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in ("name", "seed")}
        config["dtype"] = super().get_config()["dtype"]
        names = ("height", "width", "scale", "degrees", "rotated", "mirrored")
        return {**config, **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_psp")
class RandomBlur(keras.layers.RandomGaussianBlur):
    """Keras' random Gaussian blur, without its dark rim and several times as fast on a CPU.

    The picture is mirrored at its border as in OpenCV, and the kernel applied along one axis after
    the other. Arguments as in `keras.layers.RandomGaussianBlur`.
    """

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        images = self.backend.cast(images, self.compute_dtype)
        if not training or transformation is None:
            return images
        return _compiled(self._blur, self.backend)(images, transformation)

    def on_arrays(
        self, images: np.ndarray, masks: np.ndarray, numbers: "_Numbers"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Blurs NumPy arrays; as `RandomView.on_arrays`, but float32 from float32."""
        drawn = self.get_random_transformation(images, seed=numbers)
        blurred = keras.ops.convert_to_numpy(drawn["should_apply_blur"])
        images = images.astype(np.float32)
        for axis, size in enumerate(self.kernel_size):
            sigma = float(drawn["blur_factor"][axis])
            kernel = np.exp(-0.5 * (np.arange(size // 2 + 1) / sigma) ** 2).astype(np.float32)
            kernel /= 2 * kernel.sum() - 1
            rim = [(size // 2, size // 2) if a == axis else (0, 0) for a in range(3)]
            for i in np.flatnonzero(blurred):
                padded = np.moveaxis(np.pad(images[i], rim, mode="reflect"), axis, 0)
                length = images.shape[axis + 1]
                view = np.moveaxis(images[i], axis, 0)
                view *= kernel[0]
                for shift in range(1, size // 2 + 1):
                    before, after = (
                        padded[start : start + length]
                        for start in (size // 2 - shift, size // 2 + shift)
                    )
                    view += kernel[shift] * (before + after)
        return images, masks

    def _blur(self, images: Any, transformation: Any) -> Any:
        np_ = self.backend.numpy
        batch, *shape, channels = self.backend.shape(images)
        blurred = transformation["should_apply_blur"][:, None]
        # With the channels in a row, a shift of the picture is one of memory.
        for axis, (size, step) in enumerate(zip(self.kernel_size, (1, channels), strict=True)):
            sigma = transformation["blur_factor"][axis]
            reach = size // 2
            offsets = np_.arange(-reach, reach + 1, dtype=self.compute_dtype)
            kernel = np_.exp(-0.5 * (offsets / sigma) ** 2)
            untouched = self.backend.cast(offsets == 0, self.compute_dtype)
            kernel = np_.where(blurred, kernel / np_.sum(kernel), untouched)[..., None, None]
            rim = [(reach, reach) if a == axis else (0, 0) for a in (-1, 0, 1, 2)]
            padded = np_.pad(images, rim, mode="reflect")
            _, rows, columns, _ = self.backend.shape(padded)
            padded = np_.reshape(padded, (batch, rows, columns * channels))
            lengths = shape[0], shape[1] * channels
            images = 0.0
            for i in range(size):
                cut = [slice(None)] * 3
                cut[axis + 1] = slice(i * step, i * step + lengths[axis])
                images = images + kernel[:, i] * padded[tuple(cut)]
            images = np_.reshape(images, (batch, *shape, channels))
        return images


def _compiled(function: Callable, backend: Any) -> Callable:
    """Lets XLA compute a function that is part of a TensorFlow graph, pass by pass over the pixels.

    TensorFlow's own operations pass over them twenty times. Random numbers are not drawn in such
    functions: XLA's are others.
    """
    if backend.name != "tensorflow":
        return function
    import tensorflow as tf

    if tf.executing_eagerly() or not tf.test.is_built_with_xla():
        return function
    return tf.function(function, autograph=False, jit_compile=True)


# name -> the layers, given the height and the width that shall come out.
PRESETS: dict[str, Callable[[int, int], list[keras.layers.Layer]]] = {
    "authors": lambda height, width: [_view(height, width), _blur()],
    "course": lambda height, width: [_blur(), _view(height, width)],
    "flip": lambda height, width: [RandomView(height, width)],
    "scratch": lambda height, width: [RandomView(height, width, scale=(0.6, 1.5)), _jitter()],
}


def _view(height: int, width: int) -> keras.layers.Layer:
    return RandomView(height, width, scale=(0.5, 2.0), degrees=10.0, rotated=0.5)


def _blur() -> keras.layers.Layer:
    # OpenCV, which the authors use, takes 1.1 for a 5x5 kernel; Keras allows no fixed one above 1.
    return RandomBlur(factor=(0.5, 0.5), kernel_size=5, sigma=(1.0, 1.2))


def _jitter() -> keras.layers.Layer:
    return keras.layers.RandomColorJitter(
        brightness_factor=0.15, contrast_factor=0.3, saturation_factor=(0.35, 0.65)
    )


def get(
    augment: Any,
    output_size: tuple[int, int] = (240, 320),
    seed: int = 0,
    *,
    crop: bool = False,
    num_classes: int = len(CAMVID),
    input_size: tuple[int, int] = (360, 480),
) -> "Augmentation":
    """Returns the augmentation that `augment` names or consists of.

    Args:
        augment: A preset's name, a mask-aware layer of Keras or KerasCV, a list of such layers, or
            `None`. (Before Keras 3.14, Keras' own layers that turn, shift or zoom interpolate masks
            and are refused; the presets work.) The presets:

            | name | what it does |
            | --- | --- |
            | `"authors"` | as PSPNet's authors: `"course"`, but blurred last |
            | `"course"` | 5x5 blur (p 0.5), rotation up to 10° (p 0.5), scale 0.5-2, flip, crop |
            | `"flip"` | flip, and random crop where `output_size` is below the images' size |
            | `"scratch"` | without ImageNet weights: scale 0.6-1.5, flip, crop, color jitter |

        output_size: `(height, width)` in pixels that the presets return.
        seed: Same seed, same random numbers.
        crop: Whether layers of your own are made to return `output_size` too: what they return is
            cut at a random place, or comes to lie in the middle where it is smaller.
        num_classes: Number of classes, which the layers must not mix.
        input_size: `(height, width)` in pixels of the images that come in, at which the layers are
            tried out. (`keras.layers.RandomCrop` mixes labels where they are too small for it.)

    Returns:
        An `Augmentation`: call it with a batch, or map a dataset with it.

    Raises:
        ValueError: If there is no such preset, or if a layer does not change masks along with
            the images.

    Example:

    ```python
    import numpy as np
    from keras_psp.data import augmentation

    augment = augmentation.get("authors", output_size=(64, 96), seed=1)
    images = np.random.uniform(0, 255, (2, 80, 120, 3)).astype("float32")
    masks = np.random.randint(0, 11, (2, 80, 120, 1))
    batch = augment({"images": images, "segmentation_masks": masks})
    assert batch["images"].shape == (2, 64, 96, 3)
    assert batch["segmentation_masks"].shape == (2, 64, 96, 1)
    ```
    """
    if augment is None:
        layers = []
    elif isinstance(augment, str):
        preset = PRESETS[check_name("augmentation preset", augment, PRESETS)]
        policy = keras.config.dtype_policy()
        # Half precision is for networks; of colors it would lose the last bits.
        keras.config.set_dtype_policy("float32")
        try:
            layers = preset(*output_size)
        finally:
            keras.config.set_dtype_policy(policy)
    else:
        layers = list(augment) if isinstance(augment, Sequence) else [augment]
    return Augmentation(layers, seed, output_size if crop else None, num_classes, input_size)


class Augmentation:
    """Mask-aware layers, one after the other, with exact labels and reproducible random numbers.

    A class travels through a layer as `1 + class + fill_value`, and void as `fill_value`, which is
    what the layer gives to all that it moves in from outside the picture (0 where it has no such
    argument): so whatever comes in is void, and is never mistaken for a class. Where `fill_value`
    is 255, labels travel as they are. KerasCV's layers are
    given one of their `segmentation_classes` more than they have, for void.

    Args:
        layers: Keras' or KerasCV's layers that take and return `{"images", "segmentation_masks"}`.
        seed: Same seed, same random numbers. It stands in for the seeds of Keras' layers; KerasCV's
            layers draw from their own.
        output_size: `(height, width)` in pixels that comes out: where the layers return another
            size, a random crop follows them. `None`: what the layers return.
        num_classes: Number of classes, which the layers must not mix.
        input_size: `(height, width)` in pixels at which the layers are tried out.

    Raises:
        ValueError: If a layer does not change masks along with images.
    """

    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        seed: int = 0,
        output_size: tuple[int, int] | None = None,
        num_classes: int = len(CAMVID),
        input_size: tuple[int, int] = (360, 480),
    ):
        self.layers = list(layers)
        self.seed = seed
        self.output_size = output_size
        self._calls = itertools.count()
        # Layers of Keras are not made for several threads.
        self._lock = threading.Lock()
        for layer in self.layers:
            if flaw := _flaw(layer, num_classes, input_size):
                raise ValueError(
                    "An augmentation layer must change `segmentation_masks` along with `images` "
                    f"and must not mix labels. Received: augment={layer!r}, but {flaw}. Use a "
                    "layer that handles masks, such as keras.layers.RandomFlip, or a preset: "
                    f"{', '.join(PRESETS)}."
                )
        crop = [RandomView(*output_size, mirrored=0.0, dtype="float32")] if output_size else []
        self._steps = [*self.layers, *crop]
        self.num_views = sum(
            isinstance(part, RandomView) for layer in self._steps for part in _parts(layer)
        )

    def __call__(self, batch: dict[str, Any], seed: Any = None) -> dict[str, Any]:
        """Augments one batch.

        Args:
            batch: `{"images": ..., "segmentation_masks": ...}`: images (batch, height, width, 3),
                0-255, and integers (batch, height, width) or (batch, height, width, 1).
            seed: The call's own number, an integer or, in a graph of TensorFlow, a scalar tensor.
                By default the calls are counted; inside a graph, where nothing counts, it must be
                given.

        Returns:
            A dictionary of the same keys: float32 images, 0-255; masks of the given rank and type.
            Tensors on the TensorFlow backend, NumPy arrays on the others.

        Raises:
            ValueError: If called without a `seed` while a graph is built.
        """
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if seed is None:
            if on_tensorflow and not _is_eager():
                raise ValueError(
                    "In a graph every call of an augmentation needs its own seed. "
                    "Received: seed=None. Write `augment.map(dataset)` instead of "
                    "`dataset.map(augment)`, or pass a seed."
                )
            seed = next(self._calls)
        ops = keras.ops
        convert = ops.convert_to_tensor if on_tensorflow else ops.convert_to_numpy
        images, masks = map(convert, (batch["images"], batch["segmentation_masks"]))
        labels = masks[..., 0] if len(masks.shape) == 4 else masks
        if on_tensorflow:
            images, labels = self.on_tensors(images, labels, seed)
            labels = ops.cast(labels, masks.dtype)
        else:
            images, labels = self.on_arrays(images, labels, (seed,))
            labels = labels.astype(masks.dtype)
        labels = labels[..., None] if len(masks.shape) == 4 else labels
        return {"images": images, "segmentation_masks": labels}

    def on_tensors(self, images: Any, labels: Any, seed: Any, uniforms: Any = None) -> Any:
        """Augments a batch of tensors, on TensorFlow.

        Args:
            images: `(batch, height, width, 3)`, 0–255.
            labels: Integers `(batch, height, width)`.
            seed: The batch's own number.
            uniforms: Numbers 0–1, float32 `(batch, num_views, UNIFORMS)`: what the `RandomView` in
                it are made of. By default they are drawn for the batch.

        Returns:
            The images, float32, and the labels.
        """
        return self._graph(images, labels, seed, uniforms)

    @functools.cached_property
    def _graph(self) -> Any:
        import tensorflow as tf

        def run(images: Any, labels: Any, seed: Any, uniforms: Any) -> Any:
            key = tf.random.experimental.stateless_fold_in([self.seed, 0], tf.cast(seed, tf.int64))
            given = [] if uniforms is None else tf.unstack(uniforms, axis=1)

            def apply(place: int, layer: keras.layers.Layer, images: Any, masks: Any) -> Any:
                own = tf.random.experimental.stateless_fold_in(key, place)
                return _apply(layer, images, masks, _GraphNumbers(own, given))

            images, masks = self._run(images, labels[..., None], apply)
            return tf.clip_by_value(tf.cast(images, tf.float32), 0.0, 255.0), masks[..., 0]

        return tf.function(run, autograph=False, reduce_retracing=True)

    def on_arrays(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seed: tuple[int, ...],
        uniforms: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augments a batch of NumPy arrays, with whatever backend there is; as `on_tensors`.

        What `RandomView` and `RandomBlur` do is done in NumPy and Pillow, by as many threads as
        call this; other layers compute with Keras' backend on the processor, in turns.
        """
        entropy = [self.seed % 2**64, *seed]
        if uniforms is None:
            shape = len(images), self.num_views, UNIFORMS
            uniforms = np.random.default_rng(entropy).random(shape, np.float32)
        given = list(np.swapaxes(uniforms, 0, 1))

        def apply(place: int, layer: keras.layers.Layer, images: Any, masks: Any) -> Any:
            state = np.random.SeedSequence([*entropy, place]).generate_state(1)
            numbers = _Numbers(int(state[0] >> 1), given)  # PyTorch has no more bits.
            if type(layer) in (RandomView, RandomBlur):
                return layer.on_arrays(images, masks, numbers)
            with self._lock:
                result = _apply(layer, images, masks[..., None], numbers)
            images, masks = map(keras.ops.convert_to_numpy, result)
            return images, masks[..., 0].astype(np.uint8)

        with _on_the_processor():
            images, labels = self._run(images, labels.astype(np.uint8), apply)
        return np.clip(images, 0, 255, dtype=np.float32), labels

    def _run(self, images: Any, labels: Any, apply: Callable) -> Any:
        for place, layer in enumerate(self._steps):
            is_crop = place == len(self.layers)
            if not is_crop or tuple(images.shape[1:3]) != self.output_size:
                images, labels = apply(place, layer, images, labels)
        return images, labels

    def map(self, dataset: Any) -> Any:
        """Augments a `tf.data.Dataset` of batches `(images, labels)`, several batches at a time.

        What the layers draw depends on the seed alone (not on TensorFlow's global one); each pass
        over the dataset brings other numbers.

        Args:
            dataset: Batches of images (batch, height, width, 3), 0-255, and of integer labels
                (batch, height, width).

        Returns:
            The dataset of the augmented batches, of the same length.
        """
        import tensorflow as tf

        def seeds_of(epoch: Any) -> Any:
            return tf.data.Dataset.counter().map(lambda place: 2**32 * epoch + place)

        seeds = Epochs().numbers().flat_map(seeds_of)
        seeds = seeds.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return tf.data.Dataset.zip(dataset, seeds).map(
            lambda batch, seed: self.on_tensors(batch[0], batch[1], seed),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )


class _Numbers(keras.random.SeedGenerator):
    """Stands in for a layer's seed generator: the random numbers of one batch alone.

    Keras' own generators are variables that the calls of parallel threads race for.
    """

    def __init__(self, seed: int, given: list[Any]):
        super().__init__(seed)
        self.given = given

    def of_view(self) -> Any:
        """Returns the numbers of the next `RandomView` `(batch, UNIFORMS)`, if they are given."""
        return self.given.pop(0) if self.given else None


class _GraphNumbers(_Numbers):
    """The same in a graph of TensorFlow, where the batch's number is a tensor."""

    def __init__(self, key: Any, given: list[Any]):
        self.key = key
        self.given = given
        self.count = itertools.count()

    def next(self, ordered: bool = True) -> Any:
        import tensorflow as tf

        return tf.random.experimental.stateless_fold_in(self.key, next(self.count))


@contextlib.contextmanager
def _on_the_processor() -> Iterator[None]:
    """Not on the accelerator, whose time is for the network, nor on other processes' devices."""
    processor: Any = "cpu:0"
    if keras.config.backend() == "jax":
        import jax

        # For JAX, cpu:0 is the first process' processor.
        processor = jax.local_devices(backend="cpu")[0]
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)  # Of this thread.
    try:
        with keras.device(processor):
            yield
    finally:
        keras.distribution.set_distribution(distribution)


def _is_eager() -> bool:
    import tensorflow as tf

    return tf.executing_eagerly()


def _parts(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a layer and those in it."""
    return layer._flatten_layers()


def _fills(layer: keras.layers.Layer) -> set[float]:
    """Returns what a layer, or the layers in it, give to masks where nothing of the picture is."""
    return {
        # KerasCV's layers make masks one-hot and fill all their channels alike: argmax says 0.
        0.0 if hasattr(part, "segmentation_classes") else float(part.fill_value)
        for part in _parts(layer)
        # RandomErasing fills images alone.
        if hasattr(part, "fill_value") and not isinstance(part, keras.layers.RandomErasing)
    } or {0.0}


def _counting(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers in it that must know the number of classes: KerasCV's."""
    return [part for part in _parts(layer) if getattr(part, "segmentation_classes", None)]


def _apply(
    layer: keras.layers.Layer, images: Any, masks: Any, numbers: _Numbers
) -> tuple[Any, Any]:
    """Applies one layer to images and masks."""
    ops = keras.ops
    images, masks = ops.cast(images, "float32"), ops.cast(masks, "float32")
    (fill,) = _fills(layer)
    # A layer that fills with void itself can have the labels as they are.
    codes = masks if fill == VOID else ops.where(masks == VOID, fill, masks + (1 + fill))
    drawing = [part for part in _parts(layer) if hasattr(part, "_get_seed_generator")]
    for part in drawing:
        part.__dict__["_get_seed_generator"] = lambda backend=None: numbers
    for part in _counting(layer):
        part.segmentation_classes += 1  # Void is one more.
    try:
        result = layer({"images": images, "segmentation_masks": codes}, training=True)
    finally:
        for part in drawing:
            del part.__dict__["_get_seed_generator"]
        for part in _counting(layer):
            part.segmentation_classes -= 1
    images, codes = (ops.cast(result[key], "float32") for key in ("images", "segmentation_masks"))
    if fill != VOID:
        codes = ops.where(codes == fill, float(VOID), codes - (1 + fill))
    return images, codes


def _flaw(layer: keras.layers.Layer, num_classes: int, size: tuple[int, int]) -> str:
    """Returns why a layer does not keep labels exact, or nothing."""
    # Stripes of the first class, the last and void, elsewhere in each image: what mixes neighbors
    # or images makes other labels of them.
    given = (0, num_classes - 1, VOID)
    place = np.arange(size[1]) // 3 + np.arange(4)[:, None, None]
    masks = np.array(given, np.float32)[place % 3].repeat(size[0], axis=1)[..., None]
    images = np.full((4, *size, 3), 128, np.float32)
    try:
        for part in _counting(layer):
            if part.segmentation_classes < num_classes:
                return f"it has segmentation_classes={part.segmentation_classes}, not {num_classes}"
        if any(type(part).__name__ == "RandomElasticTransform" for part in _parts(layer)):
            return "it warps images and masks differently (a fault of Keras, 3.15 at least)"
        if len(fills := _fills(layer)) > 1:
            return f"its layers have several fill_value: {', '.join(map(str, sorted(fills)))}"
        images, masks = map(keras.ops.convert_to_numpy, _tried(layer, images, masks))
    except Exception as error:
        return f"it fails on them: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    if images.shape[:3] != masks.shape[:3]:
        return f"it returns images {images.shape} with masks {masks.shape}"
    if other := set(np.unique(masks).tolist()) - set(given):
        found = ", ".join(f"{label:g}" for label in sorted(other)[:5])
        return f"it turns the labels {given} into {found}{', …' if len(other) > 5 else ''} as well"
    return ""


def _tried(layer: keras.layers.Layer, images: np.ndarray, masks: np.ndarray) -> tuple[Any, Any]:
    """Applies a layer as it will be applied: on TensorFlow in a graph."""
    if keras.backend.backend() != "tensorflow":
        with _on_the_processor():
            return _apply(layer, images, masks, _Numbers(1, []))
    import tensorflow as tf

    # Arguments, so that nothing of them is computed while the graph is made.
    run = tf.function(lambda x, y: _apply(layer, x, y, _GraphNumbers([1, 2], [])), autograph=False)
    return run(images, masks)
