"""An augmentation: layers that change batches of images and labels, as tensors or as arrays."""

import functools
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.checked import checked, short
from keras_psp.data.augmentation.applying import apply_layer, find_flaw, layers_of, on_the_processor
from keras_psp.data.augmentation.layers import RandomBlur, RandomColors, RandomView
from keras_psp.data.augmentation.presets import PRESETS, preset_layers
from keras_psp.data.augmentation.random_numbers import NUMBERS_PER_VIEW, BatchNumbers, GraphNumbers
from keras_psp.data.epochs import Epochs
from keras_psp.data.info import attach, info_of


@checked
class Augmentation:
    """Mask-aware layers, one after the other, with exact labels and reproducible random numbers.

    Args:
        layers: Layers of Keras or KerasCV that take and return `{"images", "segmentation_masks"}`;
            `get` tries them out.
        seed: Same seed, same random numbers. It replaces the seeds of Keras' layers; KerasCV's
            layers draw from their own.
        output_size: `(height, width)` in pixels that comes out: where the layers return another
            size, a random crop follows them. `None`: what the layers return.
    """

    def __init__(
        self,
        layers: Sequence[keras.Layer],
        seed: int = 0,
        output_size: tuple[int, int] | None = None,
    ):
        self.seed = seed
        self.output_size = output_size
        self._calls = itertools.count()
        # Layers of Keras are not made for several threads.
        self._lock = threading.Lock()
        self._layers = list(layers)
        self._crop: RandomView | None = None
        if output_size:
            self._crop = RandomView(*output_size, flip_probability=0.0, dtype="float32")
            self._layers.append(self._crop)
        self.num_views = sum(
            isinstance(part, RandomView) for layer in self._layers for part in layers_of(layer)
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
            if on_tensorflow and _in_graph():
                raise ValueError(
                    "In a graph every call of an augmentation needs its own seed. "
                    "Received: seed=None. Write `augment.map(dataset)` instead of "
                    "`dataset.map(augment)`, or pass a seed."
                )
            seed = next(self._calls)
        convert = ops.convert_to_tensor if on_tensorflow else ops.convert_to_numpy
        images, masks = map(convert, (batch["images"], batch["segmentation_masks"]))
        has_channel = len(masks.shape) == 4
        labels = masks[..., 0] if has_channel else masks
        if on_tensorflow:
            # As a tensor: a graph would be built anew for every number.
            images, labels = self.on_tensors(images, labels, ops.cast(seed, "int64"))
            labels = ops.cast(labels, masks.dtype)
        else:
            images, labels = self.on_arrays(images, labels, (seed,))
            labels = labels.astype(masks.dtype)
        return {
            "images": images,
            "segmentation_masks": labels[..., None] if has_channel else labels,
        }

    @functools.cached_property
    def on_tensors(self) -> Callable[..., tuple[Any, Any]]:
        """A function that augments a batch of tensors, on TensorFlow.

        Args:
            images: `(batch, height, width, 3)`, 0–255.
            labels: Integers `(batch, height, width)`.
            seed: The batch's own number, int64.
            view_numbers: Random numbers 0–1 for the `RandomView`s in it, float32
                `(batch, num_views, NUMBERS_PER_VIEW)`. By default they are drawn for the batch.

        Returns:
            The images and the labels, float32.
        """
        import tensorflow as tf

        fold_in = tf.random.experimental.stateless_fold_in

        def run(images: Any, labels: Any, seed: Any, view_numbers: Any = None) -> Any:
            key = fold_in([self.seed, 0], seed)
            for_views = [] if view_numbers is None else tf.unstack(view_numbers, axis=1)

            def apply(place: int, layer: keras.Layer, images: Any, masks: Any) -> Any:
                numbers = GraphNumbers(fold_in(key, place), for_views)
                return apply_layer(layer, images, masks, numbers)

            images, masks = self._run(images, labels[..., None], apply)
            return tf.clip_by_value(tf.cast(images, tf.float32), 0.0, 255.0), masks[..., 0]

        return tf.function(run, autograph=False, reduce_retracing=True)

    def on_arrays(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seed: tuple[int, ...],
        view_numbers: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augments a batch of NumPy arrays on any backend; arguments as in `on_tensors`.

        `RandomView`, `RandomBlur` and `RandomColors` work in NumPy and Pillow, in as many threads
        as call this; other layers compute with Keras' backend on the processor, one call after
        the other.
        """
        entropy = [self.seed % 2**64, *seed]
        if view_numbers is None:
            shape = len(images), self.num_views, NUMBERS_PER_VIEW
            view_numbers = np.random.default_rng(entropy).random(shape, np.float32)
        for_views = list(np.swapaxes(view_numbers, 0, 1))

        def apply(place: int, layer: keras.Layer, images: Any, masks: Any) -> Any:
            state = np.random.SeedSequence([*entropy, place]).generate_state(1)
            numbers = BatchNumbers(int(state[0] >> 1), for_views)  # PyTorch has no more bits.
            if type(layer) in (RandomView, RandomBlur, RandomColors):
                return layer.on_arrays(images, masks, numbers)
            with self._lock:
                result = apply_layer(layer, images, masks[..., None], numbers)
            images, masks = map(ops.convert_to_numpy, result)
            return images, masks[..., 0].astype(np.uint8)

        with on_the_processor():
            images, labels = self._run(images, labels.astype(np.uint8), apply)
        return np.clip(images, 0, 255, dtype=np.float32), labels

    def _run(self, images: Any, labels: Any, apply: Callable) -> Any:
        for place, layer in enumerate(self._layers):
            if layer is not self._crop or tuple(images.shape[1:3]) != self.output_size:
                images, labels = apply(place, layer, images, labels)
        return images, labels

    def map(self, dataset: Any) -> Any:
        """Augments a `tf.data.Dataset` of batches `(images, labels)`, several batches at a time.

        The random numbers depend on the seed alone (not on TensorFlow's global one), and every
        epoch has its own.

        Args:
            dataset: Batches of images (batch, height, width, 3), 0-255, and of integer labels
                (batch, height, width).

        Returns:
            The dataset of the augmented batches, of the same length and with the same info.
        """
        import tensorflow as tf

        seeds = Epochs().numbers().flat_map(lambda epoch: tf.data.Dataset.counter(2**32 * epoch))
        seeds = seeds.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        augmented = tf.data.Dataset.zip(dataset, seeds).map(
            lambda batch, seed: self.on_tensors(*batch, seed),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        info = info_of(dataset)
        return augmented if info is None else attach(augmented, info)


@checked
def get(
    augment: Any,
    output_size: tuple[int, int] = (240, 320),
    seed: int = 0,
    *,
    crop: bool = False,
    num_classes: int = 11,
    input_size: tuple[int, int] = (360, 480),
    centered_on: Sequence[int] = (),
) -> Augmentation:
    """Makes an `Augmentation` of a preset's name or of layers.

    Args:
        augment: A preset's name, a mask-aware layer of Keras or KerasCV, a list of such layers, or
            `None`. (Before Keras 3.14, Keras' own layers that rotate, shift or zoom interpolate
            masks and are refused; the presets work.) The presets:

            | name | what it does |
            | --- | --- |
            | `"authors"` | as PSPNet's authors: `"course"`, with the blur last |
            | `"course"` | 5x5 blur (p 0.5), rotation up to 10° (p 0.5), scale 0.5–2, flip, crop |
            | `"flip"` | flip, and a random crop where `output_size` is smaller than the images |
            | `"scratch"` | without ImageNet weights: scale 0.6–1.5, flip, crop, color jitter |
            | `"scratch_long"` | for 100 epochs and more: that, more jitter, rotation up to 10° |

            `"course"` is what Georgia Tech's course on computer vision uses.
        output_size: `(height, width)` in pixels that the presets return.
        seed: Same seed, same random numbers.
        crop: Whether layers of your own are made to return `output_size` too: their images are cut
            at a random place, or lie in the middle where they are smaller.
        num_classes: Number of classes, which the layers must not mix.
        input_size: `(height, width)` in pixels of the images that come in. The layers are tried out
            at this size. (`keras.layers.RandomCrop` mixes labels of images too small for it.)
        centered_on: Numbers of classes that half of a preset's views show in the middle, where an
            image has one of them: see `RandomView`.

    Returns:
        An `Augmentation`: call it with a batch, or with its `map` change a dataset.

    Raises:
        ValueError: If there is no such preset, if a layer does not change masks along with the
            images, or if `centered_on` is not for a preset.

    Example:

    ```python
    import keras_psp
    from keras_psp.data import augmentation

    image, label = keras_psp.street_scene(seed=1, image_size=(80, 120))
    augment = augmentation.get("authors", output_size=(64, 96), seed=1)
    views = augment({"images": image[None], "segmentation_masks": label[None, ..., None]})
    print(tuple(views["images"].shape), tuple(views["segmentation_masks"].shape))
    ```

    ```text
    (1, 64, 96, 3) (1, 64, 96, 1)
    ```
    """
    cropped_to = output_size if crop else None
    if isinstance(augment, str):
        preset = preset_layers(augment, *output_size)
        for layer in preset:
            if isinstance(layer, RandomView):
                layer.centered_on = tuple(centered_on)
        return Augmentation(preset, seed, cropped_to)
    if len(centered_on):
        raise ValueError(
            "The views of a preset can be centered on classes. Received: centered_on with "
            f"augment={augment!r}. Name a preset ({', '.join(PRESETS)}), or give your layers a "
            "RandomView(…, centered_on=…)."
        )
    if augment is None:
        augment = []
    layers = augment if isinstance(augment, Sequence) else [augment]
    if not all(isinstance(layer, keras.Layer) for layer in layers):
        raise ValueError(
            "An augmentation is a preset's name, a layer, a list of layers, or None. "
            f"Received: augment={short(augment)}. Name a preset ({', '.join(PRESETS)}), or pass "
            "layers such as keras.layers.RandomFlip."
        )
    for layer in layers:
        if flaw := find_flaw(layer, num_classes, input_size):
            raise ValueError(
                "An augmentation layer must change `segmentation_masks` along with `images` and "
                f"must not mix labels. Received: augment={layer!r}, but {flaw}. Use a layer that "
                "handles masks, such as keras.layers.RandomFlip, or a preset: "
                f"{', '.join(PRESETS)}."
            )
    return Augmentation(layers, seed, cropped_to)


def _in_graph() -> bool:
    import tensorflow as tf

    return not tf.executing_eagerly()
