"""Candidates by their evidence: against closed forms, within the errors that are told."""

import math

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.particle_problems import bimodal
from tests.posteriors import prior_covariance, random_field
from tests.seeds import salted
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional import determinant, linear_gaussian
from tweedie_inverse.evaluation.compare.result import Comparison

FIELD = random_field(12)
SHAPE = FIELD.shape


def exact(operator, prior, std, y):
    """The textbook's log evidence of a Gaussian field, white noise."""
    matrix = ops.dense_matrix(operator)
    system = matrix @ prior_covariance(prior) @ matrix.mT
    system += std**2 * torch.eye(len(matrix)).double()
    law = torch.distributions.MultivariateNormal(matrix @ prior.mean.flatten().double(), system)
    return float(law.log_prob(y.flatten()))


def agree(found, expected, abs_):
    """Evidences, probabilities and the best are those of the closed forms."""
    for name, value in expected.items():
        assert found.log_evidence[name] == pytest.approx(value, abs=abs_)
    weights = torch.softmax(torch.tensor(list(expected.values())), 0).tolist()
    assert list(found.probabilities.values()) == pytest.approx(weights, abs=2 * abs_)
    assert found.best == max(expected, key=expected.get)


def blur(width, **settings):
    return ops.Blur(ops.gaussian_kernel(width, 9), SHAPE, **settings)


def test_noise_levels_of_a_field():
    scan = ops.Tomography(SHAPE, 8, noise=ops.GaussianNoise(0.3))  # 136 measurements
    y = scan.measure(FIELD.draw(1, seed=1)[0], seed=2)
    levels = (0.15, 0.25, 0.3, 0.6)
    found = ti.compare(y, scan, FIELD, noise=np.array(levels), repeats=2, num_samples=4, steps=3)
    agree(found, {f"noise {s:g}": exact(scan, FIELD, s, y) for s in levels}, 1e-6)
    assert max(found.standard_error.values()) < 1e-6
    assert found.undecided == ()
    assert found.probabilities["noise 0.15"] < 1e-6
    assert found.fits[2]


def test_operators_and_a_batch_of_measurements():
    noise, widths = ops.GaussianNoise(0.1), (0.6, 1.0, 1.6)
    y = blur(1.0, noise=noise).measure(FIELD.draw(2, seed=3), seed=4)
    named = {f"width {w}": blur(w, noise=noise) for w in widths}
    found = ti.compare(y, named, FIELD, repeats=2, num_samples=4, steps=3)
    expected = {
        name: sum(exact(operator, FIELD, 0.1, one) for one in y) for name, operator in named.items()
    }
    agree(found, expected, 1e-6)
    assert found.best == "width 1.0"
    first = ti.compare(y[0], named, FIELD, repeats=2, num_samples=4, steps=3)
    assert first.log_evidence["width 0.6"] == pytest.approx(
        exact(named["width 0.6"], FIELD, 0.1, y[0]), abs=1e-6
    )


def test_priors():
    noise = ops.GaussianNoise(0.1)
    smooth = ti.priors.Gaussian(
        FIELD.mean, power_spectrum=FIELD.covariance.variance.reshape(12, 12) ** 1.5
    )
    mask = ops.Mask(ops.random_mask(SHAPE, 0.8, seed=1), noise=noise)
    seen = ops.MatrixOperator(ops.dense_matrix(mask)[mask.observed.flatten()], noise=noise)
    flat = [
        ti.priors.Gaussian(prior.mean.flatten(), covariance=prior_covariance(prior))
        for prior in (FIELD, smooth)
    ]
    y = seen.measure(flat[1].draw(1, seed=5)[0], seed=6)
    found = ti.compare(y, seen, dict(zip(("rough", "smooth"), flat, strict=True)), repeats=2)
    expected = {"rough": exact(seen, flat[0], 0.1, y), "smooth": exact(seen, flat[1], 0.1, y)}
    agree(found, expected, 1e-6)
    assert found.best == "smooth"


