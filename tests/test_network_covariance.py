"""The covariance of the draw, read from the network: exact for Gaussian priors, and guarded."""

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests import registry
from tests.posteriors import agreement, gaussian_posterior, random_field
from tests.test_exactness import OPERATORS
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.studies import overlapping_modes
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.secant import secant
from tweedie_inverse.numerics.spectral import Fourier
from tweedie_inverse.priors.error.from_network import covariance_of, observe, probe
from tweedie_inverse.priors.error.layout import layout_for
from tweedie_inverse.walks.base import Level
from tweedie_inverse.walks.covariance_sources import Measured, Place

NETWORK = ti.walks.Decoupled(error="network")


class Bare(ti.priors.Prior):
    """The denoiser of another prior, whose error nobody has measured."""

    def __init__(self, prior, change=lambda denoised, x: denoised):
        self.prior, self.shape, self.centre, self.change = prior, prior.shape, prior.centre, change
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max

    def denoise(self, x, sigma):
        return self.change(self.prior.denoise(x, sigma), x)

    def denoising_error(self, sigma):
        raise AssertionError("the table must not be asked")

    @property
    def error_is_measured(self):
        return False


def dense(covariance, index, shape):
    """The covariance matrix of one walker, from its action on unit images."""
    size = torch.Size(shape).numel()
    units = torch.eye(size).double().reshape(size, *shape)
    one = Covariance(
        covariance.basis,
        covariance.variance[[index]] if covariance.variance.ndim > 3 else covariance.variance,
        None if covariance.scale is None else covariance.scale[[index]],
        tuple(
            type(s)(s.p[[index]].expand_as(units), s.s[[index]].expand_as(units))
            for s in covariance.secants
        ),
    )
    return one, one.apply(units).reshape(size, size)


@pytest.mark.parametrize(
    ("name", "std", "count"),
    [
        ("inpainting", 0.2, 300),
        ("super-resolution", 0.02, 300),
        ("deblurring", 0.2, 300),
        *(
            pytest.param(name, std, 2000, marks=pytest.mark.slow)
            for name in OPERATORS
            for std in (0.2, 0.02)
        ),
    ],
)
def test_gaussian_fields_are_exact_without_a_table(name, std, count):
    """Mean and covariance at 20 evaluations; with sigma^2 I the variance is 1.5 times too large."""
    field = random_field(16)
    operator = OPERATORS[name](ops.GaussianNoise(std))
    y = operator.measure(field.draw(1, seed=3)[0], seed=5)
    found = ti.solve(y, operator, Bare(field), num_samples=count, steps=20, seed=1)
    assert found.stats.denoiser_calls <= 20
    assert "read from the network" in found.stats.reason
    assert agreement(found.samples, gaussian_posterior(field, operator, y, std)).worst_z < 5


def images_of_the_registry():
    names = []
    for name, make in registry.OPERATORS.items():
        operator = make()
        if len(operator.domain_shape) == 3 and isinstance(operator.noise, ops.GaussianNoise):
            names.append(name)
    return names


def field_of(shape):
    """A periodic field of any image shape, its channels independent."""
    f, g = (torch.fft.fftfreq(n, dtype=torch.float64) for n in shape[1:])
    spectrum = (f[:, None] ** 2 + g**2 + 0.05**2) ** -1.3
    spectrum *= 0.25 / spectrum.mean()
    return ti.priors.Gaussian(torch.zeros(shape).double(), power_spectrum=spectrum)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", images_of_the_registry())
def test_every_operator_is_exact_without_a_table(name, count):
    operator = registry.OPERATORS[name]()
    field, std = field_of(operator.domain_shape), float(operator.noise.std.flatten()[0])
    y = operator.measure(field.draw(1, seed=3)[0], seed=5)
    found = ti.solve(y, operator, Bare(field), num_samples=count, steps=20, seed=1)
    exact = gaussian_posterior(field, operator, y, std)
    assert found.stats.denoiser_calls <= 20
    assert agreement(found.samples, exact).worst_z < 5


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13, 20, 50])
@pytest.mark.parametrize("error", ["network", "measured", "average", "isotropic", "auto"])
def test_the_budget_is_never_exceeded(steps, error):
    field = random_field(8)
    operator = ops.Mask(ops.random_mask((1, 8, 8), 0.4), noise=ops.GaussianNoise(0.1))
    y = operator.measure(field.draw(1, seed=1)[0], seed=2)
    walk = ti.walks.Decoupled(error=error)
    prior = Bare(field) if error == "auto" else field
    assert (
        ti.solve(y, operator, prior, method=walk, num_samples=2, steps=steps).stats.denoiser_calls
        <= steps
    )


def test_a_sample_depends_on_its_seed_alone():
    """Probes and running sums are the walker's own: a batch of 5 equals 5 parts of 1."""
    field = random_field(8)
    operator = ops.Blur(ops.gaussian_kernel(1.0), (1, 8, 8), noise=ops.GaussianNoise(0.1))
    y = operator.measure(field.draw(1, seed=1)[0], seed=2)
    prior = Bare(ti.priors.GaussianMixture(field.draw(3, seed=4).double(), torch.ones(3) / 3, 0.3))
    whole, parts = (
        ti.solve(y, operator, prior, num_samples=5, steps=20, batch_size=size, seed=7).samples
        for size in (5, 1)
    )
    torch.testing.assert_close(whole, parts, rtol=1e-6, atol=1e-8)


