"""The ladder: what each part of PSPNet adds to the network before it."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_psp import visualization
from keras_psp.atomic import write_table, write_whole
from keras_psp.callbacks import RunFolder, load_run
from keras_psp.callbacks.run_folder import keep_settings
from keras_psp.choices import check_name
from keras_psp.evaluation import evaluate
from keras_psp.inference import VIEWS
from keras_psp.models import PSPNet

_WHOLE = {
    "output_stride": 8,
    "bins": (1, 2, 3, 6),
    "pooling": "average",
    "auxiliary_weight": 0.4,
    "augment": "authors",
    "views": "single",
}

LADDERS: dict[str, dict[str, dict[str, Any]]] = {
    "parts": {
        "baseline": _WHOLE
        | {"output_stride": 32, "bins": (), "auxiliary_weight": 0, "augment": None},
        "+ augmentation": {"augment": "authors"},
        "+ dilation": {"output_stride": 8},
        "+ pyramid": {"bins": (1, 2, 3, 6)},
        "+ auxiliary loss": {"auxiliary_weight": 0.4},
        "+ windows, mirror, scales": {"views": "windows"},
    },
    "pyramid": {
        "no pyramid": _WHOLE | {"bins": ()},
        "1": {"bins": (1,)},
        "1, 2, 3, 6, largest": {"bins": (1, 2, 3, 6), "pooling": "max"},
        "1, 2, 3, 6, averages": {"pooling": "average"},
    },
    "depth": {
        "ResNet-18": _WHOLE | {"backbone": "resnet18"},
        "ResNet-34": {"backbone": "resnet34"},
        "ResNet-50": {"backbone": "resnet50"},
    },
}
"""Name → rungs. A rung changes what it names, and keeps the rest from the rung before: arguments of
`PSPNet`, the augmentation in training, and the views in scoring."""

_SCORES = ("mean_iou", "mean_boundary_iou", "mean_accuracy", "pixel_accuracy")


def run_ladder(
    folder: str | os.PathLike[str],
    load: Mapping[str, Callable[..., Any]],
    *,
    ladder: str = "parts",
    rungs: Sequence[int] | None = None,
    backbone: str = "resnet18",
    backbone_weights: str | None = None,
    seeds: Sequence[int] = (1, 2),
    epochs: int = 50,
    crop_size: tuple[int, int] | None = (201, 201),
    settings: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Trains and scores every rung of a ladder, with every seed.

    Every training is a run folder. Interrupted, the experiment goes on where it was cut off; rungs
    and ladders that need the same training share it.

    Args:
        folder: Folder for the runs, and for `LADDER.csv` and `LADDER.png`.
        load: Name of a way to split the data → function `load(split, **options)`, such as
            `load_camvid` with its size and batch. It is asked for `"train"`, with the options
            `augment`, `crop_size`, `seed`, `shuffle` and `drop_remainder`, and for `"val"`.
        ladder: A name from `LADDERS`: `"parts"` (the lecture's ablation), `"pyramid"` or `"depth"`.
        rungs: Numbers of the rungs, from 1; by default all.
        backbone: Backbone of the rungs that name none.
        backbone_weights: As in `PSPNet`. The rates are those that `fit` chooses for them.
        seeds: Seeds; each rung is trained once with each of them.
        epochs: Epochs of each training.
        crop_size: `(height, width)` of the crops where images are augmented, and of the windows
            that the last rung sees; `None` for whole images.
        settings: Further facts to record, such as the size of what `load` gives; anything that JSON
            can hold. The experiment goes on only with the same.

    Returns:
        For each split, rung and seed a row: `split`, `rung`, `seed`, `mean_iou`,
        `mean_boundary_iou`, `mean_accuracy` and `pixel_accuracy`, 0–1.

    Raises:
        ValueError: If there is no such ladder or rung, or the folder holds runs with other
            settings.

    Reference:
        [Zhao et al., 2017](https://arxiv.org/abs/1612.01105), section 5.2, tables 1 to 4.

    Example:

    ```python
    import functools
    import keras_psp
    from keras_psp.experiments.ladder import run_ladder

    scenes = functools.partial(
        keras_psp.load_street_scenes, image_size=(40, 48), batch_size=2, num_images=2
    )
    options = {"rungs": [1], "seeds": [1], "epochs": 1, "crop_size": None}
    for row in run_ladder("runs/ladder", {"scenes": scenes}, **options):
        print(f"{row['rung']}: mean IoU {row['mean_iou']:.3f}")
    ```
    """
    folder = Path(folder)
    names = list(LADDERS[check_name("ladder", ladder, LADDERS)])
    chosen = rungs or range(1, len(names) + 1)
    if unknown := [n for n in chosen if not 1 <= n <= len(names)]:
        raise ValueError(
            f"The rungs of ladder {ladder!r} are 1 to {len(names)}. Received: rungs={unknown}. "
            "Choose among them."
        )
    recipe = {
        **(settings or {}),
        "backbone_weights": backbone_weights,
        "epochs": epochs,
        "crop_size": crop_size and tuple(crop_size),
        "dtype_policy": keras.config.dtype_policy().name,
    }
    keep_settings(folder, recipe)
    rows: list[dict[str, Any]] = []
    for split in load:
        rung: dict[str, Any] = {"backbone": backbone}
        for number, (name, changes) in enumerate(LADDERS[ladder].items(), 1):
            rung = rung | changes
            for seed in seeds if number in chosen else ():
                print(f"{ladder}, {split}: {name}, seed {seed}")
                scores = _scores(folder / split, load[split], rung, recipe, seed)
                rows.append({"split": split, "rung": name, "seed": seed, **scores})
                write_table(folder / f"{ladder}.csv", rows)
                _draw(folder / f"{ladder}.png", rows)
    return rows


