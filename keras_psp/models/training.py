"""How networks train: as fast as the backend can, and by more than they return."""

import warnings
from contextlib import nullcontext
from typing import Any

import keras
from keras import ops

from keras_psp import onednn


class Model(keras.Model):
    """A Keras model that trains as fast as the backend can."""

    def make_train_function(self, force: bool = False):
        """Makes the step that `fit` and `train_on_batch` take: `keras.Model.make_train_function`.

        Args:
            force: Whether to make it anew.

        Returns:
            The function.
        """
        onednn.say_if_off()
        optimizer = self.optimizer
        if optimizer is not None and not optimizer.built:
            # If TensorFlow's step built it, every step would ask for each variable if it is there.
            with strategy_scope(self):
                optimizer.build(self.trainable_variables)
        return super().make_train_function(force)


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

    def train_step(self, *args):
        """Takes a step on a batch: Keras' own, but for `loss_and_outputs`."""
        if keras.backend.backend() == "jax":
            return super().train_step(*args)  # which calls `compute_loss_and_updates`
        x, y, sample_weight = _unpack(*args)
        if not self.trainable_variables:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
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
        batch = ops.shape(keras.tree.flatten(x)[0])[0]
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
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return keras.tree.map_structure(ops.convert_to_tensor, x), y, sample_weight


def strategy_scope(model: keras.Model) -> Any:
    """Returns the scope in which a model's variables are made: that of TensorFlow's strategy.

    Args:
        model: The model.
    """
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    return model.distribute_strategy.scope()