def test_one_probe_of_an_exact_denoiser_tells_the_spectrum():
    field, sigma = random_field(16), 0.3
    layout = layout_for(field.shape)
    x = normal((1,), (4, 1, 16, 16))
    white = normal((2,), x.shape)
    response = probe(field.denoise, x, field.denoise(x, sigma), sigma, white)
    found = covariance_of(observe(None, white, response, sigma, layout), sigma, layout)
    exact = field.denoising_error(sigma).variance
    torch.testing.assert_close(found.variance, exact.expand_as(found.variance), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.scale, torch.ones_like(found.scale))


def test_probes_are_carried_to_other_levels_exactly():
    field = random_field(16)
    layout, x = layout_for(field.shape), normal((1,), (2, 1, 16, 16))
    white = normal((2,), x.shape)
    response = probe(field.denoise, x, field.denoise(x, 0.5), 0.5, white)
    found = covariance_of(observe(None, white, response, 0.5, layout), 0.1, layout)
    exact = field.denoising_error(0.1).variance
    torch.testing.assert_close(found.variance, exact.expand_as(found.variance), rtol=1e-5, atol=0)


def test_a_secant_makes_one_direction_exact_and_keeps_the_covariance_positive():
    shape = (1, 6, 6)
    spectrum = normal((1,), (6, 6)).abs() + 0.1
    before = Covariance(Fourier(), spectrum, 0.5 + normal((2,), (3, *shape)).abs())
    root = normal((3,), (36, 36))
    truth = root @ root.mT / 36 + 0.1 * torch.eye(36).double()
    s = normal((4,), (3, *shape))
    t = (s.flatten(1) @ truth).reshape(s.shape)
    pair = secant(s, t, before.apply(s), 1e3)
    after = before.with_secant(pair.secant)
    assert bool(pair.taken.all())
    torch.testing.assert_close(after.apply(s), t)
    again = after.with_secant(secant(t, t * 0.5, after.apply(t), 1.0).secant)
    torch.testing.assert_close(again.apply(t), t * 0.5)
    for index in range(3):
        one, matrix = dense(again, index, shape)
        torch.testing.assert_close(matrix, matrix.mT)
        assert float(torch.linalg.eigvalsh(matrix).min()) > 0
        units = torch.eye(36).double().reshape(36, *shape)
        torch.testing.assert_close(one.factor(one.factor_inverse(units)), units)
        factor = one.factor(units).reshape(36, 36)
        torch.testing.assert_close(factor.mT @ factor, matrix)


@pytest.mark.parametrize("share", [-1.0, 0.0, 1.6, float("nan")])
def test_a_secant_that_cannot_be_is_not_taken(share):
    before = Covariance(Fourier(), torch.ones(4, 4).double())
    s = normal((1,), (2, 1, 4, 4))
    pair = secant(s, share * s, before.apply(s), 1.5)
    assert not bool(pair.taken.any())
    x = normal((2,), (2, 1, 4, 4))
    assert torch.equal(before.with_secant(pair.secant).apply(x), before.apply(x))


class Backwards(nn.Module):
    """A denoiser whose Jacobian is negative: it answers with less where it sees more."""

    def forward(self, x, sigma):
        return -0.5 * x


def test_nonsense_is_left_out_and_reported():
    prior = ti.priors.NetworkPrior(
        Backwards(), "x0", shape=(1, 8, 8), sigma_min=0.01, sigma_max=2.0
    )
    operator = ops.Mask(torch.ones(1, 8, 8), noise=ops.GaussianNoise(0.1))
    found = ti.solve(torch.zeros(1, 8, 8), operator, prior, num_samples=2, steps=20)
    assert bool(found.samples.isfinite().all())
    assert "not credible" in found.stats.reason


