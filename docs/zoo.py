"""The tables of the model zoo, from the table of published weights itself."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import keras_psp
from keras_psp.weights.published import IN_THE_PACKAGE, PRESETS

HEADS = {
    "SEGMENTATION_PRESETS": ["one line", "classes", "learned from", "score, as published"],
    "CLASSIFIER_PRESETS": ["one line", "backbone alone", "score, as published"],
}


def row(name, preset):
    """A preset's row: its parameters are counted in a network without values."""
    segments, build = preset.classes is not None, getattr(keras_psp, preset.network)
    random = {"backbone_weights": None, "auxiliary_weight": 0} if segments else {"weights": None}
    with keras.StatelessScope(initialize_variables=False):
        parameters = build(**{**preset.arguments, **random}).count_params()
        backbone = 0 if segments else build(**preset.arguments, **random, include_top=False)
    if segments:
        call = f'{preset.network}.from_preset("{name}")'
        size = "{}×{}".format(*preset.crop)
        about = [len(preset.classes), f"{preset.data}, {size}", preset.score]
    else:
        call = f'{preset.network}("{preset.arguments["variant"]}")'
        about = [f"{backbone.count_params() / 1e6:.1f} M", preset.score]
    place = "in the package" if name == IN_THE_PACKAGE else f"`.{preset.file.name.split('.')[-1]}`"
    cells = [f"`{call}`", *about, f"{parameters / 1e6:.1f} M", place, preset.license]
    return "| " + " | ".join(map(str, cells)) + " |"


def on_page_markdown(markdown, page, config, files):
    for kind, heads in HEADS.items():
        if kind in markdown:
            segments = kind.startswith("SEGMENTATION")
            rows = [row(*item) for item in PRESETS.items() if bool(item[1].classes) == segments]
            titles = [*heads, "parameters", "file", "license"]
            lines = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|", *rows]
            markdown = markdown.replace(kind, "\n".join(lines))
    return markdown
