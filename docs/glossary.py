"""Words that every page explains are defined in `abbreviations.md` alone: the glossary has these
definitions from there, wherever it says DEFINITION."""

import re
from pathlib import Path

LINES = (Path(__file__).parent / "abbreviations.md").read_text()
DEFINITIONS = dict(re.findall(r"\*\[(.*)\]: (.*)", LINES))


def define(word):
    return f"{word[1]}\n:   {DEFINITIONS[word[1]]}."


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri == "glossary.md":
        return re.sub(r"^(.*)\n:   DEFINITION", define, markdown, flags=re.MULTILINE)