@pytest.mark.parametrize("shape", [(12,), (2, 4, 6, 5)])
def test_vectors_and_volumes_are_solved_too(shape):
    prior = Bare(
        ti.priors.Gaussian(
            torch.zeros(shape), covariance=0.5 * torch.eye(torch.Size(shape).numel())
        )
    )
    size = torch.Size(shape).numel()
    operator = ops.LinearOperator.from_function(
        lambda x: x.flatten(1)[:, : size // 2], shape, noise=ops.GaussianNoise(0.3)
    )
    y = operator.measure(torch.ones(shape), seed=1)
    found = ti.solve(y.float(), operator, prior, num_samples=800, steps=20)
    seen, unseen = found.samples.flatten(1).split([size // 2, size - size // 2], dim=1)
    gain = 0.5 / (0.5 + 0.09)
    count = found.samples.shape[0]
    for part, mean, variance in ((seen, gain * y, 0.5 * (1 - gain)), (unseen, 0.0, 0.5)):
        z = (part.mean(0) - mean) / (variance / count) ** 0.5
        assert float(z.abs().max()) < 5
        spread = (part.var(0) / variance - 1) / (2 / (count - 1)) ** 0.5
        assert float(spread.abs().max()) < 5


def test_counts_are_solved_with_the_networks_covariance():
    """Hamiltonian moves take it as they take a table: the mean agrees with that from the table."""
    field = random_field(8)
    operator = ops.compose(
        ops.Clipping((1, 8, 8), high=5.0),
        ops.Mask(torch.ones(1, 8, 8)),
        noise=ops.GaussianNoise(0.2),
    )
    y = operator.measure(field.draw(1, seed=1)[0], seed=2)
    found = [
        ti.solve(y, operator, prior, num_samples=60, steps=12, seed=3)
        for prior in (field, Bare(field))
    ]
    one, two = (posterior.samples.flatten(1) for posterior in found)
    z = (one.mean(0) - two.mean(0)) / ((one.var(0) + two.var(0)) / 60).sqrt()
    assert float(z.abs().max()) < 5


def test_a_probe_that_is_not_finite_leaves_what_was_known_as_it_was():
    field, sigma = random_field(8), 0.3
    layout, x = layout_for(field.shape), normal((1,), (2, 1, 8, 8))
    white = normal((2,), x.shape)
    response = probe(field.denoise, x, field.denoise(x, sigma), sigma, white)
    before = observe(None, white, response, sigma, layout)
    broken = response.clone()
    broken[1, 0, 3, 3] = float("nan")
    after = observe(before, white, broken, sigma, layout)
    assert after.left_out.tolist() == [0, 1]
    found, known = (covariance_of(probes, sigma, layout) for probes in (after, before))
    torch.testing.assert_close(found.variance, known.variance)


@pytest.mark.parametrize("error", ["measured", "average"])
def test_tables_are_refused_where_there_is_none(error):
    field = random_field(8)
    operator = ops.Mask(torch.ones(1, 8, 8), noise=ops.GaussianNoise(0.1))
    with pytest.raises(ValueError, match="is not measured"):
        ti.solve(
            torch.zeros(1, 8, 8), operator, Bare(field), method=ti.walks.Decoupled(error=error)
        )


def test_a_mixture_of_overlapping_modes_without_a_table_is_near_the_exact_posterior():
    one = overlapping_modes.problem((10,), 5, 4.0, truths=24)
    value, error = overlapping_modes.ratio(one, NETWORK, False, 50)
    assert 1 - 4 * error < value < 1.1


class Growing(nn.Module):
    """It denoises, but doubles what is brighter than 1: with every level, without end."""

    def forward(self, x, sigma):
        share = (1 / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)).to(x)
        return torch.where(x.abs() > 1, 2 * x, share * x)


def test_a_network_that_amplifies_is_held_back_and_reported():
    prior = ti.priors.NetworkPrior(Growing(), "x0", shape=(1, 8, 8), sigma_min=0.001, sigma_max=1.0)
    operator = ops.Mask(torch.ones(1, 8, 8), noise=ops.GaussianNoise(100.0))
    found = ti.solve(torch.zeros(1, 8, 8), operator, prior, num_samples=8, steps=30)
    assert float(found.samples.abs().max()) < 30
    assert "was held back" in found.stats.reason


def test_a_table_is_less_wide_beside_secants():
    prior = ti.load_prior("digits-32")
    x = normal((1,), (2, *prior.shape)).float()
    place = Place(x, x, x, Level(0, 2, 0.2, 0.1), prior.denoise)
    operator = ops.Mask(torch.ones(prior.shape), noise=ops.GaussianNoise(0.1))
    problem = Problem(x, operator, operator.noise)
    plain, beside = (
        Measured(secants).model(place, None, problem, prior, None)[0].scale
        for secants in (False, True)
    )
    torch.testing.assert_close(beside, plain.sqrt())


@pytest.mark.parametrize(("steps", "levels"), [(50, 35), (20, 14), (4, 4), (1, 1)])
def test_secants_beside_a_table_stay_within_the_budget(steps, levels):
    prior = ti.load_prior("digits-32")
    operator = ops.Mask(ops.random_mask(prior.shape, 0.5), noise=ops.GaussianNoise(0.1))
    y = torch.zeros(prior.shape)
    found = ti.solve(y, operator, prior, num_samples=1, steps=steps)
    assert found.stats.denoiser_calls <= steps
    assert found.stats.steps == levels
    assert ("secants" in found.stats.reason) == (levels < steps)
    plain = ti.solve(
        y, operator, prior, method=ti.walks.Decoupled(secants=False), num_samples=1, steps=steps
    )
    assert plain.stats.steps == steps


def test_an_exact_error_needs_no_secants():
    field = random_field(8)
    operator = ops.Mask(torch.ones(1, 8, 8), noise=ops.GaussianNoise(0.1))
    found = ti.solve(field.draw(1)[0], operator, field, num_samples=1, steps=20)
    assert found.stats.steps == 20
