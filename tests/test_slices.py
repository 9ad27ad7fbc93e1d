"""Volumes from priors of images: closed forms, and stacks of scans."""

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import seeded
from tests.posteriors import Moments, agreement, gaussian_posterior, prior_covariance, random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.datasets.volumes import CTVolumes
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Fourier
from tweedie_inverse.priors.error.layout import layout_for

NOISE = ops.GaussianNoise(0.1)
DEPTH, SIDE = 3, 6


def alike(length, depth=DEPTH):
    place = torch.arange(depth, dtype=torch.float64)
    return torch.exp(-(place[:, None] - place).abs() / length)


def volume_of(covariance, depth=DEPTH, side=SIDE):
    """A Gaussian prior of volumes, by its dense covariance."""
    zero = torch.zeros(1, depth, side, side, dtype=torch.float64)
    return ti.priors.Gaussian(zero, covariance=covariance)


def by_frequency(correlation, side=SIDE, depth=DEPTH):
    """The covariance of a field whose frequencies have correlations of their own, densely."""
    field = random_field(side)
    units = torch.eye(side * side, dtype=torch.float64).reshape(-1, 1, side, side)
    vectors = Fourier().transform(units).reshape(-1, side * side)  # columns are frequencies
    variance = field.covariance.variance.flatten()
    frequency = torch.fft.fftfreq(side, dtype=torch.float64)
    length = (frequency[:, None] ** 2 + frequency**2).sqrt().flatten()
    total = torch.zeros(depth * side * side, depth * side * side, dtype=torch.float64)
    for k in range(side * side):
        nearest = int((correlation.frequency - length[k]).abs().argmin())
        across = alike(float(correlation.length[nearest]), depth)
        total += torch.kron(across, variance[k] * torch.outer(vectors[:, k], vectors[:, k]))
    return total


FINE_IS_FORGOTTEN = ti.priors.SliceCorrelation(
    torch.tensor([0.0, 0.2, 0.5]).double(), torch.tensor([4.0, 1.0, 0.3]).double()
)
FIELDS = {
    "length": (2.5, lambda: torch.kron(alike(2.5), prior_covariance(random_field(SIDE)))),
    "matrix": (
        torch.tensor([[1.0, 0.6, -0.1], [0.6, 1.0, 0.3], [-0.1, 0.3, 1.0]]),
        lambda: torch.kron(
            torch.tensor([[1.0, 0.6, -0.1], [0.6, 1.0, 0.3], [-0.1, 0.3, 1.0]]).double(),
            prior_covariance(random_field(SIDE)),
        ),
    ),
    "by frequency": (FINE_IS_FORGOTTEN, lambda: by_frequency(FINE_IS_FORGOTTEN)),
}


def seen_in_part(x):
    return x.cumsum(2)[:, :, :, ::2].flatten(1)


INSTRUMENT = ops.LinearOperator.from_function(seen_in_part, (1, DEPTH, SIDE, SIDE), noise=NOISE)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("field", FIELDS)
def test_fields_of_correlated_slices_have_the_exact_posterior(field, steps):
    """At any number of steps: noise that is white across slices would be wrong by far."""
    correlation, covariance = FIELDS[field]
    exact = volume_of(covariance())
    prior = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=correlation)
    y = INSTRUMENT.measure(exact.draw(1, seed=3)[0], seed=5)
    posterior = ti.solve(y, INSTRUMENT, prior, num_samples=1500, steps=steps, seed=1)
    expected = gaussian_posterior(exact, INSTRUMENT, y, 0.1)
    assert agreement(posterior.samples, expected).worst_z < 5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_any_axis(axis):
    field = ti.priors.Gaussian(
        torch.zeros(1, 4, 5, dtype=torch.float64),
        covariance=prior_covariance(random_field(5))[:20, :20],
    )
    prior = ti.priors.Slices(field, depth=DEPTH, axes=axis, correlation=1.5)
    shape = (1, *{0: (3, 4, 5), 1: (4, 3, 5), 2: (4, 5, 3)}[axis])
    assert prior.shape == shape
    apart = torch.kron(alike(1.5), prior_covariance(field)).reshape(3, 4, 5, 3, 4, 5)
    together = apart.movedim((0, 3), (axis, 3 + axis)).reshape(60, 60)
    found = prior.moments()[1].apply(torch.eye(60).double().reshape(60, *shape)).reshape(60, 60)
    torch.testing.assert_close(found, together, atol=1e-12, rtol=1e-9)
    # The denoiser of noise with the same correlation, by the textbook.
    noise = prior.noise_covariance.apply(torch.eye(60).double().reshape(60, *shape)).reshape(60, 60)
    x = normal((1,), (2, *shape))
    expected = x.flatten(1) @ torch.linalg.solve(together + 0.09 * noise, together)
    torch.testing.assert_close(prior.denoise(x, 0.3).flatten(1), expected)
    score = -torch.linalg.solve(together + 0.09 * noise, x.flatten(1).mT).mT
    torch.testing.assert_close(prior.score(x, 0.3).flatten(1), score)


