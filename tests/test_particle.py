"""The particle walk: exact posteriors, exact evidence, populations that do not know each other."""

import math

import pytest
import torch

import operators as ops
import tweedie_inverse as ti
from benchmarks.mixture_problems import mixture_prior, mixture_problem
from operators.random import normal
from tests.posteriors import (
    Moments,
    agreement,
    gaussian_posterior,
    prior_covariance,
    random_field,
)
from tweedie_inverse import modes
from tweedie_inverse.covariance import isotropic
from tweedie_inverse.problem import Problem
from tweedie_inverse.resampling import effective_size, normalize, systematic
from tweedie_inverse.walks import Particle

FIELD = random_field(8)
NOISE = ops.GaussianNoise(0.2)
OPERATORS = {
    "inpainting": ops.Mask(ops.random_mask((1, 8, 8), 0.3, seed=1), noise=NOISE),
    "deblurring": ops.Blur(ops.gaussian_kernel(0.9), (1, 8, 8), noise=NOISE),
    "super-resolution": ops.Downsampling((1, 8, 8), 2, kernel="block_mean", noise=NOISE),
    "coloured-noise": ops.Blur(
        ops.gaussian_kernel(0.9),
        (1, 8, 8),
        noise=ops.GaussianNoise.stationary(0.04 * (1 + torch.fft.fftfreq(8).abs().expand(8, 8))),
    ),
}


def measured(operator):
    return operator.measure(FIELD.draw(1, seed=3)[0], seed=5)


def gaussian_log_evidence(operator, y):
    """The textbook formula over the observed entries, white noise of std 0.2."""
    matrix = ops.dense_matrix(operator)
    covariance = matrix @ prior_covariance(FIELD) @ matrix.mT
    covariance += 0.04 * torch.eye(len(matrix)).double()
    keep = torch.ones(len(matrix), dtype=torch.bool)
    if operator.observed is not None:
        keep = operator.observed.expand(operator.range_shape).flatten()
    law = torch.distributions.MultivariateNormal(
        torch.zeros(int(keep.sum())).double(), covariance[keep][:, keep]
    )
    return float(law.log_prob(y.flatten()[keep]))


@pytest.mark.parametrize("path", ["tweedie", "wiener"])
@pytest.mark.parametrize("name", ["inpainting", "deblurring", "super-resolution"])
def test_a_gaussian_posterior_is_exact_with_equal_weights_and_exact_evidence(name, path):
    """Prior and bridges are Gaussian: any factor lost in a weight or a determinant shows."""
    operator = OPERATORS[name]
    y = measured(operator)
    walk = Particle(path=path)
    posterior = ti.solve(y, operator, FIELD, method=walk, num_samples=2000, steps=6)
    assert agreement(posterior.samples, gaussian_posterior(FIELD, operator, y, 0.2)).worst_z < 5
    spread = posterior.weights.max() / posterior.weights.min() - 1
    assert float(spread) < 1e-9
    exact = gaussian_log_evidence(operator, y)
    assert float(posterior.log_evidence) == pytest.approx(exact, abs=1e-9)
    assert int(posterior.diagnostics.population.resamplings) == 0


def repeated(y, operator, prior, walk, *, repeats, num_samples, steps):
    """Means, second moments and log-evidences of independent populations."""
    means, squares, evidences = [], [], []
    for seed in range(repeats):
        found = ti.solve(
            y, operator, prior, method=walk, num_samples=num_samples, steps=steps, seed=seed
        )
        flat = found.samples.flatten(1)
        weights = found.weights[:, None]
        means.append((weights * flat).sum(0))
        squares.append((weights * flat.square()).sum(0))
        evidences.append(float(found.log_evidence))
    return torch.stack(means), torch.stack(squares), torch.tensor(evidences, dtype=torch.float64)


def z_scores(values, expected):
    """Of the mean of independent repeats ``(repeats, ...)``."""
    return (values.mean(0) - expected) / (values.std(0) / len(values) ** 0.5)


