"""Phase-space priors: exact posteriors, states of the forward process, networks of every kind."""

import pytest
import torch

import tweedie_inverse as ti
from tests.phase_laws import MIXTURE, PROCESSES, true_law
from tests.posteriors import agreement, gaussian_posterior, random_field
from tests.test_exactness import OPERATORS
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.phase_space import ExactPhaseSpace, PhaseSpaceNetwork
from tweedie_inverse.phase_space.processes import act

# The posterior walk


@pytest.mark.parametrize(("name", "steps"), [*((name, 5) for name in PROCESSES), ("psld", 15)])
def test_decoupled_is_exact_on_the_gaussian_field(name, steps):
    """Mean and variance along every principal axis, for any process and number of steps."""
    field = random_field(16)
    prior = ExactPhaseSpace(field, PROCESSES[name])
    operator = OPERATORS["inpainting"](ops.GaussianNoise(0.2))
    y = operator.measure(field.draw(1, seed=3)[0], seed=5)
    result = ti.solve(y, operator, prior, method="decoupled", num_samples=1000, steps=steps)
    assert result.stats.denoiser_calls == steps
    assert agreement(result.samples, gaussian_posterior(field, operator, y, 0.2)).worst_z < 5


@pytest.mark.parametrize("name", ["super-resolution", "deblurring"])
def test_decoupled_is_exact_for_other_operators(name):
    field = random_field(16)
    prior = ExactPhaseSpace(field, PROCESSES["psld"], offset=0.3, scale=0.5)
    operator = OPERATORS[name](ops.GaussianNoise(0.02))
    y = operator.measure(field.draw(1, seed=3)[0], seed=5)
    result = ti.solve(y, operator, prior, method="decoupled", num_samples=1000, steps=10)
    assert agreement(result.samples, gaussian_posterior(field, operator, y, 0.02)).worst_z < 5


class WrongTime(ExactPhaseSpace):
    """A prior that is told a later time than the state's: scaling bugs of wrapped networks."""

    def epsilon(self, z, t):
        return super().epsilon(z, (1.5 * torch.as_tensor(t)).clamp(max=1))


def test_a_wrong_time_is_refused_by_the_criterion():
    field = random_field(16)
    operator = OPERATORS["deblurring"](ops.GaussianNoise(0.2))
    y = operator.measure(field.draw(1, seed=3)[0], seed=5)
    wrong = WrongTime(field, PROCESSES["psld"])
    samples = ti.solve(y, operator, wrong, method="decoupled", num_samples=1000, steps=10).samples
    assert agreement(samples, gaussian_posterior(field, operator, y, 0.2)).worst_z > 10


def test_nonlinear_operators_take_it_too():
    """A clipped image, by Hamiltonian moves: the data are fitted."""
    field = random_field(8)
    prior = ExactPhaseSpace(field, PROCESSES["psld"])
    operator = ops.Clipping((1, 8, 8), low=-0.4, high=0.4, noise=ops.GaussianNoise(0.1))
    y = operator.measure(field.draw(1, seed=2)[0], seed=1)
    result = ti.solve(y, operator, prior, method="auto", num_samples=8, steps=15)
    assert 0.6 < float(result.diagnostics.residual_chi_square.mean()) < 1.6


def test_walks_that_know_nothing_of_phases_take_it_too():
    """Langevin with an exact phase-space prior is Langevin with the prior itself."""
    field = random_field(8)
    operator = ops.Mask(ops.random_mask((1, 8, 8), 0.5), noise=ops.GaussianNoise(0.1))
    y = operator.measure(field.draw(1, seed=2)[0], seed=1)
    walk = ti.walks.Langevin(sigma_max=5.0, sigma_min=0.01)
    found, wanted = (
        ti.solve(y, operator, prior, method=walk, num_samples=3, steps=30).samples
        for prior in (ExactPhaseSpace(field, PROCESSES["psld"]), field)
    )
    torch.testing.assert_close(found, wanted)


class Watched(PhaseSpaceNetwork):
    """Remembers the states it is shown, and predicts nothing."""

    def epsilon(self, z, t):
        self.seen, self.time = z, t
        return torch.zeros_like(z)


def watched(process, shape=(1, 2, 2)):
    return Watched(torch.nn.Identity(), process, shape=shape)


@pytest.mark.parametrize("name", ["psld", "cld", "oscillating"])
def test_the_network_is_shown_states_of_the_forward_process(name):
    """``psi x + auxiliary noise`` of an image with noise is ``N(psi x0, C)``: all moments."""
    prior, sigma, count = watched(PROCESSES[name]), 0.7, 20000
    x0 = torch.linspace(-1, 1, 4).double().reshape(1, 1, 2, 2).expand(count, -1, -1, -1)
    x = x0 + sigma * normal(("x",), x0.shape)
    prior.denoise_drawing(x, sigma, lambda shape: normal(("rest",), (count, *shape)))
    expected = prior.process.given_image(prior.time)
    assert float(expected.sigma) == pytest.approx(sigma)
    white = act(expected.whiten, prior.seen - act(expected.direction[:, None], x0[:, None]))
    flat = white.flatten(1)
    assert float((flat.mean(0) * count**0.5).abs().max()) < 5
    square = flat.mT @ flat / count - torch.eye(flat.shape[1])
    scale = torch.ones_like(square) + torch.eye(len(square))
    assert float((square * (count / scale).sqrt()).abs().max()) < 5


