"""Curves and bars, looked up in what was written."""

import csv
import warnings

import numpy as np
import pytest

from keras_psp import visualization
from keras_psp.labels import ClassList

TWO = ClassList(["road", "other"], [(200, 0, 0), (0, 0, 100)])


HISTORY = {
    "loss": [2.0, 1.0, 0.5],
    "mean_iou": [0.1, 0.2, 0.3],
    "val_loss": [2.0, 1.5, float("nan")],
    "val_mean_iou": [0.1, 0.25, 0.2],
    "learning_rate": [0.01, 0.005, 0.001],
}


def test_curves_from_csv_and_dict_are_the_same(tmp_path, read):
    with (tmp_path / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *HISTORY])
        writer.writerows(zip(range(3), *HISTORY.values(), strict=True))
    first = visualization.training_curves(tmp_path / "a.png", HISTORY)
    second = visualization.training_curves(tmp_path / "b.png", tmp_path / "history.csv")
    assert np.array_equal(read(first), read(second))


def test_curves_draw_what_they_are_given(tmp_path, read):
    plain = read(visualization.training_curves(tmp_path / "a.png", {"loss": [2.0, 1.0, 0.5]}))
    scored = read(visualization.training_curves(tmp_path / "b.png", HISTORY))
    assert scored.shape[1] > 2.5 * plain.shape[1]  # three panels instead of one
    other = {**HISTORY, "val_mean_iou": [0.1, 0.2, 0.3]}
    assert not np.array_equal(
        scored, read(visualization.training_curves(tmp_path / "c.png", other))
    )


def test_curves_of_one_epoch_and_of_unequal_rows(tmp_path):
    lines = "epoch,loss,val_mean_iou\n0,2.0,\n1,1.0\n"
    (tmp_path / "history.csv").write_text(lines)
    visualization.training_curves(tmp_path / "a.png", tmp_path / "history.csv")
    visualization.training_curves(tmp_path / "b.png", {"loss": [1.0], "val_mean_iou": [0.2]})


def test_curves_need_an_epoch(tmp_path):
    with pytest.raises(ValueError, match=r"Received: history with columns \['loss'\] and no row"):
        visualization.training_curves(tmp_path / "a.png", {"loss": []})


def test_bars_are_as_long_as_their_scores(tmp_path, read):
    picture = read(visualization.per_class_bars(tmp_path / "a.png", [0.8, 0.4], TWO))
    lengths = [(picture == color).all(-1).any(0).sum() for color in TWO.colors]
    assert lengths[0] / lengths[1] == pytest.approx(2, rel=0.02)


def test_bars_leave_absent_classes_out(tmp_path, read):
    picture = read(visualization.per_class_bars(tmp_path / "a.png", [0.5, float("nan")], TWO))
    pixels = [(picture == color).all(-1).sum() for color in TWO.colors]
    assert pixels[0] > 50 >= pixels[1]
    visualization.per_class_bars(tmp_path / "b.png", [float("nan")] * 2, TWO)


def test_bars_need_a_score_for_each_class(tmp_path):
    with pytest.raises(ValueError, match=r"iou of shape \(3,\), 2 classes"):
        visualization.per_class_bars(tmp_path / "a.png", [0.5] * 3, TWO)


def test_absent_class_is_a_dash(figure):
    bars = visualization.per_class_bars(None, [0.5, float("nan")], TWO)
    matrix = visualization.confusion_matrix(None, [[3, 1], [0, 0]], TWO)
    texts = [[text.get_text() for text in shown.axes[0].texts] for shown in (bars, matrix)]
    assert texts == [["0.500", "–"], ["75", "25", "–", "–"]]


@pytest.mark.parametrize(
    "draw, scores",
    [
        (visualization.per_class_bars, [0.8, 0.4]),
        (visualization.confusion_matrix, [[9, 1], [4, 6]]),
    ],
)
def test_scores_of_unnamed_classes_are_numbered(figure, draw, scores):
    (axes, *_) = draw(None, scores).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["class 0", "class 1"]


def test_models_without_a_score_leave_its_panel_as_it_is(tmp_path):
    scores = {"mean IoU, frame": 0.5, "mean IoU, drive": 0.2315}
    runs = {"baseline": [scores], "+ windows, mirror, scales": [{"mean IoU, frame": 0.5}]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib's, that a panel has no room.
        visualization.points_per_seed(tmp_path / "seeds.png", runs)
