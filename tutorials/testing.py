# %% [markdown]
# # Testing as published
#
# A paper reports a mean IoU of 0.78. Your network, trained by the same recipe, has 0.76. Perhaps
# the networks are equal, and only the tests differ: papers often show each image to the network
# many times, in windows, at several scales, mirrored. This page adds one after the other.
#
# **You learn** at which size to test; what windows, scales and mirror images are for, what they
# bring and what they cost; how many answers become one; and four ways to spoil a score.
#
# **You need** [your first segmentation](../tutorials/first_segmentation.ipynb) and
# [IoU](../tutorials/iou.ipynb). `load_camvid` finds CamVid among the inputs of a Kaggle notebook or
# in kagglehub's cache, or downloads it (180 MB; not for commercial use). Nothing is trained.

# %% [markdown]
# ## A network and nine frames
#
# The network in the package learned from frames of CamVid, enlarged to 540×720, and from drawn
# streets. In each step it saw *crops* of 416×544 pixels. To be quick, this page tests it on every
# twelfth frame of *val*. Frames and label maps have 360×480 pixels. `score` also measures the time.

# %%
import keras_psp  # before keras
from keras_psp import metrics, visualization
from keras_psp.inference import Views

import os
import time

import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.dpi"] = 130
SMALL = os.environ.get("TUTORIAL_SIZE") == "small"  # as the tests run this page
SIDE, WINDOW = (180, (139, 181)) if SMALL else (540, (416, 544))
SCALES = (0.75, 1, 1.25)

if SMALL:  # without CamVid, drawn street scenes do: they have the same classes
    val = keras_psp.load_street_scenes("val", (120, 160), batch_size=1, num_images=4)
else:
    val = list(keras_psp.load_camvid("val", image_size=None, batch_size=1))[::12]
frames, labels = (np.concatenate(parts) for parts in zip(*val, strict=True))
model, results = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid"), {}


def score(name, side=SIDE, **views):
    looks = {"image_size": side, "views": Views(**views)}
    keras_psp.segment(model, frames[0], **looks)  # the first time takes longer
    start = time.perf_counter()
    result = keras_psp.evaluate(model, (frames, labels), **looks, num_samples=len(frames))
    results[name] = result, (time.perf_counter() - start) / len(frames)
    ious = f"mean IoU {result.mean_iou:.3f}, boundary IoU {result.mean_boundary_iou:.3f}"
    print(f"{name:25} {ious}, {results[name][1]:4.1f} s a frame")


# %% [markdown]
# `evaluate` resizes a frame to the size at which the network sees it (`image_size`, here its
# shorter side). It resizes the *probabilities* of the answer to the size of the labels, and takes
# the best class there. So all scores on this page count the same pixels. **Boundary IoU** counts
# only those near the outlines of a class, true or predicted, here up to 3 pixels away.
#
# ## The right size

