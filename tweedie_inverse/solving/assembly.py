"""From walkers that have arrived to a posterior that judges itself."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.counting import instrument_of
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem, residual_chi_square
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.resampling import systematic
from tweedie_inverse.numerics.spectral import Pixels
from tweedie_inverse.operators import (
    BlindBlur,
    GaussianNoise,
    Parametric,
    UnknownCountingNoise,
    UnknownGaussianNoise,
    UnknownPhase,
)
from tweedie_inverse.runtime.digest import digest
from tweedie_inverse.solving.blocks import of_samples
from tweedie_inverse.solving.causes import Case, likely_causes
from tweedie_inverse.solving.diagnostics import Diagnostics, Population
from tweedie_inverse.solving.expectation import expected_range
from tweedie_inverse.solving.measured import Measured
from tweedie_inverse.solving.origin import Origin, checksum, name_of, versions
from tweedie_inverse.solving.parameters import Chains, InstrumentSamples
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.recalibrated import closest
from tweedie_inverse.solving.setup import Run
from tweedie_inverse.solving.stats import Stats
from tweedie_inverse.walks.base import DrawnUnknowns, PopulationInfo

# A value is outside the prior's range if it is beyond by more than this share of its width: the
# noise of the last level, and round skies, lie just beyond it.
_MARGIN = 0.05
# Samples about which noise that is not Gaussian is drawn, to tell how its residuals scatter.
_DRAWS = 4


class History(NamedTuple):
    """What the steps of a walk say about its populations; fields as of `Population`."""

    weights: Tensor
    log_evidence: Tensor
    effective_sizes: Tensor
    resamplings: Tensor
    ancestors: Tensor  # of the walkers

    @staticmethod
    def of(steps: Sequence[PopulationInfo | None]) -> "History | None":
        """None where walkers do not interact."""
        seen = [step for step in steps if step is not None]
        if not seen:
            return None
        last = seen[-1]
        return History(
            weights=last.weights,
            log_evidence=last.log_evidence,
            effective_sizes=torch.stack([step.effective_size for step in seen], 1),
            resamplings=torch.stack([step.resampled for step in seen], 1).sum(1),
            ancestors=last.ancestors,
        )


class Part(NamedTuple):
    """Walkers that have arrived, what their populations went through, and what they cost.

    An attempt that ran out of memory leaves no part, so that its cost is not counted.
    """

    x: Tensor
    history: History | None
    denoiser_calls: int
    operator_calls: int
    solver_error: float
    doubts: tuple[float, ...]  # means of the fields of `walks.base.Doubts`
    acceptance: Tensor | None  # (walkers,), of the inner moves, averaged over the steps
    unknowns: Chains | None = None  # where the instrument has any


def assemble(
    run: Run, finished: Sequence[Part], begin: float, walkers: Tensor | None = None
) -> Posterior | None:
    """The posterior of all measurements whose samples are complete; None if there is none.

    Args:
        walkers: those of the finished parts, where they lie together already.
    """
    if walkers is None:
        walkers = torch.cat([part.x for part in finished]) if finished else run.y[:0]
    complete = len(walkers) // run.num_samples
    if complete == 0:
        return None
    walkers = walkers[: complete * run.num_samples]
    samples = walkers.reshape(complete, run.num_samples, *walkers.shape[1:])
    samples, population = _equally_weighted(run, samples, finished)
    count = sum(len(part.x) for part in finished) / run.walk.communicator.size
    instrument = _drawn_instrument(run, complete, finished)
    stats = Stats(
        method=run.walk.name,
        reason=run.reason + _remark(finished) + (instrument.remark() if instrument else ""),
        steps=len(run.sigmas) - 1,
        denoiser_calls=sum(part.denoiser_calls for part in finished) / count,
        operator_calls=sum(part.operator_calls for part in finished) / count,
        seconds=time.monotonic() - begin,
        peak_memory=torch.cuda.max_memory_allocated(run.y.device) if run.y.is_cuda else 0,
        guard_calls=run.guard_calls,
    )
    diagnostics = _judged(run, samples, population, finished, instrument)
    origin = origin_of(run)
    calibration = closest(run.prior.calibration, origin)
    measured = _measured(run, samples, instrument)
    posterior = Posterior(samples, diagnostics, stats, origin, calibration, instrument, measured)
    return posterior[0] if run.single else posterior


def _equally_weighted(
    run: Run, walkers: Tensor, finished: Sequence[Part]
) -> tuple[Tensor, Population | None]:
    """Samples of equal weight: walkers of a population are resampled by their weights.

    Each measurement has a random number of its own, so that its samples depend on its seed alone.
    """
    histories = [part.history for part in finished if part.history is not None]
    if not histories:
        return walkers, None
    history = History(*map(torch.cat, zip(*histories, strict=True)))
    keys = [("equally weighted", *run.key(index, 0)[1:3]) for index in range(len(walkers))]
    uniform = torch.special.ndtr(torch.stack([normal(key, ()) for key in keys]))
    chosen = systematic(history.weights, uniform.to(history.weights))
    population = Population(
        **history._replace(ancestors=history.ancestors.gather(1, chosen))._asdict(), chosen=chosen
    )
    rows = torch.arange(len(walkers), device=walkers.device)[:, None]
    return walkers[rows, chosen.to(walkers.device)], population


def chains_of(steps: Sequence[DrawnUnknowns]) -> Chains | None:
    """What the steps of a walk drew; None where the instrument has no unknowns."""
    if not steps:
        return None
    start = steps[0].start
    assert start is not None
    accepted = torch.stack([step.accepted for step in steps]).mean(0)
    return Chains(torch.stack([step.u for step in steps], 1), start, accepted)


def _drawn_instrument(
    run: Run, complete: int, finished: Sequence[Part]
) -> InstrumentSamples | None:
    """What was drawn of the instrument of so many measurements; None where it is known."""
    chains = [part.unknowns for part in finished if part.unknowns is not None]
    if not chains:
        return None
    joined = Chains(*map(torch.cat, zip(*chains, strict=True)))
    trace, start, accepted = (
        tensor[: complete * run.num_samples].unflatten(0, (complete, run.num_samples))
        for tensor in joined
    )
    priors = [_instrument(run, index, 1).unknowns for index in range(complete)]
    operator, noise = run.operator.select(0), run.noise
    return InstrumentSamples(
        names=tuple(operator.unknowns) if isinstance(operator, Parametric) else (),
        is_logarithmic=priors[0].is_logarithmic,
        by_group=isinstance(noise, UnknownGaussianNoise)
        and noise.group_of(tuple(operator.range_shape)) is not None,
        u=trace[:, :, -1],
        trace=trace,
        start=start,
        accepted=accepted,
        low=torch.cat([prior.low for prior in priors]),
        high=torch.cat([prior.high for prior in priors]),
        deviation=torch.cat([prior.deviation for prior in priors]),
        kernel=operator.prior if isinstance(operator, BlindBlur) else None,
        phase=operator.prior if isinstance(operator, UnknownPhase) else None,
        noise_names=noise.unknown_names if isinstance(noise, UnknownCountingNoise) else ("std",),
    )


def _instrument(run: Run, index: int, walkers: int) -> Instrument:
    """That of one measurement, for so many walkers."""
    y = run.y[[index]].expand(walkers, *run.y.shape[1:])
    return instrument_of(Problem(y, run.operator.select(index), run.noise))


@torch.no_grad()
def _judged(
    run: Run,
    samples: Tensor,
    population: Population | None,
    finished: Sequence[Part],
    instrument: InstrumentSamples | None,
) -> Diagnostics:
    """Each measurement is judged by itself, with its own operator."""
    chi_square, expected, known = [], [], []
    for index, own in enumerate(samples):
        operator, noise = run.operator.select(index), run.noise
        if instrument is not None:  # what is typical of the unknowns serves the rest
            theirs = _instrument(run, index, len(own))
            operator, noise = theirs.known(instrument.u[index].mean(0))
        known.append((operator, noise))
        chi_square.append(_chi_squares(run, index, own, instrument))
        expected.append(expected_range(noise, operator, own[:_DRAWS].to(run.y)))
    size = torch.full(samples.shape[:1], float(run.num_samples))
    if population is not None:
        size = 1 / population.weights.square().sum(1)
    diagnostics = Diagnostics(
        residual_chi_square=torch.stack(chi_square),
        effective_sample_size=size.to(run.y),
        expected=torch.tensor(expected).to(run.y),
        solver_error=max(part.solver_error for part in finished),
        acceptance=_acceptance(finished, samples.shape[:2]),
        outside=_outside(run.prior.value_range, samples, run.y),
        population=population,
        at_edge=() if instrument is None else instrument.at_edge,
    )
    if bool(diagnostics.fits.all()):
        return diagnostics
    worst = diagnostics.worst
    case = Case(
        y=run.y[[worst]],
        samples=samples[worst],
        operator=known[worst][0],
        noise=known[worst][1],
        prior=run.prior,
        top=float(run.sigmas[0]),
        steps=len(run.sigmas) - 1,
        diagnostics=diagnostics.of(worst),
    )
    return diagnostics.because(likely_causes(case))


def _chi_squares(run: Run, index: int, own: Tensor, instrument: InstrumentSamples | None) -> Tensor:
    """Of the samples of one measurement, each with its own unknowns, ``(num_samples,)``."""
    found, first = [], 0
    for part in of_samples(own, run.y):
        if instrument is None:
            y, operator = run.y[[index]], run.operator.select(index)
            found.append(residual_chi_square(part, y, operator, run.noise))
        else:
            u = instrument.u[index][first : first + len(part)]
            found.append(_instrument(run, index, len(part)).chi_square(part, u))
        first += len(part)
    return torch.cat(found).to(run.y)


@torch.no_grad()
def _measured(run: Run, samples: Tensor, instrument: InstrumentSamples | None) -> Measured:
    """The measurements, and what the mean and the first sample of each leave unexplained."""
    residuals, observed = [], []
    for index, own in enumerate(samples):
        operator, y = run.operator.select(index), run.y[[index]]
        x = own.mean(0).to(y), own[0].to(y)
        known = [(operator, run.noise)] * 2
        if instrument is not None:  # what is typical of the unknowns, and those of the sample
            theirs, u = _instrument(run, index, len(own)), instrument.u[index]
            known = [theirs.known(u.mean(0)), theirs.known(u[0])]
        found = [
            noise.standardize(y, operator.forward(image[None]))[0]
            for image, (operator, noise) in zip(x, known, strict=True)
        ]
        seen = torch.ones((), dtype=torch.bool) if operator.observed is None else operator.observed
        residuals.append(torch.stack(found).to(y))
        observed.append(seen.to(y.device).expand(y.shape[1:]))
    basis = run.noise.basis if isinstance(run.noise, GaussianNoise) else Pixels()
    of_mean, of_sample = torch.stack(residuals, 1).unbind()
    return Measured(
        run.y[: len(samples)],
        of_mean,
        of_sample,
        None if run.operator.observed is None else torch.stack(observed),
        known[0][0].range_name,
        run.operator.range_is_complex,
        type(basis).__name__,
    )


def _acceptance(finished: Sequence[Part], shape: torch.Size) -> Tensor | None:
    """``(batch, num_samples)``; None where no step made moves."""
    parts = [part.acceptance for part in finished if part.acceptance is not None]
    if not parts:
        return None
    return torch.cat(parts)[: shape.numel()].reshape(shape)


def _outside(
    value_range: tuple[float, float] | None, samples: Tensor, like: Tensor
) -> Tensor | None:
    """Share of the values of each sample that lie outside the prior's range."""
    if value_range is None:
        return None
    low, high = value_range
    margin = _MARGIN * (high - low)

    def share(part: Tensor) -> Tensor:
        beyond = (part < low - margin) | (part > high + margin)
        return beyond.flatten(1).to(part.dtype).mean(1)

    shares = [share(part) for part in of_samples(samples.flatten(0, 1))]
    return torch.cat(shares).reshape(samples.shape[:2]).to(like)


