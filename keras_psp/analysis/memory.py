"""The memory of a training step: weights, and what the layers keep for their gradients."""

import dataclasses
import math
from typing import Any

import keras

from keras_psp.checked import checked
from keras_psp.keras_internals import layers_in, run_graph
from keras_psp.layers import PaddedConv2D, PaddedMaxPooling2D
from keras_psp.layers.blocks import Block
from keras_psp.surgery.graph import has_graph, only_input, output_spec, walk


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """What a training step must hold, in bytes.

    Args:
        weights: The weights, and for each one that trains its momentum and its gradient.
        activations: The maps that the layers keep from the forward to the backward computation.
    """

    weights: int
    activations: int

    @property
    def total(self) -> int:
        """Both together: the least that a step takes, on any backend and device."""
        return self.weights + self.activations

    @property
    def on_cpu(self) -> int:
        """What a process grows by with TensorFlow on a CPU, about.

        Two fifths of the activations are added for the maps that gradients are computed with, and
        200 MB for TensorFlow's own: measured, see the page "Choosing crop, batch and precision".
        """
        return self.total + self.activations * 2 // 5 + 200_000_000


@checked
def training_memory(
    model: keras.Model, image_size: tuple[int, int], batch_size: int
) -> TrainingMemory:
    """Estimates the memory of a training step. Nothing is computed, so it takes a moment only.

    A convolution keeps its input, a batch normalization its input, a ReLU its output, a max pooling
    both. What two layers keep is held once. Of a block with `gradient_checkpointing` its input is
    kept, and the inside of one block at a time. Numbers have the size that the model's dtype policy
    gives them. The auxiliary head counts, too.

    The estimate is for the recipe of `fit`: SGD with momentum, and the loss of this package, which
    keeps no logits of the image's size. All layers train.

    Args:
        model: A functional Keras model of convolutions with images as its only input, such as
            every network of this package.
        image_size: `(height, width)` of the training images, in pixels.
        batch_size: Number of images.

    Returns:
        The `TrainingMemory`, in bytes.

    Raises:
        ValueError: If the model has not one input.

    Example:

    ```python
    import keras_psp
    from keras_psp import analysis

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    for batch_size in (4, 8):
        memory = analysis.training_memory(model, (240, 320), batch_size)
        weights, activations = memory.weights / 1e9, memory.activations / 1e9
        print(f"batch {batch_size}: weights {weights:.2f} GB, activations {activations:.2f} GB")
    ```

    ```text
    batch 4: weights 0.15 GB, activations 0.28 GB
    batch 8: weights 0.15 GB, activations 0.57 GB
    ```
    """
    image = only_input(model)
    notes = _Notes(model)
    walk(
        model,
        notes.visit,
        keras.KerasTensor((batch_size, *image_size, image.shape[-1]), image.dtype),
    )
    if getattr(model, "auxiliary_weight", 0):
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), notes.features
        )
        head = keras.Model(keras.tree.flatten(inputs), model.decode_auxiliary(inputs))
        run_graph(head, keras.tree.flatten(notes.features), notes.visit)
    trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    others = sum(math.prod(variable.shape) for variable in model.non_trainable_variables)
    return TrainingMemory(4 * (3 * trained + others), _bytes(notes.kept) + notes.recomputed)


class _Notes:
    """Notes the tensors that are kept, while a walker goes through a network."""

    def __init__(self, model):
        self.backbone = getattr(model, "backbone", None)
        self.features: Any = None
        self.kept: dict[Any, keras.KerasTensor] = {}
        self.recomputed = 0

    def visit(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, Block) and operation.gradient_checkpointing:
            before = {**self.kept, id(args[0]): args[0]}
            outputs = walk(operation, self.visit, *args, **kwargs)
            self.recomputed = max(self.recomputed, _bytes(self.kept) - _bytes(before))
            self.kept = before
            return outputs
        if has_graph(operation) or (
            isinstance(operation, keras.Layer) and layers_in(operation, recursive=False)
        ):
            outputs = walk(operation, self.visit, *args, **kwargs)
            if operation is self.backbone:
                self.features = outputs
            return outputs
        outputs = output_spec(operation, *args, **kwargs)
        inputs, pools = keras.tree.flatten((args, kwargs)), "MaxPool" in type(operation).__name__
        if pools or getattr(operation, "weights", None):
            self._keep(*inputs)
        if pools or type(operation).__name__.lower() == "relu":
            self._keep(outputs)
        if isinstance(operation, (PaddedConv2D, PaddedMaxPooling2D)):
            self._keep(*_padded(operation, args[0]))
        return outputs

    def _keep(self, *tensors):
        self.kept |= {id(x): x for x in tensors if isinstance(x, keras.KerasTensor)}


def _padded(layer, x):
    """The copy with a rim that a layer with strides makes of a map, where it has to."""
    window = layer.kernel_size if isinstance(layer, PaddedConv2D) else layer.pool_size
    batch, *size, channels = x.shape
    if window[0] > 1 and any(n % s != 1 % s for n, s in zip(size, layer.strides, strict=True)):
        size = [n + side // 2 * 2 for n, side in zip(size, window, strict=True)]
        yield keras.KerasTensor((batch, *size, channels), x.dtype)


def _bytes(tensors):
    return sum(math.prod(x.shape) * (2 if x.dtype.endswith("16") else 4) for x in tensors.values())
