"""A run folder: complete, resumed exactly after any kill, safe from NaN, and loaded again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import RunFolder, load_run
from keras_psp.atomic import read_table
from keras_psp.callbacks.run_folder import find_scores
from keras_psp.labels import ClassList
from keras_psp.metrics import MeanIoU
from keras_psp.optimizers import SGD, adamw
from tests.conftest import draw_nothing
from tests.tiny import Tiny, data

pytestmark = pytest.mark.usefixtures("no_pictures")

ABC = ClassList(["a", "b", "c"])
EPOCHS, STEPS = 3, 2
LOCK = {".lock", ".lock_holder"}
FILES = {
    "best.weights.h5",
    "checkpoint.weights.h5",
    "config.json",
    "curves.png",
    "history.csv",
    "per_class.csv",
    "per_class.png",
    "samples.png",
}


def begin(folder, settings=None, model=None, **kwargs):
    """A model, compiled, and the folder of its run."""
    model = Tiny(dropout=0.1) if model is None else model
    # Nothing here depends on how a step is compiled, which takes longer than all the steps.
    model.compile(SGD(), run_eagerly=keras.backend.backend() == "tensorflow")
    kwargs.setdefault("validation_data", [data(5, seed=1)])
    return model, RunFolder(folder, classes=ABC, settings=settings, num_samples=1, **kwargs)


def train(model, run, epochs=EPOCHS, callbacks=(), **kwargs):
    # Not shuffled: a resumed run must arrive at the very same weights.
    options = {"batch_size": 2, "verbose": 0, "shuffle": False, "validation_batch_size": 5}
    options["validation_data"] = data(5, seed=1)
    callbacks = [run, *callbacks]
    return model.fit(*data(2 * STEPS), epochs=epochs, callbacks=callbacks, **options, **kwargs)


def rows(file):
    return [{k: v and float(v) for k, v in row.items()} for row in read_table(file)]


def state(model):
    variables = [*model.weights, *model.optimizer.variables]
    return {v.path: keras.ops.convert_to_numpy(v).copy() for v in variables}


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(state[path], value, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What kills would have left of `whole`: copies of its folder, each before a file was there."""
    return []


@pytest.fixture(scope="module")
def whole(tmp_path_factory, killed):
    """An uninterrupted run: its folder, its history, the model's state after it."""
    place = tmp_path_factory.mktemp("runs")
    replace = os.replace

    def copy(source, target):
        killed.append(shutil.copytree(Path(target).parent, place / f"killed {len(killed)}"))
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", copy)
        draw_nothing(patch)
        model, run = begin(place / "a" / "whole", settings={"seed": 3})
        train(model, run)
    return run.folder, rows(run.folder / "history.csv"), state(model)


def test_everything_of_a_run_lies_in_its_folder(whole):
    folder, history, final = whole
    assert {file.name for file in folder.iterdir()} == FILES | LOCK
    assert [row["epoch"] for row in history] == list(range(EPOCHS))
    scores = {"mean_iou", "mean_accuracy", "pixel_accuracy", "loss"}
    assert set(history[0]) == {"epoch", "learning_rate", *scores, *(f"val_{s}" for s in scores)}
    # At the end of each epoch.
    expected = [0.01 * (1 - epoch / EPOCHS) ** 0.9 for epoch in range(1, EPOCHS + 1)]
    np.testing.assert_allclose([row["learning_rate"] for row in history], expected, rtol=1e-5)

    config = json.loads((folder / "config.json").read_text())
    assert config["settings"] == {"seed": 3}
    assert config["initial_weights"] == "random values"
    assert config["classes"]["names"] == ["a", "b", "c"]
    assert config["versions"] == {"keras": keras.__version__, "backend": keras.backend.backend()}
    keras.models.model_from_json(json.dumps(config["model"]))

    # The table is the last validation's, the best weights those of the best validation.
    model = Tiny()
    keras_psp.load_weights(model, folder / "checkpoint.weights.h5")
    assert_same({w.path: final[w.path] for w in model.weights}, weights(model))
    scores = evaluate(model)
    table = read_table(folder / "per_class.csv")
    assert [row["class"] for row in table] == ["a", "b", "c"]
    np.testing.assert_allclose(np.mean([float(r["iou"]) for r in table]), scores["mean_iou"])
    np.testing.assert_allclose(history[-1]["val_mean_iou"], scores["mean_iou"], rtol=1e-6)
    keras_psp.load_weights(model, folder / "best.weights.h5")
    best = evaluate(model)["mean_iou"]
    np.testing.assert_allclose(best, max(row["val_mean_iou"] for row in history), rtol=1e-6)


