"""Segmenting images with a model worked out by hand: class 0 where red is strongest, 1 green, 2
blue."""

import io
import math
import tracemalloc

import keras
import numpy as np
import pytest
from PIL import Image

from keras_psp.inference.segmenting import Segmenter, best_class, segment
from keras_psp.inference.views import VIEWS, Views
from tests.tiny import Tiny

RED, GREEN, BLUE = (200, 10, 30), (20, 220, 30), (5, 10, 90)


@pytest.fixture(scope="module")
def strongest_channel():
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 1, use_bias=False, name="head")(image)
    model = keras.Model(image, logits)
    model.set_weights([np.eye(3, dtype="float32").reshape(1, 1, 3, 3)])
    return model


@pytest.fixture
def halves():
    """The left half red, the right half blue, 20×32, one pixel green."""
    image = np.full((20, 32, 3), RED, "uint8")
    image[:, 16:] = BLUE
    image[3, 5] = GREEN
    return image


def test_every_pixel_gets_its_strongest_class(strongest_channel, halves):
    labels = segment(strongest_channel, halves)
    expected = np.repeat([[0] * 16 + [2] * 16], 20, axis=0)
    expected[3, 5] = 1
    assert labels.dtype == np.uint8
    assert (labels == expected).all()


def test_file_picture_and_arrays_of_any_type_agree(strongest_channel, halves, tmp_path):
    Image.fromarray(halves).save(tmp_path / "halves.png")
    expected = segment(strongest_channel, halves)
    for image in (
        tmp_path / "halves.png",
        str(tmp_path / "halves.png"),
        Image.fromarray(halves),
        halves.astype("float32"),
        halves.astype("int64"),
    ):
        assert (segment(strongest_channel, image) == expected).all()


def test_another_image_size_keeps_the_labels_size(strongest_channel, halves):
    halves[3, 5] = RED
    labels = segment(strongest_channel, halves, image_size=(5, 8))
    assert labels.shape == (20, 32)
    # Probabilities are enlarged before the best class is taken. The network is sure of red and of
    # blue, so that between the last red and the first blue place, at 13.5 and 17.5, the middle is
    # the border. (Logits would cross at 16.2, where 30 + 60 t = 200 - 195 t.)
    assert (labels == np.repeat([[0] * 16 + [2] * 16], 20, axis=0)).all()


def test_the_shorter_side_keeps_the_shape(strongest_channel, halves):
    sizes = Segmenter(strongest_channel, 10, Views(scales=(0.5, 1, 1.75))).sizes(halves)
    assert sizes == [(5, 8), (10, 16), (18, 29)]  # 1.75 × 10 is rounded first, to the even 18
    assert segment(strongest_channel, halves.swapaxes(0, 1), 10).shape == (32, 20)


def test_what_is_not_rgb_is_an_error(strongest_channel, halves, tmp_path):
    wrong = {
        "gray": halves[..., 0],
        "four": np.concatenate([halves, halves[..., :1]], axis=-1),
        "deep": halves.astype("uint16") * 257,
        "nan": np.full((4, 4, 3), np.nan),
        "negative": halves.astype("float32") - 100,
        "empty": halves[:0],
        "ycbcr": Image.fromarray(halves).convert("YCbCr"),
        "palette": Image.fromarray(halves).convert("P"),
    }
    for image in wrong.values():
        with pytest.raises(ValueError, match=r"must be RGB, 0–255.*Received: image of shape"):
            segment(strongest_channel, image)
    with pytest.raises(ValueError, match=r"real numbers\. Received: image=.*'red'"):
        segment(strongest_channel, np.full((4, 4, 3), "red"))
    with pytest.raises(ValueError, match=r"numpy\.moveaxis\(image, 0, -1\)"):
        segment(strongest_channel, np.moveaxis(halves, -1, 0))
    with pytest.raises(ValueError, match=r"Received: bytes, 1920 of them\. Decode .*BytesIO"):
        segment(strongest_channel, halves.tobytes())


@pytest.mark.parametrize("kind", ["uint8", "bfloat16", "gradients"])
def test_tensors_of_pytorch_are_images(strongest_channel, halves, kind):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(halves)
    if kind == "bfloat16":
        tensor = tensor.to(torch.bfloat16)
    elif kind == "gradients":
        tensor = tensor.float().requires_grad_()
    expected = segment(strongest_channel, halves)
    assert (segment(strongest_channel, tensor) == expected).all()
    (labels,) = segment(strongest_channel, tensor[None])
    assert (labels == expected).all()


