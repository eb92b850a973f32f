"""What every segmentation model of the package does in `compile` and `fit`."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.layers.bilinear_upsample import upsampled_argmax
from keras_psp.layers.products import PREDICTING
from keras_psp.losses import SparseCategoricalCrossentropy, weight_map
from keras_psp.metrics import ConfusionMatrixMetric, SegmentationScores
from keras_psp.models.classifier import Model, keep_layers, strategy_scope
from keras_psp.optimizers import SGD, PolynomialDecay
from keras_psp.weights.loading import load_weights

# The model that is in a step of its own, whose loss upsamples by itself.
_IN_STEP: contextvars.ContextVar = contextvars.ContextVar("in_step", default=None)


class SegmentationModel(Model):
    """A Keras model from images to logits, with the paper's recipe as the default of `compile`.

    A subclass is functional, has one output `(batch, height, width, num_classes)` and the
    attributes `num_classes`, `auxiliary_weight` and `initial_weights`. Where it has an auxiliary
    head, calling it with `training=True` returns `{"logits": …, "auxiliary": …}`; everything else
    sees the logits only.
    """

    num_classes: int
    auxiliary_weight: float = 0.0
    initial_weights: str
    _class_weights: "_ClassWeights"
    _compiled_step: tuple[Any, ...] | None = None
    _compiled_by_fit = _in_fit = False
    _upsamples_in_loss = _scores_class_maps = _weighs_classes = False

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "auxiliary_head" and isinstance(value, keras.Layer):
            keep_layers(self, [value])

    def compile(
        self,
        optimizer="recipe",
        loss="recipe",
        *,
        metrics="recipe",
        **kwargs,
    ):
        """Configures the model for training; without arguments, by the paper's recipe.

        Args:
            optimizer: `"recipe"` is `keras_psp.optimizers.SGD()`: momentum 0.9, L2 1e-4, polynomial
                decay from 0.01 over the run, ten times the rate on pyramid and heads. Otherwise
                any Keras optimizer.
            loss: `"recipe"` is `keras_psp.losses.SparseCategoricalCrossentropy()`, blind to void.
                Otherwise any Keras loss of labels and logits. The auxiliary head gets the same.
            metrics: `"recipe"` is `keras_psp.metrics.SegmentationScores`: mean IoU, mean accuracy
                and pixel accuracy. Otherwise any Keras metrics of labels and logits.
            **kwargs: What `keras.Model.compile` takes.

        Raises:
            ValueError: Under a strategy that Keras 3 cannot train with, or if `fit` is to fill in
                the schedule of an optimizer that was built before it was compiled.
        """
        _check_strategy(self)
        self._compiled_by_fit = False
        # What is made here has variables, which belong where the model's are.
        with strategy_scope(self):
            if optimizer == "recipe":
                optimizer = SGD()
            if loss == "recipe":
                loss = SparseCategoricalCrossentropy()
            if metrics == "recipe":
                metrics = [SegmentationScores(self.num_classes)]
            self._class_weights = _ClassWeights(self.num_classes)
            super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        self._open_schedule()
        # Another loss may have no value for each pixel, and gets weights only where some are given.
        self._weighs_classes = type(loss) is SparseCategoricalCrossentropy
        self._upsamples_in_loss = self._weighs_classes and kwargs.get("loss_weights") is None
        self._scores_class_maps = all(
            isinstance(metric, ConfusionMatrixMetric)
            and type(metric).update_state is ConfusionMatrixMetric.update_state
            for metric in keras.tree.flatten([metrics, kwargs.get("weighted_metrics")])
            if metric is not None
        )

    def compile_from_config(self, config):
        # What Keras does itself, but not for a model with a `compile` of its own.
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        *args,
        class_weight: Mapping[int, float] | Sequence[float] | None = None,
        **kwargs,
    ):
        """Trains the model: `keras.Model.fit`, and by the recipe where `compile` was not called.

        Args:
            x: A `tf.data.Dataset`, `keras.utils.PyDataset` or `DataLoader` of
                `(images, labels)`, or an array of images.
            y: Labels, where `x` holds images only.
            batch_size: As in Keras.
            epochs: As in Keras. The learning rate decays to 0 over all of them; each `fit` begins
                anew with the base rate, which is also that of `train_on_batch`.
            verbose: As in Keras.
            callbacks: As in Keras.
            *args: Further positional arguments of `keras.Model.fit`.
            class_weight: Class → factor on the loss of its pixels in training (others 1), or a
                sequence of all the factors, as `keras_psp.data.camvid.CAMVID_CLASS_WEIGHTS`.
            **kwargs: What `keras.Model.fit` takes.

        Returns:
            Keras' `History`.

        Raises:
            ValueError: If the schedule needs the number of steps and the data does not tell it, if
                the data has other classes than the model, if `class_weight` names no class, if
                layers became trainable after `compile`, or under a strategy that Keras 3 cannot
                train with.
        """
        _check_strategy(self)
        for data in (x, kwargs.get("validation_data")):
            _check_classes(data, self.num_classes)
        if not self.compiled or self._must_compile_again():
            self.compile()
            self._compiled_by_fit = True
        callbacks = keras.tree.flatten(callbacks or [])
        schedule = self._open_schedule()
        if schedule is not None:
            callbacks.append(_BeginSchedule(schedule))
        # Of the data sets of this package.
        if hasattr(x, "set_epoch"):
            callbacks.insert(0, _SetEpoch(x.set_epoch))
        if len(args) < 3 and (hasattr(x, "set_epoch") or hasattr(x, "element_spec")):
            # They shuffle by themselves; Keras would warn of its own default, or do it again.
            kwargs.setdefault("shuffle", False)
        self._class_weights.assign(class_weight)
        self._weighs_classes = self._weighs_classes or class_weight is not None
        # What is a constant of the step: a change needs another one.
        trained = frozenset(id(variable) for variable in self.trainable_variables)
        step = trained, schedule, self._weighs_classes
        if step != self._compiled_step:
            self.train_function, self._compiled_step = None, step
        self._in_fit = True
        try:
            return super().fit(x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs)
        finally:
            self._in_fit = False
            self._class_weights.assign(None)
            if schedule is not None:
                schedule.end_run()

    def train_on_batch(self, *args, **kwargs):
        """Takes one step, at the base rate of the schedule: `keras.Model.train_on_batch`.

        Args:
            *args: Arguments of `keras.Model.train_on_batch`.
            **kwargs: The same.

        Returns:
            Loss and metrics, as Keras returns them.
        """
        schedule = self._open_schedule()
        if schedule is not None and not self._in_fit:
            # A file that was written during a run brings the length of that run along.
            schedule.end_run()
        return super().train_on_batch(*args, **kwargs)

    @property
    def metrics_variables(self):
        # On JAX a step sees what it is given: weights, the optimizer's variables, and these.
        own = [self._class_weights.variable] if self.compiled else []
        return super().metrics_variables + own

    def _open_schedule(self) -> PolynomialDecay | None:
        """The schedule whose length `fit` fills in, if the optimizer has one."""
        optimizer = _inner(self.optimizer)
        schedule = getattr(optimizer, "_learning_rate", None)
        if not isinstance(schedule, PolynomialDecay) or schedule.total_steps is not None:
            return None
        with strategy_scope(self):
            optimizer.learning_rate = schedule = schedule.of(optimizer)
        return schedule

    def _must_compile_again(self) -> bool:
        """Whether more is trainable than the optimizer knows."""
        optimizer = _inner(self.optimizer)
        if not optimizer.built:
            return False
        known = {id(variable) for variable in optimizer._trainable_variables}
        more = {id(variable) for variable in self.trainable_variables} - known
        if more and not self._compiled_by_fit:
            raise ValueError(
                "An optimizer trains the variables that were trainable when it was first used. "
                f"Received: {len(more)} trainable variables more. Call compile again, with "
                "a new optimizer."
            )
        return bool(more)

    def evaluate(self, x=None, *args, **kwargs):
        """Scores the model: `keras.Model.evaluate`.

        Args:
            x: As in `fit`.
            *args: Further positional arguments of `keras.Model.evaluate`.
            **kwargs: What `keras.Model.evaluate` takes.

        Returns:
            Loss and metrics, as Keras returns them.

        Raises:
            ValueError: If the data has other classes than the model.
        """
        _check_classes(x, self.num_classes)
        return super().evaluate(x, *args, **kwargs)

    def _remember(self, source, backbone, weights, fresh_head) -> None:
        """Keeps what the model was made from, and loads `weights` into it if they are given."""
        # The configuration alone: the model that was copied is no part of this one.
        self._source = (
            source if isinstance(source, str) else keras.saving.serialize_keras_object(source)
        )
        self.initial_weights = backbone.initial_weights
        if weights is not None:
            self.initial_weights = load_weights(self, weights, fresh_head=fresh_head)

    def get_config(self):
        return {
            "backbone": self._source,
            "num_classes": self.num_classes,
            "input_shape": self.inputs[0].shape[1:],
            "initial_weights": self.initial_weights,
            "name": self.name,
            "dtype": self.dtype_policy.name,
            "trainable": self.trainable,
            "frozen": [i for i, layer in enumerate(_parts(self)) if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        # The weights come from the file that the configuration came from.
        initial_weights = config.pop("initial_weights")
        trainable, frozen = config.pop("trainable"), config.pop("frozen", ())
        if not isinstance(config["backbone"], str):
            config["backbone"] = keras.saving.deserialize_keras_object(
                config["backbone"], custom_objects=custom_objects
            )
        # The constructor makes layers of the global policy, and that may be another one by now.
        with _dtype_policy(config.pop("dtype", None)):
            model = cls(backbone_weights=None, **config)
        model.trainable = trainable
        for i, layer in enumerate(_parts(model)):
            layer.trainable = i not in frozen
        model.initial_weights = initial_weights
        return model

    def _upsampled(self, small: dict, like) -> Any:
        """The outputs of `call`, given those at the features' size.

        In a step with our own loss they stay at that size, as the loss and the scores need no
        logits for each pixel, but a number: see `SparseCategoricalCrossentropy.of_upsampled`.
        """
        if _IN_STEP.get() is self:
            return {f"small_{name}": logits for name, logits in small.items()}
        large = {name: self.upsample(logits, like=like) for name, logits in small.items()}
        return large if len(large) > 1 else large["logits"]

    def train_step(self, *args):
        with self._step():
            return super().train_step(*args)

    def test_step(self, *args):
        with self._step():
            return super().test_step(*args)

    def predict_step(self, *args):
        token = PREDICTING.set(True)
        try:
            return super().predict_step(*args)
        finally:
            PREDICTING.reset(token)

    @contextlib.contextmanager
    def _step(self):
        # What a subclass computes by itself, it computes from logits of the image's size.
        ours = SegmentationModel.compute_loss, SegmentationModel.compute_metrics
        whole = (type(self).compute_loss, type(self).compute_metrics) != ours
        token = _IN_STEP.set(self if self._upsamples_in_loss and not whole else None)
        try:
            yield
        finally:
            _IN_STEP.reset(token)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if training and self._weighs_classes:
            weight = self._class_weights.of(y)
            if sample_weight is not None:
                weight = weight * weight_map(sample_weight)
            sample_weight = weight
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        if "small_logits" in y_pred:
            options = tuple(ops.shape(x)[1:3]), self.upsample.align_corners, sample_weight
            losses = {n: self.loss.of_upsampled(y, z, *options) for n, z in y_pred.items()}
            loss = losses["small_logits"] + sum(self.losses)
            return loss + self.auxiliary_weight * losses.get("small_auxiliary", 0.0)
        loss = super().compute_loss(x, y, y_pred["logits"], sample_weight, training)
        # Not `compute_loss` again: what layers add to the loss (regularizers) counts once.
        auxiliary = self._compile_loss(y, y_pred["auxiliary"], sample_weight)
        return loss + self.auxiliary_weight * auxiliary

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y_pred, dict) and "small_logits" in y_pred:
            logits = y_pred["small_logits"]
            if self._scores_class_maps:
                size = tuple(ops.shape(x)[1:3])
                y_pred = upsampled_argmax(logits, size, self.upsample.align_corners)
            else:
                y_pred = self.upsample(logits, like=x)
        elif isinstance(y_pred, dict):
            y_pred = y_pred["logits"]
        return super().compute_metrics(x, y, y_pred, sample_weight)


class _ClassWeights:
    """A factor for each class on the loss of its pixels: state of the step, but no weight."""

    def __init__(self, num_classes: int):
        self.variable = keras.Variable(
            "ones",
            shape=(num_classes,),
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
            name="class_weights",
        )

    def assign(self, given: Mapping[int, float] | Sequence[float] | None) -> None:
        num_classes = self.variable.shape[0]
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            if len(given) != num_classes:
                raise ValueError(
                    "A sequence of class weights must have one for each class. "
                    f"Received: class_weight of {len(given)} numbers, num_classes={num_classes}. "
                    "Give that many, or a dictionary of the classes that differ from 1."
                )
            given = dict(enumerate(given))
        if unknown := set(given) - set(range(num_classes)):
            raise ValueError(
                f"The keys of class_weight must be classes 0 … {num_classes - 1}. "
                f"Received: class_weight for {sorted(unknown)}. Leave these out."
            )
        self.variable.assign([float(given.get(k, 1)) for k in range(num_classes)])

    def of(self, labels):
        # Labels that are no class get some weight here; the loss is what sorts them out.
        classes = ops.clip(weight_map(labels), 0, self.variable.shape[0] - 1)
        return ops.take(self.variable, ops.cast(classes, "int32"))


class _BeginSchedule(keras.callbacks.Callback):
    """Tells the schedule where the run began and how long it is, once that is known."""

    def __init__(self, schedule: PolynomialDecay):
        super().__init__()
        self.schedule = schedule
        self.begun = False

    def on_epoch_begin(self, epoch, logs=None):
        if self.begun:
            return
        steps, epochs = self.params["steps"], self.params["epochs"]
        if steps is None:
            raise ValueError(
                "The learning rate decays over the whole run, so its length must be known. "
                "Received: data of unknown length. Pass steps_per_epoch=, or compile with an "
                "optimizer whose learning_rate is a number."
            )
        # A run that was cut off (`epoch` is not 0) goes on in its own schedule.
        step = int(ops.convert_to_numpy(_inner(self.model.optimizer)._iterations))
        self.schedule.begin_run(step - epoch * steps, epochs * steps)
        self.begun = True


class _SetEpoch(keras.callbacks.Callback):
    """Tells the data which epoch begins: a run that was cut off goes on with the order and the
    views that would have come."""

    def __init__(self, set_epoch: Callable[[int], None]):
        super().__init__()
        self.set_epoch = set_epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.set_epoch(epoch)


def _inner(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer)


def _parts(model) -> list:
    """The layers of the model and theirs, each before its own."""
    return model._flatten_layers(include_self=False)


@contextlib.contextmanager
def _dtype_policy(name: str | None) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _check_classes(data, num_classes: int) -> None:
    # Where XLA compiles the step, a label that is no class can raise nothing.
    names = getattr(data, "class_names", None)
    if names is not None and len(names) != num_classes:
        raise ValueError(
            "The model must have the classes of the data. "
            f"Received: num_classes={num_classes}, data of {len(names)} classes "
            f"({', '.join(names)}). Build the model with num_classes={len(names)}."
        )


def _check_strategy(model) -> None:
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    strategy = model.distribute_strategy or tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "Keras 3 cannot fit under MultiWorkerMirroredStrategy (keras-team/keras#20585). "
            "Received: strategy=MultiWorkerMirroredStrategy. Use MirroredStrategy on one machine, "
            "or keras.distribution.initialize() and DataParallel on the JAX backend on several."
        )
