"""What the tests of weights share: zeros where nobody looks, and ResNets that are small."""

import dataclasses

import pytest

from keras_psp.models import RESNETS
from keras_psp.weights import PRESETS
from tests.models.conftest import zeros_first  # noqa: F401

FILTERS, BLOCKS = 8, (1, 1, 2, 2)


@pytest.fixture(scope="module", autouse=True)
def small_resnets():
    """An eighth of the channels, and not more blocks than tell the first from the others.

    The names of tensors are the same, and so is the way from a file to a variable.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, row in list(RESNETS.items()):
            patch.setitem(RESNETS, name, dataclasses.replace(row, filters=FILTERS, blocks=BLOCKS))
        yield


def publish(patch, name, url, digest):
    """Lets the file of a preset lie elsewhere, and be another."""
    row = PRESETS[name]
    file = row.file._replace(url=url, digest=digest)
    patch.setitem(PRESETS, name, dataclasses.replace(row, file=file))
