"""The commands, called as a shell calls them, at the smallest size."""

import contextlib
import csv
import dataclasses
import io
import json
import re
import shutil
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp import cli, visualization
from keras_psp.arguments import DEFAULTS, parse
from keras_psp.atomic import write_table
from keras_psp.cli import main
from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.street_scenes import street_scene
from keras_psp.experiments import degradation, ladder, papers
from keras_psp.inference.views import Views
from keras_psp.models import BACKBONES, SegmentationModel
from keras_psp.settings import network_arguments
from keras_psp.weights import PRESETS
from tests.conftest import draw_nothing
from tests.tiny import Tiny, tiny_backbone

pytestmark = pytest.mark.usefixtures("no_pictures")  # but for `trained`

SMALL_RUN = [
    *("--backbone", "tiny", "--image-size", "33", "48"),
    *("--batch-size", "2", "--epochs", "1"),
]
SMALL = [*SMALL_RUN, "--scenes", "4"]


@pytest.fixture(scope="module", autouse=True)
def tiny_is_a_backbone(all_eagerly):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", tiny_backbone)
        yield


def history_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def run_command(*arguments):
    """Returns exit code, what was printed, and what was complained about."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder, and what the command that made it said."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    with warnings.catch_warnings():
        # What users get to read; the tests' own is "error".
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)
        return folder, run_command("train", *SMALL, "--run", folder)


def test_train_leaves_everything_in_one_named_folder(trained):
    folder, (code, out, _) = trained
    assert code == 0
    assert f"Everything lies in {folder}:" in out
    for name in (
        *("best.weights.h5", "checkpoint.weights.h5", "config.json", "history.csv", "curves.png"),
        *("evaluation-val/report.html", "evaluation-val/per_class.csv"),
    ):
        assert (folder / name).is_file()
    scores = json.loads((folder / "evaluation-val" / "scores.json").read_text())
    assert f"Mean IoU reached: {scores['mean_iou']:.3f}" in out
    (epoch,) = history_of(folder)
    # The same weights on the same split, once by fit and once from their file.
    assert float(epoch["val_mean_iou"]) == pytest.approx(scores["mean_iou"], abs=1e-3)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Returns a function that prepares a run but does not train: settings and complaints."""

    def prepare(*options):
        def stop(folder, validation_data, settings):
            made.update(settings)
            raise ValueError("prepared")

        made = {}
        monkeypatch.setattr(cli, "RunFolder", stop)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            _, _, said = run_command("train", *SMALL_RUN, *options, "--run", tmp_path / "run")
        assert said.endswith("keras-psp: prepared\n")
        return made, said

    return prepare


def test_train_takes_adamw(tmp_path, monkeypatch):
    def compile(model, optimizer, *args, **options):
        used.append(optimizer)
        return own(model, optimizer, *args, **options)

    used, own = [], SegmentationModel.compile
    monkeypatch.setattr(SegmentationModel, "compile", compile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, _, err = run_command("train", *SMALL, "--optimizer", "adamw", "--run", tmp_path)
    assert code == 0, err
    adamw = used[0]
    assert isinstance(adamw, keras.optimizers.AdamW)  # PyTorch has one of its own.
    assert adamw.weight_decay == 0.05
    assert int(adamw.iterations) == 2
    # Outside of the run the rate is what it began with.
    assert float(adamw.learning_rate) == pytest.approx(1e-3)
    settings = json.loads((tmp_path / "config.json").read_text())["settings"]
    assert (settings["optimizer"], settings["learning_rate"]) == ("adamw", 1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--optimizer", "adamv"],
            "An optimizer must be one of 'sgd', 'adamw'. Received: optimizer='adamv'. Did you mean "
            "'adamw'",
        ),
        (["--optimizer", "adamw", "--head-multiplier", "1"], "--head-multiplier 1.0 with"),
    ],
)
def test_optimizers_that_do_not_exist(options, message, tmp_path):
    code, _, err = run_command("train", *options, "--run", tmp_path)
    assert code == 2
    assert message in err


