"""TensorFlow's fast CPU kernels, those of oneDNN, which it leaves off on many processors."""

import functools
import logging
import os
import platform
import sys

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


def switch_on() -> None:
    """Has TensorFlow use oneDNN, unless the user decided, where TensorFlow is Keras' backend.

    TensorFlow by itself does so on Linux only, and only where the processor has instructions for
    neural networks (VNNI, bfloat16, AMX). It looks once, when it is imported, and Keras does that.
    """
    if not _is_x86() or VARIABLE in os.environ or "tensorflow" in sys.modules:
        return
    os.environ[VARIABLE] = "1"
    import keras

    if keras.backend.backend() != "tensorflow":
        del os.environ[VARIABLE]


@functools.cache
def say_if_off() -> None:
    """Says, but once, that TensorFlow works without oneDNN because it was imported before us."""
    import keras

    from keras_psp.keras_internals import uses_onednn

    if not _is_x86() or VARIABLE in os.environ or keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if uses_onednn() is False and not tf.config.get_visible_devices("GPU"):
        logging.getLogger("keras_psp").warning(
            "TensorFlow works without oneDNN here, and training takes 1.3 to 2.5 times as long. "
            f"Import keras_psp before keras and tensorflow, or set {VARIABLE}=1 before Python "
            f"starts; {VARIABLE}=0 leaves all as it is, without this line."
        )


def _is_x86() -> bool:
    # Elsewhere it was not measured, and most builds of TensorFlow have no oneDNN.
    return platform.machine().lower() in ("x86_64", "amd64")