# %%
for side in (SIDE // 2, SIDE * 2 // 3, SIDE, SIDE * 4 // 3):
    score(f"shorter side {side}", side)
results = {"once": results[f"shorter side {SIDE}"]}

# %% [markdown]
# At the size of the training and at 720, scores are nearly equal. At half of it, cars and people
# are smaller than those that the network learned from. At 720, outlines are better, and a frame
# takes longer. From here on, frames are seen at 540.
#
# ## Mirror images
#
# A mirrored street is a street, too. The network makes other errors in it, and is often unsure
# where it errs. So the mean of both answers has fewer errors.

# %%
score("mirrored", mirror=True)

# %% [markdown]
# ## Windows
#
# PSPNet averages features over the whole image and over the cells of three grids, its
# [pyramid](../tutorials/pspnet_taken_apart.ipynb). In training, "the whole image" was a crop. A
# frame has 1.7 times as many pixels, so its averages differ from all that the network learned to
# read. A **window** as large as the crops gives it what it knows. And the network needs memory only
# for one window, however large the image is. Windows overlap: each begins two thirds of its side
# after the one before, and the last one ends with the image. How many windows *vote* on a pixel?


# %% alt="Overlapping windows and their votes: 1 in the corners, 2 at the sides, 4 in the middle"
def votes(views, height, width):
    count = np.zeros((height, width), int)
    for top, left, high, wide, _ in views.boxes(height, width):
        count[top : top + high, left : left + wide] += 1
    return count


size, views = (SIDE, SIDE * 4 // 3), Views(WINDOW)
plt.figure(figsize=(5, 3))
plt.imshow(votes(views, *size), cmap="Purples", vmin=0, vmax=5)
plt.colorbar(ticks=range(6), label="votes")
for number, (top, left, high, wide, _) in enumerate(views.boxes(*size)):
    gap, color = 6 * number + 3, plt.cm.tab10(number)
    place = (left + gap, top + gap), wide - 2 * gap, high - 2 * gap
    plt.gca().add_patch(plt.Rectangle(*place, fill=False, edgecolor=color))
plt.show()

# %% [markdown]
# PSPNet's authors take windows of 713×713, eight for a frame of Cityscapes (1024×2048). The
# probabilities of all windows are added, and each sum is divided by its votes. By hand:

# %%
frame, (height, width) = frames[0], frames.shape[1:3]
windows, total = Views((height * 3 // 4, width * 3 // 4)), np.zeros((height, width, 11))
for top, left, high, wide, _ in windows.boxes(height, width):
    part = np.s_[top : top + high, left : left + wide]
    odds = np.exp(model.predict_on_batch(frame[part][None])[0])
    total[part] += odds / odds.sum(-1, keepdims=True)  # the softmax

by_package = keras_psp.segment(model, frame, views=windows, probabilities=True)
by_hand = total / votes(windows, height, width)[..., None]
assert np.allclose(by_hand, by_package, atol=1e-4)
score("windows", window_size=WINDOW)
score("windows, mirrored", window_size=WINDOW, mirror=True)

# %% [markdown]
# Windows bring as much as mirror images, and the two add up: they mend different errors.
#
# ## Scales
#
# What is far away is small. At a larger scale, it is as large as the things that the network knows
# best. What is near and large fits into the receptive field only at a smaller scale. So each scale
# is good for other classes:


# %% alt="For each class, how much its IoU changes at a smaller and at a larger scale"
def iou_of(predictions, truths=labels):
    return metrics.iou_per_class(metrics.confusion_matrix(truths, predictions, 11))


options = {"views": Views(mirror=True), "probabilities": True}
answers = [keras_psp.segment(model, frames, round(s * SIDE), **options) for s in SCALES]
of_scale = [iou_of(np.argmax(answer, -1)) for answer in answers]
plt.figure(figsize=(7, 3.4))
for scale, iou, marker in zip(SCALES, of_scale, "v|^", strict=True):
    gains = iou - of_scale[1]
    plt.scatter(gains, model.classes.names, s=60, marker=marker, label=f"scale {scale}")
    print(f"scale {scale}: mean IoU {np.nanmean(iou):.3f}")
plt.gca().invert_yaxis(), plt.grid(axis="y", alpha=0.4)
plt.xlabel("IoU minus that of scale 1"), plt.legend()
plt.show()

# %% [markdown]
# Signs and poles, the thinnest things, lose at 0.75, and signs gain at 1.25. Cars, people and
# cyclists, most of them near in these frames, gain at 0.75. No scale is best for all classes.
#
# ### Probabilities are averaged, not labels
#
# How do three answers become one? They could vote, each for its best class. Or their probabilities
# are averaged. Take one pixel of a pole in front of a house:
#
# | | scale 0.75 | scale 1 | scale 1.25 | mean |
# | --- | --- | --- | --- | --- |
# | pole | 0.45 | 0.45 | 0.95 | **0.62** |
# | building | **0.55** | **0.55** | 0.05 | 0.38 |
#
# The vote is 2 to 1 for the building. The mean knows that two answers were unsure and one was sure.

# %%
ballots = sum(np.eye(11)[np.argmax(answer, -1)] for answer in answers)
ways = {"labels vote": ballots, "probabilities averaged": np.mean(answers, axis=0)}
for way, sums in ways.items():
    print(f"{way}: mean IoU {np.nanmean(iou_of(sums.argmax(-1))):.3f}")
score("scales, mirrored", scales=SCALES, mirror=True)
score("windows, scales, mirrored", window_size=WINDOW, scales=SCALES, mirror=True)

# %% [markdown]
# ## What each adds, and what it costs

# %% alt="Mean IoU over the time for a frame: the first steps are cheap, the last cost most"
plt.figure(figsize=(7, 3.2))
for name, (result, seconds) in results.items():
    plt.scatter(seconds, result.mean_iou, s=60, label=name)
plt.xlim(0), plt.grid(alpha=0.4), plt.legend(loc="lower right")
plt.xlabel("seconds for a frame"), plt.ylabel("mean IoU")
plt.show()

# %% tags=["score"]
(once, _), (most, _) = results["once"], results["windows, scales, mirrored"]
print(f"mean IoU {once.mean_iou:.2f} seen once, {most.mean_iou:.2f} with all views")

# %% alt="A frame before and with all views: errors inside of large objects vanish"
best = np.argmax(most.per_image - once.per_image)
both = [result.samples[best] for result in (once, most)]
parts = [(one.image, one.label, one.prediction) for one in both]
visualization.segmentation_gallery(None, *zip(*parts, strict=True), model.classes)

# %% [markdown]
# The house, in parts taken for cars and signs, is a house again, after ten times the work. (Other
# programs ran beside this page, so its times are rough. Exercise 1 computes the work.)
#
# Is it more than chance? `compare` draws nine frames with replacement, 10,000 times, and scores
# both on them. The *interval* holds the middle 95% of the differences. It compares networks, too.

# %%
print(keras_psp.compare(most, once, ("all views", "once")))

# %% [markdown]
# The interval of the mean leaves out 0. Cars gain most; sky and road had little to gain. About a
# single class nine frames say little: cars gain between 0.05 and 0.24.
#
# ## How papers report
#
# One network has two columns, *single-scale* (ss) and *multi-scale* (ms). Ask what is in them. Mean
# IoU of PSPNet with ResNet-50, [from its authors' code](https://github.com/hszhao/semseg):
#
# | data | single-scale | multi-scale |
# | --- | --- | --- |
# | ADE20K | 0.4189 | 0.4284 |
# | VOC 2012 | 0.7705 | 0.7802 |
# | Cityscapes | 0.7730 | 0.7838 |
#
# Both columns use windows with a stride of 2/3, and both are *mirrored*. The second one has six
# scales: 0.5, 0.75, 1, 1.25, 1.5 and 1.75. In [the paper](https://arxiv.org/abs/1612.01105), the
# last step on ADE20K is the same: 0.4381 with ResNet-269, 0.4494 at several scales. Compare ss with
# ss and ms with ms.
#
# ## Four ways to spoil a score
#
# 1. **Another size than the labels'.** Frames and labels of half the size load quickly, but they
#    are another task: the network never sees the details, and thin things lose their pixels.
# 2. **The mean of images.** Count the pixels of *all* images in one confusion matrix, and compute
#    the IoU once. In the mean of the images' scores, ten pixels of the one cyclist in an image
#    weigh as much as a thousand in another.
# 3. **Void that counts.** Nobody knows the class of these pixels. If they count, every answer there
#    is a false alarm.
# 4. **Choosing on test.** Size, windows, scales and the best epoch are choices. Make them on *val*,
#    and score *test* once: the best of many scores is partly luck (exercise 3). The weights in the
#    package were chosen on *val*, a clip of a drive that they learned from. So all scores on this
#    page are higher than on new streets.

# %%
half = keras_psp.evaluate(model, (frames[:, ::2, ::2], labels[:, ::2, ::2]), SIDE)
print(f"half the size: {half.mean_iou:.3f} instead of {once.mean_iou:.3f}")
print(f"mean of images: {np.nanmean(most.per_image):.3f} instead of {most.mean_iou:.3f}")
given = np.stack([one.prediction for one in most.samples])
matrix = metrics.confusion_matrix(np.where(labels == 255, 11, labels), given, 12)
wrong = np.nanmean(metrics.iou_per_class(matrix)[:11])
print(f"void counts: {wrong:.3f} instead of {most.mean_iou:.3f}")

# %% [markdown]
# ## Exercises
#
# **1.** The cost of a view is its pixels, and one look at 540×720 costs 1. What does the paper's
# multi-scale column cost, for whole images? And what do our four windows cost?

# %% tags=["answer"]
six = Views(scales=(0.5, 0.75, 1, 1.25, 1.5, 1.75), mirror=True)
for views, times in (six, 17.4), (Views((416, 544)), 2.3):
    pixels = sum(votes(views, *size).sum() for size in views.sizes(540, 720))
    assert round(pixels / (540 * 720), 1) == times

# %% [markdown]
# **2.** Write mirroring without `mirror=True`. What happens if you forget to turn the answer back?

# %% tags=["answer"]
pair = [frame, frame[:, ::-1]]
plain, turned = keras_psp.segment(model, pair, SIDE, probabilities=True)
mirrored = keras_psp.segment(model, frame, SIDE, Views(mirror=True), probabilities=True)
assert np.allclose(mirrored, (plain + turned[:, ::-1]) / 2, atol=1e-4)
wrong, right = ((plain + other)[None].argmax(-1) for other in (turned, turned[:, ::-1]))
assert np.nanmean(iou_of(wrong, labels[:1])) < np.nanmean(iou_of(right, labels[:1]))

# %% [markdown]
# **3.** Ten networks are equally good. Each is scored on nine frames of its own. How much higher is
# the best score of the ten than their mean? Draw frames with replacement.

# %% tags=["answer"]
draws = np.random.default_rng(1).integers(len(frames), size=(1000, 10, len(frames)))
drawn = once.confusion_matrices.astype(int)[draws].sum(2)
scores = np.nanmean(metrics.iou_per_class(drawn), axis=-1)
luck = (scores.max(1) - scores.mean(1)).mean()
print(f"the best of ten equal networks: +{luck:.3f}")
assert luck > 0.01

# %% [markdown] tags=["answer"]
# More than half of what all views bring. On *the same* frames luck is smaller, but it grows with
# every score: [Results](../docs/results.md#how-often-val-was-scored) counts them.

# %% [markdown]
# ## Where to go from here
#
# [Segmenting and evaluating](../docs/api/inference.md) has all views, and the
# [questions](../docs/faq.md#is-my-score-comparable-with-a-papers) what else two scores must have in
# common. [Shipping a model](../tutorials/shipping.ipynb) goes the other way: one look, as fast as
# it can be.
