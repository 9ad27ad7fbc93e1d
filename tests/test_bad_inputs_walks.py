"""Bad inputs: walks, schedules, samplers, likelihoods, phase space."""

import math

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.bad_inputs import (
    FIELD,
    PHASES,
    PSLD,
    SUITE,
    S,
    Y,
    exact,
    network,
)
from tweedie_inverse.benchmarks.harness.plan import Plan, packs

TABLE = [
    (
        lambda: ti.sample(FIELD, 0),
        ("sample(num_samples=0): needs at least one sample"),
    ),
    (
        lambda: ti.sample(FIELD, 2, steps=0),
        ("sample(steps=0): needs at least one network evaluation"),
    ),
    (
        lambda: ti.sample(FIELD, 2, seed="a"),
        ("sample(seed='a'): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ti.sample(FIELD, 2, dtype=torch.int64),
        (
            "sample(dtype=torch.int64): needs torch.float32 or torch.float64; a network has a "
            "number type of its own"
        ),
    ),
    (
        lambda: ti.sample(FIELD, 2, batch_size=0),
        ("sample(batch_size=0): needs a positive number of samples"),
    ),
    (
        lambda: ti.sample(FIELD, 2, recipe="euler-maruyama"),
        (
            "sample(recipe='euler-maruyama'): choose one of churn, coloured, consistent, ddim, "
            "ddpm, ddpm-large, dpm++2m, euler, heun, ncsn, pf-ode, simple, ve-sde"
        ),
    ),
    (
        lambda: ti.sample(FIELD, 2, schedule="slow"),
        (
            "sample(schedule='slow'): choose one of cosine, geometric, karras, linear, log-snr, "
            "scaled-linear, sigmoid, sigmoid-v1, vp-linear"
        ),
    ),
    (
        lambda: ti.sample(nn.Identity(), 2),
        (
            "sample: prior must be a prior such as ti.load_prior('phantom-64'), or its name, "
            "got Identity; wrap a network in ti.priors.NetworkPrior"
        ),
    ),
    (
        lambda: ti.sample(network(lambda x, t: x.flip(0)), 2),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) mixes the batch:"
            " an image gave another answer alone than in a batch of two. The first axis is the "
            "batch, and its rows must not know each other. A network in training mode does that: "
            "call .eval() on it."
        ),
    ),
    (
        lambda: ti.walks.Langevin(norm=-1),
        ("Langevin(norm=-1): needs a positive, finite number"),
    ),
    (
        lambda: ti.walks.Langevin(step_size=0),
        ("Langevin(step_size=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.walks.Langevin(temperature=1.0),
        (
            "Langevin(temperature=1.0): needs two numbers, 0 or more: those of the first and of "
            "the last step"
        ),
    ),
    (
        lambda: ti.walks.Decoupled(sigma_min=0.0),
        (
            "Decoupled(sigma_min=0): needs a positive, finite noise level, or None for that of "
            "the prior"
        ),
    ),
    (
        lambda: ti.walks.Decoupled(moves=0),
        ("Decoupled(moves=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.walks.Decoupled(memory=math.nan),
        ("Decoupled(memory=nan): needs 0 or more, or infinity"),
    ),
    (
        lambda: ti.walks.Decoupled(error="none"),
        (
            "Decoupled(error='none'): choose one of 'auto', 'average', 'isotropic', 'measured', "
            "'network'"
        ),
    ),
    (
        lambda: ti.walks.Decoupled(schedule="karras"),
        (
            "Decoupled(schedule=): needs a function (steps, sigma_min, sigma_max) such as "
            "ti.schedules.karras, got str"
        ),
    ),
    (
        lambda: ti.walks.Particle(threshold=2),
        (
            "Particle(threshold=2): needs a number between 0 (never resample) and 1 (wherever "
            "weights differ)"
        ),
    ),
    (
        lambda: ti.walks.Particle(correctors=0.5),
        ("Particle(correctors=0.5): needs a whole number of at least 0"),
    ),
    (
        lambda: ti.walks.Particle(sigma_max=-1.0),
        (
            "Particle(sigma_max=-1): needs a positive, finite noise level, or None for that of "
            "the prior"
        ),
    ),
    (
        lambda: ti.walks.Churn(churn=-1),
        ("Churn(churn=-1): needs a number, which must not be negative"),
    ),
    (
        lambda: ti.walks.ddim(torch.tensor([1.0, 0.0]), eta=2),
        ("ddim(eta=2): needs a number from 0 (no noise) to 1 (DDPM)"),
    ),
    (
        lambda: ti.schedules.karras(0, 0.1, 1.0),
        ("schedule(steps=0): needs steps >= 1 and 0 < sigma_min <= sigma_max"),
    ),
    (
        lambda: list(packs(Plan(SUITE, tasks=("inpaint", "typo")), {})),
        (
            "--tasks: field has random inpainting, blur, super-resolution, sparse-view CT; got "
            "inpaint, typo"
        ),
    ),
    (
        lambda: ti.Bound(levels=1.5),
        ("Bound(levels=1.5): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.Bound(sigma_min=0),
        ("Bound(sigma_min=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.ProbabilityFlow(solver="rk45"),
        (
            "ProbabilityFlow(solver='rk45'): choose one of 'RK45', 'RK23', 'DOP853', "
            "'Radau', 'BDF' or 'LSODA'"
        ),
    ),
    (
        lambda: ti.ProbabilityFlow(tolerance=math.nan),
        ("ProbabilityFlow(tolerance=nan): needs a positive, finite number"),
    ),
    (
        lambda: ti.likelihood(network(lambda x, t: x * math.nan), Y),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) is not "
            "finite: it gave NaN at 128 of 128 entries, the first at index (0, 0, 0, 0), "
            "where its argument is 0.331; look for NaN in what it is made of: weights, a "
            "kernel, a matrix"
        ),
    ),
    (
        lambda: ti.likelihood(network(lambda x, t: x.flip(0)), Y),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) mixes the "
            "batch: an image gave another answer alone than in a batch of two. The first "
            "axis is the batch, and its rows must not know each other. A network in "
            "training mode does that: call .eval() on it."
        ),
    ),
    (
        lambda: ti.schedules.karras(5, "a", 1.0),
        ("schedule(sigma_min='a'): needs a number"),
    ),
    (
        lambda: ti.schedules.karras(5, 0.1, 1.0, rho=0),
        ("karras(rho=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.schedules.sigmoid(5, 0.1, 1.0, temperature=-1),
        ("sigmoid(temperature=-1): needs a positive, finite number"),
    ),
    (
        lambda: ti.schedules.vp_linear_table(timesteps=1.5),
        ("vp_linear_table(timesteps=1.5): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.schedules.cosine_table(beta_max=2),
        ("cosine_table(beta_max=2): needs a beta in (0, 1]"),
    ),
    (
        lambda: ti.schedules.from_table("a"),
        ("from_table(table=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ti.walks.Decoupled(secants="yes"),
        ("Decoupled(secants='yes'): needs True or False"),
    ),
    (
        lambda: ti.walks.Particle(communicator=None),
        ("Particle(communicator=): needs a Communicator, got NoneType"),
    ),
    (
        lambda: ti.walks.simple(torch.tensor([1.0, 0.0]), temperature=(1, math.nan)),
        (
            "simple(temperature=nan): needs two numbers, of the first and of the last "
            "step, which must not be negative"
        ),
    ),
    (
        lambda: ti.walks.ddpm(torch.tensor([1.0, 0.0]), variance="a"),
        ("ddpm(variance=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ti.walks.uncertainty_of(None, torch.tensor([1.0, 0.0])),
        ("uncertainty_of(prior=): needs a prior, got NoneType"),
    ),
    (
        lambda: ti.phase_space.ExactPhaseSpace(None, PSLD),
        ("ExactPhaseSpace(prior=): needs a prior in data units, got NoneType"),
    ),
    (
        lambda: ti.phase_space.ExactPhaseSpace(FIELD, None),
        (
            "ExactPhaseSpace(process=): needs a process such as "
            "ti.phase_space.processes.psld(), got NoneType"
        ),
    ),
    (
        lambda: ti.phase_space.ExactPhaseSpace(FIELD, PSLD, scale=0),
        ("ExactPhaseSpace(scale=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.phase_space.PhaseSpaceNetwork(nn.Identity(), PSLD, shape=(1, 8, 0)),
        (
            "PhaseSpaceNetwork(shape=(1, 8, 0)): needs positive sizes, without the batch "
            "axis, such as (1, 64, 64)"
        ),
    ),
    (
        lambda: ti.phase_space.PhaseSpaceNetwork(None, PSLD, shape=S),
        ("PhaseSpaceNetwork(module=): needs a torch.nn.Module, got NoneType"),
    ),
    (
        lambda: ti.phase_space.processes.psld(gamma="a"),
        ("psld(gamma='a'): needs a number >= 0"),
    ),
    (
        lambda: ti.phase_space.processes.vp(3),
        ("LinearProcess(rate=): needs Rate(first, last), got int"),
    ),
    (
        lambda: ti.phase_space.processes.from_sde(torch.ones(2, 3), torch.eye(2)),
        ("from_sde: needs drift (k, k) and noise (k, any), got (2, 3) and (2, 2)"),
    ),
    (
        lambda: ti.phase_space.Known("image", torch.ones(S)),
        ("Known(image=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ti.phase_space.AdaptiveFlow(solver="typo"),
        (
            "AdaptiveFlow(solver='typo'): choose one of 'RK45', 'RK23', 'DOP853', 'Radau', "
            "'BDF' or 'LSODA'"
        ),
    ),
    (
        lambda: ti.phase_space.Conjugate(math.nan),
        ("Conjugate(shift=nan): needs a finite number"),
    ),
    (
        lambda: ti.phase_space.PSLD(gamma=-1),
        ("PSLD(gamma=-1): needs a number >= 0"),
    ),
    (
        lambda: ti.phase_space.grids.uniform(1.5, 0.1),
        ("grids.uniform(steps=1.5): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1.5),
        ("phase_space.sample(num_samples=1.5): needs at least one, a whole number"),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1, seed=-1),
        ("phase_space.sample(seed=-1): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1, sampler=3),
        (
            "phase_space.sample(sampler=): needs a name or a sampler such as "
            "ti.phase_space.AdaptiveFlow(), got int"
        ),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1, dtype=torch.int64),
        ("phase_space.sample(dtype=torch.int64): needs torch.float32 or torch.float64"),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1, known=3),
        ("phase_space.sample(known=): needs ti.phase_space.Known(image, mask), got int"),
    ),
]


@pytest.mark.parametrize(("call", "sentence"), TABLE, ids=range(len(TABLE)))
def test_a_bad_input_gets_its_sentence(call, sentence):
    exact(call, sentence)


def test_no_row_is_lost():
    assert len(TABLE) >= 50
