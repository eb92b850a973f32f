# %% [markdown]
# # Your first segmentation in three lines
#
# A classifier looks at a picture and says *street*. A segmentation network says for **every pixel**
# what it shows: this one road, that one a car, the next one the sky behind it. On this page a
# trained network names the pixels of a street, and then you train one yourself.
#
# **You learn** what a label map is, how PSPNet sees a whole street, how to read the curves of a
# training, and what the *mean IoU* says, the number by which people compare such networks.
#
# **You need** `model.fit`, and nothing about segmentation. A laptop without a GPU is enough, and
# nothing is downloaded.

# %% [markdown]
# ## Three lines
#
# The package comes with a small trained network. It has learned from 367 frames of CamVid, which
# were filmed from a car in Cambridge, and from streets that a program draws. (CamVid's terms hold
# for it: not for commercial use.) It gets a street of the second kind, because you can have as many
# of those as you like:

# %%
import keras_psp  # before keras, so that TensorFlow uses all that the processor can do

model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
image, truth = keras_psp.street_scene(seed=7_000_005, image_size=(360, 480))
prediction = keras_psp.segment(model, image)

# %% [markdown]
# The answer is a *label map*: as high and as wide as the image, with a number for every pixel. The
# model knows the names of the numbers, and a color for each.

# %% alt="A drawn street, its true and its predicted classes in colors, and the errors"
from keras_psp import visualization

print("image", image.shape, image.dtype, "label map", prediction.shape, prediction.dtype)
for number, name in enumerate(model.classes.names):
    print(f"{number:2} {name:12} {(prediction == number).mean():6.1%} of the pixels")

visualization.segmentation_gallery(None, [image], [truth], [prediction], model.classes)

# %% [markdown]
# The last panel shows the errors. What is right is gray, what is wrong is red, and black pixels are
# **void**: label 255, which marks what belongs to none of the eleven classes. A network should not
# learn void, and no answer there would be wrong. So void pixels count *nowhere* in this package:
# not in a loss, not in a score, not in a statistic.
#
# Look along the edges. Road, cars and houses are found, and most errors are thin: outlines, poles,
# wires. The two people on the right are found only in part.
#
# ## How good is that?
#
# *Pixel accuracy*, the share of pixels that are right, is easy to understand and easy to deceive. A
# network that calls everything road, building or sky is right for most of this picture, and has not
# found a single person. The usual score is the **mean intersection over union**. Take one class,
# say *car*:
#
# - the *intersection* is every pixel that is a car **and** was called one: cars that were found;
# - the *union* is every pixel that is a car **or** was called one: cars that were found, cars that
#   were missed, and what was wrongly taken for a car;
# - the *IoU* is the first divided by the second: 1 where both agree, 0 where they never meet.
#
# With $T$ for the true pixels of the class and $P$ for the predicted ones:
#
# $$\mathrm{IoU} = \frac{|T \cap P|}{|T \cup P|}$$
#
# The mean over all classes gives a sign as much weight as the road. Here are six pixels of two
# classes, and one of the pixels is void:

# %%
import numpy as np

true = np.array([[0, 0, 0], [1, 1, 255]])
said = np.array([[0, 0, 1], [1, 1, 0]])

# Class 0: 2 found, 1 missed, 0 wrongly added (the one in the corner is void): IoU 2 / 3.
# Class 1: 2 found, 0 missed, 1 wrongly added: IoU 2 / 3.
metric = keras_psp.metrics.MeanIoU(num_classes=2)
metric.update_state(true[None], said[None])
print(f"mean IoU {float(metric.result()):.3f}")

