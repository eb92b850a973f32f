# %% [markdown]
# # Why deeper got worse, and residual learning
#
# A deeper network can compute more. Yet when people went from 20 layers to 56, their networks got
# worse, on new images and on their training images, too. On this page you repeat that experiment in
# small, look for the reason, and see what repairs it: ResNet's shortcut.
#
# **You learn** why this is not overfitting; that a good deep network exists, but training does not
# find it; what batch normalization repairs, and what it does not; how identity shortcuts and
# projections work; and why it helps if the last scale of a block begins at zero.
#
# **You need** `model.fit` and batch normalization. [From AlexNet to
# ResNet](../tutorials/classifiers.ipynb) tells what came before. Reading takes 20 minutes.

# %% [markdown]
# ## The experiment
#
# Take one design at two depths, and train both with the same recipe. Then do the same with
# shortcuts. On ImageNet, 34 plain layers made more errors than 18 (28.54 % beside 27.94 %), and 34
# layers with shortcuts fewer (25.03 % beside 27.88 %; top-1, ten crops; He et al., 2016, table 2).
#
# A smaller task: patches of CamVid, 32×32 pixels, and the class of the pixel in the middle. These
# are the *training* errors after 1000 steps, of two seeds each ([recorded with `keras-psp
# degradation`](../docs/results.md#does-depth-help); there are the machine and the time):
#
# | | 20 layers | 56 layers |
# | --- | --- | --- |
# | plain | 48.8 %, 45.9 % | 80.1 %, 72.0 % |
# | ResNet | 44.4 %, 41.5 % | 57.1 %, 51.3 % |
#
# This is not overfitting: with overfitting, the training error is *low*. (Guessing: 91 %.)
#
# ## A deeper network that is no worse
#
# Perhaps 56 plain layers cannot do what 20 can? They can. Copy the blocks of the shallow network,
# and let the blocks between them pass their input on. A plain block does so if its kernels have a
# 1 in the middle and zeros elsewhere. A residual block does so if it adds zero:

# %%
import os

import keras_psp
from keras_psp.experiments.patches import cut_patches

import keras
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.dpi"] = 130
SMALL = os.environ.get("TUTORIAL_SIZE") == "small"  # as the tests run this page
SCENES, PATCHES, EPOCHS, STREETS = (40, 24, 2, 2) if SMALL else (200, 300, 6, 20)


def patches(split, scenes, count):  # of real streets: keras_psp.load_camvid
    streets = keras_psp.load_street_scenes(split, (90, 120), 4, num_images=scenes)
    images, classes = cut_patches(streets, count, size=16)
    return images.astype("float32"), classes


def build(name):
    keras.utils.set_random_seed(1)
    options = {"num_classes": 11, "weights": None, "input_shape": (16, 16, 3)}
    return keras_psp.ResNet(name, classifier_activation=None, **options)


def blocks(model):
    return [layer for layer in model.layers if "block" in layer.name]


def add_zero(block):
    """Sets a block's last scale and offset to 0, so that only its shortcut is left."""
    scale, offset, *statistics = block.batch_normalizations[-1].get_weights()
    block.batch_normalizations[-1].set_weights([0 * scale, 0 * offset, *statistics])


images, classes = patches("train", SCENES, PATCHES)
for family in ("plain", "resnet"):
    shallow, deep = build(f"{family}20"), build(f"{family}56")
    for layer in deep.layers:
        if layer.name in [one.name for one in shallow.layers]:
            layer.set_weights(shallow.get_layer(layer.name).get_weights())
        elif family == "resnet":
            add_zero(layer)
        else:
            for convolution in layer.convolutions:
                identity = keras_psp.layers.IdentityKernel()(convolution.kernel.shape)
                convolution.kernel.assign(identity)
    answers = [np.asarray(model(images[:8])) for model in (shallow, deep)]
    difference = np.abs(answers[0] - answers[1]).max() / np.abs(answers[0]).max()
    print(f"{family}: 56 layers differ from 20 by {difference:.4%}")

# %% [markdown]
# (The plain networks differ by the epsilon of 36 batch normalizations.) So the best deep network is
# at least as good as the best shallow one, but training does not find it: this is a problem of
# *optimization*.
#
# To pass its input on, a plain block needs the very numbers of the identity, in two kernels and two
# normalizations. A residual block only needs zero. That is the idea of **residual learning**: if
# $H(x)$ is what a block should compute, let its layers learn the difference $F(x) = H(x) - x$, and
# add $x$ by a shortcut. Where a block has little to do, it has little to learn.
#
# ## Do the signals arrive?
#
# Perhaps the signal fades on its way. Send some patches through untrained networks, and measure the
# standard deviation behind each block. The statistics of their batch normalizations are still 0 and
# 1, so in inference these change nothing: this is the network *without* them.