def evaluate(model):
    model.compile(run_eagerly=True)
    return model.evaluate(*data(5, seed=1), return_dict=True, verbose=0)


def weights(model):
    return {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}


RUN = """
import time
import keras
import pytest
from tests.callbacks.test_run_folder import EPOCHS, begin, train
from tests.conftest import draw_nothing
draw_nothing(pytest.MonkeyPatch())
model, run = begin(FOLDER, settings={"seed": 3})
slow = keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: time.sleep(0.15),
    # However late the kill comes, where the machine is busy.
    on_epoch_begin=lambda epoch, logs: time.sleep(600 * (epoch == EPOCHS - 1)),
)
train(model, run, callbacks=[slow])
"""


def test_a_killed_run_resumes_to_the_same_end(whole, tmp_path, capsys):
    folder = tmp_path / "run"
    script = RUN.replace("FOLDER", repr(str(folder)))
    child = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    try:
        # In the second epoch, wherever that is.
        history = folder / "history.csv"
        while not history.exists():
            assert child.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.6))
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL
    done = len(rows(history))
    assert 1 <= done < EPOCHS

    (folder / ".partial-killed").mkdir()
    (folder / ".partial-killed" / "checkpoint.weights.h5").write_bytes(b"half of")
    model, run = begin(folder, settings={"seed": 3})
    first = train(model, run).epoch[0]
    assert first in (done - 1, done)  # the table is written just before the checkpoint
    assert (f"Going on after epoch {first} of the run" in capsys.readouterr().out) == (first > 0)
    assert_same(state(model), whole[2])
    assert int(model.optimizer.iterations) == EPOCHS * STEPS
    history = rows(history)
    assert [row["epoch"] for row in history] == list(range(EPOCHS))
    for row, expected in zip(history, whole[1], strict=True):
        assert row == pytest.approx(expected, rel=1e-5)


def test_a_complete_run_says_how_to_go_on(whole, tmp_path, capsys):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    model, run = begin(folder, settings={"seed": 3})
    history = train(model, run).history
    said = capsys.readouterr().out
    assert f"is complete after epoch {EPOCHS}. To go on, train with more epochs, such as 6" in said
    assert history["loss"] == pytest.approx([row["loss"] for row in whole[1]], rel=1e-5)
    assert_same(state(model), whole[2])


def test_cut_off_at_any_file_it_resumes_exactly(whole, killed):
    before_the_first_checkpoint = killed[3]
    names = {file.name for file in before_the_first_checkpoint.iterdir()} - LOCK
    assert {name for name in names if not name.startswith(".partial-")} == {"config.json"}
    # At every file of the last epoch, after which no other one writes what is missing.
    of_an_epoch = len(FILES) - 1
    assert len(killed) == 4 + EPOCHS * of_an_epoch
    trained = []
    for folder in (before_the_first_checkpoint, *killed[-of_an_epoch:]):
        model, run = begin(folder, settings={"seed": 3})
        trained.append(train(model, run).epoch)
        assert_same(state(model), whole[2])
        for file in ("history.csv", "per_class.csv"):
            # To the fifth place.
            assert rounded(folder / file) == rounded(whole[0] / file), folder
        model.load_weights(folder / "best.weights.h5")
        best = weights(model)
        model.load_weights(whole[0] / "best.weights.h5")
        assert_same(best, weights(model))
        assert {f.name for f in folder.iterdir() if not f.name.startswith(".")} == FILES
    # The epoch counts with its checkpoint, which is the third of its files.
    assert trained == [[0, 1, 2], *[[2]] * 3, *[[]] * 4]


def rounded(file):
    def number(text):
        try:
            return f"{float(text):.4e}"
        except ValueError:
            return text

    return [[number(cell) for cell in line.split(",")] for line in file.read_text().splitlines()]