def _remark(finished: Sequence[Part]) -> str:
    """What a user should know of doubts about the network; empty if there are none."""
    total = sum(len(part.x) for part in finished)
    sums = zip(*([doubt * len(part.x) for doubt in part.doubts] for part in finished), strict=True)
    left_out, held_back = (sum(each) / total for each in sums)
    remarks = []
    if left_out > 0:
        remarks.append(
            f"{left_out:.0%} of the probes and secants were not credible and left out: there the "
            "network's Jacobian is far from that of a denoiser"
        )
    if held_back > 0:
        remarks.append(
            f"the network moved pixels of {held_back:.0%} of the samples much further than the "
            "noise, as no denoiser would, and was held back: it may be outside what it was "
            "trained for"
        )
    return "".join(f"; {remark}" for remark in remarks)


def origin_of(run: Run) -> Origin:
    """What the samples of a call are made from."""
    return Origin(
        seed=run.seed,
        walk=repr(run.walk),
        num_samples=run.num_samples,
        steps=len(run.sigmas) - 1,
        operator=repr(run.operator),
        noise=repr(run.noise),
        range_shape=tuple(run.operator.range_shape),
        prior=name_of(run.prior),
        prior_checksum=checksum(run.prior),
        value_range=run.prior.value_range,
        units=run.prior.units,
        versions=versions(),
        operator_checksum=_digest(run.operator),
        noise_checksum=_digest(run.noise),
    )


def _digest(value: object) -> str:
    """Its checksum; none where an object refers to others without end: samples must not be lost."""
    try:
        return digest(value)
    except RecursionError:
        return ""
