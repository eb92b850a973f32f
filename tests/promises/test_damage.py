"""A run folder with a damaged file is resumed and loaded as it was, or refused by a message."""

import json
import shutil

import keras
import numpy as np
import pytest

from keras_psp import PSPNet, load_run, load_weights
from keras_psp.labels import ClassList
from tests.callbacks.test_run_folder import EPOCHS, assert_same, begin, rows, state, train

pytestmark = pytest.mark.usefixtures("no_pictures")

SETTINGS = {"seed": 3}
TABLES = ["history.csv", "per_class.csv", "curves.png", "per_class.png", "samples.png"]
TRUTHS = ["config.json", "checkpoint.weights.h5", "best.weights.h5"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs of three, and the state of one that was never interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        from tests.conftest import draw_nothing

        draw_nothing(patch)
        folder = tmp_path_factory.mktemp("whole")
        train(*begin(folder / "all", settings=SETTINGS))
        model, run = begin(folder / "three", settings=SETTINGS)

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == EPOCHS - 1:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(model, run, callbacks=[Stop()])
        other, run = begin(folder / "all", settings=SETTINGS)
        train(other, run)
    return folder / "three", state(other)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    """Another number in the middle: of a weight, a letter, a digit."""
    content = bytearray(file.read_bytes())
    place = content.find(b"0.", len(content) // 2) + 2 if file.suffix == ".json" else 0
    content[place or len(content) // 2] ^= 0x40
    file.write_bytes(bytes(content))


def replace(file):
    file.write_text('{"something": "else"}')


def remove(file):
    file.unlink()


def double(file):
    file.write_bytes(2 * file.read_bytes())


def folder_instead(file):
    file.unlink()
    file.mkdir()


def a_row_less(file):
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


def half_a_row(file):
    file.write_text(file.read_text()[:-9])


DAMAGES = truncate, empty, flip, replace, remove, double, folder_instead


@pytest.mark.parametrize("damage", [*DAMAGES[:-1], a_row_less, half_a_row])
@pytest.mark.parametrize("name", TABLES)
def test_what_is_made_of_the_checkpoint_is_made_again(whole, tmp_path, name, damage):
    if damage in (a_row_less, half_a_row) and not name.endswith(".csv"):
        return
    folder, expected = whole
    folder = shutil.copytree(folder, tmp_path / "run")
    damage(folder / name)
    model, run = begin(folder, settings=SETTINGS)
    assert train(model, run).epoch == [EPOCHS - 1]
    assert_same(state(model), expected)
    assert [row["epoch"] for row in rows(folder / "history.csv")] == list(range(EPOCHS))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", TRUTHS)
def test_what_cannot_be_made_again_is_named(whole, tmp_path, name, damage):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    damage(folder / name)
    model, run = begin(folder, settings=SETTINGS)
    if refusal := said(lambda: train(model, run)):
        assert name in refusal, refusal
        assert "Received: " in refusal, refusal
    else:
        assert_same(state(model), whole[1])

    damaged = shutil.copytree(whole[0], tmp_path / "again")
    damage(damaged / name)
    weights = "last" if name == "checkpoint.weights.h5" else "best"
    if refusal := said(lambda: load_run(damaged, weights)):
        assert name in refusal, refusal
        assert "Received: " in refusal, refusal


def said(action):
    """The message of an error that users are to see; `None` where there was no error."""
    try:
        action()
    except (ValueError, OSError) as error:
        return str(error)
    return None


def test_a_changed_number_of_a_weight_is_noticed(whole, tmp_path):
    import h5py

    folder = shutil.copytree(whole[0], tmp_path / "run")
    for name in ("checkpoint.weights.h5", "best.weights.h5"):
        with h5py.File(folder / name, "a") as file:
            numbers = file["layers/functional/layers/conv2d/vars/0"]
            numbers[0, 0, 0, 0] += 1e-3
    for path in (folder / "checkpoint.weights.h5", folder):
        with pytest.raises(ValueError, match=r"are those that were written\. Received: path=.*h5'"):
            load_weights(begin(tmp_path / "new")[0], path)
    model, run = begin(folder, settings=SETTINGS)
    with pytest.raises(ValueError, match=r"are those that were written\. Received: path=.*check"):
        train(model, run)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": {"names": ["a", "b"], "colors": None}},
        {"classes": {"names": ["a", "a", "c"], "colors": None}},
        {"classes": {"names": "abc"}},
        {"classes": 5},
        {"model": 5},
        {"model": {}},
        {"settings": []},
        {"settings": "text"},
    ],
)
def test_a_config_that_cannot_be(whole, tmp_path, change):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=r"Received: .*(config\.json'|classes)"):
        load_run(folder)


def test_another_optimizer_is_noticed(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    model, run = begin(folder, settings=SETTINGS)
    model.compile(keras.optimizers.Adam(), run_eagerly=True)
    with pytest.raises(ValueError, match=r"the run changed \(optimizer: SGD → Adam\)"):
        train(model, run)


def test_names_of_the_classes_may_be_lost(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "classes": None}))
    assert load_run(folder).classes == ClassList(["class 0", "class 1", "class 2"])


def test_a_preset_of_half_a_file(tmp_path):
    model = PSPNet("resnet18", num_classes=2, backbone_weights=None, auxiliary_weight=0)
    folder = model.save_to_preset(tmp_path / "preset")
    np.testing.assert_array_equal(
        PSPNet.from_preset(folder).weights[0].numpy(), model.weights[0].numpy()
    )
    truncate(folder / "model.weights.h5")
    with pytest.raises(ValueError, match=r"Received: path='.*model\.weights\.h5', which does not"):
        PSPNet.from_preset(folder)


def test_a_checkpoint_without_history_is_not_resumed(whole, tmp_path):
    import h5py

    folder = shutil.copytree(whole[0], tmp_path / "run")
    with h5py.File(folder / "checkpoint.weights.h5", "a") as file:
        del file["run"]
        del file.attrs["checksum"]
    model, run = begin(folder, settings=SETTINGS)
    with pytest.raises(ValueError, match=r"history in its checkpoint.*older versions.*can be the"):
        train(model, run)
