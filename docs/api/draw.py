"""Draws the pictures of the page "Pictures": `python docs/api/draw.py` (two minutes on two cores).

Every picture is what one function of `keras_psp.visualization` makes of drawn street scenes and the
network in the package, or of the figures of the page "Results".
"""

import runpy
from pathlib import Path

import keras_psp
from keras_psp import analysis, visualization

import keras
import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "pictures"
charts = runpy.run_path(str(Path(__file__).parents[1] / "charts.py"))


def save(name, picture, width=900):
    """Writes a picture for the page of a function."""
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if picture.width > width:
        picture = picture.resize((width, round(width * picture.height / picture.width)))
    picture.convert("RGB").save(FOLDER / f"{name}.webp", quality=80, method=6)
    print(name, picture.size, (FOLDER / f"{name}.webp").stat().st_size // 1000, "kB")


keras.utils.set_random_seed(1)  # of what is drawn with random weights
model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
classes = model.classes
image, truth = keras_psp.street_scene(seed=7_000_005, image_size=(360, 480))
prediction = keras_psp.segment(model, image)

save("colorize", visualization.colorize(prediction, classes))
save("overlay", visualization.overlay(image, prediction, 0.5, classes))
save("error_map", visualization.error_map(truth, prediction))
save("legend", visualization.legend(None, classes))
visualization.write_image(file := FOLDER / "labels.png", prediction, classes)
save("write_image", Image.open(file))
file.unlink()

others = [keras_psp.street_scene(seed=7_000_000 + n, image_size=(360, 480)) for n in (5, 9)]
images, truths = zip(*others, strict=True)
predictions = keras_psp.segment(model, images)
save(
    "segmentation_gallery",
    visualization.segmentation_gallery(None, images, truths, predictions, classes),
)
names = ["Car", "Pedestrian", "Column_Pole"]
save("class_errors", visualization.class_errors(None, image, truth, prediction, names, classes))
save("pyramid_activations", visualization.pyramid_activations(None, model, image))

backbone = keras_psp.ResNet("resnet18", include_top=False, weights=None)
field = analysis.receptive_field(backbone, image_size=(360, 480))
seen = analysis.effective_receptive_field(backbone, images=image[None])
save("receptive_field", visualization.receptive_field(None, image, field, seen))

counts = {}
for side in (3, 4):
    matrix = analysis.convolution_matrix(np.ones((side, side)), 4, strides=2, transposed=True)
    size = analysis.output_size(4, side, strides=2, transposed=True)
    counts[f"{side}×{side}, stride 2"] = matrix.sum(1).reshape(size, size)
save("overlaps", visualization.overlaps(None, counts))

scores = keras_psp.evaluate(model, keras_psp.load_street_scenes("test", (240, 320), num_images=24))
save("per_class_bars", visualization.per_class_bars(None, scores.per_class, classes))
save("confusion_matrix", visualization.confusion_matrix(None, scores.confusion_matrix, classes))

section, columns = "The networks before PSPNet", ("mean IoU", "boundary IoU", "pixel accuracy")
seeds = {}
for name in ("PSPNet", "FCN-8s", "SegNet", "FCN-32s"):
    cells = [charts["figures"]("results.md", section, "", name, column) for column in columns]
    runs = zip(*cells, strict=True)
    seeds[name] = [dict(zip(columns, map(float, run), strict=True)) for run in runs]
save("points_per_seed", visualization.points_per_seed(None, seeds))

keras.utils.set_random_seed(1)
train, val = keras_psp.load_street_scenes(["train", "val"], (96, 128), 4, num_images=80)
small = keras_psp.PSPNet("resnet18_stage2", 11, backbone_weights=None, auxiliary_weight=0)
history = small.fit(train, validation_data=val, epochs=12, verbose=0).history
save("training_curves", visualization.training_curves(None, history))
