"""Batch normalization with the papers' constants, over all replicas."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_psp.checked import ChecksArguments

# 1 or 0: whether the images of this replica count in the statistics. By default they do.
_COUNTED: contextvars.ContextVar = contextvars.ContextVar("counted", default=1)


@keras.saving.register_keras_serializable("keras_psp")
class BatchNormalization(ChecksArguments, keras.layers.BatchNormalization):
    """Batch normalization as the ResNet and PSPNet papers use it.

    It takes the arguments of `keras.layers.BatchNormalization`, and three defaults differ: momentum
    is 0.9 instead of 0.99, epsilon 1e-5 instead of 1e-3, and the statistics are synchronized
    ("SyncBN"). Under `tf.distribute.MirroredStrategy` they are those of the global batch, because
    segmentation batches are too small to be split. (Under JAX's data parallelism they always are.)

    Args:
        axis: The axis of the channels.
        momentum: Momentum of the moving statistics, in Keras' sense (PyTorch's is 1 minus this).
        epsilon: Added to the variance.
        center: Whether to add `beta`.
        scale: Whether to multiply by `gamma`.
        synchronized: Whether replicas of TensorFlow share their statistics; other backends do not
            ask.
        **kwargs: The other arguments of `keras.layers.BatchNormalization`, except batch
            renormalization.

    Input shape:
        `(batch, ..., channels)`

    Output shape:
        The input's.

    Raises:
        ValueError: If `renorm` is true.

    Reference:
        [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167), algorithm 1;
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5.1.

    Example:

    ```python
    import numpy as np
    import keras_psp

    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 8, 8, 5)).astype("float32")
    y = np.array(keras_psp.layers.BatchNormalization()(x, training=True))
    for name, values in (("before", x), ("after", y)):
        print(f"{name}: mean {abs(values.mean()):.1f}, deviation {values.std():.1f}")
    ```

    ```text
    before: mean 2.9, deviation 2.0
    after: mean 0.0, deviation 1.0
    ```
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        *,
        synchronized: bool = True,
        **kwargs,
    ):
        if kwargs.get("renorm"):
            raise ValueError(
                "This layer knows no batch renormalization. Received: renorm=True. "
                "Use keras.layers.BatchNormalization."
            )
        super().__init__(axis, momentum, epsilon, center, scale, **kwargs)
        self.synchronized = synchronized

    def call(self, inputs, training=None, mask=None):
        if training and self.trainable and mask is None:
            outputs, mean, variance = self.normalized(inputs)
            self.update_statistics(mean, variance)
            return outputs
        if self._is_one_operation(inputs) and mask is None:
            return self._fused(inputs, self.moving_mean, self.moving_variance)[0]
        return super().call(inputs, training=training, mask=mask)

    def normalized(self, inputs):
        """Returns the outputs in training, and the mean and variance for `update_statistics`."""
        alone = not self.synchronized or replicas() == 1
        if alone and self._is_one_operation(inputs):
            outputs, mean, variance, *_ = self._fused(inputs)
            # The operation returns the unbiased variance; Keras keeps the biased one.
            count = ops.cast(_places(inputs), "float32")
            return outputs, mean, variance * (count - 1.0) / count
        # The sums would overflow in half precision.
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        mean, variance = ops.moments(x, axes) if alone else _moments_of_replicas(x, axes)
        gamma, beta = (
            ops.cast(variable, x.dtype) if given else None
            for variable, given in ((self.gamma, self.scale), (self.beta, self.center))
        )
        x = ops.batch_normalization(x, mean, variance, self.axis, beta, gamma, self.epsilon)
        return ops.cast(x, self.compute_dtype), mean, variance

    def update_statistics(self, mean, variance):
        """Moves the moving statistics toward those of a batch."""
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            now = ops.cast(now, moving.dtype)
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))

    def _is_one_operation(self, inputs):
        backend = keras.backend.backend()
        if self.axis not in (-1, 3) or len(inputs.shape) != 4 or not (self.scale and self.center):
            return False
        if keras.backend.standardize_dtype(inputs.dtype) == "float64":
            return False
        # PyTorch refuses to train on a single place.
        return backend == "tensorflow" or (backend == "torch" and _places(inputs) > 1)

    def _fused(self, inputs, mean=None, variance=None):
        # It reads memory once forwards and once backwards, where the composed form does a dozen
        # times. Given mean and variance, it becomes a part of the convolution before it.
        if keras.backend.backend() == "torch":
            return self._fused_of_pytorch(inputs, mean, variance)
        import tensorflow as tf

        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.cast(self.gamma, "float32"),
            offset=ops.cast(self.beta, "float32"),
            mean=tf.zeros([0]) if mean is None else ops.cast(mean, "float32"),
            variance=tf.zeros([0]) if variance is None else ops.cast(variance, "float32"),
            epsilon=self.epsilon,
            is_training=mean is None,
        )

    def _fused_of_pytorch(self, inputs, mean, variance):
        import torch

        training = mean is None
        if training:
            # With momentum 1, the statistics of the batch end up in them.
            mean, variance = ops.zeros((2, inputs.shape[-1]))
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        given = mean, variance, self.gamma, self.beta
        mean, variance, gamma, beta = (ops.convert_to_tensor(one, dtype) for one in given)
        outputs = torch.nn.functional.batch_norm(
            inputs.permute(0, 3, 1, 2), mean, variance, gamma, beta, training, 1.0, self.epsilon
        )
        return outputs.permute(0, 2, 3, 1), mean, variance


def _places(inputs):
    """How many places all maps of a batch have."""
    shape = ops.shape(inputs)
    return shape[0] * shape[1] * shape[2]


def _moments_of_replicas(x, axes):
    """The mean and the variance along these axes, of the values of all replicas together."""
    import tensorflow as tf

    # In two steps: E[x²] − E[x]² loses in float32 what the replicas should agree on.
    replica = tf.distribute.get_replica_context()
    counted = tf.cast(_COUNTED.get(), x.dtype)
    total = counted * tf.reduce_sum(x, axes)
    count = counted * tf.cast(tf.size(x) / tf.size(total), x.dtype)
    total, count = replica.all_reduce("SUM", [total, count])
    mean = total / count
    squares = counted * tf.reduce_sum(tf.square(x - mean), axes)
    return mean, replica.all_reduce("SUM", squares) / count


def replicas() -> int:
    """How many replicas of TensorFlow share the batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


@contextlib.contextmanager
def at_least_one_image(images: Any) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    """Gives a replica without an image a black one, which counts nowhere.

    A last batch may have fewer images than there are replicas. Keras' own batch normalization
    learns NaN from none, and on a CPU TensorFlow convolves none to maps of a wrong shape. The
    statistics of our batch normalization leave the black image out.

    Args:
        images: The images of this replica.

    Yields:
        The images for the network, and the function that keeps of its outputs those of real images.
    """
    if replicas() == 1:
        yield images, lambda outputs: outputs
        return
    import tensorflow as tf

    number = tf.shape(images)[0]
    missing = tf.cast(tf.equal(number, 0), tf.int32)
    token = _COUNTED.set(1 - missing)
    try:
        padding = [[0, missing], *[[0, 0]] * (len(images.shape) - 1)]
        yield tf.pad(images, padding), lambda outputs: outputs[:number]
    finally:
        _COUNTED.reset(token)
