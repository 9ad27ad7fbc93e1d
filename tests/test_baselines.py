"""Baselines are what deepinv gives when it is called directly, and their costs are counted."""

import copy

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.methods.baselines import (
    DDRM,
    DPS,
    ULA,
    DiffPIR,
    MomentMatching,
    PiGDM,
    PnP,
    PnPADMM,
    TotalVariation,
)
from tweedie_inverse.benchmarks.methods.per_sample_rng import PerSampleNoise
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import field
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.priors.wrapped import WrappedPrior


def guided(fidelity, given, steps):
    from deepinv import sampling

    return sampling.PosteriorDiffusion(
        data_fidelity=fidelity,
        denoiser=given.denoiser,
        sde=sampling.VariancePreservingDiffusion(alpha=1.0),
        solver=sampling.DDPMSolver(timesteps=torch.linspace(1, 0, steps + 1, dtype=torch.float64)),
    )


def direct(method, given):
    """deepinv, called as its users call it."""
    import numpy as np
    from deepinv import optim, sampling

    shape, steps, l2 = tuple(given.start.shape), method.evaluations, optim.L2()
    match method:
        case DPS():
            sampler = sampling.DPS(given.denoiser, num_steps=steps + 1, guidance="annealed")
            return sampler(given.y, given.physics, x_init=shape)
        case PiGDM():
            fidelity = sampling.PiGDMDataFidelity(clip=(-1.0, 1.0), cg_max_iter=20)
            return guided(fidelity, given, steps)(given.y, given.physics, x_init=shape)
        case MomentMatching():
            fidelity = sampling.MomentMatchingDataFidelity(cg_max_iter=3)
            return guided(fidelity, given, steps)(given.y, given.physics, x_init=shape)
        case DiffPIR():
            sampler = sampling.DiffPIR(
                given.denoiser, l2, sigma=given.std, max_iter=steps, zeta=0.3, lambda_=7.0
            )
            return sampler(given.y, given.physics, x_init=given.start)
        case DDRM():
            sampler = sampling.DDRM(given.denoiser, sigmas=np.linspace(1, 0, steps))
            return sampler(given.y, given.physics)
        case PnP():
            model = optim.DPIR(sigma=given.std, denoiser=given.denoiser)
            with torch.no_grad():
                return model(given.y, given.physics, init=given.start)
        case PnPADMM():
            sigmas = torch.logspace(np.log10(49 / 255), np.log10(given.std), steps)
            model = optim.ADMM(
                data_fidelity=l2,
                prior=optim.PnP(denoiser=given.denoiser),
                params_algo={
                    "stepsize": (sigmas / given.std) ** 2,
                    "g_param": sigmas,
                    "lambda": 1.0,
                    "beta": 1.0,
                },
                max_iter=steps,
            )
            with torch.no_grad():
                return model(given.y, given.physics, init=(given.start, 0 * given.start))
        case TotalVariation():
            model = optim.FISTA(
                data_fidelity=l2,
                prior=optim.TVPrior(n_it_max=20),
                stepsize=0.95,
                lambda_reg=10.0 * given.std**2,
                max_iter=method.iterations,
            )
            with torch.no_grad():
                return model(given.y, given.physics, init=(given.start, given.start))
    step = 0.5 / (1 / given.std**2 + 1 / 0.02**2)
    iterator = sampling.ULAIterator({"step_size": step, "alpha": 1.0, "sigma": 0.02}, (-1.0, 2.0))
    chain = sampling.BaseSampling(
        iterator,
        optim.L2(sigma=given.std),
        optim.ScorePrior(given.denoiser),
        max_iter=steps,
        burnin_ratio=0.0,
        thinning=1,
        history_size=1,
    )
    chain.sample(given.y, given.physics, x_init=given.start)
    return chain.get_chain()[-1]["x"]


BASELINES = [DPS, PiGDM, MomentMatching, DiffPIR, DDRM, ULA, PnP, PnPADMM, TotalVariation]


def test_every_baseline_is_compared_with_deepinv():
    from tweedie_inverse.benchmarks.methods.baselines import Baseline

    assert {type(m) for m in METHODS.values() if isinstance(m, Baseline)} == set(BASELINES)


@pytest.mark.parametrize("kind", BASELINES)
def test_every_sample_is_what_deepinv_gives_for_its_seed(kind):
    """Catches a harness that rescales, reseeds or mixes the samples of a batch."""
    from tweedie_inverse.benchmarks.methods.denoiser import convert

    task, prior, method = field(16, 2, "test")[0], load("field-16"), kind().within(6)
    y = torch.stack([task.operator.measure(truth, seed=3) for truth in task.truths])
    seeds = [[11, 12], [13, 14]]
    samples = method.draw(y, task, prior, seeds, 3)  # parts of 3 and 1, across measurements
    assert samples.shape == (2, 2, 1, 16, 16)
    for measurement in range(2):
        for seed, sample in zip(seeds[measurement], samples[measurement], strict=True):
            one = y[measurement, None]
            given = convert(one, task, prior)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                expected = direct(method, given)[0].detach().to(sample)
            alone = method.draw(one, task, prior, [[seed]], 1)[0, 0]
            assert torch.equal(alone, expected)  # bit for bit, in a batch of one as deepinv's
            torch.testing.assert_close(sample, expected, atol=1e-5, rtol=1e-5)


