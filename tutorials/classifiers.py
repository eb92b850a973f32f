# %% [markdown]
# # From AlexNet to ResNet
#
# A classifier says which of 1000 classes a photograph shows. In 2012 the best one had eight layers,
# three years later 152. On this page you count what each costs, and see what each paper added.
#
# **You learn** where the parameters of a network sit, and where its work is done; why VGG stacks
# small kernels; what GoogLeNet's 1×1 convolutions save; what an average does in the place of dense
# layers; what a shortcut and a bottleneck cost; and which network is worth its price.
#
# **You need** convolutions, and to have built a small network in Keras. Reading takes 25 minutes.
# Nothing is trained or downloaded.

# %% [markdown]
# ## Six networks, counted
#
# A network has two prices. Its *parameters* are the numbers that it learns: they fill the file. Its
# *multiply-adds* are the work for one image: products, each added to a sum. Both follow from the
# shapes alone, so the networks here have no values:

# %%
import keras_psp
from keras_psp import analysis, layers

import keras
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.dpi"] = 130


def build(builder, variant, **options):
    """Builds a network without values: VGG-16 alone has 138 million."""
    with keras.StatelessScope(initialize_variables=False):
        return builder(variant, weights=None, **options)


networks = {
    "AlexNet": build(keras_psp.AlexNet, "alexnet"),
    "VGG-16": build(keras_psp.VGG, "vgg16"),
    "GoogLeNet": build(keras_psp.Inception, "googlenet"),
}
size = {"input_shape": (224, 224, 3)}  # the others have a size
for depth in (34, 50, 152):
    networks[f"ResNet-{depth}"] = build(keras_psp.ResNet, f"resnet{depth}", **size)

costs = {name: analysis.count(model) for name, model in networks.items()}
print("millions of   parameters  multiply-adds  receptive field")
for name, model in networks.items():
    last = [layer for layer in model.layers if len(layer.output.shape) == 4][-1]
    field = analysis.receptive_field(model, last).size[0]
    numbers = costs[name].parameters / 1e6, costs[name].multiply_adds / 1e6, field
    print("{:10} {:13.1f} {:14,.0f} {:16}".format(name, *numbers))

# %% [markdown]
# (The [receptive field](../tutorials/receptive_fields.ipynb) is the side of what one place of the
# last map can see, in pixels. The images have 224, AlexNet's 227.)
#
# VGG-16 has twice AlexNet's parameters, and 21 times its work. GoogLeNet has a ninth of AlexNet's
# parameters and twice its work. ResNet-152 does less work than VGG-16, with nearly ten times as
# many layers. So parameters, work and depth do not go together. Why?
#
# ## AlexNet: where the parameters sit
#
# AlexNet has five convolutions and three dense layers. (Its paper made ReLU, dropout and training
# on GPUs known: Krizhevsky et al., 2012.) Its layers, beside VGG-16's:

# %% alt="In AlexNet and VGG-16, convolutions do the work, and dense layers have the parameters"
units = "parameters", "multiply_adds"
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axis, name in zip(axes, ("AlexNet", "VGG-16"), strict=True):
    counted = [layer for layer in costs[name].layers if layer.weights]
    places = np.arange(len(counted))
    for shift, unit in zip((-0.2, 0.2), units, strict=True):
        numbers = np.array([getattr(layer, unit) for layer in counted])
        shares = 100 * numbers / numbers.sum()
        axis.barh(places + shift, shares, 0.4, label=unit.replace("_", "-"))
    axis.set_yticks(places, [layer.name for layer in counted], fontsize=8)
    axis.set(title=name, xlabel="% of the whole network", ylim=(len(places), -1))
axes[0].legend()
plt.show()

for layer in [layer for layer in costs["AlexNet"].layers if layer.weights]:
    uses = layer.multiply_adds // layer.weights
    print(f"{layer.name:12} {layer.weights:11,} weights, each used {uses:5,} times")

