"""Cross-entropy that leaves void pixels out."""

import functools
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_psp.arrays import one_program_on_jax
from keras_psp.labels import VOID
from keras_psp.layers.batch_normalization import replicas
from keras_psp.layers.bilinear_upsample import Strips, resize_bilinear
from keras_psp.signatures import FromArguments

_NO_REDUCTION = (None, "none")
_LARGEST = 2**31 - 1


@keras.saving.register_keras_serializable("keras_psp")
class SparseCategoricalCrossentropy(FromArguments, keras.losses.Loss):
    """Cross-entropy of classes, averaged over the pixels that have a label.

    It takes the arguments of `keras.losses.SparseCategoricalCrossentropy`, and three defaults
    differ: predictions are logits, 255 is void, and the average goes over the valid pixels of the
    *global* batch. (Under `tf.distribute.MirroredStrategy` a replica whose images are mostly void
    weighs less, as it would on one device.) A batch without a single valid pixel has loss 0. It is
    stricter than Keras' loss, too: labels are label maps, and a label that is neither a class nor
    void is an error.

    Args:
        from_logits: Whether predictions are logits; `False` if they are probabilities.
        ignore_class: The label that does not count; `None` if every label does.
        reduction: `"sum_over_batch_size"` or `"mean"` divides the sum by the number of valid
            pixels, `"mean_with_sample_weight"` by the sum of their weights; `"sum"` leaves the sum
            as it is, `"none"` or `None` the loss of each pixel.
        axis: The axis of predictions along which the classes lie.
        name: Name of the loss.
        dtype: Type of the result, `keras.config.floatx()` by default. Half precision is for the
            result only.
        class_weights: One factor per class on the cross-entropy of its pixels, for instance
            `keras_psp.data.camvid.CAMVID_CLASS_WEIGHTS` (median-frequency balancing).

    Call arguments:
        y_true: Integer labels `(batch, height, width)` or `(batch, height, width, 1)`.
        y_pred: Logits `(batch, height, width, num_classes)`.
        sample_weight: Weights per image `(batch,)` or per pixel, of the labels' shape.

    Returns:
        A scalar: Σ weight · cross-entropy over the valid pixels / number of valid pixels. Without a
        reduction `(batch, height, width)`: weight · cross-entropy, 0 where void.

    Raises:
        ValueError: If labels and logits differ in size, or a label is neither a class nor
            `ignore_class`. (A compiled step of TensorFlow raises `tf.errors.InvalidArgumentError`
            with the same message. Where XLA compiles it, as JAX always does, nothing can be raised:
            the loss becomes NaN, and `keras_psp.RunFolder` stops there.)

    Reference:
        [Long et al., 2015](https://arxiv.org/abs/1411.4038), section 4, the per-pixel loss;
        [Badrinarayanan et al., 2017](https://arxiv.org/abs/1511.00561), section 4, the weights.

    Example:

    ```python
    import numpy as np
    import keras_psp

    loss = keras_psp.losses.SparseCategoricalCrossentropy()
    undecided = np.zeros((1, 2, 2, 11), "float32")  # all eleven classes are as likely
    labels = np.array([[[3, 255], [255, 10]]])
    print(f"{float(loss(labels, undecided)):.3f}, log 11 is {np.log(11):.3f}")
    print("all void:", float(loss(np.full((1, 2, 2), 255), undecided)))
    ```

    ```text
    2.398, log 11 is 2.398
    all void: 0.0
    ```
    """

    def __init__(
        self,
        from_logits: bool = True,
        ignore_class: int | None = VOID,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: str | keras.DTypePolicy | None = None,
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check_class_axis(axis)
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self.axis = axis
        self.class_weights = None if class_weights is None else [float(w) for w in class_weights]
        # In half precision the sum over many pixels would overflow.
        self._precision = keras.backend.result_type(self.dtype, "float32")

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = classes_last(y_true, y_pred, self.axis)
        y_pred = ops.cast(y_pred, self._precision)
        labels = label_map(y_true, ops.shape(y_pred))
        classes, weight, reduced = self._pixels(labels, y_pred.shape[-1], sample_weight)
        smallest = None if self.from_logits else keras.config.epsilon()
        return reduced(_of_pixels(y_pred, classes, weight, smallest))

    def of_upsampled(self, y_true, y_pred, size, align_corners=True, sample_weight=None):
        """The loss of logits that are yet to be upsampled to the labels' size.

        It is that of `BilinearUpsample(size, align_corners=align_corners)(y_pred)`, and so is its
        gradient, but logits of that size never exist. Both come from one pass over strips of a few
        rows: where the loss of a pixel is computed, so is the gradient with respect to its logits,
        softmax − one-hot, and upsampling, which is linear, takes it back to the small map. (With
        probabilities, or without a reduction, the whole map is upsampled.)

        Args:
            y_true: As in a call.
            y_pred: Logits `(batch, height, width, num_classes)` of any size.
            size: `(height, width)` of the labels.
            align_corners: See `keras_psp.layers.BilinearUpsample`.
            sample_weight: As in a call.

        Returns:
            As a call does, to be differentiated once.

        Example:

        ```python
        import numpy as np
        import keras_psp

        loss = keras_psp.losses.SparseCategoricalCrossentropy()
        small = np.random.default_rng(0).normal(size=(1, 3, 4, 11)).astype("float32")
        labels = np.ones((1, 17, 25), int)
        large = keras_psp.layers.BilinearUpsample(size=(17, 25))(small)
        print(f"{float(loss(labels, large)):.3f}")
        print(f"{float(loss.of_upsampled(labels, small, (17, 25))):.3f}, without the large logits")
        ```

        ```text
        2.411
        2.411, without the large logits
        ```
        """
        y_true, small = classes_last(y_true, y_pred, self.axis)
        small = ops.cast(small, self._precision)
        if self.reduction in _NO_REDUCTION or not self.from_logits:
            large = resize_bilinear(small, ops.shape(small)[1:3], size, align_corners)
            return self(y_true, ops.moveaxis(large, -1, self.axis), sample_weight)
        labels = label_map(y_true, (None, *size))
        classes, weight, reduced = self._pixels(labels, small.shape[-1], sample_weight)
        return reduced(_upsampled_total(small, size, align_corners, classes, weight))

    def _pixels(self, labels, num_classes, sample_weight):
        """The class and the weight of every pixel, and what reduces their weighted losses."""
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                "There must be one weight per class. "
                f"Received: {len(self.class_weights)} class_weights for {num_classes} classes."
            )
        classes, valid, in_range = valid_labels(labels, num_classes, self.ignore_class)
        weight = ops.cast(valid, self._precision)
        divisor = ops.sum(weight)
        if self.class_weights is not None:
            weight = weight * ops.take(ops.array(self.class_weights, self._precision), classes)
        if sample_weight is not None:
            weight = weight * weight_map(sample_weight, labels.shape, self._precision)
        if self.reduction == "mean_with_sample_weight":
            divisor = ops.sum(weight)

        def reduced(losses):
            """Reduces the losses of all pixels, or their sum."""
            if self.reduction not in _NO_REDUCTION:
                losses = ops.sum(losses)
                if self.reduction != "sum":
                    losses = _mean_over_replicas(losses, divisor)
            return ops.cast(ops.where(in_range, losses, float("nan")), self.dtype)

        return classes, weight, reduced


