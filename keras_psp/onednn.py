"""oneDNN, TensorFlow's fast CPU kernels. TensorFlow leaves them off on many processors."""

import functools
import logging
import os
import platform
import sys

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


def switch_on() -> None:
    """Lets TensorFlow use oneDNN, where it is Keras' backend and the user did not decide.

    TensorFlow itself does so on Linux only, and only where the processor has instructions for
    neural networks (VNNI, bfloat16, AMX). It reads the setting once, when Keras imports it.
    """
    if not _is_x86() or VARIABLE in os.environ or "tensorflow" in sys.modules:
        return
    os.environ[VARIABLE] = "1"
    import keras

    if keras.backend.backend() != "tensorflow":
        del os.environ[VARIABLE]


@functools.cache
def say_if_off() -> None:
    """Warns, once, if TensorFlow works without oneDNN because it was imported before us."""
    import keras

    from keras_psp.keras_internals import uses_onednn

    if not _is_x86() or VARIABLE in os.environ or keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if uses_onednn() is False and not tf.config.get_visible_devices("GPU"):
        logging.getLogger("keras_psp").warning(
            "TensorFlow works without oneDNN here, and training takes 1.3 to 2.5 times as long. "
            f"Import keras_psp before keras and tensorflow, or set {VARIABLE}=1 before Python "
            f"starts. {VARIABLE}=0 changes nothing and hides this line."
        )


def _is_x86() -> bool:
    # On others most builds of TensorFlow have no oneDNN, and nothing was measured.
    return platform.machine().lower() in ("x86_64", "amd64")
