"""Step by step against the schedulers of diffusers: same network, same noise, float64.

Their variance-preserving schedulers hold ``x / sqrt(1 + sigma^2)``; Euler's and Heun's hold x.

Where diffusers differs, and what is done about it here:

- its tables (alphas_cumprod, sigmas) are float32: they are recomputed in float64;
- Euler and DPM-Solver round the state to float32 in every step: float32 is made to mean float64
  inside those two modules;
- ``clip_sample=True`` is its default for DDPM and DDIM, and has no counterpart here: off;
- DDPM adds noise in its last step too unless that starts at t = 0: with "trailing" spacing and
  large variance it ends at a noisy image.  Here the last step adds none, and diffusers is given
  zeros for it;
- DDIM walks to timestep ``t - 1000 // steps``, whatever the next one is: with "trailing" spacing
  these agree only where 1000 is a multiple of steps.  Its ``set_alpha_to_one=False`` would end at
  the first table entry instead of 0;
- fractional timesteps: Euler and Heun interpolate sigma linearly in t but t linearly in log sigma,
  which are not inverse to each other; here both are linear in log sigma.  Integer steps agree;
- Euler's ``s_churn`` adds its noise after the network was evaluated, so that the network never
  sees it; `Churn` follows the paper's algorithm, written out in `test_recipes.py`;
- DPM-Solver's ``lower_order_final`` changes nothing at second order: the step to 0 is of first
  order in any case.
"""

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tweedie_inverse.numerics import schedules
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.walks import Recipe, ddim, ddpm

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPE = (2, 4, 4)
COUNT = 3
SEED = 5
STEPS = 20
TOLERANCE = 1e-9  # the issue asks for 1e-5; what is left is rounding
TABLES = {"linear": "vp-linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}


class Network(nn.Module):
    """A small nonlinear network in float64 that depends on position and timestep."""

    def __init__(self):
        super().__init__()
        weight = 0.3 * normal((11,), (2, 2, 3, 3))
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x, t):
        t = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1, 1, 1)
        return torch.tanh(nn.functional.conv2d(x, self.weight, padding=1) + torch.sin(t / 300))


