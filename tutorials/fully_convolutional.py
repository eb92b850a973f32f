# %% [markdown]
# # From classifier to segmentation
#
# A classifier gives one answer for a whole image. A segmentation network gives one for each pixel.
# The step from the first to the second is smaller than it looks: nearly all of the layers stay.
#
# **You learn** why a dense layer is a convolution; how a classifier of small patches draws a heat
# map over a whole street; and how the network FCN makes pixels of it, in the versions 32s, 16s
# and 8s.
#
# **You need** convolutions and `model.fit`, and [your first
# segmentation](../tutorials/first_segmentation.ipynb). Reading takes 25 minutes. Nothing is
# downloaded.

# %% [markdown]
# ## A classifier of patches
#
# The task: look at a patch of 64×64 pixels, and say what is in its *middle*. The patches are cut
# out of drawn streets, equally many of each class. (Real ones: `keras_psp.load_camvid`.)

# %% alt="Eleven patches of 64 by 64 pixels, one of each class, with the class as title"
import os

import keras_psp
from keras_psp import analysis, visualization
from keras_psp.experiments.patches import cut_patches

import keras
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.dpi"] = 130
SMALL = os.environ.get("TUTORIAL_SIZE") == "small"  # as the tests run this page
SCENES, PATCHES, EPOCHS = (40, 40, 2) if SMALL else (300, 200, 10)
sizes = {"image_size": (192, 256), "batch_size": 4}
val = keras_psp.load_street_scenes("val", num_images=40, **sizes)
train = keras_psp.load_street_scenes("train", num_images=SCENES, augment="flip", **sizes)
names = keras_psp.data.info_of(val).classes.names
patches, middles = cut_patches(train, PATCHES, size=64)

figure, axes = plt.subplots(2, 6, figsize=(9, 3.3))
plt.setp(axes, xticks=[], yticks=[])
axes[1, 5].set_axis_off()
for number, name in enumerate(names):
    axes.flat[number].imshow(patches[middles == number][0])
    axes.flat[number].set_title(name, fontsize=9)
plt.show()

# %% [markdown]
# Some are hard even for you: only the middle counts, and a pole is thin. The classifier has five
# stages: a convolution, and a pooling of stride 2. So 64×64 pixels become a map of 2×2 places. It
# is flattened, and two **dense** layers turn it into eleven scores:


# %%
def stages(x):
    for stage, filters in enumerate((32, 48, 96, 192, 192), 1):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    return x


keras.utils.set_random_seed(1)
options = {"image_size": 64, "hidden": (128,), "dropout": 0.5, "num_classes": 11}
options |= {"weights": None, "classifier_activation": None}  # scores, not probabilities
classifier = keras_psp.models.build_classifier("patches", stages, **options)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
classifier.compile("adam", loss, metrics=["accuracy"])
classifier.fit(patches, middles, batch_size=32, epochs=EPOCHS, verbose=0)

new_patches, new_middles = cut_patches(val, 10, size=64)
_, accuracy = classifier.evaluate(new_patches, new_middles, verbose=0)
print(f"{accuracy:.0%} of {len(new_patches)} new patches are right (chance: 9%)")

# %% [markdown]
# ## A dense layer is a convolution
#
# The classifier takes 64×64 pixels and nothing else. Only the first dense layer insists on that:
# each of its units has a weight for each of 2·2·192 = 768 numbers.
#
# Now read these 768 weights as a kernel of 2×2 places and 192 channels. On a map of 2×2 places it
# fits exactly once, and gives the same sum. So the dense layer *is* a convolution whose kernel is
# as large as the map. The second dense layer sees a single place: it is a 1×1 convolution.
# `to_fully_convolutional` copies the weights into this form:

# %%
converted = keras_psp.to_fully_convolutional(classifier)
for name in ("fc1", "predictions"):
    dense, convolution = (model.get_layer(name) for model in (classifier, converted))
    print(f"{name}: {dense.kernel.shape} → {convolution.kernel.shape}")

before = np.asarray(classifier(new_patches))
after = np.asarray(converted(new_patches))
print("scores", before.shape, "→", after.shape)
print(f"largest difference {np.abs(before - after[:, 0, 0]).max():.0e}")

# %% [markdown]
# On a patch of the training size, both give the same scores, up to rounding. But the new network is
# **fully convolutional**: it takes a larger image, too.
#
# ## A heat map over a street
#
# This street has 192×256 pixels. Five poolings leave a map of 6×8 places. The kernel of 2×2 fits
# into 5×7 positions, so there are 35 answers, one for each step of 32 pixels:

# %% alt="A street, and over it the probabilities of five classes in 5 by 7 boxes each"
image, truth = keras_psp.street_scene(seed=3_000_006, image_size=(192, 256))
scores = np.asarray(converted(image[None]))[0]
probabilities = np.asarray(keras.ops.softmax(scores))

