# %% [markdown]
# # Upsampling five ways, and where checkerboards come from
#
# Inside a segmentation network the map is small: one cell for 8×8 pixels. At its end there must be
# an answer for each pixel. How does a small map become a large one?
#
# **You learn** five ways to enlarge a map, each by hand and as a layer; why there are two kinds of
# bilinear interpolation; which matrix a transposed convolution is; where checkerboards come from;
# and why logits may be interpolated, and labels never.
#
# **You need** convolutions and NumPy, and [your first
# segmentation](../tutorials/first_segmentation.ipynb). Reading takes 25 minutes. Nothing is trained
# or downloaded.

# %% [markdown]
# ## Five ways for four numbers
#
# The small map has two rows, 1 2 and 3 4. All five ways make it twice as high and twice as wide.
#
# - **Nearest**: repeat each number.
# - **Bed of nails**: put each number into the first corner of its block, and zeros elsewhere.
# - **Max unpooling**: the small map came out of a max pooling, which noted where each maximum was.
#   Put each number back to *its* place, and zeros elsewhere.
# - **Bilinear**: go from one number to the next in a straight line.
# - **Transposed convolution**: multiply a whole kernel by each number, and lay these copies side by
#   side. Where copies overlap, add them. The numbers of the kernel are learned.

# %% alt="The map 1 2 3 4 enlarged by the five layers, with the numbers in the cells"
import keras_psp
from keras_psp import analysis, layers, metrics, visualization

import keras
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.dpi"] = 130
small = np.array([[1, 2], [3, 4]], "float32").reshape(1, 2, 2, 1)
pooled = np.array([[0, 1, 0, 0], [0, 0, 1, 2], [0, 2, 4, 1], [3, 0, 3, 0]], "float32")
_, places = layers.MaxPoolWithArgmax(2)(pooled.reshape(1, 4, 4, 1))

kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
transposed = keras.layers.Conv2DTranspose(1, 3, strides=2, use_bias=False)
transposed.build(small.shape)
transposed.set_weights([kernel[..., None, None]])

large = {
    "the small map": small,
    "nearest": keras.layers.UpSampling2D(2)(small),
    "bed of nails": layers.BedOfNails(2)(small),
    "max unpooling": layers.MaxUnpool(2)(small, places),
    "bilinear": layers.BilinearUpsample(factor=2, align_corners=False)(small),
    "transposed convolution": transposed(small),
}
figure, axes = plt.subplots(2, 3, figsize=(8, 5.6))
for axis, (title, numbers) in zip(axes.flat, large.items(), strict=True):
    numbers = np.asarray(numbers)[0, :, :, 0]
    axis.imshow(numbers, cmap="Purples", vmin=0, vmax=8)
    for (row, column), number in np.ndenumerate(numbers):
        axis.text(column, row, f"{number:.4g}", ha="center", va="center", fontsize=9)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# Look at the 2 in the panel of max unpooling. The pooling had found it in the lower right corner of
# its block, and there it is again. In the last panel, look at the row in the middle, 1 2 2.5 3 1.5:
# here the lower copies overlap the upper ones. (Without padding, this map has one more row and
# column.) All these layers are in use: the network SegNet has max unpooling, FCN transposed
# convolutions, DeconvNet both, and PSPNet bilinear interpolation.
#
# <div id="play" class="widget" data-widget="convolution">The site steps through this here.</div>
#
# **Try it.** Type your own numbers, and choose a cell of the output. Then choose *Transposed
# convolution* and *All ones*: how many copies of the kernel does each cell get? And with kernel 4?
#
# ## Bilinear, by hand
#
# Along one axis, let $f(i)$ be the number in cell $i$. The value at place $x$ is
#
# $$\sum_i f(i) \max(0, 1 - |x - i|)$$
#
# The two neighbors of $x$ count, and the nearer one counts more. Four new cells lie over two old
# ones. Their centers are at −0.25, 0.25, 0.75 and 1.25, if we count in old cells. At 0.25, between
# 1 and 2, the value is 0.75·1 + 0.25·2 = 1.25. Find it in the upper row of the bilinear panel.
#
# But does the first new center really lie at −0.25? There are two conventions:

# %% alt="Eight new cells over four old ones, in both conventions"
new_centers = {
    "half-pixel centers": (np.arange(8) + 0.5) / 2 - 0.5,
    "aligned corners": np.linspace(0, 3, 8),
}
figure, axis = plt.subplots(figsize=(7, 1.6))
for height, (name, centers) in enumerate(new_centers.items()):
    axis.vlines(np.arange(5) - 0.5, height - 0.3, height + 0.3, color="gray")
    axis.scatter(range(4), [height] * 4, s=200, color="lightgray")
    axis.scatter(centers, [height] * 8, s=25, color="purple")
    axis.text(-2.4, height, name, va="center", fontsize=9)
