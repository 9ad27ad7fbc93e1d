"""The complete recipe: kernels against matrix exponentials, printed formulas, and refusals."""

import math

import pytest
import torch

from tests.posteriors import random_field
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.phase_space import ExactPhaseSpace, processes
from tweedie_inverse.phase_space.processes import LinearProcess, Rate
from tweedie_inverse.phase_space.processes.observation import cholesky

CONSTANT, RISING = Rate(8.0, 8.0), Rate(0.1, 20.0)
TIMES = torch.tensor([1e-6, 1e-5, 1e-3, 0.01, 0.1, 0.5, 1.0], dtype=torch.float64)
# Gamma, nu, mass: critical, with noise in x alone, oscillating, creeping, and Gamma = nu.
SETTINGS = [
    (0.0, 4.0, None),
    (0.01, None, None),
    (0.25, 4.25, None),
    (4.25, 0.25, None),
    (3.0, 0.0, None),
    (1.0, 2.0, 0.3),
    (0.5, 1.0, 40.0),
    (2.0, 2.0, 0.5),
]
PROCESSES = {
    **{
        f"psld {gamma} {nu} {mass} {name}": processes.psld(gamma, nu, mass=mass, rate=rate)
        for gamma, nu, mass in SETTINGS
        for name, rate in (("constant", CONSTANT), ("rising", RISING))
    },
    "cld": processes.cld(),
    "vp": processes.vp(),
    "vp constant": processes.vp(CONSTANT),
}


def three_phases(rate: Rate = CONSTANT) -> LinearProcess:
    """Dense D, Q and S of three phases, made from random numbers."""
    root, skew, wide = normal((1,), (3, 3)), normal((2,), (3, 3)), normal((3,), (3, 3))
    start = torch.zeros(3, 3).double()
    start[1:, 1:] = 0.1 * torch.eye(2)
    return LinearProcess(
        root @ root.mT / 3, skew - skew.mT, wide @ wide.mT / 3 + torch.eye(3), rate, start
    )


@pytest.mark.parametrize("name", PROCESSES)
def test_closed_form_is_the_matrix_exponential(name):
    process = PROCESSES[name]
    for start in (0.0, 0.3):
        times = TIMES[start < TIMES]
        closed = process.between(start, times)
        general = process.by_matrix_exponential().between(start, times)
        assert float((closed.matrix - general.matrix).abs().max()) < 1e-10
        assert float((closed.covariance - general.covariance).abs().max()) < 1e-10


@pytest.mark.parametrize("name", PROCESSES)
def test_small_covariances_keep_their_digits(name):
    """Entries go down to 1e-16; relative to their own size, the two ways agree there too."""
    closed = PROCESSES[name].given_image(TIMES[1:]).covariance
    general = PROCESSES[name].by_matrix_exponential().given_image(TIMES[1:]).covariance
    size = closed.diagonal(dim1=-2, dim2=-1).sqrt()
    relative = (closed - general) / (size[:, :, None] * size[:, None, :])
    assert float(relative.abs().max()) < 1e-7