@pytest.mark.parametrize("name", PROCESSES)
def test_an_exact_prior_answers_as_without_momentum(name):
    """Whatever the auxiliary noise: it tells nothing.  Each image has a level of its own."""
    prior = ExactPhaseSpace(MIXTURE, PROCESSES[name], offset=0.1, scale=0.7)
    x, sigmas = normal((1,), (3, 2)), torch.tensor([0.1, 1.0, 5.0]).double()
    before = x.clone()
    torch.testing.assert_close(prior.denoise(x, sigmas), MIXTURE.denoise(x, sigmas))
    for image, sigma in zip(x, sigmas, strict=True):
        alone = prior.denoise(image[None], float(sigma))
        torch.testing.assert_close(alone, MIXTURE.denoise(image[None], sigma))
    assert prior.denoise(x.float(), 0.3).dtype == torch.float32
    assert torch.equal(x, before)


# Networks


class Oracle(torch.nn.Module):
    """The best noise prediction for ``x0 ~ N(0, s)``, by whitening with `observation`."""

    def __init__(self, process, observation, s, phases=None):
        super().__init__()
        self.process, self.observation, self.s = process, observation, s
        self.phases = phases or list(range(process.phases))

    def forward(self, channels, t):
        z = channels.unflatten(1, (self.process.phases, -1))
        covariance = true_law(self.process, self.s.reshape(1), float(t[0]))[0]
        score = -act(torch.linalg.inv(covariance), z)
        epsilon = -act(self.observation(float(t[0])).factor.mT, score)
        return epsilon[:, self.phases].flatten(1, 2)


def oracle(process, objective="hsm", phases=None, **settings):
    observation = process.given_state if objective == "dsm" else process.given_image
    module = Oracle(process, observation, torch.tensor(0.3).double(), phases)
    return PhaseSpaceNetwork(
        module, process, shape=(1, 2, 2), label="time", objective=objective, **settings
    )


@pytest.mark.parametrize("name", ["psld", "cld", "oscillating"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"consistent": True}, {"objective": "dsm"}, {"phases": [1]}],
    ids=["hsm", "consistent", "dsm", "momentum alone"],
)
def test_networks_of_every_kind_give_the_score(name, settings):
    """Hybrid or plain score matching, both halves or the momentum's alone: one score, one x0."""
    process = PROCESSES[name]
    prior, z = oracle(process, **settings), normal((3,), (5, 2, 1, 2, 2))
    for t in (0.01, 0.3, 1.0):
        covariance = true_law(process, torch.tensor([0.3]).double(), t)[0]
        score = -act(torch.linalg.inv(covariance), z)
        torch.testing.assert_close(prior.phase_score(z, t), score, rtol=1e-6, atol=1e-8)
        seen = process.given_image(t)
        gain = 0.3 * torch.linalg.solve(covariance, seen.direction)
        x0 = act(gain[None], z)[:, 0]
        torch.testing.assert_close(prior.denoise_phases(z, t), x0, rtol=1e-6, atol=1e-8)


def test_a_dsm_network_taken_for_an_hsm_one_is_wrong():
    """The score whitened by the wrong covariance: what `objective` is for.

    Off by 1 % here, where both would agree to 1e-8 if the objective were ignored.
    """
    process, z, t = PROCESSES["psld"], normal((3,), (500, 2, 1, 2, 2)), 0.1
    right, wrong = oracle(process, "dsm"), oracle(process, "dsm")
    wrong.objective = "hsm"
    score = right.phase_score(z, t)
    assert float((score - wrong.phase_score(z, t)).norm() / score.norm()) > 0.005


def test_consistent_networks_keep_the_image_and_mend_the_rest():
    process, z, t = PROCESSES["psld"], normal((3,), (5, 2, 1, 2, 2)), 0.2
    rough, mended = (
        PhaseSpaceNetwork(torch.nn.Tanh(), process, shape=(1, 2, 2), consistent=choice)
        for choice in (False, True)
    )
    rough.module.forward = mended.module.forward = lambda channels, label: channels.tanh()
    torch.testing.assert_close(rough.denoise_phases(z, t), mended.denoise_phases(z, t))
    seen = process.given_image(t)
    known = act(seen.rest.mT, act(seen.whiten, z))
    torch.testing.assert_close(act(seen.rest.mT, mended.epsilon(z, t)), known)
    assert float((act(seen.rest.mT, rough.epsilon(z, t)) - known).abs().max()) > 0.1


def test_refusals_of_the_network():
    process = PROCESSES["psld"]
    with pytest.raises(ValueError, match="'log-sigma' or 'time'"):
        PhaseSpaceNetwork(torch.nn.Identity(), process, shape=(1, 2, 2), label="sigma")
    with pytest.raises(ValueError, match="'hsm' or 'dsm'"):
        PhaseSpaceNetwork(torch.nn.Identity(), process, shape=(1, 2, 2), objective="ism")
    prior = watched(process)
    with pytest.raises(ValueError, match="has noise levels from"):
        prior.denoise(torch.zeros(1, 1, 2, 2), 1e4)
