# %% [markdown]
# # IoU, and why pixel accuracy deceives
#
# A network is right in 95 of 100 pixels. Is it good? On this page you meet a network with this
# score that cannot see any pedestrian, cyclist, pole or traffic sign.
#
# **You learn** to read a confusion matrix; what intersection over union (IoU) measures; why an
# error of one pixel ruins a pole; how high a score can be; and how *mean* and *micro* IoU differ.
#
# **You need** NumPy, and [your first segmentation](../tutorials/first_segmentation.ipynb). Reading
# takes 25 minutes. Nothing is trained or downloaded.

# %% [markdown]
# ## A network that is blind to people
#
# We let the program draw 24 street scenes. Each pixel has a class from 0 to 10, or 255 for *void*:
# such a pixel has no known class, and counts nowhere.

# %%
import keras_psp
from keras_psp import analysis, metrics, visualization

import keras
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams["figure.dpi"] = 130
val = keras_psp.load_street_scenes("val", (240, 320), batch_size=8, num_images=24)
images, labels = (np.concatenate(parts) for parts in zip(*val, strict=True))
classes = keras_psp.data.info_of(val).classes
names, colors = classes.names, np.array(classes.colors) / 255

# %% [markdown]
# Our network is made up: it knows all but four classes. There, it repeats the class on the left.

# %%
small = map(names.index, ["SignSymbol", "Pedestrian", "Column_Pole", "Bicyclist"])
seen = ~np.isin(labels.ravel(), [*small, 255])
last_seen = np.maximum.accumulate(np.where(seen, np.arange(seen.size), 0))
blind = labels.ravel()[last_seen].reshape(labels.shape)
print(f"pixel accuracy {(labels == blind)[labels != 255].mean():.3f}")

# %% alt="Three scenes, their true and predicted classes, and the errors"
visualization.segmentation_gallery(None, images[:3], labels[:3], blind[:3], classes)

# %% [markdown]
# Look at the third column: no person, no pole and no sign is left. In the last column, what is
# wrong is red: not much. **Pixel accuracy** is the share of right pixels. It asks about the road a
# thousand times, and about a pedestrian hardly ever. A car must not trust this number.
#
# ## Intersection over union
#
# A better score asks about one class: which pixels *are* a car (the truth), which are *called* a
# car (the prediction)? Here the prediction lies one pixel too low and one too far right.

# %% alt="Two rectangles that overlap: 6 hits, 6 misses, 6 false alarms"
truth, guess = np.zeros((6, 8), int), np.zeros((6, 8), int)
truth[1:4, 1:5] = 1  # 3 rows, 4 columns: 12 pixels
guess[2:5, 2:6] = 1

plt.figure(figsize=(4, 2.8))
plt.imshow(visualization.error_map(truth, guess, label=1))
plt.gca().set(xticks=np.arange(8) - 0.5, yticks=np.arange(6) - 0.5)
plt.tick_params(labelbottom=False, labelleft=False)
plt.grid(color="white")
plt.show()

# %% [markdown]
# Count: 6 pixels are in both, the **hits** (blue). They are the *intersection*. 6 are in the truth
# only, the **misses** (orange). 6 are in the prediction only, the **false alarms** (yellow). All
# colored pixels together, 18, are the *union*.
#
# $$\text{IoU} = \frac{\text{intersection}}{\text{union}} = \frac{6}{6 + 6 + 6} = \frac{1}{3}$$
#
# The IoU is 1 if both agree in every pixel, and 0 if they never meet. The gray pixels, the rest of
# the image, are not in the formula. So we add more and more of them:

# %%
for rest in (0, 10, 100):
    wide_truth, wide_guess = (np.pad(one, ((0, 0), (0, rest))) for one in (truth, guess))
    car, called_car = wide_truth == 1, wide_guess == 1
    iou = (car & called_car).sum() / (car | called_car).sum()
    right = wide_truth == wide_guess
    print(f"{rest:3} more columns: pixel accuracy {right.mean():.3f}, IoU {iou:.3f}")

# %% [markdown]
# The image got emptier, and pixel accuracy took this for success. The IoU of the car did not move.
#
# ## All scores come from one table
#
# A **confusion matrix** counts pixels: its row says the true class, its column the predicted class.
# Every score on this page is computed from it. Here are 100 pixels of three classes:

# %%
rows = [
    [88, 1, 1],  # 90 pixels are road: 88 of them are called road, 1 car, 1 pole
    [2, 6, 0],  # 8 are car
    [1, 0, 1],  # 2 are pole
]
matrix = np.array(rows)
hits, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
union = true + predicted - hits  # the sum has the hits twice

print("pixel accuracy", hits.sum() / matrix.sum())
print("accuracy of each class", (hits / true).round(3))
print("IoU of each class     ", (hits / union).round(3))
print("mean IoU", (hits / union).mean().round(3))
assert np.allclose(hits / union, metrics.iou_per_class(matrix))

