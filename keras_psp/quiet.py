"""TensorFlow's own log, which the command line keeps from people who did not ask for it."""

import contextlib
import os
from collections.abc import Iterator

from keras_psp import arguments

VARIABLE = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def on_the_command_line() -> Iterator[None]:
    """Silences TensorFlow while it is imported, and later, in the console script alone.

    What concerns the user comes as a Python error, too. Where the user has set TensorFlow's log
    level, all is logged that it lets through.
    """
    if VARIABLE in os.environ or not arguments.is_the_program():
        yield
        return
    os.environ[VARIABLE] = "3"
    # TensorFlow writes the first lines before it has read its level, past Python's sys.stderr.
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
