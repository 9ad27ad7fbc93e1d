"""Noise models: their samples follow their likelihood, and the likelihood is the textbook's."""

import math

import pytest
import scipy.stats
import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

SHAPE = (1, 6, 5)
COUNT = 4000


def smooth_power(size=(6, 5)):
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in size)
    return 0.02 + 0.3 * torch.exp(-15 * (rows[:, None] ** 2 + columns**2))


NOISES = {
    "gaussian": ops.GaussianNoise(0.3),
    "gaussian-a-pixel": ops.GaussianNoise(torch.linspace(0.1, 1, 5)),
    "gaussian-correlated": ops.GaussianNoise.stationary(smooth_power()),
    "poisson": ops.PoissonNoise(0.25),
    "poisson-gaussian": ops.PoissonGaussianNoise(0.25, 0.4),
    "digitized": ops.DigitizedNoise(0.3, step=0.5, low=-1.0, high=1.5),
    "saturated": ops.DigitizedNoise(0.3, low=-1.0, high=1.5),
}
SMOOTH = [name for name in NOISES if name not in ("digitized", "saturated")]


@pytest.fixture(params=NOISES)
def noise(request):
    return NOISES[request.param]


def clean(count=1):
    return 0.2 + normal((3,), (count, *SHAPE)).abs()


