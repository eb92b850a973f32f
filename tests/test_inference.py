"""Segmenting one image, and rebuilding the model of a run. The model here is worked out by hand:
class 0 where red is strongest, 1 green, 2 blue."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_psp import RunFolder
from keras_psp.classes import ClassList
from keras_psp.inference import load_run, segment

RED, GREEN, BLUE = (200, 10, 30), (20, 220, 30), (5, 10, 90)


@pytest.fixture(scope="module")
def strongest_channel():
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 1, use_bias=False, name="head")(image)
    model = keras.Model(image, logits)
    model.set_weights([np.eye(3, dtype="float32").reshape(1, 1, 3, 3)])
    return model


@pytest.fixture
def halves():
    """The left half red, the right half blue, 20×32, one pixel green."""
    image = np.full((20, 32, 3), RED, "uint8")
    image[:, 16:] = BLUE
    image[3, 5] = GREEN
    return image


def test_every_pixel_gets_its_strongest_class(strongest_channel, halves):
    labels = segment(strongest_channel, halves)
    expected = np.repeat([[0] * 16 + [2] * 16], 20, axis=0)
    expected[3, 5] = 1
    assert labels.dtype == np.uint8
    assert (labels == expected).all()


def test_file_picture_and_arrays_of_any_type_agree(strongest_channel, halves, tmp_path):
    Image.fromarray(halves).save(tmp_path / "halves.png")
    expected = segment(strongest_channel, halves)
    for image in (
        tmp_path / "halves.png",
        str(tmp_path / "halves.png"),
        Image.fromarray(halves),
        halves.astype("float32"),
        halves.astype("int64"),
    ):
        assert (segment(strongest_channel, image) == expected).all()


def test_a_working_size_gives_labels_of_the_images_own_size(strongest_channel, halves):
    halves[3, 5] = RED
    labels = segment(strongest_channel, halves, image_size=(5, 8))
    assert labels.shape == (20, 32)
    # Logits are enlarged before the best class is taken. Between the last red and the first blue
    # place, at 13.5 and 17.5, blue wins where 30 + 60 t > 200 - 195 t, from t = 2/3 on: at 16.2.
    assert (labels == np.repeat([[0] * 17 + [2] * 15], 20, axis=0)).all()


def test_what_is_not_rgb_is_an_error(strongest_channel, halves, tmp_path):
    wrong = {
        "grey": halves[..., 0],
        "four": np.concatenate([halves, halves[..., :1]], axis=-1),
        "deep": halves.astype("uint16") * 257,
        "nan": np.full((4, 4, 3), np.nan),
        "negative": halves.astype("float32") - 100,
        "empty": halves[:0],
        "ycbcr": Image.fromarray(halves).convert("YCbCr"),
        "palette": Image.fromarray(halves).convert("P"),
    }
    for image in wrong.values():
        with pytest.raises(ValueError, match=r"must be RGB, 0–255.*Received: image of shape"):
            segment(strongest_channel, image)


@pytest.mark.parametrize(
    "mode, kind", [("L", "greyscale"), ("RGBA", "RGBA"), ("I;16", "16-bit or deeper")]
)
def test_a_file_of_the_wrong_kind_is_named(strongest_channel, tmp_path, mode, kind):
    file = tmp_path / "street.png"
    Image.new(mode, (32, 20)).save(file)
    with pytest.raises(ValueError, match=rf"must be 8-bit RGB.*street\.png, which is {kind}"):
        segment(strongest_channel, file)


def test_a_truncated_file_is_named(strongest_channel, halves, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(halves).save(buffer, "PNG")
    file = tmp_path / "street.png"
    file.write_bytes(buffer.getvalue()[:-40])
    with pytest.raises(ValueError, match=r"must be whole.*street\.png"):
        segment(strongest_channel, file)


def _train(model, folder, targets):
    """One epoch of one step towards each of the targets, of which the first scores best."""

    class Target(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([np.full((1, 1, 3, 3), targets[epoch], "float32")])
            logs["val_mean_iou"] = 1.0 - epoch / 10

    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4), "int32")
    run = RunFolder(folder, classes=ClassList(["a", "b", "c"]), settings={"image_size": [4, 4]})
    model.fit(*data, epochs=len(targets), callbacks=[Target(), run], verbose=0)


def test_a_run_is_loaded_with_its_best_or_its_last_weights(strongest_channel, tmp_path):
    _train(keras.models.clone_model(strongest_channel), tmp_path / "run", [3.0, 4.0])
    run = load_run(tmp_path / "run")
    assert (run.model.get_weights()[0] == 3).all()
    assert run.classes.names == ("a", "b", "c")
    assert run.settings == {"image_size": [4, 4]}
    assert (load_run(tmp_path / "run", "last").model.get_weights()[0] == 4).all()
    with pytest.raises(ValueError, match=r"Received: weights='lost'\. Did you mean 'last'"):
        load_run(tmp_path / "run", "lost")


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds config\.json.*has no config\.json"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has no best\.weights\.h5: its first finished"):
        load_run(tmp_path)
