"""Chromium, for tests of what a reader sees and does."""

import contextlib
import functools
import http.server
import importlib.util
import shutil
import threading

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

needs_a_browser = pytest.mark.skipif(
    BROWSER is None or importlib.util.find_spec("playwright") is None,
    reason="needs Chromium and the package playwright",
)


def start(playwright):
    return playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])


@contextlib.contextmanager
def serve(folder):
    """Serves a folder, and gives its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
