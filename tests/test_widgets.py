"""The widgets of the tutorials: driven as a reader does, their numbers beside the package's own.

A widget stands alone in a page that is opened from its file: no site is built.
"""

import itertools
import json
import re
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_psp
from keras_psp import analysis, layers, metrics, visualization
from keras_psp.data.camvid import CAMVID_CLASSES, CAMVID_COLORS
from tests.browser import needs_a_browser

WIDGETS = Path(__file__).parent.parent / "docs" / "widgets"

pytestmark = [pytest.mark.site, needs_a_browser]

PAGE = """<!DOCTYPE html>
<html lang="en">
  <meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
  <link rel="stylesheet" href="{folder}/widgets.css">
  <body data-md-color-scheme="default">
    <div class="widget" data-widget="{name}">Needs JavaScript.</div>
    {scripts}
"""


@pytest.fixture
def open_widget(browser, tmp_path):
    """Opens one widget alone: its name, then the data that it needs first. At the end, no script
    may have failed."""
    tabs, wrong = [], []

    def open_alone(name, *data, width=1280):
        tags = [f'<script src="{{folder}}/{script}.js"></script>' for script in (*data, name)]
        scripts = '<script src="{folder}/widgets.js"></script>' + "".join(tags)
        page = PAGE.replace("{scripts}", scripts).format(folder=WIDGETS.as_uri(), name=name)
        (tmp_path / "page.html").write_text(page)
        tab = browser.new_page(viewport={"width": width, "height": 900}, has_touch=True)
        tab.on("console", lambda said: said.type != "error" or wrong.append(said.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto((tmp_path / "page.html").as_uri())
        tabs.append(tab)
        return tab

    yield open_alone
    for tab in tabs:
        tab.close()
    assert not wrong


# Receptive fields -------------------------------------------------------------------------------

maker = runpy.run_path(str(WIDGETS / "networks.py"))


@pytest.fixture(scope="module")
def networks():
    return maker["networks"]()


def table_of(layers):
    return [dict(zip(("kernel", "stride", "dilation"), layer, strict=True)) for layer in layers]


def of_axis(field, axis):
    return {
        "size": field.size[axis],
        "stride": field.stride[axis],
        "offset": field.offset[axis],
        "cells": field.output_shape[axis],
    }


def test_networks_are_the_library_s(networks):
    assert (WIDGETS / "networks.js").read_text() == maker["script"](networks)


def test_receptive_field_of_each_layer_of_each_network(open_widget, networks):
    tab = open_widget("receptive_field", "scenes", "networks")
    for network in networks.values():
        field = analysis.receptive_field(network, image_size=(360, 480))
        fields = {row.name: row for row in field.layers}
        names, *sides = zip(*maker["layers"](network), strict=True)
        table = table_of(zip(*sides, strict=True))
        for axis, pixels in enumerate((360, 480)):
            found = tab.evaluate(f"KerasPsp.receptiveField({table}, {pixels})")
            assert found == [of_axis(fields[name], axis) for name in names]
            assert found[-1] == of_axis(field, axis)


def test_receptive_field_of_any_stack(open_widget):
    tab = open_widget("receptive_field", "scenes", "networks")
    layers = [(7, 2, 1), (4, 2, 1), (3, 1, 2), (5, 3, 3), (2, 2, 1)]
    x = image = keras.Input((196, 328, 3))
    for kernel, stride, dilation in layers:
        x = keras.layers.ZeroPadding2D(dilation * (kernel - 1) // 2)(x)
        x = keras.layers.DepthwiseConv2D(kernel, dilation_rate=dilation)(x)
        x = keras.layers.MaxPooling2D(1, stride)(x)
    field = analysis.receptive_field(keras.Model(image, x))
    for axis, pixels in enumerate((196, 328)):
        found = tab.evaluate(f"KerasPsp.receptiveField({table_of(layers)}, {pixels}).at(-1)")
        assert found == of_axis(field, axis)

    # From layer to layer the kernel's ones, dilated, with the strides so far between them.
    paths, step = np.ones(1), 1
    for kernel, stride, dilation in layers:
        ones = np.zeros(dilation * (kernel - 1) * step + 1)
        ones[:: dilation * step] = 1
        paths, step = np.convolve(paths, ones), step * stride
    assert tab.evaluate(f"KerasPsp.paths({table_of(layers)})") == paths.tolist()
    assert len(paths) == field.size[0]


def test_cell_is_chosen_by_mouse_touch_and_keys(open_widget, networks):
    tab = open_widget("receptive_field", "scenes", "networks", width=390)
    name = "ResNet-18, output stride 8"
    tab.get_by_label("begin with").select_option(name)
    field = analysis.receptive_field(networks[name], image_size=(360, 480))
    picture, result = tab.locator("canvas").first, tab.locator("output")

    def place_of(cell):
        top, left, bottom, right = field.box(cell)
        scale = picture.bounding_box()["width"] / 560  # 480 pixels, 40 beside them
        return ((left + right) / 2 + 40) * scale, ((top + bottom) / 2 + 40) * scale

    def check(row, column):
        top, left, bottom, right = field.box((row, column))
        text = result.inner_text().replace("−", "-")
        assert f"{field.size[0]} × {field.size[1]} pixels" in text
        assert f"cell ({row}, {column}), one of 45 × 60 cells" in text
        assert f"rows {top} to {bottom - 1}, columns {left} to {right - 1}" in text

    x, y = place_of((30, 10))
    picture.click(position={"x": x, "y": y})
    check(30, 10)
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowLeft")
    check(31, 9)
    box = picture.bounding_box()
    x, y = place_of((5, 40))
    tab.touchscreen.tap(box["x"] + x, box["y"] + y)
    check(5, 40)
    tab.mouse.move(box["x"] + x, box["y"] + y)
    tab.mouse.down()
    x, y = place_of((44, 59))
    tab.mouse.move(box["x"] + x, box["y"] + y)
    tab.mouse.up()
    check(44, 59)
    picture.focus()
    tab.keyboard.press("ArrowRight")  # There is no further one.
    check(44, 59)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_layers_are_edited(open_widget):
    tab = open_widget("receptive_field", "scenes", "networks")
    tab.get_by_label("begin with").select_option("Dilation 2, 2, 2")
    result = tab.locator("output")
    assert "13 × 13 pixels" in result.inner_text()
    assert "6 of the 13 pixels of a row have no path" in result.inner_text()
    tab.get_by_label("dilation of layer 1").fill("1")
    tab.get_by_label("dilation of layer 3").fill("4")
    assert "15 × 15 pixels" in result.inner_text()
    assert "no path" not in result.inner_text()
    tab.get_by_role("button", name="Add a layer").click()
    assert "17 × 17 pixels" in result.inner_text()
    tab.get_by_label("stride of layer 1").fill("2")
    assert "31 × 31 pixels" in result.inner_text()
    tab.get_by_role("button", name="Remove layer 2").click()
    sizes = tab.locator(".receptive-field-size").all_inner_texts()
    assert sizes == ["3", "19", "23"]
    tab.get_by_label("Look from layer 1").focus()
    tab.keyboard.press("ArrowDown")
    assert "19 × 19 pixels" in result.inner_text()
    tab.get_by_label("kernel of layer 1").fill("99")  # as much as there may be
    assert tab.locator(".receptive-field-size").first.inner_text() == "15"
    for layer in range(1, 9):
        if layer > 3:
            tab.get_by_role("button", name="Add a layer").click()
        tab.get_by_label(f"kernel of layer {layer}", exact=True).fill("2")
        tab.get_by_label(f"stride of layer {layer}", exact=True).fill("4")
    assert "Nothing is left" in result.inner_text()
    for layer in range(1, 40):  # 4³⁹ pixels, which nobody counts
        if layer > 8:
            tab.get_by_role("button", name="Add a layer").click()
        tab.get_by_label(f"kernel of layer {layer}", exact=True).fill("5")
        tab.get_by_label(f"stride of layer {layer}", exact=True).fill("4")
    assert "one of 1 × 1 cells of layer 39" in result.inner_text()


def test_drawing_follows_the_colors_of_the_page(open_widget):
    tab = open_widget("receptive_field", "scenes", "networks")
    picture = "document.querySelector('.receptive-field-paths').toDataURL()"
    light = tab.evaluate(picture)
    tab.evaluate("document.body.dataset.mdColorScheme = 'slate'")
    assert tab.evaluate(picture) != light
    tab.evaluate("document.body.dataset.mdColorScheme = 'default'")
    assert tab.evaluate(picture) == light


# Convolutions and upsampling --------------------------------------------------------------------


def operate(tab, name, options, numbers, kernel=()):
    arguments = json.dumps([name, options, np.array(numbers).tolist(), np.array(kernel).tolist()])
    return tab.evaluate(f"KerasPsp.operate(...{arguments})")


def numbers_of(tab, board):
    """The numbers that a board shows, as a map."""
    cells = tab.get_by_role("group", name=board, exact=True).locator(".convolution-cell")
    texts = cells.evaluate_all(
        """all => all.map((cell) => {
            const input = cell.querySelector("input");
            return input ? input.value : (cell.querySelector("b") || cell).textContent;
        })"""
    )
    side = int(len(texts) ** 0.5)
    return np.array([float(text.replace("−", "-")) for text in texts]).reshape(side, side)


def by_keras(layer, numbers, kernel=None):
    x = np.array(numbers, "float32")[None, :, :, None]
    if kernel is not None:
        layer.build(x.shape)
        layer.set_weights([np.array(kernel, "float32")[:, :, None, None]])
    return np.asarray(layer(x))[0, :, :, 0]


def test_convolution_is_keras(open_widget):
    tab, random = open_widget("convolution"), np.random.default_rng(0)
    for n, k, s, d, p in itertools.product((4, 7), (1, 2, 3), (1, 2, 3), (1, 2), (0, 1, 2)):
        if n + 2 * p < d * (k - 1) + 1 or (s > 1 and d > 1):  # Keras has not both.
            continue
        numbers, kernel = random.integers(-9, 9, (n, n)), random.integers(-9, 9, (k, k))
        options = {"n": n, "k": k, "s": s, "d": d, "p": p}
        found = operate(tab, "convolution", options, numbers, kernel)
        layer = keras.layers.Conv2D(1, k, s, dilation_rate=d, use_bias=False)
        assert np.allclose(found, by_keras(layer, np.pad(numbers, p), kernel))


def test_strided_and_dilated_convolution_is_the_library_s(open_widget):
    tab, random = open_widget("convolution"), np.random.default_rng(0)
    for k, s, d, p in itertools.product((2, 3), (2, 3), (2, 3), (0, 1)):
        for name, n in (("convolution", 7), ("transposed", 4)):
            transposed = name == "transposed"
            numbers, kernel = random.integers(-9, 9, (n, n)), random.integers(-9, 9, (k, k))
            matrix = analysis.convolution_matrix(kernel, n, s, p, d, transposed=transposed)
            size = analysis.output_size(n, k, s, p, d, transposed=transposed)
            options = {"n": n, "k": k, "s": s, "d": d, "p": p}
            found = operate(tab, name, options, numbers, kernel)
            assert np.allclose(found, (matrix @ numbers.ravel()).reshape(size, size))


def test_transposed_convolution_is_keras(open_widget):
    tab, random = open_widget("convolution"), np.random.default_rng(0)
    for n, k, s, p in itertools.product((1, 2, 5), (2, 3, 4), (1, 2), (0, 1)):
        numbers, kernel = random.integers(-9, 9, (n, n)), random.integers(-9, 9, (k, k))
        options = {"n": n, "k": k, "s": s, "d": 1, "p": p}
        layer = keras.layers.Conv2DTranspose(1, k, s, use_bias=False)
        whole = by_keras(layer, numbers, kernel)
        expected = whole[p : len(whole) - p, p : len(whole) - p]
        found = operate(tab, "transposed", options, numbers, kernel)
        assert np.allclose(found or np.zeros((0, 0)), expected)


def test_upsampling_is_the_library_s(open_widget):
    tab, random = open_widget("convolution"), np.random.default_rng(0)
    for n, f in itertools.product((1, 2, 5), (2, 3, 4)):
        numbers, options = random.integers(-9, 9, (n, n)), {"n": n, "f": f}
        for name, layer in {
            "nearest": keras.layers.UpSampling2D(f),
            "nails": layers.BedOfNails(f),
            "bilinear": layers.BilinearUpsample(factor=f, align_corners=False),
            "aligned": layers.BilinearUpsample(factor=f),
        }.items():
            found = operate(tab, name, options, numbers)
            assert np.allclose(found, by_keras(layer, numbers), atol=1e-5), (name, options)

        before = random.integers(-2, 3, (n * f, n * f))  # some equal ones
        maxima, places = layers.MaxPoolWithArgmax(f)(before[None, :, :, None].astype("float32"))
        expected = np.asarray(layers.MaxUnpool(f)(maxima, places))[0, :, :, 0]
        assert np.array_equal(operate(tab, "unpooling", options, before), expected)


def test_numbers_and_sizes_are_edited(open_widget):
    tab = open_widget("convolution", width=390)
    tab.get_by_label("operation").select_option("Convolution with stride")
    tab.get_by_label("input size").fill("5")
    tab.get_by_label("dilation d", exact=True).fill("2")
    tab.get_by_label("padding p", exact=True).fill("2")
    tab.get_by_label("kernel, row 1, column 1", exact=True).fill("-3")
    tab.get_by_label("input, row 0, column 4", exact=True).fill("0,5")
    tab.keyboard.press("Tab")
    padded, kernel = numbers_of(tab, "input"), numbers_of(tab, "kernel")
    assert (padded[2, 6], kernel[1, 1]) == (0.5, -3)
    matrix = analysis.convolution_matrix(kernel, 9, 2, dilation_rate=2)
    expected = (matrix @ padded.ravel()).reshape(3, 3)
    assert np.array_equal(numbers_of(tab, "output"), expected)
    result = tab.locator("output")
    assert "⌊(5 + 2·2 − 2·(3 − 1) − 1) / 2⌋ + 1 = 3" in result.inner_text()

    # From cell to cell, by a click, keys, touch, the buttons and the slider.
    output = tab.get_by_role("group", name="output")

    def check(row, column):
        value = f"{expected[row, column]:g}".replace("-", "−")
        assert f"Row {row}, column {column}: {value} = " in result.inner_text()
        terms = result.inner_text().split("\n")[0].replace("−", "-").split(" = ")[1].split(" + ")
        products = [float(a.strip("()")) * float(b.strip("()")) for a, b in map(product, terms)]
        assert len(terms) == 9
        assert sum(products) == expected[row, column]
        assert tab.locator(".meets").count() == 18  # nine numbers, and the kernel's

    def product(term):
        return term.split("·")

    output.get_by_role("button").nth(4).click()
    check(1, 1)
    tab.keyboard.press("ArrowUp")
    check(0, 1)
    tab.get_by_role("button", name="One cell on").click()
    check(0, 2)
    tab.get_by_role("button", name="One cell back").click()
    check(0, 1)
    output.get_by_role("button").nth(8).tap()
    check(2, 2)
    slider = tab.get_by_label("cell of the output")
    slider.focus()
    tab.keyboard.press("ArrowLeft")
    check(2, 1)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_too_large_a_kernel_leaves_nothing(open_widget):
    tab = open_widget("convolution")
    tab.get_by_label("input size").fill("2")
    assert "nothing is left" in tab.locator("output").inner_text()
    assert "⌊(2 + 2·0 − 1·(3 − 1) − 1) / 1⌋ + 1 = 0" in tab.locator("output").inner_text()
    tab.get_by_role("button", name="One cell on").click()
    tab.get_by_label("kernel k").fill("1")
    assert "Row 0, column 0: 0 = 0·0" in tab.locator("output").inner_text()
    tab.get_by_label("kernel, row 0, column 0").fill("4")
    tab.get_by_label("input, row 0, column 0").focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.type("7")
    assert numbers_of(tab, "output").tolist() == [[0, 28], [12, 4]]


def test_copies_of_a_transposed_convolution_are_a_checkerboard(open_widget):
    tab = open_widget("convolution")
    tab.get_by_label("operation").select_option("Transposed convolution")
    assert numbers_of(tab, "output")[2].tolist() == [4, 8, 10, 12, 6]
    tab.get_by_label("input size").fill("4")
    tab.get_by_role("button", name="All ones").click()
    copies = analysis.convolution_matrix(np.ones((3, 3)), 4, 2, transposed=True).sum(1)
    assert np.array_equal(numbers_of(tab, "output").ravel(), copies)
    tab.get_by_role("button", name="row 2, column 2: 4").click()
    assert "4 copies of the kernel overlap here" in tab.locator("output").inner_text()


def test_cells_are_played(open_widget):
    tab = open_widget("convolution")
    tab.clock.install()
    tab.reload()
    tab.get_by_label("operation").select_option("Max unpooling")
    tab.get_by_role("button", name="Play").click()
    assert tab.locator(".later").count() == 15
    tab.clock.run_for(900 * 4)
    assert "Row 1, column 0: 5" in tab.locator("output").inner_text()
    tab.get_by_role("button", name="Pause").click()
    assert tab.locator(".later").count() == 0
    tab.get_by_role("button", name="Play").click()
    tab.clock.run_for(900 * 20)  # to the end
    assert "Row 3, column 3" in tab.locator("output").inner_text()
    assert tab.get_by_role("button", name="Play").is_visible()


# Scores -----------------------------------------------------------------------------------------


@pytest.fixture
def label_maps():
    """Truth and prediction of 6 classes; 3 is in neither, 4 is only predicted."""
    random = np.random.default_rng(1)
    truth = random.choice([0, 1, 2, 5, 255], (1, 30, 40), p=[0.5, 0.2, 0.1, 0.1, 0.1])
    guess = np.where(random.random(truth.shape) < 0.7, truth, random.choice([0, 1, 2, 4]))
    return truth, np.where(guess == 255, 0, guess)


def test_scores_are_the_library_s(open_widget, label_maps):
    matrix = metrics.confusion_matrix(*label_maps, 6)
    tab = open_widget("scores")
    flat = [labels.ravel().tolist() for labels in label_maps]
    found = tab.evaluate("([truth, guess]) => KerasPsp.confusionMatrix(truth, guess, 6)", flat)
    assert found == matrix.tolist()
    scores = tab.evaluate("(matrix) => KerasPsp.scores(matrix)", found)
    iou = metrics.iou_per_class(matrix)
    assert np.isnan(iou[3:5]).all()
    np.testing.assert_allclose(scores["iou"], iou)
    np.testing.assert_allclose(scores["dice"], 2 * iou / (1 + iou))
    np.testing.assert_allclose(scores["accuracy"], metrics.accuracy_per_class(matrix))
    for name, metric in (
        ("meanIou", metrics.MeanIoU),
        ("meanAccuracy", metrics.MeanAccuracy),
        ("pixelAccuracy", metrics.PixelAccuracy),
    ):
        streaming = metric(num_classes=6)
        streaming.update_state(*label_maps)
        assert scores[name] == pytest.approx(float(streaming.result()), abs=1e-6)


# IoU painter ------------------------------------------------------------------------------------


class Boards:
    """The street of the painter in NumPy, painted in the same places."""

    columns, rows = 20, 14

    def __init__(self, tab):
        self.tab, self.canvases = tab, tab.locator("canvas")
        self.truth = np.zeros((self.rows, self.columns), int)
        self.truth[7:11, 4:10], self.truth[1:11, 15] = 1, 2
        self.guess = np.roll(self.truth, 1, axis=1)  # as the widget begins: one cell off

    def at(self, board, column, row):
        box = self.canvases.nth(board).bounding_box()
        x = box["x"] + (column + 0.5) * box["width"] / self.columns
        return x, box["y"] + (row + 0.5) * box["height"] / self.rows

    def stroke(self, board, start, end):
        self.tab.mouse.move(*self.at(board, *start))
        self.tab.mouse.down()
        self.tab.mouse.move(*self.at(board, *end))
        self.tab.mouse.up()

    def press(self, name):
        self.tab.get_by_role("button", name=name, exact=True).click()

    def check(self):
        """The table, the scores and the pictures are those of the library."""
        matrix = metrics.confusion_matrix(self.truth[None], self.guess[None], 3)
        iou, pixels = metrics.iou_per_class(matrix), matrix.sum()
        rows = [row.split() for row in self.tab.locator("tbody tr").all_inner_texts()]
        assert [row[1:4] for row in rows] == [[str(count) for count in row] for row in matrix]
        shown = [float(row[4].replace("–", "nan")) for row in rows]
        np.testing.assert_allclose(shown, iou, atol=0.0051)
        shown = [float(row[5].replace("–", "nan")) for row in rows]
        np.testing.assert_allclose(shown, 2 * iou / (1 + iou), atol=0.0051)
        expected = [np.nanmean(iou), np.nanmean(metrics.accuracy_per_class(matrix))]
        shown = [float(text) for text in self.tab.locator(".iou-means b").all_inner_texts()]
        np.testing.assert_allclose(shown, [*expected, matrix.trace() / pixels], atol=0.0051)

    def colors(self, board):
        """The color in each cell's middle."""
        pick = """(canvas, [columns, rows]) => {
            const context = canvas.getContext("2d"), colors = [];
            for (let row = 0; row < rows; row++)
                for (let column = 0; column < columns; column++) {
                    const [x, y] = [(column + 0.5) / columns, (row + 0.5) / rows];
                    const place = [Math.round(x * canvas.width), Math.round(y * canvas.height)];
                    colors.push([...context.getImageData(...place, 1, 1).data].slice(0, 3));
                }
            return colors;
        }"""
        colors = self.canvases.nth(board).evaluate(pick, [self.columns, self.rows])
        return np.array(colors).reshape(self.rows, self.columns, 3)


@pytest.fixture
def boards(open_widget):
    return Boards(open_widget("iou", "scores"))


def test_painting_changes_scores_as_in_the_library(boards):
    boards.check()
    boards.stroke(1, (2, 3), (9, 3))  # a quick stroke of a car onto the prediction
    boards.guess[3, 2:10] = 1
    boards.check()
    boards.press("Pole")
    boards.press("brush of 3×3 cells")
    boards.stroke(0, (18, 6), (18, 6))  # a fat pole onto the truth
    boards.truth[5:8, 17:20] = 2
    boards.check()
    boards.press("Road")
    boards.press("brush of 2×2 cells")
    boards.stroke(2, (16, 1), (16, 9))  # who paints on the errors paints the prediction
    boards.guess[1:11, 16:18] = 0
    boards.check()
    boards.press("Undo")
    boards.press("Undo")
    boards.truth[5:8, 17:20], boards.guess[1:11, 16] = 0, 2
    boards.check()


def test_pictures_of_the_painter_have_the_library_s_colors(boards):
    colors = dict(zip(CAMVID_CLASSES, CAMVID_COLORS, strict=True))
    palette = np.array([colors[name] for name in ("Road", "Car", "Column_Pole")])
    assert (boards.colors(0) == palette[boards.truth]).all()
    assert (boards.colors(1) == palette[boards.guess]).all()
    errors = visualization.error_map(boards.truth, boards.guess, label=1)
    assert (boards.colors(2) == errors).all()


def test_examples_of_the_painter(boards):
    boards.press("All right")
    boards.guess = boards.truth.copy()
    boards.check()
    boards.press("Pole missed")
    boards.guess = np.where(boards.truth == 2, 0, boards.truth)
    boards.check()
    boards.press("All road")
    boards.guess[:] = 0
    boards.check()
    boards.press("Too large")
    boards.guess[6:12, 3:11], boards.guess[0:12, 14:17] = 1, 2
    boards.check()
    boards.press("Empty")
    boards.truth[:], boards.guess[:] = 0, 0
    boards.check()
    assert "no true pixel" in boards.tab.locator("output").inner_text()


def test_painter_by_keyboard(boards):
    boards.canvases.nth(1).focus()
    keyboard = boards.tab.keyboard
    for _ in range(5):
        keyboard.press("ArrowLeft")
        keyboard.press("Space")
    keyboard.press("ArrowUp")
    keyboard.press("Enter")
    boards.guess[8, 1:6], boards.guess[7, 1] = 1, 1
    boards.check()
    assert "Column 2, row 8: Road, called Car" in boards.tab.locator("output").inner_text()
    keyboard.press("Control+z")
    boards.guess[7, 1] = 0
    boards.check()


def test_painter_by_finger(boards):
    boards.tab.touchscreen.tap(*boards.at(1, 12, 2))
    boards.guess[2, 12] = 1
    boards.check()


# Pyramid ----------------------------------------------------------------------------------------


def test_cells_are_the_layer_s(open_widget):
    tab = open_widget("pyramid", "scenes")
    height, width, channels, bins = 13, 20, 3, [1, 2, 3, 6, 7, 13, 20]
    features = np.random.default_rng(2).random((1, height, width, channels))
    sizes = {"height": height, "width": width, "channels": channels}
    pooled = layers.PyramidAveragePooling2D(bins)(features.astype("float32"))
    enlarge = layers.BilinearUpsample((height, width))
    for b, expected in zip(bins, map(np.asarray, pooled), strict=True):
        small, large = tab.evaluate(
            """([map, bins]) => {
                const pooled = KerasPsp.pooled(map, bins);
                const large = KerasPsp.enlarged(pooled, map.height, map.width);
                return [pooled, large].map(({values}) => [...values]);
            }""",
            [{"values": features.ravel().tolist(), **sizes}, b],
        )
        np.testing.assert_allclose(small, expected.ravel(), rtol=1e-5)
        np.testing.assert_allclose(large, np.asarray(enlarge(expected)).ravel(), rtol=1e-5)


def averaged(pixels):
    """The mean of each 8×8 pixels, as a batch of one."""
    height, width, channels = pixels.shape
    blocks = pixels.reshape(height // 8, 8, width // 8, 8, channels).mean((1, 3))
    return blocks[None].astype("float32")


def check_level(tab, number, bins, row, column, seed):
    """What a level says of a place is what the layer pools there."""
    image, truth = keras_psp.street_scene(seed=seed, image_size=(360, 480))
    shares = np.stack([truth == label for label in (*range(11), 255)], -1)
    layer = layers.PyramidAveragePooling2D([bins])
    (colors,), (shares,) = (layer(averaged(one.astype("float32"))) for one in (image, shares))
    # A cell holds what is 1 nowhere but in this place.
    alone = np.zeros((1, 45, 60, 1), "float32")
    alone[0, row, column] = 1
    cells = np.argwhere(np.asarray(layer(alone)[0])[0, :, :, 0])
    facts = tab.locator(".pyramid-levels > div").nth(number).locator("p")
    assert facts.count() == len(cells)
    for fact, (down, right) in zip(facts.all(), cells, strict=True):
        ends = []
        for length, axis, cell in ((45, 0, down), (60, 1, right)):
            # Each place of this axis alone: the cell's value is not 0 where the cell has it.
            places = np.eye(length, dtype="float32").reshape(1, length, 1, length)
            places = places if axis == 0 else places.transpose(0, 2, 1, 3)
            pooled = np.asarray(layer(places)[0])[0]
            has = np.flatnonzero(pooled[cell, 0] if axis == 0 else pooled[0, cell])
            ends.append(f"{has[0]}–{has[-1]}")
        text = fact.inner_text()
        assert f"rows {ends[0]}, columns {ends[1]}" in text
        known = dict(re.findall(r"(\w+) (0\.\d\d|1\.00)", text))
        names = (*CAMVID_CLASSES, "void")
        share = dict(zip(names, np.asarray(shares)[0, down, right], strict=True))
        assert max(share, key=share.get) in known
        for name, shown in known.items():
            assert float(shown) == pytest.approx(share[name], abs=0.0051)
        swatch = fact.locator(".widget-swatch").get_attribute("style")
        color = [int(part) for part in re.findall(r"\d+", swatch)]
        np.testing.assert_allclose(color, np.asarray(colors)[0, down, right], atol=2)  # compressed


def test_pyramid_says_what_the_layer_pools(open_widget):
    tab = open_widget("pyramid", "scenes")
    street = tab.locator("canvas").first
    tab.wait_for_function("document.querySelector('.widget output').textContent")
    box = street.bounding_box()
    row, column = 22, 47  # in two cells of levels 2 and 6, which overlap there
    right, down = (column + 0.5) * box["width"] / 60, (row + 0.5) * box["height"] / 45
    tab.mouse.click(box["x"] + right, box["y"] + down)
    for number, bins in enumerate((1, 2, 3, 6)):
        check_level(tab, number, bins, row, column, seed=3_000_006)
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowDown")
    row, column = row + 1, column - 1
    assert f"Row {row}, column {column} of" in tab.locator("output").inner_text()
    tab.locator("input[type=number]").nth(2).fill("7")
    tab.keyboard.press("Tab")
    tab.locator("select").first.select_option(label="a night")
    tab.wait_for_function("document.querySelector('.widget output').textContent")
    for number, bins in enumerate((1, 2, 7, 6)):
        check_level(tab, number, bins, row, column, seed=7_000_011)


# Divider ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    """The first street of the widgets, and what the library says of it."""
    model = keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")
    image, truth = keras_psp.street_scene(seed=7_000_005, image_size=(360, 480))
    return truth, keras_psp.segment(model, image), model.classes


def test_divider_shows_the_scores_of_the_library(open_widget, scene):
    truth, prediction, classes = scene
    matrix = metrics.confusion_matrix(truth[None], prediction[None], 11)
    tab = open_widget("slider", "scenes", "scores")
    tab.wait_for_function("document.querySelector('.widget output').textContent")
    iou, right = metrics.iou_per_class(matrix), matrix.trace() / matrix.sum()
    mean_iou, accuracy = re.findall(r"0\.\d\d", tab.locator("output").inner_text())
    assert float(mean_iou) == pytest.approx(np.nanmean(iou), abs=0.006)
    assert float(accuracy) == pytest.approx(right, abs=0.006)
    shown = [text.split() for text in tab.locator("button").all_inner_texts()]
    assert [name for name, _ in shown] == list(classes.names)
    np.testing.assert_allclose([float(score) for _, score in shown], iou, atol=0.01)
    tab.get_by_role("button", name="Car").click()
    hits, true = matrix[3, 3], matrix[3].sum()
    (found,) = re.findall(r"(\d+) hits, (\d+) misses", tab.locator("output").inner_text())
    np.testing.assert_allclose([int(count) for count in found], [hits, true - hits], atol=100)


def test_views_are_those_of_the_library(open_widget, scene):
    truth, prediction, classes = scene
    tab = open_widget("slider", "scenes", "scores")
    for name, label, expected in (
        ("truth", None, visualization.colorize(truth, classes)),
        ("prediction", None, visualization.colorize(prediction, classes)),
        ("errors", None, visualization.error_map(truth, prediction)),
        ("errors", 3, visualization.error_map(truth, prediction, label=3)),
    ):
        view = "([name, label]) => KerasPsp.view(name, KerasPsp.scenes[0], label).join()"
        colors = np.array(tab.evaluate(view, [name, label]).split(","), int).reshape(360, 480, 4)
        assert (colors[..., 3] == 255).all()
        assert (colors[..., :3] == expected).all(-1).mean() > 0.999


def test_divider_is_dragged(open_widget, scene):
    truth, prediction, classes = scene
    tab = open_widget("slider", "scenes", "scores", width=390)
    tab.wait_for_function("document.querySelector('.widget output').textContent")
    left, right = tab.locator("select").nth(1), tab.locator("select").nth(2)
    left.select_option("truth")
    right.select_option("errors")
    canvas = tab.get_by_role("slider")
    box = canvas.bounding_box()
    x, y = box["x"], box["y"] + box["height"] / 2
    tab.mouse.move(x + box["width"] / 2, y)
    tab.mouse.down()
    tab.mouse.move(x + box["width"] / 4, y, steps=3)
    tab.mouse.up()
    assert canvas.get_attribute("aria-valuenow") == "25"
    canvas.press("ArrowRight")
    assert canvas.get_attribute("aria-valuenow") == "27"
    assert "truth up to 27 %, then errors" in canvas.get_attribute("aria-valuetext")
    row, columns = 300, (60, 240)  # in the car and on the road, far from every outline
    pixel = """(canvas, [x, y]) => {
        const place = [Math.round(x * canvas.width), Math.round(y * canvas.height)];
        return [...canvas.getContext("2d").getImageData(...place, 1, 1).data].slice(0, 3);
    }"""
    places = [[(column + 0.5) / 480, (row + 0.5) / 360] for column in columns]
    shown = [canvas.evaluate(pixel, place) for place in places]
    errors = visualization.error_map(truth, prediction)
    assert shown[0] == list(classes.colors[truth[row, columns[0]]])
    assert shown[1] == errors[row, columns[1]].tolist()