def test_train_centers_crops_on_classes(prepared, monkeypatch):
    def load(settings, split, **options):
        given[split] = options.get("centered_on")
        return cli_load(settings, split, **options)

    given, cli_load = {}, cli.load_data
    monkeypatch.setattr(cli, "load_data", load)
    names = ["SignSymbol", "Column_Pole"]
    settings, _ = prepared("--augment", "flip", "--centered-on", *names)
    assert settings["centered_on"] == given["train"] == names
    assert given["val"] is None


def test_the_rates_suit_what_the_backbone_starts_from(trained, prepared):
    random = json.loads((trained[0] / "config.json").read_text())["settings"]
    again, _ = prepared("--weights", trained[0] / "best.weights.h5")
    given, _ = prepared("--learning-rate", 0.5)
    for settings, expected in [(random, (0.02, 1.0)), (again, (0.01, 10.0)), (given, (0.5, 1.0))]:
        assert (settings["learning_rate"], settings["head_multiplier"]) == expected


def test_a_network_takes_its_own_options(prepared):
    settings, _ = prepared("--model", "fcn8s")
    assert (settings["model"], settings["backbone"], settings["fc_channels"]) == (
        ("fcn8s", "tiny", 1024)
    )
    _, _, said = run_command("train", "--model", "segnet", "--fc-channels", "8", "--recompute")
    assert "Received: --fc-channels, --recompute with --model segnet. Leave" in said
    _, _, said = run_command("train", "--model", "segnte")
    assert "Did you mean 'segnet'" in said


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--scenes", "--validation-freq"])
def test_a_count_of_nothing_is_an_error(option, capsys):
    with pytest.raises(SystemExit):
        main(["train", option, "0"])
    assert f"argument {option}: A count must be 1, 2, … Received: 0." in capsys.readouterr().err


