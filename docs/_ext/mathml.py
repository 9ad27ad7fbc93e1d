"""Formulas as MathML, made at the build: no script, no font, nothing from another server."""

from docutils import nodes
from docutils.utils.math import latex2mathml


def to_mathml(formula: str, block: bool) -> str:
    """What browsers draw; raises `MathError` for LaTeX that it does not know."""
    made = str(latex2mathml.tex2mathml(formula, as_block=block))
    return made.replace("<mo>‖</mo>", '<mo stretchy="false">‖</mo>')


def inline(self, node: nodes.math) -> None:
    self.body.append(to_mathml(node.astext(), block=False))
    raise nodes.SkipNode


def block(self, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{to_mathml(node.astext(), block=True)}</div>')
    raise nodes.SkipNode


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