axis.set_axis_off()
plt.show()
for aligned in (False, True):
    row = layers.BilinearUpsample(size=(1, 4), align_corners=aligned)(small[:, :1])
    print(f"align_corners={aligned}: {np.asarray(row).ravel().round(2)}")

# %% [markdown]
# Gray are four old cells and their centers, purple the centers of eight new ones. Below, with
# **half-pixel centers**, each old cell has two new ones inside, as in image programs. Above, with
# **aligned corners**, the first and the last centers coincide, as in PSPNet. Both are right. To mix
# them is wrong, and costs something, as you will see.
#
# ## A transposed convolution is a transposed matrix
#
# A convolution adds up products, so it is a matrix. Here is a kernel of three numbers that moves
# over five cells in steps of 2:

# %%
matrix = analysis.convolution_matrix([1, 2, 3], 5, strides=2)
print("convolution: 5 cells → 2 cells")
print(matrix)
print("transposed: 2 cells → 5 cells")
print(matrix.T)
print("of the map (10, 1):", matrix.T @ [10, 1])

# %% [markdown]
# By hand: the cell 10 writes 10, 20, 30. The cell 1 writes 1, 2, 3, two places further. They
# overlap in one place: 30 + 1 = 31. Each cell is *broadcast* through the kernel. Some call this
# layer "deconvolution". The name misleads, as it undoes nothing:

# %%
x = np.array([1, 2, 3, 4, 5])
print("there", matrix @ x, "and back", matrix.T @ matrix @ x)

# %% [markdown]
# ## Checkerboards
#
# Look at the rows of the transposed matrix: the third has two numbers, the others one. With stride
# 2 and kernel 3, the copies overlap in every second cell. A cell of a map has 1, 2 or 4 copies:

# %% alt="Copies in each cell: a checkerboard for kernel 3, 4 everywhere inside for kernel 4"
counts = {}
for side in (3, 4):
    ones = np.ones((side, side))
    copies = analysis.convolution_matrix(ones, 4, strides=2, transposed=True).sum(1)
    size = analysis.output_size(4, side, strides=2, transposed=True)
    counts[f"kernel {side}, stride 2"] = copies.reshape(size, size)
visualization.overlaps(None, counts)

# %% [markdown]
# On the left there is a checkerboard, although all cells of the small map are equal. A network must
# learn to hide it. On the right the stride divides the kernel, and each cell inside is made of 4
# copies. So **take a kernel whose size is a multiple of the stride**: 4 for 2, 16 for 8.
#
# Such a kernel can begin as bilinear interpolation, and learn from there. FCN does this:

# %%
bilinear = keras.layers.Conv2DTranspose(
    1, 4, 2, padding="same", use_bias=False, kernel_initializer=layers.Bilinear()
)
ramp = np.arange(36, dtype="float32").reshape(1, 6, 6, 1)
same = layers.BilinearUpsample(factor=2, align_corners=False)(ramp)
difference = np.asarray(bilinear(ramp)) - np.asarray(same)
print("largest difference inside", np.abs(difference[:, 1:-1, 1:-1]).max())

# %% [markdown]
# ## On a street
#
# Now a piece of a street, made four times smaller and enlarged again.

# %% alt="A car enlarged four times: blocks, dots, scattered dots, a blur, and a checkerboard"
image, labels = keras_psp.street_scene(seed=3_000_003, image_size=(240, 320))
pixels = image[None, 96:192, :128].astype("float32")
coarse = keras.layers.AveragePooling2D(4)(pixels)
maxima, places = layers.MaxPoolWithArgmax(4)(pixels)

uneven = keras.layers.Conv2DTranspose(3, 6, 4, padding="same", use_bias=False)
uneven.build(coarse.shape)
uneven.set_weights([np.tile(np.eye(3) * (4 / 6) ** 2, (6, 6, 1, 1))])  # each color alone