@pytest.mark.parametrize("process", [*PROCESSES.values(), three_phases()])
def test_kernel_solves_the_lyapunov_equation(process):
    """``dC/db = F C + C F^T + 2 D`` by a fine Runge-Kutta recursion: nothing of the kernel's own.

    A wrong sign of Q, or a stationary covariance that is not, fails.
    """
    covariance, steps = process.initial.clone(), 1500
    h = float(process.rate.total(0.7)) / steps

    def slope(c):
        return process.drift @ c + c @ process.drift.mT + 2 * process.diffusion

    for _ in range(steps):
        first = slope(covariance)
        second = slope(covariance + h / 2 * first)
        third = slope(covariance + h / 2 * second)
        last = slope(covariance + h * third)
        covariance = covariance + h / 6 * (first + 2 * second + 2 * third + last)
    torch.testing.assert_close(
        process.given_image(0.7).covariance, covariance, rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize(("gamma", "nu"), [(0.0, 4.0), (0.01, 4.01), (0.25, 4.25), (4.25, 0.25)])
def test_printed_formulas_of_critical_damping(gamma, nu):
    """Kernel of Pandey and Mandt 2023, written out; kappa = 0.04, momentum marginalized."""
    k = (gamma - nu) ** 2 / 4
    process, mass, mm0 = processes.psld(gamma, nu), 1 / k, 0.04 / k
    for t in (1e-3, 0.1, 0.6, 1.0):
        b = 8 * t
        decay, grown = math.exp(-(nu + gamma) * b / 4), math.exp((nu + gamma) * b / 2)
        seen = process.given_image(t)
        mean = decay * torch.tensor([1 + (nu - gamma) / 4 * b, -b / 2]).double()
        xx = k**2 / 4 * b**2 * mm0 - k / 2 * b**2 + (gamma - nu) / 2 * b + grown - 1
        xm = k * (gamma - nu) / 8 * b**2 * mm0 + k / 2 * b * mm0 + (nu - gamma) / 4 * b**2
        mm = k / 4 * b**2 * mm0 + (gamma - nu) / 2 * b * mm0 + mm0
        mm += -(b**2) / 2 + mass * (nu - gamma) / 2 * b + mass * (grown - 1)
        covariance = torch.tensor([[xx, xm], [xm, mm]]).double() / grown
        torch.testing.assert_close(seen.direction, mean, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(seen.covariance, covariance, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("process", [*PROCESSES.values(), three_phases()])
def test_opposed_is_the_kernel_with_q_negated(process):
    plain = process.by_matrix_exponential()
    negated = LinearProcess(plain.diffusion, -plain.rotation, plain.stationary, plain.rate)
    for b in (0.003, 0.1, 1.0, 8.0):
        found, wanted = process.opposed().transition(b), negated.transition(b)
        assert float((found.matrix - wanted.matrix).abs().max()) < 1e-12
        assert float((found.covariance - wanted.covariance).abs().max()) < 1e-12


@pytest.mark.parametrize("process", [processes.psld(), processes.vp(), three_phases(RISING)])
def test_two_steps_make_one(process):
    first, second = process.between(0.0, 0.2), process.between(0.2, 0.9)
    together = process.between(0.0, 0.9)
    torch.testing.assert_close(second.matrix @ first.matrix, together.matrix)
    chained = second.matrix @ first.covariance @ second.matrix.mT + second.covariance
    torch.testing.assert_close(chained, together.covariance)


def test_vp_is_the_usual_process():
    seen = processes.vp().given_image(TIMES)
    alpha = torch.exp(-(0.1 * TIMES + 19.9 * TIMES**2 / 2) / 2)
    torch.testing.assert_close(seen.direction[:, 0], alpha)
    torch.testing.assert_close(seen.sigma, (1 - alpha**2).sqrt() / alpha)


def test_cld_in_its_own_letters():
    """``nu_bar = M nu``, ``beta_bar = beta / 2``: drift and noise of Dockhorn et al. 2022."""
    process, mass, beta_bar = processes.cld(4.0), 0.25, 4.0
    nu_bar = mass * 4.0
    drift = beta_bar * torch.tensor([[0.0, 1 / mass], [-1.0, -nu_bar / mass]]).double()
    torch.testing.assert_close(8 * process.drift, drift)
    noise = torch.tensor([0.0, 2 * beta_bar * nu_bar]).double().diag()
    torch.testing.assert_close(8 * process.noise @ process.noise.mT, noise)


@pytest.mark.parametrize("process", [*PROCESSES.values(), three_phases()])
def test_the_rest_tells_nothing_of_the_image(process):
    """The statistic is ``x0 + sigma n``; the other directions are orthogonal, and free of x0."""
    for t in (1e-3, 0.2, 1.0):
        seen = process.given_image(t)
        whole = torch.cat([seen.unit[:, None], seen.rest], 1)
        torch.testing.assert_close(whole.mT @ whole, torch.eye(process.phases).double())
        along = seen.whiten @ seen.direction
        torch.testing.assert_close(along, seen.unit / seen.sigma)
        information = seen.direction @ torch.linalg.solve(seen.covariance, seen.direction)
        assert float(seen.sigma**-2) == pytest.approx(float(information), rel=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_time_of_a_noise_level(name):
    process = PROCESSES[name]
    levels = process.given_image(TIMES).sigma
    assert bool((levels.diff() > 0).all())
    # For Gamma = 0 the level goes like b^1.5 while its covariance is rounded in units of b.
    torch.testing.assert_close(process.time_of(levels[2:]), TIMES[2:], rtol=1e-7, atol=0)
    with pytest.raises(ValueError, match="has noise levels from"):
        process.time_of(2 * float(levels[-1]))


def test_a_users_own_process_is_recognised():
    wanted = processes.psld(0.3, 2.0, mass=0.7)
    found = processes.from_sde(wanted.drift, wanted.noise, rate=CONSTANT)
    for name in ("diffusion", "rotation", "stationary"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name))
    torch.testing.assert_close(found.between(0, 0.4), wanted.between(0, 0.4))


def test_a_users_wrong_process_is_refused():
    process = processes.psld()
    with pytest.raises(ValueError, match="F S \\+ S F\\^T \\+ G G\\^T should be 0, but is"):
        processes.from_sde(process.drift, process.noise, stationary=torch.eye(2))
    with pytest.raises(ValueError, match="does not forget its start"):
        processes.from_sde(torch.tensor([[0.1, 0.0], [0.0, -1.0]]), torch.eye(2))


def test_matrices_that_break_the_recipe_are_refused():
    eye, skew = torch.eye(2), torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"positive semidefinite.*smallest eigenvalue -1"):
        LinearProcess(torch.tensor([1.0, -1.0]).diag(), skew, eye)
    with pytest.raises(ValueError, match="must be skew"):
        LinearProcess(eye, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), eye)
    with pytest.raises(ValueError, match="stationary covariance S must be symmetric and positive"):
        LinearProcess(eye, skew, torch.tensor([1.0, 0.0]).diag())
    with pytest.raises(ValueError, match="does not forget its start"):
        LinearProcess(0 * eye, skew, eye)
    with pytest.raises(ValueError, match="one square shape"):
        LinearProcess(eye, skew, torch.eye(3))
    with pytest.raises(ValueError, match="row and column 0"):
        LinearProcess(eye, skew, eye, start=eye)
    with pytest.raises(ValueError, match="NaN or infinite"):
        LinearProcess(eye * math.nan, skew, eye)


def test_settings_that_make_no_process_are_refused():
    with pytest.raises(ValueError, match="critical damping"):
        processes.psld(2.0, 2.0)
    with pytest.raises(ValueError, match="no noise at all"):
        processes.psld(0.0, 0.0)
    with pytest.raises(ValueError, match="number >= 0"):
        processes.psld(-0.1, 4.0)
    with pytest.raises(ValueError, match="a positive, finite number"):
        processes.psld(0.1, 4.0, mass=-1.0)
    with pytest.raises(ValueError, match="beta >= 0"):
        Rate(-1.0, 2.0)


def test_times_without_a_density_are_refused():
    process = processes.psld()
    for t in (0.0, 1.1, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"times lie in \(0, 1\]"):
            process.given_image(t)
    with pytest.raises(ValueError, match="runs forward"):
        process.between(0.5, 0.2)


def test_a_factor_without_digits_is_refused():
    """``S - Psi S Psi^T`` in single precision: of Gamma = 0 nothing is left at small times."""
    process, t = processes.psld(0.0, 4.0), torch.tensor(1e-4)
    cholesky(process.given_state(t).covariance, t)
    matrix, stationary = process.between(0.0, t).matrix.float(), process.stationary.float()
    with pytest.raises(ValueError, match="float32: its Cholesky factor has lost its digits"):
        cholesky(stationary - matrix @ stationary @ matrix.mT, t)


def test_a_correlation_lost_to_rounding_is_refused():
    """Positive definite as it stands, but the second phase's own share is one rounding error."""
    nearly = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2e-7]])
    with pytest.raises(ValueError, match="lost its digits"):
        cholesky(nearly, torch.tensor(0.5))


