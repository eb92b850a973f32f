"""The paper's optimizer: SGD with L2, faster heads, and polynomial decay over the run."""

import copy
import math
import numbers
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_psp.checked import checked
from keras_psp.keras_internals import index_of, learning_rate_of

# These layers of our segmentation models start from random values also where their backbone has
# seen ImageNet, and then learn ten times as fast.
HEADS = (
    "pyramid_pooling",
    "head",
    "auxiliary_head",
    "decoder",
    "score_pool4",
    "score_pool3",
)


@keras.saving.register_keras_serializable("keras_psp")
@checked(power=(0, 100))
class PolynomialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Decays the learning rate to 0 over the whole run: base · (1 − step/total)^power.

    Only `fit` knows how long a run is. Where `total_steps` is `None`, a segmentation model of this
    package fills it in when its `fit` begins, also with an optimizer of Keras:
    `keras.optimizers.AdamW(keras_psp.optimizers.PolynomialDecay(1e-3))`. Outside of such a run, as
    in `train_on_batch`, the rate is `base`.

    `compile` makes the length a variable of the optimizer, so that every `fit` uses the same
    compiled step. A file that is written during a run holds the length, too. It is valid until the
    next `fit` or `train_on_batch`.

    Args:
        base: Learning rate of the first step.
        power: Exponent.
        total_steps: Steps of the run; `None` lets every `fit` fill in its own.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5.1, "poly".

    Example:

    ```python
    import keras_psp

    rate = keras_psp.optimizers.PolynomialDecay(0.01, total_steps=100)
    print([round(float(rate(step)), 4) for step in (0, 50, 90, 100)])
    ```

    ```text
    [0.01, 0.0054, 0.0013, 0.0]
    ```
    """

    def __init__(self, base: float = 0.01, power: float = 0.9, total_steps: int | None = None):
        self.base = base
        self.power = power
        self.total_steps = total_steps
        # First step, number of steps, and the rate of the first one.
        self._run: Any = (0, math.inf if total_steps is None else total_steps, base)

    def of(self, optimizer) -> "PolynomialDecay":
        """Returns this schedule, with the length of the run as a variable of the optimizer.

        A compiled step reads the length there, so a run of another length can use the same step.

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
                "The length of the run must become a variable of the optimizer before `build` adds "
                f"others, whose order files keep. Received: optimizer={optimizer.name}, which is "
                "built. Make another one with this schedule, and compile before you build it."
            )
        # A copy, because a schedule may be given to several optimizers.
        schedule = copy.copy(self)
        if run is None:
            options = {"dtype": "float32", "aggregation": "only_first_replica", "name": "run"}
            run = optimizer.add_variable((3,), **options)
        schedule._run = run
        schedule.end_run()
        return schedule

    def begin_run(self, first_step: int, total_steps: float) -> None:
        """Lets the rate decay from the optimizer's step `first_step` on, for `total_steps`.

        It does nothing after `keep`.
        """
        if not self.is_kept:
            self._run.assign([first_step, total_steps, self.base])

    def keep(self, rate: float) -> None:
        """Sets the rate, which no run changes any more."""
        # Less than no steps: a file that holds the variable tells it, too.
        self._run.assign([0, -math.inf, rate])

    @property
    def is_kept(self) -> bool:
        """Whether the rate was set by `keep`."""
        return float(self._run[1]) < 0

    def end_run(self) -> None:
        """Leaves the run that began last: the rate is `base`."""
        self.begin_run(first_step=0, total_steps=math.inf)

    def __call__(self, step):
        first_step, total_steps, base = (self._run[i] for i in range(3))
        progress = (ops.cast(step, "float32") - first_step) / total_steps
        return base * ops.power(1.0 - ops.clip(progress, 0.0, 1.0), self.power)

    def get_config(self):
        return {"base": self.base, "power": self.power, "total_steps": self.total_steps}