enlarged = {
    "the image": pixels,
    "nearest": keras.layers.UpSampling2D(4)(coarse),
    "bilinear": layers.BilinearUpsample(factor=4, align_corners=False)(coarse),
    "bed of nails": layers.BedOfNails(4)(coarse),
    "max unpooling": layers.MaxUnpool(4)(maxima, places),
    "transposed, kernel 6, stride 4": uneven(coarse),
}
figure, axes = plt.subplots(2, 3, figsize=(9, 4.8))
for axis, (title, picture) in zip(axes.flat, enlarged.items(), strict=True):
    axis.imshow(np.uint8(np.asarray(picture)[0].clip(0, 255)), interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# Nearest shows blocks, bilinear a blur. The bed of nails and max unpooling leave most pixels black,
# so convolutions always follow them. Compare the two: the nails stand in straight rows, and the
# dots of max unpooling lie where the image was brightest in their block. In the last picture, a
# pattern lies over the road that no street has.
#
# ## Interpolate logits, never labels
#
# In front of a building (class 0) rides a cyclist (class 10). We interpolate these numbers:

# %%
names = keras_psp.data.CAMVID.names
border = np.array([0, 0, 10, 10], "float32").reshape(1, 1, 4, 1)
blurred = layers.BilinearUpsample(size=(1, 7))(border)
print([names[int(number)] for number in np.asarray(blurred).ravel()])

# %% [markdown]
# Between them appears class 5, Road. A class number is a name, not an amount. So a network enlarges
# its **logits**, one map for each class, and takes the largest one *afterward*.
#
# Which way is best for this? We try it with a network that knows the truth: for each cell of 8×8
# pixels, it says which share of them has which class. Here is the mean IoU of its answers on 20
# scenes ([what that says](../tutorials/iou.ipynb)):

# %% tags=["score"]
scenes = [keras_psp.street_scene(3_000_000 + number, (240, 320)) for number in range(20)]
truth = np.stack([labels for _, labels in scenes])
one_hot = np.float32(truth[..., None] == np.arange(11))
shares = keras.layers.AveragePooling2D(8)(one_hot)
ways = {
    "nearest": keras.layers.UpSampling2D(8),
    "aligned corners": layers.BilinearUpsample(factor=8),
    "half-pixel centers": layers.BilinearUpsample(factor=8, align_corners=False),
}
scores = {}
for name, layer in ways.items():
    best = np.asarray(layer(shares)).argmax(-1)
    scores[name] = metrics.iou_per_class(metrics.confusion_matrix(truth, best, 11)).mean()
print("mean IoU", ", ".join(f"{score:.2f} {name}" for name, score in scores.items()))

# %% [markdown]
# Nearest is the worst: its outlines are stairs of 8 pixels. The shares were counted in blocks of
# 8×8 pixels, so they have half-pixel centers, and this convention is the best. Aligned corners move
# the answers, at the image's border by up to 3.5 pixels. A network that learned with aligned
# corners does not suffer from them. But its weights are wrong in a network of the other kind.
#
# ## Exercises
#
# **1.** Which kernels of a transposed convolution with stride 3 draw no checkerboard: 3, 4, 5, 6?
# Find out by hand, then by `convolution_matrix`.

# %% tags=["answer"]
even = []
for n in (3, 4, 5, 6):
    copies = analysis.convolution_matrix(np.ones(n), 8, strides=3, transposed=True).sum(1)
    inside = copies[n:-n]
    even.append(inside.min() == inside.max())
assert even == [True, False, False, True]

# %% [markdown] tags=["answer"]
# 3 and 6, the multiples of 3. With 4 and 5, some cells get one copy and others two.

# %% [markdown]
# **2.** Pool a map, unpool it, and pool it again. When do you get the first pooled map?

# %% tags=["answer"]
pool, unpool = layers.MaxPoolWithArgmax(2), layers.MaxUnpool(2)
for sign in (1, -1):
    random_map = sign * np.random.default_rng(0).uniform(1, 2, (1, 8, 8, 1))
    maxima, places = pool(random_map)
    again, _ = pool(unpool(maxima, places))
    assert np.allclose(again, maxima) == (sign == 1)

# %% [markdown] tags=["answer"]
# Without negative maxima, as behind a ReLU. Zeros beside a negative maximum are larger than it.

# %% [markdown]
# **3.** FCN-8s enlarges a map eight times by a transposed convolution with kernel 16 and stride 8.
# How much padding makes 28 cells exactly 224?

# %% tags=["answer"]
assert analysis.output_size(28, 16, strides=8, padding=4, transposed=True) == 224

# %% [markdown] tags=["answer"]
# Without padding there are (28 − 1) · 8 + 16 = 232 cells, 8 too many: 4 on each side.

# %% [markdown]
# **4.** Checkerboards come from *downsampling*, too. Take a convolution with kernel 3 and stride 2:
# which pixels does the loss change most? (The gradient goes backward, by the transposed matrix.)

# %% tags=["answer"]
matrix = analysis.convolution_matrix(np.ones(3), 9, strides=2)
gradient = matrix.T @ np.ones(4)
assert gradient.tolist() == [1, 1, 2, 1, 2, 1, 2, 1, 1]

# %% [markdown] tags=["answer"]
# Every second one: two cells see it. Gradients of networks with strides are checkerboards, too.

# %% [markdown]
# ## Where to go from here
#
# [From classifier to segmentation](../tutorials/fully_convolutional.ipynb) trains networks that
# enlarge their scores 8, 16 and 32 times. [Receptive fields and
# dilation](../tutorials/receptive_fields.ipynb) shows how a network avoids small maps, and
# [IoU](../tutorials/iou.ipynb) what a blurred outline costs. The reference has [all
# layers](../docs/api/layers.md). Checkerboards were explained by [Odena et al.,
# 2016](https://distill.pub/2016/deconv-checkerboard).