# %% [markdown]
# The convolutions do the work, and the dense layers have the parameters. The first dense layer of
# VGG-16 alone has three quarters of them. The last column says why: a convolution uses each weight
# again at every place of its map, and a dense layer uses each weight once. For a smaller file, look
# at the dense layers; for a faster network, at the convolutions.
#
# ## VGG: small kernels, stacked
#
# AlexNet begins with a kernel of 11×11. VGG-16 has only 3×3 (Simonyan and Zisserman, 2015). Two of
# these see as far as one 5×5, three as far as one 7×7. Which are cheaper? On 56×56 places with 256
# channels:


# %%
def stack(*kernels):
    rows = [keras.layers.Conv2D(256, kernel, padding="same") for kernel in kernels]
    return keras.Sequential([keras.Input((56, 56, 256)), *rows])


for kernels in [(5,), (3, 3), (7,), (3, 3, 3)]:
    model = stack(*kernels)
    field, cost = analysis.receptive_field(model).size[0], analysis.count(model)
    print(f"kernels {kernels!s:10} field {field}, {cost.parameters:9,} parameters")

# %% [markdown]
# Two 3×3 kernels have 18 numbers for each pair of channels, one 5×5 has 25: 28 % fewer. Three 3×3
# have 27, one 7×7 has 49: 45 % fewer. And a ReLU follows each of them.
#
# Is something lost? Without the ReLU between them, two 3×3 convolutions are exactly *one* 5×5
# convolution. Its kernel adds up nine copies of the second kernel, each times a number of the
# first:

# %% alt="Two kernels of 3×3 numbers, and the kernel of 5×5 numbers that does what both do"
rng, conv = np.random.default_rng(1), keras.ops.conv
one, two = rng.normal(size=(2, 3, 3)).astype("float32")
both = np.zeros((5, 5), "float32")
for (row, column), number in np.ndenumerate(one):
    both[row : row + 3, column : column + 3] += number * two

noise = rng.normal(size=(1, 9, 9, 1)).astype("float32")
a, b, ab = (kernel[..., None, None] for kernel in (one, two, both))
print(f"largest difference {np.abs(conv(conv(noise, a), b) - conv(noise, ab)).max():.0e}")

