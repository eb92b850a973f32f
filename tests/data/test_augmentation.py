"""Augmentation: image and label stay together, labels exact, numbers depend on the seed alone.

The picture that *is* its label: each class has a color, so the image says what the label must be.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_psp.data import augmentation
from keras_psp.data.augmentation.applying import apply_layer
from keras_psp.data.augmentation.random_numbers import BatchNumbers
from keras_psp.labels import VOID

pytestmark = pytest.mark.usefixtures("without_xla")
BUILT_WITH_XLA = tf.test.is_built_with_xla

own_layers_of_keras = pytest.mark.skipif(
    tuple(map(int, keras.__version__.split(".")[:2])) < (3, 14),
    reason="Keras' own geometric layers interpolate masks before Keras 3.14, and are refused",
)

# Far apart, and far from the mean color.
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], "float32")


def blocks(batch=4, height=96, width=128, side=16, seed=0):
    """Returns images of blocks of color, and the labels that they stand for."""
    shape = (batch, -(-height // side), -(-width // side))
    labels = np.random.default_rng(seed).integers(0, len(COLORS), shape)
    labels = labels.repeat(side, 1).repeat(side, 2)[:, :height, :width].astype("int32")
    return COLORS[labels], labels


def run(augment, images, labels, seed=0):
    result = augment({"images": images, "segmentation_masks": labels}, seed)
    return result["images"].numpy(), result["segmentation_masks"].numpy()


def inside(labels, reach=2):
    """Returns where a label has no other label within reach: there the image mixes no colors."""
    same = np.ones_like(labels, bool)
    padded = np.pad(labels, [(0, 0), (reach, reach), (reach, reach)], constant_values=-1)
    height, width = labels.shape[1:]
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            same &= padded[:, y : y + height, x : x + width] == labels
    return same


GEOMETRY = {
    "view": augmentation.RandomView(96, 128, scale=(0.5, 2.0), degrees=10.0),
    "small view": augmentation.RandomView(
        61, 47, scale=(0.5, 2.0), degrees=45.0, rotation_probability=1.0
    ),
    "large view": augmentation.RandomView(150, 140, scale=(0.9, 1.1), degrees=5.0),
    "flip": keras.layers.RandomFlip("horizontal"),
    "rotation": keras.layers.RandomRotation(0.1, fill_mode="constant"),
    "zoom": keras.layers.RandomZoom((-0.5, 0.5), fill_mode="constant"),
    "translation": keras.layers.RandomTranslation(0.3, 0.3, fill_mode="constant"),
    "shear": keras.layers.RandomShear(0.3, 0.3, fill_mode="constant"),
    "perspective": keras.layers.RandomPerspective(1.0, 0.5),
    "crop": keras.layers.RandomCrop(64, 80),
    "gray outside": keras.layers.RandomRotation(0.1, fill_mode="constant", fill_value=3.0),
    "bright outside": keras.layers.RandomZoom((0.3, 0.5), fill_mode="constant", fill_value=254.5),
    "pipeline": keras.layers.Pipeline(
        [keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1, fill_mode="constant")]
    ),
    # With a fill_value that would be class 3 if nobody looked for it.
    "gray pipeline": keras.layers.Pipeline(
        [
            keras.layers.RandomFlip(),
            keras.layers.RandomRotation(0.1, fill_mode="constant", fill_value=4.0),
        ]
    ),
}


# What moves pixels as they are was always exact.
EXACT = ("view", "small view", "large view", "flip", "crop")


@pytest.mark.parametrize(
    "name", [n if n in EXACT else pytest.param(n, marks=own_layers_of_keras) for n in GEOMETRY]
)
def test_the_image_that_is_its_label(name):
    images, labels = blocks()
    augment = augmentation.get(GEOMETRY[name], input_size=(96, 128))
    changed = False
    for seed in range(3):
        new_images, new_labels = run(augment, images, labels, seed)
        assert set(np.unique(new_labels)) <= {*range(len(COLORS)), VOID}
        sure = inside(new_labels) & (new_labels != VOID)
        assert sure.mean() > 0.1
        expected = COLORS[np.where(sure, new_labels, 0)]
        np.testing.assert_allclose(new_images[sure], expected[sure], atol=0.02)
        changed |= new_labels.shape != labels.shape or (new_labels != labels).any()
    assert changed


@pytest.mark.parametrize("preset", ["authors", "course", "flip"])
def test_presets_keep_image_and_label_together(preset):
    images, labels = blocks(batch=8, side=32)
    augment = augmentation.get(preset, output_size=(80, 112))
    new_images, new_labels = run(augment, images, labels)
    assert new_images.shape == (8, 80, 112, 3)
    assert new_labels.shape == (8, 80, 112)
    # At scale 2, colors mix over 2 pixels, and with the blur over another 4.
    sure = inside(new_labels, reach=6) & (new_labels != VOID)
    assert sure.mean() > 0.1
    np.testing.assert_allclose(new_images[sure], COLORS[new_labels[sure]], atol=0.02)


def test_halves_tell_the_label_after_colors_change():
    # Darker than the middle is class 0, brighter class 1, whatever color jitter does to either.
    labels = np.zeros((16, 64, 64), "int32")
    labels[:, 20:50, 10:40] = 1
    images = np.where(labels[..., None] == 1, 160.0, 60.0) * np.ones(3)
    new_images, new_labels = run(augmentation.get("scratch", (64, 64)), images, labels)
    for image, label in zip(new_images, new_labels, strict=True):
        sure = inside(label[None])[0]
        zero, one = (image[sure & (label == k)].mean(-1) for k in (0, 1))
        assert zero.max() < one.min()
    means = [image[label == 0].mean() for image, label in zip(new_images, new_labels, strict=True)]
    assert np.ptp(means) > 10  # Each image has its own brightness.


def test_a_view_at_scale_one_copies_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 40, 50, 3)).astype("float32")
    labels = rng.integers(0, 11, (6, 40, 50)).astype("int32")
    view = augmentation.RandomView(24, 30)
    augment = augmentation.get(view, input_size=(40, 50))
    new_images, new_labels = run(augment, images, labels)
    windows = np.lib.stride_tricks.sliding_window_view(labels, (24, 30), axis=(1, 2))
    places = []
    for i in range(6):
        found = [
            (y, x, side)
            for side in (1, -1)
            for y, x in zip(
                *np.nonzero((windows[i] == new_labels[i][:, ::side]).all((-2, -1))), strict=True
            )
        ]
        assert len(found) == 1
        ((y, x, side),) = found
        cut = images[i, y : y + 24, x : x + 30]
        np.testing.assert_allclose(new_images[i][:, ::side], cut, atol=1e-3)
        places.append(found[0])
    assert len(set(places)) == 6  # Each image has its own place.
    assert {side for _, _, side in places} == {1, -1}


def test_scale_two_is_the_half_pixel_resize():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (1, 12, 16, 3)).astype("float32")
    label = rng.integers(0, 11, (1, 12, 16)).astype("int32")
    view = augmentation.RandomView(24, 32, scale=(2.0, 2.0), flip_probability=0.0)
    new_image, new_label = run(augmentation.get(view, input_size=(12, 16)), image, label)
    expected = tf.image.resize(image, (24, 32)).numpy()
    np.testing.assert_allclose(new_image[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-2)
    np.testing.assert_array_equal(new_label, label.repeat(2, 1).repeat(2, 2))


def test_a_small_view_lies_in_the_middle():
    images, labels = np.full((2, 40, 60, 3), 200.0), np.full((2, 40, 60), 7)
    view = augmentation.RandomView(40, 60, scale=(0.5, 0.5))
    new_images, new_labels = run(augmentation.get(view), images, labels)
    expected = np.full((2, 40, 60), VOID)
    expected[:, 10:30, 15:45] = 7
    np.testing.assert_array_equal(new_labels, expected)
    far = np.ones((40, 60), bool)
    far[9:31, 14:46] = False
    mean = np.broadcast_to([123.675, 116.28, 103.53], new_images[:, far].shape)
    np.testing.assert_allclose(new_images[:, far], mean, atol=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_a_view_alone_fills_masks_with_void(dtype):
    view = augmentation.RandomView(4, 6, scale=(1.0, 1.0), flip_probability=0.0)
    batch = {
        "images": np.zeros((1, 2, 2, 3)),
        "segmentation_masks": np.full((1, 2, 2, 1), 7, dtype),
    }
    masks = keras.ops.convert_to_numpy(view(batch, training=True)["segmentation_masks"])
    expected = np.full((4, 6), VOID)
    expected[1:3, 2:4] = 7
    np.testing.assert_array_equal(masks[0, ..., 0], expected)
    assert masks.dtype == dtype


def test_views_do_not_depend_on_xla(monkeypatch):
    images, labels = blocks()
    without = run(augmentation.get("authors", (80, 112)), images, labels)
    monkeypatch.setattr(tf.test, "is_built_with_xla", BUILT_WITH_XLA)
    with_xla = run(augmentation.get("authors", (80, 112)), images, labels)
    np.testing.assert_allclose(with_xla[0], without[0], atol=0.05)
    assert (with_xla[1] == without[1]).mean() > 0.9999  # Half-way between two pixels may differ.


def test_angle_of_a_rotation():
    # A line through the middle, at up to 30 degrees after the rotation.
    images, labels = np.zeros((64, 81, 81, 3)), np.zeros((64, 81, 81), "int32")
    labels[:, 40] = 1
    view = augmentation.RandomView(
        81, 81, degrees=30.0, rotation_probability=0.5, flip_probability=0.0
    )
    _, new_labels = run(augmentation.get(view), images, labels)
    angles = []
    for label in new_labels:
        y, x = np.nonzero(label == 1)
        angles.append(np.degrees(np.arctan(np.polyfit(x, y, 1)[0])))
    angles = np.array(angles)
    assert np.abs(angles).max() < 30.5
    assert angles.min() < -15
    assert angles.max() > 15
    assert 0.3 < np.mean(np.abs(angles) < 0.01) < 0.7  # Half of them are not rotated.


def test_scale_is_uniform():
    labels = np.zeros((200, 40, 40), "int32")
    labels[:, 10:30, 10:30] = 1
    view = augmentation.RandomView(80, 80, scale=(0.5, 2.0))
    _, new_labels = run(augmentation.get(view), np.zeros((200, 40, 40, 3)), labels)
    side = np.sqrt((new_labels == 1).sum((1, 2)))
    quantiles = np.quantile(side / 20, [0.02, 0.25, 0.5, 0.75, 0.98])
    np.testing.assert_allclose(quantiles, [0.53, 0.875, 1.25, 1.625, 1.97], atol=0.15)


@pytest.mark.parametrize("on", ["tensors", "arrays"])
def test_views_show_a_rare_class_in_the_middle(on):
    rng = np.random.default_rng(0)
    images, labels = np.zeros((64, 60, 80, 3), "float32"), np.zeros((64, 60, 80), "int32")
    places = rng.integers((25, 30), (33, 48), (64, 2))
    for label, (row, column) in zip(labels, places, strict=True):
        label[row : row + 3, column : column + 3] = 7
    view = augmentation.RandomView(
        20, 24, (1.0, 2.0), degrees=45.0, centered_on=[4, 7], center_probability=1.0
    )
    augment = augmentation.get(view, input_size=(60, 80))
    if on == "tensors":
        _, masks = run(augment, images, labels)
    else:
        _, masks = augment.on_arrays(images, labels, (0,))
    # Its pixel is a pixel of the view or less from the middle, and has neighbors like itself.
    assert (masks[:, 9:11, 11:13] == 7).any((1, 2)).all()
    assert len(np.unique(masks == 7, axis=0)) > 30


@pytest.mark.parametrize("on", ["tensors", "arrays"])
def test_classes_to_center_on_are_equally_likely_and_other_views_uniform(on):
    # One pixel of class 4, many of class 7, none of class 9. A view of one pixel says what it took.
    labels = np.zeros((1200, 10, 12), "int32")
    labels[:, 2, 3], labels[:, 5:7] = 4, 7
    rows = np.broadcast_to(np.arange(10.0)[:, None, None], (1200, 10, 12, 3)).astype("float32")
    view = augmentation.RandomView(1, 1, centered_on=[9, 4, 7], center_probability=0.6)
    augment = augmentation.get(view, (1, 1), input_size=(10, 12))
    if on == "tensors":
        images, masks = run(augment, rows, labels)
    else:
        images, masks = augment.on_arrays(rows, labels, (0,))
    shares = [(masks == number).mean() for number in (4, 7, 0)]
    by_chance = 0.4 / 120 * np.array([1, 24, 95])
    np.testing.assert_allclose(shares, by_chance + np.array([0.3, 0.3, 0]), atol=0.04)
    # Of the others, as many see each row.
    counts = np.bincount(images[masks == 0].astype(int).ravel()[::3], minlength=10) / 1200
    expected = np.full(10, 0.04)
    expected[[2, 5, 6]] = 0.04 * 11 / 12, 0, 0
    np.testing.assert_allclose(counts, expected, atol=0.02)


def test_images_without_a_rare_class_and_borders_are_seen_as_ever():
    labels = np.zeros((40, 30, 40), "int32")
    labels[20:, 0, 0] = 5
    view = augmentation.RandomView(10, 12, centered_on=[5], center_probability=1.0)
    augment = augmentation.get(view, input_size=(30, 40))
    rows = np.broadcast_to(np.arange(30.0)[:, None, None], (40, 30, 40, 3))
    images, masks = run(augment, rows, labels)
    assert len(np.unique(images[:20, 0, 0, 0])) > 5
    # A view stays in the image, so what lies in its corner is in the view's, mirrored or not.
    assert (masks[20:, 0][:, [0, -1]] == 5).any(1).all()
    assert not (masks == VOID).any()


def test_only_presets_are_told_what_to_center_on():
    augment = augmentation.get("scratch", (40, 50), centered_on=[3])
    assert augment._layers[0].centered_on == (3,)
    for given in (None, augmentation.RandomView(40, 50)):
        with pytest.raises(ValueError, match=r"Received: centered_on with augment=.*Name a preset"):
            augmentation.get(given, centered_on=[3])


def test_blur_is_the_gaussian_and_keeps_the_rim():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (2, 10, 12, 3)).astype("float32")
    layer = augmentation.RandomBlur(factor=(1.0, 1.0), kernel_size=5, sigma=(1.0, 1.0))
    blurred, _ = run(augmentation.get(layer), images, np.zeros((2, 10, 12), "int32"))
    kernel = np.exp(-0.5 * np.arange(-2.0, 3.0) ** 2)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    np.testing.assert_allclose(blurred, (windows * kernel).sum((-2, -1)), atol=1e-2)


def test_the_presets_blur_as_opencv_does():
    # OpenCV's 5x5 kernel without a deviation is (1, 4, 6, 4, 1) / 16 along either axis.
    images = np.zeros((32, 9, 9, 3), "float32")
    images[:, 4, 4] = 255
    expected = np.zeros(9)
    expected[2:7] = np.array([1, 4, 6, 4, 1]) / 16
    expected = np.outer(expected, expected)
    for place, name in [(1, "authors"), (0, "course")]:
        layer = augmentation.PRESETS[name](9, 9)[place]
        augment = augmentation.get(layer, input_size=(9, 9))
        blurred, _ = run(augment, images, np.zeros((32, 9, 9)))
        blurred = blurred[blurred[:, 4, 4, 0] < 254, :, :, 0] / 255
        assert len(blurred) > 5
        np.testing.assert_allclose(blurred, np.broadcast_to(expected, blurred.shape), atol=0.025)


@pytest.mark.parametrize("name", augmentation.PRESETS)
def test_presets_that_turn(name):
    images = np.zeros((16, 32, 32, 3), "float32")
    labels = np.zeros((16, 32, 32), "int32")
    labels[:, 16:] = 1
    _, labels = run(augmentation.get(name, (32, 32)), images, labels)
    slopes = ((labels == 0).any(2) & (labels == 1).any(2)).any()
    assert slopes == (name in ("authors", "course", "scratch_long"))


def test_colors_change_as_by_layers_of_keras():
    images = np.random.default_rng(0).uniform(0, 255, (8, 10, 12, 3)).astype("float32")
    masks = np.zeros((8, 10, 12), "uint8")
    layer = augmentation.RandomColors(0.3, 0.5, (0.2, 0.8))
    brightness, contrast, saturation = (
        ops.convert_to_numpy(factor)
        for factor in layer.get_random_transformation(images, seed=BatchNumbers(1, []))
    )
    for factor, low, high in (brightness, -76.5, 76.5), (contrast, 0.5, 1.5), (saturation, 0.25, 4):
        assert low <= factor.min() < factor.max() <= high
    expected = keras.layers.RandomBrightness(0.3).transform_images(
        ops.convert_to_tensor(images), {"rgb_delta": brightness}
    )
    expected = keras.layers.RandomContrast(0.5).transform_images(
        expected, {"contrast_factor": contrast}
    )
    expected = keras.layers.RandomSaturation((0.2, 0.8), value_range=(0, 255)).transform_images(
        expected, {"factor": saturation.ravel()}
    )
    found, _ = apply_layer(layer, images, masks[..., None], BatchNumbers(1, []))
    np.testing.assert_allclose(found, expected, atol=0.02)
    found, _ = layer.on_arrays(images, masks, BatchNumbers(1, []))
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_half_of_the_images_are_blurred():
    images = np.random.default_rng(0).uniform(0, 255, (64, 8, 8, 3)).astype("float32")
    augment = augmentation.get(augmentation.PRESETS["course"](8, 8)[0], input_size=(8, 8))
    new_images, _ = run(augment, images, np.zeros((64, 8, 8)))
    sharp = [np.allclose(new, old, atol=1e-3) for new, old in zip(new_images, images, strict=True)]
    assert 0.3 < np.mean(sharp) < 0.7


def pairs():
    images, labels = blocks(height=24, width=32, side=8)
    return tf.data.Dataset.from_tensors((images, labels)).repeat(2)


# "authors" in test_pipeline.py.
@pytest.mark.parametrize(
    "augment", ["scratch", pytest.param("own layers", marks=own_layers_of_keras)]
)
def test_batches_depend_on_seed_and_epoch(augment):
    def layers():
        if augment == "own layers":
            return [keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)]
        return augment

    def epochs(seed):
        augment = augmentation.get(layers(), (24, 32), seed=seed, input_size=(24, 32))
        dataset = augment.map(pairs())
        return [[(x.numpy(), y.numpy()) for x, y in dataset] for _ in range(2)]

    first, second = epochs(1)
    again, _ = epochs(1)
    other, _ = epochs(2)
    for (images, labels), (same_images, same_labels) in zip(first, again, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)
    drawn = [images for epoch in (first, second, other) for images, _ in epoch]
    assert all((a != b).any() for i, a in enumerate(drawn) for b in drawn[:i])


def test_layers_of_one_seed_draw_different_numbers():
    # On their own, both layers would flip the very same images.
    layers = [keras.layers.RandomFlip("horizontal", seed=5) for _ in range(2)]
    labels = np.zeros((64, 4, 4), "int32")
    labels[:, :, :2] = 1
    augment = augmentation.get(layers, input_size=(4, 4))
    _, new_labels = run(augment, np.zeros((64, 4, 4, 3)), labels)
    assert 0.3 < (new_labels[:, 0, 0] == 0).mean() < 0.7


def test_calls_are_counted():
    images, labels = blocks()
    batch = {"images": images, "segmentation_masks": labels[..., None]}
    one, two = (augmentation.get("course", (64, 64), seed=3) for _ in range(2))
    first, second = one(batch), one(batch)
    assert (first["images"].numpy() != second["images"].numpy()).any()
    np.testing.assert_array_equal(first["images"], two(batch)["images"])
    assert first["segmentation_masks"].shape == (4, 64, 64, 1)
    assert one.on_tensors.experimental_get_tracing_count() == 1  # Not a graph for every call.


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_types_and_ranges(dtype):
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3)).astype("uint8")
    labels = blocks(4, 48, 64)[1].astype(dtype)
    labels[:, :5] = VOID
    labels[:, 5:9] = 254
    new_images, new_labels = run(augmentation.get("scratch", (48, 64)), images, labels)
    assert new_images.dtype == "float32"
    assert new_labels.dtype == dtype
    assert new_images.min() >= 0
    assert new_images.max() <= 255
    assert {254, VOID} <= set(np.unique(new_labels))


@pytest.mark.parametrize("preset", ["authors", "scratch"])  # All layers of the five.
def test_networks_in_half_precision_get_the_same_views(preset):
    batch = {
        "images": np.random.default_rng(0).uniform(0, 255, (2, 20, 30, 3)).astype("float32"),
        "segmentation_masks": np.full((2, 20, 30), 3),
    }
    views = []
    for policy in ("float32", "mixed_float16"):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            augment = augmentation.get(preset, (16, 24), seed=1)
            views.append(augment(batch, seed=5)["images"])
        finally:
            keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(*views)


def test_none_changes_nothing():
    images, labels = blocks()
    new_images, new_labels = run(augmentation.get(None), images, labels)
    np.testing.assert_array_equal(new_images, images)
    np.testing.assert_array_equal(new_labels, labels)


def test_cutmix_cuts_labels_too():
    images, labels = blocks()
    augment = augmentation.get(keras.layers.CutMix(), input_size=(96, 128))
    new_images, new_labels = run(augment, images, labels)
    np.testing.assert_allclose(new_images, COLORS[new_labels], atol=1e-3)


LAYERS = [augmentation.RandomView, augmentation.RandomBlur, augmentation.RandomColors]


@pytest.mark.parametrize("layer", LAYERS)
def test_config_round_trip(layer):
    options = {"scale": (0.5, 1.5), "degrees": 3.0, "centered_on": (4,), "center_probability": 0.3}
    original = layer(8, 9, **options) if "View" in layer.__name__ else layer()
    config = keras.saving.serialize_keras_object(original)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is layer
    assert copy.get_config() == original.get_config()


@own_layers_of_keras
def test_a_pipeline_moves_in_void_too():
    turn = keras.layers.RandomRotation((0.1, 0.1), fill_mode="constant", fill_value=4.0)
    augment = augmentation.get(keras.layers.Pipeline([turn]), input_size=(40, 40))
    _, labels = run(augment, np.zeros((2, 40, 40, 3)), np.full((2, 40, 40), 7))
    assert set(np.unique(labels)) == {7, VOID}
    assert (labels[:, [0, 0, -1, -1], [0, -1, 0, -1]] == VOID).all()


@pytest.mark.parametrize("fill", [None, 128.0, (1.0, 2.0, 3.0)])
def test_erasing_leaves_labels_alone(fill):
    images, labels = blocks()
    erase = keras.layers.RandomErasing(factor=1.0, fill_value=fill)
    turn = keras.layers.RandomRotation(0.0, fill_mode="constant")
    for layer in (erase, keras.layers.Pipeline([turn, erase])):
        augment = augmentation.get(layer, input_size=(96, 128))
        new_images, new_labels = run(augment, images, labels)
        np.testing.assert_array_equal(new_labels, labels)
        assert (np.abs(new_images - images) > 1).any()


def keep(**changes):
    """Returns a layer that changes one entry of the batch by a function."""
    return keras.layers.Lambda(lambda b: {**b, **{k: f(b[k]) for k, f in changes.items()}})


def mean_of_neighbors(masks):
    return tf.nn.avg_pool(masks, 3, 1, "SAME")


TWO_FILLS = [keras.layers.RandomZoom(0.1, fill_value=value) for value in (0.0, 4.0)]


@pytest.mark.parametrize(
    ("layer", "flaw"),
    [
        (keras.layers.Dense(3), "it fails on them: "),
        (keras.layers.Rescaling(0.5), "it fails on them: "),
        (keras.layers.MixUp(), "it (fails on them|turns the labels)"),
        (keras.layers.RandomElasticTransform(), "it warps images and masks differently"),
        (keep(images=lambda x: x[:, :8]), r"it returns images \(4, 8, .* with masks \(4, 360,"),
        (keep(segmentation_masks=mean_of_neighbors), r"it turns the labels \(0, 10, 255\) into "),
        (keep(segmentation_masks=lambda x: (x + x[::-1]) / 2), "it turns the labels"),
        (keras.layers.Pipeline(TWO_FILLS), r"its layers have several fill_value: 0\.0, 4\.0"),
    ],
)
def test_layers_that_do_not_keep_labels(layer, flaw):
    message = (
        rf"(?s)must change `segmentation_masks`.*Received: augment=.*, but {flaw}.*or a preset"
    )
    with pytest.raises(ValueError, match=message):
        augmentation.get(layer)


@own_layers_of_keras
@pytest.mark.parametrize("count", [1, 2, 3, 254])
def test_any_number_of_classes(count):
    small = {"num_classes": count, "input_size": (48, 64)}
    augmentation.get(keras.layers.RandomRotation(0.5), **small)
    with pytest.raises(ValueError, match=rf"turns the labels \(0, {count - 1}, 255\)"):
        augmentation.get(keep(segmentation_masks=mean_of_neighbors), **small)


def test_unknown_preset():
    with pytest.raises(ValueError, match="Did you mean 'authors'"):
        augmentation.get("author")


def test_a_graph_needs_seeds():
    augment = augmentation.get("flip", (24, 32))
    names = ("images", "segmentation_masks")
    with pytest.raises(ValueError, match=r"augment\.map"):
        pairs().map(lambda *pair: augment(dict(zip(names, pair, strict=True))))


@pytest.mark.parametrize("segmentation_classes", [11, 12])
def test_keras_cv_keeps_the_last_class(segmentation_classes):
    keras_cv = pytest.importorskip("keras_cv", exc_type=ImportError)
    labels = np.broadcast_to(np.arange(16).repeat(3)[:, None] % 11, (1, 48, 48)).astype("int32")
    layer = keras_cv.layers.RandomRotation(
        0.0, fill_mode="constant", segmentation_classes=segmentation_classes
    )
    augment = augmentation.get(layer, input_size=(48, 48))
    _, new_labels = run(augment, np.zeros((1, 48, 48, 3)), labels)
    np.testing.assert_array_equal(new_labels, labels)
    assert layer.segmentation_classes == segmentation_classes


def test_keras_cv_needs_all_classes():
    keras_cv = pytest.importorskip("keras_cv", exc_type=ImportError)
    layer = keras_cv.layers.RandomRotation(0.1, fill_mode="constant", segmentation_classes=10)
    with pytest.raises(ValueError, match=r"but it has segmentation_classes=10, not 11\. Use"):
        augmentation.get(layer)
    augmentation.get(layer, num_classes=10, input_size=(48, 64))


def test_keras_cv():
    keras_cv = pytest.importorskip("keras_cv", exc_type=ImportError)
    _, labels = blocks()
    labels = np.maximum(labels, 1)  # Class 0 comes in from nowhere else.
    layers = [
        keras_cv.layers.RandomFlip("horizontal", seed=1),
        keras_cv.layers.RandomRotation(
            0.1, fill_mode="constant", fill_value=0.0, segmentation_classes=12, seed=1
        ),
    ]
    for layer in layers:
        augment = augmentation.get(layer, input_size=(96, 128))
        new_images, new_labels = run(augment, COLORS[labels], labels)
        sure = inside(new_labels) & (new_labels != VOID)
        assert sure.mean() > 0.1
        assert 0 not in new_labels
        np.testing.assert_allclose(new_images[sure], COLORS[new_labels[sure]], atol=0.02)
        assert (new_labels != labels).any()
