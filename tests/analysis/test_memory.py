"""The memory of a training step: worked out by hand, and what PyTorch's autograd saves."""

import dataclasses

import keras
import pytest
from keras import layers

import keras_psp
from keras_psp.analysis import TrainingMemory, training_memory


def unbuilt(builder, *arguments, **options):
    # Shapes are enough: in this scope variables get no values.
    with keras.StatelessScope(initialize_variables=False):
        return builder(*arguments, **options)


def test_by_hand():
    image = keras.Input((None, None, 4))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(image)))
    model = keras.Model(image, layers.Conv2D(2, 1)(layers.MaxPooling2D(2)(x)))
    # The image, the convolution's output, and the ReLU's at full size; the pooling's at half.
    activations = 4 * 3 * (8 * 10 * (4 + 6 + 6) + 4 * 5 * 6)
    trained = (9 * 4 * 6 + 6) + 2 * 6 + (6 * 2 + 2)
    weights = 4 * (3 * trained + 2 * 6)
    assert training_memory(model, (8, 10), 3) == TrainingMemory(weights, activations)


def test_what_is_added_up():
    memory = TrainingMemory(weights=1_000_000, activations=300_000_000)
    assert memory.total == 301_000_000
    assert memory.on_cpu == 621_000_000


@pytest.mark.parametrize("variant", ["resnet18_deep", "resnet50_deep"])
def test_as_much_as_autograd_saves(variant):
    torch = pytest.importorskip("torch")
    from keras_psp.models.resnet import RESNETS
    from tests.models import torch_pspnet

    row = RESNETS[variant]
    network = torch_pspnet.PSPNet(row.blocks, row.block == "bottleneck", 11)
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    saved = {}

    def save(tensor):
        # Maps alone: no kernels, no statistics, no indices of the pooling.
        if tensor.ndim == 4 and tensor.is_floating_point() and tensor.data_ptr() not in weights:
            saved[tensor.data_ptr()] = tensor  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        x = network.stem(torch.zeros(2, 3, 49, 65))
        for stage in network.stages:
            x = stage(x)
    theirs = sum(4 * tensor.numel() for tensor in saved.values())

    model = unbuilt(keras_psp.build_backbone, variant, weights=None, output_stride=8)
    assert training_memory(model, (49, 65), 2).activations == theirs


def test_a_rim_around_an_even_map_is_a_copy():
    image = keras.Input((None, None, 4))
    model = keras.Model(image, keras_psp.layers.PaddedConv2D(6, 3, 2)(image))
    assert training_memory(model, (9, 13), 1).activations == 4 * 9 * 13 * 4
    assert training_memory(model, (8, 12), 1).activations == 4 * (8 * 12 + 10 * 14) * 4


def test_of_a_pspnet():
    options = {"num_classes": 5, "backbone_weights": None}
    model = unbuilt(keras_psp.PSPNet, "resnet18", **options)
    memory = training_memory(model, (49, 65), 2)
    doubled = training_memory(model, (49, 65), 4)
    assert doubled == dataclasses.replace(memory, activations=2 * memory.activations)

    # The auxiliary head keeps what its normalization sees, its ReLU gives, and its dropout.
    alone = unbuilt(keras_psp.PSPNet, "resnet18", auxiliary_weight=0, **options)
    difference = memory.activations - training_memory(alone, (49, 65), 2).activations
    assert difference == 4 * 3 * 2 * 7 * 9 * 64

    checkpointed = unbuilt(keras_psp.PSPNet, "resnet18", gradient_checkpointing=True, **options)
    less = training_memory(checkpointed, (49, 65), 2)
    assert less.weights == memory.weights
    assert 0.5 < less.activations / memory.activations < 0.8


def test_half_precision_halves_the_maps():
    options = {"num_classes": 5, "backbone_weights": None}
    memory = training_memory(unbuilt(keras_psp.PSPNet, "resnet18", **options), (49, 65), 2)
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = training_memory(unbuilt(keras_psp.PSPNet, "resnet18", **options), (49, 65), 2)
    assert half.weights == memory.weights
    image = 4 * 2 * 49 * 65 * 3  # is normalized in float32
    assert 2 * half.activations == memory.activations + image
