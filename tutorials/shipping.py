# %% [markdown] packages="onnx tf2onnx onnxruntime ai-edge-litert"
# # Shipping a model
#
# Where a network is used, there is often no Keras, no TensorFlow, and no Python. On this page a
# trained PSPNet becomes files for a program of a few lines, for a phone, and for a page in the
# browser. Each file is tested: does it still say what the network says?
#
# **You learn** to write ONNX and LiteRT files; how batch normalization vanishes; what numbers of 8
# bits save and cost; which preprocessing belongs in the file; and to check size, time and answers.
#
# **You need** [your first segmentation](../tutorials/first_segmentation.ipynb), and four more
# packages: `pip install onnx tf2onnx onnxruntime ai-edge-litert`. No data are downloaded.

# %% [markdown]
# ## The network, and a test for whatever it becomes
#
# The network in the package learned from CamVid, whose terms hold for it and for every file made of
# it: not for commercial use. The test images are drawn streets. What the network says of them now
# is the *reference*.

# %%
import keras_psp  # before keras
from keras_psp import metrics, visualization

import logging
import os
import subprocess
import sys
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from IPython.display import Markdown
from PIL import Image

logging.getLogger("tensorflow").setLevel("ERROR")  # it tells of every export
SMALL = os.environ.get("TUTORIAL_SIZE") == "small"  # as the tests run this page
SIZE, NUMBER = ((120, 160), 4) if SMALL else ((240, 320), 24)
fixed = {"image_size": SIZE, "batch_size": 1}
test = keras_psp.load_street_scenes("test", num_images=NUMBER, **fixed)
images, truths = (np.concatenate(parts) for parts in zip(*test, strict=True))
images = images.astype("float32")
model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")


def labels_of(run):
    """The best class of each pixel of all test images."""
    return np.concatenate([run(image[None]) for image in images]).argmax(-1)


reference, programs, answers, sizes = labels_of(model.predict_on_batch), {}, {}, {}


def check(name, run, file=None):
    """Compares a program with the reference, and keeps it for the table at the end."""
    programs[name], answers[name] = run, labels_of(run)
    sizes[name] = f"{file.stat().st_size / 1e6:.1f} MB" if file else ""
    print(f"{name}: {np.mean(answers[name] == reference):.2%} as in Keras. {sizes[name]}")


check("Keras", model.predict_on_batch)

# %% [markdown]
# ## Without what only training needs
#
# In training, batch normalization follows each convolution. In a trained network it is a fixed
# factor and a fixed summand for each channel, and both fit into the convolution before it. `fuse`
# puts them there, and leaves out the auxiliary head. `export` does so by itself.

# %%
fused = keras_psp.fuse(model, image_size=SIZE, batch_size=1)
print(len(model.weights), "arrays of weights become", len(fused.weights))
check("Keras, fused", fused.predict_on_batch)

# %% [markdown]
# ## ONNX
#
# An ONNX file holds a graph of operations (convolve, add, resize) and their numbers. Many programs
# run it; ONNX Runtime is the usual one. It takes RGB images, 0–255, as the network does.


# %%
def onnx(file):
    session = onnxruntime.InferenceSession(file)
    return lambda image: session.run(None, {"image": image})[0]


file = keras_psp.export(model, "street.onnx", **fixed)
check("ONNX", onnx(file), file)

# %% [markdown]
# This file takes images of one size. Without `image_size` a file takes any size, and finds the
# cells of the pyramid anew in each run:

# %%
file = keras_psp.export(model, "any.onnx")
check("ONNX, any size", onnx(file), file)
print(programs["ONNX, any size"](images[:1, :101, :77]).shape)

# %% [markdown]
# ### Preprocessing belongs in the file
#
# Often the file is right, but the program around it is wrong: it divides by 255, though the file
# does so, or gives blue first, as OpenCV reads images. No error appears, only bad labels:

# %%
for mistake, wrong in ("divided by 255", images / 255), ("blue first", images[..., ::-1]):
    labels = np.concatenate([programs["ONNX"](one[None]) for one in wrong]).argmax(-1)
    print(f"{mistake}: {np.mean(labels == reference):.0%} of the pixels as before")

# %% [markdown]
# The networks of this package normalize images themselves, so every file does. Two options leave
# even less to the program: `input_dtype="uint8"` takes the bytes of a camera, and `classes=True`
# returns the best class of each pixel. This is a whole program:

