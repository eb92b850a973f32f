"""The widgets of the tutorials: driven as a reader does, their numbers beside the package's own.

A widget stands alone in a page that is opened from its file: no site is built.
"""

import itertools
import json
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_psp import analysis, layers
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