@functools.partial(one_program_on_jax, static=("smallest",))
def _of_pixels(y_pred, classes, weight, smallest):
    """The weighted loss of every pixel, of probabilities if there is a `smallest` one."""
    # Logits of void pixels may be infinite, and so would their gradients be.
    logits = ops.where(ops.not_equal(weight, 0.0)[..., None], y_pred, 0.0)
    if smallest is not None:
        logits = ops.log(ops.clip(logits, smallest, 1.0 - smallest))
    # log Σ exp, minus the logit of the true class: each reads the logits once.
    picked = ops.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    return weight * (ops.logsumexp(logits, axis=-1) - ops.sum(picked * logits, axis=-1))


def _upsampled_total(small, size, align_corners, classes, weight):
    @ops.custom_gradient
    def total_and_gradient(small):
        strips = Strips(small, size, align_corners)
        class_strips, weight_strips = strips.cut(classes), strips.cut(weight)

        def add_strip(i, sums):
            total, wide = sums
            w, logits = weight_strips[i][..., None], strips[i]
            picked = ops.one_hot(class_strips[i], small.shape[-1], dtype=small.dtype)
            top = ops.max(logits, axis=-1, keepdims=True)
            powers = ops.exp(logits - top)
            norm = ops.sum(powers, axis=-1, keepdims=True)
            loss = top + ops.log(norm) - ops.sum(picked * logits, axis=-1, keepdims=True)
            gradient = powers * (w / norm) - picked * w
            return total + ops.sum(w * loss), wide + strips.gathered(i, gradient)

        start = ops.zeros((), small.dtype), ops.zeros_like(strips.wide)
        total, wide = ops.fori_loop(0, strips.number, add_strip, start)
        gradient = strips.gradient(wide)

        def scaled(*args, upstream=None):
            # PyTorch passes it by name; the others pass nothing else.
            return gradient * (args[0] if upstream is None else upstream)

        return total, scaled

    return total_and_gradient(small)


