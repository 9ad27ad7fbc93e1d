"""The verb: shapes, seeds, batches, costs, and every refusal before the first evaluation."""

import math
import weakref

import pytest
import torch

import operators as ops
import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.registry import WALKS
from tweedie_inverse import gaussian
from tweedie_inverse.memory import in_parts

FIELD = random_field(8)
MASK = ops.Mask(ops.random_mask((1, 8, 8), 0.4), noise=ops.GaussianNoise(0.1))
Y = MASK.measure(FIELD.draw(5, seed=1), seed=2)


class Forbidden(ti.priors.Prior):
    """A prior that must not be called: input errors come first."""

    shape, sigma_min, sigma_max = (1, 8, 8), 0.01, 10.0

    def denoise(self, x, sigma):
        raise AssertionError("the network was called")

    def denoising_error(self, sigma):
        raise AssertionError("the denoising error was asked for")


@pytest.mark.parametrize("walk", WALKS)
def test_shapes_counts_and_dtype(walk):
    for dtype in (torch.float32, torch.float64):
        posterior = ti.solve(
            Y[:2].to(dtype), MASK, FIELD, method=WALKS[walk](), num_samples=3, steps=4
        )
        assert posterior.samples.shape == (2, 3, 1, 8, 8)
        assert posterior.samples.dtype == dtype
        assert posterior.mean.shape == posterior.std.shape == (2, 1, 8, 8)
        assert posterior.quantile(0.05).shape == (2, 1, 8, 8)
        assert posterior.diagnostics.residual_chi_square.shape == (2, 3)
        assert posterior.stats.denoiser_calls == 4
        # A population sees a mask mode by mode, and applies no operator at all.
        assert posterior.stats.operator_calls >= (0 if WALKS[walk]().is_population else 4)
        assert posterior.stats.steps == 4


def test_one_measurement_without_batch_axis():
    single = ti.solve(Y[0], MASK, FIELD, num_samples=3, steps=3)
    batch = ti.solve(Y[:1], MASK, FIELD, num_samples=3, steps=3)
    assert single.samples.shape == (3, 1, 8, 8)
    assert single.mean.shape == (1, 8, 8)
    assert torch.equal(single.samples, batch.samples[0])


@pytest.mark.parametrize("walk", WALKS)
def test_same_seed_same_bits(walk):
    def run(seed):
        return ti.solve(
            Y, MASK, FIELD, method=WALKS[walk](), num_samples=2, steps=4, seed=seed
        ).samples

    assert torch.equal(run(7), run(7))
    assert float((run(7) - run(8)).abs().max()) > 1e-3


@pytest.mark.parametrize("walk", WALKS)
def test_samples_do_not_depend_on_batch_or_chunk(walk):
    def run(y, **options):
        return ti.solve(y, MASK, FIELD, method=WALKS[walk](), num_samples=3, steps=5, **options)

    together = run(Y)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(run(Y[:1]).samples[0], together.samples[0], **close)
    for size in (1, 4):
        chunked = run(Y, batch_size=size)
        torch.testing.assert_close(chunked.samples, together.samples, **close)
        assert chunked.stats.denoiser_calls == together.stats.denoiser_calls


@pytest.mark.parametrize("walk", WALKS)
def test_a_seed_each_gives_each_measurement_what_it_gets_alone(walk):
    def run(y, seed):
        return ti.solve(y, MASK, FIELD, method=WALKS[walk](), num_samples=3, steps=4, seed=seed)

    together = run(Y[:2], [5, 9]).samples
    for index, seed in enumerate((5, 9)):
        alone = run(Y[index], seed).samples
        torch.testing.assert_close(together[index], alone, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="one for each of 2 measurements, got 3"):
        run(Y[:2], (1, 2, 3))


class Small(ti.priors.Prior):
    """A prior on an accelerator that holds so many images at once."""

    def __init__(self, limit):
        self.limit, self.tried, self.shape = limit, [], FIELD.shape
        self.centre, self.any_sigma = FIELD.centre, True
        self.sigma_min, self.sigma_max = FIELD.sigma_min, FIELD.sigma_max

    def denoise(self, x, sigma):
        self.tried.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return FIELD.denoise(x, sigma)

    def denoising_error(self, sigma):
        return FIELD.denoising_error(sigma)

    def moments(self):
        return FIELD.moments()

    error_is_measured = True


@pytest.mark.parametrize("walk", WALKS)
def test_out_of_memory_halves_the_batch_with_a_warning_and_changes_no_sample(walk):
    def run(prior, **options):
        return ti.solve(
            Y, MASK, prior, method=WALKS[walk](), num_samples=3, steps=4, seed=2, **options
        )

    small, seen = Small(4), []
    with pytest.warns(RuntimeWarning, match="out of memory with 15 samples at once; going on"):
        found = run(small, callback=lambda step: seen.append(step.walkers))
    expected = run(FIELD, batch_size=3)
    torch.testing.assert_close(found.samples, expected.samples, rtol=1e-10, atol=1e-10)
    assert max(small.tried[2:]) <= 4  # 15, 7, then 3 and no more of the large ones
    assert found.stats.denoiser_calls == 4
    assert sorted(set(seen)) == [(first, first + 3) for first in range(0, 15, 3)]


