"""Drawn street scenes: exact labels, one scene for one seed, more than colors to learn."""

import random
import types

import numpy as np
import pytest
from PIL import Image

from keras_psp.data.camvid.classes import CAMVID
from keras_psp.data.street_scenes import drawing, load_street_scenes, loading, street_scene
from keras_psp.labels import VOID

pytestmark = pytest.mark.usefixtures("without_xla")

SKY, CAR, ROAD = (CAMVID.names.index(name) for name in ("Sky", "Car", "Road"))


@pytest.fixture(scope="module")
def scenes():
    """Images and labels of forty scenes."""
    pairs = [street_scene(seed, (90, 120)) for seed in range(40)]
    images, labels = (np.stack(things) for things in zip(*pairs, strict=True))
    return images, labels


def test_types_and_classes(scenes):
    images, labels = scenes
    assert images.shape == (40, 90, 120, 3)
    assert labels.shape == (40, 90, 120)
    assert images.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) == {*range(11), VOID}
    shares = np.array([(labels == k).mean() for k in range(11)])
    occurs = np.array([(labels == k).any((1, 2)).mean() for k in range(11)])
    assert shares.min() > 0.002  # About what the rarest classes have in CamVid.
    assert shares.max() < 0.5
    assert occurs.min() > 0.3
    assert (labels == VOID).mean() < 0.1


def test_scenes_look_like_streets(scenes):
    _, labels = scenes
    rows = np.broadcast_to(np.arange(90)[:, None], (90, 120))
    for label in labels:
        assert rows[label == SKY].mean() < 45 < rows[label == ROAD].mean()
        assert (label[-1] == ROAD).mean() > 0.2
        assert not (label[-20:] == SKY).any()


def test_a_scene_depends_on_its_seed_alone(scenes):
    images, labels = scenes
    random.seed(5)  # Others' random numbers do not matter.
    for seed in (0, 7):
        image, label = street_scene(seed, (90, 120))
        np.testing.assert_array_equal(image, images[seed])
        np.testing.assert_array_equal(label, labels[seed])
    different = [(a != b).mean() for i, a in enumerate(labels) for b in labels[:i]]
    assert min(different) > 0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_scene_at_every_size(seed):
    image, label = street_scene(seed, (120, 160))
    large_image, large_label = street_scene(seed, (240, 320))
    wide_image, wide_label = street_scene(seed, (120, 320))
    assert (large_label[1::2, 1::2] == label).mean() > 0.95
    assert (wide_label[:, 80:240] == label).mean() > 0.95

    def blurred(pixels):
        return np.asarray(Image.fromarray(pixels).resize((20, 15), Image.Resampling.BOX), float)

    assert np.abs(blurred(large_image) - blurred(image)).mean() < 6
    assert np.abs(blurred(wide_image[:, 80:240]) - blurred(image)).mean() < 20  # Its own light.


def test_labels_are_exact_where_the_image_is_smooth(monkeypatch):
    # A black triangle and a black ellipse, the car, in a white sky, taken by a perfect camera.
    black, white = (0, 0, 0, 255), (255, 255, 255, 255)
    triangle = ("polygon", [-0.4, 0.05, 0.3], [0.9, 0.1, 0.77], black, CAR)
    ellipse = ("ellipse", [0.2, 0.6], [0.2, 0.5], black, CAR)
    paint = ("polygon", [-1, 1, 1, -1], [0.85, 0.85, 1, 1], white, None)
    world = types.SimpleNamespace(shapes=[triangle, ellipse, paint])
    monkeypatch.setattr(drawing, "World", lambda rng: world)
    monkeypatch.setattr(drawing, "_sky", lambda world, size: Image.new("RGB", size, "white"))
    monkeypatch.setattr(drawing, "_expose", lambda world, image, label, rng: image)
    image, label = street_scene(0, (100, 140))
    gray = image[..., 0]
    assert set(np.unique(label)) == {SKY, CAR}
    assert ((gray > 0) & (gray < 255)).sum() > 50  # Edges are smooth in the image ...
    assert (label[gray == 0] == CAR).all()  # ... and belong to one or the other in the label.
    assert (label[(gray == 255)][: 20 * 140] == SKY).all()
    painted = np.zeros((100, 140), bool)
    painted[86:] = True
    assert (label[painted & (gray == 255)] == CAR).any()  # Paint does not change what a thing is.
    assert abs((label == CAR)[20:50, 98:112].mean() - 1) < 0.35
    # Area of the triangle in pixels, by the shoelace formula.
    (x0, x1, x2), (y0, y1, y2) = triangle[1:3]
    area = abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)) / 2 * 100**2
    round_area = np.pi * 0.2 * 0.15 * 100**2
    assert area < (label == CAR).sum() < 1.03 * (area + round_area) + 40


