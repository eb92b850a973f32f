"""The layers of the presets: a random view of an image and its label, random blur and colors."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_psp import imagenet
from keras_psp.checked import ChecksArguments
from keras_psp.data.augmentation.drawing import draw_pixels, split_numbers
from keras_psp.data.augmentation.random_numbers import NUMBERS_PER_VIEW, BatchNumbers
from keras_psp.keras_internals import seed_generator
from keras_psp.labels import VOID


@keras.saving.register_keras_serializable("keras_psp")
class RandomView(ChecksArguments, keras.layers.RandomRotation):
    """Takes a random view of each image and its label: scaled, rotated, flipped and cropped.

    One affine map and one resampling do what four layers would: faster, and with less blur. As in
    the PSPNet authors' code, a scaled image that is larger than the crop is cut at a random place,
    and a smaller one lies in the middle. Images are resampled bilinearly (half-pixel centers, no
    antialiasing); labels take the nearest pixel. Outside the image, the view has the mean color
    (RGB 124, 116, 104), and the mask is 255, void.

    Args:
        height: Height of the view in pixels.
        width: Width of the view in pixels.
        scale: Smallest and largest scale, drawn uniformly for each image; 2 doubles its size.
        degrees: Largest angle to either side, drawn uniformly for each image that is rotated.
        rotation_probability: How often an image is rotated, 0–1.
        flip_probability: How often left and right are swapped, 0–1.
        centered_on: Numbers of classes, such as rare ones, that some views show in the middle. A
            view draws one of those that its image has, each as likely, and a pixel of it. It stays
            in the image, so near a border the pixel is not quite in the middle.
        center_probability: How often a view of an image with such a class is centered so, 0–1.
        **kwargs: `seed`, `name` and `dtype`, as in every Keras layer.

    Input shape: `(batch, any height, any width, channels)`.

    Output shape: `(batch, height, width, channels)`.

    Example:

    ```python
    import keras_psp
    from keras_psp.data.augmentation import RandomView

    image, label = keras_psp.street_scene(seed=1, image_size=(80, 120))
    view = RandomView(64, 96, scale=(0.5, 2.0))(image[None].astype("float32"), training=True)
    print(tuple(view.shape))
    ```

    ```text
    (1, 64, 96, 3)
    ```

    Reference:
        [The PSPNet authors' semseg](https://github.com/hszhao/semseg): `RandScale`, `RandRotate`,
        `RandomHorizontalFlip` and `Crop`;
        [Zhu et al., 2019](https://arxiv.org/abs/1812.01593), class uniform sampling, for
        `centered_on`: there classes are drawn over all images.
    """

    def __init__(
        self,
        height: int,
        width: int,
        scale: tuple[float, float] = (1.0, 1.0),
        degrees: float = 0.0,
        rotation_probability: float = 0.5,
        flip_probability: float = 0.5,
        centered_on: Sequence[int] = (),
        center_probability: float = 0.5,
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
        self.rotation_probability = rotation_probability
        self.flip_probability = flip_probability
        self.centered_on = tuple(centered_on)
        self.center_probability = center_probability

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        if not training:
            return None
        images = data["images"] if isinstance(data, dict) else data
        batch, *size, _ = self.backend.shape(images)
        if seed is None:
            seed = seed_generator(self)
        # An augmentation brings numbers that belong to the images.
        numbers = seed.next_view() if isinstance(seed, BatchNumbers) else None
        if numbers is None:
            numbers = self.backend.random.uniform((batch, NUMBERS_PER_VIEW), seed=seed)
        size = [self.backend.cast(n, "float32") for n in size]
        labels = None
        if self.centered_on and isinstance(data, dict):
            labels = self.backend.numpy.reshape(data["segmentation_masks"], (batch, -1))
            labels = self.backend.cast(labels, "float32")
        return self._affine(self.backend.numpy, numbers, size, labels)

    def _affine(
        self, np_: Any, numbers: Any, size: Sequence[Any], labels: Any = None
    ) -> tuple[Any, Any]:
        """Returns (a, b, c) of the rows and of the columns.

        Pixel (x, y) of the view is the one in row a·x + b·y + c of the image; likewise its column.

        Args:
            np_: NumPy, or a backend's functions of these names.
            numbers: Random numbers 0–1, float32 `(batch, NUMBERS_PER_VIEW)`.
            size: Height and width of the images, float32.
            labels: Labels `(batch, height · width)`; `None` centers no view.
        """
        scale, rotate, angle, flip, *corners = (numbers[:, i] for i in range(NUMBERS_PER_VIEW))
        scale = self.scale[0] + scale * (self.scale[1] - self.scale[0])
        angle = (2 * angle - 1) * self.degrees
        angle = np_.where(rotate < self.rotation_probability, angle, 0.0)
        cos, sin = np_.cos(angle * (np.pi / 180)), np_.sin(angle * (np.pi / 180))
        side = np_.where(flip < self.flip_probability, -1.0, 1.0)

        middles = [(length - 1) / 2 for length in size]
        centers = None
        if self.centered_on and labels is not None:
            centered, corners[0] = split_numbers(np_, corners[0], self.center_probability)
            found, places = draw_pixels(np_, labels, self.centered_on, *corners)
            centered = np_.logical_and(centered, found)
            row = np_.floor((places + 0.5) / size[1])
            row, column = row - middles[0], places - row * size[1] - middles[1]
            centers = cos * row - sin * column, side * (cos * column + sin * row)

        # Pixel p of the view is the point p·side/scale + start of the image, relative to its middle
        # and with pixels at half-integers; this point is then rotated and moved back.
        starts = []
        for axis, (length, view) in enumerate(zip(size, (self.height, self.width), strict=True)):
            slack = np_.round(scale * length) - view
            corner = np_.floor(corners[axis] * (slack + 1))
            if centers:
                around = np_.round(scale * (centers[axis] + length / 2) - view / 2)
                corner = np_.where(centered, np_.clip(around, 0.0, np_.maximum(slack, 0.0)), corner)
            corner = np_.where(slack > 0, corner, np_.floor(slack / 2))
            starts.append((corner + 0.5) / scale - length / 2)
        y, x = starts[0], side * starts[1]
        rows = side * sin / scale, cos / scale, sin * x + cos * y + middles[0]
        columns = side * cos / scale, -sin / scale, cos * x - sin * y + middles[1]
        return rows, columns

    def on_arrays(
        self, images: np.ndarray, masks: np.ndarray, numbers: BatchNumbers
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes the views of NumPy arrays without a backend: the same pixels within 1.

        Args:
            images: `(batch, height, width, 3)`, RGB, 0–255.
            masks: uint8 `(batch, height, width)`.
            numbers: The random numbers of this batch, with those of the view.

        Returns:
            Images, float32, and masks, uint8, of the view's size.
        """
        from PIL import Image

        batch, height, width, _ = images.shape
        size = np.float32(height), np.float32(width)
        labels = masks.reshape(batch, -1)
        affine = self._affine(np, numbers.next_view(), size, labels)
        x, y = np.arange(self.width, dtype="float32"), np.arange(self.height, dtype="float32")
        views = np.empty((batch, self.height, self.width, 3), np.float32)
        new_masks = np.empty(views.shape[:3], np.uint8)
        # A rim of one pixel stands for everything outside the image.
        image = np.empty((height + 2, width + 2, 3), images.dtype)
        image[:] = np.rint(imagenet.MEAN)
        mask = np.full(image.shape[:2], VOID, np.uint8)
        for i in range(batch):
            image[1:-1, 1:-1], mask[1:-1, 1:-1] = images[i], masks[i]
            rows, columns = ([part[i] for part in line] for line in affine)
            row, column = (
                np.clip(a * x + b * y[:, None] + (c + 1.5), 0, length + 1).astype(np.int32)
                for (a, b, c), length in zip((rows, columns), (height, width), strict=True)
            )
            places = row * (width + 2) + column
            new_masks[i] = mask.ravel().take(places)
            if rows[0] == 0 and rows[1] == abs(columns[0]) == 1:  # Whole pixels: no resampling.
                views[i] = image.reshape(-1, 3).take(places, axis=0)
                continue
            # Pillow's pixels have their middles at half-integers.
            data = [(a, b, c + 1.5 - (a + b) / 2) for a, b, c in (columns, rows)]
            whole = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 255))
            view = Image.fromarray(whole.astype(np.uint8, copy=False)).transform(
                (self.width, self.height),
                Image.Transform.AFFINE,
                np.ravel(data).tolist(),
                Image.Resampling.BILINEAR,
                fillcolor=tuple(int(value) for value in imagenet.MEAN),
            )
            np.add(np.asarray(view), np.float32(0.5), out=views[i])  # Pillow rounds down.
        return views, new_masks

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        images = self.backend.cast(images, self.compute_dtype)
        if not training:
            return images
        return _compiled(self._view, self.backend)(images, transformation, imagenet.MEAN, False)

    # Up to 3.13, Keras' own interpolates masks as it does images.
    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any, training: bool = True
    ) -> Any:
        if not training:
            return segmentation_masks
        masks = self.backend.cast(segmentation_masks, "float32")
        masks = _compiled(self._view, self.backend)(masks, transformation, [VOID], True)
        return self.backend.cast(masks, keras.backend.standardize_dtype(segmentation_masks.dtype))

    def _view(
        self, images: Any, transformation: Any, outside: Sequence[float], nearest: bool
    ) -> Any:
        # Keras' affine map computes as many pixels as come in; a view may be much smaller.
        np_, cast = self.backend.numpy, self.backend.cast
        batch, height, width, channels = self.backend.shape(images)
        x = np_.arange(self.width, dtype="float32")
        y = np_.arange(self.height, dtype="float32")[:, None]

        def neighbors(affine: Sequence[Any], length: Any) -> list[tuple[Any, Any]]:
            """Returns the numbers of the rows or columns next to each place, and their shares."""
            along_x, along_y, start = (part[:, None, None] for part in affine)
            place = along_x * x + along_y * y + start
            if nearest:
                place = np_.floor(place + 0.5)
            low, last = np_.floor(place), cast(length, "float32") - 1.0
            parts = [(low, 1.0 + low - place), (low + 1.0, place - low)]
            return [
                (cast(np_.clip(n, 0.0, last), "int32"), np_.where((n < 0) | (n > last), 0.0, share))
                for n, share in (parts[:1] if nearest else parts)
            ]

        # Pixels outside count as 0 below, so shift the colors until that is what is outside.
        view = self.backend.convert_to_tensor(outside, dtype=images.dtype)
        pixels = np_.reshape(images, (batch * height * width, channels)) - view
        image_start = (np_.arange(batch, dtype="int32") * (height * width))[:, None, None]
        rows, columns = map(neighbors, transformation, (height, width))
        for row, of_row in rows:
            for column, of_column in columns:
                share = cast(of_row * of_column, images.dtype)[..., None]
                places = image_start + row * width + column
                view = view + share * np_.take(pixels, places, axis=0)
        return view

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in ("name", "seed")}
        config["dtype"] = super().get_config()["dtype"]
        names = (
            *("height", "width", "scale", "degrees", "rotation_probability", "flip_probability"),
            *("centered_on", "center_probability"),
        )
        return config | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("keras_psp")