figure, axes = plt.subplots(1, 3, figsize=(7, 2.4))
kernels = {"the first kernel": one, "the second kernel": two, "both in one": both}
for axis, (title, kernel) in zip(axes, kernels.items(), strict=True):
    axis.imshow(np.pad(kernel, (5 - len(kernel)) // 2), cmap="PuOr", vmin=-2, vmax=2)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
plt.show()

# %% [markdown]
# The other way round it does not work: 18 numbers cannot make every kernel of 25. In return, VGG
# gets depth, and one more ReLU. Its paper tries 11 layers (A) to 19 (E):

# %%
for letter in "ABDE":
    cost = analysis.count(build(keras_psp.VGG, letter))
    depth = sum(layer.weights > 0 for layer in cost.layers)
    work = cost.multiply_adds / 1e9
    print(f"{letter}: {depth} layers, {cost.parameters:,} parameters, {work:.1f} billion")

# %% [markdown]
# Eight more layers cost 2.6 times the work, and 8 % more parameters: 124 million are dense ones.
#
# ## GoogLeNet: 1×1 convolutions
#
# GoogLeNet does not choose one kernel. An **inception module** has 1×1, 3×3, 5×5 and a pooling side
# by side, and joins their channels (Szegedy et al., 2015). Its naive form is expensive, because
# each large kernel reads *all* channels. So a **1×1 convolution** comes first: at each place, the
# same small matrix makes few channels out of many. The first module, *3a*, in both forms:

# %%
for naive in (True, False):
    module = layers.InceptionModule(64, 96, 128, 16, 32, 32, naive=naive, name="3a")
    cost = analysis.count(keras.Sequential([keras.Input((28, 28, 192)), module]))
    print(f"{cost}\nchannels: {module.compute_output_shape((28, 28, 192))[-1]}\n")

# %% [markdown]
# Look at the 5×5: 120 million multiply-adds without a reduction, 2.4 + 10.0 with it. The 1×1 makes
# 16 channels of 192, and the 5×5 reads only these. The pooling has no weights, but in the naive
# form it passes all its channels on. So the channels grow from module to module:

# %% alt="Without reductions, channels and work of the modules grow to several times as much"
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for naive in (True, False):
    cost = analysis.count(build(keras_psp.Inception, "googlenet", naive=naive))
    modules = {n[-2:]: b for n, b in cost.by_block().items() if n.startswith("inception")}
    label = "naive" if naive else "with 1×1 reductions"
    axes[0].plot([b.output_shape[-1] for b in modules.values()], "o-", label=label)
    axes[1].plot([b.multiply_adds / 1e6 for b in modules.values()], "o-", label=label)
    work = cost.multiply_adds / 1e9
    print(f"{label}: {cost.parameters / 1e6:.1f} million parameters, {work:.1f} billion")
plt.setp(axes, xticks=range(9), xticklabels=list(modules), ylim=(0, None))
axes[0].set_title("channels")
axes[1].set_title("million multiply-adds")
axes[0].legend()
plt.show()

# %% [markdown]
# ## An average in the place of dense layers
#
# GoogLeNet's last module gives 7×7 places with 1024 channels. A dense layer from these 50,176
# numbers to 1000 classes would have 50 million weights. GoogLeNet takes the *mean* over the places,
# so its dense layer reads 1024 numbers and has one million. However many places there are, a mean
# has 1024 numbers: the network takes images of any size. ResNet does the same, and the first level
# of [PSPNet's pyramid](../tutorials/pspnet_taken_apart.ipynb) is such a mean, too. Four times the
# pixels need four times the work, and no parameter more:

# %%
for image_size in [(224, 224), (448, 448)]:
    cost = analysis.count(networks["ResNet-50"], image_size)
    work = cost.multiply_adds / 1e9
    print(f"{image_size}: {cost.parameters:,} parameters, {work:.1f} billion")

# %% [markdown]
# ## ResNet: shortcuts and bottlenecks
#
# GoogLeNet has 22 layers, ResNet up to 152 (He et al., 2016). Every two or three convolutions have
# a **shortcut** around them: what goes in is added to what comes out. What does this cost?

# %%
plain = analysis.count(build(keras_psp.ResNet, "plain34", **size))
more = costs["ResNet-34"].parameters - plain.parameters
print(f"34 layers: the shortcuts have {more:,} parameters of {plain.parameters + more:,}")
for block, channels in [
    (layers.BasicBlock(64), 64),
    (layers.BasicBlock(256), 256),
    (layers.DilatedBottleneck(64), 256),
]:
    cost = analysis.count(keras.Sequential([keras.Input((56, 56, channels)), block]))
    kind = type(block).__name__
    print(f"{kind:17} on {channels} channels: {cost.parameters:9,} parameters")

# %% [markdown]
# - **Shortcuts are nearly free.** Most of them add the input as it is. Only where the number of
#   channels changes, there is a 1×1 convolution: three times in 34 layers.
# - **A bottleneck** is GoogLeNet's idea again: 1×1 down to 64 channels, 3×3, 1×1 up to 256. (Here,
#   the 3×3 can be dilated.) It works on 256 channels, as cheaply as two 3×3 on 64.
#
# So ResNet-50 costs little more than ResNet-34, with as many blocks. *Why* the shortcuts are needed
# is a page of its own: [why deeper got worse](../tutorials/residual_learning.ipynb).
#
# ## Cost and error in one picture
#
# The errors are published ones: top-5 (wrong if the true class is not among the first five), on
# ImageNet's validation images, by one network that averages its answers to ten crops. AlexNet's is
# from Krizhevsky et al., table 2, GoogLeNet's from Szegedy et al., table 3, and the others from He
# et al., table 3. The costs are computed, as above:

# %% tags=["score"] alt="Error over work, areas are parameters: VGG-16 far right, ResNets lowest"
shares = [getattr(costs["ResNet-50"], k) / getattr(costs["VGG-16"], k) for k in units]
print("ResNet-50: {:.0%} of VGG-16's parameters, {:.0%} of its work".format(*shares))
errors = {"AlexNet": 18.2, "VGG-16": 9.33, "GoogLeNet": 9.15}
errors |= {"ResNet-34": 7.46, "ResNet-50": 6.71, "ResNet-152": 5.71}
plt.figure(figsize=(8, 4.4))
for name, error in errors.items():
    work, millions = costs[name].multiply_adds / 1e9, costs[name].parameters / 1e6
    plt.scatter(work, error, 12 * millions, alpha=0.6)
    beside = {"xytext": (4 + np.sqrt(3 * millions), 0), "textcoords": "offset points"}
    label = f"{name}, {millions:.0f} million"
    plt.annotate(label, (work, error), fontsize=8, va="center", **beside)
plt.gca().set(xlim=(-1, 21), ylim=(4, 20))
plt.xlabel("billion multiply-adds for one crop")
plt.ylabel("top-5 error in %, ten crops")
plt.show()

# %% [markdown]
# Down and to the left is good, and so is a small circle. VGG-16 makes about half of AlexNet's
# errors, with 21 times the work. GoogLeNet does so with a tenth of VGG's work and a twentieth of
# its parameters. ResNet-50 costs more and makes fewer errors. ResNet-152 gains one more point, with
# three times the work. But take care: from 2012 to 2015 the training changed, too (augmentation,
# batch normalization, initial values). A point is a network *and* its recipe.
#
# ## Exercises
#
# **1.** Inception v3 has a 1×7 and a 7×1 convolution in the place of a 7×7. With C channels in and
# out, which share of the weights is left? How large is the receptive field?

# %% tags=["answer"]
for model, numbers in ((stack((1, 7), (7, 1)), 14), (stack(7), 49)):
    assert analysis.receptive_field(model).size == (7, 7)
    weights = sum(layer.weights for layer in analysis.count(model).layers)
    assert weights == numbers * 256 * 256

# %% [markdown]
# **2.** GoogLeNet's table says 2.7K parameters and 34M operations for its first convolution: 7×7,
# stride 2, from 3 to 64 channels. Is it right?

# %% tags=["answer"]
(first,) = (layer for layer in costs["GoogLeNet"].layers if layer.name == "conv1")
assert first.weights == 7 * 7 * 3 * 64 == 9_408
assert first.multiply_adds == 9_408 * 112 * 112 == 118_013_952

# %% [markdown] tags=["answer"]
# No: it has 9.4K weights and 118M multiply-adds. Printed tables have errors. `keras-psp tables`
# counts all of them again, and marks the rows that are wrong.

# %% [markdown]
# **3.** Put GoogLeNet's mean on VGG-16: convolutions, mean, one dense layer. How many of the 138
# million parameters are left?

# %% tags=["answer"]
features = build(keras_psp.VGG, "vgg16", include_top=False, pooling="avg")
left = features.count_params() + (512 + 1) * 1000
assert left == 15_227_688

# %% [markdown]
# ## Where to go from here
#
# [Why deeper got worse](../tutorials/residual_learning.ipynb) takes the shortcuts away. The
# [reference](../docs/api/models.md) has every builder. Read [Simonyan and
# Zisserman](https://arxiv.org/abs/1409.1556), section 2.3, [Szegedy et
# al.](https://arxiv.org/abs/1409.4842), section 4, [He et al.](https://arxiv.org/abs/1512.03385)
