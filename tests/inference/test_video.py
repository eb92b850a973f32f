"""Videos in and out, with a model worked out by hand: class 0 where red is strongest, 1 green, 2
blue."""

import builtins
import types

import keras
import numpy as np
import pytest

from keras_psp import segment_video
from keras_psp.inference import video
from keras_psp.inference.views import Views
from keras_psp.labels import ClassList

av = pytest.importorskip("av", reason="PyAV is not installed")

RED, GREEN, BLUE = (200, 10, 30), (20, 220, 30), (5, 10, 90)
CLASSES = ClassList(["red", "green", "blue"], [(255, 255, 0), (0, 255, 255), (255, 0, 255)])


@pytest.fixture(scope="module")
def strongest_channel():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1, use_bias=False)(image))
    model.set_weights([np.eye(3, dtype="float32").reshape(1, 1, 3, 3)])
    return model


def write_video(file, frames, times, rate=10):
    with av.open(str(file), "w") as out:
        height, width, _ = frames[0].shape
        options = {"crf": "1"}
        stream = out.add_stream("h264", rate=rate, width=width, height=height, options=options)
        stream.pix_fmt = "yuv420p"
        for pixels, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = time
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file


def read_video(file):
    with av.open(str(file)) as video:
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in video.decode(video=0)]
    return [list(column) for column in zip(*frames, strict=True)]


@pytest.fixture
def street(tmp_path):
    """Five frames of 48×64: the left half is red, the right one blue, and the border moves. After
    the third frame one is missing."""
    frames = []
    for number in range(5):
        frame = np.full((48, 64, 3), BLUE, "uint8")
        frame[:, : 16 + 8 * number] = RED
        frames.append(frame)
    return write_video(tmp_path / "street.mp4", frames, [0, 1, 2, 4, 5])


@pytest.mark.parametrize("views, batch_size", [("single", 3), (Views(24, mirror=True), 5)])
def test_every_frame_is_segmented_and_keeps_its_time(
    strongest_channel, street, tmp_path, views, batch_size
):
    target = segment_video(
        strongest_channel,
        street,
        tmp_path / "new" / "segmented.mp4",
        views=views,
        classes=CLASSES,
        alpha=1.0,
        batch_size=batch_size,
    )
    assert list(target.parent.iterdir()) == [target]
    times, frames = read_video(target)
    assert times == pytest.approx([0, 0.1, 0.2, 0.4, 0.5])
    for number, frame in enumerate(frames):
        assert frame.shape == (48, 64, 3)
        border = 16 + 8 * number
        # Colors suffer from the codec, by its chroma most of all at the border.
        assert np.abs(frame[:, : border - 4] - np.array([255.0, 255, 0])).mean() < 12
        assert np.abs(frame[:, border + 4 :] - np.array([255.0, 0, 255])).mean() < 12


def test_an_overlay_shows_the_video_too(strongest_channel, street, tmp_path):
    target = segment_video(strongest_channel, street, tmp_path / "o.mkv", classes=CLASSES)
    _, frames = read_video(target)
    # Half red (200, 10, 30), half yellow (255, 255, 0).
    assert np.abs(frames[0][10:-10, 2:10] - np.array([227.5, 132.5, 15])).mean() < 12


def test_classes_are_the_models_or_numbered(strongest_channel, street, tmp_path):
    target = segment_video(strongest_channel, street, tmp_path / "o.mkv", alpha=1.0)
    _, frames = read_video(target)
    # Red, class 0, is (128, 0, 0), and blue, class 2, is (128, 128, 0).
    assert np.abs(frames[0][10:-10, 2:10] - np.array([128.0, 0, 0])).mean() < 12
    assert np.abs(frames[0][10:-10, -10:-2] - np.array([128.0, 128, 0])).mean() < 12
    with pytest.raises(ValueError, match=r"Received: num_classes=3, data of 2 classes \(a, b\)"):
        segment_video(strongest_channel, street, target, classes=ClassList(["a", "b"]))


def test_odd_sides_get_a_pixel_more(strongest_channel, street, tmp_path, monkeypatch):
    odd = [(np.full((21, 33, 3), GREEN, "uint8"), time) for time in range(2)]
    monkeypatch.setattr(video, "_frames", lambda *_: iter(odd))
    target = segment_video(strongest_channel, street, tmp_path / "odd.mp4", classes=CLASSES)
    assert [frame.shape for frame in read_video(target)[1]] == [(22, 34, 3)] * 2


def test_a_phones_video_is_turned_upright():
    # It lies on its side; turned anticlockwise by 90°, what is on the right comes up.
    pixels = np.array([[RED, GREEN], [BLUE, BLUE]], "uint8")
    frame = types.SimpleNamespace(to_ndarray=lambda format: pixels, rotation=90, pts=7)
    ((upright, time),) = video._frames(av, types.SimpleNamespace(decode=lambda video: [frame]), "")
    assert upright.tolist() == [[list(GREEN), list(BLUE)], [list(RED), list(BLUE)]]
    assert time == 7


def test_progress_counts_frames(strongest_channel, street, tmp_path, capsys):
    segment_video(strongest_channel, street, tmp_path / "a.mp4", classes=CLASSES, progress=True)
    assert "5/5" in capsys.readouterr().out


def test_a_broken_video_is_an_error_without_output(strongest_channel, street, tmp_path):
    target = tmp_path / "out" / "a.mp4"
    text = tmp_path / "a.mp4"
    text.write_text("no video")
    with pytest.raises(ValueError, match=r"must be whole.*Received: .*a\.mp4 \(Invalid data"):
        segment_video(strongest_channel, text, target)
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4"):
        segment_video(strongest_channel, tmp_path / "nothing.mp4", target)
    sound = tmp_path / "sound.avi"
    with av.open(str(sound), "w") as out:
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), "int16"), layout="mono")
        silence.rate = 8000
        out.mux(out.add_stream("pcm_s16le", rate=8000, layout="mono").encode(silence))
    with pytest.raises(ValueError, match=r"must have pictures\. Received: .*sound\.avi"):
        segment_video(strongest_channel, sound, target)
    with pytest.raises(ValueError, match=r"one of \.mp4, .*Received: target='.*a\.txt'"):
        segment_video(strongest_channel, street, target.with_suffix(".txt"))
    assert not target.parent.exists()


def test_a_video_that_breaks_off_leaves_nothing(strongest_channel, street, tmp_path, monkeypatch):
    def breaks_off(av, video, source):
        yield np.zeros((48, 64, 3), "uint8"), 0
        yield from real(av, types.SimpleNamespace(decode=fail), source)

    def fail(video):
        raise av.error.InvalidDataError(1, "Invalid data")

    real = video._frames
    monkeypatch.setattr(video, "_frames", breaks_off)
    target = tmp_path / "out" / "a.mp4"
    with pytest.raises(ValueError, match=r"must be whole.*street\.mp4 \(Invalid data\)"):
        segment_video(strongest_channel, street, target, batch_size=1)
    assert not list(target.parent.iterdir())


def test_without_pyav_it_says_what_to_install(strongest_channel, street, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'by PyAV.*pip install "keras-psp\[video\]"'):
        segment_video(strongest_channel, street, tmp_path / "a.mp4")
