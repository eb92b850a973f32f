"""Convolutions as matrix products against PyTorch's convolution, with its gradients."""

import keras
import numpy as np
import pytest

from keras_psp.layers import PaddedConv2D, products

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's convolutions are replaced only"
)


@pytest.fixture
def everywhere(monkeypatch):
    monkeypatch.setattr(products, "on_tensorflows_cpu", lambda: True)
    monkeypatch.setattr(products, "_pays", lambda *sizes: True)


@pytest.mark.filterwarnings("ignore:CUDA initialization")  # PyTorch's, on its first gradient
@pytest.mark.parametrize("size", [(8, 8), (9, 12), (9, 13), (1, 4)])
@pytest.mark.parametrize("kernel, dilation", [(1, 1), (3, 1), (3, 2), (3, 4), (3, 5)])
@pytest.mark.usefixtures("everywhere")
def test_equals_pytorchs_convolution(rng, size, kernel, dilation):
    torch = pytest.importorskip("torch")
    import tensorflow as tf

    x, w, upstream = (
        rng.normal(size=shape).astype("float32")
        for shape in [(2, *size, 3), (kernel, kernel, 3, 5), (2, *size, 5)]
    )
    with tf.GradientTape() as tape:
        ours = [tf.constant(x), tf.constant(w)]
        tape.watch(ours)
        y = products.convolve(*ours, dilation)
    found = [y, *tape.gradient(y, ours, upstream)]

    images = torch.tensor(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
    weight = torch.tensor(w.transpose(3, 2, 0, 1).copy()).requires_grad_()
    padding = dilation * (kernel // 2)
    outputs = torch.nn.functional.conv2d(images, weight, padding=padding, dilation=dilation)
    outputs.backward(torch.tensor(upstream.transpose(0, 3, 1, 2).copy()))
    expected = [
        outputs.detach().numpy().transpose(0, 2, 3, 1),
        images.grad.numpy().transpose(0, 2, 3, 1),
        weight.grad.numpy().transpose(2, 3, 1, 0),
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.usefixtures("everywhere")
def test_frozen_backbone_costs_no_input_gradient():
    import tensorflow as tf

    def count(of_input):
        @tf.function
        def gradients(x, kernel):
            asked = [kernel, x] if of_input else [kernel]
            with tf.GradientTape() as tape:
                tape.watch(asked)
                y = products.convolve(x, kernel, 1)
            return tape.gradient(y, asked)

        specs = tf.TensorSpec((2, 8, 8, 3)), tf.TensorSpec((3, 3, 3, 5))
        graph = gradients.get_concrete_function(*specs).graph
        # What they need, also by waiting for it.
        found, ahead = set(), [one.op for one in graph.outputs]
        while ahead:
            op = ahead.pop()
            if op not in found:
                found.add(op)
                ahead += [*op.control_inputs, *(one.op for one in op.inputs)]
        return sum("MatMul" in op.type for op in found)

    # To and from each of four rows of tiles and the kernel's; to, from and times each of sixteen.
    assert count(of_input=True) - count(of_input=False) == 4 * 3 + 16 * 3


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("size", [(9, 12), (None, None)])
def test_layer_trains_like_keras_own(rng, size):
    import tensorflow as tf

    x = tf.constant(rng.normal(size=(2, 9, 12, 3)).astype("float32"))
    for side in 1, 3:
        ours, keras_own = PaddedConv2D(4, side), keras.layers.Conv2D(4, side, padding="same")
        ours.build(x.shape)
        keras_own.build(x.shape)
        keras_own.set_weights(ours.get_weights())
        gradients = []
        for layer, options in (ours, {"training": True}), (keras_own, {}):

            @tf.function(input_signature=[tf.TensorSpec((None, *size, 3))])
            def step(x, layer=layer, options=options):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_sum(tf.sin(layer(x, **options)))
                return tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

            gradients.append(step(x))
        for one, other in zip(*gradients, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    "size, channels, filters, dilation, faster",
    [
        ((31, 41), 2048, 512, 1, True),  # PSPNet's head, its auxiliary head and its last stage
        ((31, 41), 1024, 256, 1, True),
        ((31, 41), 512, 512, 4, True),
        ((31, 41), 128, 128, 1, False),  # Few channels: making the tiles costs too much,
        ((270, 360), 2048, 512, 1, False),  # as it does on a large map,
        ((9, 13), 512, 512, 4, False),  # and the kernel's numbers on a small one.
    ],
)
def test_large_convolutions_save_multiplications(size, channels, filters, dilation, faster):
    assert products._pays(size, channels, filters, dilation) == faster


@pytest.mark.usefixtures("everywhere")
def test_other_types_and_kernels_stay_convolutions():
    import tensorflow as tf

    kernel = tf.ones((3, 3, 2, 4))
    assert products.convolve(tf.ones((1, 8, 8, 2), tf.bfloat16), kernel, 1) is None
    assert products.convolve(tf.ones((1, 8, 8, 2)), tf.ones((5, 5, 2, 4)), 1) is None
