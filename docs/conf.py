"""The documentation site: ``make docs`` writes it to ``docs/_build/html``.

Pages are Markdown, and read as well in the repository as on the site.  What Sphinx does not bring
is in ``_ext``: the reference from public names, links of code, formulas, tables, notebooks.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from tweedie_inverse import __version__

project = "tweedie-inverse"
author = "The tweedie-inverse developers"
project_copyright = "The tweedie-inverse developers, BSD-3-Clause"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "code_names",
    "mathml",
    "notebooks",
    "public_names",
    "tables",
]
root_doc = "index"
exclude_patterns = ["_build", "_ext"]
language = "en"

# Markdown.
myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

highlight_language = "none"  # of blocks that name none: they are for a shell, or output

# Docstrings: single backticks are names of the package, linked where they have a page.
default_role = "py:obj"
suppress_warnings = ["ref.python"]  # one name in several classes: the first is taken
add_module_names = False
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_use_type_comments = False
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# Pages.
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_exclude = ".linenos, .gp, .go"