@pytest.mark.parametrize(
    "mode, kind", [("L", "grayscale"), ("RGBA", "RGBA"), ("I;16", "16-bit or deeper")]
)
def test_a_file_of_the_wrong_kind_is_named(strongest_channel, tmp_path, mode, kind):
    file = tmp_path / "street.png"
    Image.new(mode, (32, 20)).save(file)
    with pytest.raises(ValueError, match=rf"must be 8-bit RGB.*street\.png, which is {kind}"):
        segment(strongest_channel, file)


def test_a_truncated_file_is_named(strongest_channel, halves, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(halves).save(buffer, "PNG")
    file = tmp_path / "street.png"
    file.write_bytes(buffer.getvalue()[:-40])
    with pytest.raises(ValueError, match=r"must be whole.*street\.png"):
        segment(strongest_channel, file)


def test_what_a_segmenter_is_told_is_checked(strongest_channel, halves):
    with pytest.raises(ValueError, match=r"views='curse'\. Did you mean 'course'\?"):
        segment(strongest_channel, halves, 10, "curse")
    for wrong in (0, (4, 0), 7.5, (1, 2, 3)):
        with pytest.raises(ValueError, match=r"image_size must be .*\. Received: image_size="):
            segment(strongest_channel, halves, wrong)
    with pytest.raises(ValueError, match=r"at least 1\. Received: batch_size=0"):
        segment(strongest_channel, halves, batch_size=0)
    with pytest.raises(ValueError, match=r"the whole image\. Received: .*crops=\('center',\)"):
        segment(strongest_channel, halves, views="center_crop")
    with pytest.raises(ValueError, match=r"pixels at every scale.*scale 0\.01: 0×0"):
        segment(strongest_channel, halves, views=Views(scales=(0.01,)))


# The course's protocol (b), once more, in plain NumPy ---------------------------------------------


def resized(image, height, width):
    """Bilinear with half-pixel centers: `np.interp` between the centers of the old pixels."""
    for axis, new in enumerate((height, width)):
        old = image.shape[axis]
        places = (np.arange(new) + 0.5) * old / new - 0.5
        image = np.apply_along_axis(
            lambda v, at=places: np.interp(at, np.arange(len(v)), v), axis, image
        )
    return image


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def protocol_b(predict, image, short_side, side, scales, mirrored=True):
    height, width, _ = image.shape
    total = 0
    for scale in scales:
        short = round(scale * short_side)
        if height < width:
            size = short, round(short / height * width)
        else:
            size = round(short / width * height), short
        pad = [(max(side - s, 0) // 2, max(side - s, 0) - max(side - s, 0) // 2) for s in size]
        scaled = [
            np.pad(channel, pad, constant_values=mean)
            for channel, mean in zip(
                np.moveaxis(resized(image, *size), -1, 0), (123.675, 116.28, 103.53), strict=True
            )
        ]
        scaled = np.stack(scaled, axis=-1)
        stride = math.ceil(side * 2 / 3)
        rows, columns = (math.ceil((s - side) / stride) + 1 for s in scaled.shape[:2])
        sums, counts = 0, np.zeros(scaled.shape[:2])
        for row in range(rows):
            for column in range(columns):
                bottom = min(row * stride + side, scaled.shape[0])
                right = min(column * stride + side, scaled.shape[1])
                window = np.s_[bottom - side : bottom, right - side : right]
                said = softmax(predict(scaled[window]))
                if mirrored:
                    said = (said + softmax(predict(scaled[window][:, ::-1]))[:, ::-1]) / 2
                part = np.zeros((*counts.shape, said.shape[-1]))
                part[window] = said
                sums = sums + part
                counts[window] += 1
        means = sums / counts[..., None]
        (top, bottom), (left, right) = pad
        means = means[top : len(means) - bottom, left : means.shape[1] - right]
        total = total + resized(means, height, width)
    return total / len(scales)


@pytest.fixture(scope="module")
def tiny():
    keras.utils.set_random_seed(0)
    return Tiny()


SIX = (0.5, 0.75, 1, 1.25, 1.5, 1.75)


@pytest.mark.parametrize(
    "size, image_size, views",
    [
        ((270, 363), 240, "course"),
        ((135, 182), 120, "course_multi_scale"),
        ((90, 71), 48, Views(41, antialias=False)),
        ((72, 96), 24, Views(21, scales=SIX, mirror=True, antialias=False)),
    ],
)
def test_the_courses_protocol_is_reproduced(tiny, size, image_size, views):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype("uint8")
    found = segment(tiny, image, image_size, views, probabilities=True)
    views = VIEWS.get(views, views)
    expected = protocol_b(
        lambda window: tiny.predict_on_batch(window[None].astype("float32"))[0].astype("float64"),
        image.astype("float64"),
        image_size,
        views.window_size,
        views.scales,
        views.mirror,
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.01  # The network does not say the same everywhere.
    labels = segment(tiny, image, image_size, views)
    clear = np.diff(np.sort(expected, axis=-1)[..., -2:])[..., 0] > 2e-5
    assert (labels == expected.argmax(-1))[clear].all()


def test_every_batch_size_gives_the_same(tiny):
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*size, 3)) for size in [(40, 50), (21, 60), (70, 22)]]
    views = Views(24, scales=(0.5, 1, 1.5), mirror=True)
    expected = segment(tiny, images, 30, views, batch_size=1, probabilities=True)
    for batch_size in (3, 8, 1000):
        for one, other in zip(
            expected,
            segment(tiny, images, 30, views, batch_size=batch_size, probabilities=True),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, atol=2e-6)


def test_windows_of_several_scales_and_images_share_batches(halves):
    class Counting(keras.Model):
        sizes: tuple = ()

        def predict_on_batch(self, views):
            self.sizes += (len(views),)
            return np.zeros((*views.shape[:3], 2))

    model = Counting()
    # Of each image 1 × 2 windows at the half and 3 × 5 at the whole, and all of them mirrored: 68.
    segment(model, [halves, halves], views=Views(10, 0.6, (0.5, 1), mirror=True), batch_size=8)
    assert model.sizes == (*(8,) * 8, 4)


def test_mirrored_images_give_mirrored_answers(tiny):
    image = np.random.default_rng(2).integers(0, 256, (24, 30, 3))
    views = Views(mirror=True)
    found = segment(tiny, image, views=views, probabilities=True)
    mirrored = segment(tiny, image[:, ::-1], views=views, probabilities=True)
    np.testing.assert_allclose(found, mirrored[:, ::-1], atol=1e-6)
    assert abs(found - segment(tiny, image, probabilities=True)).max() > 1e-3


def test_windows_change_nothing_for_one_pixel_networks(strongest_channel, halves):
    expected = segment(strongest_channel, halves / 100, probabilities=True)
    for window in (7, (3, 50), 64):
        for stride in (0.1, 1):
            found = segment(
                strongest_channel, halves / 100, views=Views(window, stride), probabilities=True
            )
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_answers_of_less_resolution_are_enlarged(strongest_channel, halves):
    coarse = keras.Sequential([strongest_channel, keras.layers.AveragePooling2D(4)])
    labels = segment(coarse, np.repeat(halves[:1], 20, axis=0))
    assert labels.shape == (20, 32)
    assert (labels[:, :14] == 0).all()
    assert (labels[:, 18:] == 2).all()


@pytest.mark.parametrize("views", ["single", Views(9, mirror=True)])
def test_several_images_come_as_a_list(strongest_channel, halves, tmp_path, views):
    Image.fromarray(halves).save(tmp_path / "halves.png")
    other = np.full((7, 5, 3), BLUE, "uint8")
    labels = segment(strongest_channel, [tmp_path / "halves.png", other, halves], views=views)
    assert [one.shape for one in labels] == [(20, 32), (7, 5), (20, 32)]
    assert (labels[0] == segment(strongest_channel, halves)).all()
    assert (labels[0] == labels[2]).all()
    assert (labels[1] == 2).all()
    batch = segment(strongest_channel, np.stack([halves, halves]), views=views)
    assert len(batch) == 2
    assert (batch[1] == labels[0]).all()


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("kind", ["folder", "glob", "strings"])
def test_files_come_one_by_one(strongest_channel, halves, tmp_path, kind, batch_size):
    for name, pixels in [("a.png", halves), ("c.png", halves[:, ::-1])]:
        Image.fromarray(pixels).save(tmp_path / name)
    for name in ("b.png", "d.png"):
        (tmp_path / name).write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no image")
    files = {
        "folder": tmp_path,
        "glob": tmp_path.glob("*.png"),
        "strings": map(str, sorted(tmp_path.glob("*.png"))),
    }
    found, labels = segment(strongest_channel, files[kind], batch_size=batch_size), {}
    with pytest.raises(ValueError, match=r"Received: 2 that cannot; all others were seg") as error:
        labels.update((str(file), label_map) for file, label_map in found)
    assert sorted(labels) == [str(tmp_path / name) for name in ("a.png", "c.png")]
    for name in ("b.png", "d.png"):
        assert f"{tmp_path / name}, which cannot be read" in str(error.value)
    expected = segment(strongest_channel, halves)
    assert (labels[str(tmp_path / "a.png")] == expected).all()
    assert (labels[str(tmp_path / "c.png")] == expected[:, ::-1]).all()


def test_what_yields_images_is_segmented(strongest_channel, halves):
    images = [halves, halves[:9], halves[:, :7]]
    different = np.empty(3, object)
    different[:] = images
    expected = segment(strongest_channel, images)
    found = segment(strongest_channel, iter(images))
    for (image, labels), given, wanted in zip(found, images, expected, strict=True):
        assert image is given
        assert (labels == wanted).all()
    for labels, wanted in zip(segment(strongest_channel, different), expected, strict=True):
        assert (labels == wanted).all()


def test_an_empty_folder_is_an_error(strongest_channel, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"must hold images.*empty with 0 entries"):
        segment(strongest_channel, tmp_path / "empty")


def test_large_files_need_leave(strongest_channel, halves, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # of 640, more than twice as many
    expected = segment(strongest_channel, halves)
    for ending, options in [("png", {}), ("tif", {}), ("tiff", {"compression": "tiff_lzw"})]:
        file = tmp_path / f"halves.{ending}"
        Image.fromarray(halves).save(file, **options)
        labels = segment(strongest_channel, file, views=Views(9), max_pixels=640)
        assert (labels == expected).all()
        message = r"at most max_pixels=639 pixels\. Received: .*halves\.\w+ of 20×32"
        with pytest.raises(ValueError, match=message):
            segment(strongest_channel, file, max_pixels=639)
    assert Image.MAX_IMAGE_PIXELS == 100
    Image.fromarray(halves).save(tmp_path / "halves.webp")
    with pytest.raises(ValueError, match=r"no image this large.*halves\.webp .*as PNG or TIFF"):
        segment(strongest_channel, tmp_path / "halves.webp", max_pixels=640)


def test_progress_counts_images_or_windows(strongest_channel, halves, capsys):
    segment(strongest_channel, halves, views=Views(10), progress=True)
    assert "15/15" in capsys.readouterr().out
    segment(strongest_channel, [halves, halves], views=Views(10), progress=True)
    assert "2/2" in capsys.readouterr().out
    segment(strongest_channel, halves)
    assert capsys.readouterr().out == ""


def test_memory_holds_one_map_of_probabilities():
    class Uniform(keras.Model):
        def predict_on_batch(self, views):
            return np.zeros((*views.shape[:3], 16), "float32")

    image = np.zeros((600, 800, 3), "uint8")
    views = Views(60, stride=1, scales=(0.5, 1, 1.75))
    tracemalloc.start()
    labels = segment(Uniform(), image, views=views, batch_size=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not labels.any()
    # Of 600×800 pixels and 16 classes it takes 31 MB, and would take 94 MB at scale 1.75. Beside it
    # are a row of 60×1400 pixels (5), the label map (0.5), and what is being worked on.
    assert 31e6 < peak < 50e6


@pytest.mark.parametrize("image_size", [None, 40, 90])
@pytest.mark.parametrize("stride", [0.4, 1])
def test_rows_are_finished_as_soon_as_no_window_covers_them(strongest_channel, image_size, stride):
    """The label map alone is that of the probabilities, and far fewer of these exist at once."""
    photo = np.random.default_rng(0).integers(0, 256, (70, 50, 3), "uint8")
    views = Views(17, stride=stride, mirror=True)
    whole = segment(strongest_channel, photo, image_size, views, probabilities=True)
    sizes = []

    def finish(probabilities):
        sizes.append(len(probabilities))
        return best_class(probabilities)

    segmenter = Segmenter(strongest_channel, image_size, views, finish=finish)
    ((_, _, labels),) = segmenter([(photo, None)])
    np.testing.assert_array_equal(labels, best_class(whole))
    np.testing.assert_array_equal(segment(strongest_channel, photo, image_size, views), labels)
    assert sum(sizes) == 1 + 70  # The first row tells what kind of map it is.
    assert max(sizes) < 45
