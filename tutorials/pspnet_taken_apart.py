# %% [markdown]
# # PSPNet taken apart
#
# PSPNet is a ResNet with a pyramid behind it and a second loss in the middle. On this page you take
# a trained one apart, look at each part, and measure what happens without it.
#
# **You learn** which shapes the maps have; what each cell of the pyramid sees; how to ask a network
# what a part is worth; what the auxiliary loss does; and why the answer is as large as the image.
#
# **You need** [receptive fields](../tutorials/receptive_fields.ipynb) and
# [IoU](../tutorials/iou.ipynb). Reading takes 25 minutes. Nothing is downloaded.

# %% [markdown]
# ## Shapes along the way
#
# The package has a trained PSPNet on a ResNet-18. A street goes through it, part by part:

# %%
import os

import keras_psp
from keras_psp import layers, metrics, visualization

import keras
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.dpi"] = 130
SMALL = os.environ.get("TUTORIAL_SIZE") == "small"  # as the tests run this page
model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
image, _ = keras_psp.street_scene(seed=3_000_006, image_size=(360, 480))

stages = model.features(image[None])
features, *levels = model.pyramid_pooling(stages["P5"])
small_logits = model.head([features, *levels])
logits = model.upsample(small_logits, like=image[None])

print(f"{'image':24} {image.shape}")
for name, stage in stages.items():
    print(f"{'backbone, ' + name:24} {stage.shape[1:]}")
for bins, level in zip(model.bins, levels, strict=True):
    print(f"{f'pyramid, {bins}×{bins} cells':24} {level.shape[1:]}")
print(f"{'head':24} {small_logits.shape[1:]}")
print(f"{'upsampling':24} {logits.shape[1:]}")
assert np.allclose(logits, model(image[None]), atol=1e-3)

# %% [markdown]
# Follow the first two numbers. The backbone makes the map 8 times smaller: its last two stages are
# dilated where a classifier has strides (Zhao et al., 2017, section 3.3). The pyramid makes four
# tiny maps of 128 channels, a quarter of 512: together as many as the features have. The head makes
# eleven scores for each of the 45×60 places, and the last layer as many as there are pixels.
#
# ## Why the answer is as large as the image
#
# Nothing above asks for a certain size. Convolutions move over any map, the pyramid divides any map
# into 6×6 cells, and the last layer, a bilinear interpolation, is told which size to make: that of
# the image. So each size works, even a single pixel. From image to features to answer:

# %%
for size in [(360, 480), (301, 477), (100, 37), (1, 1)]:
    black = np.zeros((1, *size, 3))
    shapes = black.shape, model.features(black)["P5"].shape, model(black).shape
    print("{} → {} → {}".format(*(shape[1:3] for shape in shapes)))

# %% [markdown]
# ## What each cell sees
#
# The four levels of the pyramid are called by their numbers of cells along each side: 1, 2, 3 and
# 6. Each cell holds an *average*. To see where, average the street itself, with the pyramid's own
# layer. In the network the same happens with 512 features in the place of three colors:

# %% alt="A street under grids of 1, 2, 3 and 6 cells a side, and the mean colors of the cells"
cells = layers.PyramidAveragePooling2D(model.bins)(image[None].astype("float32"))
figure, axes = plt.subplots(2, 4, figsize=(9.5, 3.7))
for (above, below), bins, means in zip(axes.T, model.bins, cells, strict=True):
    above.imshow(image)
    above.vlines(np.arange(1, bins) * 480 / bins, 0, 359, color="white")
    above.hlines(np.arange(1, bins) * 360 / bins, 0, 479, color="white")
    above.set_title(f"{bins} × {bins} cells", fontsize=9)
    below.imshow(np.asarray(means)[0].astype("uint8"), extent=(0, 480, 360, 0))