@pytest.mark.slow
def test_samples_of_the_prior_are_as_alike_as_stated():
    prior = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=2.0)
    samples = ti.sample(prior, 1500, recipe="heun", steps=60, dtype=torch.float64)
    covariance = torch.kron(alike(2.0), prior_covariance(random_field(SIDE)))
    exact = Moments(torch.zeros(len(covariance)).double(), covariance)
    assert agreement(samples, exact).worst_z < 5


class Exact(torch.nn.Module):
    """The exact denoiser of a field, as a network that says nothing of its error."""

    def __init__(self, field):
        super().__init__()
        self.field, self.weight = field, torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, sigma):
        return self.field.denoise(x, sigma)


def silent_network(side=SIDE):
    return ti.priors.NetworkPrior(
        Exact(random_field(side)), "x0", shape=(1, side, side), sigma_min=1e-3, sigma_max=30.0
    )


@pytest.mark.parametrize(
    "field",
    ["by frequency", *(pytest.param(one, marks=pytest.mark.slow) for one in list(FIELDS)[:2])],
)
def test_the_covariance_of_slices_is_read_from_the_network(field):
    """Probes and secants know that the noise is correlated."""
    correlation, covariance = FIELDS[field]
    exact = volume_of(covariance())
    prior = ti.priors.Slices(silent_network(), depth=DEPTH, correlation=correlation)
    y = INSTRUMENT.measure(exact.draw(1, seed=3)[0], seed=5)
    posterior = ti.solve(y, INSTRUMENT, prior, num_samples=200, steps=14, seed=1)
    assert "read from the network" in posterior.stats.reason
    expected = gaussian_posterior(exact, INSTRUMENT, y, 0.1)
    assert agreement(posterior.samples, expected).worst_z < 5


def test_the_langevin_walk_is_that_of_white_noise_in_other_coordinates():
    """``x = R^1/2 u`` with u seen through ``A R^1/2`` by white noise: step by step the same."""
    prior = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=2.5)
    root = ops.LinearOperator.from_function(prior.coloured, prior.shape)
    independent = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=0)
    y = INSTRUMENT.measure(normal((4,), prior.shape), seed=5)
    walk = ti.walks.Langevin(lipschitz=4e5)
    posterior = ti.solve(y, INSTRUMENT, prior, method=walk, num_samples=2, steps=20)
    seen = ops.compose(INSTRUMENT, root, noise=NOISE)
    white = ti.solve(y, seen, independent, method=walk, num_samples=2, steps=20)
    torch.testing.assert_close(posterior.samples, prior.coloured(white.samples))


def test_what_needs_white_noise_refuses():
    prior = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=2.5)
    y = INSTRUMENT.measure(normal((4,), prior.shape), seed=5)
    with pytest.raises(ValueError, match="Particle: needs a denoiser of white noise"):
        ti.solve(y, INSTRUMENT, prior, method="particle")
    with pytest.raises(ValueError, match="Coloured: needs a denoiser of white noise"):
        ti.sample(prior, 1, recipe="coloured")
    with pytest.raises(ValueError, match="needs a denoiser of white noise"):
        ti.likelihood(prior, normal((4,), (2, *prior.shape)))