def check_class_axis(axis: int) -> None:
    """Raises a ValueError if classes cannot lie along this axis of predictions."""
    if axis not in (-3, -2, -1, 1, 2, 3):
        raise ValueError(
            "The classes lie along an axis behind the batch's. "
            f"Received: axis={axis}. Use -1 for (batch, height, width, num_classes)."
        )


def classes_last(labels, predictions, axis):
    """Predictions with the classes along their last axis, and labels without such an axis."""
    if axis in (-1, 3) or len(predictions.shape) != 4:
        return labels, predictions
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == 4 and labels.shape[axis] == 1:
        labels = ops.squeeze(labels, axis)
    return labels, ops.moveaxis(predictions, axis, -1)


def label_map(labels, shape):
    """Returns labels as a tensor `(batch, height, width)` of this shape.

    Its type is int32, or float32 if the labels are no integers.

    Args:
        labels: Numbers `(batch, height, width)` or `(batch, height, width, 1)`.
        shape: A shape that begins with `(batch, height, width)`, such as the predictions'. A size
            may be a tensor, or `None` if it does not matter.

    Raises:
        ValueError: If the sizes differ, or the labels are not one number per pixel. (A compiled
            step of TensorFlow that learns sizes from batch to batch raises
            `tf.errors.InvalidArgumentError`.)
    """
    if isinstance(labels, np.ndarray):  # JAX would wrap large numbers around.
        labels = _as_int32(labels)
    labels = ops.convert_to_tensor(labels)
    is_float = "float" in keras.backend.standardize_dtype(labels.dtype)
    labels = ops.cast(labels, "float32") if is_float else _as_int32(labels)
    if len(labels.shape) == 4 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, -1)
    given = ops.shape(labels)
    pairs = [pair for pair in zip(given, shape, strict=False) if None not in pair]
    known = [pair for pair in pairs if all(isinstance(size, int) for size in pair)]
    rule = "A label map (batch, height, width) has one class number per pixel of its image."
    repair = (
        "Resize the labels (nearest neighbor); turn one-hot labels into class numbers by argmax."
    )
    if len(labels.shape) != 3 or len(shape) < 3 or any(one != other for one, other in known):
        raise ValueError(
            f"{rule} Received: labels of shape {tuple(labels.shape)}, predictions of shape "
            f"{tuple(n if isinstance(n, int) else None for n in shape)}. {repair}"
        )
    if len(known) < len(pairs):
        import tensorflow as tf

        ones, others = (tf.stack(sizes) for sizes in zip(*pairs, strict=True))
        received = [rule, "Received: labels of shape", ones, "predictions of shape", others]
        tf.debugging.Assert(tf.reduce_all(ones == others), [*received, repair])
    return labels


def _as_int32(labels):
    """Returns integers as int32; larger ones become its largest, and so stay no class."""
    library = np if isinstance(labels, np.ndarray) else ops
    kind = keras.backend.standardize_dtype(labels.dtype)
    if kind in ("int64", "uint32", "uint64"):
        labels = library.minimum(labels, _LARGEST)
    if kind == "int64":
        labels = library.maximum(labels, -_LARGEST)
    if kind.startswith("float"):
        return labels
    return labels.astype("int32") if library is np else ops.cast(labels, "int32")


