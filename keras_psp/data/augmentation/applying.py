"""Applying a mask-aware layer so that labels stay exact; and finding out whether they do."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.data.augmentation.random_numbers import BatchNumbers
from keras_psp.keras_internals import drawing_from, layers_in
from keras_psp.labels import VOID


def layers_of(layer: keras.Layer) -> list[keras.Layer]:
    """Returns a layer and those in it."""
    return [layer, *layers_in(layer)]


def apply_layer(
    layer: keras.Layer, images: Any, masks: Any, numbers: BatchNumbers
) -> tuple[Any, Any]:
    """Applies a layer to images and masks, both `(batch, height, width, channels)`.

    A class travels through the layer as `1 + class + fill_value`, and void as `fill_value`, which
    the layer gives to everything that it moves in from outside the image. A layer that fills with
    255 gets the labels as they are.

    Args:
        layer: A layer that takes and returns `{"images", "segmentation_masks"}`.
        images: RGB, 0–255.
        masks: Labels.
        numbers: Where Keras' layers draw their random numbers.

    Returns:
        The images and the masks that come out, float32.
    """
    images, masks = ops.cast(images, "float32"), ops.cast(masks, "float32")
    (fill,) = _fill_values(layer)
    codes = masks if fill == VOID else ops.where(masks == VOID, fill, masks + (1 + fill))
    for part in _layers_with_classes(layer):
        part.segmentation_classes += 1  # Void is one more.
    try:
        with drawing_from(numbers, layers_of(layer)):
            result = layer({"images": images, "segmentation_masks": codes}, training=True)
    finally:
        for part in _layers_with_classes(layer):
            part.segmentation_classes -= 1
    images, codes = (ops.cast(result[key], "float32") for key in ("images", "segmentation_masks"))
    if fill != VOID:
        codes = ops.where(codes == fill, float(VOID), codes - (1 + fill))
    return images, codes


@contextlib.contextmanager
def on_the_processor() -> Iterator[None]:
    """Computes neither on the accelerator, which is for the network, nor on other processes'."""
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


def find_flaw(layer: keras.Layer, num_classes: int, size: tuple[int, int]) -> str:
    """Tries a layer out, and returns why it does not keep labels exact; nothing where it does.

    Args:
        layer: The layer.
        num_classes: Number of classes.
        size: `(height, width)` of the images that it is tried on.
    """
    # Stripes of the first class, the last and void, elsewhere in each image: a layer that mixes
    # neighbors or images makes other labels of them.
    given = (0, num_classes - 1, VOID)
    place = np.arange(size[1]) // 3 + np.arange(4)[:, None, None]
    masks = np.array(given, np.float32)[place % 3].repeat(size[0], axis=1)[..., None]
    images = np.full((4, *size, 3), 128, np.float32)
    try:
        for part in _layers_with_classes(layer):
            if part.segmentation_classes < num_classes:
                return f"it has segmentation_classes={part.segmentation_classes}, not {num_classes}"
        if any(type(part).__name__ == "RandomElasticTransform" for part in layers_of(layer)):
            return "it warps images and masks differently (a fault of Keras, 3.15 at least)"
        if len(fills := _fill_values(layer)) > 1:
            return f"its layers have several fill_value: {', '.join(map(str, sorted(fills)))}"
        with on_the_processor():
            run: Any = functools.partial(apply_layer, layer, numbers=BatchNumbers(1, []))
            if keras.backend.backend() == "tensorflow":  # In a graph, as training will.
                import tensorflow as tf

                run = tf.function(run, autograph=False)
            images, masks = map(ops.convert_to_numpy, run(images, masks))
    except Exception as error:
        return f"it fails on them: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    if images.shape[:3] != masks.shape[:3]:
        return f"it returns images {images.shape} with masks {masks.shape}"
    if other := set(np.unique(masks).tolist()) - set(given):
        found = ", ".join(f"{label:g}" for label in sorted(other)[:5])
        return f"it turns the labels {given} into {found}{', …' if len(other) > 5 else ''} as well"
    return ""


def _fill_values(layer: keras.Layer) -> set[float]:
    """What a layer, or the layers in it, give to masks outside the image."""
    return {
        # KerasCV's layers make masks one-hot and fill all their channels alike: argmax says 0.
        0.0 if hasattr(part, "segmentation_classes") else float(part.fill_value)
        for part in layers_of(layer)
        # RandomErasing fills images alone.
        if hasattr(part, "fill_value") and not isinstance(part, keras.layers.RandomErasing)
    } or {0.0}


def _layers_with_classes(layer: keras.Layer) -> list[keras.Layer]:
    """The layers in it that must know the number of classes: KerasCV's."""
    return [part for part in layers_of(layer) if getattr(part, "segmentation_classes", None)]
