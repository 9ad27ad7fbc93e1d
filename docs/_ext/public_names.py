"""The directives ``public`` and ``others``: public names of a module, from their docstrings.

``{public} tweedie_inverse.walks`` documents the names that its body lists, and ``{others}
tweedie_inverse.walks`` every public name that no page of the reference lists, so that none is left
out when somebody adds one.
"""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

_LISTED = re.compile(r"^```\{public\} (\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def public_names(module: ModuleType) -> list[str]:
    """``__all__``, or the functions and classes of its own; modules have sections of their own."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    names = getattr(module, "__all__", own)
    return [name for name in names if not isinstance(getattr(module, name), ModuleType)]


def listed_names(folder: Path) -> dict[str, list[str]]:
    """The names that the pages of a folder list, by module."""
    listed: dict[str, list[str]] = {}
    for page in sorted(folder.glob("*.md")):
        for module, body in _LISTED.findall(page.read_text()):
            listed.setdefault(module, []).extend(body.split())
    return listed


def entry(module: str, name: str) -> str:
    """Markdown that documents one name."""
    value = getattr(importlib.import_module(module), name)
    full = f"{module}.{name}"
    if isinstance(value, type):
        kind = "exception" if issubclass(value, BaseException) else "class"
        options = "\n   :show-inheritance:" if _has_public_base(value) else ""
        if issubclass(value, tuple):  # its fields are told in the docstring
            options += f"\n   :exclude-members: {', '.join(getattr(value, '_fields', ()))}"
        return f"```{{eval-rst}}\n.. auto{kind}:: {full}{options}\n```\n"
    if inspect.isroutine(value):
        return f"```{{eval-rst}}\n.. autofunction:: {full}\n```\n"
    keys = ", ".join(f"``{key!r}``" for key in value) if isinstance(value, dict) else ""
    text = f"By name: {keys}." if keys else f"``{value!r}``"
    return f"```{{eval-rst}}\n.. py:data:: {full}\n\n   {text}\n```\n"


def _has_public_base(value: type) -> bool:
    bases = [base for base in value.__bases__ if base.__module__.startswith("tweedie_inverse")]
    return any(not base.__name__.startswith("_") for base in bases)


class Public(SphinxDirective):
    """The names in the body."""

    required_arguments = 1
    has_content = True

    def names(self) -> list[str]:
        return " ".join(self.content).split()

    def run(self) -> list[nodes.Node]:
        module = self.arguments[0]
        return self.parse_text_to_nodes("\n".join(entry(module, name) for name in self.names()))


class Others(Public):
    """The public names that no page lists."""

    has_content = False

    def names(self) -> list[str]:
        folder = Path(self.env.doc2path(self.env.docname)).parent
        self.env.note_reread()
        listed = listed_names(folder).get(self.arguments[0], [])
        module = importlib.import_module(self.arguments[0])
        return [name for name in public_names(module) if name not in listed]


def setup(app):
    """Called by Sphinx."""
    app.add_directive("public", Public)
    app.add_directive("others", Others)
    return {"parallel_read_safe": True}