def test_order_and_views_go_on_too(tmp_path):
    def fit(folder, epochs, validation=False):
        # As in a process of its own: nothing remembers how often the data was seen.
        scenes = keras_psp.load_street_scenes("train", (12, 16), 2, num_images=4, augment="flip")
        model = Tiny(num_classes=11)
        # At one rate, which does not tell how long the run is.
        model.compile(SGD(0.01), run_eagerly=keras.backend.backend() == "tensorflow")
        options = {"validation_data": scenes} if validation else {}
        model.fit(scenes, epochs=epochs, verbose=0, callbacks=[RunFolder(folder)], **options)
        return weights(model)

    expected = fit(tmp_path / "whole", epochs=2)
    for epochs in (1, 2):
        # Nor does it matter who else looks at them.
        resumed = fit(tmp_path / "cut off", epochs, validation=epochs == 1)
    assert_same(resumed, expected)


def test_a_finished_run_is_left_alone(tmp_path):
    model, run = begin(tmp_path)
    train(model, run, epochs=1)
    again, run = begin(tmp_path)
    assert train(again, run, epochs=1).epoch == []
    assert_same(state(again), state(model))
    # The folder's epochs are not those of a later `fit` without it.
    history = again.fit(*data(2), epochs=2, verbose=0)
    assert history.epoch == [0, 1]


def test_a_longer_run_resumes_in_the_longer_schedule(tmp_path):
    model, run = begin(tmp_path)
    train(model, run, epochs=1)
    train(*begin(tmp_path), epochs=3)
    rates = [row["learning_rate"] for row in rows(tmp_path / "history.csv")]
    expected = [0, 0.01 * (1 - 2 / 3) ** 0.9, 0]  # at the end of each epoch
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)


def test_epochs_without_validation(tmp_path):
    model, run = begin(tmp_path)
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: seen.append(
            {f.name: f.read_bytes() for f in tmp_path.iterdir() if f.suffix == ".csv"}
        )
    )
    train(model, run, epochs=5, callbacks=[look], validation_freq=2)
    assert [set(files) for files in seen] == [
        {"history.csv"},
        *[{"history.csv", "per_class.csv"}] * 4,
    ]
    # Tables change when there is something new.
    tables = [files["per_class.csv"] for files in seen[1:]]
    assert tables[0] == tables[1] != tables[2] == tables[3]
    history = rows(tmp_path / "history.csv")
    assert [row["val_loss"] != "" for row in history] == [False, True, False, True, False]
    assert {file.name for file in tmp_path.iterdir()} == FILES | LOCK
    # The best of those that were scored; going on does not forget it.
    scores = [row["val_mean_iou"] or 0 for row in history]
    best = (tmp_path / "best.weights.h5").read_bytes()
    model, run = begin(tmp_path)
    train(model, run, epochs=5, validation_freq=2)
    assert (tmp_path / "best.weights.h5").read_bytes() == best
    model.load_weights(tmp_path / "best.weights.h5")
    score = model.evaluate(*data(5, seed=1), return_dict=True, verbose=0)["mean_iou"]
    np.testing.assert_allclose(score, max(scores), rtol=1e-6)


def test_nothing_but_training(tmp_path):
    # No validation, no score, no picture: what is left is the latest weights.
    model, run = begin(tmp_path, validation_data=None)
    model.compile(SGD(), metrics=None, run_eagerly=True)
    model.fit(*data(2), epochs=2, verbose=0, callbacks=[run])
    assert {file.name for file in tmp_path.iterdir()} - LOCK == {
        name for name in FILES if not name.startswith(("per_class", "samples"))
    }
    again = Tiny()
    keras_psp.load_weights(again, tmp_path / "best.weights.h5")
    assert_same(weights(again), weights(model))