@pytest.mark.parametrize("kind", ["noise", "operator"])
def test_beyond_dense_factors_the_closed_form_is_within_the_error(kind, monkeypatch):
    """Random probes, 576 measurements: every evidence and every difference."""
    monkeypatch.setattr(determinant, "_MULTIPLICATIONS", 0)
    field, shape = random_field(8), (1, 8, 8)
    levels, offsets = (0.2, 0.22), (0.0, 0.3)
    scans = [
        ops.Tomography(shape, 48, detector_offset=offset, noise=ops.GaussianNoise(0.2))
        for offset in offsets
    ]
    y = scans[0].measure(field.draw(1, seed=7)[0], seed=8)
    assert y.numel() > linear_gaussian.DIRECT_LIMIT
    settings = {"num_samples": 2, "steps": 2, "repeats": 5, "seed": salted(0)}
    if kind == "noise":
        found = ti.compare(y, scans[0], field, noise=levels, **settings)
        expected = [exact(scans[0], field, std, y) for std in levels]
    else:
        found = ti.compare(y, dict(zip("ab", scans, strict=True)), field, **settings)
        expected = [exact(scan, field, 0.2, y) for scan in scans]
    for name, value in zip(found.names, expected, strict=True):
        assert 0 < found.standard_error[name] < 3
        # 5 repeats: Student's law with 4 degrees of freedom.
        assert abs(found.log_evidence[name] - value) < 9 * found.standard_error[name]
        other = found.difference(name, found.names[0])
        assert abs(other.value - (value - expected[0])) < 9 * other.error + 0.02
    if kind == "noise":  # the same probes: their errors drop out of differences
        assert found.difference(*found.names[:2]).error < 0.3 * max(found.standard_error.values())
    assert found.best == found.names[expected.index(max(expected))]


def test_a_mixture_within_the_error_and_what_is_not_told_apart():
    """A prior that is no Gaussian: walkers scatter, and near candidates are not told apart."""
    prior, operator, y, _, log_evidence = bimodal()
    twin, *_ = bimodal()
    shares = torch.tensor([0.3, 0.7]).double()
    means = torch.tensor([[28.0, 28.0], [32.0, 32.0]]).double()
    far = ti.priors.GaussianMixture(means, shares, 0.5)
    candidates = {"right": prior, "far": far, "twin": twin}
    found = ti.compare(
        y, operator, candidates, num_samples=100, steps=20, repeats=6, seed=salted(0)
    )
    error = found.standard_error["right"]
    assert 0 < error < 0.1
    assert abs(found.log_evidence["right"] - float(log_evidence)) < 7 * error
    assert found.undecided == ("twin",)  # the same walkers, so that nothing differs
    assert found.probabilities["far"] < 1e-6
    assert found.probabilities["right"] == pytest.approx(0.5)
    text = str(found)
    assert "Within the error of the best: twin" in text
    assert "6 populations of 100 walkers" in text
    assert text.splitlines()[1].split()[0] == "right"
    assert text.splitlines()[3].split()[0] == "far"


def test_where_no_candidate_is_right_the_table_says_so():
    """Motion blur under a family of Gaussian blurs: one of them is the best, and does not fit."""
    noise = ops.GaussianNoise(0.01)
    motion = ops.Blur(ops.motion_kernel(9, length=6.0, angle=20), SHAPE, noise=noise)
    y = motion.measure(FIELD.draw(1, seed=9)[0], seed=10)
    family = {f"width {w}": blur(w, noise=noise) for w in (1.3, 1.8)}
    found = ti.compare(y, family, FIELD, repeats=2)
    assert not any(found.fits)
    assert "Even the best does not fit: " in str(found)
    with_it = ti.compare(y, {**family, "motion": motion}, FIELD, repeats=2)
    assert with_it.best == "motion"
    assert with_it.probabilities["motion"] > 1 - 1e-9
    assert "Even the best" not in str(with_it)
    assert "(!) does not fit y" in str(with_it)


def test_the_same_seed_gives_the_same_comparison_and_another_one_another():
    prior, operator, y, *_ = bimodal()
    settings = {"noise": {"a": 3.0, "b": 2.0}, "num_samples": 20, "steps": 5, "repeats": 2}
    first, again = (ti.compare(y, operator, prior, **settings) for _ in range(2))
    assert torch.equal(first.estimates, again.estimates)
    assert repr(first) == str(first)
    other = ti.compare(y, operator, prior, seed=1, **settings)
    assert not torch.isclose(other.estimates[:, :1], first.estimates).any()
    assert not torch.equal(first.estimates[:, 0], first.estimates[:, 1])