@pytest.fixture(scope="module")
def unweighted(tmp_path_factory):
    """The folder of three epochs with plain loss, every second validated; then interrupted."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("runs") / "unweighted"
    options = ["--epochs", "3", "--validation-freq", "2", "--class-weights", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "evaluate", interrupt)
        draw_nothing(patch)
        return folder, run_command("train", *SMALL, *options, "--run", folder)


def test_an_interrupt_has_its_own_exit_code(unweighted):
    _, (code, _, err) = unweighted
    assert code == 130
    assert err.endswith("\nkeras-psp: interrupted. The same command resumes it\n")


def test_validation_may_be_rarer_than_epochs(unweighted):
    validated = [bool(epoch["val_mean_iou"]) for epoch in history_of(unweighted[0])]
    assert validated == [False, True, False]


def test_class_weights_change_the_loss(trained, unweighted):
    weighted, plain = (float(history_of(folder)[0]["loss"]) for folder, _ in (trained, unweighted))
    # The seed is the same, and so is all else in the first two steps.
    assert abs(weighted - plain) > 0.01


def test_train_says_what_the_network_started_from(trained, prepared):
    _, (_, out, err) = trained
    assert "It had started from random values, as meant for drawn scenes. Views:" in out
    assert err == ""
    _, err = prepared("--backbone", "resnet18", "--backbone-weights", "auto")
    assert "Note: resnet18 starts from random values: resnet18.tv_in1k.safetensors could" in err
    assert "Warning" not in err


@pytest.mark.filterwarnings("default")
def test_the_same_command_again_resumes_the_run(trained):
    folder, (_, first, _) = trained
    code, out, _ = run_command("train", *SMALL, "--backbone-weights", "none", "--run", folder)
    assert code == 0, out
    assert f"The run in {folder} is complete after epoch 1." in out
    assert out[out.index("Mean IoU reached") :] == first[first.index("Mean IoU reached") :]


def test_other_settings_for_one_folder_are_an_error(trained):
    folder, _ = trained
    code, _, err = run_command(
        "train", *SMALL, "--backbone-weights", "auto", "--seed", "7", "--run", folder
    )
    assert code == 2
    assert "where the settings changed (backbone_weights: none → auto, seed: 1 → 7)" in err


def test_evaluate_prints_and_writes_a_table(trained):
    folder, _ = trained
    code, out, _ = run_command("evaluate", folder, "--split", "test", "--weights", "last")
    assert code == 0
    assert "Column_Pole" in out
    with open(folder / "evaluation-test" / "per_class.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 11


def test_evaluate_scores_as_papers_do(trained, tmp_path):
    folder, _ = trained
    options = ["--windows", "24", "--scales", "0.5", "1", "--mirror", "--short-side", "36"]
    code, out, _ = run_command("evaluate", folder, *options)
    assert code == 0, out
    views = "windows of 24×24 (stride 0.67 of them) of images at shorter side 36"
    assert f"{views}, scales 0.5, 1, and mirrored" in out
    scores = json.loads((folder / "evaluation-val-own-size" / "scores.json").read_text())
    # Street scenes are 180×240 of themselves, and one of the four is for validation.
    assert scores["views"].startswith(views)
    assert 0.9 * 180 * 240 < np.sum(scores["confusion_matrix"]) <= 180 * 240
    code, out, _ = run_command("evaluate", folder, "--policy", "multi_scale", "--out", tmp_path)
    assert code == 0, out
    assert "whole images at 33×48, scales 0.5, 0.75, 1, 1.25, 1.5, 1.75, and mirrored" in out
    assert (tmp_path / "report.html").is_file()


def test_evaluate_compares_two_runs(trained, tmp_path):
    folder, _ = trained
    other = shutil.copytree(folder, tmp_path / "other")
    model = keras_psp.load_run(other).model
    model.set_weights([weights[::-1] for weights in model.get_weights()])
    model.save_weights(other / "best.weights.h5")
    options = ["--compare", other, "--windows", "24", "--out", tmp_path]
    code, out, _ = run_command("evaluate", folder, *options)
    assert code == 0, out
    assert "difference  95% interval" in out
    comparison = json.loads((tmp_path / "scores.json").read_text())["comparison"]
    assert comparison["names"] == [str(folder), str(other)]
    first, second = comparison["mean_iou"]
    assert comparison["difference"] == pytest.approx(first - second) != 0
    assert str(other) in (tmp_path / "report.html").read_text()


def test_evaluate_refuses_data_of_other_classes(trained, tmp_path, write_image):
    folder, _ = trained
    write_image(tmp_path / "val/images/a.png", np.zeros((33, 48, 3)))
    write_image(tmp_path / "val/labels/a.png", np.zeros((33, 48)))
    (tmp_path / "classes.txt").write_text("grass\nwater\n")
    code, _, err = run_command("evaluate", folder, "--data", tmp_path)
    assert code == 2
    assert "classes of the data. Received: a model of 11 classes (Building, Tree" in err
    assert "data of 2 classes (grass, water)" in err


def test_predict_survives_a_broken_file_and_names_it(trained, tmp_path):
    folder, _ = trained
    images, out_folder = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number, size in enumerate([(33, 48), (50, 81)]):
        visualization.write_image(images / f"{number}.png", street_scene(number, size)[0])
    (images / "1.jpg").write_bytes((images / "1.png").read_bytes())
    (images / "broken.png").write_bytes((images / "1.png").read_bytes()[:900])
    (images / "broken.txt").write_text("no image")
    other = visualization.write_image(tmp_path / "other.png", street_scene(2, (33, 48))[0])
    paths = images, other, images / "brokn.png", images / "broken.txt"
    code, out, _ = run_command("predict", *paths, "--model", folder, "--out", out_folder)
    assert code == 1
    assert f"{folder} (11 classes) sees whole images at 33×48, scale 1, not mirrored." in out
    assert "4 of 7 failed:" in out
    broken = f"Did you mean '{images / 'broken.png'}'?"
    assert f"must exist. Received: {images / 'brokn.png'}. {broken}" in out
    assert f"Received: {images / 'broken.txt'}, which is no image. {broken}" in out
    assert f"{images / 'broken.png'}, which cannot be read" in out
    assert f"Received: {images / '1.png'} after {images / '1.jpg'}" in out
    for name, size in [("0.png", (48, 33)), ("1.png", (81, 50)), ("other.png", (48, 33))]:
        with Image.open(out_folder / "labels" / name) as labels:
            assert (labels.mode, labels.size) == ("P", size)
            assert {color for _, color in labels.convert("RGB").getcolors()} <= {*CAMVID.colors}
        with Image.open(out_folder / "overlays" / name) as overlay:
            assert (overlay.mode, overlay.size) == ("RGB", size)


def test_predict_takes_the_views_it_is_told(trained, tmp_path):
    folder, _ = trained
    pixels = street_scene(5, (70, 90))[0]
    visualization.write_image(tmp_path / "street.png", pixels)
    options = ["--windows", "33", "--stride", "0.5", "--scales", "0.5", "1", "--mirror"]
    at = tmp_path / "street.png", "--model", folder
    assert run_command("predict", *at, *options)[0] == 0
    expected = keras_psp.segment(
        keras_psp.load_run(folder).model, pixels, (33, 48), Views(33, 0.5, (0.5, 1), True)
    )
    with Image.open(folder / "predictions" / "labels" / "street.png") as labels:
        assert (np.asarray(labels) == expected).all()
    code, _, err = run_command("predict", *at, "--policy", "curse")
    assert code == 2
    assert "Did you mean 'course'?" in err


def test_predict_takes_a_video(trained, tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    folder, _ = trained
    with av.open(str(tmp_path / "street.mov"), "w") as video:
        stream = video.add_stream("h264", rate=10, width=64, height=48)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(street_scene(number, (48, 64))[0])
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    at = "--model", folder, "--out", tmp_path
    code, out, _ = run_command("predict", tmp_path / "street.mov", *at)
    assert code == 0
    assert "street.mp4 and legend.png lie in" in out
    with av.open(str(tmp_path / "street.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 3


def test_predict_takes_a_model_from_a_file(trained, tmp_path):
    folder, _ = trained
    model = keras_psp.load_run(folder).model
    model.save(tmp_path / "street.keras")
    image = street_scene(5, (33, 48))[0]
    visualization.write_image(tmp_path / "street.png", image)
    at = tmp_path / "street.png", "--model", tmp_path / "street.keras"
    code, out, err = run_command("predict", *at)
    assert code == 0, err
    assert "street.keras (11 classes) sees whole images at their own size" in out
    with Image.open(tmp_path / "predictions" / "labels" / "street.png") as labels:
        assert (np.asarray(labels) == keras_psp.segment(model, image)).all()
    code, out, _ = run_command("predict", *at, "--max-pixels", 1000)
    assert code == 1
    assert "at most max_pixels=1,000 pixels" in out


@pytest.fixture
def preset(trained, tmp_path, monkeypatch):
    """The name of the trained network, as if it lay in the package, but for stride 32."""
    weights = shutil.copy(trained[0] / "best.weights.h5", tmp_path / "tiny.weights.h5")
    arguments = {"backbone": "tiny", "num_classes": 11, "output_stride": 32}
    row = PRESETS["pspnet_resnet50_cityscapes"]
    file = row.file._replace(url=str(weights))
    row = dataclasses.replace(row, arguments=arguments, file=file, classes=CAMVID)
    monkeypatch.setitem(PRESETS, "pspnet_tiny_camvid", row)
    return "pspnet_tiny_camvid"


def test_train_builds_the_network_of_a_preset(preset, prepared, tmp_path, write_image):
    def arguments(*options):
        return network_arguments(parse(["train", "--weights", preset, *options]))

    assert arguments() == {"backbone": "tiny", "output_stride": 32}
    assert arguments("--output-stride", "8") == {"backbone": "tiny", "output_stride": 8}
    for name in ("0", "1", "2"):
        write_image(tmp_path / "images" / f"{name}.png", np.zeros((33, 48, 3)))
        write_image(tmp_path / "masks" / f"{name}.png", np.arange(33 * 48).reshape(33, 48) % 2)
    own = ["--data", tmp_path, "--classes", "grass", "water", "--augment", "none"]
    settings, _ = prepared(*own, "--weights", preset, "--fresh-head")
    assert settings["fresh_head"]  # and the weights of eleven classes were loaded


def test_predict_takes_a_preset(preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    visualization.write_image("street.png", street_scene(5, (33, 48))[0])
    code, out, err = run_command("predict", "street.png", "--model", preset)
    assert code == 0, err
    assert "pspnet_tiny_camvid (11 classes) sees whole images at their own size" in out
    with Image.open("predictions/labels/street.png") as labels:
        assert {color for _, color in labels.convert("RGB").getcolors()} <= {*CAMVID.colors}


def test_demo_segments_a_scene_without_a_download(tmp_path):
    code, _, err = run_command("demo", "--out", tmp_path / "demo.png")
    assert code == 0, err
    assert (tmp_path / "demo.png").exists()


@pytest.mark.parametrize(
    "image, model, said",
    [
        ("empty", "run", "must hold images"),
        ("streat.png", "run", "must exist. Received: streat.png. Did you mean 'street.png'?"),
        ("street.png", "rum", "preset='rum'. Did you mean 'run'?"),
        ("street.png", "a.keras", "preset='a.keras'. Did you mean 'b.keras'?"),
    ],
)
def test_predict_names_what_is_missing(image, model, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "run"):
        (tmp_path / folder).mkdir()
    for file in ("street.png", "b.keras"):
        (tmp_path / file).touch()
    code, _, err = run_command("predict", image, "--model", model)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("file", ["", "best.weights.h5"])
def test_a_run_is_converted_as_it_was_trained(trained, tmp_path, file):
    folder, _ = trained
    code, out, err = run_command("convert", folder / file, tmp_path / "street.keras")
    assert (code, err) == (0, "")
    assert "no tensor tells" not in out
    model = keras.saving.load_model(tmp_path / "street.keras")
    assert model.output_stride == 16
    image = street_scene(5, (33, 48))[0][None]
    expected = keras_psp.load_run(folder / file).model.predict(image, verbose=0)
    np.testing.assert_array_equal(model.predict(image, verbose=0), expected)
    code, _, err = run_command("convert", folder / file, tmp_path / "b.keras", "--backbone", "tiny")
    assert code == 2
    assert "Leave the options out" in err


def test_weights_of_no_run_do_not_tell_all(trained, tmp_path):
    weights = shutil.copy(trained[0] / "best.weights.h5", tmp_path / "a.weights.h5")
    code, _, err = run_command("convert", weights, tmp_path / "b.keras")
    assert code == 2
    assert "Pass the run folder, or say --backbone, --num-classes" in err
    options = ["--backbone", "tiny", "--output-stride", "16"]
    code, out, err = run_command("convert", weights, tmp_path / "b.keras", *options)
    assert (code, err) == (0, "")
    assert "output_stride=16, align_corners=True, bins=(1, 2, 3, 6), which no tensor tells" in out


def test_a_model_unlike_the_run_is_warned_of(trained):
    folder, _ = trained
    same = keras_psp.PSPNet("tiny", 11, output_stride=16, weights=folder)
    best = keras_psp.load_run(folder).model
    np.testing.assert_array_equal(same.get_weights()[0], best.get_weights()[0])
    message = (
        r"with output_stride=16, bins=\[1, 2, 3, 6\]\. Received: .*output_stride=8, bins=\[1, 2"
    )
    with pytest.warns(UserWarning, match=message):
        keras_psp.PSPNet("tiny", 11, bins=(1, 2, 3, 4), weights=folder / "best.weights.h5")
    with pytest.raises(ValueError, match=r"is a run's, and holds its config\.json"):
        keras_psp.load_weights(same, folder / "evaluation-val")


def test_export_writes_what_the_ending_says(trained, tmp_path):
    folder, _ = trained
    file = tmp_path / "street.keras"
    options = ["--image-size", "33", "48", "--classes", "--input-dtype", "uint8"]
    code, out, _ = run_command("export", folder, file, *options)
    assert code == 0
    assert f"{file}: RGB 0–255 of 33 × 48 in, the class of each pixel out" in out
    image = street_scene(5, (33, 48))[0]
    labels = keras.saving.load_model(file)(image[None])[0]
    assert np.array_equal(labels, keras_psp.segment(keras_psp.load_run(folder).model, image))
    code, _, err = run_command("export", folder, tmp_path / "street.onyx")
    assert code == 2
    assert "The ending of a path tells the format" in err


@pytest.mark.slow
def test_export_in_eight_bits_calibrates_from_the_run(trained, tmp_path):
    folder, _ = trained
    code, out, err = run_command("export", folder, tmp_path / "a.tflite", "--quantize", "int8")
    assert code == 0, err
    assert "RGB 0–255 of 33 × 48 in, 11 logits of each pixel out" in out
    assert (tmp_path / "a.tflite").stat().st_size < (folder / "best.weights.h5").stat().st_size / 3


@pytest.mark.parametrize(
    "option, name, hint",
    [
        ("--data", "camvit", "Did you mean 'camvid'?"),
        ("--data", "no/such/folder", "'path/of/a/folder'"),
        ("--backbone", "resnet19", "Did you mean 'resnet18"),
        ("--augment", "autors", "Did you mean 'authors'?"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(option, name, hint, tmp_path):
    code, out, err = run_command("train", option, name, "--run", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.startswith("keras-psp: ")
    assert hint in err
    assert not (tmp_path / "run").exists()


def test_an_unwritable_run_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, _, err = run_command("train", *SMALL, "--run", tmp_path / "file" / "run")
    assert code == 2
    assert "needs a folder that can be written to" in err


def test_evaluate_wants_a_run(tmp_path):
    code, _, err = run_command("evaluate", tmp_path)
    assert code == 2
    assert "has no config.json" in err


def test_traceback_shows_where_an_error_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["--traceback", "evaluate", str(tmp_path)])


def test_train_takes_images_and_masks_alone(prepared, tmp_path, write_image):
    for number in range(10):
        write_image(tmp_path / "mine" / "images" / f"{number}.jpg", np.zeros((33, 48, 3)))
        write_image(tmp_path / "mine" / "masks" / f"{number}_mask.png", np.ones((33, 48)))
    own = ["--data", tmp_path / "mine", "--augment", "none", "--labels", "from_1"]
    settings, _ = prepared(*own, "--classes", "road")
    assert (settings["validation_split"], settings["classes"]) == (0.2, ["road"])
    settings, _ = prepared(*own, "--classes", "road", "--validation-split", "0.4")
    assert settings["validation_split"] == 0.4


@pytest.mark.parametrize(
    "command, data, others",
    [
        ("train --labels voc", "street-scenes", "path/of/a/folder"),
        ("train --split-seed 3 --data camvid", "camvid", "path/of/a/folder"),
        ("train --street-scenes 0.1", "street-scenes", "camvid"),
        ("train --split-by drive", "street-scenes", "camvid"),
        ("train --data . --data-dir .", ".", "camvid"),
        ("train --data camvid --scenes 9", "camvid", "street-scenes"),
        ("degradation --data cifar10 --data-dir .", "cifar10", "camvid"),
        ("ladder --data street-scenes --merging mseg", "street-scenes", "camvid"),
        ("ladder --data street-scenes --split-by drive", "street-scenes", "camvid"),
    ],
)
def test_some_options_go_with_some_data(command, data, others, tmp_path):
    code, _, err = run_command(*command.split(), "--run", tmp_path / "run")
    assert code == 2
    assert f" goes with --data {others} only. Received: --data {data}. Leave" in err
    assert not (tmp_path / "run").exists()


def test_data_check_reports_and_sets_the_exit_code(tmp_path, write_image):
    write_image(tmp_path / "train/images/a.png", np.zeros((4, 6, 3)))
    write_image(tmp_path / "train/labels/a.png", np.eye(4, 6))
    code, out, _ = run_command("data", "check", tmp_path, "--classes", "road", "other")
    assert code == 0
    assert out.endswith("Problems: none.\n")
    write_image(tmp_path / "train/labels/a.png", 255 * np.eye(4, 6))
    code, out, _ = run_command("data", "check", tmp_path, "--classes", "road", "other")
    assert code == 1
    assert "Pass labels='binary' if 255 is other" in out
    (tmp_path / "names").write_text("\ufeffroad\nother")
    options = ["--classes", tmp_path / "names", "--labels", "binary"]
    assert run_command("data", "check", tmp_path, *options)[0] == 0
    write_image(tmp_path / "train/labels/a.png", np.full((4, 6), 9))
    code, out, _ = run_command("data", "check", tmp_path, "--classes", "road", "other")
    assert code == 1
    assert "1 × unknown label" in out
    code, _, err = run_command("data", "check", tmp_path)
    assert code == 2
    assert "needs a class list" in err


def test_tables_prints_those_of_three_papers(monkeypatch):
    names = ["googlenet_table", "vgg_table", "resnet_table"]
    for name in names:  # whose text tests/experiments/test_papers.py sees
        assert getattr(cli, name) is getattr(papers, name)
        monkeypatch.setattr(cli, name, lambda name=name: name)
    assert run_command("tables") == (0, "".join(f"{name}\n\n" for name in names), "")


def test_degradation_trains_on_patches_of_scenes(tmp_path, monkeypatch):
    monkeypatch.setitem(DEFAULTS["street-scenes"], "scenes", 24)
    shown = []

    def train(file, variant, seed, train, test, settings):
        shown.append((variant, seed, train, test))
        write_table(file, [{"step": 20, "loss": 1, "train_error": 0.25, "test_error": 0.5}])

    monkeypatch.setattr(degradation, "_train", train)
    options = ["--data", "street-scenes", "--patches", "4", "--steps", "20", "--seeds", "3"]
    options += ["--networks", "plain-20", "ResNet-20", "--run", tmp_path]
    code, out, err = run_command("degradation", *options)
    assert code == 0, err
    assert [(variant, seed) for variant, seed, *_ in shown] == [("plain20", 3), ("resnet20", 3)]
    (images, classes), (_, test_classes) = shown[0][2:]
    assert images.shape == (44, 32, 32, 3)
    assert np.bincount(classes).tolist() == [4] * 11
    assert np.bincount(test_classes).tolist() == [1] * 11
    assert re.search(r"plain-20 .* 0\.25 +0\.5", out)
    assert f"Histories, table.csv and curves.png lie in {tmp_path}" in out
    assert (tmp_path / "curves.png").is_file()


def test_ladder_trains_on_scenes_as_its_options_say(tmp_path, monkeypatch):
    monkeypatch.setitem(DEFAULTS["street-scenes"], "scenes", 4)
    policies = []

    def build(num_classes, backbone, output_stride, auxiliary_weight, **others):
        assert (backbone, others["bins"]) == ("resnet34", ())
        policies.append(keras.config.dtype_policy().name)
        return Tiny(num_classes, auxiliary_weight)

    monkeypatch.setattr(ladder, "PSPNet", build)
    options = ["--data", "street-scenes", "--rungs", "1", "--seeds", "3", "--epochs", "1"]
    options += ["--backbone", "resnet34", "--dtype-policy", "mixed_bfloat16", "--batch-size", "2"]
    options += ["--image-size", "16", "24", "--crop-size", "12", "12", "--run", tmp_path]
    code, out, err = run_command("ladder", *options)
    assert code == 0, err
    assert policies == ["mixed_bfloat16"]
    assert keras.config.dtype_policy().name == "float32"
    assert re.search(r"scenes +baseline +3 +0\.\d{3}", out)
    assert (tmp_path / "parts.png").is_file()
    code, _, err = run_command("ladder", *options, "--image-size", "24", "32")
    assert code == 2
    assert "where the settings changed (image_size: [16, 24] → [24, 32])" in err
