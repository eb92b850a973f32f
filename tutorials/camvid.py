# %% [markdown]
# # Training on CamVid
#
# CamVid is 701 frames, filmed from a car in Cambridge, with the class of every pixel. It is small
# enough for a laptop, and has what is hard about streets: thin poles, rare cyclists, deep shadows.
#
# **You learn** what to look at before you train; what augmentation does to a frame; what each part
# of a training recipe is for; how to read the result class by class; and where to train: on one
# GPU, on several, on Colab, on Kaggle without a network, and on a TPU.
#
# **You need** [your first segmentation](../tutorials/first_segmentation.ipynb) and
# [IoU](../tutorials/iou.ipynb). `load_camvid` finds CamVid among the inputs of a Kaggle notebook or
# in kagglehub's cache, or downloads it (180 MB; not for commercial use).

# %% [markdown]
# ## The data
#
# One line loads CamVid. For a try without it, drawn street scenes do: they have the same classes.

# %%
import keras_psp  # before keras
from keras_psp import visualization
from keras_psp.data import augmentation
from keras_psp.inference import Views

import collections
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

SMALL = os.environ.get("TUTORIAL_SIZE") == "small"  # as the tests run this page
SIZE, VIEW, EPOCHS = ((72, 96), (48, 64), 3) if SMALL else ((360, 480), (240, 320), 9)
options = {"num_images": 24} if SMALL else {}
load = keras_psp.load_street_scenes if SMALL else keras_psp.load_camvid

still = {"augment": None, "shuffle": False, "drop_remainder": False}
frames, val = load(["train", "val"], SIZE, 8, **still, **options)
classes = val.info.classes

# %% [markdown]
# ### Look before you train
#
# A network learns whatever the files say. `keras-psp data check CamVid` reads every file, and lists
# unreadable files, pairs of different sizes and unknown labels. Then count what is in it:

# %% alt="The share of each class in train and val, from a third (road) to 0.3% (cyclists in train)"
maps = [np.concatenate([labels for _, labels in data]) for data in (frames, val)]
shares = [np.bincount(part.ravel(), minlength=256) / part.size for part in maps]

rows = np.arange(11)
plt.figure(figsize=(7, 3.6), dpi=130)
for offset, share, name in zip((-0.2, 0.2), shares, ("train", "val"), strict=True):
    plt.barh(rows + offset, 100 * share[:11], 0.4, label=name)
plt.yticks(rows, classes.names), plt.gca().invert_yaxis()
plt.xscale("log"), plt.xticks(ticks := [0.3, 1, 3, 10, 30], ticks)
plt.xlabel("% of all pixels"), plt.legend()
plt.show()
for part, share, name in zip(maps, shares, ("train", "val"), strict=True):
    print(f"{name:5} {len(part)} frames of {part.shape[1:]}, {share[255]:.1%} void")

# %% [markdown]
# The axis is logarithmic: road has a hundred times the pixels of cyclists. A loss that counts every
# pixel alike hears little of the rare classes. And the splits differ: seven times as many cyclists
# in *val*, a third of the cars. Where do they come from?

# %%
for data in (frames, val):
    drives = (name.replace("/", "_").partition("_")[0] for name in data.sample_names)
    print(dict(collections.Counter(drives)))

# %% [markdown]
# Each name begins with its drive. The validation frames are one short clip out of `0016E5`, and
# *train* has other parts of it. So this split does not tell how well a network does elsewhere.
# `load_camvid(split_by="drive")` keeps the drives apart, and is harder.
#
# ### The same frame, never twice
#
# 367 frames are few, so the network never sees one of them twice in the same way. Here is a frame,
# and four random views of it:

# %% alt="A frame and four random views of it, above their label maps, which move along"
augment = augmentation.get("scratch", VIEW, seed=7)
batch = [np.asarray(part)[:1].repeat(4, 0) for part in next(iter(val))]
views = augment(dict(zip(["images", "segmentation_masks"], batch, strict=True)))
image, label = (Image.fromarray(np.uint8(part[0])) for part in batch)
images = [image.resize(VIEW[::-1]), *np.uint8(views["images"])]
labels = [label.resize(VIEW[::-1], Image.NEAREST), *views["segmentation_masks"]]
colors = [visualization.colorize(np.asarray(one), classes) for one in labels]
pairs = [np.vstack(pair) for pair in zip(images, colors, strict=True)]
framed = [np.pad(pair, ((0, 0), (0, 8), (0, 0)), constant_values=255) for pair in pairs]
Image.fromarray(np.hstack(framed)).reduce(1 if SMALL else 2)