# %% [markdown]
# Check one by hand: pole has 1 hit, 1 miss (its row) and 1 false alarm (its column), so its IoU is
# 1 / 3. The **mean IoU**, in papers mIoU, is the plain mean of the classes: the pole weighs as much
# as the road. Our blind network cannot hide from it: four of its eleven classes are 0.

# %%
blind_iou = metrics.iou_per_class(metrics.confusion_matrix(labels, blind, num_classes=11))
print(blind_iou.round(2), "mean IoU", blind_iou.mean().round(3))

# %% [markdown]
# Now change the pixels yourself. Paint truth or prediction, and watch the table:
#
# <div id="play" class="widget" data-widget="iou">On the site, you paint here.</div>
#
# **Try it.** The table and the third board show the class that you paint. Begin with *All right*.
# Paint a cell of *Pole* beside the pole, then one of *Car* beside the car: whose IoU falls more?
# Which score is high in *All road*?
#
# ## A real network
#
# The package contains a small trained PSPNet. It learned from photographs of streets (CamVid) and a
# little from drawn ones. `evaluate` counts the confusion matrix of all images.

# %% tags=["score"]
model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
result = keras_psp.evaluate(model, val)
print(f"mean IoU {result.mean_iou:.2f}, pixel accuracy {result.pixel_accuracy:.2f}")

# %% alt="A point for each class: rare classes have a low IoU, frequent ones a high IoU"
share = result.confusion_matrix.sum(1) / result.confusion_matrix.sum()


def points(x, y, **texts):
    """Draws a point for each class, in its color."""
    axis = plt.figure(figsize=(7, 3.5)).gca()
    axis.scatter(x, y, s=60, c=colors, edgecolors="black", zorder=2)
    for name, *place, up in zip(names, x, y, np.argsort(np.argsort(x)) % 2, strict=True):
        axis.annotate(f"   {name}", place, rotation=[-35, 75][up], va=["top", "bottom"][up], size=8)
    axis.set(xscale="log", xmargin=0.12, ymargin=0.25, **texts)
    return axis


axis = points(share, result.per_class, xlabel="share of all pixels", ylabel="IoU")
axis.axhline(result.mean_iou, color="gray", linestyle="--")
axis.axhline(result.pixel_accuracy, color="gray", linestyle=":")
plt.show()

# %% [markdown]
# Rare classes, on the left, have low scores, and frequent ones have high scores. Pixel accuracy
# (dotted) speaks for the few classes on the right, the mean IoU (dashed) for all. `class_errors`
# shows what the network finds, misses and invents of a class:

# %% alt="Hits, misses and false alarms of road, car and pole in one scene"
one = result.samples[0]
chosen = ["Road", "Car", "Column_Pole"]
visualization.class_errors(None, one.image, one.label, one.prediction, chosen, classes)

# %% [markdown]
# Road is blue, with a thin line of errors around it. Of the lamp post on the right, the network
# found the middle (blue), and drew it too wide (yellow); the line of errors is larger than the
# post. It missed the pole on the left. Why does a line of errors cost so much?
#
# ## One pixel of error
#
# Move an object that is $w$ pixels wide by one pixel to the right. Then $w - 1$ columns are hits, 1
# is a miss, and 1 is a false alarm:
#
# $$\text{IoU} = \frac{w - 1}{w + 1}$$
#
# Test it: move the *truth* by one pixel, and score it. The width of a class is the mean length of
# its runs (neighboring pixels of one class in a row). The gray line is the formula.

# %% alt="IoU after a shift of 1 pixel against the width of the class, on the curve of the formula"
left = np.roll(labels, 1, axis=2)  # for each pixel, its neighbor on the left
moved_matrix = metrics.confusion_matrix(labels, np.where(left == 255, labels, left), 11)
moved_iou = metrics.iou_per_class(moved_matrix)

is_class = labels == np.arange(11)[:, None, None, None]
widths = is_class.sum((1, 2, 3)) / (is_class & (labels != left)).sum((1, 2, 3))
axis = points(widths, moved_iou, xlabel="width w in pixels", ylabel="IoU after the shift")
w = np.linspace(3, 140, 1000)
axis.plot(w, (w - 1) / (w + 1), color="gray")
plt.show()
moved_accuracy = moved_matrix.trace() / moved_matrix.sum()
print(f"pixel accuracy {moved_accuracy:.3f}, mean IoU {moved_iou.mean():.3f}")

# %% [markdown]
# The points lie on the curve. The same error costs the road 0.02, and the pole nearly half. Pixel
# accuracy hardly notices. So a low IoU of a thin class need not mean that a network misses the
# class: it may find every pole, and draw it one pixel beside its place.
#
# ## How high can a score be?
#
# This network decides once for every 8×8 pixels (its *output stride* is 8), and interpolates the
# rest. `best_at_stride` finds the best answer it could give in this way if it knew the truth.

