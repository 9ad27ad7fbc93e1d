"""The report: one HTML page with its pictures inside."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

from tweedie_inverse.evaluation.calibrate.pictures import draw

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  line-height: 1.45; color: #222; }
.verdict { padding: .8rem 1rem; border-left: .4rem solid; background: #f6f6f6; font-size: 1.1rem; }
.passed { border-color: #2a7; } .failed { border-color: #c33; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #ddd;
  vertical-align: top; }
img { max-width: 100%; }
"""


def page(calibration: Any) -> str:
    """The whole page."""
    state = "passed" if calibration.passed else "failed"
    findings, stein = _list(calibration.findings), calibration.stein
    power = [
        (one.fault, f"{one.seen:.2f} &plusmn; {one.error:.2f}")
        for one in calibration.power.values()
    ]
    parts = [
        f"<h1>Calibration: {state}</h1>",
        f'<p class="verdict {state}">{html.escape(calibration.verdict)}</p>',
        findings,
        f"<p>Truths: {html.escape(calibration.truths)}.</p>",
        f'<img alt="ranks, coverage, spread, power" src="{_picture(calibration)}">',
        "<h2>P-values</h2><p>Of each family by itself; the verdict is of all together, and is not "
        "their smallest.</p>",
        _table(("family", "p"), [(n, f"{p:.3g}") for n, p in calibration.p_values.items()]),
        "<h2>Scores</h2>",
        _table(("score", "value"), [(n, f"{v:.4g}") for n, v in calibration.scores.items()]),
        "<h2>Power</h2><p>How often a calibration of this size sees a fault, planted in these "
        f"samples, at level {calibration.level:g}; &ldquo;none&rdquo; is the false alarm.</p>",
        _table(("fault", "seen"), power, raw=True),
        "" if stein.p_value is None else f"<p>{html.escape(stein.words)}.</p>",
        "<h2>Not tested</h2>",
        _list(calibration.not_tested),
        "<h2>Made with</h2>",
        _table(
            ("setting", "value"),
            [
                ("truths", calibration.count),
                ("evaluations a sample", f"{calibration.evaluations:g}"),
                ("solves that do not fit their measurement", calibration.inconsistent),
                *calibration.settings.items(),
            ],
        ),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Calibration</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _picture(calibration: Any) -> str:
    drawn = io.BytesIO()
    draw(calibration).savefig(drawn, format="png", dpi=100)
    return f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"


def _list(lines: Iterable[str]) -> str:
    if not lines:
        return ""
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, raw: bool = False) -> str:
    """A table; `raw` cells may hold entities, in the second column."""

    def cell(value: Any, place: int) -> str:
        text = str(value)
        return f"<td>{text if raw and place else html.escape(text)}</td>"

    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(cell(value, k) for k, value in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"