def test_gradient_is_the_derivative_of_log_prob(noise):
    ax = clean(3)
    y = noise.sample(ax, seed=1)
    ax = ax + 0.3 * normal((5,), ax.shape).abs()
    direction, step = normal((6,), ax.shape), 1e-5
    rise = noise.log_prob(y, ax + step * direction) - noise.log_prob(y, ax - step * direction)
    slope = (noise.gradient(y, ax) * direction).flatten(1).sum(1)
    torch.testing.assert_close(slope, rise / (2 * step), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_dtype_and_gives_one_number_an_image(noise, dtype):
    ax = clean(3).to(dtype)
    y = noise.sample(ax, seed=1)
    assert y.dtype == noise.gradient(y, ax).dtype == noise.log_prob(y, ax).dtype == dtype
    assert noise.log_prob(y, ax).shape == (3,)
    single = noise.log_prob(y.float(), ax.float()).double()
    torch.testing.assert_close(
        single, noise.log_prob(y.double(), ax.double()), rtol=1e-4, atol=1e-4
    )


def test_samples_are_reproducible_and_one_stream_an_image(noise):
    ax = clean(3)
    y = noise.sample(ax, seed=1)
    assert torch.equal(y, noise.sample(ax, seed=1))
    assert torch.equal(y[:1], noise.sample(ax[:1], seed=1))
    assert not torch.equal(y, noise.sample(ax, seed=2))


@pytest.mark.parametrize("name", SMOOTH)
def test_mean_and_variance_of_samples(name):
    noise, ax = NOISES[name], clean().expand(COUNT, *SHAPE)
    y = noise.sample(ax, seed=4)
    variance = noise.variance(ax).expand(ax.shape)[0]
    z = (y.mean(0) - ax[0]) / (variance / COUNT).sqrt()
    assert float(z.abs().max()) < 5
    kurtosis = ((y - ax[0]) ** 4).mean(0) / y.var(0) ** 2
    ratio_z = (y.var(0) / variance - 1) / ((kurtosis - 1) / COUNT).sqrt()
    assert float(ratio_z.abs().max()) < 5
    standard = noise.standardize(y, ax).square().flatten(1).mean(1)
    assert abs(float((standard.mean() - 1) / (standard.std() / COUNT**0.5))) < 5


def test_the_score_has_mean_zero_and_the_information_as_covariance(noise):
    """E[grad] = 0 and E[grad^2] = F: fails for a likelihood that is not the sampler's."""
    # Below saturation: a mass of 1e-6 with a huge score would not be met in 4,000 samples.
    ax = clean().clamp(max=1.2).expand(COUNT, *SHAPE)
    gradient = noise.gradient(noise.sample(ax, seed=6), ax)
    z = gradient.mean(0) / (gradient.std(0) / COUNT**0.5)
    assert float(z.abs().max()) < 5
    if isinstance(noise, ops.DigitizedNoise | ops.PoissonGaussianNoise):
        return  # the first answers with the observed information, the second with a lower bound
    units, some = torch.eye(30).double().reshape(30, *SHAPE), ax[:30]
    y = noise.sample(some)
    information = noise.information(units, y, some).flatten(1)
    flat = gradient.flatten(1)
    found = flat.mT @ flat / COUNT
    scatter = ((flat[:, :, None] * flat[:, None]).std(0) / COUNT**0.5).clamp(min=1e-12)
    assert float(((found - information) / scatter).abs().max()) < 5.5
    root = noise.information_root(units, y, some).flatten(1)
    torch.testing.assert_close(root.mT @ root, information, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["digitized", "saturated"])
def test_digitized_curvature_is_minus_the_second_derivative(name):
    noise, ax, step = NOISES[name], clean(4), 1e-5
    y = noise.sample(ax, seed=2)
    assert bool((y == noise.high).any())
    bend = (noise.gradient(y, ax - step) - noise.gradient(y, ax + step)) / (2 * step)
    torch.testing.assert_close(noise.curvature(y, ax), bend, rtol=1e-5, atol=1e-6)


def test_poisson_is_scipys():
    ax, gain = clean(4) * 40, 0.5
    y = ops.PoissonNoise(gain).sample(ax, seed=1)
    expected = scipy.stats.poisson.logpmf((y / gain).numpy(), (ax / gain).numpy())
    found = ops.PoissonNoise(gain).log_prob(y, ax)
    torch.testing.assert_close(
        found, torch.from_numpy(expected).flatten(1).sum(1), rtol=1e-10, atol=1e-8
    )


def test_poisson_survives_large_counts_in_single_precision():
    """A difference of log-likelihoods of 1e5 counts a pixel: naive sums lose it in float32."""
    ax = 1e5 * clean(1).expand(2, *SHAPE) * torch.tensor([1, 1.002]).double().reshape(2, 1, 1, 1)
    noise = ops.PoissonNoise(1.0)
    y = noise.sample(ax[:1], seed=1).expand(2, *SHAPE)
    exact = noise.log_prob(y, ax).diff()
    single = noise.log_prob(y.float(), ax.float()).diff().double()
    assert float((single - exact).abs()) < 0.02 * float(exact.abs())


@pytest.mark.parametrize("std", [0.05, 0.4, 3.0])
def test_poisson_gaussian_is_the_infinite_sum(std):
    ax, gain = clean(2) * 3, 0.5
    noise = ops.PoissonGaussianNoise(gain, std)
    y = noise.sample(ax, seed=1)
    k = torch.arange(400).double().reshape(-1, 1, 1, 1, 1)
    poisson = torch.from_numpy(scipy.stats.poisson.logpmf(k.numpy(), (ax / gain).numpy()))
    normal_ = torch.distributions.Normal(gain * k, std).log_prob(y)
    expected = (poisson + normal_).logsumexp(0).flatten(1).sum(1)
    torch.testing.assert_close(noise.log_prob(y, ax), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("std", [0.03, 0.5])
def test_poisson_gaussian_is_finite_wherever_a_walk_may_go(std, dtype):
    noise = ops.PoissonGaussianNoise(1.0, std)
    ax = torch.tensor([-3.0, 0.01, 5.0, 1000.0]).to(dtype)
    y = torch.tensor([-2.0, 0.0, 7.0, 1003.0]).to(dtype)
    ax, y = (part.reshape(-1, 1) for part in torch.meshgrid(ax, y, indexing="ij"))
    assert bool(noise.log_prob(y, ax).isfinite().all())
    assert bool(noise.gradient(y, ax).isfinite().all())


def test_rates_below_zero_still_have_a_likelihood():
    noise = ops.PoissonNoise(1.0)
    ax = torch.tensor([[-3.0, -0.5, 0.0, 0.009, 0.011]]).double()
    y = torch.tensor([[0.0, 1.0, 0.0, 2.0, 2.0]]).double()
    assert bool(noise.log_prob(y, ax).isfinite().all())
    assert bool((noise.gradient(y, ax)[:, [1, 3, 4]] > 0).all())


def test_digitized_probabilities_sum_to_one():
    noise = NOISES["digitized"]
    values = torch.arange(-1.0, 1.51, 0.5).double()
    for ax in (-2.0, 0.1, 0.6, 7.0):
        mass = noise.log_prob(values[:, None], torch.full((6, 1), ax).double()).exp()
        assert float(mass.sum()) == pytest.approx(1, abs=1e-12)


def test_digitized_frequencies():
    noise, ax = NOISES["digitized"], torch.full((20_000, 1), 0.3).double()
    y = noise.sample(ax, seed=1)
    for value in (-0.5, 0.0, 0.5, 1.0):
        mass = float(noise.log_prob(torch.tensor([[value]]).double(), ax[:1]).exp())
        share = float((y == value).double().mean())
        assert abs(share - mass) < 5 * (mass * (1 - mass) / len(y)) ** 0.5


def test_correlated_noise_has_its_power_spectrum():
    power = smooth_power()
    y = ops.GaussianNoise.stationary(power).sample(torch.zeros(COUNT, *SHAPE).double(), seed=2)
    found = torch.fft.fft2(y, norm="ortho").abs().square().mean((0, 1))
    # Real coefficients are chi-square of one degree of freedom, complex ones of two.
    assert float(((found / power - 1) / (2 / COUNT) ** 0.5).abs().max()) < 5


def test_a_stack_keeps_each_parts_noise():
    shape = (1, 8, 8)
    counts = ops.compose(ops.Blur(ops.gaussian_kernel(1.0, 3), shape), noise=ops.PoissonNoise(0.5))
    image = ops.Downsampling(shape, 2, noise=ops.GaussianNoise(0.1))
    both = ops.stack(counts, image)
    x = 1 + normal((1,), (2, *shape)).abs()
    y = both.measure(x, seed=3)
    parts = both.split(y)
    assert [tuple(part.shape) for part in parts] == [(2, 1, 8, 8), (2, 1, 4, 4)]
    torch.testing.assert_close(both.join(parts), y)
    expected = counts.noise.log_prob(parts[0], counts.forward(x))
    expected += image.noise.log_prob(parts[1], image.forward(x))
    torch.testing.assert_close(both.noise.log_prob(y, both.forward(x)), expected)
    for part, other in zip(parts, both.split(both.measure(x, seed=4)), strict=True):
        assert not torch.equal(part, other)


def test_gaussian_parts_of_a_stack_stay_gaussian():
    shape = (1, 8, 8)
    noise = ops.stack(
        ops.Mask(torch.ones(8, 8), noise=ops.GaussianNoise(0.1)),
        ops.Downsampling(shape, 2, noise=ops.GaussianNoise(0.3)),
    ).noise
    assert isinstance(noise, ops.GaussianNoise)
    assert noise.std.tolist() == [0.1] * 64 + [0.3] * 16


@pytest.mark.parametrize("std", [0.02, 0.2])
def test_noise_level_is_estimated(std):
    from skimage.data import camera

    image = torch.from_numpy(camera() / 255.0)[None, None]
    y = ops.GaussianNoise(std).sample(image, seed=1)
    # The grass of this photograph is fine texture: at little noise the estimate is too high.
    assert 0.9 * std < ops.estimate_noise(y) < 1.3 * std
    masked = ops.Mask(ops.random_mask((1, 512, 512), 0.9), noise=ops.GaussianNoise(std))
    assert 0.9 * std < ops.estimate_noise(masked.measure(image)) < 1.3 * std


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.GaussianNoise(math.inf), "positive, finite"),
        (
            lambda: ops.GaussianNoise.stationary(torch.arange(16).reshape(4, 4)),
            "f and -f",
        ),
        (lambda: ops.PoissonNoise(0), "positive, finite"),
        (lambda: ops.PoissonGaussianNoise(1.0, -1.0), "positive, finite"),
        (lambda: ops.PoissonGaussianNoise(0.001, 1.0), "would need 12000 terms"),
        (lambda: ops.PoissonNoise(1.0).refuse(torch.tensor([-1.0])), "cannot be negative"),
        (lambda: ops.DigitizedNoise(0.1, low=1, high=0), "low < high"),
        (lambda: ops.DigitizedNoise(0.1, step=0.3, high=1.0), "multiples of the step"),
        (lambda: NOISES["saturated"].refuse(torch.tensor([2.0])), "outside the range"),
        (lambda: NOISES["digitized"].scaled(2.0), "no scaled form"),
        (lambda: ops.estimate_noise(torch.ones(3)), "4x4 neighbouring"),
        (lambda: ops.estimate_noise(torch.ones(1, 4, 4)), "only 1 of the 4x4 windows"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rounding_adds_its_variance():
    """A step of two standard deviations: without it the variance is a quarter too small."""
    noise, count = ops.DigitizedNoise(0.5, step=1.0), 40_000
    ax = torch.linspace(0, 1, count + 1)[:-1].double().expand(1, count)  # every phase of a step
    error = (noise.sample(ax, seed=1) - ax).square()
    promised = noise.variance(ax)
    z = (error - promised).mean() / (error.std() / count**0.5)
    assert abs(float(z)) < 5
    assert float(promised[0, 0]) == 0.25 + 1 / 12
