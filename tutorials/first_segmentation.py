# %% [markdown]
# # Your first segmentation
#
# A classifier looks at a picture and says *street*. A segmentation network says for **every pixel**
# what it belongs to: this one to the road, that one to a car, the next one to the sky behind it. On
# this page you train such a network, see what it has understood and where it errs, and learn to
# read the number by which people compare such networks.
#
# You need to know `model.fit`, and nothing about segmentation. Everything runs on a laptop without
# a GPU in a few minutes, and nothing is downloaded.

# %% tags=["parameters"]
IMAGE_SIZE = (96, 128)  # height, width
BATCH_SIZE = 4
EPOCHS = 6

# %% [markdown]
# ## Streets to look at
#
# A network learns from pictures in which somebody has painted every pixel with its class. Painting
# one real street scene takes a person about an hour, which is why such data sets are small. CamVid,
# the one this package is made for, has 701 frames.
#
# For a start there is something quicker: street scenes that the program draws itself, with the
# eleven classes of CamVid. Every scene is different, colors and light vary, and so the network has
# to learn shapes and places as well.

# %%
import keras_psp  # before keras, so that TensorFlow uses all that the processor can do
from keras_psp import visualization

import keras

keras.utils.set_random_seed(1)
train = keras_psp.load_street_scenes("train", IMAGE_SIZE, BATCH_SIZE, augment="flip")
val = keras_psp.load_street_scenes("val", IMAGE_SIZE, BATCH_SIZE)

images, labels = next(iter(val))
images, labels = images.numpy(), labels.numpy()
print("images", images.shape, images.dtype, "from", images.min(), "to", images.max())
print("labels", labels.shape, labels.dtype)

# %% [markdown]
# `augment="flip"` mirrors every training scene half of the time. For the rest, that is all there is
# to the data: images are RGB from 0 to 255, and to each image belongs a map of the same height and
# width that holds a class for each pixel – 0 for Building, 1 for Tree, 5 for Road, and so on. The
# data know the names of their classes, and a color for each:

# %%
classes = keras_psp.data.info_of(val).classes
for number, name in enumerate(classes.names):
    print(f"{number:3} {name:12} {(labels == number).mean():6.1%} of these pixels")
print(f"255 void         {(labels == 255).mean():6.1%}")

visualization.segmentation_gallery(
    "first_segmentation/scenes.png", images[:3], labels[:3], classes=classes
)

# %% [markdown]
# ![Three street scenes and their classes in colors](first_segmentation/scenes.png)
#
# Two things in these numbers matter later. The classes are very unequal: road and buildings fill
# half of the picture, a traffic sign is a few dozen pixels. And there is a twelfth value, **255:
# void**. It marks what nobody could name, or what belongs to none of the eleven classes. Void is
# not a class that the network should learn, and it would be unfair to call any answer there wrong.
# So void pixels count *nowhere* in this package: not in the loss, not in a score, not in a
# statistic.

# %% [markdown]
# ## A network that sees the whole street
#
# To say what a pixel is, its neighborhood is often not enough. A gray patch may be road, sidewalk
# or a wall; a boat and a car look alike from close by, but boats are rarely parked at the curb.
# People solve this by looking at the whole scene. PSPNet's idea is to give every pixel that view:
#
# 1. A **backbone**, here ResNet-18, turns the image into a map of features, one place for each 8 ×
#    8 pixels.
# 2. **Pyramid pooling** averages this map four times: over the whole image, over each cell of a 2 ×
#    2 grid, of a 3 × 3 grid, and of a 6 × 6 grid. Each of the four small maps is enlarged again and
#    laid beside the features. Now every place knows what it looks like itself, *and* what is around
#    it, *and* what kind of scene it is in.
# 3. A **head** turns that into eleven numbers for each place, one for each class, and they are
#    enlarged to the size of the image.
#
# The larger the number (the *logit*), the more the network believes in that class.

# %%
model = keras_psp.PSPNet(
    backbone="resnet18", num_classes=11, backbone_weights=None, output_stride=16
)

logits = model.predict(images, verbose=0)
print("logits", logits.shape)
print(f"{model.count_params():,} parameters")

# %% [markdown]
# Two things are smaller here than in the paper, so that a laptop gets by. `output_stride=16` has
# one place in the map for each 16 × 16 pixels, which needs less than half the work and blurs
# outlines a bit more. And `backbone_weights=None` lets the backbone start from random numbers,
# which is fair enough for drawn scenes. On real ones leave both out: the backbone then begins with
# what it learned from a million photographs, where such weights can be had.
#
# ## Training
#
# `fit` is Keras' own. What is special about training a PSPNet, this package does by itself: a
# learning rate that sinks to zero over the run, ten times that rate for the new layers on top of
# a trained backbone (ours is new, too), and a second, *auxiliary* head one stage before its end,
# which helps the early layers to learn and is gone afterward.