# %%
program = """
import numpy as np, onnxruntime
from PIL import Image

image = np.asarray(Image.open("street.png").convert("RGB"))
session = onnxruntime.InferenceSession("bytes.onnx")
(classes,) = session.run(["classes"], {"image": image[None]})
Image.fromarray(classes[0]).save("labels.png")
"""
bytes_to_bytes = {"input_dtype": "uint8", "classes": True}
keras_psp.export(model, "bytes.onnx", quantize="weights", **bytes_to_bytes)
Image.fromarray(np.uint8(images[0])).save("street.png")
subprocess.run([sys.executable, "-c", program], check=True)
print(f"{np.mean(np.asarray(Image.open('labels.png')) == reference[0]):.2%} as in Keras")

# %% [markdown]
# The file has no names of classes: ship `model.classes.names` with it.
#
# ## Numbers of 8 bits
#
# The network has 12.7 million numbers. With 32 bits each, they take 51 MB. With 8 bits there are
# only 255 different numbers: −127 to 127, times a *step*. How few bits are enough? Here all kernels
# are rounded, with one step for a whole layer, or with one for each output channel:


# %% alt="Pixels as before over the bits of a number: one step for each channel needs fewer bits"
def rounded(kernel, bits, axes):
    step = np.abs(kernel).max(axes, keepdims=True) / (2 ** (bits - 1) - 1)
    return np.round(kernel / step) * step


weights, bits = fused.get_weights(), [3, 8] if SMALL else [3, 4, 5, 6, 7, 8]
plt.figure(figsize=(6, 3), dpi=130)
for name, axes in {"each channel": (0, 1, 2), "a whole layer": None}.items():
    same = []
    for one in bits:
        fused.set_weights([rounded(w, one, axes) if w.ndim == 4 else w for w in weights])
        same.append((labels_of(fused.predict_on_batch) == reference).mean())
    plt.plot(bits, same, marker="o", label=f"one step for {name}")
fused.set_weights(weights)
plt.xlabel("bits"), plt.ylabel("pixels as before"), plt.legend()
plt.show()

# %% [markdown]
# With 5 bits and a step for each channel, one pixel in sixteen changes. One step for a whole layer
# is worse at every number of bits: a single large number makes the steps of all channels large.
#
# `quantize="weights"` stores kernels with a step for each channel. In each run, the program
# multiplies them back and computes in 32 bits, which takes longer. The network in the package was
# rounded in this way before, at a cost of [0.001 of mean IoU](../docs/results.md#in-the-package).
# So the file has exactly its numbers:

# %%
file = keras_psp.export(model, "small.onnx", quantize="weights", **fixed)
check("ONNX, 8-bit weights", onnx(file), file)

# %% [markdown]
# ## LiteRT: phones and small machines
#
# LiteRT, formerly TensorFlow Lite, runs networks on Android, iOS and small boards. The package
# `ai-edge-litert` is the same runtime for Python. So a file is checked here before it goes to a
# [phone](https://ai.google.dev/edge/litert/android); only the time must be measured there.


# %%
def litert(file):
    interpreter = Interpreter(str(file), num_threads=os.cpu_count())
    run = interpreter.get_signature_runner()
    return lambda image: run(image=image)["logits"]


file = keras_psp.export(model, "street.tflite", **fixed)
check("LiteRT", litert(file), file)
file = keras_psp.export(model, "dynamic.tflite", quantize="dynamic", **fixed)
check("LiteRT, dynamic", litert(file), file)

# %% [markdown]
# `"dynamic"` does not only store, it also *computes* in 8 bits. For this, the features of each
# layer need a step, too, and the program finds it in each run, by the largest feature. `"int8"`
# finds it once, when the file is written, by a few dozen **calibration images**. They must look
# like those that will come:

# %%
scenes = keras_psp.load_street_scenes("train", num_images=NUMBER, **fixed)
streets = [np.asarray(image, "float32") for image, _ in scenes]
dark = [image / 255 for image in streets]  # somebody thinks that the file wants 0 to 1
for name, calibration in {"LiteRT, int8": streets, "LiteRT, int8, dark": dark}.items():
    calibrated = {"quantize": "int8", "calibration_data": calibration, **fixed}
    file = keras_psp.export(model, f"{len(programs)}.tflite", **calibrated)
    check(name, litert(file), file)