def _scores(folder: Path, load, rung, recipe, seed: int) -> dict[str, float]:
    """Trains a network, unless that was done before, and scores it."""
    augment, views = rung["augment"], rung["views"]
    network = {name: value for name, value in rung.items() if name not in ("augment", "views")}
    parts = {**network, "augment": augment, "seed": seed}
    run = folder / "_".join(f"{name}-{_word(value)}" for name, value in parts.items())
    scores = run / f"scores-{views}.json"
    if not scores.exists():
        val = load("val", augment=None)
        if not any(run.glob("scores-*.json")):
            _train(run, load, val, network, augment, recipe, seed)
        crop_size = recipe["crop_size"]
        seen = VIEWS["single"]
        if views == "windows":
            seen = dataclasses.replace(VIEWS["multi_scale"], window_size=crop_size)
        result = evaluate(load_run(run).model, val, views=seen, progress=True)
        write_whole(scores, json.dumps({name: getattr(result, name) for name in _SCORES}).encode())
    return json.loads(scores.read_text())


def _word(value: Any) -> str:
    """Writes a setting as a part of a folder's name."""
    return "".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value).lower()


def _train(run: Path, load, val, network, augment, recipe, seed: int) -> None:
    keras.utils.set_random_seed(seed)
    options = {"augment": augment, "seed": seed, "shuffle": True, "drop_remainder": "auto"}
    train = load("train", crop_size=recipe["crop_size"] if augment else None, **options)
    model = PSPNet(
        num_classes=len(train.info.classes),
        backbone_weights=recipe["backbone_weights"],
        **network,
    )
    model.fit(
        train,
        validation_data=val,
        # Ten times in all, and in the end.
        validation_freq=max(recipe["epochs"] // 10, 1),
        epochs=recipe["epochs"],
        callbacks=[RunFolder(run, settings={**recipe, "augment": augment, "seed": seed})],
    )


def _draw(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws every seed as a point, and the ways to split the data side by side."""
    runs: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        panel = runs.setdefault(row["rung"], {}).setdefault(row["seed"], {})
        panel[f"mean IoU, {row['split']}"] = row["mean_iou"]
        panel[f"pixel accuracy, {row['split']}"] = row["pixel_accuracy"]
    visualization.points_per_seed(file, {name: list(of.values()) for name, of in runs.items()})
