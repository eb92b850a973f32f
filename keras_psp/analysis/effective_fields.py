"""How much of what a cell of a network could see really matters to it, by gradients."""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_psp.analysis.receptive_fields import ReceptiveField, receptive_field
from keras_psp.arrays import to_numpy
from keras_psp.checked import checked
from keras_psp.keras_internals import gradient_of
from keras_psp.surgery.graph import walk


@dataclasses.dataclass(frozen=True)
class EffectiveReceptiveField:
    """What the cell in the middle of a layer's output really looks at.

    Args:
        field: What it could see: its theoretical receptive field.
        gradient: How much each pixel moves the cell, `(height, width)`; the largest number is 1.
    """

    field: ReceptiveField
    gradient: np.ndarray

    @property
    def side(self) -> float:
        """Side in pixels of a square with as many pixels as move the cell by more than 4.55 % of
        what the strongest does: in a Gaussian bell, those within two standard deviations."""
        return float(np.sqrt((self.gradient > 1 - 0.9545).sum()))


@checked
def effective_receptive_field(
    model: keras.Model,
    layer: str | keras.Layer | None = None,
    *,
    images: Any = None,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> EffectiveReceptiveField:
    """Measures how much each pixel matters to the cell in the middle of a layer's output.

    It is the gradient of this cell, summed over its channels, with respect to the pixels: its
    absolute value, summed over the image's channels and averaged over images. It falls off from the
    middle like a bell, so that most of the theoretical field hardly matters.

    Args:
        model: A functional Keras model with images as its only input.
        layer: As `receptive_field` takes it.
        images: Images `(number, height, width, channels)` as the model takes them. If `None`, eight
            of uniform noise, 0–255.
        image_size: `(height, width)` of the noise; as in `receptive_field`.
        seed: Of the noise.

    Returns:
        An `EffectiveReceptiveField`.

    Raises:
        ValueError: As `receptive_field`.

    Reference:
        [Luo et al., 2016](https://arxiv.org/abs/1701.04128), section 3.

    Example:

    ```python
    import numpy as np
    from keras_psp import analysis
    import keras

    blur = keras.layers.Conv2D(1, 3, padding="same", kernel_initializer="ones")
    model = keras.Sequential([keras.Input((9, 9, 1)), blur, keras.layers.AveragePooling2D(3)])
    effective = analysis.effective_receptive_field(model, images=np.ones((1, 9, 9, 1)))
    print(effective.field.size, f"side {effective.side:.1f}")
    print((effective.gradient[4] * 9).round())
    ```

    ```text
    (5, 5) side 5.0
    [0. 0. 3. 6. 9. 6. 3. 0. 0.]
    ```
    """
    if images is not None:
        images = to_numpy(images, "images", [4])
        image_size = tuple(np.shape(images[0])[:2])
    field = receptive_field(model, layer, image_size=image_size)
    (given,) = model.inputs
    if images is None:
        shape = (8, *field.image_size, given.shape[-1])
        images = np.random.default_rng(seed).uniform(0, 255, shape)
    dtype = given.dtype if given.dtype.startswith(("float", "bfloat")) else "float32"
    total = np.zeros(field.image_size)
    for image in images:
        image = ops.convert_to_tensor(image, dtype)[None]
        gradient = gradient_of(lambda x: _middle(model, field, x), image)
        total += np.abs(ops.convert_to_numpy(gradient)).astype("float64").sum((0, -1))
    return EffectiveReceptiveField(field, total / (total.max() or 1.0))


def _middle(model: keras.Model, field: ReceptiveField, image: Any) -> Any:
    """The sum over the channels of the cell in the middle of the field's layer."""
    found: list[Any] = []

    def visit(prefix, operation, *args, **kwargs):
        name = prefix + operation.name
        if field.name.startswith(f"{name}/"):
            return walk(operation, functools.partial(visit, f"{name}/"), *args, **kwargs)
        outputs = operation(*args, **kwargs)
        if name == field.name:
            found.extend(keras.tree.flatten(outputs))
        return outputs

    walk(model, functools.partial(visit, ""), image)
    # A layer used twice is meant as it is used last; of several outputs, that of the field.
    output = next(x for x in reversed(found) if tuple(x.shape[1:]) == field.output_shape)
    if len(output.shape) == 4:
        output = output[:, output.shape[1] // 2, output.shape[2] // 2]
    return ops.sum(output)