# %% alt="Without normalization, signals fade in plain networks and explode in ResNets"
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name in ("plain56", "resnet56"):
    model = build(name)
    behind = keras.Model(model.input, [block.output for block in blocks(model)])
    for axis, normalized in zip(axes, (False, True), strict=True):
        outputs = behind(images[:64], training=normalized)
        signals = [float(keras.ops.std(x)) for x in outputs]
        axis.semilogy(range(1, 28), signals, ".-", label=name)
plt.setp(axes, xlabel="block", ylim=(1e-3, 1e4))
axes[0].set(title="without batch normalization", ylabel="standard deviation")
axes[1].set_title("with batch normalization")
axes[0].legend()
plt.show()

# %% [markdown]
# Without normalization the plain signal fades, and the residual one explodes: $x$ and $F(x)$ are
# about equally large and independent, so each block doubles the variance. Shortcuts alone are no
# solution. On the right, batch normalization has repaired both. So fading *signals* do not explain
# why plain networks get worse, and He et al. say so in their paper (section 4.1).
#
# ## Do the gradients say something?
#
# A step of gradient descent with a learning rate of 1 moves each weight by its gradient. Take one
# from the same weights with each of two batches. How long is the gradient of each block's first
# kernel, beside that kernel? And do both batches pull the same way? (Then, the cosine is 1.)


# %%
def gradients(model, start, batch):
    """The gradient of each trained weight on a batch."""
    model.set_weights(start)
    model.train_on_batch(*batch)
    moves = zip(model.weights, start, strict=True)
    return {one.path: old - np.asarray(one) for one, old in moves if one.trainable}


loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
batches = [(images[n : n + 128], classes[n : n + 128]) for n in (0, 128)]
lengths, cosines = {}, {}
for name in ("plain20", "plain56", "resnet20", "resnet56"):
    model = build(name)
    model.compile(keras.optimizers.SGD(1.0), loss, run_eagerly=True)
    start = model.get_weights()
    one, two = (gradients(model, start, batch) for batch in batches)
    before = dict(zip([weight.path for weight in model.weights], start, strict=True))
    norm, kernels = np.linalg.norm, [k for k in one if k.endswith("conv1/kernel")]
    lengths[name] = [norm(one[k]) / norm(before[k]) for k in kernels]
    units = [(one[k] / norm(one[k]), two[k] / norm(two[k])) for k in kernels]
    cosines[name] = [np.vdot(*pair) for pair in units]
    numbers = lengths[name][0], lengths[name][-1], np.mean(cosines[name])
    print("{:8} first block {:6.2f}, last {:.2f}, cosine {:.2f}".format(name, *numbers))

# %% alt="In 56 plain layers gradients explode backwards; only in ResNets two batches agree"
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name, style in zip(lengths, ("C0:", "C0-", "C1:", "C1-"), strict=True):
    depth = np.linspace(0, 1, len(lengths[name]))
    axes[0].semilogy(depth, lengths[name], style, label=name)
    axes[1].plot(depth, cosines[name], style)
axes[0].set_ylabel("gradient / weight")
axes[1].set_ylabel("cosine of two batches")
plt.setp(axes, xlabel="place in the network: 0 first block, 1 last block")
axes[0].legend()
plt.show()

# %% [markdown]
# Here is a difference. In 56 plain layers the first gradients are several hundred times as long as
# the last ones, and no learning rate suits both. (Batch normalization itself does this in a deep
# plain network at its start: Yang et al., 2019.) And they say little: two batches of the same task
# pull at right angles, like noise (Balduzzi et al., 2017). With shortcuts, the lengths differ by a
# factor of ten at most, and in most blocks both batches pull in similar directions.
#
# This is the *first* step only. The start is bad, but it may not be the whole reason: He et al. saw
# healthy gradients in their plain networks, and left the reason open.
#
# ## The block
#
# Where a block keeps the shape, its shortcut is the **identity**, and costs nothing. Where it
# halves the map and doubles the channels, $x$ does not fit $F(x)$. Then option A takes every second
# place and fills the new channels with zeros. Option B, the **projection**, is a 1×1 convolution
# with stride 2 and batch normalization (exercise 3 counts both).
#
# How much does a trained network rely on its shortcuts? Take the PSPNet in the package, and let one
# block at a time add zero: its layers are gone, only the shortcut is left.

# %%
trained = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
streets = keras_psp.load_street_scenes("val", (240, 320), 2, num_images=STREETS)
print(f"mean IoU {keras_psp.evaluate(trained, streets).mean_iou:.2f} with all blocks")
for block in blocks(trained.backbone):
    if block.shortcut_conv is None:
        kept = block.get_weights()
        add_zero(block)
        score = keras_psp.evaluate(trained, streets).mean_iou
        print(f"mean IoU {score:.2f} without {block.name}")
        block.set_weights(kept)