plt.setp(axes, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Level 1 has one color, the mean of all. Level 2 knows that there is sky above. In level 6 you find
# the house on the left, the orange car and the road. Choose a place, and see its averages:
#
# <div id="play" class="widget" data-widget="pyramid">On the site, you choose a place here.</div>
#
# **Try it.** Drag, or use the arrow keys. Find a place whose class is a small part of its cell.
# Then average the true classes, and write 12 in the place of 6: what do they see that 6 do not?
#
# Behind the average, each level has a 1×1 convolution, batch normalization and a ReLU of its own.
# `pyramid_activations` shows what comes out, and what the head gets after the enlargement:

# %% alt="The four levels in colors, below them enlarged, and beside them the features"
visualization.pyramid_activations(None, model, image)

# %% [markdown]
# Below, on the left, are the features: you still see the trees and the road. The enlarged levels
# have no outlines. They tell each place what is around it. (A single cell is always gray here.)
#
# ## The figure, and the program
#
# In the paper's figure 3 the levels are enlarged to 45×60 places, laid beside the features, and a
# 3×3 convolution reads all 1024 channels. This package never makes these 1024 channels. Both steps
# are linear, so `PyramidConv2D` applies the kernel to the few cells *first*, and enlarges what
# comes out. The sum is the same:

# %%
enlarge = layers.BilinearUpsample()
enlarged = [enlarge(level, like=features) for level in levels]
side_by_side = np.concatenate([features, *enlarged], axis=-1)
convolution = model.head.conv1
as_in_the_figure = keras.ops.conv(side_by_side, convolution.kernel, padding="same")
factored = convolution([features, *levels])
print("figure ", side_by_side.shape[1:])
print("package", features.shape[1:], "and 50 cells")
print(f"largest difference {np.abs(as_in_the_figure - factored).max():.0e}")

# %% [markdown]
# So the largest convolution of the head costs half: only the 512 features are left at full size.
#
# ## What the pyramid adds
#
# The paper trained networks with and without it, on images from kitchens to beaches (ADE20K). With
# it, a ResNet-50 reached 41.68 % mean IoU in the place of 37.23 % (Zhao et al., 2017, section 5.2).
# Here you ask a network that is *already* trained: how much do you rely on it? Take drawn streets,
# or real ones by `keras_psp.load_camvid("val", (360, 480), batch_size=1)`. Then give the head zeros
# in the place of a level or of all, or the mean of all streets, or another street's. The mean IoUs:


# %%
STREETS = 6 if SMALL else 40
data = keras_psp.load_street_scenes("test", (360, 480), batch_size=1, num_images=STREETS)
streets, labels = (np.concatenate(parts) for parts in zip(*data, strict=True))
parts = [model.pyramid_pooling(model.features(street[None])["P5"]) for street in streets]
features, *levels = (np.concatenate(part) for part in zip(*parts, strict=True))


def answer(levels):
    """The label maps and the mean IoU if the head sees these levels."""
    maps = []
    for one in zip(features, *levels, strict=True):
        small_logits = model.head([part[None] for part in one])
        logits = model.upsample(small_logits, like=image[None])
        maps.append(np.asarray(logits).argmax(-1)[0])
    matrix = metrics.confusion_matrix(labels, np.stack(maps), 11)
    return maps, np.nanmean(metrics.iou_per_class(matrix))


replacements = {
    "zeros": np.zeros_like,
    "the mean": lambda level: level.mean(0, keepdims=True) + 0 * level,
    "another's": lambda level: np.roll(level, 1, axis=0),
}
answers = {"whole": answer(levels)}
print(f"{'level':10}", *(f"{head:>5}" for head in (*model.bins, "all")))
for name, replace in replacements.items():
    print(f"{name:10}", end="")
    for which in ({0}, {1}, {2}, {3}, {0, 1, 2, 3}):
        new = [replace(one) if n in which else one for n, one in enumerate(levels)]
        answers[name] = answer(new)
        print(f" {answers[name][1]:.3f}", end="")
    print()

# %% tags=["score"]
whole, *others = (score for _, score in answers.values())
print(f"mean IoU {whole:.2f}, with other pyramids", *(f"{score:.2f}" for score in others))

# %% alt="A street, its classes, and the answers of the whole network and with three other pyramids"
figure, axes = plt.subplots(2, 3, figsize=(9, 4.7))
axes[0, 0].imshow(streets[1].astype("uint8"))
answers = {"the truth": (labels, 1), **answers}
for axis, (name, (maps, _)) in zip(axes.flat[1:], answers.items(), strict=True):
    axis.imshow(visualization.colorize(maps[1], model.classes))
    axis.set_title(name, fontsize=9)
plt.setp(axes, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# With zeros, the network breaks down. Is so much in the pyramid? No: the head has never seen zeros.
# The mean of all streets says hardly anything about this one, and costs only 0.01. Another street's
# pyramid is wrong, and costs 0.04. (On the 101 frames of CamVid's `val`, at 360×480, the whole
# network reaches 0.65, with zeros 0.47, with the mean 0.64.)
#
# The mean IoU hides where it matters. The whole network calls the blue van a car (dark violet).
# With the mean, half of it becomes road. With another street's pyramid it is gone, and a house
# appears in the sky, where the other street has one. In the middle of a van there is only blue: a
# large thing is hard to know without what is around it. (But the whole network lost the lamp.)
#
# This agrees with the paper in part: its images show many kinds of scenes, these only streets. And
# a network *trained* without a pyramid may find other ways (`keras-psp ladder --ladder pyramid`).
#
# ## What the auxiliary loss does
#
# In training there is a second head, on the last stage but one (`"P4"`). Its loss, times 0.4, is
# added to the first one (Zhao et al., 2017, section 4). After training it is not used.
#
# What does it do to the layers? Take one step of plain gradient descent with a learning rate of 1:
# each weight moves by exactly its gradient. Do this twice from the same weights, without the second
# loss and with it. The difference is the gradient of the second loss. The lengths of both are:


# %%
batch = next(iter(keras_psp.load_street_scenes("val", (120, 160), num_images=8)))


def gradient(network, weight, start):
    """The loss and the gradient of each weight, if the second loss weighs so much."""
    network.set_weights(start)
    network.auxiliary_weight = weight
    network.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    loss = network.train_on_batch(*batch, return_dict=True)["loss"]
    moves = zip(network.weights, start, strict=True)
    return loss, {one.path: old - np.asarray(one) for one, old in moves if one.trainable}


keras.utils.set_random_seed(1)
random = keras_psp.PSPNet("resnet18", 11, backbone_weights=None, dropout=0)
trained = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid", dropout=0)
for name, network in (("random", random), ("trained", trained)):
    start = network.get_weights()
    loss, main = gradient(network, 0, start)
    total, both = gradient(network, 0.4, start)
    print(f"{name} weights: loss {loss:.2f}, with both {total:.2f}")
    for part in ("stem", "stage1", "stage2", "stage3", "stage4", "pyramid", "head"):
        paths = [path for path in main if path.startswith(part)]
        one = np.concatenate([main[path].ravel() for path in paths])
        two = np.concatenate([both[path].ravel() for path in paths]) - one
        lengths = np.linalg.norm(one), np.linalg.norm(two)
        cosine = f", cosine {one @ two / np.prod(lengths):.2f}" if two.any() else ""
        print("  {:7} {:.2f}, second {:.2f}".format(part, *lengths) + cosine)

# %% [markdown]
# - Stage 4, the pyramid and the head get *nothing* from the second loss. It enters behind stage 3.
# - With random weights, its gradient is a quarter to two fifths as long as that of the first loss,
#   and at a right angle to it (cosine 0). In the trained network, both pull the same way.
#
# You may read that such a loss is needed because the first gradient vanishes on its long way. Here
# it does not: the shortcuts of a ResNet let it pass. The paper says that the loss helps to learn:
# on ADE20K, it took a ResNet-50 without pyramid from 35.82 % mean IoU to 37.23 % (section 5.2).
#
# ## Exercises
#
# **1.** The map has 45 rows, and the level 2 has two rows of cells. Which rows does each average?

# %% tags=["answer"]
rows = np.arange(45, dtype="float32").reshape(1, 45, 1, 1)
(means,) = layers.PyramidAveragePooling2D([2])(rows)
upper, lower = np.asarray(means)[0, :, 0, 0]
assert (upper, lower) == (np.mean(range(23)), np.mean(range(22, 45)))

# %% [markdown] tags=["answer"]
# Rows 0 to 22, and 22 to 44. The row in the middle is in both.

# %% [markdown]
# **2.** How many weights has the pyramid for C channels? Does it need more with eight levels than
# with four?

# %% tags=["answer"]
for bins in [(1, 2, 3, 6), (1, 2, 3, 4, 6, 8, 12, 24)]:
    pyramid = layers.PyramidPooling(bins)
    pyramid.build((None, 45, 60, 512))
    weights = [np.prod(variable.shape) for variable in pyramid.trainable_variables]
    assert sum(weights) == 512 * 512 + 2 * 512

# %% [markdown] tags=["answer"]
# With N levels, each has a 1×1 convolution from C to C / N channels, so all of them have C · C
# weights, and the batch normalizations 2 · C. The number of levels does not matter.

# %% [markdown]
# **3.** Shuffle the places of the feature map at random. Which levels notice it?

# %% tags=["answer"]
places = features[0].reshape(-1, 512)
shuffled = np.random.default_rng(0).permutation(places).reshape(1, 45, 60, 512)
noticed = []
for new, old in zip(model.pyramid_pooling.pooled(shuffled), levels, strict=True):
    noticed.append(not np.allclose(new, old[:1], atol=1e-3))
assert noticed == [False, True, True, True]

# %% [markdown] tags=["answer"]
# All but the first one: the mean over the whole image knows no places.

# %% [markdown]
# **4.** The auxiliary head is a 3×3 convolution from 256 channels to 64, batch normalization (four
# numbers for each channel) and a 1×1 convolution to 11 classes. After training, how many numbers
# can you throw away?

# %% tags=["answer"]
numbers = 3 * 3 * 256 * 64 + 4 * 64 + (64 + 1) * 11
assert numbers == model.auxiliary_head.count_params() == 148_427

# %% [markdown]
# ## Where to go from here
#
# [Results](../docs/results.md) compares PSPNet with the networks before it. All parts are
# [layers](../docs/api/layers.md) that you can put into a network of your own. Read [Zhao et al.,
# 2017](https://arxiv.org/abs/1612.01105), sections 3 and 4.
