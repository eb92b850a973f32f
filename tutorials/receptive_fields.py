# %% [markdown]
# # Receptive fields and dilation
#
# A network looks at each place of a street through a window. If the window is small, road and wall
# are the same gray. How large is it, what makes it larger, and how much of it is really used?
#
# **You learn** to compute what a cell of a network can see, by hand and for a whole ResNet; what
# dilation does, and where it leaves holes; and why gradients say that a cell sees much less than
# the theory promises. That is the reason for PSPNet's pyramid.
#
# **You need** convolutions, NumPy and [your first
# segmentation](../tutorials/first_segmentation.ipynb). Reading takes 25 minutes. Nothing is trained
# or downloaded.

# %% [markdown]
# ## Through a window
#
# What is in the middle of these pictures? Guess from left to right.

# %% alt="The same place of a street through windows of 15, 41, 111 and 301 pixels"
import keras_psp
from keras_psp import analysis, visualization

import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.dpi"] = 130
image, labels = keras_psp.street_scene(seed=3_000_003, image_size=(480, 640))
row, column = 325, 290

figure, axes = plt.subplots(1, 4, figsize=(9, 2.5))
for axis, side in zip(axes, (15, 41, 111, 301), strict=True):
    top, left = row - side // 2, column - side // 2
    axis.imshow(image[top : top + side, left : left + side])
    axis.set_title(f"{side} × {side} pixels", fontsize=9)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# The first window shows gray noise: road, wall or sidewalk? In the last one you see that it is a
# road, as you see the street around it. A network has the same problem. Each layer makes a map, and
# a map's places are its *cells*. The pixels that can change a cell are its **receptive field**.
#
# ## Two rules
#
# A 3×3 convolution sees 3×3 pixels. A second one on top sees 3×3 *cells*, whose windows overlap:
# 5×5 pixels. After $L$ of them, the side of the field is $1 + 2L$. This grows slowly.
#
# A layer with a **stride** of 2 puts its cells 2 pixels apart. From there on, each step of a kernel
# is a step of 2 pixels. So we carry two numbers from layer to layer, the *size* of the field and
# the *step* from one cell to the next:
#
# 1. size ← size + (kernel − 1) · step
# 2. step ← step · stride


# %%
def field_sizes(layers):
    """Follows (kernel, stride) from layer to layer."""
    size, step, sizes = 1, 1, []
    for kernel, stride in layers:
        size += (kernel - 1) * step
        step *= stride
        sizes.append(size)
    return sizes


for stride in (1, 2, 3):
    stack = [(3, 1), (3, stride), (3, 1), (3, stride)]  # conv, pool, conv, pool
    print(f"pools of stride {stride}: {field_sizes(stack)}")

# %% [markdown]
# Check the second line by hand: the first pool ends with size 5 and step 2. The next convolution
# adds (3 − 1) · 2 = 4: size 9. The last pool adds 4 again: 13.
#
# The next picture shows the same stacks from the side. The upper dot is one cell of the last layer,
# the lowest row is the image. A line means *is computed from*.


# %%
def draw(axis, layers, title):
    """Draws what one cell sees, layer by layer; the darker, the more paths lead to it."""
    size, step = 1, 1
    for kernel, stride, rate in layers:
        size += rate * (kernel - 1) * step
        step *= stride
    places, matrices = [np.arange(size) - (size - 1) / 2], []
    for side, stride, rate in layers:
        kernel = np.ones(side)
        matrices.append(analysis.convolution_matrix(kernel, size, stride, "valid", rate))
        size = len(matrices[-1])
        places.append(matrices[-1] @ places[-1] / side)  # in the middle of its inputs
    paths = np.ones(1)
    for level in range(len(layers), 0, -1):
        for top, bottom in np.argwhere(matrices[level - 1] * (paths > 0)[:, None]):
            ends = places[level][top], places[level - 1][bottom]
            axis.plot(ends, (level, level - 1), color="lightgray", zorder=1)
        axis.scatter(places[level], 0 * paths + level, c=paths, cmap="Purples", vmin=0)
        paths = paths @ matrices[level - 1]
    axis.scatter(places[0], 0 * paths, c=paths, cmap="Purples", vmin=0, edgecolors="gray")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
    return paths.astype(int)


# %% alt="Four 3×3 convolutions see 9 pixels; with two strides of 2 they see 13"
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharex=True)
plain = draw(axes[0], [(3, 1, 1)] * 4, "four layers of stride 1")
draw(axes[1], [(3, 1, 1), (3, 2, 1), (3, 1, 1), (3, 2, 1)], "strides 1, 2, 1, 2")
plt.show()
print("paths from each pixel to the cell:", plain)

