"""Names of the package in code, such as `ti.solve(...)`, become links to the reference.

Pages write plain Markdown code, which is what the repository shows.  Docstrings write `solve` or
`ops.Mask`, without the package in front.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform

_NAME = re.compile(r"((?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*)(\(.*\))?", re.DOTALL)
_PLACES = {
    "ti": ["tweedie_inverse"],
    "ops": ["tweedie_inverse.operators"],
    "posterior": ["tweedie_inverse.Posterior"],
    "prior": ["tweedie_inverse.priors.Prior", "tweedie_inverse.priors.NetworkPrior"],
    "operator": ["tweedie_inverse.operators.Operator", "tweedie_inverse.operators.LinearOperator"],
}
# Modules that stand under a shorter name among the public ones.
_SHORT = {
    "tweedie_inverse.schedules": "tweedie_inverse.numerics.schedules",
    "tweedie_inverse.chains": "tweedie_inverse.numerics.chains",
    "tweedie_inverse.guidance": "tweedie_inverse.priors.guidance",
    "tweedie_inverse.tweedie": "tweedie_inverse.priors.tweedie",
    "tweedie_inverse.calibration": "tweedie_inverse.evaluation.calibration",
    "tweedie_inverse.operators.spectral": "tweedie_inverse.numerics.spectral",
}
_BARE = ("tweedie_inverse", "tweedie_inverse.operators", "tweedie_inverse.priors")


def full_names(name: str) -> list[str]:
    """What a name as people write it may stand for."""
    first, _, rest = name.partition(".")
    if first in _PLACES and rest:
        names = [f"{place}.{rest}" for place in _PLACES[first]]
    else:
        names = [f"{place}.{name}" for place in _BARE]
    for short, long in _SHORT.items():
        names += [long + n[len(short) :] for n in names if n.startswith(short + ".")]
    return names


def _find(env, name: str):
    objects = env.get_domain("py").objects
    return next(((n, objects[n]) for n in full_names(name) if n in objects), None)


class CodeNames(SphinxPostTransform):
    """Inline code that is a public name of the package, with or without arguments."""

    default_priority = 700  # after references have been resolved

    def run(self, **kwargs) -> None:
        for node in list(self.document.findall(nodes.literal)):
            inside = node.parent
            while inside is not None and not isinstance(inside, nodes.reference | nodes.title):
                inside = inside.parent
            written = _NAME.fullmatch(node.astext())
            found = written and inside is None and _find(self.env, written[1])
            if found:
                link = nodes.reference("", "", internal=True)
                link["refuri"] = self.app.builder.get_relative_uri(
                    self.env.docname, found[1].docname
                )
                link["refuri"] += "#" + found[1].node_id
                node.replace_self(link)
                link += node


def resolve(app, env, node: pending_xref, content):
    """Docstrings: `solve`, `ti.solve` and `ops.Mask` are names, too."""
    found = node.get("refdomain") == "py" and _find(env, node["reftarget"])
    if not found:
        return None
    link = nodes.reference("", "", internal=True)
    link["refuri"] = app.builder.get_relative_uri(node["refdoc"], found[1].docname)
    link["refuri"] += "#" + found[1].node_id
    link += content
    return link


def setup(app):
    """Called by Sphinx."""
    app.add_post_transform(CodeNames)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