@pytest.mark.parametrize("process", [processes.psld(), processes.vp(), three_phases()])
def test_posterior_mean_is_that_of_the_joint_gaussian(process):
    """``E[x0 | z]`` of a correlated field by dense conditioning on all phases at once."""
    field, t = random_field(4), 0.15
    prior = ExactPhaseSpace(field, process)
    seen, n, k = process.given_image(t), 16, process.phases
    covariance = field.covariance.apply(torch.eye(n).double().reshape(n, 1, 4, 4)).reshape(n, n)
    lift = torch.kron(seen.direction[:, None], torch.eye(n).double())  # (k n, n)
    joint = lift @ covariance @ lift.mT + torch.kron(seen.covariance, torch.eye(n).double())
    z = normal((4,), (3, k, 1, 4, 4))
    flat = z.reshape(3, k * n)
    wanted = flat @ torch.linalg.solve(joint, lift @ covariance)
    torch.testing.assert_close(prior.denoise_phases(z, t).reshape(3, n), wanted)
    score = -torch.linalg.solve(joint, flat.mT).mT
    torch.testing.assert_close(prior.phase_score(z, t).reshape(3, k * n), score)


def log_banana(z):
    return -(z[..., 0] ** 2) / 2 - (z[..., 1] - z[..., 0] ** 2 / 2) ** 2


