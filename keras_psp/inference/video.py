"""Segmenting a video: frame by frame, with the label maps laid over the frames."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.atomic import write_whole
from keras_psp.checked import checked
from keras_psp.inference.images import VIDEO_SUFFIXES
from keras_psp.inference.segmenting import Segmenter, best_class
from keras_psp.inference.views import Views
from keras_psp.labels import ClassList, check_same_classes
from keras_psp.untrusted import check_regular
from keras_psp.visualization import overlay

# FFmpeg's names of what the endings say.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"


@checked(alpha=(0, 1))
def segment_video(
    model: keras.Model,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    image_size: int | Sequence[int] | None = None,
    views: str | Views = "single",
    *,
    classes: ClassList | None = None,
    alpha: float = 0.5,
    batch_size: int = 8,
    progress: bool = False,
) -> Path:
    """Segments a video and writes it again, with the label map over every frame.

    Frames are read, segmented and written one after the other, so a video may have any length. They
    keep their size and their times; a side with an odd number of pixels gets one more, as players
    need it. There is no sound.

    Args:
        model: A segmentation model: RGB images 0–255 in, logits out.
        source: The video, in any format that FFmpeg reads.
        target: The new video, written whole or not at all; the ending says the format, usually
            `.mp4`.
        image_size: The size at which the model sees the frames; see `segment`.
        views: A name from `keras_psp.inference.VIEWS`, or `Views`; see `segment`.
        classes: Names and colors of the classes. By default the model's own; where it does not know
            them, the classes are numbered, each with a color of its own.
        alpha: The share of the color in the result, from 0 (the video) to 1 (the label maps).
        batch_size: Number of windows, or whole frames, that the model gets at a time.
        progress: Whether to show a progress bar.

    Returns:
        The path of the new video.

    Raises:
        ImportError: If PyAV is not installed.
        FileNotFoundError: If there is no such video.
        ValueError: If it cannot be read to its end or has no frame, if the ending of `target` is no
            video format's, if model and classes do not agree, or where `segment` raises it.

    Example:

    ```python
    import av
    import numpy as np
    import keras_psp

    with av.open("street.mp4", "w") as video:
        stream = video.add_stream("h264", rate=25, width=64, height=48)
        for number in range(3):
            frame = np.full((48, 64, 3), 80 * number, "uint8")
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        video.mux(stream.encode())

    model = keras_psp.PSPNet("resnet18", num_classes=11, backbone_weights=None)
    keras_psp.segment_video(model, "street.mp4", "segmented.mp4")
    ```
    """
    av = _av()
    segmenter = Segmenter(model, image_size, views, batch_size)
    classes = classes or getattr(model, "classes", None)
    if Path(target).suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(
            f"The ending of a video says its format: one of {', '.join(VIDEO_SUFFIXES)}. "
            f"Received: target='{target}'. Choose one of them, usually .mp4."
        )
    with _naming(source, av):
        check_regular(source)
        # By content, FFmpeg would also open playlists, which name other files.
        video = av.open(str(source), options={"format_whitelist": _FORMATS})
    with video:
        if not video.streams.video:
            raise _without_pictures(source)
        stream = video.streams.video[0]
        bar = keras.utils.Progbar(stream.frames or None, verbose=int(progress), unit_name="frame")

        def write(path: Path) -> None:
            with av.open(str(path), "w") as new:
                encoder = None
                for pixels, time, probabilities in segmenter(_frames(av, video, source)):
                    if classes is not None:
                        check_same_classes(probabilities.shape[-1], classes)
                    picture = _even(overlay(pixels, best_class(probabilities), alpha, classes))
                    if encoder is None:
                        height, width, _ = picture.shape
                        encoder = new.add_stream(
                            new.default_video_codec,
                            rate=stream.average_rate or 25,
                            width=width,
                            height=height,
                            pix_fmt="yuv420p",
                        )
                        encoder.codec_context.time_base = stream.time_base
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame.pts, frame.time_base = time, stream.time_base
                    new.mux(encoder.encode(frame))
                    bar.add(1)
                if encoder is None:
                    raise _without_pictures(source)
                new.mux(encoder.encode())

        return write_whole(target, write)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "Videos are read and written by PyAV. Received: a Python without it. "
            'Install it: pip install "keras-psp[video]".'
        ) from error
    return av


@contextlib.contextmanager
def _naming(source: Any, av: Any) -> Iterator[None]:
    """Names the video where FFmpeg finds that it cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, av.error.FFmpegError) as error:
        raise ValueError(
            f"A video must be whole, and its content that of a {', '.join(VIDEO_SUFFIXES)} file. "
            f"Received: {source} ({error.strerror or error}). Copy or convert it again."
        ) from error


def _without_pictures(source: Any) -> ValueError:
    return ValueError(
        f"A video to segment must have pictures. Received: {source}, which has none. "
        "Pass another video."
    )


def _frames(av: Any, video: Any, source: Any) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the pixels of every frame, upright, and its time."""
    with _naming(source, av):
        for frame in video.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            # Phones film sideways, and record by how much, counterclockwise.
            yield np.rot90(pixels, round(frame.rotation / 90)), frame.pts


def _even(picture: np.ndarray) -> np.ndarray:
    """Repeats the last row and column of a picture where their number is odd."""
    height, width, _ = picture.shape
    return np.pad(picture, [(0, height % 2), (0, width % 2), (0, 0)], "edge")