def test_several_axes_are_averaged():
    """For each axis its own slices; the covariance is that of the Jacobian, ``sigma^2 J``."""
    side = 4
    prior = ti.priors.Slices(random_field(side), depth=side, axes=(0, 1, 2))
    assert prior.shape == (1, side, side, side)
    assert prior.noise_covariance is None
    x, field = normal((1,), (1, *prior.shape)), random_field(side)
    along = [
        field.denoise(x.movedim(2 + axis, 1)[0], 0.4)[None].movedim(1, 2 + axis)
        for axis in range(3)
    ]
    torch.testing.assert_close(prior.denoise(x, 0.4), sum(along) / 3)
    units = torch.eye(side**3, dtype=torch.float64).reshape(-1, *prior.shape)
    jacobian = prior.denoise(units, 0.4)
    torch.testing.assert_close(prior.denoising_error(0.4).apply(units), 0.16 * jacobian)


@pytest.mark.parametrize("depth", [1, 2])
def test_measured_correlations_are_those_of_the_volumes(depth):
    correlation = torch.tensor([3.0, 0.8]).double()
    stated = ti.priors.SliceCorrelation(torch.tensor([0.1, 0.4]).double(), correlation)
    prior = ti.priors.Slices(random_field(16), depth=12, correlation=stated)
    volumes = prior.moments()[1].colour(normal((2,), (30, *prior.shape)))
    if depth == 2:  # along another axis
        volumes = volumes.movedim(2, 3)
    found = ti.priors.measure_slice_correlation(volumes, axis=depth - 1)
    for frequency, length in zip(found.frequency.tolist(), found.length.tolist(), strict=True):
        if abs(frequency - 0.25) > 0.06 and 0.05 < frequency < 0.5:
            expected = 3.0 if frequency < 0.25 else 0.8
            assert length == pytest.approx(expected, rel=0.15), frequency


def test_the_errors_of_an_exact_prior_are_as_alike_as_the_slices():
    stated = ti.priors.SliceCorrelation(*torch.tensor([[0.1, 0.4], [3.0, 0.8]]).double())
    prior = ti.priors.Slices(random_field(16), depth=12, correlation=stated)
    volumes = prior.moments()[1].colour(normal((2,), (30, *prior.shape)))
    found = ti.priors.measure_slice_correlation(volumes, random_field(16))
    assert found.length[6:].tolist() == pytest.approx([0.8] * 6, rel=0.25)
    assert float(found.length[2:6].mean()) == pytest.approx(3.0, rel=0.25)
    with pytest.raises(ValueError, match="prior for images of shape"):
        ti.priors.measure_slice_correlation(volumes, random_field(8))


def test_a_volume_of_other_size_takes_the_stated_length():
    prior = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=2.5)
    assert prior.for_shape((1, 5, SIDE, SIDE)).noise_covariance.variance.shape[0] == 5
    stated = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=alike(1.0))
    with pytest.raises(ValueError, match="prior for images of shape"):
        stated.for_shape((1, 5, SIDE, SIDE))


def test_a_prior_of_images_says_how_it_becomes_one_of_volumes():
    stack = ops.slicewise(ops.Mask(torch.ones(SIDE, SIDE), noise=NOISE), 3)
    with pytest.raises(ValueError, match=r"ti.priors.Slices\(prior, depth=..., correlation=...\)"):
        ti.solve(torch.zeros(stack.range_shape), stack, random_field(SIDE))
    scan = ops.FourierSampling(torch.ones(SIDE, SIDE), noise=NOISE)
    with pytest.raises(ValueError, match=r"ti.priors.Complex\(prior, phase=...\)"):
        ti.solve(torch.zeros(scan.range_shape), scan, random_field(SIDE))


def test_a_limited_range_stays():
    prior = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=2.0).limited(sigma_max=3)
    assert prior.for_shape((1, 5, SIDE, SIDE)).sigma_max == 3


