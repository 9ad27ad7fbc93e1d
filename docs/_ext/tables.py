"""Numbers in tables stay on one line: a wide table scrolls inside its page."""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

_SHORT = 18  # characters


class ShortCells(SphinxPostTransform):
    """Cells that are short are marked, and the style sheet keeps them whole."""

    default_priority = 800

    def run(self, **kwargs) -> None:
        for cell in self.document.findall(nodes.entry):
            if len(cell.astext()) <= _SHORT:
                cell["classes"].append("short")


def setup(app):
    """Called by Sphinx."""
    app.add_post_transform(ShortCells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
