"""The paper's optimizer: SGD with L2, faster heads, and polynomial decay over the run."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_psp.keras_internals import index_of

# The layers of our segmentation models that are new, so that they learn ten times as fast as a
# backbone that has seen ImageNet.
HEADS = ("pyramid_pooling", "head", "auxiliary_head")


@keras.saving.register_keras_serializable("keras_psp")
class PolynomialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Decays the learning rate to 0 over the whole run: base · (1 − step/total)^power.

    How long a run is only `fit` knows. A segmentation model of this package fills in
    `total_steps` where it is `None` when its `fit` begins, also with an optimizer of Keras:
    `keras.optimizers.AdamW(keras_psp.optimizers.PolynomialDecay(1e-3))`. Outside of such a run,
    as in `train_on_batch`, the rate is `base`.

    `compile` makes the length a variable of the optimizer, so that every `fit` uses the same
    compiled step. A file that is written during a run holds it, too, and counts until the next
    `fit` or `train_on_batch`.

    Args:
        base: Learning rate of the first step.
        power: Exponent.
        total_steps: Steps of the run; `None` if every `fit` is to fill in its own.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5.1, "poly".

    Example:

    ```python
    import numpy as np
    import keras_psp

    rate = keras_psp.optimizers.PolynomialDecay(0.01, total_steps=100)
    assert np.isclose(rate(0), 0.01) and np.isclose(rate(50), 0.01 * 0.5**0.9)
    ```
    """

    def __init__(self, base: float = 0.01, power: float = 0.9, total_steps: int | None = None):
        self.base = base
        self.power = power
        self.total_steps = total_steps
        # First step and number of steps.
        self._run: Any = (0, math.inf if total_steps is None else total_steps)

    def of(self, optimizer) -> "PolynomialDecay":
        """Returns this schedule, with the length of the run as a variable of the optimizer.

        A compiled step reads it there, so that the next run, of another length, can use that step.

        Args:
            optimizer: A Keras optimizer.

        Returns:
            The schedule; itself if it is the optimizer's already.

        Raises:
            ValueError: If the optimizer was built without it.
        """
        run = next((v for v in optimizer.variables if v.name == "run"), None)
        if run is self._run:
            return self
        if run is None and optimizer.built:
            raise ValueError(
                "The length of the run becomes a variable of the optimizer before those that "
                "`build` adds, for files keep them in this order. "
                f"Received: optimizer={optimizer.name}, which is built. "
                "Make another one with this schedule, and compile before you build it."
            )
        # A copy, because a schedule may be given to several optimizers.
        schedule = copy.copy(self)
        if run is None:
            options = {"dtype": "float32", "aggregation": "only_first_replica", "name": "run"}
            run = optimizer.add_variable((2,), **options)
        schedule._run = run
        schedule.end_run()
        return schedule

    def begin_run(self, first_step: int, total_steps: float) -> None:
        """Lets the rate decay from the optimizer's step `first_step` on, for `total_steps`."""
        self._run.assign([first_step, total_steps])

    def end_run(self) -> None:
        """Leaves the run that began last: the rate is `base`."""
        self.begin_run(first_step=0, total_steps=math.inf)

    def __call__(self, step):
        first_step, total_steps = self._run[0], self._run[1]
        progress = (ops.cast(step, "float32") - first_step) / total_steps
        return self.base * ops.power(1.0 - ops.clip(progress, 0.0, 1.0), self.power)

    def get_config(self):
        return {"base": self.base, "power": self.power, "total_steps": self.total_steps}


@keras.saving.register_keras_serializable("keras_psp")
class SGD(keras.optimizers.SGD):
    """Stochastic gradient descent as PSPNet was trained with.

    Args:
        learning_rate: A float, or a schedule; `None` is `PolynomialDecay(0.01)`.
        momentum: Momentum, 0–1.
        l2: Adds `l2` · weight to the gradient of every weight, as weight decay is understood in
            PyTorch's SGD. (Keras' own `weight_decay` is the decoupled one.)
        multipliers: Layer name → factor on the learning rate; `None` gives the pyramid and the
            heads of our segmentation models ten times the backbone's.
        name: Name of the optimizer.
        **kwargs: What `keras.optimizers.SGD` takes.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5.1; the authors' PyTorch
        code for the ten times.

    Example:

    ```python
    import keras_psp

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    model.compile(keras_psp.optimizers.SGD(keras_psp.optimizers.PolynomialDecay(0.02)))
    ```
    """

    def __init__(
        self,
        learning_rate=None,
        momentum: float = 0.9,
        l2: float = 1e-4,
        multipliers: Mapping[str, float] | None = None,
        name: str = "SGD",
        **kwargs,
    ):
        learning_rate = PolynomialDecay() if learning_rate is None else learning_rate
        super().__init__(learning_rate, momentum=momentum, name=name, **kwargs)
        self.l2 = l2
        self.multipliers = dict.fromkeys(HEADS, 10.0) if multipliers is None else dict(multipliers)

    def build(self, variables):
        super().build(variables)
        self._factors = [self._factor(variable) for variable in variables]

    def _factor(self, variable) -> float:
        for layer in variable.path.split("/"):
            if layer in self.multipliers:
                return self.multipliers[layer]
        return 1.0

    def update_step(self, gradient, variable, learning_rate):
        # As in PyTorch, the rate multiplies the momentum that has gathered; in Keras' SGD each
        # gradient keeps the rate of its own step, which differs where the rate changes.
        index = index_of(self, variable)
        rate = ops.multiply(ops.cast(learning_rate, variable.dtype), self._factors[index])
        gradient = ops.cast(gradient, variable.dtype)
        if self.momentum and keras.backend.backend() == "tensorflow":
            self._fused_update(gradient, variable, self.momentums[index].value, rate)
            return
        step = ops.add(gradient, ops.multiply(variable, self.l2))
        if self.momentum:
            gathered = ops.add(ops.multiply(self.momentums[index], self.momentum), step)
            self.assign(self.momentums[index], gathered)
            if self.nesterov:
                gathered = ops.add(step, ops.multiply(gathered, self.momentum))
            step = gathered
        self.assign_sub(variable, ops.multiply(rate, step))

    def _fused_update(self, gradient, variable, gathered, rate):
        # The same in one pass over memory, and without copies as large as the weights: of what does
        # not wait for the gradient, TensorFlow would make one when the step begins, and keep it.
        import tensorflow as tf

        with tf.control_dependencies([gradient]):
            step = gradient + self.l2 * tf.convert_to_tensor(variable)
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=gathered.handle,
            lr=rate,
            grad=step,
            momentum=tf.cast(self.momentum, step.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self):
        return {**super().get_config(), "l2": self.l2, "multipliers": self.multipliers}
