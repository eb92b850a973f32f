"""The site as a reader gets it: built strictly, then read, and opened in a browser where one is.

`python -m pytest -m site` runs all of it.
"""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from tests.browser import needs_a_browser, serve

ROOT = Path(__file__).parent.parent
ADDRESS = re.search('\nRepository = "(.*)"', (ROOT / "pyproject.toml").read_text())[1]

# What readers search for, and the page that comes first.
SEARCHES = {
    "first segmentation": "tutorials/first_segmentation/",
    "onnx": "api/exporting/",
    "own data": "tutorials/own_data/",
    "binary": "faq/",
    "resume": "faq/",
    "colab": "install/",
    "kaggle": "install/",
    "out of memory": "not_learning/",
    "mIoU": "tutorials/iou/",
}


def test_address_of_the_repository_is_known():
    if "OWNER" in ADDRESS:
        pytest.skip(f"[project.urls] still holds a placeholder: {ADDRESS}")


def test_address_of_the_repository_stands_once():
    own = [
        ROOT / "pyproject.toml",
        ROOT / "mkdocs.yml",
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
    files = [*own, *(ROOT / "docs").rglob("*.*"), *(ROOT / "tutorials").glob("*.py")]
    texts = [file.read_text() for file in files if file.suffix in (".md", ".py", ".toml", ".yml")]
    assert sum(text.count(ADDRESS) for text in texts) == 1


class Page(HTMLParser):
    """What a page is made of and where it leads."""

    def __init__(self, file):
        super().__init__()
        self.file, self.ids, self.links, self.parts, self.silent = file, {""}, [], [], []
        self.feed(file.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs.get("id"), attrs.get("name")}
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        elif tag == "link" and attrs["rel"] != "canonical":
            self.parts.append(attrs["href"])
        elif "src" in attrs:
            self.parts.append(attrs["src"])
        if tag == "img" and not attrs.get("alt"):
            self.silent.append(attrs["src"])

    def target(self, link, site):
        """The file that a link leads to."""
        path = unquote(link)
        path = site / path.lstrip("/") if path.startswith("/") else self.file.parent / path
        return (path / "index.html" if path.is_dir() else path).resolve()


def build(folder, **environment):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build(tmp_path_factory.mktemp("site"), OFFLINE="false")


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


@pytest.mark.site
def test_links_and_anchors_lead_somewhere(site, pages):
    broken = []
    for file, page in pages.items():
        for link in page.links + page.parts:
            path, anchor = urldefrag(link)
            if re.match(r"\w+:", link):
                continue
            target = page.target(path, site) if path else file
            if not target.exists() or (target in pages and anchor not in pages[target].ids):
                broken.append(f"{file.relative_to(site)}: {link}")
    assert not broken


@pytest.mark.site
def test_nothing_comes_from_another_host(site, pages):
    parts = {part for page in pages.values() for part in page.parts}
    for style in site.rglob("*.css"):
        parts |= set(re.findall(r"url\([\"']?(?!data:)([^)\"']+)", style.read_text()))
    assert not [part for part in parts if re.match(r"(\w+:)?//", part)]


@pytest.mark.site
def test_pictures_have_a_text(pages):
    assert {file: page.silent for file, page in pages.items() if page.silent} == {}


@pytest.mark.site
def test_pages_are_below_a_megabyte(site, pages):
    large = {}
    for file, page in pages.items():
        parts = {page.target(part, site) for part in page.parts if not part.startswith("data:")}
        own = [part for part in parts if part.suffix in (".png", ".webp", ".svg", ".jpg")]
        size = sum(part.stat().st_size for part in [file, *own])
        if size > 1_000_000:
            large[str(file.relative_to(site))] = size
    assert not large


# In a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(site):
    with serve(site) as address:
        yield address


@pytest.mark.site
@needs_a_browser
def test_pages_open_in_a_browser(browser, address, site, pages):
    wrong = []

    def check(request):
        if not request.url.startswith((address, "data:", "blob:")):
            wrong.append(f"a request to {request.url}")

    tab = browser.new_page()
    tab.on("console", lambda said: said.type != "error" or wrong.append(f"{tab.url}: {said.text}"))
    tab.on("pageerror", lambda error: wrong.append(f"{tab.url}: {error}"))
    tab.on("request", check)
    for file in pages:
        tab.goto(f"{address}{file.relative_to(site)}")
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            for width in (1280, 390):
                tab.set_viewport_size({"width": width, "height": 900})
                if (wide := tab.evaluate("document.documentElement.scrollWidth")) > width:
                    wrong.append(f"{tab.url}: {wide} pixels wide on {width}, {scheme}")
    tab.close()
    assert not wrong


@pytest.mark.site
@needs_a_browser
@pytest.mark.parametrize("words, page", SEARCHES.items())
def test_search_finds_first(browser, address, words, page):
    tab = browser.new_page()
    tab.goto(address)
    tab.locator(".md-search__input").fill(words)
    first = tab.locator(".md-search-result__link").first
    assert first.get_attribute("href").startswith(address + page)
    tab.close()


@pytest.mark.site
@needs_a_browser
def test_navigation_and_copying_work(browser, address):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.goto(address)
    tab.get_by_role("link", name="Tutorials").first.click()
    tab.wait_for_url("**/tutorials/")
    tab.goto(address)
    tab.locator("pre:has-text('load_camvid') button").first.click()
    assert tab.evaluate("navigator.clipboard.readText()").startswith("import keras_psp")
    context.close()


@pytest.mark.site
@needs_a_browser
def test_site_works_from_files(browser, tmp_path):
    """Every page opens with its pictures and leads to the next; search and widgets work."""
    site, wrong = build(tmp_path / "site", OFFLINE="true"), []
    tab = browser.new_page()
    tab.on("console", lambda said: said.type != "error" or wrong.append(f"{tab.url}: {said.text}"))
    tab.on("pageerror", lambda error: wrong.append(f"{tab.url}: {error}"))
    own = ("file:", "data:", "blob:")
    tab.on("request", lambda asked: asked.url.startswith(own) or wrong.append(asked.url))
    for file in sorted(set(site.rglob("*.html")) - {site / "404.html"}):  # a server's
        page = Page(file)
        parts = [link for link in page.links + page.parts if not re.match(r"\w+:", link)]
        paths = [urldefrag(link)[0] for link in parts if not link.startswith("#")]
        wrong += [f"{file}: {path}" for path in paths if not (file.parent / path).is_file()]
        tab.goto(file.as_uri())
    tab.goto((site / "index.html").as_uri())
    tab.locator(".md-search__input").fill("onnx")
    tab.locator(".md-search-result__link").first.click()
    tab.wait_for_url("**/api/exporting.html*")
    tab.goto((site / "tutorials" / "receptive_fields.html").as_uri())
    assert "212 × 212 pixels" in tab.locator(".widget output").inner_text()
    tab.close()
    assert not wrong
