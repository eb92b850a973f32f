"""PSPNet against the same network written out in PyTorch."""

import keras
import numpy as np
import pytest

from keras_psp import PSPNet

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", params=["resnet18_deep", "resnet50_deep"])
def twins(request, randomize):
    from tests.models import torch_pspnet

    model = PSPNet(request.param, num_classes=7, backbone_weights=None)
    randomize(model)
    bottleneck = request.param == "resnet50_deep"
    blocks = (3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)
    network = torch_pspnet.PSPNet(blocks, bottleneck, num_classes=7).cpu().eval()
    torch_pspnet.copy_weights(model, network)
    return model, network


@pytest.mark.parametrize("size", [(65, 81), (64, 72)])
def test_same_weights_same_logits(twins, image, size):
    model, network = twins
    x = image(*size)
    with torch.no_grad():
        expected = network(torch.tensor(x.transpose(0, 3, 1, 2)).cpu())
    auxiliary = model.upsample(model.decode_auxiliary(model.features(x)), like=x)
    for ours, theirs in zip([model(x), auxiliary], expected, strict=True):
        theirs = theirs.numpy().transpose(0, 2, 3, 1)
        assert theirs.std() > 0.01
        ours = keras.ops.convert_to_numpy(ours)
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), rtol=0)
