"""What Keras and TensorFlow do not offer publicly, and this package needs all the same.

Nothing else in the package touches a name of theirs that begins with an underscore. Each function
says what is missing in public; `tests/test_keras_internals.py` says what changed when Keras does.
"""

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
from keras.src.backend.common import global_state

PATIENCE = 60.0
"""Seconds that a download waits for the next bytes."""


def get_file(*args: Any, **options: Any) -> str:
    """Downloads a file by `keras.utils.get_file`, which alone would wait forever for a server that
    says nothing more."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        return keras.utils.get_file(*args, **options)
    finally:
        socket.setdefaulttimeout(before)


def run_graph(model: keras.Model, inputs: Any, call: Callable[..., Any]) -> Any:
    """Runs a functional or sequential model, with `call` in the place of each operation's own call.

    `keras.models.clone_model` takes such a function, too, but makes a model that hides the tensors
    the function returned.

    Args:
        model: A model with a graph.
        inputs: What goes in, in the structure of the model's inputs.
        call: Gets each operation (a layer, or an operation of `keras.ops`), with its arguments.

    Returns:
        What comes out, in the structure of the model's outputs.
    """
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs[0])
    return model._run_through_graph(inputs, operation_fn=lambda x: x, call_fn=call)


class ModelThatKeepsItsState(keras.Model):
    """A model whose variables outlive an error in a step of `fit`, `evaluate` or `predict` on JAX.

    Keras takes their values away while steps run. `fit` puts back what the last step returned, but
    knows of nothing before the first one, and the others put nothing back: see `jax_state_sync`.
    """

    def _get_jax_state(self, purge_model_variables=False, **kinds):
        state = super()._get_jax_state(**kinds)
        if purge_model_variables:
            # As Keras does it with what a step returns.
            self._jax_state, self._jax_state_synced = dict(zip(kinds, state, strict=True)), False
            self._purge_model_variables(**kinds)
        return state


def layers_in(layer: keras.Layer, recursive: bool = True) -> list[keras.Layer]:
    """Returns the layers that a layer is made of: only models have a public `layers`.

    Args:
        layer: A layer or a model.
        recursive: Whether the layers in these follow, too, each behind the one that it is in.
    """
    return layer._flatten_layers(include_self=False, recursive=recursive)


def add_layers(model: keras.Model, layers: Iterable[keras.Layer]) -> None:
    """Makes layers outside of a functional model's graph its own, so that it trains and saves them.

    Keras before 3.15 overlooks layers that become attributes of a functional model.
    """
    known = {id(layer) for layer in model._layers}
    model._layers.extend(layer for layer in layers if id(layer) not in known)


def compiled_loss(model: keras.Model) -> Callable[..., Any]:
    """Returns the loss of `compile`, a function of labels, predictions and sample weights.

    `model.compute_loss` adds what layers have added (regularization), and `model.loss` is whatever
    was given to `compile`.
    """
    return model._compile_loss


def higher_is_better(metric: keras.Metric) -> None:
    """Tells callbacks such as `EarlyStopping` that more of this metric is better.

    They find the direction of Keras' own metrics in this way; others would need `mode="max"`.
    """
    metric._direction = "up"


def writes_hdf5() -> bool:
    """Whether Keras is writing a whole model to an HDF5 file.

    `keras.saving.save_model` does so without the model's `save`, and asks it for its configuration.
    """
    return bool(global_state.get_global_attribute("use_legacy_config"))


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Lets `fit` begin at an epoch. It asks once, after the callbacks' `on_train_begin`.

    Only the caller of `fit` can give it an `initial_epoch`, and Keras' own `BackupAndRestore` does
    the same as this.

    Args:
        model: The model.
        epoch: The epoch; `None` or 0 leaves it to the argument of `fit`.
    """
    model._initial_epoch = epoch


def learning_rate_of(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns an optimizer's schedule, or its rate as a variable: `learning_rate` is a number."""
    return optimizer._learning_rate


def step_counter(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Returns the number of batches so far, which schedules depend on.

    `iterations` is another number where gradients are accumulated.
    """
    return next(v for v in optimizer.variables if v.name == "iteration")


def trained_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the variables that an optimizer was built for: `variables` are its own."""
    return optimizer._trainable_variables


def index_of(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the place of the variable that `update_step` is given among those it was built for.

    Keras' own optimizers look it up like this. On TensorFlow the variable may be one replica's.
    """
    return optimizer._get_variable_index(variable)


def seed_generator(layer: keras.Layer) -> Any:
    """Returns what a random preprocessing layer draws its numbers from, on the backend in use."""
    return layer._get_seed_generator(layer.backend.name)


@contextlib.contextmanager
def drawing_from(generator: Any, layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Lets those of the layers that draw random numbers draw them from another generator.

    Their public `generator` is not asked where `tf.data` runs them on another backend.
    """
    drawing = [layer for layer in layers if hasattr(layer, "_get_seed_generator")]
    for layer in drawing:
        layer.__dict__["_get_seed_generator"] = lambda backend=None: generator
    try:
        yield
    finally:
        for layer in drawing:
            del layer.__dict__["_get_seed_generator"]


def input_datasets(data: Any) -> Sequence[Any]:
    """Returns the data sets that a `tf.data.Dataset` was made from, by `map`, `take`, `zip`, ….

    Attributes that a data set was given stay behind there. Other data have none.
    """
    inputs = getattr(data, "_inputs", None)
    return inputs() if callable(inputs) else ()


def uses_onednn() -> bool | None:
    """Whether TensorFlow uses oneDNN; `None` where it no longer says so."""
    try:
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:
        return None
    return IsMklEnabled()


def gradient_of(function: Callable[[Any], Any], x: Any) -> Any:
    """Returns the gradient of a function that makes one number of a tensor.

    Keras computes gradients in its training steps only, and those of weights.

    Args:
        function: Tensor → tensor with one number.
        x: The tensor where the gradient is wanted.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(x)
    import torch

    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(x), x)[0]
