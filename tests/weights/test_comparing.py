"""One message for tensors that are missing, unexpected or of another shape."""

import re

import pytest

from keras_psp.weights.comparing import Tensor, check_same_tensors

FITS = {"a": Tensor("a", "a", (3,))}


def refusal(found, wanted):
    with pytest.raises(ValueError) as error:
        check_same_tensors("weights='x.npz' for net", FITS | found, FITS | wanted)
    return str(error.value)


def test_the_same_tensors_are_accepted():
    check_same_tensors("weights='x.npz' for net", FITS, dict(FITS))


def test_the_message_has_one_of_each_kind_first():
    here = {name: Tensor(f"{name}/kernel", name, (2, 2)) for name in ("b", "c", "d", "e")}
    there = {name: Tensor(f"{name}.weight", name, (2, 1)) for name in ("b", "f", "g")}
    assert re.fullmatch(
        r"Every tensor of a file must fit the model. Received: weights='x.npz' for net, where "
        r"b.weight is \(2, 1\) in the file, b/kernel \(2, 2\) in the model; "
        r"f.weight of the file has no place in the model; "
        r"c/kernel of the model is not in the file; and 3 more. "
        r"Build the model that the file was saved from.",
        refusal(there, here),
    )


@pytest.mark.parametrize(
    "layers, repair",
    [
        (["predictions", "auxiliary_4a/predictions", "head/conv2", "head"], "or pass fresh_head="),
        (["predictions", "fc1", "pyramid_pooling/level1_conv"], "pass it as backbone_weights=."),
        (["predictions", "stage1_block1/conv1"], "Build the model that the file was saved from"),
    ],
)
def test_the_repair_depends_on_the_layers(layers, repair):
    missing = {layer: Tensor(f"{layer}/kernel", layer, (1,)) for layer in layers}
    assert repair in refusal({}, missing)