# %% alt="For each class a bar up to the ceiling of stride 8, and in it the network's IoU"
best = analysis.best_at_stride(labels[:3], stride=8, num_classes=11)
ceiling = metrics.iou_per_class(metrics.confusion_matrix(labels[:3], best, 11))

plt.figure(figsize=(7, 3.4))
plt.barh(names, ceiling, color="none", edgecolor="black", label="ceiling of stride 8")
plt.barh(names, result.per_class, color=colors, edgecolor="black", label="the network")
plt.gca().invert_yaxis()
plt.xlabel("IoU")
plt.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# The white part of a bar is what a better network could gain. The part from there to 1 is out of
# reach: more training does not help, only larger images or a smaller stride do.
#
# ## Mean, micro, per image: ask which one it is
#
# "IoU" in a paper or a notebook may be any of these:

# %%
matrix = result.confusion_matrix
hits, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
union = true + predicted - hits

print(f"mean IoU   {np.mean(hits / union):.3f}  IoU of each class, then the mean")
print(f"micro IoU  {hits.sum() / union.sum():.3f}  all hits / all unions")
print(f"per image  {result.per_image.mean():.3f}  mean IoU of each image, then the mean")

# %% [markdown]
# The **micro IoU** looks much better. But it is pixel accuracy in disguise: with $N$ pixels and
# accuracy $A$, all hits are $A N$. Each pixel is in one row and in one column, so all unions are
# $(2 - A) N$. The micro IoU is their ratio, and deceives in the same way:

# %%
a = result.pixel_accuracy
print(f"A / (2 - A) = {a / (2 - a):.3f}")

# %% [markdown]
# A notebook of another library prints an IoU of 0.741 on CamVid: micro, with void as a class. The
# paper of FC-DenseNet103 reports 0.669: a mean of 11 classes. Nobody can compare the two. With a
# score, always write: mean or micro, which classes, which split, and the size of the labels.
#
# ## Exercises
#
# **1.** Medical papers report the *Dice score*, also called F1: `2 * hits / (true + predicted)`.
# Compute it from the IoU alone. Can Dice and IoU of a class put two networks in different orders?

# %% tags=["answer"]
iou = hits / union
assert np.allclose(2 * hits / (true + predicted), 2 * iou / (1 + iou))

# %% [markdown] tags=["answer"]
# Since true + predicted = union + hits, Dice = 2 · IoU / (1 + IoU). This grows whenever the IoU
# grows, so in one class both put networks in the same order. Dice only looks kinder.

# %% [markdown]
# **2.** Take 60 scenes of the split `"train"`, and find for each place of the image the class that
# is most frequent there. Use this one map as the prediction for *every* scene of `val`. Guess
# first: what are its pixel accuracy and its mean IoU?

# %% tags=["answer"]
train = keras_psp.load_street_scenes("train", (240, 320), num_images=60)
votes = sum((np.asarray(maps)[..., None] == np.arange(11)).sum(0) for _, maps in train)
constant = np.broadcast_to(votes.argmax(-1), labels.shape)
matrix = metrics.confusion_matrix(labels, constant, 11)
accuracy, mean_iou = matrix.trace() / matrix.sum(), metrics.iou_per_class(matrix).mean()
print(f"pixel accuracy {accuracy:.3f}, mean IoU {mean_iou:.3f}")
assert accuracy > 2 * mean_iou

# %% [markdown] tags=["answer"]
# A map that never looks at an image gets most of the pixels right: streets resemble each other.

# %% [markdown]
# **3.** No image of a split has a cyclist, but a network predicts one in 5 pixels. Is the cyclist's
# IoU 0, or is it not a number? What does this package do, and what does `keras.metrics.MeanIoU`?

# %% tags=["answer"]
truth, guess = np.zeros((1, 10, 10), int), np.zeros((1, 10, 10), int)
guess[0, 0, :5] = 1
ours, theirs = (one.MeanIoU(num_classes=2) for one in (metrics, keras.metrics))
ours.update_state(truth, guess), theirs.update_state(truth, guess)
assert np.allclose([ours.result(), theirs.result()], [0.95, 0.475])

# %% [markdown] tags=["answer"]
# There is no right answer, so a report must say which one it took. Here a class without a true
# pixel has no IoU and is left out of the mean; its false alarms count against the classes that they
# cover. Keras counts such a class as 0, as soon as somebody predicts it.

# %% [markdown]
# ## Where to go from here
#
# [Upsampling five ways](../tutorials/upsampling.ipynb) shows how a network draws outlines, and
# [receptive fields](../tutorials/receptive_fields.ipynb) explains the stride of 8. The reference
# has [all metrics](../docs/api/training.md), also *boundary IoU*, of the pixels near outlines.
