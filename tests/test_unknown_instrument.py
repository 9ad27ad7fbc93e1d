"""Noise levels and operator parameters that are drawn with the image, against their exact law."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import prior_covariance, random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional.collapsed import squared_norm
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines
from tweedie_inverse.operators.parametric import Members

SIDE, SHAPE = 8, (1, 8, 8)
LEVELS, WIDTHS = (0.1, 0.6), (0.6, 1.6)
UNKNOWN = ops.GaussianNoise.unknown(LEVELS)


def field():
    """A random field about an image that has edges, which a PSF changes."""
    mean = torch.zeros(SHAPE).double()
    mean[0, 2:6, 1:4] = 2.0
    return ti.priors.Gaussian(mean, covariance=prior_covariance(random_field(SIDE)))


def blur(width):
    return ops.Blur(ops.gaussian_kernel(width, 7), SHAPE)


def unstacked(width):
    """The same, as operators that are applied one by one."""
    return ops.compose(ops.scale(blur(width), 1.0))


def simulated(count, *, width=None):
    """Measurements of fields with noise levels from the prior, and widths, where none is given."""
    generator = torch.Generator().manual_seed(3)

    def uniform():
        return torch.rand(count, generator=generator).double()

    low, high = map(math.log, LEVELS)
    levels = (low + (high - low) * uniform()).exp()
    drawn = WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * uniform()
    widths = drawn if width is None else torch.full((count,), width).double()
    x = field().draw(count, seed=5).double().split(1)
    clean = [blur(float(w)).forward(one) for w, one in zip(widths, x, strict=True)]
    white = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
    return torch.cat(clean) + levels[:, None, None, None] * white


def exact(y, widths):
    """Weights ``(batch, widths, levels)`` on a grid, and logarithms of its levels."""
    grid = torch.linspace(*map(math.log, LEVELS), 150).double()
    covariance = prior_covariance(random_field(SIDE)).double()
    logs = []
    for width in widths:
        matrix = ops.dense_matrix(blur(float(width))).double()
        values, axes = torch.linalg.eigh(matrix @ covariance @ matrix.mT)
        variances = values.clamp(min=0) + (2 * grid).exp()[:, None]
        residual = y.flatten(1) - matrix @ field().mean.double().flatten()
        squares = (residual @ axes).square() @ (1 / variances).mT
        logs.append(-0.5 * (squares + variances.log().sum(1)))
    logs = torch.stack(logs, 1)
    return (logs - logs.flatten(1).logsumexp(1)[:, None, None]).exp(), grid


def z_scores(samples, weights, grid):
    """Of the mean and of the variance of samples ``(batch, count)``, each over all measurements.

    The variance's own scatter is that of the grid's fourth moment.
    """
    mean = weights @ grid
    centred = grid - mean[:, None]
    variance, fourth = ((weights * centred**power).sum(1) for power in (2, 4))
    count = samples.shape[1]
    z = (samples.mean(1) - mean) / (variance / count).sqrt()
    of_squares = (samples - mean[:, None]).square().mean(1) - variance
    scatter = ((fourth - variance**2) / count).sqrt()
    root = math.sqrt(len(samples))
    return float(z.sum() / root), float((of_squares / scatter).sum() / root)


def test_the_noise_level_has_its_exact_law():
    y = simulated(40, width=1.0)
    posterior = ti.solve(y, blur(1.0), field(), noise=UNKNOWN, num_samples=24, steps=5)
    weights, grid = exact(y, [1.0])
    level = posterior.noise.std
    assert level.shape == (40, 24)
    assert max(map(abs, z_scores(level.samples.log(), weights[:, 0], grid))) < 5
    # Gaussian noise of a drawn level is what the residuals have.
    assert abs(float(posterior.diagnostics.chi_square.mean()) - 1) < 0.1


def test_width_and_noise_level_have_their_exact_joint_law():
    y = simulated(8)
    posterior = ti.solve(
        y,
        ops.parametric(blur, width=WIDTHS),
        field(),
        noise=UNKNOWN,
        num_samples=12,
        steps=3,
        method=ti.walks.UnknownInstrument(operator_moves=2, first_moves=30),
    )
    widths = torch.linspace(*WIDTHS, 60).double()
    weights, grid = exact(y, widths)
    found = posterior.parameters["width"].samples, posterior.noise.std.samples.log()
    both = z_scores(found[0], weights.sum(2), widths) + z_scores(found[1], weights.sum(1), grid)
    assert max(map(abs, both)) < 5
    lines = posterior.instrument.report.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["noise std", "width"]
    assert "check_fit" in lines[2]
    low, high = posterior.parameters["width"].interval()
    assert bool((low < high).all())
    assert posterior.stats.denoiser_calls == 3


def test_a_sample_depends_on_no_other():
    y = simulated(3)
    operator = ops.parametric(blur, width=WIDTHS)
    settings = {"prior": random_field(SIDE), "noise": UNKNOWN, "steps": 3}
    settings["method"] = ti.walks.UnknownInstrument(operator_moves=1, first_moves=3)
    together = ti.solve(y, operator, num_samples=3, **settings)
    alone = ti.solve(y[:1], operator, num_samples=2, **settings)
    parts = ti.solve(y, operator, num_samples=3, batch_size=2, **settings)
    assert torch.allclose(together.samples[:1, :2], alone.samples, atol=1e-9)
    assert torch.allclose(together.instrument.u[:1, :2], alone.instrument.u, atol=1e-9)
    assert torch.allclose(together.instrument.u, parts.instrument.u, atol=1e-9)


def test_channels_have_levels_of_their_own():
    shape = (2, 16, 16)
    f = torch.fft.fftfreq(16).double()
    # Smooth images: the noise is what is rough.
    spectrum = torch.where(f[:, None] ** 2 + f**2 < 0.02, 5.0, 1e-4)
    prior = ti.priors.Gaussian(torch.zeros(shape).double(), power_spectrum=spectrum)
    truth = prior.draw(1, seed=0).float()
    operator = ops.Mask(torch.ones(shape))
    std = torch.tensor([0.05, 0.2])[:, None, None]
    y = ops.GaussianNoise(std).sample(truth, seed=1)
    noise = ops.GaussianNoise.unknown((0.01, 1.0), by_channel=True)
    found = ti.solve(y, operator, prior, noise=noise, num_samples=16, steps=6).noise.std
    assert found.shape == (1, 16, 2)
    assert bool(((found.mean - std.flatten()).abs() < 5 * found.std.clamp(min=1e-3)).all())


def test_unknowns_are_kept_in_files(tmp_path):
    y = simulated(2)
    operator, prior = ops.parametric(blur, width=WIDTHS), random_field(SIDE)
    method = ti.walks.UnknownInstrument(operator_moves=1, first_moves=5)
    given = {"noise": UNKNOWN, "num_samples": 2, "steps": 3, "method": method}
    posterior = ti.solve(y, operator, prior, **given)
    steps = ti.iterate(y, operator, prior, **given)
    next(steps).save(tmp_path / "walk")
    resumed = list(ti.iterate(y, operator, prior, resume=tmp_path / "walk", **given))
    assert torch.equal(resumed[-1].x, posterior.samples.flatten(0, 1))
    assert torch.equal(resumed[-1].info.unknowns.u, posterior.instrument.u.flatten(0, 1))
    posterior.save(tmp_path / "p.safetensors")
    loaded = ti.Posterior.load(tmp_path / "p.safetensors")
    assert torch.equal(loaded.parameters["width"].samples, posterior.parameters["width"].samples)
    assert torch.equal(loaded[1].noise.std.samples, posterior.noise.std.samples[1])
    joined = ti.Posterior.concatenate([loaded[0], loaded[1]])
    assert torch.equal(joined.noise.std.samples, posterior.noise.std.samples)


def test_it_says_where_the_data_do_not_tell():
    mask = torch.zeros(SHAPE)
    mask[0, 0, :2] = 1
    y = torch.zeros(SHAPE).double()
    prior = random_field(SIDE)
    posterior = ti.solve(
        y, ops.Mask(mask), prior, noise=ops.GaussianNoise.unknown((0.1, 0.3)), steps=3
    )
    assert not bool(posterior.noise.std.is_told)
    assert "the data do not tell noise std" in posterior.stats.reason
    assert "the data do not tell" in repr(posterior.noise.std)


class Untouched(ti.priors.Gaussian):
    def denoise(self, x, sigma):
        raise AssertionError("evaluated")


REFUSED = {
    "particle": ({"method": "particle"}, "decoupled walk only"),
    "langevin": ({"method": ti.walks.Langevin()}, "decoupled walk only"),
    "word": ({"noise": "guess"}, "or 'estimate'"),
    "nothing unknown": (
        {"method": ti.walks.UnknownInstrument(), "noise": 0.1},
        "neither noise nor operator has unknowns",
    ),
    "counts": ({"operator": ops.compose(blur(1.0), noise=ops.PoissonNoise())}, "white Gaussian"),
    "not linear": (
        {"operator": ops.Operator.from_function(lambda x: x.exp(), SHAPE)},
        "linear operators only",
    ),
    "groups": (
        {"noise": ops.GaussianNoise.unknown(groups=torch.arange(3))},
        "groups of the noise",
    ),
    "Poisson, and an unknown width": (
        {"operator": ops.parametric(blur, width=WIDTHS), "noise": ops.PoissonNoise()},
        "Gaussian noise only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_refused_before_any_evaluation(case):
    other, message = REFUSED[case]
    spectrum = torch.ones(SIDE, SIDE).double()
    prior = Untouched(torch.zeros(SHAPE).double(), power_spectrum=spectrum)
    given = {"operator": blur(1.0), "noise": "estimate", "steps": 3} | other
    with pytest.raises((ValueError, TypeError), match=message):
        ti.solve(torch.ones(SHAPE).double(), prior=prior, **given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.parametric(blur), "range of each unknown"),
        (lambda: ops.parametric(blur, size=(1, 2)), "must take size by name"),
        (lambda: ops.parametric(blur, width=3.0), "needs its range"),
        (lambda: ops.parametric(blur, width=(2.0, 1.0)), "low < high"),
        (lambda: ops.parametric(lambda width: width, width=(1, 2)), "must return a linear"),
        (lambda: ops.parametric(blur, width=WIDTHS).forward(torch.ones(1, *SHAPE)), "at\\(width="),
        (lambda: ops.parametric(blur, width=WIDTHS).at(size=1), "needs width"),
        (lambda: UNKNOWN.sample(torch.ones(1, *SHAPE)), "the level is not known"),
        (lambda: ops.GaussianNoise.unknown((-1.0, 1.0)), "positive"),
        (lambda: ops.GaussianNoise.unknown(groups=torch.tensor([0, 2])), "without a gap"),
        (lambda: ops.ScalarPrior.log_normal(1.0, 0.5), "factor"),
    ],
)
def test_what_is_no_unknown_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_operators_of_walkers_are_those_of_each():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((3, *SHAPE), dtype=torch.float64, generator=generator)
    rows = torch.rand((3, *SHAPE), dtype=torch.float64, generator=generator) + 0.5
    for make in (blur, unstacked):
        operators = [make(width) for width in (0.7, 1.0, 1.5)]
        members = Members(operators, rows)
        expected = (
            torch.cat([op.forward(one) for op, one in zip(operators, x.split(1), strict=True)])
            * rows
        )
        assert torch.allclose(members.forward(x), expected)
        assert torch.allclose(
            (members.forward(x) * rows).sum((1, 2, 3)), (x * members.adjoint(rows)).sum((1, 2, 3))
        )
        plain = Members(operators, None)
        assert torch.allclose(plain.normal(x), plain.adjoint(plain.forward(x)))


COLOUR = (3, 8, 8)
IN_COLOUR = {
    "mask": lambda: ops.Mask(ops.random_mask(COLOUR, 0.5, seed=1)),
    "blur": lambda: ops.Blur(ops.gaussian_kernel(1.0, 5), COLOUR, padding="reflect"),
    "downsampling": lambda: ops.Downsampling(COLOUR, 2),
}


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("name", IN_COLOUR)
def test_the_squared_norm_of_colours_is_that_of_matrices(name, samples):
    """Each channel is solved by itself, and begins at the solution that it had before."""
    operator, basis = IN_COLOUR[name](), Cosines(torch.linalg.qr(normal((1,), (3, 3)))[0])
    variance = 1 / (1 + torch.arange(64).reshape(8, 8).double()) * torch.ones(3, 1, 1).double()
    v = Covariance(basis, variance * torch.ones(samples, 1, 1, 1).double())
    residual = normal((2,), (samples, *operator.range_shape))
    if operator.observed is not None:
        residual = residual * operator.observed
    problem = Problem(residual, operator, ops.GaussianNoise(1.0))
    matrix = ops.dense_matrix(operator).double()
    units = torch.eye(192).double().reshape(192, *COLOUR)
    dense = Covariance(basis, variance).apply(units).reshape(192, 192)
    system = torch.eye(len(matrix)).double() + matrix @ dense @ matrix.mT
    flat = residual.flatten(1)
    expected = (flat * torch.linalg.solve(system, flat.mT).mT).sum(1)
    found = squared_norm(residual, v, problem)
    torch.testing.assert_close(found.value, expected, rtol=1e-4, atol=0)
    assert found.solution.shape == (samples, *COLOUR)
    again = squared_norm(1.01 * residual, v, problem, found.solution)
    torch.testing.assert_close(again.value, 1.01**2 * expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["mask", "blur"])
def test_the_noise_level_of_colours_has_its_exact_law(name):
    """Where linear systems are solved channel by channel, against a grid."""
    operator, count, grid = IN_COLOUR[name](), 25, torch.linspace(*map(math.log, LEVELS), 150)
    grey = random_field(SIDE)
    field = ti.priors.Gaussian(
        torch.zeros(COLOUR).double(), power_spectrum=grey.covariance.variance.double()
    )
    chance = torch.rand(count, generator=torch.Generator().manual_seed(5)).double()
    levels = (math.log(LEVELS[0]) + math.log(LEVELS[1] / LEVELS[0]) * chance).exp()
    clean = operator.forward(field.draw(count, seed=6).double())
    y = clean + levels[:, None, None, None] * normal((7,), clean.shape)
    if operator.observed is not None:
        y = y * operator.observed
    found = ti.solve(y, operator, field, noise=UNKNOWN, num_samples=8, steps=4)
    matrix = ops.dense_matrix(operator).double()
    if operator.observed is not None:
        matrix = matrix[operator.observed.flatten()]
        y = y.flatten(1)[:, operator.observed.flatten()]
    values, axes = torch.linalg.eigh(matrix @ prior_covariance(field).double() @ matrix.mT)
    variances = values.clamp(min=0) + (2 * grid.double()).exp()[:, None]
    squares = (y.flatten(1) @ axes).square() @ (1 / variances).mT
    weights = torch.softmax(-0.5 * (squares + variances.log().sum(1)), 1)
    drawn = found.noise.std.samples.log()
    assert max(map(abs, z_scores(drawn, weights, grid.double()))) < 5


def test_a_pilot_that_is_too_short_is_none():
    """Its evaluations stay with the walk; one that was asked for is refused."""
    walk, operator = ti.walks.UnknownInstrument(), ops.parametric(blur, width=WIDTHS)
    prior = ti.priors.GaussianMixture(
        random_field(SIDE).draw(3, seed=1).double(), torch.ones(3) / 3, 0.3
    )
    y = simulated(1)
    problem = Problem(y, operator, ops.GaussianNoise(0.2))
    planned = walk.plan(problem, prior, 12)
    assert planned.walk.pilot == 0
    assert len(planned.sigmas) == len(walk.walk.plan(problem_of(y), prior, 12).sigmas)
    assert walk.plan(problem, prior, 24).walk.pilot == 8
    with pytest.raises(ValueError, match="pilot=3"):
        ti.walks.UnknownInstrument(pilot=3)


def problem_of(y):
    return Problem(y, blur(1.1), ops.GaussianNoise(0.2))


def test_the_operator_of_known_numbers_has_the_noise_of_the_unknown_one():
    noise = ops.GaussianNoise(0.3)
    known = ops.parametric(blur, width=WIDTHS, noise=noise).at(width=1.0)
    assert known.noise is noise
    known.measure(torch.zeros(SHAPE), seed=0)
    assert ops.parametric(blur, width=WIDTHS).at(width=1.0).noise is None
