"""Scores and ranks equal those of properscoring and sbi, where these are installed."""

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.test_calibrate import OPERATOR, SHAPE, WHITE, exact
from tests.test_posterior import posterior
from tweedie_inverse.evaluation.calibrate.curves import expected_coverage
from tweedie_inverse.evaluation.calibrate.ranks import pooled_ranks
from tweedie_inverse.numerics.random import normal

COUNT, SAMPLES = 100, 9


def test_crps_equals_that_of_properscoring():
    """Its estimator counts each sample's distance to itself, ours does not (Ferro 2014)."""
    properscoring = pytest.importorskip("properscoring")
    samples, truth = normal((1,), (3, SAMPLES, *SHAPE)), normal((2,), (3, *SHAPE))
    found = ti.calibration.crps(posterior(samples), truth)
    members = samples.movedim(1, -1)
    theirs = torch.from_numpy(properscoring.crps_ensemble(truth.numpy(), members.numpy()))
    apart = (members[..., None] - members[..., None, :]).abs().sum((-1, -2)) / 2
    fair = theirs - apart / (SAMPLES * (SAMPLES - 1)) + apart / SAMPLES**2
    torch.testing.assert_close(found, fair.flatten(1).mean(1), rtol=0, atol=1e-12)


class Drawn:
    """Samples that are there, as a posterior of sbi gives them."""

    def __init__(self, samples):
        self.samples = samples  # (samples, truths, n)

    def sample_batched(self, shape, x, **settings):
        assert tuple(shape) == (len(self.samples),)
        return self.samples


@pytest.fixture(scope="module")
def calibrated():
    """A calibration, with its truths ``(truths, n)`` and samples ``(samples, truths, n)``."""
    drawn = []

    def kept(y, count, seed):
        drawn.append(exact(y, count, seed))
        return drawn[-1]

    truths = WHITE.draw(COUNT, seed=3)
    found = ti.calibrate(
        OPERATOR, WHITE, images=truths, num_samples=SAMPLES, sampler=kept, power=False,
        statistics={"all": lambda x: x.flatten(1), "energy": lambda x: x.square().sum((1, 2, 3))},
    )  # fmt: skip
    return found, truths.flatten(1), torch.stack(drawn, 1).flatten(2)


def test_ranks_equal_those_of_sbi(calibrated):
    pytest.importorskip("sbi")
    from sbi.diagnostics import run_sbc

    found, truths, samples = calibrated
    sizes = [len(family.columns) for family in found.families]
    ours = dict(zip([f.name for f in found.families], found.ranks.split(sizes, 1), strict=True))
    for reduce, name in (("marginals", "all"), (lambda x, y: x.square().sum(1), "energy")):
        ranks, _ = run_sbc(
            truths, truths, Drawn(samples), num_posterior_samples=SAMPLES, reduce_fns=reduce,
            show_progress_bar=False,
        )  # fmt: skip
        assert torch.equal(ranks.long(), ours[name].long())


def test_expected_coverage_equals_that_of_sbi(calibrated):
    """Its levels are those of S samples, ours of S + 1 draws; the shares are the same."""
    pytest.importorskip("sbi")
    from sbi.diagnostics import run_tarp

    _, truths, samples = calibrated
    references = normal(("references",), truths.shape).to(truths)
    shares, levels = run_tarp(
        truths, truths, Drawn(samples), references=references, num_posterior_samples=SAMPLES,
        num_bins=SAMPLES, z_score_theta=False, show_progress_bar=False,
    )  # fmt: skip
    np.testing.assert_allclose(levels, np.arange(SAMPLES + 1) / SAMPLES, atol=1e-6)
    distances = (torch.cat([truths[None], samples]) - references).square().sum(2).sqrt()
    ours = expected_coverage(
        pooled_ranks(distances.mT[..., None], 0), torch.zeros(9, COUNT, dtype=torch.long)
    )
    assert 0 < float(shares[1]) < float(shares[-2]) < 1
    np.testing.assert_allclose(shares[1:-1], ours.found[:-1], atol=1e-6)
