"""Every tutorial as a notebook, to be downloaded from its page."""

import json
import re
from pathlib import Path

_FOLDER = "tutorials"
_PART = re.compile(r"^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)")


def notebook(page: str) -> dict:
    """The page as a notebook: pictures are left to the code, links keep their words."""
    page = re.sub(r"^<!--.*?-->\n", "", page, flags=re.DOTALL | re.MULTILINE)
    page = re.sub(r"^!\[.*?\]\(.*?\)\n", "", page, flags=re.MULTILINE)
    cells, end = [], 0
    for part in _PART.finditer(page):
        cells += [_text(page[end : part.start()]), _code(part["code"])]
        end = part.end()
    cells.append(_text(page[end:]))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [cell for cell in cells if cell["source"]],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }


def _text(source: str) -> dict:
    source = _LINK.sub(r"\1", source).strip()
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str) -> dict:
    cell = {"cell_type": "code", "metadata": {}, "source": source.strip()}
    return cell | {"execution_count": None, "outputs": []}


def _is_tutorial(name: str) -> bool:
    return name.startswith(f"{_FOLDER}/") and not name.endswith("/index")


def offer(app, name: str, template: str, context: dict, doctree) -> None:
    """A line under the title of a tutorial."""
    if doctree is not None and _is_tutorial(name):
        file = Path(name).name + ".ipynb"
        line = f'<p class="notebook"><a href="{file}" download>Download as a notebook</a></p>'
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{line}", 1)


def write(app, error: Exception | None) -> None:
    """The notebooks, beside the pages."""
    if error is None and app.builder.format == "html":
        for name in filter(_is_tutorial, app.env.found_docs):
            page = Path(app.env.doc2path(name)).read_text()
            path = Path(app.outdir) / f"{name}.ipynb"
            path.write_text(json.dumps(notebook(page), indent=1))


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", offer)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