# %% [markdown]
# A missing block costs 0.03 to 0.12, and none breaks the network: the next blocks still get a
# signal that they know. VGG without a layer only guesses ([Veit et
# al.](https://arxiv.org/abs/1605.06431)).
#
# ## Begin with zero
#
# If a block that adds zero does little harm, why not *begin* so? Set the last scale of every block
# to 0. Then the network begins as a shallow one, whatever its depth, and each block joins in as its
# scale grows (Goyal et al., 2017, section 5.1). Train plain networks, ResNets, and these, at both
# depths, with a rate that falls from 0.1 to 0.01 and 0.001:

# %%
test = patches("val", SCENES, PATCHES // 4)
families = {"plain": "plain", "ResNet": "resnet", "ResNet, last scale 0": "resnet"}
steps, errors = -(-len(images) // 64) * EPOCHS, {}
for family, variant in families.items():
    for depth in (20, 56):
        model = build(f"{variant}{depth}")
        for block in blocks(model) if family.endswith("0") else ():
            add_zero(block)
        rates = [steps // 2, steps * 3 // 4], [0.1, 0.01, 0.001]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(*rates)
        sgd = keras.optimizers.SGD(rate, momentum=0.9)
        model.compile(sgd, loss, metrics=["accuracy"], jit_compile=False)
        options = {"batch_size": 64, "epochs": EPOCHS, "verbose": 0}
        history = model.fit(images, classes, validation_data=test, **options).history
        errors[family, depth] = {k: 100 - 100 * np.array(v) for k, v in history.items()}

# %% tags=["score"] alt="Errors over the epochs: 56 plain layers stay at 90 %, ResNets fall"
last = {key: round(error["val_accuracy"][-1]) for key, error in errors.items()}
pairs = [f"{name} {last[name, 20]} and {last[name, 56]} %" for name in families]
print("error with 20 and 56 layers:", ", ".join(pairs))
figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
for (family, depth), error in errors.items():
    axis, color = axes[list(families).index(family)], "C0" if depth == 20 else "C1"
    axis.plot(range(1, EPOCHS + 1), error["accuracy"], f"{color}--")
    axis.plot(range(1, EPOCHS + 1), error["val_accuracy"], color, label=depth)
    axis.set(title=family, xlabel="epoch (dashed: training)")
axes[0].set_ylabel("error in %")
axes[0].legend(title="layers")
plt.show()

# %% [markdown]
# On the left is the degradation: 56 plain layers are near guessing (91 %). ResNet-56 learns, but in
# these 300 steps less than ResNet-20. With last scales of 0, both depths learn alike, and more than
# all others. (One seed each: repeat it with another.)
#
# So short a run does not show that depth *helps*. In the recorded long run, from ordinary initial
# values, ResNet-56 ends near ResNet-20 after 10,000 steps: training errors of 12.8 and 16.2 %
# beside 12.7 and 14.1 % ([command, machine, curves](../docs/results.md#does-depth-help)). On
# CIFAR-10, after 64,000 steps, it is ahead: 6.97 % beside 8.75 % (He et al., table 6).
#
# ## Exercises
#
# **1.** $x$ and $F(x)$ have variance 1 and are independent. How large is the variance behind 27
# such blocks without batch normalization, if each $F$ keeps the variance of its input?

# %% tags=["answer"]
rng = np.random.default_rng(0)
x = rng.normal(size=100_000)
for _ in range(27):
    x = x + x.std() * rng.normal(size=x.size)
assert np.isclose(np.log2(x.var()), 27, atol=0.2)  # it doubles in each block

# %% [markdown]
# **2.** In the first step, which weights of a block get a gradient if its last scale is 0?

# %% tags=["answer"]
model = build("resnet20")
for block in blocks(model):
    add_zero(block)
model.compile(keras.optimizers.SGD(1.0), loss, run_eagerly=True)
found = gradients(model, model.get_weights(), batches[0])
moved = {k.partition("/")[2] for k, v in found.items() if "block" in k and v.any()}
assert moved == {"bn2/gamma", "bn2/beta"}  # the others wait until the scale is not 0

# %% [markdown]
# **3.** How many parameters do all shortcuts of ResNet-56 have with option A, and with option B?

# %% tags=["answer"]
parameters = []
for name, option in (("plain56", "A"), ("resnet56", "A"), ("resnet56", "B")):
    model = keras_psp.ResNet(name, weights=None, shortcut=option)
    parameters.append(keras_psp.analysis.count(model, (32, 32)).parameters)
two_projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)  # kernels, scales and offsets
assert np.subtract(parameters, parameters[0]).tolist() == [0, 0, two_projections]

# %% [markdown]
# ## Where to go from here
#
# `keras-psp degradation` trains by the paper's recipe, also on CIFAR-10. [Your first
# segmentation](../tutorials/first_segmentation.ipynb) uses a ResNet. Read [He et
# al.](https://arxiv.org/abs/1512.03385), [Yang et al.](https://arxiv.org/abs/1902.08129) and
# [Balduzzi et al.](https://arxiv.org/abs/1702.08591) on gradients, and [Goyal et
# al.](https://arxiv.org/abs/1706.02677) on the zeros.