figure, axes = plt.subplots(2, 3, figsize=(9, 4.7))
box = (16, 240, 176, 16)  # each answer is for the middle of its window
shown = ["", "Road", "Sky", "Tree", "Building", "Car"]
for axis, name in zip(axes.flat, shown, strict=True):
    axis.imshow(image)
    if name:
        heat = probabilities[..., names.index(name)]
        axis.imshow(heat, extent=box, cmap="inferno", vmin=0, vmax=1, alpha=0.7)
    axis.set(xlim=(0, 256), ylim=(192, 0), xticks=[], yticks=[])
    axis.set_title(name or "the street", fontsize=9)
plt.show()

# %% [markdown]
# The brighter a box, the surer is the network. Sky, road and car are found. But of the house on the
# left it says *tree*: this small classifier is often wrong. Nobody told it where things are. The
# *place* comes from the convolutions.
#
# You could also cut out 35 windows and classify each. But they overlap, so most pixels would be
# computed four times:

# %%
window, whole = analysis.count(classifier), analysis.count(converted, (192, 256))
print(f"35 windows  {35 * window.multiply_adds / 1e9:.2f} billion multiplications")
print(f"whole image {whole.multiply_adds / 1e9:.2f} billion")

# %% [markdown]
# Long et al. (2015, section 3.1) measured it with AlexNet: one answer takes 1.2 ms, and 10×10
# answers for a larger image take 22 ms in one go, a fifth of the time.
#
# ## FCN: an answer for each pixel
#
# The heat map is coarse, and the network never saw a label map. The **fully convolutional network**
# (FCN) of the same paper mends both. It takes the trunk of a classifier, scores its deepest map by
# a 1×1 convolution, and enlarges the *scores* to the size of the image. So it trains on label maps.
#
# That is FCN-**32s**: its scores have one place for 32×32 pixels. But the poolings before have
# finer maps. FCN-**16s** also scores that of the fourth pooling, and adds these scores to the
# enlarged ones of the fifth. FCN-**8s** adds those of the third. Each addition is a **skip**.
#
# All three start here from our classifier, and get the same images and epochs. (The authors start
# the 16s from a trained 32s, and the 8s from that: their 8s has trained for longest.)

# %%
trunk = keras.Model(classifier.input, classifier.get_layer("pool5").output)
networks, results = {}, {}
for stride in (32, 16, 8):
    keras.utils.set_random_seed(1)
    # The head "linear" is the 1×1 alone: the paper keeps VGG's dense layers ("fc").
    network = keras_psp.FCN(trunk, num_classes=11, stride=stride, head="linear")
    network.fit(train, epochs=EPOCHS if SMALL else EPOCHS - 2, verbose=0)
    networks[stride], results[stride] = network, keras_psp.evaluate(network, val)
    more = network.count_params() - trunk.count_params()
    print(f"FCN-{stride}s has {more:,} weights more than the trunk")

# %% tags=["score"]
reached = [f"{results[stride].mean_iou:.2f} FCN-{stride}s" for stride in (32, 16, 8)]
print("mean IoU", ", ".join(reached))

# %% [markdown]
# The same, class by class ([how to read an IoU](../tutorials/iou.ipynb)):

# %%
print(f"{'IoU of':14} FCN-32s FCN-16s  FCN-8s")
for name, *row in zip(names, *(one.per_class for one in results.values()), strict=True):
    print(f"{name:14}", *(f"{iou:7.2f}" for iou in row))
for score in ("mean_iou", "pixel_accuracy"):
    print(f"{score:14}", *(f"{getattr(one, score):7.2f}" for one in results.values()))

# %% alt="One street: its classes and those of the three FCNs, and below their errors in red"
logits = {f"FCN-{s}s": np.asarray(one(image[None])) for s, one in networks.items()}
predictions = {name: one[0].argmax(-1) for name, one in logits.items()}
colors = keras_psp.data.info_of(val).classes
figure, axes = plt.subplots(2, 4, figsize=(9.5, 3.7))
axes[0, 0].imshow(image)
axes[1, 0].imshow(visualization.colorize(truth, colors))
axes[0, 0].set_title("image, and the truth below", fontsize=9)
for column, (name, prediction) in zip(axes.T[1:], predictions.items(), strict=True):
    column[0].imshow(visualization.colorize(prediction, colors))
    column[1].imshow(visualization.error_map(truth, prediction))
    column[0].set_title(f"{name}, and its errors below", fontsize=9)