@pytest.mark.parametrize(
    "walk",
    [
        Particle(path="tweedie", correctors=1, threshold=0.9),
        Particle(path="wiener", correctors=1),
        Particle(path="flat", threshold=0.9),
    ],
    ids=["tweedie", "wiener", "flat"],
)
def test_weighted_and_resampled_populations_keep_a_gaussian_posterior(walk):
    """Weights scatter here, and ancestors coincide: z-scores are those of independent populations.

    The plain samples of a population with degenerate weights, or a corrector that is not
    invariant, fail.
    """
    prior = ti.priors.Gaussian(
        torch.tensor([1.0, -1.0, 0.0]).double(),
        covariance=torch.tensor([[2.0, 0.8, 0.3], [0.8, 1.0, -0.2], [0.3, -0.2, 0.5]]).double(),
    )
    operator = ops.MatrixOperator(torch.tensor([[1.0, 1.0, 0.5]]).double(), noise=NOISE)
    y = torch.tensor([1.5]).double()
    exact = gaussian_posterior(prior, operator, y, 0.2)
    means, squares, evidences = repeated(
        y, operator, prior, walk, repeats=24, num_samples=200, steps=14
    )
    assert float(z_scores(means, exact.mean).abs().max()) < 5
    expected = exact.covariance.diagonal() + exact.mean**2
    assert float(z_scores(squares, expected).abs().max()) < 5
    matrix = operator.matrix
    scale = (matrix @ prior_covariance(prior) @ matrix.mT + 0.04).sqrt()[0]
    law = torch.distributions.Normal(matrix @ prior.mean, scale)
    errors = evidences - float(law.log_prob(y))
    if walk.path == "wiener":  # knows the prior: nothing scatters
        assert float(errors.abs().max()) < 1e-9
    else:
        assert abs(float(z_scores(errors.exp(), 1.0))) < 5


def bimodal():
    """Modes at -2 and 2 in both coordinates, the first seen with much noise."""
    means = torch.tensor([[-2.0, -2.0], [2.0, 2.0]]).double()
    weights, std, noise = torch.tensor([0.3, 0.7]).double(), 0.5, 3.0
    prior = ti.priors.GaussianMixture(means, weights, std)
    operator = ops.MatrixOperator(
        torch.tensor([[1.0, 0.0]]).double(), noise=ops.GaussianNoise(noise)
    )
    y = torch.tensor([-1.0]).double()
    law = torch.distributions.Normal(means[:, 0], (std**2 + noise**2) ** 0.5)
    joint = weights.log() + law.log_prob(y)
    return prior, operator, y, torch.softmax(joint, 0)[0], torch.logsumexp(joint, 0)


@pytest.mark.parametrize("path", ["tweedie", "wiener"])
def test_both_modes_get_their_share(path):
    prior, operator, y, share, log_evidence = bimodal()
    shares, evidences = [], []
    for seed in range(12):
        found = ti.solve(
            y, operator, prior, method=Particle(path=path), num_samples=500, steps=50, seed=seed
        )
        low = (found.samples.sum(1) < 0).double()
        shares.append(float((found.weights * low).sum()))
        evidences.append(float(found.log_evidence))
    # The bias of 50 levels is below the noise of one population of 500; both are allowed here.
    shares = torch.tensor(shares, dtype=torch.float64)
    assert abs(float(shares.mean() - share)) < 0.01 + 5 * float(shares.std()) / 12**0.5
    assert float(shares.std()) < 1.5 * float(share * (1 - share) / 500) ** 0.5
    error = torch.tensor(evidences, dtype=torch.float64) - log_evidence
    assert abs(float(error.mean())) < 0.02
    inside = found.samples[found.samples.sum(1) > 0]
    gain = 0.25 / (0.25 + 9)
    exact = Moments(
        torch.tensor([2 + gain * (-1 - 2), 2.0]).double(),
        torch.diag(torch.tensor([0.25 * (1 - gain), 0.25]).double()),
    )
    assert agreement(inside, exact).worst_z < 5


@pytest.mark.parametrize("dimensions", [8, 80])
def test_log_evidence_of_the_mixture_benchmark(dimensions):
    """Within 0.1 nat on average, and unbiased as an estimate of the evidence."""
    prior = mixture_prior(dimensions)
    errors = []
    for seed in range(500, 505):
        problem = mixture_problem(prior, 1 + seed % 2, seed)
        found = ti.solve(
            problem.y,
            problem.operator,
            prior,
            method="particle",
            num_samples=400,
            steps=60,
            seed=seed,
        )
        errors.append(float(found.log_evidence) - problem.log_evidence)
    errors = torch.tensor(errors, dtype=torch.float64)
    assert float(errors.abs().mean()) < 0.1
    assert abs(float(z_scores(errors.exp(), 1.0))) < 5


