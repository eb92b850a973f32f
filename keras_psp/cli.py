"""The command line, `keras-psp`; `keras-psp --help` lists its commands.

Every command is a few calls of the package, which a program can make as well. The commands'
descriptions and arguments stand in `keras_psp.arguments`.
"""

import argparse
import contextlib
import dataclasses
import functools
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_psp import losses, optimizers, visualization
from keras_psp.analysis.costs import format_table
from keras_psp.arguments import parse
from keras_psp.atomic import check_writable, write_whole
from keras_psp.callbacks import Run, RunFolder, load_run
from keras_psp.data import check_data
from keras_psp.data.street_scenes.loading import find_scenes
from keras_psp.evaluation import Evaluation, compare, evaluate
from keras_psp.experiments.cifar10 import load_cifar10
from keras_psp.experiments.degradation import run_degradation
from keras_psp.experiments.ladder import run_ladder
from keras_psp.experiments.papers import googlenet_table, resnet_table, vgg_table
from keras_psp.experiments.patches import cut_patches
from keras_psp.inference import Views, export, segment, segment_video
from keras_psp.inference.images import MAX_PIXELS, as_pixels, find_files, no_image
from keras_psp.inference.views import find_views
from keras_psp.labels import class_weights, numbered_classes
from keras_psp.models import PSPNet, SegmentationModel, model_from_checkpoint
from keras_psp.models.networks import NETWORKS
from keras_psp.rates import RANDOM, rates_for
from keras_psp.settings import (
    OWN_DATA,
    check_options,
    class_names,
    data_settings,
    load_data,
    network_arguments,
    run_settings,
)
from keras_psp.untrusted import open_keras_archive
from keras_psp.weights.checkpoints import variant_of
from keras_psp.weights.keras_files import is_keras_file, save_8_bit_weights
from keras_psp.weights.published import IN_THE_PACKAGE, PRESETS
from keras_psp.weights.runs import UNSEEN, find_run

_WHERE = """
Everything lies in {folder}:
  evaluation-val/report.html    scores, errors, the worst and the best images on one page
  evaluation-val/per_class.csv  the table above; also scores.json, samples.png, …
  curves.png, history.csv       losses and scores of every epoch
  best.weights.h5, config.json  the model; in Python: keras_psp.load_run("{folder}").model

Mean IoU reached: {mean_iou:.3f}. Next: keras-psp predict IMAGE --model {folder}"""


