"""The page of a solve, put together from its parts."""

import base64
import html
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from torch import Tensor

from tweedie_inverse.runtime.html import STYLE, data_block, document
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.page.data import data
from tweedie_inverse.solving.page.reduction import MOST_MEASUREMENTS, MOST_NUMBERS
from tweedie_inverse.solving.page.unknowns import unknowns
from tweedie_inverse.solving.page.views import Reported, Views, views
from tweedie_inverse.solving.page.words import HOW, causes, judged, repeat

_FOLDER = Path(__file__).parent
# Of the numbers of a page, each of the three images of a measurement has at most one in so many.
_SHARE = 12
_MAPS = {
    "grey": "gray",
    "magma": "magma",
    "viridis": "viridis",
    "balance": "RdBu_r",
    "phase": "twilight",
}


def page(posterior: Reported, truths: Tensor | None, title: str | None) -> str:
    """The whole page.

    Args:
        truths: ``(batch, *shape)``.
        title: its headline; by default what was solved with what.
    """
    count = min(len(posterior), MOST_MEASUREMENTS)
    budget = MOST_NUMBERS // count
    made = [_measurement(posterior, index, truths, budget) for index in range(count)]
    title = title or _title(posterior)
    units = "" if posterior.origin is None else posterior.origin.units
    setup = {"units": units, "maps": {name: _colours(of) for name, of in _MAPS.items()}}
    blocks = [data_block("setup", setup)]
    blocks += [data_block(f"measurement-{k}", block) for k, (_, block) in enumerate(made)]
    body = Template(_text("page.html")).substitute(
        title=html.escape(title),
        state=_state(posterior.diagnostics),
        verdict=html.escape(_verdict(posterior, count)),
        causes=causes(posterior.diagnostics),
        how=html.escape(HOW),
        several="" if count > 1 else " hidden",
        choices="".join(f'<option value="{k}">{k}</option>' for k in range(count)),
        last=len(posterior) - 1,
        instrument=unknowns(posterior, count),
        repeat=repeat(posterior),
        precision=html.escape(_precision(max(each.error for each, _ in made), units)),
        blocks="\n".join(blocks),
    )
    script = "\n".join(_text(f"{name}.js") for name in ("numbers", "viewer", "page"))
    return document(title, body, style=STYLE + _text("page.css"), script=script)


def _text(name: str) -> str:
    """Of a file beside this one."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def _measurement(
    posterior: Reported, index: int, truths: Tensor | None, budget: int
) -> tuple[Views, dict[str, Any]]:
    """What the script of the page is given of one measurement."""
    one = posterior[index]
    found = views(one, None if truths is None else truths[index], budget)
    return found, {
        "image": found.block,
        "notes": found.notes,
        "judged": judged(one.diagnostics),
        "data": None if one.measured is None else data(one.measured, budget // _SHARE),
    }


def _title(posterior: Reported) -> str:
    if posterior.origin is None:
        return "Posterior samples"
    operator = posterior.origin.operator.partition("(")[0]
    return f"Posterior samples: {operator}, prior {posterior.origin.prior}"


def _state(diagnostics: Diagnostics) -> str:
    """How the verdict is coloured; not at all where nothing was judged."""
    if diagnostics.expected is None:
        return ""
    return "passed" if diagnostics.is_consistent else "failed"


def _verdict(posterior: Reported, count: int) -> str:
    left = len(posterior) - count
    if len(posterior) == 1:
        return judged(posterior[0].diagnostics)
    if not left:
        return posterior.diagnostics.verdict
    return (
        f"{posterior.diagnostics.verdict}. The first {count} of {len(posterior)} measurements are "
        f"on this page; posterior[{count}:].report(path) makes one of the next."
    )


def _precision(error: float, units: str) -> str:
    if error == 0:
        return "The numbers of this page are those of the samples, in single precision."
    within = f"{error:.2g} {units}".rstrip()
    return f"Numbers are kept in 16 bits each: those of the samples are off by at most {within}."


def _colours(name: str) -> str:
    """256 colours, three bytes each, in base64."""
    from matplotlib import colormaps

    levels = colormaps[name](np.arange(256) / 255)[:, :3]
    return base64.b64encode(np.rint(255 * levels).astype(np.uint8).tobytes()).decode()
