"""How networks train: as fast as the backend can, and by more than they return."""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NoReturn

import keras
from keras import ops

from keras_psp import onednn
from keras_psp.data.each_batch import first_batch, only_tensor, warn_of_small_values
from keras_psp.keras_internals import ModelThatKeepsItsState, writes_hdf5
from keras_psp.models.presets import PresetModel
from keras_psp.warning import warn


def _looks_at_images(method: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a method of a model look at the images of the first batch that it takes."""

    @functools.wraps(method)
    def looking(self, *args, **kwargs):
        self._is_to_look = not self._has_warned
        try:
            return method(self, *args, **kwargs)
        finally:
            if keras.backend.backend() == "jax":
                self.jax_state_sync()  # After an error: Keras does so in `fit` alone.

    return looking


class Model(ModelThatKeepsItsState, PresetModel):
    """A Keras model that trains as fast as the backend can, and warns once of images of 0–1."""

    _is_to_look = _has_warned = False

    fit = _looks_at_images(keras.Model.fit)
    evaluate = _looks_at_images(keras.Model.evaluate)
    predict = _looks_at_images(keras.Model.predict)

    def make_train_function(self, force: bool = False):
        """Makes the step that `fit` and `train_on_batch` take: `keras.Model.make_train_function`.

        Args:
            force: Whether to make it anew.
        """
        onednn.say_if_off()
        optimizer = self.optimizer
        if optimizer is not None and not optimizer.built:
            # If TensorFlow's step built it, every step would ask for each variable if it is there.
            with strategy_scope(self):
                optimizer.build(self.trainable_variables)
        super().make_train_function(force)
        self._look_first("train_function")

    def make_test_function(self, force: bool = False):
        super().make_test_function(force)
        self._look_first("test_function")

    def make_predict_function(self, force: bool = False):
        super().make_predict_function(force)
        self._look_first("predict_function")

    def _look_first(self, name: str) -> None:
        """Puts a function that looks at its images in the place of a step's, for one step.

        Whatever the data are, here they come by: as batches that are ready, on the host.
        """
        if not self._is_to_look:
            return
        self._is_to_look, function = False, getattr(self, name)

        def looking(*args):
            setattr(self, name, function)
            *state, batches = args
            first, batches = first_batch(batches, self.steps_per_execution)
            images = keras.tree.flatten(first)[:1]
            self._has_warned = self._has_warned or any(map(warn_of_small_values, images))
            return function(*state, batches)

        setattr(self, name, looking)

    def save(self, filepath, *args, **kwargs):
        """Saves the model, also as a checkpoint: `keras.Model.save`, to a `.keras` file.

        Args:
            filepath: The file.
            *args: Further arguments of `keras.Model.save`.
            **kwargs: The same.

        Raises:
            ValueError: If it is an HDF5 file, which forgets what the layers are.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            _refuse_hdf5(f"filepath={str(filepath)!r}")
        super().save(filepath, *args, **kwargs)

    def get_config(self):
        check_not_hdf5()
        return super().get_config()


def check_not_hdf5() -> None:
    """Raises a ValueError where `keras.saving.save_model` asks for a configuration that it is about
    to write to an HDF5 file."""
    if writes_hdf5():
        _refuse_hdf5("a filepath that ends in .h5 or .hdf5")


def _refuse_hdf5(received: str) -> NoReturn:
    raise ValueError(
        "A whole model is saved in a .keras file, since an HDF5 file could not be loaded again. "
        f"Received: {received}. Name it *.keras; or save the weights alone: "
        'model.save_weights("model.weights.h5"), and in a checkpoint save_weights_only=True.'
    )


# Not a `Model`, so that a class may be this and a `Classifier`: where two ways lead to a class of
# ours, Keras fails if the first functional model of a process is of that kind.
class ModelWithOwnLoss(keras.Model):
    """A model whose loss sees more than the model returns, such as an auxiliary head.

    `call` returns one output to everybody, in training and inside other models, too. The steps of
    `fit` and `evaluate` ask `loss_and_outputs` in its place. What only the loss sees therefore
    trains where the model itself is fitted, and nowhere else.
    """

    def loss_and_outputs(self, x: Any, y: Any, sample_weight: Any, training: bool) -> tuple:
        """Computes the loss of a batch.

        Args:
            x: The images.
            y: Their labels.
            sample_weight: Weights of the images or labels, or `None`.
            training: Whether the step trains. The layers must be told: here they are called by
                themselves, not by a model that tells them.

        Returns:
            The loss, and the outputs of which `predictions` makes what the metrics see.
        """
        raise NotImplementedError

    def predictions(self, x: Any, outputs: Any) -> Any:
        """Makes what the metrics see of what `loss_and_outputs` returned.

        Args:
            x: The images.
            outputs: The outputs.

        Returns:
            The predictions, as `compute_metrics` gets them.
        """
        return outputs

    # Where Keras builds a loss and metrics by itself, on JAX and PyTorch, and where it updates the
    # metrics on JAX, they get what lies in dictionaries and lists.
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        y, sample_weight = map(only_tensor, (y, sample_weight))
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, only_tensor(y), y_pred, only_tensor(sample_weight))

    def train_step(self, *args):
        """Takes a step on a batch: Keras' own, but for `loss_and_outputs`."""
        if keras.backend.backend() == "jax":
            return super().train_step(*args)  # which calls `compute_loss_and_updates`
        x, y, sample_weight = _unpack(*args)
        if not self.trainable_variables:
            warn("The model does not have any trainable weights.")
            loss, outputs = self.loss_and_outputs(x, y, sample_weight, training=True)
        elif keras.backend.backend() == "tensorflow":
            loss, outputs = self._learn_on_tensorflow(x, y, sample_weight)
        else:
            loss, outputs = self._learn_on_torch(x, y, sample_weight)
        return self._scores(loss, x, y, outputs, sample_weight)

    def test_step(self, *args):
        """Scores a batch: Keras' own, but for `loss_and_outputs`."""
        if keras.backend.backend() == "jax":
            return super().test_step(*args)
        x, y, sample_weight = _unpack(*args)
        loss, outputs = self.loss_and_outputs(x, y, sample_weight, training=False)
        return self._scores(loss, x, y, outputs, sample_weight)

    def _learn_on_tensorflow(self, x, y, sample_weight):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss, outputs = self.loss_and_outputs(x, y, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return loss, outputs

    def _learn_on_torch(self, x, y, sample_weight):
        import torch

        self.zero_grad()
        loss, outputs = self.loss_and_outputs(x, y, sample_weight, training=True)
        self.optimizer.scale_loss(loss).backward()
        variables = self.trainable_variables
        with torch.no_grad():
            self.optimizer.apply([variable.value.grad for variable in variables], variables)
        return loss, outputs

    def _scores(self, loss, x, y, outputs, sample_weight):
        if keras.backend.backend() == "tensorflow":
            # Each replica has its share of the loss.
            loss = loss * self.distribute_strategy.num_replicas_in_sync
        batch = ops.shape(x)[0]
        mean_loss = next(metric for metric in self.metrics if metric.name == "loss")
        mean_loss.update_state(loss, sample_weight=batch)
        predictions = self.predictions(x, ops.stop_gradient(outputs))
        return self.compute_metrics(x, y, predictions, sample_weight)

    def compute_loss_and_updates(
        self,
        trainable_variables,
        non_trainable_variables,
        metrics_variables,
        x,
        y,
        sample_weight,
        training=False,
        optimizer_variables=None,
    ):
        """Computes the loss on JAX, where a step gets and returns all variables."""
        x, y, sample_weight = map(only_tensor, (x, y, sample_weight))
        state = [
            *zip(self.trainable_variables, trainable_variables, strict=True),
            *zip(self.non_trainable_variables, non_trainable_variables, strict=True),
            *zip(self.metrics_variables, metrics_variables, strict=True),
        ]
        if training:
            state += zip(self.optimizer.variables, optimizer_variables, strict=True)
        with keras.StatelessScope(state, collect_losses=True) as scope:
            loss, outputs = self.loss_and_outputs(x, y, sample_weight, training)
            scaled = self.optimizer.scale_loss(loss) if training else loss
            predictions = self.predictions(x, ops.stop_gradient(outputs))
        updates = [
            [scope.get_current_value(variable) for variable in variables]
            for variables in (self.non_trainable_variables, self.metrics_variables)
        ]
        return scaled, (loss, predictions, *updates)


def _unpack(data):
    x, y, sample_weight = map(only_tensor, keras.utils.unpack_x_y_sample_weight(data))
    return ops.convert_to_tensor(x), y, sample_weight


def strategy_scope(model: keras.Model) -> Any:
    """Returns the scope in which a model's variables are made: that of TensorFlow's strategy.

    Args:
        model: The model.
    """
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    return model.distribute_strategy.scope()