# %% [markdown]
# Left: the whole frame. The views are larger or smaller, cut out at different places, mirrored, and
# brighter, darker or paler. The label maps below move along. Where a view shows more than the
# frame, its label is void (black): there is nothing to learn.
#
# ## The recipe
#
# Nothing here is pre-trained, so that nothing but CamVid is needed. Each part of the recipe has a
# reason, and most have a measurement:
#
# | part | why | mean IoU with it, without it |
# | --- | --- | --- |
# | class weights: median frequency, square root | rare classes count more | 0.40, 0.38 |
# | one rate, 0.02, for all layers | ten times on the heads is for pre-trained ones | 0.40, 0.38 |
# | rate sinks to 0 | the last steps should be small | not measured |
# | views of the full frames | thin things need pixels | 0.40, 0.41 with frames of half the size |
# | auxiliary loss | helps the middle of the network | not measured |
# | output stride 16 | half the time of stride 8 | see below |
#
# The figures are of [runs of 4 epochs](../docs/results.md#which-change-brought-what), one each, and
# a difference of 0.01 may be chance. So the table does not prove the views of full frames. They
# pay later: with half frames alone, signs stayed at 0.01 and poles at 0.00 after 20 epochs.
#
# ## Train
#
# `RunFolder` keeps the best weights, the curves and a checkpoint. Where a notebook is cut off, the
# same cell goes on from there. The first line halves the time of a step where the processor or the
# card multiplies bfloat16 by itself. Elsewhere it is slower than float32: leave it out.

# %% alt="Loss, scores and learning rate over the epochs: the scores of the views rise to the end"
keras.config.set_dtype_policy("mixed_bfloat16")  # on a T4 and older GPUs: mixed_float16
keras.utils.set_random_seed(1)

train = load("train", SIZE, 8, augment="scratch", crop_size=VIEW, **options)
weights = keras_psp.labels.class_weights(frames, 11, power=0.5)
model = keras_psp.PSPNet("resnet18", 11, backbone_weights=None, output_stride=16)
model.fit(
    train,
    validation_data=val,
    validation_freq=EPOCHS // 3,
    epochs=EPOCHS,
    class_weight=weights,
    callbacks=[keras_psp.RunFolder("runs/camvid")],
    verbose=0,
)
visualization.training_curves(None, "runs/camvid/history.csv")

# %% [markdown]
# Solid lines are the validation frames, seen three times, and dashed lines the random views. Whole
# frames are easier than views of them, so the solid scores are higher. From the sixth epoch on,
# their mean IoU hardly moves, while that of the views still rises.
#
# ## The result, class by class

# %% tags=["score"]
result = keras_psp.evaluate(model, val)
print(f"mean IoU {result.mean_iou:.2f}, pixel accuracy {result.pixel_accuracy:.2f}")

# %%
print(result)

# %% [markdown]
# Read IoU and accuracy (the share of a class' pixels that was found) side by side. Most pixels of
# cars are found, but the IoU of cars is less than half of that: much else is called car. It is the
# same with pedestrians. Class weights push this way. Poles are three or four pixels wide, and not
# found at all: one place of the features is 16 pixels wide.

# %% alt="Three validation frames: the true classes and the predicted ones laid over them"
columns = []
for one in result.samples[:3]:
    answers = one.label, one.prediction
    pair = [visualization.overlay(one.image, answer, 0.6, classes) for answer in answers]
    columns.append(np.vstack(pair))
Image.fromarray(np.hstack(columns)).reduce(1 if SMALL else 2)

