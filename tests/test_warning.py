"""Warnings name the line of the user's program."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp.warning import warn
from tests.tiny import Tiny


def line_of(records):
    (record,) = (one for one in records if one.category is UserWarning)
    return record.filename, record.lineno


def here(offset):
    frame = inspect.currentframe().f_back
    return frame.f_code.co_filename, frame.f_lineno + offset


def test_a_decorated_function_of_the_package_is_passed(tmp_path):
    model = Tiny(3)
    model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
    file = tmp_path / "broken.weights.h5"
    model.save_weights(file)
    with pytest.warns(UserWarning, match="finite numbers") as records:
        keras_psp.load_weights(model, file)
    assert line_of(records) == here(-1)


@pytest.mark.parametrize("eagerly", [True, False])
def test_keras_and_its_backend_are_passed(eagerly):
    model = Tiny(3)
    model.compile(run_eagerly=eagerly, metrics=None)
    images, labels = np.full((2, 16, 16, 3), 0.5, "float32"), np.zeros((2, 16, 16), "int32")
    with pytest.warns(UserWarning, match="divided by 255") as records:
        model.fit(images, labels, verbose=0)
    assert line_of(records) == here(-1)


def test_without_the_package_in_between_it_is_the_caller():
    with pytest.warns(UserWarning, match="^so$") as records:
        warn("so")
    assert line_of(records) == here(-1)


def test_a_thread_has_no_line_of_the_user():
    with pytest.warns(UserWarning, match="^so$") as records, ThreadPoolExecutor(1) as pool:
        pool.submit(warn, "so").result()
    assert line_of(records)[0] == "sys"


def test_a_program_that_is_the_package_has_no_other_line(monkeypatch):
    monkeypatch.setattr("keras_psp.warning._PASSED", (__name__.partition(".")[0],))
    with pytest.warns(UserWarning, match="^so$"):
        keras.tree.map_structure(warn, "so")