def test_pigdm_overshoots_directions_of_much_variance_unless_it_is_clipped():
    """An exact prior whose mean grey value varies as that of photographs does; 100 steps."""
    f = torch.fft.fftfreq(16, dtype=torch.float64)
    spectrum = (f[:, None] ** 2 + f**2 + 0.0375**2) ** -1.3
    spectrum *= 0.06 / spectrum.mean()
    spectrum[0, 0] = 186.0
    prior = ti.priors.Gaussian(torch.full((1, 16, 16), 0.5), power_spectrum=spectrum)
    mask = ops.Mask(ops.box_mask((1, 16, 16), (6, 6)), noise=ops.GaussianNoise(0.05))
    truth = field(16, 1, "test")[0].truths
    task = Task("box", "box", "", mask, truth)
    for method, works in ((PiGDM(clip=None), False), (PiGDM(), True)):
        samples = method.draw(mask.measure(truth), task, prior, [[1]], 1)
        assert (float((samples - truth).abs().max()) < 5) == works


def test_row_noise_is_each_generators_own_stream_and_refuses_other_batches():
    with PerSampleNoise([3, 4]):
        first, second = torch.randn(2, 5, 5), torch.randn_like(torch.zeros(2, 20))
    for row, seed in enumerate((3, 4)):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(first[row], torch.randn(5, 5, generator=generator))
        assert torch.equal(second[row], torch.randn(20, generator=generator))
    with PerSampleNoise([3]), pytest.raises(ValueError, match="drew 2 rows for 1"):
        torch.randn(2, 3)


def test_denoiser_is_the_prior_within_its_range_and_bounded_outside():
    from tweedie_inverse.benchmarks.methods.denoiser import PriorDenoiser

    prior = load("phantom-64")
    denoiser, x = PriorDenoiser(prior), normal((7,), (2, 1, 64, 64)).float()
    sigma = torch.tensor([0.1, 2.0])
    torch.testing.assert_close(denoiser(x, sigma), prior.denoise(x, sigma))
    assert bool(denoiser(100 * x, 100.0).abs().le(2).all())
    torch.testing.assert_close(denoiser(x, 1e-5), prior.denoise(x, prior.sigma_min))


def test_denoiser_answers_beyond_its_range_as_an_exact_one_does():
    """A network of a limited range against the exact denoiser: value and response, within C/s^2."""
    from tweedie_inverse.benchmarks.methods.denoiser import PriorDenoiser

    exact, limited = load("field-16"), load("field-16").for_shape((1, 16, 16))
    limited = copy.copy(limited)
    limited.any_sigma, limited.sigma_max = False, 20.0
    x = 0.5 + 60 * normal((7,), (2, 1, 16, 16)).float()
    for function in (lambda x: x, lambda x: x + normal((8,), x.shape).float()):
        found, expected = (
            PriorDenoiser(prior)(function(x), 60.0) - 0.5 for prior in (limited, exact)
        )
        assert float((found - expected).norm()) < 0.05 * float(expected.norm())


def test_scaling_to_norm_one_changes_units_only():
    from tweedie_inverse.benchmarks.methods.denoiser import convert

    task, prior = field(16, 1, "test")[-1], load("field-16")
    given = convert(task.operator.measure(task.truths), task, prior)
    assert ops.operator_norm(given.physics.operator) == pytest.approx(1, rel=1e-2)
    ratio = given.std / task.std
    y = task.operator.forward(task.truths) * ratio
    torch.testing.assert_close(given.physics.A(task.truths), y)


def test_costs_are_counted_at_the_prior():
    task, prior = field(16, 1, "test")[0], CountedPrior(load("field-16"))
    y = task.operator.measure(task.truths)
    DPS(evaluations=5).draw(y, task, prior, [[1, 2]], 2)
    assert (prior.calls, prior.vjps) == (10, 10)
    METHODS["decoupled"].within(4).draw(y, task, prior, [[1, 2, 3]], 3)
    assert (prior.calls, prior.vjps) == (22, 10)


def test_a_counted_prior_answers_whatever_the_prior_does():
    """A question that the wrapper forgets would be answered by the base class's guess."""
    from_others = {"score", "uncorrected", "for_shape", "limited", "coloured", "noise_at"}
    from_others |= {"over_ranks"}
    asked = {name for name in vars(Prior) if not name.startswith("_")}
    settings = {"centre", "any_sigma", "suits_populations", "unit"}
    settings |= {"value_range", "units", "noise_covariance", "probe_basis"}
    assert asked - from_others - settings <= {*vars(CountedPrior), *vars(WrappedPrior)}