def test_more_walkers_are_nearer():
    """Error of a mode's share falls like the root of the number of walkers."""
    prior, operator, y, share, _ = bimodal()

    def error(count, repeats):
        squares = []
        for seed in range(repeats):
            found = ti.solve(
                y, operator, prior, method="particle", num_samples=count, steps=30, seed=seed
            )
            low = float((found.weights * (found.samples.sum(1) < 0)).sum())
            squares.append((low - float(share)) ** 2)
        return math.sqrt(sum(squares) / repeats)

    few, many = error(50, 20), error(1200, 5)
    slope = math.log(many / few) / math.log(1200 / 50)
    assert -0.9 < slope < -0.25


def test_class_probabilities_of_digits_with_half_the_pixels_missing():
    """An empirical posterior is a list of images with known probabilities."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images[:200, None] / 16.0)
    labels = torch.from_numpy(digits.target[:200])
    prior = ti.priors.Empirical(images, std=0.05)
    mask = (torch.arange(8) < 4).expand(8, 8)[None].clone()
    operator = ops.Mask(mask, noise=ops.GaussianNoise(0.9))
    y = operator.measure(images[[77, 134]], seed=1)
    found = ti.solve(y, operator, prior, method="particle", num_samples=1000, steps=30, seed=1)
    variance = 0.9**2 + 0.05**2
    for index in range(2):
        misfit = ((y[index] - images) * mask).flatten(1).square().sum(1)
        exact = torch.softmax(-misfit / (2 * variance), 0)
        distance = torch.cdist(found.samples[index].flatten(1), images.flatten(1))
        chosen = labels[distance.argmin(1)]
        shares = [
            (float(exact[labels == k].sum()), float(found.weights[index][chosen == k].sum()))
            for k in range(10)
        ]
        assert sum(abs(a - b) for a, b in shares) / 2 < 0.05
        assert max(a for a, _ in shares) < 0.95, "the posterior must leave a choice"


@pytest.mark.parametrize("walk", [Particle(threshold=1.0), Particle(path="flat", correctors=1)])
def test_populations_depend_on_neither_chunks_nor_neighbours(walk):
    """Every step is resampled: a shared random number, or a wrong offset of indices, shows."""
    operator = OPERATORS["inpainting"]
    y = operator.measure(FIELD.draw(3, seed=1), seed=2)

    def run(y, **options):
        return ti.solve(y, operator, FIELD, method=walk, num_samples=20, steps=5, **options)

    together = run(y)
    assert int(together.diagnostics.population.resamplings.min()) > 0
    close = {"rtol": 1e-9, "atol": 1e-9}
    for other in (run(y, batch_size=7), run(y, batch_size=45)):
        torch.testing.assert_close(other.samples, together.samples, **close)
        torch.testing.assert_close(other.weights, together.weights, **close)
        torch.testing.assert_close(other.log_evidence, together.log_evidence, **close)
        assert other.stats.denoiser_calls == together.stats.denoiser_calls == 5
    alone = run(y[0])
    torch.testing.assert_close(alone.samples, together.samples[0], **close)
    torch.testing.assert_close(alone.log_evidence, together.log_evidence[0], **close)
    assert alone.diagnostics.population.effective_sizes.shape == (5,)


class Chunked(ti.priors.Gaussian):
    largest = 0

    def denoise(self, x, sigma):
        self.largest = max(self.largest, len(x))
        return super().denoise(x, sigma)


def test_a_population_larger_than_the_batch_evaluates_the_prior_in_parts():
    prior = Chunked(FIELD.mean, covariance=prior_covariance(FIELD))
    operator = OPERATORS["inpainting"]
    ti.solve(
        measured(operator),
        operator,
        prior,
        method="particle",
        num_samples=50,
        steps=3,
        batch_size=8,
    )
    assert prior.largest == 8


@pytest.mark.parametrize("name", OPERATORS)
def test_direct_and_iterative_modes_agree_with_dense_matrices(name):
    """Draws and marginal laws of all kinds of `Modes`, in a basis and with any variances."""
    operator = OPERATORS[name]
    y = measured(operator)
    count = 3
    problem = Problem(y.expand(count, *y.shape), operator, operator.noise)
    basis = FIELD.covariance.basis if name == "coloured-noise" else problem.basis
    c, v = normal((1,), (count, 1, 8, 8)), normal((2,), (1, 8, 8)).abs()
    kinds = [modes.DirectModes(problem, basis), modes.IterativeModes(problem, basis)]
    if problem.is_diagonal(basis):
        kinds.append(modes.DiagonalModes(problem, basis))
    else:
        assert name == "coloured-noise"
    matrix = ops.dense_matrix(operator)
    units = torch.eye(64).double().reshape(64, 1, 8, 8)
    images = basis.inverse(units).reshape(64, 64).mT  # columns: basis vectors
    noise = operator.noise.colour(torch.eye(len(matrix)).double().reshape(-1, *y.shape))
    noise = noise.flatten(1).mT @ noise.flatten(1)
    system = matrix @ images @ v.flatten().diag() @ images.mT @ matrix.mT + noise
    keep = torch.ones(len(matrix), dtype=torch.bool)
    if operator.observed is not None:
        keep = operator.observed.expand(y.shape).flatten()
    law = torch.distributions.MultivariateNormal(
        (c.flatten(1) @ images.mT @ matrix.mT)[:, keep], system[keep][:, keep]
    )
    exact = law.log_prob(y.flatten()[keep])
    gain = torch.linalg.solve(system, matrix @ images @ v.flatten().diag()).mT
    residual = y.flatten() - c.flatten(1) @ images.mT @ matrix.mT
    mean = c + (residual @ gain.mT).reshape(c.shape)
    for kind in kinds:
        white = torch.zeros(count, *kind.shape).double()
        data_white = torch.zeros(count, *kind.noise_shape).double()
        found = kind.condition(c, v, white, data_white)
        torch.testing.assert_close(found.mean, mean, rtol=1e-4, atol=5e-3)
        torch.testing.assert_close(found.draw, found.mean, rtol=1e-6, atol=1e-6)
        marginal = kind.log_marginal(c, v)
        torch.testing.assert_close(marginal.diff(), exact.diff(), rtol=1e-6, atol=1e-3)
        if isinstance(kind, modes.IterativeModes):
            assert math.isnan(kind.log_scale(v))
        else:
            torch.testing.assert_close(marginal + kind.log_scale(v), exact)
            torch.testing.assert_close(found.mean, mean)


def test_conjugate_gradients_give_the_same_population(monkeypatch):
    """Weights without determinants: the same for all walkers, so that only the evidence lacks."""
    operator = OPERATORS["coloured-noise"]
    y, walk = measured(operator), Particle(correctors=1, threshold=0)
    options = {"method": walk, "num_samples": 30, "steps": 4}
    direct = ti.solve(y, operator, FIELD, **options)
    monkeypatch.setattr(modes, "DIRECT_LIMIT", 0)
    iterative = ti.solve(y, operator, FIELD, **options)
    torch.testing.assert_close(iterative.samples, direct.samples, rtol=0, atol=1e-2)
    torch.testing.assert_close(iterative.weights, direct.weights, rtol=0.05, atol=1e-5)
    assert float(direct.weights.max() / direct.weights.min()) > 2
    assert bool(iterative.log_evidence.isnan())
    assert bool(direct.log_evidence.isfinite())


def test_systematic_resampling_is_fair():
    weights = normal((1,), (2, 50)).double().exp()
    weights = weights / weights.sum(1, keepdim=True)
    total = torch.zeros_like(weights)
    for index in range(400):
        chosen = systematic(weights, torch.full((2,), (index + 0.5) / 400))
        counts = torch.stack([torch.bincount(row, minlength=50) for row in chosen])
        assert float((counts - 50 * weights).abs().max()) < 1
        total += counts
    torch.testing.assert_close(total / 400, 50 * weights, rtol=0, atol=5e-3)


def test_weights_far_apart_do_not_overflow():
    raw = torch.tensor([[-1e5, -1e5 - 1.0, -2e5]]).double()
    weighted = normalize(raw)
    assert float(weighted.log_weights.exp().sum()) == pytest.approx(1)
    assert 1 < float(effective_size(weighted.log_weights)) < 2


def test_weights_evidence_and_ancestry_are_saved(tmp_path):
    operator = OPERATORS["inpainting"]
    walk = Particle(path="flat")
    y = operator.measure(FIELD.draw(2, seed=1), seed=2)
    posterior = ti.solve(y, operator, FIELD, method=walk, num_samples=30, steps=4)
    posterior.save(tmp_path / "a.safetensors")
    again = ti.Posterior.load(tmp_path / "a.safetensors")
    assert torch.equal(again.weights, posterior.weights)
    assert float(again.weights.std()) > 0
    for mine, theirs in zip(
        posterior.diagnostics.population, again.diagnostics.population, strict=True
    ):
        assert torch.equal(mine, theirs)
    population = again.diagnostics.population
    assert population.effective_sizes.shape == (2, 4)
    assert population.ancestors.shape == (2, 30)
    assert population.resamplings.shape == (2,)


def test_equally_weighted_samples_follow_the_weights():
    posterior = ti.solve(
        measured(OPERATORS["inpainting"]), OPERATORS["inpainting"], FIELD,
        method=Particle(path="flat"), num_samples=200, steps=5,
    )  # fmt: skip
    drawn = posterior.equally_weighted(20000)
    assert drawn.shape == (20000, 1, 8, 8)
    scale = posterior.std.clamp(min=1e-3)
    assert float(((drawn.mean(0) - posterior.mean) / scale).abs().max()) < 0.02


def test_other_walks_have_no_evidence():
    operator = OPERATORS["inpainting"]
    posterior = ti.solve(measured(operator), operator, FIELD, num_samples=2, steps=2)
    with pytest.raises(AttributeError, match="method='particle'"):
        _ = posterior.log_evidence
    assert posterior.diagnostics.population is None


def test_auto_takes_a_population_where_it_pays():
    prior, operator, y, *_ = bimodal()
    many = ti.solve(y, operator, prior, num_samples=200, steps=2)
    assert many.stats.method == "particle"
    assert "200 walkers" in many.stats.reason
    assert ti.solve(y, operator, prior, num_samples=16, steps=2).stats.method == "decoupled"
    operator = OPERATORS["inpainting"]
    field = ti.solve(measured(operator), operator, FIELD, num_samples=200, steps=1)
    assert field.stats.method == "decoupled"


class Unmeasured(ti.priors.Gaussian):
    error_is_measured = False


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"noise": ops.PoissonNoise(), "y": torch.ones(1, 8, 8)}, "linear operator with Gaussian"),
        ({"operator": ops.Operator.from_function(torch.square, (1, 8, 8), noise=NOISE)}, "linear"),
        ({"prior": Unmeasured(FIELD.mean, prior_covariance(FIELD))}, "measure_denoising_error"),
    ],
)
def test_what_it_cannot_do_is_refused(call, message):
    operator = OPERATORS["inpainting"]
    arguments = {"y": measured(operator), "operator": operator, "prior": FIELD, **call}
    with pytest.raises(ValueError, match=message):
        ti.solve(**arguments, method="particle")


@pytest.mark.parametrize(
    "settings",
    [{"path": "magic"}, {"correctors": -1}, {"threshold": 2.0}, {"corrector_time": 0.0}],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match="Particle"):
        Particle(**settings)


def test_the_budget_holds_correctors():
    walk = Particle(path="wiener", correctors=2)
    for steps in (1, 2, 7, 9):
        sigmas = walk.sigmas(FIELD, steps)
        assert len(sigmas) == steps + 1
        assert sigmas[-1] == 0
        assert bool((sigmas.diff() <= 0).all())


def test_moments_of_a_prior_that_does_not_know_them():
    """From the denoising error at sigma_max; 50 standard deviations away that is nearly exact."""
    mean, covariance = ti.priors.base.Prior.moments(FIELD)
    torch.testing.assert_close(mean, FIELD.mean)
    expected = FIELD.covariance.variance
    torch.testing.assert_close(covariance.variance, expected, rtol=1e-6, atol=0)
    assert float(isotropic(1.0).variance) == 1