# %% [markdown]
# Now look at the scores of three streets:
#
# <div id="play" class="widget" data-widget="slider">On the site, a divider over a street.</div>
#
# **Try it.** Drag the divider. Choose a class below the picture, and put the errors on the right:
# blue pixels are found, orange ones missed, yellow ones wrongly added. Which class has the lowest
# IoU, and what does the network call it instead? Compare the gray day with the night.
#
# ## A network that sees the whole street
#
# A small piece of an image often does not tell what it is. A gray patch may be road, sidewalk or
# wall. People look around: what is below a car is road. PSPNet gives that view to every pixel:
#
# 1. A **backbone**, here ResNet-18, turns the image into a map of *features*.
# 2. **Pyramid pooling** averages this map over the whole image, over each cell of a 2 × 2 grid, of
#    a 3 × 3 grid, and of a 6 × 6 grid. It enlarges the four small maps again and lays them beside
#    the features. Now every place knows what it looks like, what is around it, and what kind of
#    scene it is in.
# 3. A **head** turns this into eleven numbers for each place, the *logits*, one for each class. The
#    network enlarges them to the size of the image. The class with the largest logit is the answer.
#
# How fine is the map of features? The **output stride** says how many pixels of the image one of
# its places stands for, along each side. PSPNet's is 8. A larger one makes a coarser map, which
# costs less and blurs outlines more:

# %%
import os

import keras

SMALL = os.environ.get("TUTORIAL_SIZE") == "small"  # as the tests run this page
IMAGE_SIZE = (48, 64) if SMALL else (96, 128)  # height, width

