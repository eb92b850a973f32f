"""The paper's recipe, which trains a model that was told nothing else."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.data.info import info_of
from keras_psp.keras_internals import learning_rate_of, step_counter, trained_variables
from keras_psp.labels import ClassList, check_same_classes
from keras_psp.losses import SparseCategoricalCrossentropy, weight_map
from keras_psp.metrics import ConfusionMatrixMetric, ScoreOfCounts, segmentation_scores
from keras_psp.models.training import Model, ModelWithOwnLoss, strategy_scope
from keras_psp.optimizers import PolynomialDecay, recipe
from keras_psp.rates import rates_for


class RecipeModel(ModelWithOwnLoss, Model):
    """A model of images and label maps whose `compile` and `fit` know the paper's recipe.

    Attributes:
        num_classes: Number of classes.
        upsamples_in_loss: Whether the loss takes logits of any size, so that a step needs none at
            the size of the labels.
        scores_class_maps: Whether the metrics take the best class of each pixel in place of logits.
        class_weights: The factors of `fit`, for `loss_and_outputs`; `None` where they play no part.
        initial_weights: What the model started from, in words. The recipe depends on it.
        classes: Names and colors of the classes, where somebody named them: `fit` asks its data.
    """

    num_classes: int
    initial_weights: str
    upsamples_in_loss = scores_class_maps = False
    classes: ClassList | None = None
    _class_weights: "ClassWeights"
    _compiled_step: tuple[Any, ...] | None = None
    _weighs_classes = _compiled_by_fit = _in_fit = _scored_by_recipe = False

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "recipe",
        loss: Any = "recipe",
        *,
        metrics: Any = "recipe",
        **kwargs: Any,
    ) -> None:
        """Configures the model for training; without arguments, by the paper's recipe.

        Args:
            optimizer: `"recipe"` is `keras_psp.optimizers.SGD`: momentum 0.9, L2 1e-4, polynomial
                decay over the run. For a model that started from trained weights it is the paper's,
                from 0.01, with ten times the rate on pyramid, decoder and heads; for one that
                started from random values, from 0.02 everywhere. `initial_weights` says which.
                Otherwise any Keras optimizer.
            loss: `"recipe"` is `keras_psp.losses.SparseCategoricalCrossentropy()`, blind to void.
                Otherwise any Keras loss of labels and logits. The auxiliary head gets the same.
            metrics: `"recipe"` is `keras_psp.metrics.segmentation_scores`: mean IoU, mean accuracy
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
                optimizer = recipe(**rates_for(self.initial_weights))
            if loss == "recipe":
                loss = SparseCategoricalCrossentropy()
            self._scored_by_recipe = metrics == "recipe"
            if self._scored_by_recipe:
                metrics = segmentation_scores(self.num_classes)
            self._class_weights = ClassWeights(self.num_classes)
            super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        _open_schedule(self)
        # Another loss may have no value for each pixel, and gets weights only where some are given.
        self._weighs_classes = type(loss) is SparseCategoricalCrossentropy
        # A loss or metrics that a subclass computes by itself get logits of the images' size.
        self.upsamples_in_loss = (
            type(self).compute_loss is ModelWithOwnLoss.compute_loss
            and self._weighs_classes
            and kwargs.get("loss_weights") is None
        )
        own_metrics = type(self).compute_metrics is not ModelWithOwnLoss.compute_metrics
        self.scores_class_maps = not own_metrics and all(
            isinstance(metric, ScoreOfCounts)
            or getattr(type(metric), "update_state", None) is ConfusionMatrixMetric.update_state
            for metric in keras.tree.flatten([metrics, kwargs.get("weighted_metrics")])
            if metric is not None
        )

    def get_compile_config(self):
        config = super().get_compile_config()
        # Three metrics of one count would come back from a file as three that count.
        return {**config, "metrics": "recipe"} if self._scored_by_recipe else config

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
    ) -> keras.callbacks.History:
        """Trains the model: `keras.Model.fit`, and by the recipe where `compile` was not called.

        Args:
            x: A `tf.data.Dataset`, `keras.utils.PyDataset` or `DataLoader` of
                `(images, labels)`, or an array of images. Heights and widths may be unknown, and
                other ones in every batch.
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
        _check_data(self, x)
        _check_data(self, kwargs.get("validation_data"))
        if self.classes is None and (info := info_of(x)) is not None:
            self.classes = info.classes
        if not self.compiled or self._must_compile_again():
            self.compile()
            self._compiled_by_fit = True
        callbacks = keras.tree.flatten(callbacks or [])
        schedule = _open_schedule(self)
        if schedule is not None:
            callbacks.append(_BeginSchedule(schedule))
        if hasattr(x, "set_epoch"):
            # Of the data sets of this package: a run that was cut off goes on with the order and
            # the views that would have come.
            set_epoch = keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: x.set_epoch(epoch)
            )
            callbacks.insert(0, set_epoch)
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
            # A step that ran out of memory on JAX takes the variables along: it must be seen.
            with contextlib.suppress(RuntimeError):
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
        schedule = _open_schedule(self)
        if schedule is not None and not self._in_fit:
            # A file that was written during a run brings the length of that run along.
            schedule.end_run()
        return super().train_on_batch(*args, **kwargs)

    @property
    def class_weights(self) -> "ClassWeights | None":
        return self._class_weights if self._weighs_classes else None

    @property
    def metrics_variables(self):
        # On JAX a step sees what it is given: weights, the optimizer's variables, and these.
        own = [self._class_weights.variable] if self.compiled else []
        return super().metrics_variables + own

    def _must_compile_again(self) -> bool:
        """Whether more is trainable than the optimizer knows."""
        optimizer = _inner_optimizer(self)
        if not optimizer.built:
            return False
        known = {id(variable) for variable in trained_variables(optimizer)}
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
        _check_data(self, x)
        return super().evaluate(x, *args, **kwargs)


class ClassWeights:
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
        """Sets the factors: those given by class, all of them in a sequence, or 1 for each."""
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

    def times(self, labels, sample_weight):
        """The weight of each pixel, given that of each image or pixel, or none."""
        # Labels that are no class get some weight here; the loss is what sorts them out.
        shape = labels.shape[:3]
        classes = ops.clip(weight_map(labels, shape), 0, self.variable.shape[0] - 1)
        weight = ops.take(self.variable, ops.cast(classes, "int32"))
        return weight if sample_weight is None else weight * weight_map(sample_weight, shape)


def _open_schedule(model: keras.Model) -> PolynomialDecay | None:
    """Returns the schedule whose length `fit` fills in, if the model's optimizer has one."""
    optimizer = _inner_optimizer(model)
    if optimizer is None:
        return None
    schedule = learning_rate_of(optimizer)
    if not isinstance(schedule, PolynomialDecay) or schedule.total_steps is not None:
        return None
    with strategy_scope(model):
        optimizer.learning_rate = schedule = schedule.of(optimizer)
    return schedule