# %% alt="A street, its labels in Keras and in the int8 file, and the pixels that differ"
one = np.mean(reference == truths, axis=(1, 2)).argmax()
parts = [part[one : one + 1] for part in (images, reference, answers["LiteRT, int8"])]
visualization.segmentation_gallery(None, *parts, model.classes)

# %% [markdown]
# *Truth* means Keras here. What differs lies on outlines, where two classes are nearly equal.
#
# ## A page in the browser
#
# ONNX Runtime also exists as WebAssembly, which every browser runs: the npm package
# `onnxruntime-web`. A page gets three of its files (`ort.wasm.min.js`, `ort-wasm-simd-threaded.mjs`
# and the `.wasm` of that name) and `bytes.onnx` from above. With a photo on a canvas, this is all:
#
# ```js
# const session = await ort.InferenceSession.create("bytes.onnx");
# const { data } = context.getImageData(0, 0, width, height); // red, green, blue, alpha, red, …
# const rgb = Uint8Array.from(data.filter((_, i) => i % 4 < 3)); // without alpha
# const image = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
# const { classes } = await session.run({ image }); // classes.data: one byte for each pixel
# ```
#
# Browsers take files from a server only (`python -m http.server`), and the photo stays where it is.
# [PSPNet in your browser](../docs/playground.md) is such a page. Its file resizes photos, too.
#
# ## The table
#
# The time is the fastest of 60 runs on one image, all programs in turns, beside other work.

# %%
times = {name: [] for name in programs}
for name, run in (3 if SMALL else 60) * [*programs.items()]:
    start = time.perf_counter()
    run(images[:1])
    times[name].append(1000 * (time.perf_counter() - start))

rows = ["| | size | ms | as in Keras | mean IoU |", "| --- | --- | --- | --- | --- |"]
for name, labels in answers.items():
    iou = np.nanmean(metrics.iou_per_class(metrics.confusion_matrix(truths, labels, 11)))
    same = f"{np.mean(labels == reference):.2%} | {iou:.3f}"
    rows.append(f"| {name} | {sizes[name]} | {min(times[name]):.0f} | {same} |")
Markdown("\n".join(rows))

# %% tags=["score"]
same = np.mean(answers["LiteRT, dynamic"] == reference)
print(f"{sizes['LiteRT, dynamic']} with 8 bits, {same:.1%} of the pixels as in Keras")

# %% [markdown]
# Which file should you take? In ONNX, 8-bit weights give Keras' answers at a quarter of the size,
# but take longer. In LiteRT, `"dynamic"` is by far the fastest, and loses 0.001 of mean IoU. The
# last row has a good size and time, too: only the check shows that it is useless.
#
# ## Exercises
#
# **1.** How large is a file, at 4 bytes for each number of the fused network? And at one byte?

# %% tags=["answer"]
for file, bytes_each in ("street.onnx", 4), ("small.onnx", 1):
    assert np.isclose(fused.count_params() * bytes_each, os.path.getsize(file), rtol=0.02)

# %% [markdown]
# **2.** Fuse a convolution and its batch normalization by hand.

# %% tags=["answer"]
conv, norm = keras.layers.Conv2D(4, 3, use_bias=False), keras.layers.BatchNormalization()
norm(conv(images[:1]))  # makes the weights
norm.set_weights([np.array([0.5, 1, 2, 3]) + number for number in range(4)])
factor, summand, mean, variance = norm.get_weights()
factor = factor / np.sqrt(variance + norm.epsilon)
by_hand = keras.ops.conv(images[:1], conv.kernel * factor) + (summand - mean * factor)
assert np.allclose(by_hand, norm(conv(images[:1])), atol=1e-3)

# %% [markdown]
# **3.** A file agrees with Keras in 99% of all pixels. Can a class be lost in it?

# %% tags=["answer"]
pole, building = (model.classes.names.index(name) for name in ("Column_Pole", "Building"))
blind = np.where(reference == pole, building, reference)
print(f"{(blind == reference).mean():.2%} of the pixels as in Keras, and no pole is left")
assert (blind == reference).mean() > 0.95

# %% [markdown] tags=["answer"]
# Agreement is a pixel accuracy, and deceives [in the same way](../tutorials/iou.ipynb). So the
# table has the mean IoU, too. Look at the classes that you need most.

# %% [markdown]
# ## Where to go from here
#
# [Exporting](../docs/api/exporting.md) has all formats, also SavedModel and OpenVINO.
# [Results](../docs/results.md#models-that-leave-python) measures them on CamVid.