# %% [markdown]
# Count the lowest dots: 9 and 13. The right stack sees more, but it has fewer cells, one for 4.
#
# The color is a second message. From the pixel in the middle, 19 paths lead to the cell; from the
# pixel at the border, a single one. Keep this in mind for the end of the page.
#
# ## Dilation
#
# A classifier ends with one cell for 32×32 pixels. That is too coarse for a pole. But without its
# strides, the field shrinks. **Dilation** gives both, small steps and a large field: it moves the
# numbers of a kernel apart, and leaves holes between them. At rate $r$, a kernel of size $k$ spans
# $r (k - 1) + 1$ cells and still has $k$ numbers.

# %% alt="Rates 1, 2, 4 see 15 pixels in a row; rates 2, 2, 2 see 13 and leave every second one out"
figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.6), sharex=True)
for axis, rates in zip(axes, [(1, 1, 1), (1, 2, 4), (2, 2, 2)], strict=True):
    paths = draw(axis, [(3, 1, rate) for rate in rates], f"rates {rates}")
    print(f"rates {rates}: field {len(paths)}, paths {paths}")
plt.show()

# %% [markdown]
# All three stacks have the same number of weights. Rates 1, 2, 4 see 15 pixels instead of 7, and
# none is missing. Rates 2, 2, 2 see 13, but every second pixel has no path (white): two neighbors
# in the output share no pixel. This is called **gridding**. So let a network's rates begin small.
#
# ## A whole network
#
# `receptive_field` follows the two rules through any Keras network. It computes nothing but sizes.
# Here is ResNet-18, as a classifier has it and as PSPNet has it:

# %%
for stride in (32, 16, 8):
    backbone = keras_psp.build_backbone("resnet18", weights=None, output_stride=stride)
    field = analysis.receptive_field(backbone, image_size=(480, 640))
    cells = " × ".join(map(str, field.output_shape[:2]))
    print(f"output stride {stride:2}: {cells} cells, each sees {field.size[0]} pixels")

# %% [markdown]
# The **output stride** is the step of the last layer. At stride 8 there are 16 times as many cells
# as at stride 32, and none sees less: where a stride is left out, the layers behind it are dilated.

# %% alt="A person and signs at the curb under a grid of 32 pixels, and of 8"
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for axis, stride in zip(axes, (32, 8), strict=True):
    axis.imshow(image)
    axis.vlines(np.arange(0, 640, stride), 0, 479, color="white", linewidth=0.5)
    axis.hlines(np.arange(0, 480, stride), 0, 639, color="white", linewidth=0.5)
    axis.set(xlim=(352, 544), ylim=(288, 160))
    axis.set_title(f"output stride {stride}", fontsize=9)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# On the left, the person shares two boxes with wall and sidewalk, and the network has one answer
# for each. On the right, the person has several. The thin posts still share theirs with the wall.
#
# <div id="play" class="widget" data-widget="receptive_field">On the site, you choose
# layers and a cell here, and see its receptive field on a street.</div>
#
# **Try it.** Move the cell. Choose the layers of VGG-16 one after the other: where does the box
# grow fastest? Then choose *Dilation 2, 2, 2* at the top, and close the holes: change one number.
#
# ## Theory against gradients
#
# That a pixel *can* change a cell does not mean that it *does*. Count the paths of a stack of 3×3
# convolutions: in the middle there are many, at the border one. They form a bell. A pixel is
# important if it has more than 4.55 % of the paths of the middle (in a Gaussian bell, two standard
# deviations). The side of a square with as many pixels is the **effective receptive field**.

# %% alt="The theoretical field grows like a line, the effective one like a square root"
depths, sides = np.arange(1, 81), []
paths = np.ones(1)
for _ in depths:
    paths = np.convolve(paths, np.ones(3) / 3)
    bell = np.outer(paths, paths)
    sides.append(np.sqrt((bell > 0.0455 * bell.max()).sum()))

plt.figure(figsize=(7, 3.2))
plt.plot(depths, 1 + 2 * depths, label="theory: 1 + 2L")
plt.plot(depths, sides, label="effective")
plt.gca().set(xlabel="number L of 3×3 convolutions", ylabel="side in pixels")
plt.legend()
plt.show()
for depth in (5, 10, 20, 40, 80):
    print(f"{depth:2} layers: theory {1 + 2 * depth:3}, effective {sides[depth - 1]:.1f}")

# %% [markdown]
# 80 convolutions could see 161 pixels, and really use about 32. The theoretical side grows with
# $L$, the effective side only with $\sqrt{L}$ (Luo et al., 2016).
#
# In a trained network, each path has a weight. There the gradient answers: how much does the cell
# change if this pixel changes a little? `effective_receptive_field` asks this for the cell in the
# middle. We ask it of the trained PSPNet in the package, at the end of each stage of its ResNet-18:

