"""What was drawn of the instrument, on a page: histograms of numbers, pictures of arrays."""

import html
import io

import numpy as np
from torch import Tensor

from tweedie_inverse.runtime.html import data_uri
from tweedie_inverse.solving.page.views import Reported
from tweedie_inverse.solving.parameters import Parameter

_WIDTH, _HEIGHT, _MARGIN = 320, 130, 24
_MOST_LEVELS = 12


def unknowns(posterior: Reported, count: int) -> str:
    """A section with a part for each measurement; empty where the instrument was known."""
    if posterior.instrument is None:
        return ""
    parts = [
        f'<div class="unknowns" data-measurement="{index}">{_of_one(posterior[index])}</div>'
        for index in range(count)
    ]
    return (
        '<section aria-labelledby="head-unknowns"><h2 id="head-unknowns">What was drawn of the '
        "instrument</h2><p>Each was drawn with the image, so that the samples know of its "
        f"uncertainty.</p>{''.join(parts)}</section>"
    )


def _of_one(one: Reported) -> str:
    assert one.instrument is not None
    return "".join(_parameter(each) for each in one.instrument.each)


def _parameter(each: Parameter) -> str:
    values = each.samples.detach().cpu().double()
    caption = f"<figcaption>{html.escape(repr(each))}</figcaption>"
    if values.ndim in (3, 4):
        image = values.mean(0)
        image = image[len(image) // 2] if image.ndim == 3 else image  # of a volume the middle
        mean = _picture(image, f"{each.name}, mean of the samples")
        return f"<figure>{caption}{mean}<p>mean of the samples</p></figure>"
    if values.ndim == 1:
        return f"<figure>{caption}{histogram(values, each.name)}</figure>"
    levels = values.flatten(1).unbind(1)
    more = f"<p>and {len(levels) - _MOST_LEVELS} more</p>" if len(levels) > _MOST_LEVELS else ""
    return (
        "".join(
            f"<figure><figcaption>{html.escape(each.name)} {place}</figcaption>"
            f"{histogram(level, f'{each.name} {place}')}</figure>"
            for place, level in enumerate(levels[:_MOST_LEVELS])
        )
        + more
    )


def histogram(values: Tensor, name: str) -> str:
    """Bars as SVG, with the smallest and the largest value below."""
    numbers = values.numpy()[np.isfinite(values.numpy())]
    if not len(numbers):
        return "<p>no finite value</p>"
    counts, edges = np.histogram(numbers, bins=max(4, min(20, len(numbers) // 2)))
    wide, high = (_WIDTH - 2 * _MARGIN) / len(counts), _HEIGHT - 2 * _MARGIN
    lengths = high * counts / counts.max()
    bars = "".join(
        f'<rect x="{_MARGIN + k * wide + 0.5:.1f}" y="{_MARGIN + high - length:.1f}" '
        f'width="{wide - 1:.1f}" height="{length:.1f}"/>'
        for k, length in enumerate(lengths)
    )
    floor, right = _HEIGHT - _MARGIN, _WIDTH - _MARGIN
    label = html.escape(f"{name}: {len(numbers)} samples, {edges[0]:.4g} to {edges[-1]:.4g}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'<g class="bars">{bars}</g><line x1="{_MARGIN}" y1="{floor}" x2="{right}" y2="{floor}"/>'
        f'<text x="{_MARGIN}" y="{floor + 15}">{edges[0]:.4g}</text>'
        f'<text x="{right}" y="{floor + 15}" text-anchor="end">{edges[-1]:.4g}</text>'
        f'<text x="{_MARGIN}" y="{_MARGIN - 8}">{int(counts.max())} samples</text></svg>'
    )


def _picture(image: Tensor, text: str) -> str:
    from matplotlib.image import imsave

    drawn = io.BytesIO()
    imsave(drawn, image.numpy(), format="png", cmap="gray")
    return f'<img alt="{html.escape(text)}" src="{data_uri(drawn.getvalue(), "image/png")}">'