# %%
history = model.fit(train, validation_data=val, epochs=EPOCHS, verbose=2).history

visualization.training_curves("first_segmentation/curves.png", history)

# %% [markdown]
# ![Loss, scores and learning rate over the epochs](first_segmentation/curves.png)
#
# ## What the mean IoU says
#
# *Pixel accuracy*, the share of pixels that are right, is easy to understand and easy to be fooled
# by: who calls everything road, building or sky is right for most of the picture and has not found
# a single pedestrian. The usual score is therefore the **mean intersection over union**. For one
# class, take the pixels that *are* a car (truth) and those that the network *calls* car
# (prediction):
#
# - the intersection is what is in both: cars that were found,
# - the union is what is in either: the cars that were found, those that were missed, and what was
#   taken for a car,
# - their ratio is the IoU: 1 if both agree exactly, 0 if they never meet.
#
# The mean over the classes gives a traffic sign as much weight as the road. By hand, for six pixels
# of two classes, one of them void:

# %%
import numpy as np

truth = np.array([[0, 0, 0], [1, 1, 255]])
prediction = np.array([[0, 0, 1], [1, 1, 0]])

# Class 0: found 2, missed 1, wrongly added 0 (the one in the corner is void): IoU 2/3.
# Class 1: found 2, missed 0, wrongly added 1: IoU 2/3.
metric = keras_psp.metrics.MeanIoU(num_classes=2)
metric.update_state(truth[None], prediction[None])
print(f"mean IoU {float(metric.result()):.3f}")

# %% [markdown]
# Now for the network, class by class, over all images of the validation split:

# %%
metric = keras_psp.metrics.MeanIoU(num_classes=11)
for images, labels in val:
    metric.update_state(labels, model.predict_on_batch(images))
for name, iou in zip(classes.names, metric.per_class(), strict=True):
    print(f"{name:12} {iou:.3f}")
print(f"{'mean':12} {float(metric.result()):.3f}")

visualization.per_class_bars("first_segmentation/per_class.png", metric.per_class(), classes)

# %% [markdown]
# ![The IoU of each class as a bar](first_segmentation/per_class.png)
#
# What is large and always in the same place comes first; what is small, thin and rare comes last.
# It is the same on real streets.
#
# ## Look at it
#
# A score says how good, a picture says why. The class of a pixel is the one with the largest logit,
# so the prediction is an `argmax` over the last axis:

# %%
images, labels = next(iter(val))
images, labels = images.numpy(), labels.numpy()
predictions = model.predict(images, verbose=0).argmax(-1)

visualization.segmentation_gallery(
    "first_segmentation/predictions.png", images[:3], labels[:3], predictions[:3], classes
)

# %% [markdown]
# ![Image, truth, prediction and errors of three scenes](first_segmentation/predictions.png)
#
# In the last column what is right is gray, what is wrong red, and void black. The large shapes are
# found. Most errors lie along their borders, because the map of features is much smaller than the
# image and an outline has to be guessed from it; and poles, signs and people are missed altogether.
# A few hundred steps on small images are only a beginning: larger images, finer features
# (`output_stride=8`) and more epochs are what brings the small classes.
#
# ## A photo of your own
#
# For a single image there is `keras_psp.segment`: it takes a file or an array of any size, lets the
# model look at it in the size that it was trained with, and returns a label map as large as the
# image. Here it gets a scene that is in neither split. To show the result to somebody, lay it over
# the image:

# %%
image, _ = keras_psp.street_scene(seed=7_000_000, image_size=(360, 480))
prediction = keras_psp.segment(model, image, image_size=IMAGE_SIZE)

blend = visualization.overlay(image, prediction, alpha=0.6, classes=classes)
visualization.write_image("first_segmentation/overlay.png", blend)

# %% [markdown]
# ![A street scene under its predicted classes](first_segmentation/overlay.png)
#
# ## Keep it
#
# The model is an ordinary Keras model. It saves as one and loads without any custom objects, and it
# takes images of any size, not only of the one that it was trained with:

# %%
model.save("first_segmentation/model.keras")
same_model = keras.saving.load_model("first_segmentation/model.keras")

wide = keras.ops.image.resize(images[:1], (90, 250))
print("labels", same_model.predict(wide, verbose=0).argmax(-1).shape)

# %% [markdown]
# ## Where to go from here
#
# Real streets are one word away: put `keras_psp.load_camvid` in the place of
# `keras_psp.load_street_scenes`, take a larger image and more epochs, and a GPU if you have one:
#
# ```python
# train, val = keras_psp.load_camvid(["train", "val"], image_size=(240, 320), batch_size=8)
# model = keras_psp.PSPNet(backbone="resnet50", num_classes=11)
# model.fit(train, validation_data=val, epochs=50)
# ```
#
# Then try what the pyramid is worth: `keras_psp.PSPNet(..., bins=())` leaves it out.