# %% [markdown]
# Above is the truth, below the answer. Road, trees and houses have their places. Cyclists (light
# blue) are found in part, and the dark shop fronts behind them are taken for pedestrians (olive).
#
# ### What a longer training reaches
#
# This page makes 405 steps. All of these begin with random values, too, and are scored on the
# validation frames ([how](../docs/results.md)):
#
# | | time | mean IoU |
# | --- | --- | --- |
# | stride 16, 24 epochs in batches of 4, which are 2,184 steps | 27 min on two CPU cores | 0.54 |
# | then stride 8, 22 epochs, frames enlarged by a third | 55 min more | 0.61 |
# | stride 8, 200 epochs, frames enlarged by a half | 5.6 min on one H200 GPU | 0.68 |
# | the same network, scored at four scales, mirrored | | 0.705 |
#
# ## Where to train
#
# ### One GPU
#
# Everything above runs as it is: TensorFlow takes the GPU that it finds. Then take larger views,
# batches of 16, `output_stride=8`, and a precision that the card multiplies fast: `mixed_bfloat16`
# on A100, L4 and newer ones, `mixed_float16` on a T4.
#
# ### Several GPUs
#
# Two lines do for those of one machine (after `import tensorflow as tf`):
#
# ```py
# strategy = tf.distribute.MirroredStrategy()
# with strategy.scope():
#     model = keras_psp.PSPNet("resnet50", 11)
# ```
#
# `fit` is called as before. The batch size is that of all GPUs together.
# [More than one GPU](../docs/distributed.md) has the rest: learning rates, JAX, several machines.
#
# ### Colab
#
# Choose *Runtime → Change runtime type → T4 GPU*. The button at the head of this page opens it
# there; its first cell installs the package and changes nothing else. What lies on Colab's disk is
# gone when the session ends, so put the run folder on your Drive:
#
# ```py
# from google.colab import drive
# drive.mount("/content/drive")
# run = keras_psp.RunFolder("/content/drive/MyDrive/camvid")
# ```
#
# ### Kaggle
#
# Choose the accelerator *GPU T4 x2*, and add the data set `carlolepelaars/camvid` as an input.
# `load_camvid()` finds it by itself. Its folders are not the published split: the loader goes by
# the names of the frames, so that your scores can be compared.
#
# **With the internet off**, as many competitions want it, the package comes as a data set:
#
# 1. At home, in a clone of the source, run `python -m pip wheel --no-deps -w wheel .` The folder
#    `wheel` then holds `keras_psp-0.1.0-py3-none-any.whl`: 12 MB, with the network in the package.
# 2. Put the weights that you need beside it: `best.weights.h5` of a run, or a file that was
#    downloaded to `~/.keras/models`.
# 3. Upload the folder as a new data set, say `keras-psp-wheel`, and add it as an input.
# 4. Begin the notebook with
#
# ```py
# %pip install --no-index --no-deps --find-links /kaggle/input/keras-psp-wheel keras-psp
# ```
#
# Weights are read there: `PSPNet("resnet18", weights="/kaggle/input/keras-psp-wheel/FILE")`. Kaggle
# has all that the package needs. What else you need and Kaggle lacks, download in step 1:
# `python -m pip download NAME --no-deps --only-binary=:all: --python-version 3.12 -d wheel`.
#
# ### TPU
#
# Choose JAX before Keras is imported. Colab's TPU machine has no TensorFlow, and a newer one would
# break what is on Kaggle's. So install the package alone:
#
# ```py
# %pip install --no-deps git+…    # the address in the first cell of this notebook
# import os
# os.environ["KERAS_BACKEND"] = "jax"
# import keras_psp
# ```
#
# Loaders, training and scores need no TensorFlow. This was not tried on a TPU.
#
# ## Exercises
#
# **1.** What is the learning rate after half of the steps, if it begins at 0.02?

# %% tags=["answer"]
rate = keras_psp.optimizers.PolynomialDecay(0.02, total_steps=1000)
assert np.isclose(rate(500), 0.02 * 0.5**0.9)

# %% [markdown]
# **2.** Compute the median-frequency weights in NumPy: the frequency of a class is its share of the
# pixels of all frames *that show it*, and its weight is the median frequency divided by its own.

# %% tags=["answer"]
counts = np.stack([np.bincount(one.ravel(), minlength=256)[:11] for one in maps[0]])
frequency = counts.sum(0) / ((counts > 0).sum(0) * maps[0][0].size)
assert np.allclose(np.median(frequency) / frequency, np.square(weights))

# %% [markdown]
# **3.** Four GPUs with 8 frames each: what is the batch size, how many steps has an epoch of 367
# frames, and what is the rate by the usual rule, if 0.01 is for 16 frames?

# %% tags=["answer"]
batch_size = 4 * 8
assert (batch_size, 367 // batch_size, 0.01 * batch_size / 16) == (32, 11, 0.02)

# %% [markdown]
# **4.** Score the network once more with `views=Views(mirror=True)`. Is it worth the double time?

# %% tags=["answer"]
mirrored = keras_psp.evaluate(model, val, views=Views(mirror=True))
print(f"mean IoU {mirrored.mean_iou:.3f}, without mirrored views {result.mean_iou:.3f}")
assert abs(mirrored.mean_iou - result.mean_iou) < 0.05

# %% [markdown]
# ## Where to go from here
#
# [Your own data](../tutorials/own_data.ipynb) takes other images and classes.
# [Results](../docs/results.md) has every training in full, with its command.
