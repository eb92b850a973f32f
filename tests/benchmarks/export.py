"""What becomes of a trained model in other runtimes: size, speed, differences and scores.

    python tests/benchmarks/export.py RUN path/of/CamVid

Exports the model of a run folder for its own image size and batches of one, and lets every runtime
see the same validation frames, in turns, with as many threads as there are cores. RUN may also be
the name of a backbone, which then has random weights: scores mean nothing, times and differences
do. Prints a Markdown table.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import keras_psp
from keras_psp.models import BACKBONES

THREADS = os.cpu_count() or 1


def run_keras(model):
    return model.predict_on_batch


def run_saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda image: loaded.serve(image)["logits"].numpy()


def run_onnx(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options)
    return lambda image: session.run(["logits"], {"image": image})[0]


def run_openvino(path, **config):
    import openvino

    config = {"INFERENCE_NUM_THREADS": THREADS, **config}
    compiled = openvino.Core().compile_model(path, "CPU", config)
    return lambda image: compiled(image)["logits"]


def run_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return lambda image: runner(image=image)["logits"]


def size_of(path):
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    files = list(path.rglob("*")) if path.is_dir() else files
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20


def runtimes(model, folder, image_size, calibration):
    """Yields name, size in MiB and a function from images to logits."""
    fixed = {"image_size": image_size, "batch_size": 1}
    int8 = {"quantize": "int8", "calibration_data": calibration}
    fused = keras_psp.fuse(model, **fixed)
    yield "Keras", None, run_keras(model)
    yield "Keras, fused", None, run_keras(fused)
    rows = [
        ("SavedModel", "saved_model", {}, run_saved_model),
        ("ONNX Runtime", "model.onnx", {}, run_onnx),
        (
            "OpenVINO, float32",
            "model.xml",
            {},
            lambda path: run_openvino(path, INFERENCE_PRECISION_HINT="f32"),
        ),
        ("OpenVINO, as it comes", "again.xml", {}, run_openvino),
        ("LiteRT", "model.tflite", {}, run_litert),
        ("LiteRT, dynamic", "dynamic.tflite", {"quantize": "dynamic"}, run_litert),
        ("LiteRT, int8", "int8.tflite", int8, run_litert),
    ]
    for name, file, options, run in rows:
        path = keras_psp.export(model, Path(folder, file), **fixed, **options)
        yield name, size_of(path), run(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="run folder, or name of a backbone")
    parser.add_argument("camvid", help="folder of CamVid")
    parser.add_argument("--image-size", nargs=2, type=int, default=[180, 240])
    parser.add_argument("--images", type=int, default=101, help="validation frames to look at")
    args = parser.parse_args()

    if args.run in BACKBONES:
        model = keras_psp.PSPNet(args.run, backbone_weights=None)
    else:
        run = keras_psp.load_run(args.run)
        model, args.image_size = run.model, run.settings.get("image_size", args.image_size)
    size = tuple(args.image_size)
    options = {"image_size": size, "data_dir": args.camvid, "augment": None, "shuffle": False}
    calibration = keras_psp.load_camvid("train", batch_size=1, **options).take(32)
    frames = keras_psp.load_camvid("val", batch_size=1, **options).take(args.images)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(runtimes(model, folder, size, calibration))
        for _, _, run in rows:
            run(np.zeros((1, *size, 3), "float32"))
        scores = [keras_psp.metrics.MeanIoU(model.num_classes) for _ in rows]
        times, differences, equal = ([[] for _ in rows] for _ in range(3))
        for image, label in frames.as_numpy_iterator():
            expected = None
            for i, (_, _, run) in enumerate(rows):
                start = time.perf_counter()
                logits = run(image.astype("float32"))
                times[i].append(time.perf_counter() - start)
                expected = logits if expected is None else expected
                differences[i].append(np.abs(logits - expected).max())
                equal[i].append(np.mean(logits.argmax(-1) == expected.argmax(-1)))
                scores[i].update_state(label, logits)
    print("| | MiB | ms, median | fastest | logits differ by | pixels as in Keras | mean IoU |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for i, (name, size, _) in enumerate(rows):
        cells = [
            name,
            "" if size is None else f"{size:.1f}",
            f"{1000 * np.median(times[i]):.0f}",
            f"{1000 * min(times[i]):.0f}",
            f"{max(differences[i]):.1g}",
            f"{100 * np.mean(equal[i]):.2f} %",
            f"{float(scores[i].result()):.4f}",
        ]
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