@pytest.mark.parametrize("when", ["in the loss", "in the last weights"])
def test_nan_leaves_the_last_good_weights(tmp_path, when):
    model, run = begin(tmp_path)
    good = []

    class Poison(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            good[:] = [state(self.model), (tmp_path / "checkpoint.weights.h5").read_bytes()]

        def on_train_batch_begin(self, batch, logs=None):
            if when == "in the loss" and good and batch == 1:
                self.model.head.bias.assign([0.0, np.nan, 0.0])

        def on_train_batch_end(self, batch, logs=None):
            if when == "in the last weights" and good and batch == STEPS - 1:
                self.model.auxiliary_head.bias.assign([0.0, np.inf, 0.0])

    def without_run(variables):  # Of the schedule: that run is over.
        return {path: value for path, value in variables.items() if path != "SGD/run"}

    received = {
        "in the loss": r"loss=nan in step 2",
        "in the last weights": r"1 weights that are not, the first of them auxiliary_head/bias,",
    }
    with pytest.raises(
        FloatingPointError,
        match=rf"Received: {received[when]} in epoch 2\. The weights after epoch 1 were put back; "
        rf"they lie in {tmp_path}/checkpoint\.weights\.h5\. Lower the learning rate",
    ):
        train(model, run, callbacks=[Poison()])
    assert_same(without_run(state(model)), without_run(good[0]))
    assert (tmp_path / "checkpoint.weights.h5").read_bytes() == good[1]
    assert len(rows(tmp_path / "history.csv")) == 1


def test_nan_at_once_leaves_the_initial_weights(tmp_path):
    model, run = begin(tmp_path)
    before = weights(model)
    before = {path: value.copy() for path, value in before.items()}
    images, labels = data(2)
    images[0, 0, 0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"in epoch 1\. The weights after epoch 0 were"):
        model.fit(images, labels, verbose=0, callbacks=[run])
    assert_same(weights(model), before)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"settings": {"seed": 4}},
            r"where the settings changed \(seed: 3 → 4\)\. Take ",
        ),
        ({"settings": {}}, r"where the settings changed \(seed: 3 → None\)"),
        (
            {"model": {"auxiliary_weight": 0.2}},
            r"where the model changed \(auxiliary_weight: 0\.4 → 0\.2\)",
        ),
    ],
)
def test_a_folder_of_another_run(whole, change, message):
    change = {"settings": {"seed": 3}, "model": {}} | change
    model, run = begin(whole[0], change["settings"], Tiny(dropout=0.1, **change["model"]))
    before = {path: value.copy() for path, value in weights(model).items()}
    with pytest.raises(ValueError, match=rf"Received: folder='{whole[0]}', {message}"):
        train(model, run)
    assert_same(weights(model), before)


def test_a_run_that_scales_losses(tmp_path):
    def begin(optimizer):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = Tiny()
        finally:
            keras.config.set_dtype_policy("float32")
        model.compile(optimizer, run_eagerly=keras.backend.backend() == "tensorflow")
        return model, RunFolder(tmp_path, classes=ABC)

    for epochs in (1, 2):
        model, run = begin(adamw())
        train(model, run, epochs=epochs)
    assert [row["learning_rate"] for row in rows(tmp_path / "history.csv")] == [0, 0]
    # As many as `load_run` makes, else it would load none of them.
    names = [variable.name for variable in model.optimizer.variables]
    assert names.count("step_counter") == names.count("dynamic_scale") == 1
    model, run = begin(SGD())
    message = r"\(optimizer: LossScaleOptimizer of AdamW → LossScaleOptimizer of SGD\)"
    with pytest.raises(ValueError, match=message):
        train(model, run, epochs=3)


@pytest.mark.parametrize(
    "name, content",
    [
        ("config.json", '{"name": "of somebody else"}'),
        ("config.json", "[1]"),
        ("config.json", '{"model": '),
        ("checkpoint.weights.h5", "of a run whose config.json was lost"),
    ],
)
def test_a_folder_of_something_else(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    model, run = begin(tmp_path)
    with pytest.raises(ValueError, match=r"a folder of its own\..*config\.json cannot be"):
        train(model, run)
    assert (tmp_path / name).read_text() == content
    assert len(list(tmp_path.iterdir())) == 1


def test_a_backbone_built_again_is_the_same(tmp_path):
    def build(filters=4):
        image = keras.Input((None, None, 3))
        features = keras.layers.Rescaling(1 / 255)(image)
        features = keras.layers.Conv2D(filters, 3, 2, padding="same")(features)
        stages = [features, keras.layers.Conv2D(8, 3, 2, padding="same")(features)]
        return keras_psp.PSPNet(keras.Model(image, stages), num_classes=3, bins=(1,))

    for epochs in (1, 2):
        model = build()
        model.compile(run_eagerly=True)
        run = RunFolder(tmp_path, classes=ABC)
        history = model.fit(*data(1), epochs=epochs, callbacks=[run], verbose=0)
    assert history.epoch == [1]
    with pytest.raises(ValueError, match=r"the model changed \(backbone is another one\)"):
        train(build(filters=5), run, epochs=3)


def test_unavailable_pretrained_weights_do_not_prevent_resuming(whole):
    model, run = begin(whole[0], {"seed": 3})
    model.initial_weights = "random values (no network)"
    train(model, run)
    assert model.initial_weights == "random values"


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"folder that can be written to\. Received: folder='.*/runs'"
    ):
        RunFolder(tmp_path / "file" / "runs")


