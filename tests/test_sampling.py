"""`ti.sample`: any prior, recipe and schedule; distributions at the end; refusals."""

from functools import partial

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import Moments, agreement, prior_covariance, random_field
from tests.registry import PRIORS
from tweedie_inverse import phase_space
from tweedie_inverse.benchmarks.studies.exact_laws import final_variance
from tweedie_inverse.numerics import schedules
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.sampling.sampling import plan_for
from tweedie_inverse.walks import INTEGRATORS, RECIPES, Churn, Recipe, Template, consistent, ddim
from tweedie_inverse.walks.integrators import IntegratorState

FIELD = random_field(8)
NAMES = [*RECIPES, *INTEGRATORS]
# Recipes whose own bias at 400 evaluations is far below the sampling error of the tests here.
# Not so: ncsn and simple (biased by their fixed step), pf-ode (ends half a step above 0).
ACCURATE = ["consistent", "ddim", "ddpm", "ddpm-large", "ve-sde"]
ACCURATE += ["churn", "coloured", "dpm++2m", "heun"]


def dense_gaussian():
    factor = normal((3,), (5, 5))
    return ti.priors.Gaussian(3 * normal((4,), (5,)), covariance=factor @ factor.mT + 0.05)


@pytest.mark.parametrize("count", [400, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ACCURATE)
@pytest.mark.parametrize("prior", [dense_gaussian(), FIELD], ids=["dense", "field"])
def test_samples_have_mean_and_covariance_of_the_prior(name, prior, count):
    """z-scores of mean and variance along every principal axis."""
    samples = ti.sample(prior, count, recipe=name, steps=400, dtype=torch.float64)
    exact = Moments(prior.mean.flatten(), prior_covariance(prior))
    assert agreement(samples, exact).worst_z < 5


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_law_of_the_discretized_walk(name):
    """Joins the exact recursion of `laws.py`, and its biases, to what `sample` draws."""
    samples = ti.sample(FIELD, 2000, recipe=name, steps=25, dtype=torch.float64)
    plan = plan_for(FIELD, name, 25)
    grid = torch.tensor(plan.sigmas, dtype=torch.float64)
    s = FIELD.covariance.variance.flatten()
    law = final_variance(plan.integrator, grid, s)
    basis = FIELD.covariance.basis.transform(samples).flatten(1)
    assert agreement(basis, Moments(torch.zeros(64).double(), law.diag())).worst_z < 5


MIXTURE = ti.priors.GaussianMixture(
    torch.tensor([[-3.0, 0.0, 1.0], [2.0, 2.0, 0.0], [1.0, -4.0, -1.0]]).double(),
    torch.tensor([0.5, 0.3, 0.2]).double(),
    0.5,
)


def _mixture_z(samples):
    """Largest z-score of first and second moments, the components' shares and their variance."""
    weights, means = MIXTURE.log_weights.exp(), MIXTURE.means
    second = MIXTURE.std**2 * torch.eye(3).double() + torch.einsum(
        "k,ki,kj->ij", weights, means, means
    )
    nearest = torch.cdist(samples, means).argmin(1)  # components are 6 standard deviations apart
    found = torch.cat(
        [
            samples,
            torch.einsum("bi,bj->bij", samples, samples).flatten(1),
            torch.nn.functional.one_hot(nearest, 3).double(),
            (samples - means[nearest]).square(),
        ],
        dim=1,
    )
    spread = torch.full((3,), MIXTURE.std**2).double()
    exact = torch.cat([weights @ means, second.flatten(), weights, spread])
    return float(((found.mean(0) - exact) / found.std(0) * len(found) ** 0.5).abs().max())


@pytest.mark.parametrize("count", [1500, pytest.param(6000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ACCURATE)
def test_samples_of_a_mixture(name, count):
    samples = ti.sample(MIXTURE, count, recipe=name, steps=400, dtype=torch.float64)
    assert _mixture_z(samples) < 5


def test_the_criterion_sees_a_fixed_step():
    """And passes exact samples."""
    fixed = partial(consistent, step=0.4)
    samples = ti.sample(MIXTURE, 4000, recipe=fixed, steps=400, dtype=torch.float64)
    assert _mixture_z(samples) > 5
    assert _mixture_z(MIXTURE.draw(4000, seed=1)) < 5


@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
def test_every_schedule_by_name_and_as_numbers(schedule):
    named = ti.sample(FIELD, 3, schedule=schedule, steps=6)
    grid = schedules.SCHEDULES[schedule](6, FIELD.sigma_min, FIELD.sigma_max)
    assert torch.equal(named, ti.sample(FIELD, 3, schedule=grid))
    assert torch.equal(named, ti.sample(FIELD, 3, schedule=schedules.SCHEDULES[schedule], steps=6))
    assert torch.equal(named, ti.sample(FIELD, 3, recipe=ddim(grid)))
    assert named.shape == (3, 1, 8, 8)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("recipe", NAMES)
def test_every_prior_with_every_recipe(name, recipe):
    prior = PRIORS[name]()

    def run(count, **options):
        return ti.sample(prior, count, recipe=recipe, steps=5, dtype=torch.float64, **options)

    samples = run(3)
    assert samples.shape == (3, *prior.shape)
    assert samples.dtype == torch.float64
    assert bool(samples.isfinite().all())
    # Fewer samples are the first of more, and their company makes no difference.
    torch.testing.assert_close(samples[:2], run(2))
    torch.testing.assert_close(samples, run(3, batch_size=2))
    assert not torch.equal(samples, run(3, seed=2))
    assert ti.sample(prior, 1, recipe=recipe, steps=2).dtype == torch.float32


class Counted(ti.priors.Prior):
    """The field, counting its calls, with a trained range."""

    def __init__(self):
        self.shape, self.centre = FIELD.shape, FIELD.centre
        self.sigma_min, self.sigma_max = 0.01, 20.0
        self.calls, self.asked = 0, []

    def denoise(self, x, sigma):
        self.calls += 1
        self.asked.append(sigma)
        return FIELD.denoise(x, sigma)

    def denoising_error(self, sigma):
        return FIELD.denoising_error(sigma)


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize("recipe", NAMES)
def test_steps_are_a_budget_of_network_evaluations(recipe, steps):
    prior = Counted()
    ti.sample(prior, 2, recipe=recipe, steps=steps)
    evaluations = INTEGRATORS[recipe].evaluations if recipe in INTEGRATORS else 1
    calls = prior.calls - 2  # before the walk, to see that the prior keeps to its contract
    assert steps - evaluations < calls <= steps
    assert calls == plan_for(prior, recipe, steps).evaluations
    assert max(prior.asked) <= 20.0 * (1 + 1e-9)
    assert min(prior.asked) >= 0.01 * (1 - 1e-9)


@pytest.mark.parametrize("recipe", NAMES)
def test_steps_leave_their_input_as_it_is(recipe):
    plan = plan_for(FIELD, recipe, 9)
    x = 3 * normal((1,), (2, *FIELD.shape))
    state = IntegratorState(x, 0.5 * x)
    kept = x.clone()
    after = plan.integrator.step(state, 2, plan.sigmas, FIELD, lambda: torch.ones_like(x))
    assert torch.equal(state.x, kept)
    assert torch.equal(state.denoised, 0.5 * kept)
    assert after.x.shape == after.denoised.shape == x.shape


@pytest.mark.parametrize("recipe", ["ddpm", "heun", "dpm++2m"])
def test_trajectory_is_the_walk_of_sample(recipe):
    steps = list(ti.trajectory(FIELD, 2, recipe=recipe, steps=9, seed=4))
    assert [step.level.index for step in steps] == list(range(len(steps)))
    assert steps[-1].level.sigma_next == 0
    assert steps[0].level.sigma == pytest.approx(FIELD.sigma_max)
    assert steps[-1].evaluations == 9
    assert torch.equal(steps[-1].x, ti.sample(FIELD, 2, recipe=recipe, steps=9, seed=4))
    final = steps[-1].denoised
    assert float((steps[-1].x - final).abs().max()) < 1e-5  # the last step goes all the way


def test_progress_counts_evaluations(capsys):
    ti.sample(FIELD, 5, recipe="heun", steps=9, batch_size=2, progress=True)
    assert "45/45" in capsys.readouterr().err


def test_partial_recipes_and_own_integrators():
    grid = schedules.geometric(8, 0.01, 20.0)
    by_function = ti.sample(FIELD, 2, recipe=partial(ddim, eta=0.7), schedule=grid)
    assert torch.equal(by_function, ti.sample(FIELD, 2, recipe=ddim(grid, eta=0.7)))
    assert torch.equal(by_function, ti.sample(FIELD, 2, recipe=Template(ddim(grid, eta=0.7))))
    quiet = ti.sample(FIELD, 2, recipe=Churn(churn=0.0), schedule=grid)
    assert torch.equal(quiet, ti.sample(FIELD, 2, recipe="heun", schedule=grid))


class Broken(Counted):
    def denoise(self, x, sigma):
        return x * (float("nan") if sigma < 1 else 1)


RISING = torch.tensor([1.0, 2.0, 0.0])
LOUD = Recipe(torch.tensor([1.0, 0.0]), torch.tensor([1.0]), torch.tensor([0.5]))
FIXED = ddim(torch.tensor([2.0, 1.0, 0.0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "magic"}, "choose one of"),
        *(
            ({"recipe": name}, rf"ti\.phase_space\.sample\(.*sampler='{name}'\)")
            for name in phase_space.SAMPLERS
        ),
        ({"schedule": "magic"}, "choose one of"),
        ({"steps": 0}, "at least one network evaluation"),
        ({"steps": -5}, "at least one network evaluation"),
        ({"num_samples": 0}, "at least one sample"),
        ({"batch_size": 0}, "positive number of samples"),
        ({"schedule": RISING}, "Sort it, noisiest first"),
        ({"schedule": RISING, "recipe": "heun"}, "Sort it, noisiest first"),
        ({"schedule": torch.tensor([2.0, 2.0, 0.0]), "recipe": "dpm++2m"}, "must fall"),
        ({"recipe": LOUD}, "must add no noise"),
        ({"recipe": FIXED, "schedule": "karras"}, "brings its own noise levels"),
        ({"recipe": FIXED, "steps": 3}, "make 2 network evaluations"),
        ({"schedule": FIXED.sigmas, "recipe": "heun", "steps": 2}, "make 3 network evaluations"),
        ({"schedule": torch.tensor([21.0, 1.0, 0.0])}, "is trained for 20 to 0.01"),
        ({"schedule": torch.tensor([2.0, 0.005, 0.0])}, "is trained for 20 to 0.01"),
        ({"schedule": lambda steps, low, high: schedules.linear(steps, low, 30.0)}, "trained for"),
    ],
)
def test_wrong_arguments_are_told_before_the_first_evaluation(arguments, message):
    prior = Counted()
    with pytest.raises(ValueError, match=message):
        ti.sample(prior, arguments.pop("num_samples", 2), **arguments)
    assert prior.calls == 0


@pytest.mark.parametrize(
    ("prior", "arguments", "message"),
    [
        (torch.nn.Identity(), {}, "wrap a network"),
        (FIELD, {"recipe": 3.5}, "needs a name"),
        (FIELD, {"recipe": lambda grid: grid}, "must return a Recipe, got Tensor"),
        (FIELD, {"schedule": [2.0, 1.0, 0.0]}, "a tensor of noise levels.*got list"),
    ],
)
def test_wrong_types_are_told(prior, arguments, message):
    with pytest.raises(TypeError, match=message):
        ti.sample(prior, 1, **arguments)


def test_exact_priors_answer_for_any_noise_level():
    grid = schedules.geometric(30, 1e-5, 1e4)
    assert bool(ti.sample(FIELD, 2, schedule=grid).isfinite().all())


def test_a_network_outside_its_timesteps_is_asked_with_the_last_one():
    """The documented extrapolation of `denoise`; `sample` refuses to go there."""

    class Labels(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dtype = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
            self.seen = []

        def forward(self, x, label):
            self.seen += label.tolist()
            return x

    network = Labels()
    table = schedules.scaled_linear_table()
    prior = ti.priors.NetworkPrior(network, "epsilon", shape=(1,), timesteps=table)
    prior.denoise(torch.ones(2, 1).double(), torch.tensor([0.001, 100.0]))
    assert network.seen == [0.0, 999.0]
    prior.sigma_min, prior.sigma_max = float(table[0]), float(table[-1])
    with pytest.raises(ValueError, match=r"epsilon.*is trained for"):
        ti.sample(prior, 1, schedule=schedules.vp_linear(10))


def test_divergence_is_told():
    with pytest.raises(ti.WalkDivergedError, match=r"step \d+ of 50 .*NaN or infinity"):
        ti.sample(Broken(), 1)
