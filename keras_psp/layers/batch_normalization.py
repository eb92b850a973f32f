"""Batch normalization with the papers' constants, over all replicas."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_psp")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization as the ResNet and PSPNet papers use it.

    It differs from `keras.layers.BatchNormalization` in its defaults (momentum 0.9 and epsilon
    1e-5 instead of 0.99 and 1e-3) and in what a batch is: under `tf.distribute.MirroredStrategy`
    the statistics are those of the global batch ("SyncBN"), on every backend and without being
    asked, because segmentation batches are too small to be split. (Under JAX's data parallelism
    that is so by itself.)

    Args:
        momentum: Momentum of the moving statistics, in Keras' sense (PyTorch's is 1 minus this).
        epsilon: Added to the variance.
        **kwargs: What `keras.layers.BatchNormalization` takes.

    Input shape:
        `(batch, ..., channels)`

    Output shape:
        The input's.

    Reference:
        [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167), algorithm 1;
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5.1.

    Example:

    ```python
    import numpy as np
    import keras_psp

    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 8, 8, 5)).astype("float32")
    y = keras_psp.layers.BatchNormalization()(x, training=True)
    assert abs(np.std(y) - 1.0) < 0.05
    ```
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        if training and self.trainable and mask is None:
            outputs, mean, variance = self.normalized(inputs)
            self.keep(mean, variance)
            return outputs
        if self._is_one_operation(inputs) and mask is None:
            return self._fused(inputs, self.moving_mean, self.moving_variance)[0]
        return super().call(inputs, training=training, mask=mask)

    def normalized(self, inputs):
        """The outputs in training, and the batch's mean and variance, which `keep` is to get."""
        if self._is_one_operation(inputs) and _replicas() == 1:
            outputs, mean, variance, *_ = self._fused(inputs)
            shape = ops.shape(inputs)
            count = ops.cast(shape[0] * shape[1] * shape[2], "float32")
            # The operation returns the unbiased variance; Keras keeps the biased one.
            return outputs, mean, variance * (count - 1.0) / count
        # In half precision the sums would overflow.
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        mean, variance = _moments(x, axes)
        gamma, beta = (
            ops.cast(variable, x.dtype) if given else None
            for variable, given in ((self.gamma, self.scale), (self.beta, self.center))
        )
        x = ops.batch_normalization(x, mean, variance, self.axis, beta, gamma, self.epsilon)
        return ops.cast(x, self.compute_dtype), mean, variance

    def keep(self, mean, variance):
        """Moves the moving statistics toward those of a batch."""
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1.0 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1.0 - keep))

    def _is_one_operation(self, inputs):
        last = self.axis in (-1, 3) and len(inputs.shape) == 4
        return keras.backend.backend() == "tensorflow" and last and self.scale and self.center

    def _fused(self, inputs, mean=None, variance=None):
        # In training, one pass over memory forwards and one backwards, where the composed form
        # takes a dozen; given mean and variance, a part of the convolution before it.
        import tensorflow as tf

        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.zeros([0]) if mean is None else tf.convert_to_tensor(mean),
            variance=tf.zeros([0]) if variance is None else tf.convert_to_tensor(variance),
            epsilon=self.epsilon,
            is_training=mean is None,
        )


def _moments(x, axes):
    """The mean and the variance along these axes, of all replicas' values together."""
    if _replicas() == 1:
        return ops.moments(x, axes)
    import tensorflow as tf

    # Two passes: E[x²] − E[x]² loses in float32 what the replicas are meant to agree on.
    replica = tf.distribute.get_replica_context()
    total = tf.reduce_sum(x, axes)
    count = tf.cast(tf.size(x) / tf.size(total), x.dtype)
    total, count = replica.all_reduce("SUM", [total, count])
    mean = total / count
    squares = tf.reduce_sum(tf.square(x - mean), axes)
    return mean, replica.all_reduce("SUM", squares) / count


def _replicas() -> int:
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1