@pytest.mark.parametrize("walk", WALKS)
def test_memory_for_not_one_sample_is_an_error(walk):
    with (
        pytest.warns(RuntimeWarning, match="going on with 1"),
        pytest.raises(torch.OutOfMemoryError, match="20 GiB"),
    ):
        ti.solve(Y[:1], MASK, Small(0), method=WALKS[walk](), num_samples=3, steps=4)


def test_a_failed_attempts_memory_is_free_when_the_next_begins():
    """An exception that is still being handled keeps every tensor of its frames."""
    alive = []

    def work(first, last):
        tensor = torch.zeros(last - first)
        assert all(reference() is None for reference in alive)
        alive.append(weakref.ref(tensor))
        if last - first > 2:
            raise torch.OutOfMemoryError
        return int(tensor.sum()) + last

    with pytest.warns(RuntimeWarning):
        assert list(in_parts(5, 5, work)) == [2, 4, 5]


def test_fewer_samples_are_the_first_of_more():
    few = ti.solve(Y[0], MASK, FIELD, num_samples=2, steps=4).samples
    more = ti.solve(Y[0], MASK, FIELD, num_samples=6, steps=4).samples
    torch.testing.assert_close(more[:2], few, rtol=1e-10, atol=1e-10)


def test_iterate_is_the_loop_of_solve():
    steps = list(ti.iterate(Y[:2], MASK, FIELD, num_samples=2, steps=6))
    assert [step.level.index for step in steps] == list(range(6))
    assert steps[-1].level.sigma_next == 0
    assert steps[0].info.denoised.shape == (4, 1, 8, 8)
    samples = ti.solve(Y[:2], MASK, FIELD, num_samples=2, steps=6).samples
    torch.testing.assert_close(steps[-1].x.reshape(samples.shape), samples)


def test_iterate_checks_when_called_not_when_drained():
    with pytest.raises(ValueError, match="NaN"):
        ti.iterate(Y * math.nan, MASK, Forbidden())


def test_callback_sees_every_step_of_every_chunk():
    seen = []
    ti.solve(
        Y[:3], MASK, FIELD, num_samples=2, steps=3, batch_size=4, callback=lambda s: seen.append(s)
    )
    assert [(step.walkers, step.level.index) for step in seen] == [
        *(((0, 4), index) for index in range(3)),
        *(((4, 6), index) for index in range(3)),
    ]
    assert seen[0].total == 6


def test_auto_says_what_it_chose():
    linear = ti.solve(Y[0], MASK, FIELD, num_samples=1, steps=1)
    assert linear.stats.method == "decoupled"
    assert "linear operator" in linear.stats.reason
    network = ti.priors.NetworkPrior(Shrink(), "x0", shape=(1, 8, 8))
    guessed = ti.solve(Y[0].float(), MASK, network, num_samples=1, steps=1)
    assert "not measured" in guessed.stats.reason


