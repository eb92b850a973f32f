"""The widgets of the tutorials: driven as a reader does, their numbers beside the package's own.

A widget stands alone in a page that is opened from its file: no site is built.
"""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_psp import analysis
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
        scale = picture.bounding_box()["width"] / 600  # 480 pixels, 60 beside them
        return ((left + right) / 2 + 60) * scale, ((top + bottom) / 2 + 60) * scale

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
        tab.get_by_label(f"kernel of layer {layer}").fill("2")
        tab.get_by_label(f"stride of layer {layer}").fill("4")
    assert "Nothing is left" in result.inner_text()
