"""What the page "PSPNet in your browser" needs: the network as an ONNX file, ONNX Runtime Web, and
drawn scenes. The first two are kept outside of the repository, and made once."""

import functools
import hashlib
import html
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File
from PIL import Image

import keras_psp
from keras_psp.atomic import write_whole
from keras_psp.weights.published import IN_THE_PACKAGE, PRESETS, find_file

RUNTIME = "onnxruntime-web@1.30.0"  # of npm
DIGESTS = {  # its files that are needed → SHA-256
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4"
    "ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e"
    "51a8e5704b88c7c083ebbeb78842dee2",
}
SHORTER_SIDE = 240  # at which the network sees a photo
EXPORT = {
    "resize": SHORTER_SIDE,
    "batch_size": 1,
    "input_dtype": "uint8",
    "classes": True,
    "quantize": "weights",
}
SCENES = {  # their seeds, from which the network learned nothing
    7_000_005: "a car close by",
    7_000_017: "a cyclist crosses",
    7_000_003: "a crossing in the evening",
    7_000_011: "dusk",
}
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "keras_psp"
LOG = get_plugin_logger(__name__)


class Missing(Exception):
    """Says what the page lacks, and how to get it."""


def is_known(name, content):
    return hashlib.sha256(content).hexdigest() == DIGESTS[name]


def runtime():
    """Returns the files of ONNX Runtime Web, from the cache or from npm."""
    files = [CACHE / RUNTIME / name for name in DIGESTS]
    if all(file.exists() and is_known(file.name, file.read_bytes()) for file in files):
        return files
    if (npm := shutil.which("npm")) is None:
        raise Missing("ONNX Runtime Web comes by npm, which is not installed: install Node.js.")
    with tempfile.TemporaryDirectory() as folder:
        pack = [npm, "pack", RUNTIME, "--silent", "--fetch-retries=0"]
        subprocess.run(pack, cwd=folder, capture_output=True)
        packed = next(Path(folder).glob("*.tgz"), None)
        if packed is None:
            raise Missing(f"npm could not fetch {RUNTIME}: see what “npm pack {RUNTIME}” says.")
        with tarfile.open(packed) as archive:
            found = [archive.extractfile(f"package/dist/{name}").read() for name in DIGESTS]
    if not all(map(is_known, DIGESTS, found)):
        # Not the files that were tried: a strict build stops here.
        LOG.warning("%s does not have the digests that stand in docs/browser.py.", RUNTIME)
        raise Missing(f"{RUNTIME} came with other files than it should.")
    for file, content in zip(files, found, strict=True):
        write_whole(file, lambda path, content=content: path.write_bytes(content))
    return files


def network():
    """Returns the ONNX file, exported anew where weights or code are not those of the cache."""
    weights, package = find_file(PRESETS[IN_THE_PACKAGE].file), Path(keras_psp.__file__).parent
    parts = ("inference/exporting.py", "layers/*.py", "models/*.py", "surgery/*.py")
    code = [file for part in parts for file in sorted(package.glob(part))]
    made_of = [file.read_bytes() for file in [weights, *code]] + [repr(EXPORT).encode()]
    file = CACHE / hashlib.sha256(b"".join(made_of)).hexdigest()[:16] / "pspnet.onnx"
    if not file.exists():
        try:
            keras_psp.export(keras_psp.PSPNet.from_preset(IN_THE_PACKAGE), file, **EXPORT)
        except (ImportError, ValueError) as error:
            raise Missing(f"The network was not exported: {error}") from error
    return [file]


@functools.cache
def parts():
    """Returns the files that the page loads after a click, and what is missing."""
    files, missing = [], []
    for find in (runtime, network):
        try:
            files += find()
        except (Missing, OSError) as error:
            LOG.info("PSPNet in your browser will not run: %s", error)
            missing.append(str(error))
    return [] if missing else files, missing


def scene(seed):
    image, _ = keras_psp.street_scene(seed, (SHORTER_SIDE, SHORTER_SIDE * 4 // 3))
    Image.fromarray(image).save(file := io.BytesIO(), "png", optimize=True)
    return file.getvalue()


def widget():
    """Returns the element that `docs/widgets/playground.js` fills."""
    files, missing = parts()
    classes = PRESETS[IN_THE_PACKAGE].classes
    settings = {
        "bytes": {file.name: file.stat().st_size for file in files},
        "classes": list(zip(classes.names, classes.colors, strict=True)),
        "scenes": {f"scene_{seed}.png": words for seed, words in SCENES.items()},
        "missing": missing,
    }
    settings = html.escape(json.dumps(settings))
    return (
        f'<div class="widget" data-widget="playground" data-settings="{settings}">'
        "<p>This needs JavaScript.</p></div>"
    )


def on_files(files, config):
    for seed in SCENES:
        content, path = scene(seed), f"playground/scene_{seed}.png"
        files.append(File.generated(config, path, content=content))
    license = find_file(PRESETS[IN_THE_PACKAGE].file).with_name(f"{IN_THE_PACKAGE}.LICENSE.txt")
    for file in [*parts()[0], license]:
        files.append(File.generated(config, f"playground/{file.name}", abs_src_path=str(file)))


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri == "playground.md":
        return markdown.replace("PLAYGROUND", widget())