def mean_iou(prediction, target):
    valid = target != VOID
    counts = np.bincount(target[valid] * 11 + prediction[valid], minlength=121).reshape(11, 11)
    hits = np.diag(counts)
    return np.mean(hits / (counts.sum(0) + counts.sum(1) - hits))


def test_neither_color_nor_place_alone_tells_the_class(scenes):
    images, labels = (array.astype(int) for array in scenes)
    seen, unseen = slice(0, 25), slice(25, 40)
    means = np.stack([images[seen][labels[seen] == k].mean(0) for k in range(11)])
    distance = ((images[unseen][..., None, :] - means) ** 2).sum(-1)
    assert mean_iou(distance.argmin(-1), labels[unseen]) < 0.15

    coarse = (images // 16) @ [256, 16, 1]  # Any rule from 4096 colors to classes.
    votes = np.zeros((4096, 11))
    valid = labels[seen] != VOID
    np.add.at(votes, (coarse[seen][valid], labels[seen][valid]), 1)
    assert mean_iou(votes[coarse[unseen]].argmax(-1), labels[unseen]) < 0.3

    usual = np.stack([(labels[seen] == k).mean(0) for k in range(11)]).argmax(0)
    assert mean_iou(np.broadcast_to(usual, labels[unseen].shape), labels[unseen]) < 0.3


def batches(dataset):
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def test_splits_are_disjoint_and_complete():
    splits = list(loading.SPLITS)
    datasets = load_street_scenes(splits, (30, 40), 2, num_images=6, augment=None, shuffle=False)
    images = [image for dataset in datasets for batch, _ in batches(dataset) for image in batch]
    assert len(images) == 18
    assert all((a != b).any() for i, a in enumerate(images) for b in images[:i])
    expected, expected_label = street_scene(0, (30, 40))
    np.testing.assert_array_equal(images[0], expected)
    np.testing.assert_array_equal(batches(datasets[0])[0][1][0], expected_label)
    assert list(datasets[0].class_names) == list(CAMVID.names)
    assert datasets[1].sample_names[:2] == ["val/0", "val/1"]
    # The largest splits that may be asked for still do not touch.
    assert max(loading.SPLITS.values()) <= loading.SCENES_PER_SPLIT


def test_training_batches_are_augmented_and_reproducible():
    options = {"image_size": (30, 40), "batch_size": 4, "num_images": 10}
    first, second = (batches(load_street_scenes("train", **options)) for _ in range(2))
    other = batches(load_street_scenes("train", seed=1, **options))
    assert len(first) == 2  # The incomplete batch is left out.
    for (images, labels), (same_images, same_labels) in zip(first, second, strict=True):
        assert images.dtype == np.float32
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)
    assert (first[0][0] != other[0][0]).any()
    assert len(batches(load_street_scenes("val", **options))) == 3


def test_bad_input():
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        load_street_scenes("trian")
    for number in (0, -1, loading.SCENES_PER_SPLIT + 1):
        with pytest.raises(ValueError, match=f"from 1 to 1000000. Received: num_images={number}"):
            load_street_scenes("val", num_images=number)


def test_views_of_train_are_centered_on_classes_by_name():
    options = {"image_size": (60, 80), "batch_size": 4, "num_images": 20, "augment": "flip"}
    options["crop_size"] = (20, 26)
    number = CAMVID.names.index("Pedestrian")

    def share(data):
        """How often people are in the middle."""
        middles = [np.asarray(labels)[:, 9:11, 12:14] for _, labels in data]
        return (np.concatenate(middles) == number).any((1, 2)).mean()

    (plain, _), (centered, val) = (
        load_street_scenes(["train", "val"], **options, centered_on=names)
        for names in ([], ["Pedestrian"])
    )
    assert share(centered) > share(plain) + 0.2
    assert next(iter(val))[1].shape == (4, 20, 26)
    with pytest.raises(ValueError, match=r"class='Pedestrain'\. Did you mean 'Pedestrian'"):
        load_street_scenes("train", **options, centered_on=["Pedestrain"])
    with pytest.raises(ValueError, match=r"centered_on with augment=None\."):
        load_street_scenes("val", (60, 80), centered_on=["Pedestrian"])
