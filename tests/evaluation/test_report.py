"""The report: one page of HTML with all of its pictures inside."""

import html.parser
import json

import numpy as np
import pytest

from keras_psp.evaluation import report
from keras_psp.evaluation.comparison import compare
from keras_psp.evaluation.segmentation import Evaluation, ScoredImage
from keras_psp.labels import ClassList


class Page(html.parser.HTMLParser):
    """What a page shows, and what it would fetch."""

    void = "meta", "img"

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.sources = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.sources += [attributes[name] for name in ("src", "href") if name in attributes]
        assert tag not in {"script", "link", "iframe"}
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def result():
    """The model says road everywhere. Of the first image's pixels all are road, of the second's
    none."""
    matrices = np.zeros((2, 3, 3), "int32")
    matrices[0, 0, 0], matrices[1, 1, 0] = 5, 3
    road, labels = np.zeros((1, 5), "uint8"), np.array([[1, 1, 1, 255, 255]], "uint8")
    images = [
        ScoredImage("image 0", 1.0, np.zeros((1, 5, 3), "uint8"), road, road),
        ScoredImage("image 1", 0.0, np.full((1, 5, 3), 9, "uint8"), labels, road),
    ]
    names = tuple(one.name for one in images)
    pictures = {"samples": images, "worst": images[1:], "best": images[:1]}
    classes = ClassList(["road", "sky", "horse"])
    return Evaluation(classes, names, matrices, np.diag([5, 3, 0, 9]), **pictures)


def test_the_report_is_one_self_contained_page(result, tmp_path):
    comparison = compare(result, result, ("mine & yours", "<old>"))
    folder = result.write(tmp_path, comparison)
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    # The confusion matrix; image, truth, prediction and errors of two samples, one worst, one best.
    assert len(page.sources) == 1 + 4 * 4
    for caption in ("Worst images (1 of 2)", "Images spread over the split (2 of 2)"):
        assert caption in page.texts
    # The horse, which no image contains: in the comparison and among the classes.
    texts = [text for text in page.texts if text.strip()]
    rows = [texts[i + 1 : i + 3] for i, text in enumerate(texts) if text == "horse"]
    assert rows == [["–", "–"]] * 2
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "url(" not in text
    assert "@import" not in text
    for shown in ("horse", "0.312", "image 1: mean IoU 0.000", "100% ", "mine & yours"):
        assert any(shown in piece for piece in page.texts), shown
    assert json.loads((folder / "scores.json").read_text())["comparison"]["difference"] == 0
    assert "<old>" not in text
    assert "mine" not in report.page(result, b"")
