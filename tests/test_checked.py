"""What a signature says of arguments is what they must be."""

import fractions
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from keras_psp.checked import checked


@checked(share=(0, 1))
def take(
    count: int = 1,
    share: float | None = None,
    flag: bool = False,
    text: str = "a",
    several: Sequence[int] = (),
    pair: tuple[int, int] = (1, 1),
    stream: Iterable[object] = (),
    table: Mapping[str, Sequence[int]] | None = None,
    function: Callable[[int], int] = abs,
    anything=None,
    *more: int,
    **others: str,
):
    return True


RIGHT = [
    {"count": np.int64(3)},
    {"share": np.float32(0.5)},
    {"share": fractions.Fraction(1, 3)},
    {"share": 1},
    {"flag": np.True_},
    {"several": [1, 2]},
    {"several": np.array([1, 2])},
    {"pair": [2, 3]},
    {"stream": iter([1])},
    {"table": {"a": (1,)}},
    {"function": int},
    {"anything": object()},
    {"unknown": 5},
]
WRONG = [
    ({"count": 0}, "count must be a whole number of at least 1. Received: count=0. Pass such"),
    ({"count": "3"}, "Received: count='3'. Pass such a value, or leave it out for 1."),
    ({"count": True}, "Received: count=True"),
    ({"count": 2.0}, "Received: count=2.0"),
    ({"count": 10**30}, "Received: count=1000"),
    ({"share": 1.5}, "share must be None or a number from 0 to 1. Received: share=1.5"),
    ({"share": float("nan")}, "Received: share=nan"),
    ({"flag": "no"}, "flag must be True or False. Received: flag='no'"),
    ({"flag": 1}, "Received: flag=1"),
    ({"text": Path("a")}, "text must be text"),
    ({"text": ""}, "Received: text=''"),
    ({"several": 5}, "a list, each a whole number of at least 1. Received: several=5. Pass [5]"),
    ({"several": "12"}, "Received: several='12'"),
    ({"several": [1, "a"]}, "Received: several=[1, 'a']"),
    ({"pair": (1, 2, 3)}, "2 values, each a whole number of at least 1. Received: pair=(1, 2, 3)"),
    ({"stream": "abc"}, "Received: stream='abc'"),
    ({"stream": {}}, "Received: stream={}"),
    ({"table": {"a": 1}}, "a dictionary of text to a list, each a whole number of at least 1"),
    ({"function": 3}, "function must be a function. Received: function=3"),
    ({"several": [*range(1, 1000), "a"]}, "Received: several=[1, 2, 3, 4, 5, 6, ...]. Pass such"),
]


@pytest.mark.parametrize("arguments", RIGHT)
def test_what_fits_is_taken(arguments):
    assert take(**arguments)


@pytest.mark.parametrize("arguments, message", WRONG)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError) as error:
        take(**arguments)
    assert message in str(error.value)
    assert len(str(error.value)) < 300


def test_arguments_count_by_place_too():
    with pytest.raises(ValueError, match="Received: share='a'"):
        take(1, "a")
