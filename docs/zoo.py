"""The tables of the model zoo, from the table of published weights itself."""

import keras

import keras_psp
from keras_psp.weights.published import PRESETS

TABLES = {  # words of the page → the titles of the table that takes their place
    "SEGMENTATION_PRESETS": ["one line", "classes", "learned from", "score", "parameters"],
    "CLASSIFIER_PRESETS": ["one line", "score", "parameters", "as a backbone", "file"],
}


def row(name, preset):
    """A preset's row. Its parameters are counted in a network whose variables have no values."""
    build, segments = getattr(keras_psp, preset.network), preset.classes is not None
    random = {"backbone_weights": None, "auxiliary_weight": 0} if segments else {"weights": None}
    tops = [{}] if segments else [{}, {"include_top": False}]
    with keras.StatelessScope(initialize_variables=False):
        models = [build(**{**preset.arguments, **random, **top}) for top in tops]
    sizes = [f"{model.count_params() / 1e6:.1f} M" for model in models]
    score = " ".join(preset.score.split()[:3]).rstrip(",")  # the page says of what
    if segments:
        learned = "{}, {}×{}".format(preset.data.partition(",")[0], *preset.crop)
        cells = [f'.from_preset("{name}")', str(len(preset.classes)), learned, score, *sizes]
    else:
        ending = preset.file.name.rpartition(".")[2]
        cells = [f'("{preset.arguments["variant"]}")', score, *sizes, f".{ending}"]
    return f"| `{preset.network}{cells[0]}` | {' | '.join(cells[1:])} | {preset.license} |"


def on_page_markdown(markdown, page, config, files):
    for word, titles in TABLES.items():
        if word in markdown:
            kind = word.startswith("SEGMENTATION")
            rows = [row(*item) for item in PRESETS.items() if bool(item[1].classes) == kind]
            head = [f"| {' | '.join(titles)} | license |", "| --- " * 6 + "|"]
            markdown = markdown.replace(word, "\n".join(head + rows))
    return markdown