_WRITERS: dict[str, Callable[[keras.Model, Path], Any]] = {
    ".weights.h5": keras.Model.save_weights,
    ".keras": keras.Model.save,
    ".8bit.h5": save_8_bit_weights,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: What follows `keras-psp` on the command line; `None` takes it from there.

    Returns:
        The exit code: 0; 1 if the command found something wrong; 2 if it failed; 130 if it was
        interrupted; 141 if nobody reads its output to the end. If the system ends it by SIGTERM,
        the whole process ends, with 143.
    """
    args = parse(arguments)
    with (
        warnings.catch_warnings(),
        _ended_by_the_system(args.command),
        _no_interrupt_gets_lost(args.command),
        _dtype_policy(args),
    ):
        warnings.showwarning = lambda message, *_, **__: print(f"Note: {message}", file=sys.stderr)
        try:
            code = FUNCTIONS[args.command](args) or 0
            print(end="", flush=True)
            return code
        except KeyboardInterrupt:
            _say(f"\nkeras-psp: interrupted{_again(args.command)}")
            return 130
        except BrokenPipeError:  # As in `keras-psp tables | head`.
            # Python writes once more, at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if again := _again(args.command):
                _say(f"keras-psp: nobody reads its output{again}")
            return 141
        except Exception as error:
            if args.traceback:
                raise
            _say(f"keras-psp: {_message(error)}")
            return 2


def _say(message: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # Ctrl-C ends `tee`, too.
        print(message, file=sys.stderr)


@contextlib.contextmanager
def _dtype_policy(args: argparse.Namespace) -> Iterator[None]:
    """Makes layers compute as a command asks, if it does."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(getattr(args, "dtype_policy", None) or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


RESUMED = ("train", "degradation", "ladder")
"""Commands that go on where they stopped."""


@contextlib.contextmanager
def _ended_by_the_system(command: str) -> Iterator[None]:
    """Ends the process with a message when it gets SIGTERM, which Kaggle, Slurm and Docker send."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread gets signals.
        return

    # At once: an exception would get lost where Python cannot pass it on, as in a `__del__`.
    before = signal.signal(signal.SIGTERM, lambda *_: _end("ended", command, 143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _no_interrupt_gets_lost(command: str) -> Iterator[None]:
    """Ends the process by Ctrl-C also where Python cannot pass its exception on."""
    before = sys.unraisablehook

    def look(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            _end("interrupted", command, 130)
        before(unraisable)

    sys.unraisablehook = look
    try:
        yield
    finally:
        sys.unraisablehook = before


def _end(said: str, command: str, code: int) -> None:
    """Ends the process at once."""
    try:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        # Without a standard error, another file may have its number.
        if sys.__stderr__ is not None:
            os.write(2, f"\nkeras-psp: {said}{_again(command)}\n".encode())
    finally:  # Also where nobody reads that.
        os._exit(code)


def _again(command: str) -> str:
    return ". The same command resumes it" if command in RESUMED else ""


def train(args: argparse.Namespace) -> None:
    settings = run_settings(args)
    name = f"{Path(args.data).name}-{args.model}-{settings['backbone']}"
    folder = Path(args.run or f"runs/{name}")
    check_writable(folder)
    keras.utils.set_random_seed(args.seed)
    augment = None if settings["augment"] == "none" else settings["augment"]
    options = {"augment": augment, "crop_size": args.crop_size}
    if args.centered_on:
        options["centered_on"] = args.centered_on
    if args.street_scenes:
        options["street_scenes"] = args.street_scenes
    train = load_data(settings, "train", shuffle="auto", drop_remainder="auto", **options)
    val = load_data(settings, "val")
    num_classes = len(train.info.classes)
    given = settings["backbone_weights"]
    model = NETWORKS[args.model].build(
        num_classes=num_classes,
        backbone_weights=None if given == "none" else given,
        weights=args.weights,
        fresh_head=args.fresh_head,
        **network_arguments(args),
    )
    if given == "none" and not (args.backbone_weights or args.weights):
        model.initial_weights = f"{RANDOM}, as meant for drawn scenes"
    adamw = args.optimizer == "adamw"
    rates = {"learning_rate": 0.001} if adamw else rates_for(model.initial_weights)
    settings |= {name: rate for name, rate in rates.items() if settings[name] is None}
    run = RunFolder(folder, validation_data=val, settings=settings)
    weights = None
    if settings["class_weights"]:
        label_maps = ((None, label[None]) for label in train.label_maps())
        weights = class_weights(label_maps, num_classes, settings["class_weights"])
    if adamw:
        optimizer: keras.optimizers.Optimizer = optimizers.adamw(settings["learning_rate"])
    else:
        optimizer = optimizers.recipe(settings["learning_rate"], settings["head_multiplier"])
    model.compile(optimizer, losses.SparseCategoricalCrossentropy(class_weights=weights))
    model.fit(
        train,
        validation_data=val,
        validation_freq=args.validation_freq,
        epochs=settings["epochs"],
        callbacks=[run],
    )

    print("The best weights on the validation split:")
    result = _evaluate(load_run(folder), val)
    print(result)
    result.write(folder / "evaluation-val")
    print(_WHERE.format(folder=folder, mean_iou=result.mean_iou))


def evaluate_run(args: argparse.Namespace) -> None:
    run = load_run(args.run, args.weights)
    other = load_run(args.compare, args.weights) if args.compare else None
    names = ("data", "data_dir", "image_size", "classes", "labels")
    changes = {name: value for name in names if (value := getattr(args, name))}
    if args.data:
        changes = dict.fromkeys(OWN_DATA) | changes  # The run's say nothing about other data.
    settings = data_settings(run, "--data", changes)
    check_options(settings["data"], vars(args))
    as_published = bool(_views(args) or args.short_side)
    if as_published:
        settings |= {"image_size": None, "batch_size": 1}
    data = load_data(settings, args.split)
    result = _evaluate(run, data, **_view_options(run, args) if as_published else {})
    print(result)
    comparison = None
    if other:
        baseline = _evaluate(other, data, **_view_options(other, args) if as_published else {})
        comparison = compare(result, baseline, (str(run.folder), str(other.folder)))
        print(comparison)
    name = f"evaluation-{args.split}{'-own-size' * as_published}"
    out = result.write(args.out or run.folder / name, comparison)
    print(f"Scores and pictures lie in {out}; all on one page: {out / 'report.html'}")


def predict(args: argparse.Namespace) -> int:
    images, videos, failures = find_files(args.images)
    name = args.model or IN_THE_PACKAGE
    run = _load_model(name, args.weights)
    options = _view_options(run, args)
    seen = find_views(options["views"]).describe(options["image_size"])
    print(f"{name} ({len(run.classes)} classes) sees {seen}.")
    out = Path(args.out or run.folder / "predictions")
    written: dict[str, Path] = {}

    def write(file: Path) -> None:
        if (other := written.get(file.stem)) is not None:
            raise ValueError(f"Files need different names. Received: {file} after {other}.")
        if file in videos:
            target = out / f"{file.stem}.mp4"
            segment_video(run.model, file, target, classes=run.classes, progress=True, **options)
        else:
            image = as_pixels(file, args.max_pixels or MAX_PIXELS)
            labels = segment(run.model, image, **options)
            label_map = out / "labels" / f"{file.stem}.png"
            visualization.write_image(label_map, labels, run.classes)
            blend = visualization.overlay(image, labels, classes=run.classes)
            visualization.write_image(out / "overlays" / f"{file.stem}.png", blend)
        written[file.stem] = file

    bar = keras.utils.Progbar(len(images), unit_name="image")
    for file in [*images, *videos]:
        try:
            write(file)
        except ValueError as error:
            failures.append(no_image(file) or str(error))
        if file not in videos:
            bar.add(1)
    names = [f"{file.stem}.mp4" for file in written.values() if file in videos]
    if len(names) < len(written):
        names = ["labels/", "overlays/", *names]
    if names:
        visualization.legend(out / "legend.png", run.classes)
        print(f"{', '.join(names)} and legend.png lie in {out}")
    if failures:
        print(f"{len(failures)} of {len(failures) + len(written)} failed:", *failures, sep="\n")
    return 1 if failures else 0


def demo(args: argparse.Namespace) -> None:
    # Of the test split: the network has learned from scenes of the train split.
    *_, scene = find_scenes("test", args.seed)
    image, labels = scene.read((360, 480), "auto")
    run = _load_model(IN_THE_PACKAGE)
    prediction = segment(run.model, image)
    visualization.segmentation_gallery(args.out, [image], [labels], [prediction], run.classes)
    print(f"A drawn street, its true classes, what PSPNet says, and its errors: {args.out}")


def convert(args: argparse.Namespace) -> None:
    out = Path(args.out)
    write = next((write for end, write in _WRITERS.items() if out.name.endswith(end)), None)
    if write is None:
        raise ValueError(
            f"The new file must be a {' or a '.join(_WRITERS)} file. Received: OUT={out}. "
            "Rename it."
        )
    options: dict[str, Any] = {}
    if args.output_stride:
        options["output_stride"] = args.output_stride
    if args.align_corners:
        options["align_corners"] = args.align_corners == "yes"
    if tells_all := Path(args.file).suffix == ".keras" or find_run(args.file) is not None:
        if options or args.backbone or args.num_classes:
            raise ValueError(
                "Models and runs of ours tell what they are. Received: "
                f"FILE={args.file} with options about its network. Leave the options out."
            )
        model = _load_model(args.file).model
        if not hasattr(model, "initial_weights"):
            raise ValueError(
                "Networks of this package are converted. "
                f"Received: FILE={args.file}, which holds another model, such as keras-psp export "
                "writes. Pass what it was made from."
            )
    elif args.backbone:
        model = PSPNet(args.backbone, args.num_classes or 11, weights=args.file, **options)
    elif is_keras_file(Path(args.file)):
        raise ValueError(
            "Weights of ours tell their network by the config.json beside them. "
            f"Received: FILE={args.file} without it. Pass the run folder, or say --backbone, "
            "--num-classes and, if not the default, --output-stride and --align-corners."
        )
    else:
        model = model_from_checkpoint(args.file, **options)
    write_whole(out, functools.partial(write, model))
    print(f"{model.name} ({variant_of(model)}) from {model.initial_weights} lies in {out}")
    unseen = {name: getattr(model, name) for name in UNSEEN if hasattr(model, name)}
    if unseen and not tells_all:
        values = ", ".join(f"{name}={value}" for name, value in unseen.items())
        print(f"It has {values}, which no tensor tells; options change the first two.")


def export_run(args: argparse.Namespace) -> None:
    run = load_run(args.run, args.weights)
    size, batch_size, calibration_data = args.image_size, args.batch_size, None
    if args.quantize == "int8":
        # Such a file is for one size and one number of images.
        settings = data_settings(run, "calibration_data= to keras_psp.export", {"batch_size": 1})
        size = settings["image_size"] = size or settings["image_size"]
        batch_size = batch_size or 1
        calibration_data = load_data(settings, "train", cache=False).take(32)
    path = export(
        run.model,
        args.path,
        args.format,
        image_size=size,
        batch_size=batch_size,
        input_dtype=args.input_dtype,
        classes=args.classes,
        quantize=args.quantize,
        calibration_data=calibration_data,
    )
    output = f"{len(run.classes)} logits" if not args.classes else "the class"
    high, wide = size or ("any height", "any width")
    print(f"{path}: RGB 0–255 of {high} × {wide} in, {output} of each pixel out")


def check(args: argparse.Namespace) -> int:
    options = {"classes": class_names(args.classes), "labels": args.labels}
    report = check_data(args.folder, args.split, **options, progress=True)
    print(report)
    return 0 if report.ok else 1


def tables(args: argparse.Namespace) -> None:
    for table in (googlenet_table, vgg_table, resnet_table):
        print(f"{table()}\n")


def degradation(args: argparse.Namespace) -> None:
    check_options(args.data, vars(args))
    folder = Path(args.run)
    check_writable(folder)
    if args.data == "cifar10":
        train, test = load_cifar10()
    else:
        settings = {"data": args.data, "data_dir": args.data_dir}
        settings |= {"image_size": (360, 480), "batch_size": 1}
        train, test = (
            cut_patches(load_data(settings, split, cache=False), count)
            for split, count in [("train", args.patches), ("val", -(-args.patches // 4))]
        )
    options = {"networks": args.networks, "steps": args.steps, "seeds": args.seeds}
    rows = run_degradation(folder, train, test, **options)
    print(format_table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"Histories, table.csv and curves.png lie in {folder}")


def ladder(args: argparse.Namespace) -> None:
    check_options(args.data, vars(args))
    folder = Path(args.run)
    check_writable(folder)
    settings = vars(args) | {"merging": args.merging or "segnet", "scenes": None}
    ways = args.split_by or (["frame", "drive"] if args.data == "camvid" else ["scenes"])
    load = {way: functools.partial(load_data, settings | {"split_by": way}) for way in ways}
    weights = None if args.backbone_weights == "none" else args.backbone_weights
    names = ("ladder", "rungs", "backbone", "seeds", "epochs", "crop_size")
    options: dict[str, Any] = {name: getattr(args, name) for name in names}
    options["settings"] = {n: settings[n] for n in ("merging", "image_size", "batch_size")}
    rows = run_ladder(folder, load, backbone_weights=weights, **options)
    table = [[f"{v:.3f}" if isinstance(v, float) else v for v in row.values()] for row in rows]
    print(format_table(list(rows[0]), table))
    print(f"The runs, {args.ladder}.csv and {args.ladder}.png lie in {folder}")


FUNCTIONS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "train": train,
    "evaluate": evaluate_run,
    "predict": predict,
    "demo": demo,
    "export": export_run,
    "tables": tables,
    "degradation": degradation,
    "ladder": ladder,
    "convert": convert,
    "data check": check,
}
"""What each command calls; it returns the exit code where that may not be 0."""


def _evaluate(run: Run, data: Any, **options: Any) -> Evaluation:
    return evaluate(run.model, data, classes=run.classes, progress=True, **options)


def _load_model(path: str, weights: str = "best") -> Run:
    """Loads the model of a run, a file, or a preset; where nobody named the classes, they are
    numbered."""
    file = Path(path)
    if path in SegmentationModel.presets or not file.exists():
        model = SegmentationModel.from_preset(path)
    elif file.suffix == ".keras":
        with open_keras_archive(file):  # It is whole, and no larger than it looks.
            model = keras.saving.load_model(file, compile=False)
    else:
        return load_run(file, weights)
    classes = getattr(model, "classes", None) or numbered_classes(model.outputs[0].shape[-1])
    # It learned from larger frames than CamVid's, for the sake of poles and signs.
    settings = {"image_size": min(PRESETS[path].crop)} if path == IN_THE_PACKAGE else {}
    return Run(file.parent, model, classes, settings)


def _views(args: argparse.Namespace) -> Views | None:
    """Returns the views that the options describe, if there are any such options."""
    changes = {
        "window_size": args.windows,
        "stride": args.stride,
        "scales": args.scales and tuple(args.scales),
        "mirror": args.mirror,
    }
    # 0 is a value, which Views refuses.
    changes = {n: value for n, value in changes.items() if value is not None and value is not False}
    if not (changes or args.policy):
        return None
    return dataclasses.replace(find_views(args.policy or "single"), **changes)


def _view_options(run: Run, args: argparse.Namespace) -> dict[str, Any]:
    """Returns how a run's model sees images of their own size."""
    size = args.short_side or args.image_size or run.settings.get("image_size")
    return {"image_size": size, "views": _views(args) or "single"}


def _message(error: Exception) -> str:
    """Returns the message for the user."""
    if isinstance(error, ValueError | OSError | FloatingPointError | ImportError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"There is too little memory ({error}). Use smaller images, batches or scales."
    # Where tf.data reads a file, TensorFlow wraps the error in one of its own.
    if found := re.search(r"DataError: (.*)", str(error)):
        return found[1]
    return (
        f"{type(error).__name__}: {error}\nThis message should be clearer. Please report it, with "
        "what keras-psp --traceback says before the same command."
    )