def test_candidates_without_names_get_them():
    operator = blur(1.0, noise=ops.GaussianNoise(0.1))
    y = torch.zeros(SHAPE).double()
    found = ti.compare(y, [operator, operator], FIELD, repeats=2)
    assert found.names[1].endswith("#2")
    one = ti.compare(y, operator, FIELD, noise=[ops.GaussianNoise(0.2)], repeats=2)
    assert one.names == ("GaussianNoise(0.2)",)
    assert one.probabilities == {"GaussianNoise(0.2)": 1.0}
    with pytest.raises(KeyError, match="no candidate 'x'; there are 'GaussianNoise"):
        one.difference("x", one.best)


WHITE = ops.GaussianNoise(0.1)
ZEROS = torch.zeros(SHAPE).double()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a list or a dict of candidates .* none is one"),
        ({"noise": [0.1], "prior": [FIELD]}, "prior and noise are"),
        ({"noise": []}, "at least one candidate, got none"),
        ({"noise": {"a": 0.1, "b": -1.0}}, "compare: candidate 'b': .*positive"),
        ({"noise": {"a": 0.1, "b": ops.PoissonNoise(1.0)}}, "compare: candidate 'b'"),
        ({"prior": [FIELD, 3]}, "compare: candidate 'prior 3': prior must be"),
        (
            {"operator": {"small": blur(1.0), "large": ops.Mask(torch.ones(1, 9, 9), noise=WHITE)}},
            "compare: candidate 'small': .*noise level is unknown",
        ),
        ({"noise": [0.1], "repeats": 1}, "2 populations or more"),
        ({"noise": [0.1], "method": "decoupled"}, "needs ti.walks.Particle"),
        ({"noise": [0.1], "method": ti.walks.Decoupled()}, "needs ti.walks.Particle"),
        ({"noise": [0.1], "num_samples": 0}, "at least one sample"),
        ({"noise": [0.1], "seed": 0.5}, r"compare\(seed=0.5\)"),
    ],
)
def test_bad_input_is_refused(settings, message):
    given = {"operator": blur(1.0, noise=WHITE), "prior": FIELD, **settings}
    with pytest.raises((ValueError, TypeError), match=message):
        ti.compare(ZEROS, given.pop("operator"), given.pop("prior"), **given)


def test_densities_of_different_entries_are_not_compared():
    masks = [ops.Mask(ops.random_mask(SHAPE, 0.5, seed=s), noise=WHITE) for s in (1, 2)]
    with pytest.raises(ValueError, match="observe different entries of y"):
        ti.compare(ZEROS, masks, FIELD)
    assert math.isfinite(ti.compare(ZEROS, masks[:1], FIELD, repeats=2).estimates.sum())


def test_errors_by_hand():
    """Scatter over the root of the repeats, the logarithm's bias, and Student's law."""
    estimates = torch.tensor([[1.0, 3.0], [0.0, 2.2], [-9.0, -9.0]]).double()
    found = Comparison(
        "noise", ("a", "b", "c"), estimates, (1.0,) * 3, (True,) * 3, ("fine",) * 3, 10
    )
    assert found.log_evidence == pytest.approx({"a": 2.0, "b": 1.1, "c": -9.0})
    assert found.standard_error["a"] == pytest.approx(math.hypot(1.0, 2 / 2))
    assert found.standard_error["c"] == 0
    near, far = found.difference("a", "b"), found.difference("a", "c")
    assert near[:2] == pytest.approx((0.9, math.hypot(0.1, (2.42 - 2.0) / 2)))
    assert not near.is_told  # two repeats: 12.7 standard errors are needed
    assert not far.is_told
    assert found.undecided == ("b", "c")
    assert found.probability_error["a"] == pytest.approx(
        float(torch.softmax(estimates, 0)[0].std()) / math.sqrt(2)
    )
    sure = Comparison(
        "noise", ("a", "b"), estimates[[2, 2]] + torch.tensor([[0.0], [1e-3]]), *[(1.0, 1.0)] * 3, 1
    )
    assert sure.difference("b", "a").is_told
    assert sure.undecided == ()
