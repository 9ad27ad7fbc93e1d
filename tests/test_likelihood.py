"""The bound and the exact likelihood against closed forms, and all forms of the network as one."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.registry import PRIORS
from tests.test_priors import Exact
from tweedie_inverse.density.bound import FORM_FACTORS, denoising_matching
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import tweedie

FORMS = sorted(FORM_FACTORS)


def mixture():
    """Three far components: most of the information is in the choice between them."""
    weights = torch.tensor([0.1, 0.6, 0.3]).double()
    return ti.priors.GaussianMixture(4 * normal((4,), (3, 5)), weights, 0.7)


TARGETS = {"field": lambda: random_field(8), "mixture": mixture}


@pytest.fixture(params=TARGETS)
def target(request):
    return TARGETS[request.param]()


def z_score(found, exact):
    """Of the mean over images, whose own scatter is in both."""
    return (found.mean - float(exact.mean())) / found.mean_standard_error


@pytest.mark.parametrize("name", PRIORS)
def test_log_prob_has_the_score_as_its_gradient(name):
    """At three noise levels in one call."""
    prior = PRIORS[name]()
    x = normal((1,), (3, *prior.shape)).double().requires_grad_(True)
    sigma = torch.tensor([0.3, 1.0, 4.0]).double()
    (gradient,) = torch.autograd.grad(prior.log_prob(x, sigma).sum(), x)
    torch.testing.assert_close(gradient, prior.score(x.detach(), sigma), rtol=1e-8, atol=1e-8)


def test_log_prob_agrees_with_torch_and_integrates_to_one():
    prior = PRIORS["gaussian-dense"]()
    x = normal((2,), (6, 4))
    matrix = torch.tensor([2.0, 1.0, 0.5, 0.1]).diag().double() + 0.2
    exact = torch.distributions.MultivariateNormal(prior.mean, matrix + 0.25 * torch.eye(4))
    torch.testing.assert_close(prior.log_prob(x, 0.5), exact.log_prob(x), rtol=1e-6, atol=1e-6)
    line = torch.linspace(-9, 9, 4001).double()[:, None]
    pair = ti.priors.GaussianMixture(torch.tensor([[-2.0], [1.0]]).double(), torch.ones(2), 0.4)
    assert float(pair.log_prob(line, 0.3).exp().sum()) * 18 / 4000 == pytest.approx(1, abs=1e-9)
    with pytest.raises(ValueError, match="no density"):
        ti.priors.Empirical(torch.zeros(2, 3)).log_prob(torch.zeros(1, 3))


@pytest.mark.parametrize("time", ["importance", "stratified", "uniform"])
def test_continuous_bound_of_an_exact_denoiser_is_the_likelihood(target, time):
    """A lost factor 1/2, a wrong decoder or a biased time would be off by hundreds of z."""
    images = target.draw(200, seed=3).double()
    exact = target.log_prob(images)
    found = ti.likelihood(target, images, method=ti.Bound(time=time, levels=16, repeats=4), seed=5)
    assert abs(z_score(found, exact)) < 5
    # Small, or the test would see nothing.
    assert found.mean_standard_error / found.dimensions < (0.15 if time == "uniform" else 0.04)
    # Image by image: their standard errors are right, too (Student's t with 3 degrees: var 3).
    each = (found.value - exact) / found.standard_error
    assert float(each.abs().median()) < 1.2
    torch.testing.assert_close(sum(found.terms.values()), found.value)


def test_importance_and_strata_lower_the_standard_error():
    """Importance pays where the error of the denoiser stretches over many noise levels.

    Elsewhere it may lose, by less than a factor of two.
    """
    for name, gain in (("field", 0.8), ("mixture", 2.0)):
        target = TARGETS[name]()
        images = target.draw(150, seed=3).double()
        error = {
            time: ti.likelihood(
                target, images, method=ti.Bound(time=time, levels=16, repeats=8), seed=1
            ).mean_standard_error
            for time in ("importance", "stratified", "uniform")
        }
        assert error["stratified"] < 0.5 * error["uniform"]
        assert error["importance"] < gain * error["stratified"]


def expected_matching(prior, images, sigmas):
    """Denoising matching of a Gaussian prior, the mean over the noise taken by hand."""
    s = prior.covariance.variance.flatten()
    offset = prior.covariance.basis.transform(images - prior.mean).flatten(1).square()
    total = torch.zeros(len(images)).double()
    for low, high in pairwise(sigmas):
        error = (high**2 * offset.sqrt()) ** 2 + (s * high) ** 2
        drop = low**-2 - high**-2
        total += drop / 2 * (error / (s + high**2) ** 2).sum(1)
    return total


def test_each_term_is_its_own_closed_form():
    """At ends so near the data that no term is negligible."""
    field, low, high = random_field(8), 0.3, 1.5
    images = field.draw(50, seed=8)
    method = ti.Bound(steps=6, levels=5, repeats=16, sigma_min=low, sigma_max=high)
    found = ti.likelihood(field, images, method=method, seed=1)

    def normal_of(mean, std):
        return Independent(Normal(mean, std * torch.ones_like(mean)), 3)

    start = kl_divergence(normal_of(images, high), normal_of(torch.zeros_like(images), high))
    torch.testing.assert_close(found.terms["prior matching"], -start)
    levels = ti.schedules.geometric(6, low, high)[:-1].flip(0)
    matching = found.terms["denoising matching"] + expected_matching(field, images, levels)
    # The decoder's error at one level, by the same formula: a step of all the SNR.
    s = field.covariance.variance.flatten()
    offset = field.covariance.basis.transform(images).flatten(1).square()
    error = ((low**4 * offset + s**2 * low**2) / (s + low**2) ** 2).sum(1)
    exact = -error / (2 * low**2) - 32 * math.log(2 * math.pi * low**2)
    reconstruction = found.terms["reconstruction"] - exact
    for difference in (matching, reconstruction, matching + reconstruction):
        assert abs(float(difference.mean())) < 5 * found.mean_standard_error
    assert found.mean_standard_error < 0.05 * float(start.mean())


def test_discrete_bound_is_below_and_tightens_as_one_over_steps():
    """The gap is known exactly for a Gaussian: half as large for twice the steps."""
    field = random_field(8)
    images = field.draw(100, seed=4)
    exact = field.log_prob(images)
    fine = ti.schedules.geometric(20_000, field.sigma_min, field.sigma_max)[:-1].flip(0)
    limit = expected_matching(field, images, fine)
    gaps = []
    for steps in (100, 200, 400):
        levels = ti.schedules.geometric(steps, field.sigma_min, field.sigma_max)[:-1].flip(0)
        matching = expected_matching(field, images, levels)
        found = ti.likelihood(field, images, method=ti.Bound(steps=steps, levels=48), seed=steps)
        spread = found.mean_standard_error
        assert abs(float((found.terms["denoising matching"] + matching).mean())) < 5 * spread
        assert float(exact.mean()) - found.mean > 5 * spread
        gaps.append((float((matching - limit).mean()), float(exact.mean()) - found.mean, spread))
    for (predicted, measured, spread), (half, _, _) in pairwise(gaps):
        assert predicted / half == pytest.approx(2, rel=0.06)
        assert abs(measured - predicted) < 5 * spread


def test_discrete_bound_visits_each_step_when_it_can():
    """As many stratified levels as steps: the whole sum, and a smaller error than by chance."""
    field = random_field(8)
    images = field.draw(40, seed=4)
    every = ti.likelihood(field, images, method=ti.Bound(steps=25, levels=24, time="stratified"))
    chance = ti.likelihood(field, images, method=ti.Bound(steps=25, levels=24, time="uniform"))
    assert every.mean_standard_error < 0.2 * chance.mean_standard_error
    assert abs(every.mean - chance.mean) < 5 * chance.mean_standard_error


def test_a_worse_denoiser_has_a_lower_bound():
    """The bound judges priors: the right one of two costs fewest bits per dimension."""
    images = random_field(8).draw(20, seed=1)
    flat = ti.priors.Gaussian(torch.zeros(1, 8, 8).double(), covariance=torch.eye(64) / 4)
    right, wrong = ti.likelihood(random_field(8), images), ti.likelihood(flat, images)
    assert float((right.bits_per_dimension < wrong.bits_per_dimension).double().mean()) == 1
    assert abs(z_score(wrong, flat.log_prob(images))) < 5


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_probability_flow_agrees_with_the_closed_form(target, trace):
    images = target.draw(6 if trace == "exact" else 20, seed=6).double()
    exact = target.log_prob(images)
    method = ti.ProbabilityFlow(trace=trace, repeats=4, tolerance=1e-6)
    found = ti.likelihood(target, images, method=method)
    error = (found.value - exact) / found.dimensions
    if trace == "exact":
        assert float(error.abs().max()) < 1e-3
        assert float(found.standard_error.max()) == 0
    else:  # the trace scatters, and says by how much
        assert abs(float(error.mean())) < 5 * found.mean_standard_error / found.dimensions + 1e-3


def test_flow_asks_autograd_for_the_same_trace(target):
    """One level of the ODE, against a Jacobian by differences."""
    from tweedie_inverse.density.probability_flow import _exact_trace

    x, step = target.draw(2, seed=1).double(), 1e-5
    found = _exact_trace(target, x, 0.8, x)[1]
    units = torch.eye(x[0].numel()).double().reshape(-1, *target.shape)
    for image, trace in zip(x, found, strict=True):
        ahead, behind = (
            target.denoise(image + step * units, 0.8),
            target.denoise(image - step * units, 0.8),
        )
        rows = ((ahead - behind) / (2 * step)).flatten(1)
        assert float(rows.diagonal().sum()) == pytest.approx(float(trace), rel=1e-6)


def vp_means(x, clean, abar_t, abar_s):
    """Luo 2022, equation 116 (mean) and the variance above it, of q(x_s | x_t, x0)."""
    alpha = abar_t / abar_s
    mean = (alpha.sqrt() * (1 - abar_s) * x + abar_s.sqrt() * (1 - alpha) * clean) / (1 - abar_t)
    return mean, (1 - alpha) * (1 - abar_s) / (1 - abar_t)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_kl_of_the_paper_with_its_gradient(form):
    """Against torch's own KL of Luo's variance-preserving posteriors; float64, 1e-10."""
    count, shape = 7, (2, 3, 3)
    clean, noise = normal((1,), (count, *shape)), normal((2,), (count, *shape))
    sigma = torch.logspace(-2, 2, count, dtype=torch.float64)
    s = 0.7 * sigma
    column = sigma.reshape(-1, 1, 1, 1)
    x = clean + column * noise
    gain = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def network(kind):
        """One denoiser, D = clean + tanh(gain x), as a network of each form would return it."""
        denoised = clean + torch.tanh(gain * x)
        return (
            denoised
            if kind == "x0"
            else getattr(tweedie, f"{kind}_from_denoised")(x, denoised, column)
        )

    found = denoising_matching(form, network(form), clean, noise, sigma, s**-2 - sigma**-2)
    abar_t, abar_s = (1 / (1 + level.reshape(-1, 1, 1, 1) ** 2) for level in (sigma, s))
    true, variance = vp_means(x * abar_t.sqrt(), clean, abar_t, abar_s)
    model, _ = vp_means(x * abar_t.sqrt(), network("x0"), abar_t, abar_s)
    std = variance.sqrt().expand_as(true)
    kl = kl_divergence(Independent(Normal(true, std), 3), Independent(Normal(model, std), 3))
    torch.testing.assert_close(found, kl, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(found, kl, strict=True):
        pair = [torch.autograd.grad(value, gain, retain_graph=True)[0] for value in (mine, theirs)]
        torch.testing.assert_close(*pair, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["x0", "epsilon", "v", "score", "edm", "flow"])
def test_bound_is_that_of_the_network_whatever_it_returns(kind):
    """Data with offset 12 and scale 2: units of the density come out right, too."""
    prior = ti.priors.NetworkPrior(
        Exact(kind), kind, shape=(5,), offset=12.0, scale=2.0, sigma_min=0.01, sigma_max=80.0
    )
    exact = ti.priors.Gaussian(torch.full((5,), 12.6).double(), covariance=torch.eye(5) * 1.6**2)
    images = exact.draw(100, seed=1)
    found = ti.likelihood(prior, images, method=ti.Bound(levels=24))
    assert abs(z_score(found, exact.log_prob(images))) < 5


def test_quantized_images_have_a_probability():
    """Bins of width 1 under N(0, 3^2): the bound is below the exact entropy, and close to it."""
    prior = ti.priors.Gaussian(torch.zeros(4).double(), covariance=9 * torch.eye(4))
    images = prior.draw(400, seed=2).round()
    edges = Normal(0.0, torch.tensor(3.0).double())
    exact = (edges.cdf(images + 0.5) - edges.cdf(images - 0.5)).log().sum(1)
    found = ti.likelihood(prior, images, bin_width=1.0, method=ti.Bound(levels=16, repeats=8))
    gap = float(exact.mean()) - found.mean
    assert -5 * found.mean_standard_error < gap < 0.1
    assert "volume of the bins" in found.terms
    fine = ti.likelihood(prior, images, bin_width=0.5, method="flow")
    assert fine.mean == pytest.approx(float(exact.mean()) + 4 * math.log(0.5), abs=0.2)


def test_result_is_fixed_by_the_seed_and_not_by_the_batch():
    images = mixture().draw(7, seed=1)
    whole = ti.likelihood(mixture(), images, seed=3)
    parts = ti.likelihood(mixture(), images, seed=3, batch_size=2)
    torch.testing.assert_close(whole.value, parts.value)
    assert not torch.equal(whole.value, ti.likelihood(mixture(), images, seed=4).value)
    bits, error = whole.mean_bits_per_dimension
    assert bits == pytest.approx(float(whole.bits_per_dimension.mean()))
    assert error == pytest.approx(whole.mean_standard_error / (5 * math.log(2)))
    assert f"{bits:.4f} +- {error:.4f} bits per dimension" in repr(whole)


def test_cost_is_as_declared():
    from tweedie_inverse.priors.counting import CountedPrior

    prior = CountedPrior(mixture())
    method = ti.Bound(levels=5, repeats=3)
    ti.likelihood(prior, mixture().draw(4, seed=1), method=method)
    assert prior.calls == 4 * 3 * (5 + 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: ti.likelihood(p, x, method="exact"), "choose 'bound' or 'flow'"),
        (lambda p, x: ti.likelihood(p, x[:, :3]), "images of shape"),
        (lambda p, x: ti.likelihood(p, x / 0), "NaN or infinity"),
        (lambda p, x: ti.likelihood(p, x, bin_width=0.0), "positive width"),
        (lambda p, x: ti.likelihood(p, x, method=ti.Bound(time="linear")), "importance"),
        (lambda p, x: ti.likelihood(p, x, method=ti.Bound(repeats=1)), "repeats >= 2"),
        (lambda p, x: ti.likelihood(p, x, method=ti.Bound(sigma_min=1e9)), "0 < sigma_min"),
        (lambda p, x: ti.ProbabilityFlow(trace="none"), "'exact' or 'hutchinson'"),
    ],
)
def test_wrong_calls_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(mixture(), mixture().draw(2, seed=1))
