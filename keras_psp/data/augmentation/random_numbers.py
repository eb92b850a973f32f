"""Where layers draw the random numbers of one batch, without a state that threads share."""

import itertools
from typing import Any

import keras

NUMBERS_PER_VIEW = 6
"""How many random numbers a `RandomView` draws for an image."""


class BatchNumbers(keras.random.SeedGenerator):
    """Stands in for a layer's seed generator: draws the random numbers of one batch.

    Keras' own generators are variables, and parallel threads would race for them.

    Args:
        seed: An integer for this batch alone.
        for_views: The numbers of each `RandomView` in turn, 0–1, `(batch, NUMBERS_PER_VIEW)`, where
            they belong to the images. Otherwise a view draws them from the seed.
    """

    def __init__(self, seed: int, for_views: list[Any]):
        super().__init__(seed)
        self.for_views = for_views

    def next_view(self) -> Any:
        """Returns the numbers of the next `RandomView`, or `None` where none are left."""
        return self.for_views.pop(0) if self.for_views else None


class GraphNumbers(BatchNumbers):
    """The same in a graph of TensorFlow, where the seed is a tensor."""

    def __init__(self, seed: Any, for_views: list[Any]):
        self.seed_of_batch = seed
        self.for_views = for_views
        self.count = itertools.count()

    def next(self, ordered: bool = True) -> Any:
        import tensorflow as tf

        return tf.random.experimental.stateless_fold_in(self.seed_of_batch, next(self.count))