@keras.saving.register_keras_serializable("keras_psp")
@checked
class SGD(keras.optimizers.SGD):
    """Stochastic gradient descent as PSPNet was trained with.

    It takes the arguments of `keras.optimizers.SGD`, and two more: `l2` and
    `learning_rate_multipliers`. The defaults of learning rate and momentum differ. Where the rate
    changes during a run, the steps do, too: as in PyTorch, the rate multiplies the momentum that
    was gathered, while in Keras' SGD each gradient keeps the rate of its own step.

    Args:
        learning_rate: A float, or a schedule; `None` is `PolynomialDecay(0.01)`. A number that is
            assigned to the attribute `learning_rate` takes the schedule's place for good.
        momentum: Momentum, 0–1.
        nesterov: Whether to apply Nesterov momentum.
        weight_decay: Keras' own, the decoupled one: each step makes a weight smaller by this share,
            times the learning rate.
        l2: Adds `l2` · weight to the gradient of every weight: the weight decay of PyTorch's SGD.
        learning_rate_multipliers: Layer name → factor on the learning rate; `None` gives the
            pyramid, the decoder and the heads of our segmentation models ten times the backbone's.
        name: Name of the optimizer.
        **kwargs: The other arguments of `keras.optimizers.SGD`.

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
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float | None = None,
        *,
        l2: float = 1e-4,
        learning_rate_multipliers: Mapping[str, float] | None = None,
        name: str = "SGD",
        **kwargs,
    ):
        learning_rate = PolynomialDecay() if learning_rate is None else learning_rate
        # Keras wants floats, also of whole numbers and of NumPy's.
        learning_rate, momentum = (
            float(rate) if isinstance(rate, numbers.Real) else rate
            for rate in (learning_rate, momentum)
        )
        super().__init__(learning_rate, momentum, nesterov, weight_decay, name=name, **kwargs)
        self.l2 = l2
        given = learning_rate_multipliers
        self.learning_rate_multipliers = dict.fromkeys(HEADS, 10.0) if given is None else {**given}

    @property
    def learning_rate(self):
        """The learning rate now. A number assigned to it takes the place of the schedule for good,
        as `ReduceLROnPlateau` and `LearningRateScheduler` of Keras need it."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, rate):
        schedule = learning_rate_of(self)
        if callable(rate) or not isinstance(schedule, PolynomialDecay):
            keras.optimizers.SGD.learning_rate.fset(self, rate)
            return
        if schedule is not (bound := schedule.of(self)):
            keras.optimizers.SGD.learning_rate.fset(self, bound)
        if not bound.is_kept:
            print(f"The learning rate was set to {float(rate):g}: it no longer decays by itself.")
        bound.keep(float(rate))

    def build(self, variables):
        super().build(variables)
        self._multipliers = [self.multiplier_of(variable) for variable in variables]

    def multiplier_of(self, variable) -> float:
        """Returns a variable's factor on the learning rate: its outermost named layer's, or 1."""
        layers = variable.path.split("/")
        known = self.learning_rate_multipliers
        return next((known[layer] for layer in layers if layer in known), 1.0)

    def update_step(self, gradient, variable, learning_rate):
        index = index_of(self, variable)
        rate = ops.multiply(ops.cast(learning_rate, variable.dtype), self._multipliers[index])
        gradient = ops.cast(gradient, variable.dtype)
        if self.momentum and keras.backend.backend() == "tensorflow":
            self._fused_update(gradient, variable, self.momentums[index].value, rate)
            return
        step = ops.add(gradient, ops.multiply(variable, self.l2))
        if self.momentum:
            velocity = ops.add(ops.multiply(self.momentums[index], self.momentum), step)
            self.assign(self.momentums[index], velocity)
            step = (
                ops.add(step, ops.multiply(velocity, self.momentum)) if self.nesterov else velocity
            )
        self.assign_sub(variable, ops.multiply(rate, step))

    def _fused_update(self, gradient, variable, velocity, rate):
        # The same while reading memory once, without copies as large as the weights. TensorFlow
        # would start early with what need not wait for the gradient, and keep such a copy.
        import tensorflow as tf

        with tf.control_dependencies([gradient]):
            step = gradient + self.l2 * tf.convert_to_tensor(variable)
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=velocity.handle,
            lr=rate,
            grad=step,
            momentum=tf.cast(self.momentum, step.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self):
        own = {"l2": self.l2, "learning_rate_multipliers": self.learning_rate_multipliers}
        return {**super().get_config(), **own}


@checked
def recipe(learning_rate: float = 0.01, head_multiplier: float = 10.0) -> SGD:
    """Makes the optimizer of the paper's recipe at a rate of one's own.

    Args:
        learning_rate: The rate of the first step, which decays to 0.
        head_multiplier: Factor on the rate of pyramid, decoder and heads.

    Returns:
        `SGD`, with `PolynomialDecay`.

    Example: (what `fit` takes where nothing is trained yet)

    ```python
    import keras_psp

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    model.compile(keras_psp.optimizers.recipe(0.02, head_multiplier=1.0))
    ```
    """
    return SGD(
        PolynomialDecay(learning_rate),
        learning_rate_multipliers=dict.fromkeys(HEADS, head_multiplier),
    )


@checked
def adamw(learning_rate: float = 0.001) -> keras.optimizers.AdamW:
    """Makes an optimizer for networks that begin with random values: AdamW, with polynomial decay.

    Args:
        learning_rate: The rate of the first step, which decays to 0; it is that of all layers.

    Returns:
        `keras.optimizers.AdamW` with `PolynomialDecay` and a weight decay of 0.05. All trainable
        weights decay: kernels, biases, and what batch normalization learns.

    Reference:
        [Loshchilov and Hutter, 2019](https://arxiv.org/abs/1711.05101), algorithm 2.

    Example:

    ```python
    import keras_psp

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    model.compile(keras_psp.optimizers.adamw())
    ```
    """
    return keras.optimizers.AdamW(PolynomialDecay(learning_rate), weight_decay=0.05)
