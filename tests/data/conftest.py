"""What the tests of data need."""

import pytest
import tensorflow as tf


@pytest.fixture
def without_xla(monkeypatch):
    """Leaves views to TensorFlow's own operations: on small images, compiling takes far longer.

    `test_views_do_not_depend_on_xla` compares the two.
    """
    monkeypatch.setattr(tf.test, "is_built_with_xla", lambda: False)
