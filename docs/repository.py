"""The repository's address, which stands in `pyproject.toml` alone."""

import re
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
REPOSITORY = re.search('\nRepository = "(.*)"', PYPROJECT.read_text())[1]


def on_config(config):
    config.repo_url = REPOSITORY
    config.repo_name = "Source"


def on_page_markdown(markdown, page, config, files):
    return markdown.replace("REPOSITORY", REPOSITORY)
