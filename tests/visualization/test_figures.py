"""Every figure is a file or a picture."""

import numpy as np
import pytest

from keras_psp import visualization
from keras_psp.labels import ClassList
from tests.visualization.test_activations import pyramid

TWO = ClassList(["road", "other"], [(200, 0, 0), (0, 0, 100)])
IMAGE, LABELS = np.full((20, 30, 3), 77), np.full((20, 30), 5)


@pytest.mark.parametrize(
    "draw",
    [
        lambda file: visualization.legend(file, TWO),
        lambda file: visualization.segmentation_gallery(file, [IMAGE], [LABELS], [LABELS]),
        lambda file: visualization.segmentation_gallery(file, [IMAGE]),
        lambda file: visualization.class_errors(file, IMAGE, LABELS, LABELS),
        lambda file: visualization.pyramid_activations(file, pyramid((1, 2)), IMAGE),
        lambda file: visualization.training_curves(
            file, {"loss": [2.0, 1.0], "val_mean_iou": [0.1, 0.25]}
        ),
        lambda file: visualization.points_per_seed(file, {"FCN": [{"IoU": 0.5}, {"IoU": 0.6}]}),
        lambda file: visualization.per_class_bars(file, [0.8, 0.4], TWO),
        lambda file: visualization.confusion_matrix(file, [[9, 1], [4, 6]], TWO),
        lambda file: visualization.degradation_curves(
            file, {("plain-20", 1): [{"step": 1, "train_error": 0.5, "test_error": 0.6}]}
        ),
    ],
)
def test_without_a_file_the_picture_is_returned(draw, tmp_path, read):
    picture = draw(None)
    assert not list(tmp_path.iterdir())
    assert picture._repr_png_()  # which notebooks show
    assert np.array_equal(np.asarray(picture), read(draw(tmp_path / "a.png")))
