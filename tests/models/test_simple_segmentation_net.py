"""The simple baseline."""

import keras
import numpy as np
import pytest

from keras_psp.models import SimpleSegmentationNet


def test_parameters():
    with keras.StatelessScope(initialize_variables=False):
        model = SimpleSegmentationNet(num_classes=11, backbone_weights=None)
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert parameters == 23_534_592 + 2048 * 11 + 11  # of Keras' ResNet50, and the last layer's
    keras.utils.clear_session()


def test_is_features_a_linear_map_and_upsampling(tiny_backbone, randomize, image):
    torch = pytest.importorskip("torch")
    model = SimpleSegmentationNet(tiny_backbone, num_classes=5)
    randomize(model)
    x = image(33, 48)
    outputs = keras.ops.convert_to_numpy(model(x))
    assert outputs.shape == (1, 33, 48, 5)

    trained = keras.models.clone_model(tiny_backbone)
    for layer in trained.layers:
        if layer.weights:
            layer.set_weights(model.get_layer("tiny_backbone").get_layer(layer.name).get_weights())
    features = keras.ops.convert_to_numpy(trained(x))
    assert features.shape[1:3] == (3, 3)
    kernel, bias = model.get_layer("head").get_weights()
    coarse = torch.tensor((features @ kernel[0, 0] + bias).transpose(0, 3, 1, 2)).cpu()
    fine = torch.nn.functional.interpolate(
        coarse, size=(33, 48), mode="bilinear", align_corners=True
    )
    np.testing.assert_allclose(outputs, fine.numpy().transpose(0, 2, 3, 1), atol=1e-4)


def test_trains_saves_and_loads(tiny_backbone, randomize, image, rng, tmp_path):
    model = SimpleSegmentationNet(tiny_backbone, num_classes=5)
    randomize(model)
    x, y = image(33, 40, batch=2), rng.integers(0, 5, (2, 33, 40))
    model.compile(run_eagerly=True)
    history = model.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"][0])
    # The paper's ten times the rate are for what is new.
    factors = {v.path: model.optimizer.multiplier_of(v) for v in model.trainable_variables}
    assert {path for path, factor in factors.items() if factor == 10} == {
        "head/kernel",
        "head/bias",
    }
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, SimpleSegmentationNet)
    outputs, expected = (keras.ops.convert_to_numpy(m(x)) for m in (loaded, model))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
