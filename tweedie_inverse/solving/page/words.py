"""The words of a page: how to read it, what the verdict is, and what repeats the solve."""

import html
import re
import textwrap
from typing import Any

from tweedie_inverse.priors.zoo import list_priors
from tweedie_inverse.runtime.html import bullets, table
from tweedie_inverse.solving.diagnostics import Diagnostics, number
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.page.views import Reported
from tweedie_inverse.solving.stats import Stats

HOW = (
    "Each sample is one image that explains the measurement and looks like the prior's images: "
    "what all samples share is well supported, and what differs from one to the next is not known. "
    "The mean averages them, so that it is smoother than any true image, and the spread (standard "
    "deviation) says how far they differ at each pixel, in the image's own units."
)
_WIDTH = 78  # of code
# Walks are named with the module that they are in.
_WALK = re.compile(r"\b([A-Z]\w+)\(")


def causes(diagnostics: Diagnostics) -> str:
    """What is likely wrong where samples do not fit; empty where they do."""
    if not diagnostics.causes:
        return ""
    return (
        "<p>Until this is mended, mean and spread say little of the truth. Likely causes, the "
        f"likeliest first:</p>{bullets(diagnostics.causes)}"
    )


def judged(one: Diagnostics) -> str:
    """The chi-square of a single measurement, in a line."""
    if one.expected is None or "chi-square" in one.verdict:
        return one.verdict
    low, high = one.expected.reshape(-1, 2)[0].tolist()
    found = float(one.chi_square)
    return f"{one.verdict} (chi-square {number(found)}, expected {number(low)} to {number(high)})"


def repeat(posterior: Reported) -> str:
    """The code that makes the samples again, and what they were made with."""
    origin, stats = posterior.origin, posterior.stats
    if origin is None:
        code = (
            "<p>These samples do not say where they come from: they were put together by hand, or "
            "from several solves.</p>"
        )
        return code + table(("", ""), _spent(stats))
    rows = [
        ("prior", f"{origin.prior}, SHA-256 {origin.prior_checksum}..."),
        ("operator", _with_checksum(origin.operator, origin.operator_checksum)),
        ("noise", _with_checksum(origin.noise, origin.noise_checksum)),
        *_spent(stats),
        ("versions", ", ".join(f"{name} {version}" for name, version in origin.versions.items())),
    ]
    return f"<pre><code>{html.escape(code_of(origin, stats))}</code></pre>" + table(("", ""), rows)


def code_of(origin: Origin, stats: Stats) -> str:
    """A call that makes the samples again, where operator and measurement are put in."""
    known = origin.prior in {card.name for card in list_priors()}
    prior = f'ti.load_prior("{origin.prior}")' if known else f"...  # {_line(origin.prior)}"
    lines = [
        "import tweedie_inverse as ti",
        "",
        f"prior = {prior}",
        f"operator = ...  # {_line(origin.operator)}, noise {_line(origin.noise)}",
        f"y = ...  # the measurement, {origin.range_shape}",
        "posterior = ti.solve(",
        "    y,",
        "    operator,",
        "    prior,",
        f"    method={_walk(origin.walk)},",
        f"    num_samples={origin.num_samples},",
        f"    steps={_budget(stats)},",
        f"    seed={origin.seed},",
    ]
    if origin.noise == "GaussianNoise.unknown()":
        lines.append('    noise="estimate",')
    return "\n".join([*lines, ")"])


def _walk(walk: str) -> str:
    """As code, or as a comment where its settings are no code, such as functions."""
    if "<" in walk:
        return f'"auto",  # it was {_line(walk)}'.removesuffix(",")
    code = _WALK.sub(r"ti.walks.\1(", _line(walk))
    if len(code) < _WIDTH:
        return code
    name, _, settings = code.removesuffix(")").partition("(")
    rows = textwrap.wrap(f"{settings},", _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"{name}(", *(f"        {row}" for row in rows), "    )"])


def _budget(stats: Stats) -> str:
    """The evaluations that were spent on a sample: the same budget buys the same levels."""
    return f"{stats.denoiser_calls:g}"


def _line(text: str) -> str:
    """In one line, as a comment needs it."""
    return " ".join(text.split())


def _with_checksum(text: str, checksum: str) -> str:
    return f"{text}, SHA-256 {checksum}..." if checksum else text


def _spent(stats: Stats) -> list[tuple[str, Any]]:
    return [
        ("walk", f"{stats.method} ({stats.reason})"),
        ("noise levels", stats.steps),
        ("network evaluations a sample", f"{stats.denoiser_calls:g}"),
        ("applications of the operator a sample", f"{stats.operator_calls:g}"),
        ("seconds", f"{stats.seconds:.3g}"),
    ]