plt.setp(axes, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Each skip raises every class, and the small ones most: signs go from 0.12 to 0.43, the road from
# 0.89 to 0.92. In the lower row, the red areas of FCN-32s shrink to lines. But no skip finds the
# thin pole. (In the paper the second skip adds little: 59.4, 62.4 and 62.7 % on PASCAL VOC, section
# 4.2. One reason may be that things are larger there. And here, each number is one training.)
#
# ## What each skip adds
#
# To enlarge and to add are linear. So the logits of FCN-8s are the sum of three maps, one of each
# pooling. You get one of them if you set the weights of the other two score layers to zero:

# %%
fcn8 = networks[8]
scorers = {"pool5": fcn8.score, "pool4": fcn8.score_pool4, "pool3": fcn8.score_pool3}
learned = {name: layer.get_weights() for name, layer in scorers.items()}


def logits_with(*kept):
    """The logits of FCN-8s if only these poolings are scored."""
    for name, layer in scorers.items():
        layer.set_weights([weight * (name in kept) for weight in learned[name]])
    return np.asarray(fcn8(image[None]))[0]


terms = {name: logits_with(name) for name in scorers}
terms["their sum"] = sum(terms.values())
rounding = np.abs(terms["their sum"] - logits_with(*scorers)).max()
print(f"largest difference to FCN-8s {rounding:.0e}")

# %% alt="The logits of car from pool5, pool4 and pool3 on the street, and their sum"
figure, axes = plt.subplots(1, 4, figsize=(9.5, 2.2))
car = {name: logits[..., names.index("Car")] for name, logits in terms.items()}
limit = np.abs(car["their sum"]).max()
for axis, (name, logits) in zip(axes, car.items(), strict=True):
    axis.imshow(logits, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_title(f"Car: {name}", fontsize=9)
plt.setp(axes, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Red speaks for a car, blue against it. Pool5 knows where cars are, but has no outlines: half of
# the street is red. Pool4 is against it in the trees and on the right. Pool3 has the finest
# outlines, but is also a little for a car in the sky. None of them is right; their sum is.
#
# ## Exercises
#
# **1.** VGG-16 takes images of 224×224, ends with a map of 7×7 places, and flattens it. Made fully
# convolutional, how many answers does it give for an image of 512×512?

# %% tags=["answer"]
side = analysis.output_size(512 // 32, 7)  # a kernel of 7×7 on a map of 16×16 places
assert side**2 == 100

# %% [markdown]
# **2.** Cut the 35 windows out of the street, and give them to the classifier. Are its scores
# exactly those of the heat map?

# %% tags=["answer"]
corners = [(top, left) for top in range(0, 129, 32) for left in range(0, 193, 32)]
windows = np.stack([image[top : top + 64, left : left + 64] for top, left in corners])
by_window = np.asarray(classifier(windows)).reshape(scores.shape)
same = (by_window.argmax(-1) == scores.argmax(-1)).mean()
print(f"same class in {same:.0%} of the windows")
assert not np.allclose(by_window, scores, atol=0.01)

# %% [markdown] tags=["answer"]
# Not quite. At the border of a window the classifier's convolutions see zeros, the padding. Inside
# of the whole image they see the street around the window.

# %% [markdown]
# **3.** Get a heat map with one answer for each 16 pixels out of the same network, without
# training. (Move the image.)

# %% tags=["answer"]
fine = np.zeros((9, 13, 11))
for down in (0, 16):
    for right in (0, 16):
        moved = np.asarray(converted(image[None, down:, right:]))[0]
        fine[down // 16 :: 2, right // 16 :: 2] = moved
assert np.array_equal(fine[::2, ::2], scores)

# %% [markdown] tags=["answer"]
# Four images, moved by 0 or 16 pixels, give four coarse maps, which interlace. Long et al. (section
# 3.2) call this *shift-and-stitch*. It costs four times as much.

# %% [markdown]
# **4.** Leave out both skips of the trained FCN-8s. Is it an FCN-32s now?

# %% tags=["answer"]
predictions["FCN-8s without skips"] = terms["pool5"].argmax(-1)
for name, one in predictions.items():
    print(f"pixel accuracy {(one == truth)[truth != 255].mean():.2f} {name}")
assert (predictions["FCN-8s without skips"] != predictions["FCN-32s"]).any()

# %% [markdown] tags=["answer"]
# No. Its three score layers were trained together, so each relies on the two others. The deepest
# scores of an FCN-32s had to do all of the work.

# %% [markdown]
# ## Where to go from here
#
# [Upsampling five ways](../tutorials/upsampling.ipynb) shows how scores are enlarged. The next idea
# was to do without coarse maps: [receptive fields and
# dilation](../tutorials/receptive_fields.ipynb). [Results](../docs/results.md) compares FCN with
# other networks on real streets. Read [Long et al., 2015](https://arxiv.org/abs/1411.4038).
