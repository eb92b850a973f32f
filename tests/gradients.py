"""The gradient of a function, on every backend."""

import keras


def value_and_gradient(function, x):
    """The value of a function that returns a number, and its gradient in the array `x`."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        gradient = tape.gradient(value, x)
    elif backend == "jax":
        import jax

        # As a whole, which compiles sooner than its operations one by one.
        value, gradient = jax.jit(jax.value_and_grad(function))(x)
    else:
        x = keras.ops.convert_to_tensor(x).requires_grad_()
        value = function(x)
        value.backward()
        gradient = x.grad
    return float(keras.ops.convert_to_numpy(value)), keras.ops.convert_to_numpy(gradient)
