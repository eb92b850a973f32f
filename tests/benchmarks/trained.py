"""Networks that were trained on the same data: what they reach, every seed, and what each costs.

    for model in fcn32s fcn16s fcn8s segnet frontend dilation8 pspnet; do for seed in 1 2; do
        keras-psp train --data camvid --data-dir CamVid --model $model --backbone-weights none \\
            --image-size 120 160 --epochs 40 --seed $seed --run runs/$model-seed$seed
        keras-psp evaluate runs/$model-seed$seed --short-side 120
    done; done
    python tests/benchmarks/trained.py runs/* --picture networks.png --json trained.json

The runs' folders are named NAME-seedN. Scores are those of `keras-psp evaluate`, by the labels' own
size; thin classes are those of CamVid's that are a few pixels wide. Each network is measured in a
process of its own, on the images that it was trained on: one in inference, a batch in training.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import contest

THIN = "SignSymbol", "Pedestrian", "Column_Pole"


def make(spec):
    """Inference with one image, and a training step."""
    import numpy as np

    model = network_of(spec["run"])
    model.compile()
    rng = np.random.default_rng(0)
    shape = spec["batch_size"], *spec["image_size"]
    images = rng.uniform(0, 255, (*shape, 3)).astype("float32")
    labels = rng.integers(0, model.num_classes, shape)
    jobs = [
        lambda: model.predict_on_batch(images[:1]) is None,
        lambda: model.train_on_batch(images, labels) is None,
    ]
    for job in jobs:
        job()
    return jobs


def network_of(run):
    """The network of a run, with random values: what it costs does not depend on them."""
    import keras_psp.models  # noqa: F401 (registers the networks)

    import keras

    return keras.saving.deserialize_keras_object(_config(run)["model"])


def _config(run):
    return json.loads(Path(run, "config.json").read_text())


def scores_of(run):
    """The scores that are shown, by name."""
    found = json.loads((run / "evaluation-val-own-size" / "scores.json").read_text())
    thin = [found["per_class"][name] for name in THIN if name in found["per_class"]]
    return {
        "mean IoU": found["mean_iou"],
        "boundary IoU": found["mean_boundary_iou"],
        **({"IoU of thin classes": statistics.mean(thin)} if thin else {}),
        "pixel accuracy": found["pixel_accuracy"],
    }


def costs_of(run, rounds):
    """Parameters, multiply-adds, and what was measured."""
    from keras_psp import analysis

    settings = _config(run)["settings"]
    size = settings["image_size"]
    spec = {name: settings[name] for name in ("image_size", "batch_size")}
    spec |= {"run": str(run), "imports": ["tensorflow"]}
    counted = analysis.count(network_of(run), tuple(size))
    found = {
        "image size": size,
        "parameters": counted.parameters,
        "multiply-adds": counted.multiply_adds,
    }
    with contest.Contender(__file__, spec) as one:
        for job, name in enumerate(("inference", "training")):
            (seconds,), (peak,) = contest.turns([one], rounds, job)
            images = spec["batch_size"] if job else 1
            found |= {f"{name} s/image": statistics.median(seconds) / images}
            found |= {f"{name} MiB": peak}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, named NAME-seedN")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--picture", help="file for a picture of the scores")
    parser.add_argument("--json", help="file for all that was found")
    args = parser.parse_args()
    runs = {}
    for run in args.runs:
        name, mark, _ = run.name.partition("-seed")
        if mark:
            runs.setdefault(name, []).append(run)
    scores = {name: [scores_of(run) for run in seeds] for name, seeds in runs.items()}
    order = sorted(scores, key=lambda n: -statistics.mean(one["mean IoU"] for one in scores[n]))
    scores = {name: scores[name] for name in order}
    costs = {name: costs_of(runs[name][0], args.rounds) for name in order}
    print(contest.machine())
    titles = list(next(iter(scores.values()))[0])
    contest.table(
        [["", *titles]]
        + [
            [name, *(", ".join(f"{one[title]:.3f}" for one in seeds) for title in titles)]
            for name, seeds in scores.items()
        ]
    )
    contest.table(
        [["", "at", "parameters", "G multiply-adds", "s/image", "MiB", "trains s/image", "MiB"]]
        + [
            [
                name,
                "×".join(map(str, one["image size"])),
                f"{one['parameters']:,}",
                f"{one['multiply-adds'] / 1e9:.2f}",
                f"{one['inference s/image']:.3f}",
                f"{one['inference MiB']:.0f}",
                f"{one['training s/image']:.3f}",
                f"{one['training MiB']:.0f}",
            ]
            for name, one in costs.items()
        ]
    )
    contest.write_json(args.json, {"scores": scores, "costs": costs})
    if args.picture:
        from keras_psp import visualization

        print(visualization.points_per_seed(args.picture, scores))


if __name__ == "__main__" and not contest.serve(make):
    sys.exit(main())
