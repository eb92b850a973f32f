"""The graph walker: it sees every call, and what the visits return is what comes out."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_psp
from keras_psp.surgery.graph import copy_operation, operations_of, walk


def numbers(outputs):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def watched(model, *args, **kwargs):
    """What a walk gives that calls every operation, and the names of these."""
    names = []

    def visit(operation, *args, **kwargs):
        names.append(operation.name)
        return operation(*args, **kwargs)

    outputs = walk(model, visit, *args, **kwargs)
    return numbers(outputs), names


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_every_call_is_visited_and_nothing_changes():
    image = keras.Input((None, None, 3))
    twice = layers.Conv2D(3, 1, name="twice")
    x = twice(twice(image)) / 2
    model = keras.Model(image, {"sum": layers.Add(name="add")([x, image]), "x": x})
    images = noise(2, 4, 5, 3)
    outputs, names = watched(model, keras.ops.convert_to_tensor(images))
    assert [name for name in names if name in ("twice", "add")] == ["twice", "twice", "add"]
    assert len(names) == 4  # and the division
    for name, expected in numbers(model(images)).items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-6)


def test_a_sequential_model_has_a_graph_too():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, name="a"), layers.ReLU(name="b")])
    x = keras.ops.convert_to_tensor(noise(2, 5))
    outputs, names = watched(model, x)
    assert names == ["a", "b"]
    np.testing.assert_allclose(outputs, numbers(model(x)), rtol=1e-6)
    assert [operation.name for operation in operations_of(model)][1:] == ["a", "b"]


@pytest.mark.parametrize(
    "layer, shapes, inside",
    [
        (keras_psp.layers.BasicBlock(4, 2), [(2, 6, 6, 3)], {"conv1", "bn1", "shortcut_conv"}),
        (layers.MultiHeadAttention(2, 3), [(2, 5, 4), (2, 7, 4)], {"query", "key", "value"}),
    ],
    ids=["block", "attention"],
)
def test_a_layer_of_layers_is_walked_into(layer, shapes, inside):
    inputs = [keras.ops.convert_to_tensor(noise(*shape)) for shape in shapes]
    expected = numbers(layer(*inputs))
    outputs, names = watched(layer, *inputs)
    assert inside <= set(names)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_a_visit_may_put_something_else_there():
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, layers.MaxPooling2D(2, name="pool")(layers.ReLU()(image)))

    def visit(operation, x):
        if operation.name == "pool":
            return layers.AveragePooling2D(2)(x)
        return copy_operation(operation)(x)

    averaged = keras.Model(image, walk(model, visit, image))
    x = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    expected = [[2.5, 4.5], [10.5, 12.5]]
    np.testing.assert_allclose(averaged.predict(x, verbose=0)[0, :, :, 0], expected)


def test_a_copy_differs_where_it_is_told_to():
    layer = layers.Conv2D(4, 3, strides=2, name="conv")
    copy = copy_operation(layer, strides=1)
    assert (copy.filters, copy.strides, copy.name) == (4, (1, 1), "conv")
    assert layer.strides == (2, 2)