# %%
model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
fields = {}
for stage in (1, 2, 3, 4):
    layer = f"resnet18_v1c/stage{stage}_block2"
    fields[stage] = analysis.effective_receptive_field(model, layer, images=image[None])
    theory, effective = fields[stage].field.size[0], fields[stage].side
    print(f"stage {stage}: theory {theory:3} pixels, effective {effective:5.1f} pixels")

# %% alt="The field of stage 4: a large box on the street, and in it a small bright part"
visualization.receptive_field(None, image, fields[4].field, fields[4])

# %% [markdown]
# The left picture shows the theory: the red box is all that this cell can see. (It is 311 pixels,
# as this ResNet-18 dilates only every second convolution.) On the right, a pixel is bright if it
# matters. The red square is the effective field, a quarter of the theoretical side.
#
# ## What PSPNet does about it
#
# PSPNet's paper names this as its reason: the real field is much smaller than the theoretical one.
# So its pyramid averages the whole map, in 1, 4, 9 and 36 parts, and gives the means to every cell.
# How much of what moves the head lies outside of the red box above?

# %% tags=["score"]
behind = analysis.effective_receptive_field(model, "head", images=image[None])
top, left, bottom, right = fields[4].field.box()
inside = behind.gradient[top - 8 : bottom + 8, left - 8 : right + 8]  # a 3×3 head
outside = 1 - inside.sum() / behind.gradient.sum()
print(f"{outside:.0%} of the gradient lies where only the pyramid leads")

# %% alt="The field of the head: the whole street, and all of it is a little bright"
visualization.receptive_field(None, image, behind.field, behind)

# %% [markdown]
# Behind the pyramid, the cell sees the whole street. Most of it is dark, but not black: 16 % of
# what moves the cell lies where only the pyramid leads. The red square hardly grew. The pyramid
# does not let the cell see its neighbors better; it tells the cell what kind of scene surrounds it.
#
# ## Exercises
#
# **1.** How many 3×3 convolutions of stride 1 does a cell need to see all 320 pixels of a row?

# %% tags=["answer"]
assert field_sizes([(3, 1)] * 160)[-2:] == [319, 321]

# %% [markdown] tags=["answer"]
# 160: 1 + 2 · 160 = 321. Thanks to its strides, ResNet-18 sees 435 pixels with 17.

# %% [markdown]
# **2.** The classifier VGG-16 has five blocks of 2, 2, 3, 3 and 3 convolutions (3×3), each with a
# pool (2×2, stride 2) behind it. How large is the field of the last pool?

# %% tags=["answer"]
vgg = []
for convolutions in (2, 2, 3, 3, 3):
    vgg += [(3, 1)] * convolutions + [(2, 2)]
assert field_sizes(vgg)[-1] == 212

# %% [markdown]
# **3.** The network Dilation8 puts seven 3×3 convolutions on its map, with rates 1, 1, 2, 4, 8, 16
# and 1. How many cells of the map does each of them see?

# %% tags=["answer"]
sizes = 1 + np.cumsum([2 * rate for rate in (1, 1, 2, 4, 8, 16, 1)])
assert sizes.tolist() == [3, 5, 9, 17, 33, 65, 67]

# %% [markdown] tags=["answer"]
# At rate r a kernel of 3 adds 2r. Where rates double, so does the field, nearly.

# %% [markdown]
# **4.** Which of these rates leave holes: 1, 3, 9? 1, 2, 5? 2, 4, 8? Which see each pixel once?

# %% tags=["answer"]
extremes = []
for rates in [(1, 3, 9), (1, 2, 5), (2, 4, 8)]:
    paths = np.ones(1)
    for rate in rates:
        kernel = np.zeros(2 * rate + 1)
        kernel[::rate] = 1
        paths = np.convolve(paths, kernel)
    extremes.append((paths.min(), paths.max()))
assert extremes == [(1, 1), (1, 2), (0, 3)]

# %% [markdown] tags=["answer"]
# 2, 4, 8 never see an odd distance. 1, 3, 9 see 27 pixels, each of them by one path.

# %% [markdown]
# ## Where to go from here
#
# [PSPNet taken apart](../tutorials/pspnet_taken_apart.ipynb) looks into the pyramid, and
# [upsampling five ways](../tutorials/upsampling.ipynb) goes back to the pixels. The
# [reference](../docs/api/analysis.md) has all that computes fields. Read [Araujo et
# al.](https://distill.pub/2019/computing-receptive-fields) on the theory, [Luo et
# al.](https://arxiv.org/abs/1701.04128) on the effective field.
