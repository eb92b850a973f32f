"""Chromium, for tests of what a reader sees and does."""

import importlib.util
import shutil

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

needs_a_browser = pytest.mark.skipif(
    BROWSER is None or importlib.util.find_spec("playwright") is None,
    reason="needs Chromium and the package playwright",
)


def start(playwright):
    return playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