for stride in (8, 16, 32):
    network = keras_psp.PSPNet("resnet18", 11, backbone_weights=None, output_stride=stride)
    work = keras_psp.analysis.count(network, IMAGE_SIZE).multiply_adds / 1e9
    height, width = (side // stride for side in IMAGE_SIZE)
    print(f"stride {stride:2}: {height:2} x {width:2} places, work {work:.1f} billion")

# %% [markdown]
# The work is counted in multiplications, each with the addition that follows it.
#
# ## Train one
#
# Now a network of your own learns from drawn streets, beginning with random numbers. Its output
# stride is 16, so that a laptop gets by. `augment="flip"` mirrors each training image half of the
# time, which shows the network more streets than there are.


# %%
SCENES, EPOCHS = (40, 2) if SMALL else (400, 6)


def load(split, count, **options):  # real streets: load_camvid, without num_images
    options |= {"image_size": IMAGE_SIZE, "batch_size": 4, "num_images": count}
    return keras_psp.load_street_scenes(split, **options)


train, val = load("train", SCENES, augment="flip"), load("val", SCENES // 4)

keras.utils.set_random_seed(1)
own_model = keras_psp.PSPNet("resnet18", 11, backbone_weights=None, output_stride=16)
history = own_model.fit(train, validation_data=val, epochs=EPOCHS, verbose=0).history

# %% alt="Curves over the epochs: the losses sink, the training loss above, and the scores rise"
visualization.training_curves(None, history)

# %% [markdown]
# `fit` is Keras' own. Three things that PSPNet needs are set without asking: a learning rate that
# sinks to 0 over the run and suits what the network started from, a loss that leaves void out, and
# an *auxiliary head*.
#
# ### Why the training loss is above the validation loss
#
# Usually a network is better on the images it learned from. Here the training loss is the *higher*
# one, for three reasons:
#
# - **The auxiliary loss.** A second, small head sits one stage before the end of the backbone. It
#   helps the early layers to learn, and is gone after training. In training its loss is added, 0.4
#   times; in validation there is none.
# - **The augmentation.** Training images are changed at random, and validation images never.
# - **The time of the measurement.** The training loss is the mean over an epoch in which the
#   network still gets better. The validation loss is measured at its end.
#
# So compare both without these: the same finished network, no second head, no augmentation.

# %%
on_train = own_model.evaluate(load("train", SCENES, augment=None), verbose=0, return_dict=True)
on_val = own_model.evaluate(val, verbose=0, return_dict=True)
print(f"training loss of the last epoch {history['loss'][-1]:.3f}")
print(f"the same images, evaluated      {on_train['loss']:.3f}")
print(f"validation images, evaluated    {on_val['loss']:.3f}")

# %% [markdown]
# Compare the last two lines. This difference is what the network knows about its own images only.
#
# ## What it has learned
#
# The same network, class by class, over all validation images:

# %% tags=["score"]
print(f"mean IoU {on_val['mean_iou']:.3f} on validation images, from random values")

# %% alt="The IoU of each class as a bar: road and sky lead, thin and rare classes are last"
evaluation = keras_psp.evaluate(own_model, val)
visualization.per_class_bars(None, evaluation.per_class, model.classes)

# %% [markdown]
# What is large and always at the same place comes first. What is small, thin and rare comes last.
# It is the same on real streets.

# %% alt="Three streets with truth, prediction and errors, which lie along the outlines"
images, labels = (batch[:3] for batch in next(iter(val)))
predictions = keras_psp.segment(own_model, images)
visualization.segmentation_gallery(None, images, labels, predictions, model.classes)

# %% [markdown]
# A few hundred steps on small images are a beginning. Larger images, finer features
# (`output_stride=8`) and more epochs bring the small classes.
#
# ## Keep it
#
# The network is an ordinary Keras model. It saves as one, and loads without naming custom objects.
# It takes images of any size, not only of the one that it was trained with.

# %%
own_model.save("street.keras")
same_model = keras.saving.load_model("street.keras")

print(keras_psp.segment(same_model, image[:301, :477]).shape)

# %% [markdown]
# ## Exercises
#
# **1.** A network calls every pixel *Road*. What are its pixel accuracy and its mean IoU on the
# street above? Guess first.

# %% tags=["answer"]
road = np.full_like(truth, model.classes.names.index("Road"))
metric = keras_psp.metrics.MeanIoU(num_classes=11)
metric.update_state(truth[None], road[None])
accuracy = (road == truth)[truth != 255].mean()
print(f"pixel accuracy {accuracy:.3f}, mean IoU {float(metric.result()):.3f}")
assert float(metric.result()) < accuracy / 5

# %% [markdown] tags=["answer"]
# Nearly all that lifts the accuracy is one class. The mean IoU divides it by the number of classes.

# %% [markdown]
# **2.** Write the IoU of each class in NumPy, without this package, and without a loop over pixels.

# %% tags=["answer"]
counted = truth != 255
by_hand = []
for number in range(11):
    is_it, called_it = truth[counted] == number, prediction[counted] == number
    by_hand.append((is_it & called_it).sum() / (is_it | called_it).sum())

metric.reset_state()
metric.update_state(truth[None], prediction[None])
assert np.allclose(by_hand, metric.per_class(), atol=1e-6)
print(" ".join(f"{iou:.3f}" for iou in by_hand))

# %% [markdown]
# **3.** What is the loss of an image that is void everywhere?

# %% tags=["answer"]
loss = keras_psp.losses.SparseCategoricalCrossentropy()
nowhere, logits = np.full((1, 4, 4), 255), np.ones((1, 4, 4, 11), "float32")
print(float(loss(nowhere, logits)))
assert float(loss(nowhere, logits)) == 0

# %% [markdown] tags=["answer"]
# Zero: where nothing counts, there is nothing to learn.

# %% [markdown]
# **4.** A thing is found completely, but the network also calls its outline that class, so that it
# looks a tenth larger. What is its IoU? And if a tenth of it is missed instead?

# %% tags=["answer"]
print(f"a tenth larger {10 / 11:.3f}, a tenth missed {9 / 10:.3f}")
assert 10 / 11 > 9 / 10

# %% [markdown] tags=["answer"]
# The union grows in the first case, and the intersection shrinks in the second. Thin things have
# nearly only outline, so a pixel too much or too little costs them most of their IoU.

# %% [markdown]
# ## Where to go from here
#
# Real streets are one word away: `keras_psp.load_camvid` takes the place of
# `keras_psp.load_street_scenes`. It finds CamVid among the inputs of a Kaggle notebook or in
# kagglehub's cache, and downloads it otherwise. [Results](../docs/results.md) shows what networks
# reach there, and how. The [reference](../docs/api/index.md) has all there is to call.
