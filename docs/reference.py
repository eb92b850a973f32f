"""In the reference, `Example:` is a title like `Parameters:`, which Griffe does not know."""

TITLE = '<span class="doc-section-title">Example:</span>'


def on_page_content(html, page, config, files):
    return html.replace("<p>Example:", f"<p>{TITLE}")
