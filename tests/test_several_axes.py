"""The study of slices along several axes runs, and its numbers are what they are called."""

import pytest
import torch

from tweedie_inverse.benchmarks.studies import several_axes


def test_flicker_is_told_by_axis():
    truth = torch.randn(1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    faster = truth.clone()
    faster[:, ::2] += 3  # slices that alternate
    depth, height, width = several_axes.flicker(torch.stack([faster, faster]), truth)
    assert depth > 3
    assert height == pytest.approx(1)
    assert width == pytest.approx(1)


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_the_study_runs():
    found = {(row.instrument, row.way): row for row in several_axes.rows(8, 2, 3)}
    assert len(found) == 8
    apart, together = (found["thick", way] for way in ("slice by slice", "one axis, length 16"))
    assert together.flicker[0] < apart.flicker[0] / 2
    assert together.crps < apart.crps
    assert f"{apart.crps:.5f}" in str(apart)