def test_other_reading_of_a_volume():
    """Calibration and the check of a prior add the noise that the denoiser answers for."""
    prior = ti.priors.Slices(silent_network(), depth=DEPTH, correlation=2.0)
    field = ti.priors.Slices(random_field(SIDE), depth=DEPTH, correlation=2.0)
    volumes = field.moments()[1].colour(normal((6,), (24, *prior.shape)))
    assert ti.check_prior(prior, volumes).passed
    white = ti.priors.Slices(silent_network(), depth=DEPTH, correlation=0)
    error = ti.measure_denoising_error(white, volumes, levels=3)
    assert error.variance.shape[1:] == prior.shape


def test_drawn_bodies_continue_from_slice_to_slice():
    data = CTVolumes(size=32, depth=9)
    first, second = data.volumes([3, 4])
    assert first.shape == data.shape == (1, 9, 32, 32)
    torch.testing.assert_close(first, data.volumes([3])[0])
    alike = (first - first.mean()).square().mean() / first.diff(dim=1).square().mean()
    apart = (first - second).square().mean() / first.diff(dim=1).square().mean()
    assert alike > 10
    assert apart > 10
    # The slice in the middle is one that priors of slices know, but for its texture.
    middle = CTSlices(32).anatomy([3])[0]
    assert float(((first[0, 4] * 2000 - 1000) - middle).abs().median()) < 30