class Double:
    """The torch module with float32 meaning float64."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def table(kind):
    return schedules.TABLES[TABLES[kind]]()


def scheduler(name, prediction, **options):
    made = getattr(diffusers, name)(num_train_timesteps=1000, prediction_type=prediction, **options)
    levels = table(made.config.beta_schedule)
    made.alphas_cumprod = 1 / (1 + levels**2)
    if "final_alpha_cumprod" in vars(made):
        made.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    if "one" in vars(made):
        made.one = torch.ones((), dtype=torch.float64)
    made.set_timesteps(STEPS)
    return made


def prior_of(prediction, levels):
    prior = ti.priors.NetworkPrior(
        Network(),
        PREDICTIONS[prediction],
        shape=SHAPE,
        coordinates="vp",
        timesteps=levels,
        sigma_min=float(levels[0]),
        sigma_max=float(levels[-1]),
    )
    return prior


def grid_of(made, levels):
    times = made.timesteps.unique().flip(0).long()
    return torch.cat([levels[times], torch.zeros(1, dtype=torch.float64)])


class Noise:
    """The noise of the walk: first the start, then that of each step."""

    def __init__(self):
        self.streams, self.step = Streams([("sample", SEED, index) for index in range(COUNT)]), -1

    def __call__(self, *args, **options):
        self.step += 1
        return self.streams.at(self.step).normal(SHAPE, torch.zeros((), dtype=torch.float64))


class Quiet:
    """No noise, where diffusers would draw some in its last step."""

    def __call__(self, shape, *args, **options):
        return torch.zeros(shape, dtype=torch.float64)


def ours(prediction, levels, recipe, grid):
    """States after each step, in variance-exploding coordinates."""
    steps = ti.trajectory(
        prior_of(prediction, levels),
        COUNT,
        recipe=recipe,
        schedule=None if isinstance(recipe, Recipe) else grid,
        seed=SEED,
        dtype=torch.float64,
    )
    return [step.x for step in steps]


def theirs(made, grid, step, *, exploding):
    """States after each call of `step(output, t, x)`, in variance-exploding coordinates."""
    network, noise, states = Network(), Noise(), []
    x = float(grid[0]) * noise()
    if not exploding:
        x = x / (1 + grid[0] ** 2).sqrt()
    with torch.random.fork_rng(devices=[]):
        for t in made.timesteps:
            given = made.scale_model_input(x, t) if exploding else x
            x = step(network(given, t), t, x, noise)
            states.append(x)
    if exploding:
        return states
    return [state * (1 + after**2).sqrt() for state, after in zip(states, grid[1:], strict=True)]


def assert_same_walk(mine, reference):
    assert len(mine) == len(reference)
    worst = max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(mine, reference, strict=True)
    )
    assert worst < TOLERANCE


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(
    ("variance_type", "variance"), [("fixed_small", 0.0), ("fixed_large", 1.0)]
)
def test_ddpm(monkeypatch, prediction, spacing, variance_type, variance):
    made = scheduler(
        "DDPMScheduler",
        prediction,
        variance_type=variance_type,
        clip_sample=False,
        timestep_spacing=spacing,
    )
    assert_same_walk(*_ddpm(monkeypatch, made, prediction, variance, lambda output: output))


def _ddpm(monkeypatch, made, prediction, variance, extend):
    from diffusers.schedulers import scheduling_ddpm

    levels = table("linear")
    grid = grid_of(made, levels)

    def step(output, t, x, noise):
        last = t == made.timesteps[-1]
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", Quiet() if last else noise)
        return made.step(extend(output), t, x).prev_sample

    mine = ours(prediction, levels, ddpm(grid, variance=variance), grid)
    return mine, theirs(made, grid, step, exploding=False)


def test_ddpm_with_learned_variance(monkeypatch):
    """A network whose second half of channels says 0.4, so v = (1 + 0.4) / 2."""
    made = scheduler("DDPMScheduler", "epsilon", variance_type="learned_range", clip_sample=False)

    def extend(output):
        return torch.cat([output, torch.full_like(output, 0.4)], dim=1)

    assert_same_walk(*_ddpm(monkeypatch, made, "epsilon", torch.full((STEPS,), 0.7), extend))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim(prediction, kind, eta):
    made = scheduler("DDIMScheduler", prediction, clip_sample=False, beta_schedule=kind)
    levels = table(kind)
    grid = grid_of(made, levels)

    def step(output, t, x, noise):
        fresh = (Quiet()(x.shape) if t == made.timesteps[-1] else noise()) if eta > 0 else None
        return made.step(output, t, x, eta=eta, variance_noise=fresh).prev_sample

    mine = ours(prediction, levels, ddim(grid, eta=eta), grid)
    assert_same_walk(mine, theirs(made, grid, step, exploding=False))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("recipe", ["euler", "ddim"])
def test_euler(monkeypatch, prediction, spacing, recipe):
    from diffusers.schedulers import scheduling_euler_discrete

    made = scheduler("EulerDiscreteScheduler", prediction, timestep_spacing=spacing)
    monkeypatch.setattr(scheduling_euler_discrete, "torch", Double())
    levels = table("linear")
    grid = made.sigmas = grid_of(made, levels)

    def step(output, t, x, noise):
        return made.step(output, t, x).prev_sample

    mine = ours(prediction, levels, recipe, grid)
    assert_same_walk(mine, theirs(made, grid, step, exploding=True))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_heun(prediction):
    made = scheduler("HeunDiscreteScheduler", prediction, timestep_spacing="trailing")
    levels = table("linear")
    grid = grid_of(made, levels)
    made.sigmas = torch.cat([grid[:1], grid[1:-1].repeat_interleave(2), grid[-1:]])

    def step(output, t, x, noise):
        return made.step(output, t, x).prev_sample

    # Every second of its calls ends a step; the last one has a single call.
    reference = theirs(made, grid, step, exploding=True)
    assert len(reference) == ti.walks.Heun().cost(STEPS) == 2 * STEPS - 1
    assert_same_walk(ours(prediction, levels, "heun", grid), [*reference[1::2], reference[-1]])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("kind", "steps"), [("linear", 20), ("linear", 10), ("scaled_linear", 20)])
def test_multistep(monkeypatch, prediction, kind, steps):
    """Below 15 steps diffusers' lower_order_final is active too."""
    from diffusers.schedulers import scheduling_dpmsolver_multistep

    made = scheduler("DPMSolverMultistepScheduler", prediction, beta_schedule=kind)
    made.set_timesteps(steps)
    monkeypatch.setattr(scheduling_dpmsolver_multistep, "torch", Double())
    levels = table(kind)
    grid = made.sigmas = grid_of(made, levels)

    def step(output, t, x, noise):
        return made.step(output, t, x).prev_sample

    mine = ours(prediction, levels, "dpm++2m", grid)
    assert_same_walk(mine, theirs(made, grid, step, exploding=False))


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_tables(kind):
    made = diffusers.DDIMScheduler(beta_schedule=kind, **_betas(kind))
    abar = made.alphas_cumprod.double()
    # Their table is a float32 product: 1 - abar keeps few digits at small t.
    torch.testing.assert_close(1 / (1 + table(kind) ** 2), abar, rtol=3e-5, atol=1e-9)


def _betas(kind):
    return {"beta_start": 0.00085, "beta_end": 0.012} if kind == "scaled_linear" else {}


@pytest.mark.parametrize(
    ("option", "make"),
    [("use_karras_sigmas", schedules.karras), ("use_exponential_sigmas", schedules.log_snr)],
)
def test_grids(option, make):
    made = diffusers.EulerDiscreteScheduler(**{option: True})
    made.set_timesteps(15)
    levels = table("linear")
    expected = make(15, float(levels[0]), float(levels[-1]))
    torch.testing.assert_close(made.sigmas.double(), expected, rtol=1e-4, atol=0)