def bent() -> processes.StateDependent:
    """A banana-shaped density of two variables, with D and Q that vary with the state."""

    def score(z):
        return torch.func.vmap(torch.func.grad(log_banana))(z)

    def diffusion(z):
        root = torch.stack(
            [
                torch.stack([1 + 0.5 * z[:, 1].cos(), 0 * z[:, 0]], -1),
                torch.stack([0.3 * z[:, 0].sin(), 0.5 + 0.2 * z[:, 0] ** 2], -1),
            ],
            -2,
        )
        return root @ root.mT

    def rotation(z):
        skew = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=z.dtype)
        return (z[:, 0] * z[:, 1] + z[:, 1].sin())[:, None, None] * skew

    return processes.StateDependent(score, diffusion, rotation)


def fokker_planck(process, drift, log_density, z):
    """``(div(f p) - sum d_i d_j (D_ij p)) / p`` at z: 0 where p is stationary."""

    def flow(state):
        return drift(state[None])[0] * log_density(state).exp()

    def spread(state):
        return process.diffusion(state[None])[0] * log_density(state).exp()

    inward = torch.einsum("bii->b", torch.func.vmap(torch.func.jacfwd(flow))(z))
    outward = torch.einsum("bijij->b", torch.func.vmap(torch.func.hessian(spread))(z))
    return (inward - outward) / log_density(z).exp()


def test_the_correction_makes_the_density_stationary():
    process, z = bent(), normal((5,), (50, 2))
    residual = fokker_planck(process, process.drift, log_banana, z)
    assert float(residual.abs().max()) < 1e-10
    process.refuse(z)


def test_without_the_correction_it_is_not():
    process, z = bent(), normal((5,), (50, 2))

    def bare(state):
        return process.drift(state) - process.correction(state)

    assert float(fokker_planck(process, bare, log_banana, z).abs().max()) > 0.1


def test_a_state_dependent_walk_keeps_a_mixture():
    """Mean, variance and shares of two modes at -1.5 and 1.5, after walkers have crossed often."""
    means, share, std = torch.tensor([-1.5, 1.5]).double(), torch.tensor([0.3, 0.7]).double(), 0.7

    def score(z):
        closeness = share.log() - (z - means) ** 2 / (2 * std**2)
        return (torch.softmax(closeness, -1) @ means[:, None] - z) / std**2

    process = processes.StateDependent(
        score,
        lambda z: (0.5 + 1 / (1 + z**2))[..., None],
        lambda z: torch.zeros(len(z), 1, 1, dtype=z.dtype),
    )
    count, steps, length = 4000, 400, 0.03
    z = normal(("start",), (count, 1))
    for index in range(steps):
        z = process.step(z, length, normal(("walk", index), (count, 1)))
    mean = float((share * means).sum())
    variance = float((share * means**2).sum()) - mean**2 + std**2
    assert abs(float(z.mean()) - mean) < 5 * (variance / count) ** 0.5
    fourth = (z - z.mean()).pow(4).mean() - z.var() ** 2
    assert abs(float(z.var()) - variance) < 5 * float(fourth / count) ** 0.5
    left = float((z < 0).double().mean())
    exact = float((share * torch.special.ndtr(-means / std)).sum())
    assert abs(left - exact) < 5 * (exact * (1 - exact) / count) ** 0.5


def test_state_dependent_matrices_are_checked():
    process, z = bent(), normal((6,), (4, 2))
    skewless = processes.StateDependent(process.score, process.diffusion, process.diffusion)
    with pytest.raises(ValueError, match=r"Q\(z\) must be skew"):
        skewless.refuse(z)
    negative = processes.StateDependent(
        process.score, lambda z: -process.diffusion(z), process.rotation
    )
    with pytest.raises(ValueError, match=r"D\(z\) must be symmetric and positive"):
        negative.refuse(z)