class RandomBlur(ChecksArguments, keras.layers.RandomGaussianBlur):
    """Keras' random Gaussian blur, without its dark rim, and several times as fast on a CPU.

    As in OpenCV, the image is reflected at its border. The kernel is applied along one axis after
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
        self, images: np.ndarray, masks: np.ndarray, numbers: BatchNumbers
    ) -> tuple[np.ndarray, np.ndarray]:
        """Blurs NumPy arrays; arguments and results as in `RandomView.on_arrays`."""
        drawn = self.get_random_transformation(images, seed=numbers)
        blurred = keras.ops.convert_to_numpy(drawn["should_apply_blur"])
        images = images.astype(np.float32)
        for axis, size in enumerate(self.kernel_size):
            reach, sigma = size // 2, float(drawn["blur_factor"][axis])
            kernel = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2).astype(np.float32)
            kernel /= 2 * kernel.sum() - 1
            rim = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
            for i in np.flatnonzero(blurred):
                padded = np.pad(images[i], rim, mode="reflect")
                windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis)
                images[i] *= kernel[0]
                for n in range(1, reach + 1):
                    images[i] += kernel[n] * (windows[..., reach - n] + windows[..., reach + n])
        return images, masks

    def _blur(self, images: Any, transformation: Any) -> Any:
        np_ = self.backend.numpy
        batch, *shape, channels = self.backend.shape(images)
        blurred = transformation["should_apply_blur"][:, None]
        # With the channels in a row, shifting the image is shifting memory.
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


@keras.saving.register_keras_serializable("keras_psp")
class RandomColors(ChecksArguments, keras.layers.RandomColorJitter):
    """Changes brightness, contrast and saturation at random, in this order.

    It does what Keras' color jitter does, several times as fast on a CPU, and knows no hue.

    Args:
        brightness_factor: Largest change, as a share of 255, or (smallest, largest).
        contrast_factor: Largest change of the distances from the mean color, as a share of them.
        saturation_factor: (smallest, largest) f, 0–1, of which 0.5 changes nothing: distances from
            the brightest channel are multiplied by f/(1-f).
        **kwargs: `seed`, `name` and `dtype`, as in every Keras layer.

    Input shape: `(batch, height, width, 3)`, RGB, 0–255.

    Output shape: The input's.

    Example:

    ```python
    import keras_psp
    from keras_psp.data.augmentation import RandomColors

    image, label = keras_psp.street_scene(seed=1, image_size=(64, 96))
    colors = RandomColors(brightness_factor=0.15, contrast_factor=0.3)
    print(tuple(colors(image[None].astype("float32"), training=True).shape))
    ```

    ```text
    (1, 64, 96, 3)
    ```
    """

    def __init__(
        self,
        brightness_factor: float | Sequence[float] = 0.0,
        contrast_factor: float | Sequence[float] = 0.0,
        saturation_factor: float | Sequence[float] = (0.5, 0.5),
        **kwargs: Any,
    ):
        super().__init__(
            brightness_factor=brightness_factor,
            contrast_factor=contrast_factor,
            saturation_factor=saturation_factor,
            data_format="channels_last",
            **kwargs,
        )

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        if not training:
            return None
        images = data["images"] if isinstance(data, dict) else data
        shape = self.backend.shape(images)[0], 1, 1, 1
        seed = seed_generator(self) if seed is None else seed
        low, high = self.random_contrast.factor
        ranges = self.random_brightness.factor, (1 - low, 1 + high), self.random_saturation.factor
        delta, contrast, share = (
            self.backend.random.uniform(shape, *bounds, seed=seed) for bounds in ranges
        )
        return 255 * delta, contrast, share / (1 - share + 1e-7)

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        images = self.backend.cast(images, self.compute_dtype)
        if not training:
            return images
        factors = (self.backend.cast(factor, images.dtype) for factor in transformation)
        return _compiled(self._change, self.backend)(images, *factors)

    def on_arrays(
        self, images: np.ndarray, masks: np.ndarray, numbers: BatchNumbers
    ) -> tuple[np.ndarray, np.ndarray]:
        """Changes NumPy arrays; arguments and results as in `RandomView.on_arrays`."""
        images = images.astype(np.float32)
        drawn = self.get_random_transformation(images, seed=numbers)
        factors = (keras.ops.convert_to_numpy(factor).ravel() for factor in drawn)
        for image, delta, contrast, saturation in zip(images, *factors, strict=True):
            # Rows of all channels: NumPy is slow where the last axis is three numbers long.
            rows = image.reshape(len(image), -1)
            np.clip(np.add(rows, delta, out=rows), 0, 255, out=rows)
            mean = np.tile(image.mean(0).mean(0), image.shape[1])
            np.multiply(rows, contrast, out=rows)
            np.clip(np.add(rows, (1 - contrast) * mean, out=rows), 0, 255, out=rows)
            brightest = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])
            np.multiply(rows, saturation, out=rows)
            brightest *= 1 - saturation
            for channel in range(3):
                image[..., channel] += brightest
        return images, masks

    def _change(self, images: Any, delta: Any, contrast: Any, saturation: Any) -> Any:
        np_ = self.backend.numpy
        images = np_.clip(images + delta, 0, 255)
        mean = np_.mean(np_.mean(images, axis=1, keepdims=True), axis=2, keepdims=True)
        images = np_.clip(contrast * images + (1 - contrast) * mean, 0, 255)
        return saturation * images + (1 - saturation) * np_.max(images, axis=-1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        names = ("name", "seed", "brightness_factor", "contrast_factor", "saturation_factor")
        config = {name: getattr(self, name) for name in names}
        return config | {"dtype": super().get_config()["dtype"]}


def _compiled(function: Callable, backend: Any) -> Callable:
    """Lets XLA compile a function that is part of a TensorFlow graph.

    TensorFlow's own operations would go through all pixels twenty times. Such a function must not
    draw random numbers: XLA's are others.
    """
    if backend.name != "tensorflow":
        return function
    import tensorflow as tf

    if tf.executing_eagerly() or not tf.test.is_built_with_xla():
        return function
    return tf.function(function, autograph=False, jit_compile=True)
