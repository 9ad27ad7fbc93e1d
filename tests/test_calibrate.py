"""The certificate on exact posteriors: right samplers pass, planted faults are found and named."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.seeds import salted
from tests.test_posterior import posterior
from tweedie_inverse import operators as ops
from tweedie_inverse.evaluation.calibrate import plan, samplers
from tweedie_inverse.evaluation.calibrate.curves import coverage_curve, rank_band, rank_curve
from tweedie_inverse.evaluation.calibrate.families import Family
from tweedie_inverse.evaluation.calibrate.null import Null
from tweedie_inverse.evaluation.calibrate.ranks import pooled_ranks, ranks_among, score_table
from tweedie_inverse.numerics.random import generator, normal

SHAPE, NOISE = (1, 4, 4), 0.5
WHITE = ti.priors.Gaussian(torch.zeros(SHAPE), torch.eye(16))
OPERATOR = ops.Mask(torch.ones(SHAPE), noise=ops.GaussianNoise(NOISE))


def exact(y, count, seed, *, std=NOISE, shrink=1.0, bias=0.0):
    """The posterior of white images, as of a solver that is told `std`, or spoilt."""
    variance = std**2 / (1 + std**2)
    noise = normal(("exact", seed), (count, *SHAPE)).to(y)
    return y / (1 + std**2) + variance**0.5 * (shrink * noise + bias)


def calibrated(sampler=exact, **settings):
    settings = {"count": 40, "num_samples": 9, "seed": salted(0), "power": False, **settings}
    return ti.calibrate(OPERATOR, WHITE, sampler=sampler, **settings)


def spoilt(**settings):
    return lambda y, count, seed: exact(y, count, seed, **settings)


# Ranks.


def test_scores_of_ranks_are_orthonormal():
    table = score_table(16)
    torch.testing.assert_close(table @ table.mT / 16, torch.eye(4).double())
    torch.testing.assert_close(table.mean(1), torch.zeros(4).double(), atol=1e-12, rtol=0)
    assert float(table[0, 15]) > 0 < float(table[1, 15])  # high ranks, and outer ones


def test_ties_are_broken_at_random():
    """Statistics that are all equal, as of clipped pixels: every rank is as likely."""
    ranks = pooled_ranks(torch.zeros(4000, 5, 1), salted(1))
    assert torch.equal(ranks.sort(1).values, torch.arange(5).reshape(1, 5, 1).expand_as(ranks))
    counts = torch.bincount(ranks[:, 0, 0], minlength=5).double()
    assert float(((counts - 800) ** 2 / (800 * 0.8)).sum() * 0.8) < 25  # chi-square of 4


def test_ranks_among_others_leave_out_their_own_sample():
    values = torch.tensor([[3.0], [1.0], [2.0]])
    everyone, some = torch.ones(3, dtype=torch.bool), torch.tensor([True, True, False])
    assert ranks_among(values, values, everyone, (0, 0)).flatten().tolist() == [2, 0, 1]
    found = [ranks_among(values, values, some, (salted(0), k)) for k in range(100)]
    assert {int(one[0]) for one in found} == {1, 2}  # the one other is below: the upper half


# The test of all ranks together.

FAMILIES = (Family("many", tuple("abcdef"), True), Family("single", ("x", "y"), False))


def p_value(values, seed):
    null = Null(pooled_ranks(values, seed), FAMILIES, seed, permutations=199)
    return float(null.judge(null.sums(null.ranks, torch.zeros(1, len(values)).long())).combined)


def test_false_alarms_come_at_the_level():
    """Statistics that depend on each other, with ties, of another law at every truth."""
    alarms = 0
    for k in range(100):
        values = normal(("dependent", salted(k)), (12, 6, 8)).cumsum(2)
        scale = normal(("laws", salted(k)), (12, 1, 1)).exp()
        alarms += p_value((scale * values).round(), salted(k)) <= 0.1
    assert abs(alarms - 10) < 4 * math.sqrt(100 * 0.1 * 0.9)


@pytest.mark.parametrize("fault", [lambda x: x + 0.5, lambda x: 2 * x])
def test_one_wrong_statistic_of_many_is_seen(fault):
    values = normal(("one", salted(3)), (200, 6, 8))
    values[:, 0, 7] = fault(values[:, 0, 7])
    assert p_value(values, salted(3)) <= 0.01


def test_bands_hold_whole_curves():
    """A curve of uniform ranks leaves its band one time in twenty, wherever it does."""
    band = rank_band(50, 16, salted(0))
    random = generator(("bands", salted(0)))
    curves = [rank_curve(torch.from_numpy(random.integers(16, size=50)), 16) for _ in range(500)]
    inside = sum(band._replace(found=curve).inside for curve in curves)
    assert abs(inside - 475) < 5 * math.sqrt(500 * 0.05 * 0.95) + 8  # the band is simulated, too


def test_coverage_counts_truths_between_order_statistics():
    """Five draws, so that the two intervals cover 3 of 5 and 1 of 5 of what could be the truth."""
    ranks = torch.tensor([[0], [1], [2], [3], [4]]).expand(4, 5, 1).clone()
    ranks[1:, [0, 2]] = ranks[1:, [2, 0]]  # one truth is the lowest, three are in the middle
    curve = coverage_curve(ranks, torch.zeros(3, 4, dtype=torch.long))
    torch.testing.assert_close(curve.levels, torch.tensor([0.2, 0.6]).double())
    torch.testing.assert_close(curve.found, torch.tensor([0.75, 0.75]).double())


# Scores.


@pytest.mark.parametrize("count", [2, 9])
def test_scores_equal_those_of_scoringrules(count):
    rules = pytest.importorskip("scoringrules")
    samples, truth = normal((1,), (3, count, 1, 3, 4)), normal((2,), (3, 1, 3, 4))
    found = posterior(samples)
    flat, image = samples.flatten(2).numpy(), truth.flatten(1).numpy()
    crps = rules.crps_ensemble(image, flat.transpose(0, 2, 1), estimator="fair").mean(1)
    energy = rules.es_ensemble(image, flat, estimator="fair")
    torch.testing.assert_close(
        ti.calibration.crps(found, truth), torch.from_numpy(crps), atol=1e-9, rtol=0
    )
    torch.testing.assert_close(
        ti.calibration.energy_score(found, truth), torch.from_numpy(energy), atol=1e-9, rtol=0
    )
    alone = ti.calibration.energy_score(found[0], truth[0])
    torch.testing.assert_close(alone, torch.tensor(energy[0]), atol=1e-9, rtol=0)


def test_spread_over_skill_is_one_for_few_exact_samples():
    draws = normal(("skill", salted(0)), (4, 1, 200, 200))
    found = ti.calibration.spread_over_skill(posterior(draws[1:]), draws[0])
    assert abs(float(found) - 1) < 5 * 1.5 / 200
    with pytest.raises(ValueError, match="two or more samples"):
        ti.calibration.spread_over_skill(posterior(draws[:1]), draws[0])


# The certificate.


def test_exact_samples_pass_and_the_certificate_says_what_it_is_worth(tmp_path):
    found = calibrated(power=True, count=30, statistics={"corner": lambda x: x[:, 0, 0, 0]})
    assert found.p_value > 0.005  # a false alarm at 0.05 is none of this test's business
    assert "corner" in found.p_values
    assert found.power["none"].seen < 0.15
    assert found.power["noise twice what the solver is told"].seen > 0.9
    assert abs(found.scores["spread over skill"] - 1) < 0.2
    assert any("Stein" in line for line in found.not_tested)
    assert str(found).count("\n") > 10
    found.save(tmp_path / "c.safetensors")
    again = ti.Calibration.load(tmp_path / "c.safetensors")
    assert str(again) == str(found)
    again.report(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert found.verdict.split(":")[0] in text
    assert 'src="data:image/png;base64,' in text
    assert "://" not in text


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"shrink": 0.6}, "spread too little"),
        ({"shrink": 1.6}, "spread too much"),
        ({"bias": 0.4}, "too high"),
        ({"std": 1.0}, ""),
    ],
)
def test_wrong_samplers_fail_and_are_described(fault, word):
    found = calibrated(spoilt(**fault))
    assert not found.passed
    assert found.verdict.startswith("failed: p = 0.0")
    assert word in " ".join(found.findings)


def test_what_really_measures_may_differ_from_what_the_solver_is_told():
    loud = ops.Mask(torch.ones(SHAPE), noise=ops.GaussianNoise(2 * NOISE))
    assert not calibrated(instrument=loud).passed
    assert calibrated(spoilt(std=2 * NOISE), instrument=loud).p_value > 0.005


def test_images_of_the_user_test_the_prior_as_well():
    images = 2 * normal(("images", salted(0)), (40, *SHAPE)).float()
    found = calibrated(images=images, count=None)
    assert (found.count, found.passed) == (40, False)
    assert "prior and walk together" in found.truths


def test_solve_is_tested_by_default_and_each_truth_is_its_own(tmp_path):
    short = {"count": 20, "num_samples": 5, "steps": 3, "seed": salted(0), "power": False}
    found = ti.calibrate(OPERATOR, WHITE, **short)
    again = ti.calibrate(OPERATOR, WHITE, **{**short, "count": 21}, folder=tmp_path)
    assert torch.equal(again.ranks[:20, :16], found.ranks[:, :16])
    assert found.evaluations == 3
    assert found.inconsistent == 0


class Network(ti.priors.Prior):
    """White images as a network has them: a denoiser that is not known to be exact."""

    shape, sigma_min, sigma_max = SHAPE, 0.01, 50.0

    def denoise(self, x, sigma):
        return WHITE.denoise(x, sigma)

    def denoising_error(self, sigma):
        return WHITE.denoising_error(sigma)


class Doubled(ti.priors.Gaussian):
    """A denoiser that is called at twice the noise level."""

    def denoise(self, x, sigma):
        return super().denoise(x, 2 * sigma)


def test_truths_of_a_network_are_its_own_samples_and_cost_evaluations(monkeypatch):
    monkeypatch.setattr(plan, "TRUTH_STEPS", 7)
    short = {"num_samples": 5, "steps": 3, "power": False}
    with pytest.raises(ValueError, match="pays for 14 truths at 27 evaluations each"):
        ti.calibrate(OPERATOR, Network(), budget=400, **short)
    found = ti.calibrate(OPERATOR, Network(), budget=550, **short)
    assert found.count == 20
    assert "own sampler (ddim, 7 evaluations)" in found.truths


def test_a_prior_called_at_twice_sigma_is_found_out():
    wrong = Doubled(torch.zeros(SHAPE), torch.eye(16))
    found = ti.calibrate(
        OPERATOR, wrong, steps=10, count=40, num_samples=9, seed=salted(0), power=False
    )
    assert not found.passed


def test_a_population_is_large_and_gives_a_few_of_its_walkers(monkeypatch):
    monkeypatch.setattr(samplers, "POPULATION", 100)
    prior = ti.priors.GaussianMixture(torch.tensor([[-2.0], [2.0]]), torch.ones(2), 0.5)
    operator = ops.MatrixOperator(torch.ones(1, 1), noise=ops.GaussianNoise(2.0))
    found = ti.calibrate(
        operator, prior, method="particle", steps=4, count=20, num_samples=5, power=False
    )
    assert "100 walkers" in found.settings["sampler"]
    assert any("population" in line for line in found.not_tested)


# Folders.


def test_a_killed_run_goes_on(tmp_path):
    calls = []

    def counted(y, count, seed):
        calls.append(seed)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return exact(y, count, seed)

    short = {"count": 20, "num_samples": 5, "folder": tmp_path, "power": True}
    with pytest.raises(KeyboardInterrupt):
        calibrated(counted, **short)
    found = calibrated(counted, **short)
    assert len(calls) == 21
    (tmp_path / "truth-00003.safetensors").write_bytes(b"damaged")
    again = calibrated(counted, **short)
    assert (again.p_value, again.power) == (found.p_value, found.power)
    assert len(calls) == 22
    with pytest.raises(ValueError, match="truths of other settings"):
        calibrated(counted, **{**short, "num_samples": 6})


# Refusals, before any truth is solved.


def never(y, count, seed):
    raise AssertionError("it was called")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 10}, "20 truths or more"),
        ({"num_samples": 2}, "num_samples=2"),
        ({"budget": 100}, "pays for 11 truths at 9 evaluations each"),
        ({"images": torch.zeros(5, *SHAPE)}, "20 images or more"),
        ({"images": torch.zeros(30, *SHAPE), "count": 40}, "used twice is not a second truth"),
        ({"statistics": {"f": lambda x: x.sum()}}, "'f' is given images"),
        ({"level": 0.9}, "level=0.9"),
        ({"instrument": ops.Mask(torch.ones(1, 2, 2))}, "needs the shapes of the operator"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        calibrated(never, **settings)


def test_what_a_sampler_returns_is_checked():
    with pytest.raises(ValueError, match=r"needs samples of shape \(9, 1, 4, 4\)"):
        calibrated(lambda y, count, seed: torch.zeros(3, *SHAPE))


def test_a_budget_leaves_out_truths():
    assert calibrated(budget=9 * 25).count == 25


# Conformal intervals.


def test_recalibrated_intervals_cover_images_that_the_prior_does_not_know():
    """Images five times as bright as the prior's; the pixels of each share a brightness."""

    def images(key, count):
        return 5 * normal((key, salted(0)), (count, 1, 1, 1)) * torch.ones(SHAPE)

    corner = {"corner": lambda x: x[:, 0, 0, :2]}
    new, settings = images("new", 400), {"num_samples": 9, "power": False}
    calibration = calibrated(images=images("old", 79), count=None, statistics=corner, **settings)
    y = OPERATOR.measure(new, seed=salted(1))
    samples = torch.stack([exact(one, 9, salted(k)) for k, one in enumerate(y)])
    plain = posterior(samples)
    found = calibration.recalibrated(plain)
    covered = []
    for of, truth in ((None, new), (corner, new[:, 0, 0, :2])):
        low, high = found.interval(0.9, of=of)
        inside = ((truth >= low) & (truth <= high)).double().flatten(1).mean(1)
        covered.append(float(inside.mean()))
        # Over calibrations the coverage has a Beta law of 79 truths; 400 new ones are counted.
        assert abs(covered[-1] - 0.9) < 4 * math.sqrt(0.09 * (1 / 79 + 1 / 400))
    assert float(ti.calibration.coverage(plain, new).mean()) < 0.7
    assert "by conformal prediction from 79 truths" in repr(found)
    with pytest.raises(ValueError, match="it takes 99 or more"):
        found.interval(0.99)
    with pytest.raises(ValueError, match="was not calibrated"):
        found.interval(of={"edge": corner["corner"]})
    with pytest.raises(ValueError, match="num_samples 8, where the calibration has 9"):
        calibration.recalibrated(posterior(samples[:, :8]))