def weight_map(weight, shape, dtype="float32"):
    """Returns weights per image or per pixel so that they broadcast to a label map.

    Args:
        weight: One number, `(batch,)`, `(batch, height, width)` or `(batch, height, width, 1)`.
        shape: The label map's `(batch, height, width)`.
        dtype: The type of the result.

    Raises:
        ValueError: If they are of another size.
    """
    weight = ops.cast(weight, dtype)
    given = tuple(weight.shape)
    if len(given) == 4 and given[-1] == 1:
        weight = ops.squeeze(weight, -1)
    pairs = zip(weight.shape, shape, strict=False)
    known = [pair for pair in pairs if all(isinstance(size, int) for size in pair)]
    if len(weight.shape) not in (0, 1, 3) or any(one != other for one, other in known):
        raise ValueError(
            "Weights are one number per image or per pixel. "
            f"Received: sample_weight of shape {given} for labels of shape {tuple(shape)}. Pass "
            "(batch,) or (batch, height, width)."
        )
    return ops.reshape(weight, (-1, 1, 1)) if len(weight.shape) == 1 else weight


def valid_labels(labels, num_classes: int, ignore_class: int | None, noun: str = "label"):
    """Returns the class of every pixel, which pixels count, and whether all others are void.

    Args:
        labels: int32 or float32 tensor.
        num_classes: Labels 0 … num_classes − 1 are classes.
        ignore_class: The void label; `None` if there is none.
        noun: What the message calls a label.

    Returns:
        The classes, int32, with 0 where a label does not count; a Boolean tensor that is true where
        it counts; and a Boolean scalar that is false if some label is neither a class nor void.

    Raises:
        ValueError: If some label is neither a class nor void, and its value can be read.
    """
    if ignore_class == VOID and num_classes > VOID:
        raise ValueError(
            f"Where {VOID} is void, there are at most {VOID} classes. "
            f"Received: num_classes={num_classes}, ignore_class={ignore_class}. Pass "
            "ignore_class=None, or another number."
        )
    classes, valid, allowed, in_range = _classify(labels, num_classes, ignore_class)
    void_rule = void_repair = ""
    if ignore_class is not None:
        void_rule = f" or {ignore_class} for void"
        void_repair = f", or map it to {ignore_class} if it means void"
    rule = f"A {noun} must be one of 0 … {num_classes - 1}{void_rule}. Received: {noun}"
    repair = f"Set num_classes so that it is covered{void_repair}."
    if _is_float(labels):
        repair += " Resize label maps to the nearest pixel, without interpolation."
    _raise_unless(in_range, labels, allowed, rule, repair)
    return classes, valid, in_range


def _is_float(labels):
    # Interpolated label maps are floats, and so is one channel of probabilities.
    return keras.backend.standardize_dtype(labels.dtype) == "float32"


@functools.partial(one_program_on_jax, static=("num_classes", "ignore_class"))
def _classify(labels, num_classes, ignore_class):
    valid = ops.logical_and(labels >= 0, labels < num_classes)
    if _is_float(labels):
        valid = ops.logical_and(valid, ops.equal(labels, ops.floor(labels)))
    allowed = valid
    if ignore_class is not None:
        void = ops.equal(labels, ignore_class)
        valid, allowed = ops.logical_and(valid, ops.logical_not(void)), ops.logical_or(valid, void)
    classes = ops.where(valid, ops.cast(labels, "int32"), 0)
    return classes, valid, allowed, ops.all(allowed)


def _raise_unless(in_range, labels, allowed, rule, repair):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            # A replica's batch may be empty, so one allowed label is added.
            labels = tf.concat([tf.reshape(labels, [-1]), tf.zeros(1, labels.dtype)], 0)
            allowed = tf.concat([tf.reshape(allowed, [-1]), [True]], 0)
            wrong = labels[tf.argmin(tf.cast(allowed, "int32"))]
            tf.debugging.Assert(in_range, [rule, wrong, repair])
            return
    # Values cannot be read in a step that JAX compiles, nor on PyTorch's meta device.
    elif backend == "jax":
        import jax

        if isinstance(in_range, jax.core.Tracer):
            return
    elif backend == "torch" and in_range.is_meta:
        return
    if not bool(in_range):
        labels, allowed = ops.convert_to_numpy(labels), ops.convert_to_numpy(allowed)
        wrong = [f"{value:g}" for value in np.unique(labels[~allowed])]
        raise ValueError(f"{rule} {', '.join(wrong[:5])}. {repair}")


def _mean_over_replicas(total, count):
    # Keras adds up what the replicas return, so each returns an equal share of the global mean.
    # Equal shares keep the epoch's mean right even if the last batch is not shared equally.
    if replicas() > 1:
        import tensorflow as tf

        total, count = tf.distribute.get_replica_context().all_reduce("SUM", [total, count])
    return ops.divide_no_nan(total, count) / replicas()