NO_CORRELATION = torch.tensor([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "say how alike neighbouring slices are"),
        ({"correlation": -1.0}, "needs the number of slices over which"),
        ({"correlation": torch.eye(4)}, r"needs a matrix \(3, 3\), got \(4, 4\)"),
        ({"correlation": 2 * torch.eye(3)}, "ones on the diagonal"),
        ({"correlation": NO_CORRELATION}, "is no correlation, its least eigenvalue is -0.8"),
        ({"correlation": 1.0, "axes": (0, 1)}, "slices of several axes need white noise"),
        ({"correlation": 1.0, "axes": 3}, "0 depth, 1 height, 2 width"),
        ({"correlation": 1.0, "depth": 0}, "depth=0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ti.priors.Slices(random_field(SIDE), **{"depth": DEPTH, **settings})


def test_a_dense_covariance_has_no_frequencies():
    dense = ti.priors.Gaussian(torch.zeros(1, 2, 2).double(), covariance=torch.eye(4).double())
    with pytest.raises(ValueError, match="knows its error in Dense, not by frequency"):
        ti.priors.Slices(dense, depth=2, correlation=FINE_IS_FORGOTTEN)


class Solid(torch.nn.Module):
    """A network of volumes."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x, level):
        return torch.tanh(self.inner(x)) / (1 + level.reshape(-1, 1, 1, 1, 1).to(x))


def test_networks_of_volumes_work_as_they_are(tmp_path):
    shape = (1, 4, 6, 5)
    prior = ti.priors.NetworkPrior(seeded(Solid), "edm", shape=shape, sigma_max=20.0)
    operator = ops.Blur(torch.ones(2, 2, 2) / 8, shape, noise=NOISE)
    y = operator.measure(normal((1,), shape).float(), seed=1)
    posterior = ti.solve(y, operator, prior, num_samples=2, steps=12)
    assert posterior.samples.shape == (2, *shape)
    volumes = normal((2,), (8, *shape)).float()
    error = ti.measure_denoising_error(prior, volumes, levels=3)
    measured = ti.solve(y, operator, prior.with_error(error), num_samples=2, steps=6)
    assert "measured" in measured.stats.reason
    posterior.plot().savefig(tmp_path / "posterior.png")


def test_the_spectrum_read_from_a_network_of_volumes_is_exact_for_a_field():
    """Frequencies of three axes: a Gaussian volume whose network says nothing of its error."""
    f = [torch.fft.fftfreq(n, dtype=torch.float64) for n in (4, 6, 5)]
    squares = f[0][:, None, None] ** 2 + f[1][:, None] ** 2 + f[2] ** 2
    layout = layout_for((1, 4, 6, 5))
    lengths = torch.zeros(len(layout.sizes)).double()
    lengths[layout.bins.flatten()] = squares.flatten()
    torch.testing.assert_close(layout.spread(lengths[None, None])[0, 0], squares)


def test_a_stack_of_scans_is_each_slice_by_itself():
    scan = ops.Tomography((1, 6, 6), 4, noise=NOISE)
    stack = ops.slicewise(scan, 3)
    x = normal((3,), (2, *stack.domain_shape))
    expected = torch.stack([scan.forward(x[:, :, k]) for k in range(3)], 2)
    torch.testing.assert_close(stack.forward(x), expected)
    first = stack.pseudo_inverse(expected)[:, :, 1]
    torch.testing.assert_close(first, scan.pseudo_inverse(expected[:, :, 1]))
    tanh = ops.Operator.from_function(torch.tanh, (1, 4, 4), noise=NOISE)
    assert not isinstance(ops.slicewise(tanh, 2), ops.LinearOperator)


def test_the_noise_of_a_stack_is_that_of_every_scan():
    std = torch.arange(1.0, 5.0).reshape(2, 2)[:, :, None].expand(2, 2, 3) / 10
    scan = ops.Mask(torch.ones(2, 2, 3), noise=ops.GaussianNoise(std))
    stack = ops.slicewise(scan, 2)
    y = torch.stack([stack.measure(torch.zeros(stack.domain_shape), seed=k) for k in range(900)])
    expected = std.double()[:, None].expand(2, 2, 2, 3)
    z = (y.double().var(0) / expected**2 - 1) / (2 / 900) ** 0.5
    assert float(z.abs().max()) < 5
    smooth = ops.GaussianNoise.stationary(random_field(4).covariance.variance)
    correlated = ops.slicewise(ops.Mask(torch.ones(1, 4, 4), noise=smooth), 3).noise
    white = normal((5,), (2, 1, 3, 4, 4))
    expected = torch.stack([smooth.colour(white[:, :, k]) for k in range(3)], 2)
    torch.testing.assert_close(correlated.colour(white), expected)


def test_a_stack_is_solved_frequency_by_frequency_where_its_scan_is():
    blur = ops.Blur(torch.ones(2, 2) / 4, (1, SIDE, SIDE), noise=NOISE)
    prior = ti.priors.Slices(random_field(SIDE), depth=12, correlation=2.0)
    stack = ops.slicewise(blur, 12)
    y = stack.measure(normal((4,), stack.domain_shape), seed=1)
    exact = volume_of(torch.kron(alike(2.0, 12), prior_covariance(random_field(SIDE))), 12)
    posterior = ti.solve(y, stack, prior, num_samples=400, steps=2)
    assert agreement(posterior.samples, gaussian_posterior(exact, stack, y, 0.1)).worst_z < 5
    assert all(step.info.iterations == 0 for step in ti.iterate(y, stack, prior, steps=2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.slicewise(ops.Mask(torch.ones(2, 2))), "needs the number of slices"),
        (lambda: ops.slicewise([], 2), "got 0 operators"),
        (lambda: ops.slicewise("ct", 2), "an operator of one slice, or a list"),
        (lambda: ops.slicewise([ops.Mask(torch.ones(2, 2))] * 3, 2), "got 3 operators"),
        (lambda: ops.slicewise(ops.MatrixOperator(torch.eye(4)), 2), "operators on images"),
        (
            lambda: ops.slicewise(
                [ops.Mask(torch.ones(2, 2), noise=ops.GaussianNoise(s)) for s in (1.0, 2.0)]
            ),
            "noise models of their own",
        ),
        (
            lambda: ops.slicewise(ops.per_image([ops.Mask(torch.ones(2, 2))] * 2), 2),
            "per_image operators have no place in a stack",
        ),
        (lambda: ops.Blur(torch.ones(2, 2), (1, 3, 4, 4)), r"needs a kernel \(d, h, w\) or"),
        (lambda: ops.Downsampling((1, 4, 4, 4), (2, 2)), "or one for each axis"),
        (lambda: ops.Mask(torch.ones(1, 1, 2, 3, 4)), "needs zeros and ones of shape"),
        (lambda: ops.Tomography((1, 2, 6, 6), 4), "slicewise"),
    ],
)
def test_wrong_stacks_are_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
