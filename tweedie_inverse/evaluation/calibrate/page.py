"""The report: one HTML page with its pictures inside."""

import html
import io
from typing import Any

from tweedie_inverse.evaluation.calibrate.pictures import draw
from tweedie_inverse.runtime.html import bullets, data_uri, document, table


def page(calibration: Any) -> str:
    """The whole page."""
    state = "passed" if calibration.passed else "failed"
    findings, stein = bullets(calibration.findings), calibration.stein
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
        table(("family", "p"), [(n, f"{p:.3g}") for n, p in calibration.p_values.items()]),
        "<h2>Scores</h2>",
        table(("score", "value"), [(n, f"{v:.4g}") for n, v in calibration.scores.items()]),
        "<h2>Power</h2><p>How often a calibration of this size sees a fault, planted in these "
        f"samples, at level {calibration.level:g}; &ldquo;none&rdquo; is the false alarm.</p>",
        table(("fault", "seen"), power, raw=True),
        "" if stein.p_value is None else f"<p>{html.escape(stein.words)}.</p>",
        "<h2>Not tested</h2>",
        bullets(calibration.not_tested),
        "<h2>Made with</h2>",
        table(
            ("setting", "value"),
            [
                ("truths", calibration.count),
                ("evaluations a sample", f"{calibration.evaluations:g}"),
                ("solves that do not fit their measurement", calibration.inconsistent),
                *calibration.settings.items(),
            ],
        ),
    ]
    return document("Calibration", "".join(parts))


def _picture(calibration: Any) -> str:
    drawn = io.BytesIO()
    draw(calibration).savefig(drawn, format="png", dpi=100)
    return data_uri(drawn.getvalue(), "image/png")
