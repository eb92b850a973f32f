"""PSPNet in the browser: driven as a reader does, its answers beside the package's own.

The page stands alone, in a folder with what the hook of the site made for it: no site is built.
"""

import importlib.util
import io
import re
import shutil
import tarfile
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp.data import CAMVID
from tests.browser import needs_a_browser, serve

DOCS = Path(__file__).parent.parent / "docs"
PAGE = """<!DOCTYPE html>
<html lang="en">
  <meta charset="utf-8"><link rel="icon" href="data:,">
  <link rel="stylesheet" href="widgets/widgets.css">
  {widget}
  <script src="widgets/widgets.js"></script><script src="widgets/playground.js"></script>
"""

pytestmark = pytest.mark.site


@pytest.fixture(scope="module")
def hook():
    """`docs/browser.py`, as MkDocs loads it."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("browser", DOCS / "browser.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(hook, tmp_path_factory):
    """The page, and all that it loads."""
    files, missing = hook.parts()
    if missing:
        pytest.skip(" ".join(missing))
    folder = tmp_path_factory.mktemp("site")
    for name in ("widgets", "playground"):
        shutil.copytree(DOCS / name, folder / name)
    for file in files:
        shutil.copy(file, folder / "playground")
    for seed in hook.SCENES:
        (folder / f"playground/scene_{seed}.png").write_bytes(hook.scene(seed))
    (folder / "index.html").write_text(PAGE.format(widget=hook.widget()))
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with serve(folder) as address:
        yield address


@pytest.fixture
def tab(browser):
    tab = browser.new_page()
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def loaded(browser, address):
    """The page with its network, and the requests that it made before the click and after."""
    tab, before, after, wrong = browser.new_page(), [], [], []
    tab.on("console", lambda said: said.type != "error" or wrong.append(said.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    asked = before
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(address, wait_until="networkidle")
    asked = after
    tab.get_by_role("button", name="Load the network").click()
    answered(tab)
    yield tab, before, after
    tab.close()
    assert not wrong


def choose(tab, words):
    tab.get_by_role("button", name=words).click()
    tab.get_by_role("button", name=words, pressed=True).wait_for()
    answered(tab)


def answered(tab):
    tab.get_by_role("status").filter(has_text="Answered").wait_for(timeout=120_000)


def labels_of(tab):
    """The label map that the reader sees, from its colors."""
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save the classes").click()
    colors = np.asarray(Image.open(download.value.path()).convert("RGB"))
    found = (colors[..., None, :] == np.array(CAMVID.colors)).all(axis=-1)
    assert found.any(axis=-1).all()
    return found.argmax(axis=-1)


@pytest.fixture(scope="module")
def model():
    return keras_psp.PSPNet.from_preset("pspnet_resnet18_camvid")


@needs_a_browser
def test_nothing_is_loaded_before_the_click_and_nothing_from_another_host(loaded, address, hook):
    _, before, after = loaded
    heavy = {file.name for file in hook.parts()[0]} | {"worker.js"}
    names = [{url.rpartition("/")[2] for url in urls} for urls in (before, after)]
    assert not names[0] & heavy
    assert names[1] >= heavy
    own = (address, "data:", f"blob:{address}")
    assert not [url for url in before + after if not url.startswith(own)]


@needs_a_browser
def test_the_button_says_how_many_megabytes(tab, address, folder, hook):
    tab.goto(address)
    size = sum((folder / "playground" / file.name).stat().st_size for file in hook.parts()[0])
    words = tab.get_by_role("button", name="Load").inner_text()
    assert words == f"Load the network ({size / 1e6:.1f} MB)"
    assert (folder / "playground/pspnet.onnx").stat().st_size < 14e6


@needs_a_browser
def test_scenes_have_the_labels_of_segment(loaded, hook, model):
    tab, *_ = loaded
    for seed, words in hook.SCENES.items():
        choose(tab, words)
        image, _ = keras_psp.street_scene(seed, image_size=(240, 320))
        found, expected = labels_of(tab), keras_psp.segment(model, image)
        assert found.shape == (240, 320)
        assert np.mean(found == expected) >= 0.995
        shares = tab.locator(".playground-classes td:last-child").all_inner_texts()
        counted = 100 * np.bincount(found.ravel(), minlength=len(CAMVID)) / found.size
        assert shares == [f"{share:.1f} %" for share in counted]


@needs_a_browser
def test_a_photo_is_turned_upright_and_resized(loaded, model, tmp_path):
    tab, *_ = loaded
    upright, _ = keras_psp.street_scene(7_000_001, image_size=(600, 450))
    lying = Image.fromarray(np.rot90(upright))
    exif = lying.getexif()
    exif[0x112] = 6  # turned by the camera, to the left
    lying.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    tab.get_by_label("or a photo of your own").set_input_files(tmp_path / "photo.jpg")
    tab.get_by_text("The network saw 320×240 pixels").wait_for(timeout=120_000)
    # The answer at the network's size, beside segment's at that of the photo.
    expected = keras_psp.segment(model, tmp_path / "photo.jpg", 240)
    middle = expected[np.arange(320)[:, None] * 15 // 8, np.arange(240) * 15 // 8]
    assert np.mean(labels_of(tab) == middle) >= 0.97


@needs_a_browser
def test_the_class_at_the_mark_is_named(loaded, hook):
    tab, *_ = loaded
    choose(tab, hook.SCENES[7_000_005])
    labels, canvas, said = labels_of(tab), tab.locator("canvas"), tab.locator("output")
    chosen = tab.locator(".playground-classes .chosen th")
    box = canvas.bounding_box()
    for x, y in [(0.1, 0.1), (0.55, 0.95), (0.02, 0.7)]:
        canvas.hover(position={"x": x * box["width"], "y": y * box["height"]})
        name, *place = re.match(r"(.*), in row (.*) and column (.*)", said.inner_text()).groups()
        row, column = map(int, place)
        assert (row, column) == pytest.approx((y * 240, x * 320), abs=1.5)
        assert name == chosen.inner_text() == CAMVID.names[labels[row, column]]
    canvas.focus()
    for _ in range(40):
        canvas.press("ArrowUp")
    for _ in range(40):
        canvas.press("ArrowRight")
    assert said.inner_text() == f"{CAMVID.names[labels[0, -1]]}, in row 0 and column 319"


@needs_a_browser
@pytest.mark.parametrize("way", ["drop", "paste"])
def test_photos_are_dropped_and_pasted(tab, address, way):
    tab.goto(address)
    Image.new("RGB", (30, 20)).save(file := io.BytesIO(), "png")
    bring = """([bytes, way]) => {
      const transfer = new DataTransfer();
      const photo = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
      transfer.items.add(new File([photo], "photo.png", {type: "image/png"}));
      const how = {bubbles: true, dataTransfer: transfer, clipboardData: transfer};
      const event = way == "drop" ? new DragEvent(way, how) : new ClipboardEvent(way, how);
      document.querySelector(".playground-picture").dispatchEvent(event);
    }"""
    tab.evaluate(bring, [b64encode(file.getvalue()).decode(), way])
    tab.wait_for_function("document.querySelector('.playground-picture img').naturalWidth == 30")


# What can go wrong ------------------------------------------------------------------------------


@needs_a_browser
def test_it_says_that_it_needs_a_server(tab, folder):
    tab.goto((folder / "index.html").as_uri())
    assert "this page was opened as a file" in tab.get_by_role("alert").inner_text()
    assert not tab.get_by_role("button", name="Load").is_visible()


@needs_a_browser
def test_it_says_that_the_browser_is_too_old(tab, address):
    tab.add_init_script("WebAssembly.validate = () => false")
    tab.goto(address)
    assert "has WebAssembly with SIMD" in tab.get_by_role("alert").inner_text()


@needs_a_browser
@pytest.mark.parametrize("file", ["worker.js", "ort.wasm.min.js", "pspnet.onnx"])
def test_it_says_which_file_the_server_lacks(tab, address, file):
    tab.route(f"**/{file}", lambda route: route.fulfill(status=404))
    tab.goto(address)
    tab.get_by_role("button", name="Load").click()
    tab.get_by_role("alert").filter(has_text=file).wait_for()
    assert tab.get_by_role("button", name="Load").is_visible()


@needs_a_browser
def test_it_says_that_a_file_is_no_photo(tab, address, tmp_path):
    tab.goto(address)
    (tmp_path / "photo.heic").write_bytes(b"none")
    tab.get_by_label("or a photo of your own").set_input_files(tmp_path / "photo.heic")
    tab.get_by_role("alert").filter(has_text="Use a JPEG, PNG or WebP").wait_for()


@pytest.fixture
def empty_cache(hook, tmp_path, monkeypatch):
    monkeypatch.setattr(hook, "CACHE", tmp_path / "cache")
    hook.parts.cache_clear()
    yield tmp_path / "cache"
    hook.parts.cache_clear()


def test_what_is_missing_stands_on_the_page(hook, empty_cache, monkeypatch):
    def fail(*args, **options):
        raise ImportError("Format 'onnx' needs tf2onnx. pip install \"keras-psp[export]\".")

    monkeypatch.setattr(hook.keras_psp, "export", fail)
    monkeypatch.setattr(hook.shutil, "which", lambda name: None)
    files, missing = hook.parts()
    assert files == []
    assert re.search(r"install Node\.js.* The network .*keras-psp\[export\]", " ".join(missing))
    assert "install Node.js" in hook.widget()


def test_files_that_were_changed_are_not_used(hook, empty_cache, monkeypatch):
    (empty_cache / hook.RUNTIME).mkdir(parents=True)
    for name in hook.DIGESTS:
        (empty_cache / hook.RUNTIME / name).write_text("changed")
    monkeypatch.setattr(hook.shutil, "which", lambda name: None)
    with pytest.raises(hook.Missing, match=r"install Node\.js"):
        hook.runtime()

    def pack(command, cwd, **options):
        for name in hook.DIGESTS:
            file = Path(cwd, "package", "dist", name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("changed")
        with tarfile.open(Path(cwd, "packed.tgz"), "w:gz") as archive:
            archive.add(Path(cwd, "package"), "package")

    warnings = []
    monkeypatch.setattr(hook.shutil, "which", lambda name: name)
    monkeypatch.setattr(hook.subprocess, "run", pack)
    monkeypatch.setattr(hook.LOG, "warning", lambda *words: warnings.append(words))
    with pytest.raises(hook.Missing, match="other files than it should"):
        hook.runtime()
    assert len(warnings) == 1