def test_the_data_or_their_number_name_the_classes(tmp_path):
    model = Tiny(num_classes=11)
    model.compile(SGD(), run_eagerly=keras.backend.backend() == "tensorflow")
    scenes = keras_psp.load_street_scenes("val", (12, 16), 2, num_images=2)
    named = RunFolder(tmp_path / "named", validation_data=scenes)
    unnamed = RunFolder(tmp_path / "unnamed", validation_data=[data(1, num_classes=11)])
    model.fit(*data(2), verbose=0, callbacks=[unnamed, named])
    model.fit(scenes, verbose=0, callbacks=[RunFolder(tmp_path / "named by fit")])
    for folder in ("named", "named by fit"):
        classes = load_run(tmp_path / folder).classes
        assert classes.names[:2] == ("Building", "Tree")
        assert classes.colors == tuple(scenes.class_colors)
    assert load_run(tmp_path / "unnamed").classes.names[:2] == ("class 0", "class 1")


def test_classes_of_another_model(tmp_path):
    model, _ = begin(tmp_path)
    with pytest.raises(ValueError, match="Received: num_classes=3, data of 2 classes"):
        train(model, RunFolder(tmp_path, classes=ClassList(["a", "b"])))


def test_scores_are_found_where_there_are_any():
    model = Tiny()
    assert find_scores(model) is None
    model.compile(metrics=["accuracy", MeanIoU(3)], run_eagerly=True)
    model.evaluate(*data(1), verbose=0)
    assert isinstance(find_scores(model), MeanIoU)


# Loading a run ----------------------------------------------------------------------------------


def train_to(model, folder, targets):
    """One epoch of one step toward each of the targets, of which the first scores best."""

    class Target(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([np.full((1, 1, 3, 3), targets[epoch], "float32")])
            logs["val_mean_iou"] = 1.0 - epoch / 10

    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    zeros = np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4), "int32")
    run = RunFolder(folder, classes=ABC, settings={"image_size": [4, 4]})
    model.fit(*zeros, epochs=len(targets), callbacks=[Target(), run], verbose=0)


def test_runs_are_loaded_with_best_or_last_weights(tmp_path):
    image = keras.Input((None, None, 3))
    head = keras.layers.Conv2D(3, 1, use_bias=False, name="head")
    train_to(keras.Model(image, head(image)), tmp_path / "run", [3.0, 4.0])
    run = load_run(tmp_path / "run")
    assert (run.model.get_weights()[0] == 3).all()
    assert run.classes.names == ("a", "b", "c")
    assert run.settings == {"image_size": [4, 4]}
    assert (load_run(tmp_path / "run", "last").model.get_weights()[0] == 4).all()
    with pytest.raises(ValueError, match=r"Received: weights='lost'\. Did you mean 'last'"):
        load_run(tmp_path / "run", "lost")


def test_a_run_of_another_version_says_so(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    config["model"]["class_name"] = config["model"]["registered_name"] = "SegmentationScores"
    (folder / "config.json").write_text(json.dumps(config))
    message = r"another version .*Could not locate .*PSPNet\(…, weights='.*best\.weights\.h5'\)"
    with pytest.raises(ValueError, match=message):
        load_run(folder)
    keras_psp.load_weights(Tiny(), folder)


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds config\.json.*has no config\.json"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has no best\.weights\.h5: its first finished"):
        load_run(tmp_path)


# Other backends ---------------------------------------------------------------------------------


class StopInTheSecondEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_works_on_every_backend(tmp_path):
    model, run = begin(tmp_path / "whole")
    train(model, run, epochs=2)
    scores = model.evaluate(*data(5, seed=1), return_dict=True, verbose=0)
    iou = find_scores(model).per_class()
    np.testing.assert_allclose(np.mean(iou), scores["mean_iou"], rtol=1e-6)
    table = [float(row["iou"]) for row in read_table(run.folder / "per_class.csv")]
    np.testing.assert_allclose(table, iou)

    killed, run = begin(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        train(killed, run, epochs=2, callbacks=[StopInTheSecondEpoch()])
    resumed, run = begin(tmp_path / "killed")
    assert train(resumed, run, epochs=2).epoch == [1]
    assert_same(state(resumed), state(model))

    before = state(resumed)
    images, labels = data(2)
    images[0] = np.nan
    with pytest.raises(FloatingPointError):
        resumed.fit(images, labels, epochs=3, verbose=0, callbacks=[run])
    assert_same(state(resumed), before)
