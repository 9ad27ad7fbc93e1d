"""Summaries against numpy and scoringrules; saving; calibration scores on known laws."""

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.evaluation.calibration import coverage, crps
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.stats import Stats

STATS = Stats("decoupled", "test", 20, 20.0, 100.0, 1.5)


def posterior(samples, effective=None):
    """Of one measurement, or of a batch where there are five axes."""
    shape = samples.shape[: 2 if samples.ndim == 5 else 1]
    size = torch.full(shape[:-1], float(shape[-1])) if effective is None else effective
    return Posterior(samples, Diagnostics(torch.ones(shape), size), STATS)


def test_summaries_against_numpy():
    samples = normal((1,), (2, 7, 1, 3, 4))
    answer = posterior(samples)
    torch.testing.assert_close(answer.mean, samples.mean(1))
    torch.testing.assert_close(answer.std, samples.std(1))
    for q in (0.0, 0.05, 0.3, 0.5, 0.99, 1.0):
        expected = np.quantile(samples.numpy(), q, axis=1, method="hazen")
        torch.testing.assert_close(answer.quantile(q), torch.from_numpy(expected))
    with pytest.raises(ValueError, match="number in"):
        answer.quantile(95)


def test_save_and_load(tmp_path):
    answer = posterior(normal((1,), (2, 3, 1, 4, 4)).float())
    path = tmp_path / "deep" / "posterior.safetensors"
    answer.save(path)
    again = Posterior.load(path)
    assert torch.equal(again.samples, answer.samples)
    assert again.stats == answer.stats


def test_plot_writes_a_picture(tmp_path):
    answer = posterior(normal((1,), (2, 5, 3, 8, 8)).sigmoid())
    answer.plot(tmp_path / "a.png", truth=answer.mean)
    posterior(normal((1,), (1, 1, 8, 8))).plot(tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert (tmp_path / "b.png").stat().st_size > 2000


def test_crps_against_scoringrules():
    scoringrules = pytest.importorskip("scoringrules")
    samples, truth = normal((1,), (2, 9, 1, 3, 4)), normal((2,), (2, 1, 3, 4))
    ensemble = samples.movedim(1, -1).numpy()
    expected = scoringrules.crps_ensemble(truth.numpy(), ensemble, estimator="fair")
    ours = crps(posterior(samples), truth)
    torch.testing.assert_close(ours, torch.from_numpy(expected).flatten(1).mean(1))


@pytest.mark.parametrize("count", [2, 8, 18, 19, 64])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_calibrated_samples_cover_as_promised_whatever_their_number(count, level):
    pixels = 100 * 100
    truth, samples = normal((1,), (1, 100, 100)), normal((2,), (count, 1, 100, 100))
    found = float(coverage(posterior(samples), truth, level))
    assert abs(found - level) < 5 * (level * (1 - level) / pixels) ** 0.5


def test_overconfident_samples_cover_less_and_score_worse():
    truth, samples = normal((1,), (1, 100, 100)), normal((2,), (32, 1, 100, 100))
    assert float(coverage(posterior(samples / 2), truth)) < 0.65
    right = float(crps(posterior(samples), truth))
    assert right < float(crps(posterior(samples / 2), truth))
    assert right < float(crps(posterior(samples * 2), truth))


def test_chi_square_of_the_truth_is_one():
    operator = ops.Mask(ops.random_mask((1, 64, 64), 0.5), noise=ops.GaussianNoise(0.3))
    x = normal((1,), (1, 1, 64, 64))
    from tweedie_inverse.conditional.problem import residual_chi_square

    value = residual_chi_square(x, operator.measure(x, seed=2), operator, operator.noise)
    seen = int(operator.mask.sum())
    assert abs(float(value) - 1) < 5 * (2 / seen) ** 0.5


def test_public_names():
    for name in ti.__all__:
        assert hasattr(ti, name)
    for name in ops.__all__:
        assert hasattr(ops, name)
    assert list(ti.__all__) == sorted(ti.__all__)


def test_one_sample_is_every_quantile():
    samples = normal((1,), (2, 1, 1, 3, 4))
    for q in (0.0, 0.3, 1.0):
        torch.testing.assert_close(posterior(samples).quantile(q), samples[:, 0])
        torch.testing.assert_close(posterior(samples[0]).quantile(q), samples[0, 0])


def test_each_measurement_may_have_its_own_level():
    answer = posterior(normal((1,), (2, 7, 1, 3, 4)))
    found = answer.quantile(torch.tensor([0.2, 0.9], dtype=torch.float64))
    expected = torch.stack([answer.quantile(0.2)[0], answer.quantile(0.9)[1]])
    torch.testing.assert_close(found, expected)