class Shrink(torch.nn.Module):
    """A stand-in network."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, label):
        return self.factor * x / (1 + label.reshape(-1, 1, 1, 1) ** 2)


def test_noise_of_the_call_overrides_the_operator():
    bare = ops.Mask(MASK.mask)
    given = ti.solve(Y[0], bare, FIELD, noise=0.1, num_samples=2, steps=3).samples
    model = ti.solve(Y[0], bare, FIELD, noise=ops.GaussianNoise(0.1), num_samples=2, steps=3)
    own = ti.solve(Y[0], MASK, FIELD, num_samples=2, steps=3).samples
    assert torch.equal(given, own)
    assert torch.equal(model.samples, own)


def test_unobserved_entries_of_y_do_not_matter():
    junk = torch.where(MASK.mask, Y[0], torch.full_like(Y[0], math.nan))
    clean = ti.solve(Y[0], MASK, FIELD, num_samples=2, steps=3)
    dirty = ti.solve(junk, MASK, FIELD, num_samples=2, steps=3)
    assert torch.equal(clean.samples, dirty.samples)
    assert torch.equal(clean.diagnostics.residual_chi_square, dirty.diagnostics.residual_chi_square)


class UserOperator(ops.LinearOperator):
    """Ten lines of a user: horizontal differences, forward only."""

    def __init__(self):
        super().__init__(
            domain_shape=(1, 8, 8), range_shape=(1, 8, 7), noise=ops.GaussianNoise(0.05)
        )

    def forward(self, x):
        return x[..., 1:] - x[..., :-1]


def test_a_users_own_operator_goes_through_solve_exactly():
    from tests.posteriors import agreement, gaussian_posterior

    operator = UserOperator()
    y = operator.measure(FIELD.draw(1, seed=1)[0], seed=2)
    posterior = ti.solve(y, operator, FIELD, num_samples=2000, steps=10)
    assert agreement(posterior.samples, gaussian_posterior(FIELD, operator, y, 0.05)).worst_z < 5


class WrongAdjoint(UserOperator):
    def adjoint(self, y):
        return 1.2 * super().adjoint(y)


class Offset(UserOperator):
    def forward(self, x):
        return super().forward(x) + 1


class WrongShape(UserOperator):
    def forward(self, x):
        return x


class NonLinear(ops.Operator):
    def __init__(self):
        super().__init__(
            domain_shape=(1, 8, 8), range_shape=(1, 8, 8), noise=ops.GaussianNoise(0.1)
        )

    def forward(self, x):
        return x.square()


class Detached(NonLinear):
    def forward(self, x):
        return x.detach().square()


def test_an_unknown_noise_level_is_estimated_in_the_message():
    big = random_field(32)
    y = ops.Blur(ops.gaussian_kernel(1.0), (1, 32, 32), noise=ops.GaussianNoise(0.1)).measure(
        big.draw(1, seed=1)
    )
    with pytest.raises(ValueError, match=r"y suggests noise=0\.09\d"):
        ti.solve(y, ops.Blur(ops.gaussian_kernel(1.0), (1, 32, 32)), big)


@pytest.mark.parametrize("walk", WALKS)
def test_one_operator_an_image_equals_one_solve_an_image(walk):
    noise = ops.GaussianNoise(0.1)
    masks = [ops.Mask(ops.random_mask((1, 8, 8), 0.4, seed=i), noise=noise) for i in range(3)]
    operator = ops.per_image(masks)
    y = operator.measure(FIELD.draw(3, seed=1), seed=2)
    options = {"method": WALKS[walk](), "num_samples": 2, "steps": 4}
    together = ti.solve(y, operator, FIELD, **options)
    assert together.samples.shape == (3, 2, 1, 8, 8)
    first = ti.solve(y[:1], masks[0], FIELD, **options)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(together.samples[:1], first.samples, **close)
    chi_square = together.diagnostics.residual_chi_square
    torch.testing.assert_close(chi_square[:1], first.diagnostics.residual_chi_square, **close)
    chunked = ti.solve(y, operator, FIELD, batch_size=1, **options)
    torch.testing.assert_close(chunked.samples, together.samples, **close)
    # The other images have operators of their own: their data are fitted too.
    last = [step.x for step in ti.iterate(y, operator, FIELD, **options)][-1]
    torch.testing.assert_close(last, together.samples[2], **close)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"y": Y[:, :, :7]}, r"y must be one of them or \(batch, 1, 8, 8\), got \(5, 1, 7, 8\)"),
        ({"y": Y.numpy()}, "must be a float32 or float64 tensor, got ndarray"),
        ({"y": Y.long()}, "float32 or float64 tensor, got dtype torch.int64"),
        ({"y": Y.half()}, "use y.float"),
        ({"y": torch.where(Y != 0, math.inf, Y)}, "NaN or infinite entries"),
        ({"operator": ops.Mask(MASK.mask)}, "the noise level is unknown"),
        ({"operator": ops.Mask(MASK.mask), "noise": -1.0}, "positive, finite"),
        ({"noise": "loud"}, "a number or a noise model"),
        ({"operator": torch.eye(3)}, "must derive from ops.Operator"),
        ({"prior": torch.nn.Identity()}, "wrap a network in ti.priors.NetworkPrior"),
        ({"prior": random_field(16)}, r"prior for images of shape \(1, 16, 16\)"),
        ({"operator": WrongAdjoint(), "y": torch.zeros(1, 8, 7)}, r"off by 2.0e-01, relative"),
        ({"operator": Offset(), "y": torch.zeros(1, 8, 7)}, "is declared linear, but"),
        ({"operator": WrongShape(), "y": torch.zeros(1, 8, 7)}, r"must return \(1, 1, 8, 7\)"),
        ({"operator": NonLinear(), "method": "langevin"}, r"Langevin\(norm="),
        ({"noise": ops.PoissonNoise(), "method": "langevin"}, "counts cannot be negative"),
        ({"noise": ops.PoissonNoise(), "y": Y.abs(), "method": "langevin"}, r"Langevin\(lipschitz"),
        ({"noise": ops.GaussianNoise.stationary(torch.ones(8, 8))}, "correlated across them"),
        ({"operator": Detached()}, "not differentiable by torch"),
        ({"operator": ops.per_image([MASK, MASK])}, "for each of 2 images, but y has 5"),
        ({"method": "magic"}, "choose 'auto'"),
        ({"num_samples": 0}, "at least one sample"),
        ({"steps": 0}, "at least one network evaluation"),
        ({"batch_size": 0}, "positive number of walkers"),
    ],
)
def test_bad_input_is_refused_before_the_first_evaluation(call, message):
    arguments = {"y": Y, "operator": MASK, "prior": Forbidden(), **call}
    with pytest.raises((ValueError, TypeError), match=message):
        ti.solve(**arguments)


def test_a_nonlinear_operator_walks_with_langevin():
    """y = x^2 with positive x: the samples must reproduce the data within the noise."""
    prior = ti.priors.Gaussian(torch.full((1, 8, 8), 2.0).double(), torch.eye(64) * 0.2**2)
    operator = NonLinear()
    y = operator.measure(prior.draw(1, seed=1)[0], seed=2)
    walk = ti.walks.Langevin(norm=6.0, sigma_max=2.0, initial_std=0.2)
    posterior = ti.solve(y, operator, prior, method=walk, num_samples=20, steps=1500)
    assert posterior.stats.method == "langevin"
    assert float(posterior.diagnostics.residual_chi_square.mean()) == pytest.approx(1, abs=0.35)


def test_langevin_with_a_given_curvature_walks_with_counting_noise():
    prior = ti.priors.Gaussian(torch.full((1, 8, 8), 2.0).double(), torch.eye(64) * 0.2**2)
    operator = ops.Mask(torch.ones(8, 8), noise=ops.PoissonNoise(0.1))
    y = operator.measure(prior.draw(1, seed=1)[0], seed=2)
    walk = ti.walks.Langevin(lipschitz=20.0, sigma_max=2.0, initial_std=0.2)
    posterior = ti.solve(y, operator, prior, method=walk, num_samples=20, steps=1000)
    exact = ti.solve(y, operator, prior, num_samples=20, steps=10)
    assert exact.stats.method == "decoupled"
    spread = float(exact.std.mean())
    assert float((posterior.mean - exact.mean).abs().mean()) < spread
    assert float(posterior.std.mean()) == pytest.approx(spread, rel=0.15)


class Late(Forbidden):
    """NaN in the third step of the second chunk of four steps."""

    calls = 0

    def denoise(self, x, sigma):
        self.calls += 1
        return 0 * x if self.calls <= 6 else x * math.nan

    def denoising_error(self, sigma):
        return FIELD.denoising_error(sigma)


def test_a_walk_that_diverges_says_where_and_keeps_what_was_finished():
    with pytest.raises(ti.WalkDivergedError, match=r"step 3 of 4.*prior returned NaN") as caught:
        ti.solve(Y[:2], MASK, Late(), num_samples=2, steps=4, batch_size=2)
    assert caught.value.posterior.samples.shape == (1, 2, 1, 8, 8)
    assert bool(caught.value.posterior.samples.isfinite().all())


def test_an_unfinished_linear_solve_is_told(monkeypatch):
    monkeypatch.setattr(gaussian, "DIRECT_LIMIT", 0)
    monkeypatch.setattr(gaussian, "MAX_ITERATIONS", 1)
    with pytest.warns(RuntimeWarning, match="posterior standard deviations short"):
        ti.solve(Y[0], MASK, FIELD, num_samples=1, steps=2)


def test_user_callback_errors_pass_through():
    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ti.solve(Y[0], MASK, FIELD, steps=2, callback=stop)


def test_posterior_of_a_mixture_by_the_decoupled_walk_is_close():
    """A skewed target: two overlapping components of unequal weight, seen with noise."""
    means = torch.tensor([[0.0], [2.0]]).double()
    prior = ti.priors.GaussianMixture(means, torch.tensor([0.8, 0.2]).double(), 0.6)
    operator = ops.MatrixOperator(torch.ones(1, 1), noise=ops.GaussianNoise(1.0))
    y = torch.tensor([1.0]).double()
    grid = torch.linspace(-6, 8, 20001).double()
    density = torch.zeros_like(grid)
    for weight, mean in ((0.8, 0.0), (0.2, 2.0)):
        density += weight * torch.exp(-0.5 * ((grid - mean) / 0.6) ** 2)
    density *= torch.exp(-0.5 * (1.0 - grid) ** 2)
    density /= density.sum()
    mean = float((density * grid).sum())
    std = float((density * (grid - mean) ** 2).sum()) ** 0.5
    samples = ti.solve(y, operator, prior, method="decoupled", num_samples=4000, steps=200).samples
    # Approximate for a mixture: the tolerance is the method's error, not the sampling error.
    assert abs(float(samples.mean()) - mean) < 0.1 * std
    assert float(samples.std()) == pytest.approx(std, rel=0.1)
