"""The papers' tables against the papers' figures, and numbers worked out by hand."""

import re

import pytest

from keras_psp.experiments import papers


def test_googlenets_table_marks_wrong_rows_of_the_paper():
    table = papers.googlenet_table()
    assert table.startswith("GoogLeNet: table 1 ")
    wrong = dict(re.findall(r"^(.+?)  .*the paper's (.+) are wrong$", table, re.MULTILINE))
    assert wrong == {
        "convolution 7×7/2": "weights and multiply-adds",
        "inception (4c)": "weights",
        "inception (5a)": "weights and multiply-adds",
    }
    rows = {line.split("  ")[0]: line for line in table.splitlines()}
    assert re.search(r" 28×28×256 +159K +159\.5K +128M +128\.0M$", rows["inception (3a)"])
    # By hand: 7 · 7 · 3 · 64 weights at 112 · 112 places; of 4c, 509,440 weights, of 5a 1,042,432.
    assert re.search(r" 2\.7K +9\.2K +34M +118\.0M", rows["convolution 7×7/2"])
    assert re.search(r" 463K +497\.5K +100M ", rows["inception (4c)"])
    assert re.search(r" 1072K +1018\.0K +54M +51\.\dM", rows["inception (5a)"])
    assert re.search(r" 6798K +6826K ", rows["sum"])  # 6,990,272 weights
    assert "6,998,552 parameters" in table
    assert "13,378,280" in table  # in training


def test_vggs_table_has_the_exact_numbers():
    title, *lines = papers.vgg_table().splitlines()
    assert title.startswith("VGG: table 2 ")
    rows = [line.split() for line in lines[2:]]
    assert [row[:3] for row in rows] == [
        ["A", "133M", "132,863,336"],
        ["A-LRN", "133M", "132,863,336"],
        ["B", "133M", "133,047,848"],
        ["C", "134M", "133,638,952"],
        ["D", "138M", "138,357,544"],
        ["E", "144M", "143,667,240"],
    ]
    # He et al. give VGG-19 19.6·10⁹.
    assert [row[3] for row in rows][4:] == ["15.47G", "19.63G"]


def test_resnets_table_agrees_with_the_paper():
    table = papers.resnet_table()
    assert table.startswith("ResNet: table 1 ")
    pattern = r"^(\S+-\d+) +([\d.]+)G +([\d.]+)G .* ([\d,]+)$"
    rows = {name: row for name, *row in re.findall(pattern, table, re.MULTILINE)}
    for paper, ours, _ in rows.values():
        assert float(ours) == pytest.approx(float(paper), rel=0.02)
    assert {name: parameters for name, (_, _, parameters) in rows.items()} == {
        "ResNet-18": "11,689,512",
        "ResNet-34": "21,797,672",
        "ResNet-50": "25,557,032",
        "ResNet-101": "44,549,160",
        "ResNet-152": "60,192,808",
        "VGG-16": "138,357,544",
        "VGG-19": "143,667,240",
    }
    assert "ResNet-152 costs less than VGG: 73% of VGG-16 and 57% of VGG-19." in table
