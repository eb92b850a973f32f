"""The options that all loaders share: shown by `help`, checked by name, chosen for each split."""

import inspect

import pytest

import keras_psp
from keras_psp.data import LoadingOptions

LOADERS = keras_psp.load_camvid, keras_psp.load_folder, keras_psp.load_street_scenes
SHARED = {
    "augment": "auto",
    "crop_size": None,
    "shuffle": "auto",
    "seed": 0,
    "cache": "auto",
    "drop_remainder": "auto",
    "antialias": "auto",
    "centered_on": (),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_help_shows_every_option_of_a_loader(loader):
    parameters = inspect.signature(loader).parameters
    assert "options" not in parameters
    assert parameters["batch_size"].default == 8
    assert {name: parameters[name].default for name in SHARED} == SHARED
    for name in SHARED.keys() - {"augment"}:
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"`{name}`" in loader.__doc__ or name == "antialias"


def test_an_unknown_option_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"loading option='agument'\. Did you mean 'augment'"):
        keras_psp.load_street_scenes("val", agument=None)
    with pytest.raises(ValueError, match=r"Received: loading option='merging'"):
        keras_psp.load_street_scenes("val", merging="segnet")


def test_auto_is_chosen_for_the_split():
    train, val = (LoadingOptions().for_split(split) for split in ("train", "val"))
    assert (train.augment, train.shuffle, train.drop_remainder) == ("authors", True, True)
    assert (val.augment, val.shuffle, val.drop_remainder) == (None, False, False)
    own = LoadingOptions(augment=None, shuffle=False, drop_remainder=False)
    assert own.for_split("train") == own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"a whole number of at least 1\. Received: batch_size=0"),
        (
            {"image_size": 240},
            "image_size must be None or 2 values, each .*Received: image_size=240",
        ),
        ({"crop_size": (3, -1)}, r"Received: crop_size=\(3, -1\)"),
        ({"centered_on": "Car"}, r"Received: centered_on='Car'. Pass \['Car'\]"),
    ],
)
def test_values_must_make_sense(options, message):
    with pytest.raises(ValueError, match=message):
        LoadingOptions(**options)
