"""The suites' metrics against other people's implementations."""

import pytest
import torch
from torch.nn import functional as F

from tests.posteriors import agreement, gaussian_posterior
from tweedie_inverse.benchmarks.harness import metrics
from tweedie_inverse.benchmarks.methods.classical import Wiener
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import field
from tweedie_inverse.evaluation.calibration import crps
from tweedie_inverse.numerics.random import normal


@pytest.fixture
def images():
    """Eight noisy samples of one image, and the image."""
    truth = load("field-16").draw(1, seed=5)[0].float().expand(3, 16, 16).contiguous()
    return truth + 0.1 * normal((1,), (8, 3, 16, 16)).float(), truth


def test_psnr_and_ssim_are_those_of_torchmetrics(images):
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    samples, truth = images
    for mine, x in zip(metrics.psnr(samples, truth), samples, strict=True):
        theirs = peak_signal_noise_ratio(x, truth, data_range=1.0)
        assert float(mine) == pytest.approx(float(theirs), abs=1e-4)
    _, map_ = structural_similarity_index_measure(
        samples,
        truth.expand_as(samples).contiguous(),
        data_range=1.0,
        return_full_image=True,
    )
    theirs = map_[..., 5:-5, 5:-5].flatten(1).mean(1)  # ours sees no reflected border
    torch.testing.assert_close(metrics.ssim(samples, truth), theirs, atol=1e-4, rtol=0)


def test_scores_are_those_of_scoringrules(images):
    import scoringrules

    samples, truth = images
    count, flat, point = len(samples), samples.flatten(1).double(), truth.flatten().double()
    biased = float(scoringrules.es_ensemble(point.numpy(), flat.numpy(), m_axis=0, v_axis=1))
    accuracy = float((flat - point).norm(dim=1).mean())
    fair = accuracy - (accuracy - biased) * count / (count - 1)
    mine = float(metrics.energy_score(samples, truth)) * len(point) ** 0.5
    assert mine == pytest.approx(fair, rel=1e-9)
    theirs = scoringrules.crps_ensemble(point.numpy(), flat.numpy(), m_axis=0, estimator="fair")
    mine = float(crps(metrics.as_posterior(samples), truth))
    assert mine == pytest.approx(float(theirs.mean()), rel=1e-4)


def test_sliced_wasserstein_to_exact_draws_is_that_of_pot():
    import ot

    a, b = normal((2,), (30, 2, 2)), 0.3 + normal((3,), (50, 2, 2))
    found = metrics.against_exact(a, b, b.mean(0))["sliced_wasserstein"]
    directions = normal(("slices", 0), (4, 100))
    theirs = ot.sliced_wasserstein_distance(
        a.flatten(1), b.flatten(1), projections=directions / directions.norm(dim=0), p=1
    )
    assert found == pytest.approx(float(theirs), rel=1e-6)


def test_ranks_are_flat_when_truth_is_one_of_the_samples_and_not_when_it_is_beyond():
    draws = normal((4,), (9, 200, 200))
    histogram = metrics.rank_histogram(draws[1:], draws[0])
    assert len(histogram) == 9
    assert int(histogram.sum()) == 40_000
    assert metrics.unflatness(histogram) < 0.05
    assert metrics.unflatness(metrics.rank_histogram(draws[1:], draws[0] + 9)) > 1.7


def test_interval_covers_ninety_percent_whatever_the_number_of_samples():
    for count in (4, 40):
        draws = normal((5,), (count + 1, 1, 200, 200))
        lower, upper = metrics.as_posterior(draws[1:]).interval()
        share = ((draws[0] >= lower) & (draws[0] <= upper)).double().mean()
        assert abs(float(share) - 0.9) < 0.01


def test_perceptual_metric_prefers_the_truth(images):
    samples, truth = images
    assert float(metrics.haarpsi(truth[None], truth)) == pytest.approx(1, abs=1e-4)
    assert float(metrics.haarpsi(samples, truth).max()) < 0.98


@pytest.mark.parametrize("name", ["random inpainting", "sparse-view CT"])
def test_exact_reference_of_the_field_suite_is_the_textbook_posterior(name):
    task = next(task for task in field(16, 1, "test") if task.name == name)
    y, prior = task.operator.measure(task.truths[0], seed=3), load("field-16")
    samples = Wiener().draw(y[None], task, prior, [range(1000)], 1000)[0]
    exact = gaussian_posterior(prior, task.operator, y, task.std)
    assert agreement(samples, exact).worst_z < 5


def test_lpips_is_left_out_where_its_weights_are_missing(images, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    samples, truth = (F.interpolate(x, (64, 64)) for x in (images[0], images[1][None]))
    assert metrics.lpips(samples, truth[0]) is None


@pytest.mark.slow
def test_lpips_is_a_distance_where_weights_are_on_the_machine(images, tmp_path, monkeypatch):
    """Weights drawn at random stand for the real ones: values mean nothing, the calls do."""
    from torchvision.models import alexnet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = alexnet(weights=None).state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights, tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    samples, truth = (F.interpolate(x, (64, 64)) for x in (images[0], images[1][None]))
    found = metrics.lpips(torch.cat([samples, truth]), truth[0])
    assert found.shape == (9,)
    assert float(found[:-1].min()) > 0
    assert float(found[-1]) == pytest.approx(0, abs=1e-6)
    assert metrics.lpips(samples[:, :1], truth[0, :1]).shape == (8,)
    assert metrics.lpips(samples[..., :16], truth[0, ..., :16]) is None
