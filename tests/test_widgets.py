"""The widgets of the tutorials: driven as a reader does, their numbers beside the package's own.

A widget stands alone in a page that is opened from its file: no site is built.
"""

from pathlib import Path

import keras
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


def test_receptive_field_is_the_library_s(open_widget):
    tab = open_widget("receptive_field")
    layers = [(7, 2, 1), (3, 2, 1), (3, 1, 2), (5, 2, 3), (2, 2, 1)]
    x = image = keras.Input((96, 128, 3))
    for kernel, stride, dilation in layers:
        x = keras.layers.ZeroPadding2D(dilation * (kernel - 1) // 2)(x)
        x = keras.layers.DepthwiseConv2D(kernel, dilation_rate=dilation)(x)
        x = keras.layers.MaxPooling2D(1, stride)(x)
    field = analysis.receptive_field(keras.Model(image, x))
    names = ("kernel", "stride", "dilation")
    table = [dict(zip(names, layer, strict=True)) for layer in layers]
    for axis, pixels in enumerate((96, 128)):
        found = tab.evaluate(f"KerasPsp.receptiveField({table}, {pixels}).at(-1)")
        assert found == {
            "size": field.size[axis],
            "stride": field.stride[axis],
            "offset": field.offset[axis],
            "cells": field.output_shape[axis],
        }
