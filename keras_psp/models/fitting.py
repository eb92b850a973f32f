"""What `fit` of a segmentation model adds to that of Keras: class weights, schedules, epochs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.keras_internals import learning_rate_of, step_counter
from keras_psp.losses import weight_map
from keras_psp.models.training import strategy_scope
from keras_psp.optimizers import PolynomialDecay


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
        classes = ops.clip(weight_map(labels), 0, self.variable.shape[0] - 1)
        weight = ops.take(self.variable, ops.cast(classes, "int32"))
        return weight if sample_weight is None else weight * weight_map(sample_weight)


def open_schedule(model: keras.Model) -> PolynomialDecay | None:
    """Returns the schedule whose length `fit` fills in, if the model's optimizer has one."""
    optimizer = inner_optimizer(model)
    if optimizer is None:
        return None
    schedule = learning_rate_of(optimizer)
    if not isinstance(schedule, PolynomialDecay) or schedule.total_steps is not None:
        return None
    with strategy_scope(model):
        optimizer.learning_rate = schedule = schedule.of(optimizer)
    return schedule


def inner_optimizer(model: keras.Model) -> Any:
    """Returns a model's optimizer, or the one inside it where it scales losses."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


class BeginSchedule(keras.callbacks.Callback):
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
        step = int(ops.convert_to_numpy(step_counter(inner_optimizer(self.model))))
        self.schedule.begin_run(step - epoch * steps, epochs * steps)
        self.begun = True


class SetEpoch(keras.callbacks.Callback):
    """Tells the data which epoch begins: a run that was cut off goes on with the order and the
    views that would have come."""

    def __init__(self, set_epoch: Callable[[int], None]):
        super().__init__()
        self.set_epoch = set_epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.set_epoch(epoch)


def check_strategy(model: keras.Model) -> None:
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