def _inner_optimizer(model: keras.Model) -> Any:
    """Returns a model's optimizer, or the one inside it where it scales losses."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


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
        step = int(ops.convert_to_numpy(step_counter(_inner_optimizer(self.model))))
        self.schedule.begin_run(step - epoch * steps, epochs * steps)
        self.begun = True


def _check_data(model: RecipeModel, data: Any) -> None:
    """Refuses data of other classes, and data sets whose tensors have no known number of axes."""
    # Where XLA compiles the step, a wrong label raises nothing.
    if (info := info_of(data)) is not None:
        check_same_classes(model.classes or model.num_classes, info.classes)
    specs = keras.tree.flatten(getattr(data, "element_spec", None))
    if ragged := [spec for spec in specs if hasattr(spec, "ragged_rank")]:
        raise ValueError(
            "All images of a batch have one size. "
            f"Received: data of ragged tensors, {ragged[0]}. Use batches of one image, or "
            "padded_batch(size, padding_values=(0.0, 255)), with labels of the type uint8."
        )
    if any(spec is not None and spec.shape.rank is None for spec in specs):
        raise ValueError(
            "The number of axes of images and labels must be known. "
            f"Received: data of {data.element_spec}. In data.map, give what numpy_function or "
            "from_generator returned its shape: tf.ensure_shape(images, (None, None, None, 3)), "
            "tf.ensure_shape(labels, (None, None, None))."
        )


def _check_strategy(model: keras.Model) -> None:
    """Refuses the strategy of TensorFlow that Keras cannot train with."""
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
