"""`compare`: candidates for operator, noise or prior by the evidence of a measurement."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, flag
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.evaluation.compare.candidates import Candidate, candidates_of, checked_runs
from tweedie_inverse.evaluation.compare.result import Comparison
from tweedie_inverse.numerics.lanczos import other_probes
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.analytic import Gaussian
from tweedie_inverse.priors.named import PriorLike
from tweedie_inverse.runtime import notebook
from tweedie_inverse.solving.diagnostics import Diagnostics, PosteriorWarning
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.solver import solve
from tweedie_inverse.walks import Particle, Walk

_WALKERS = 500
# The walk is exact for a Gaussian prior at any number of walkers and steps.
_WALKERS_OF_GAUSSIAN, _STEPS_OF_GAUSSIAN = 16, 8

Listed = Sequence[Any] | dict[str, Any]


def compare(
    y: Any,
    operator: Operator | Listed,
    prior: PriorLike | Listed,
    *,
    noise: NoiseModel | float | Listed | None = None,
    num_samples: int | None = None,
    steps: int | None = None,
    repeats: int = 4,
    seed: int = 0,
    method: str | Walk = "particle",
    batch_size: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Which operator, noise level or prior made y: candidates by their evidence ``p(y)``.

    One of `operator`, `prior` and `noise` is a list of candidates, or a dict of candidates by name.
    The particle walk estimates ``log p(y)`` for each, several times with other random numbers,
    which tells the error of each estimate and of their differences.

    The evidence says which candidate makes y most probable, and not whether y is probable under
    any: the table marks those whose residuals do not fit, and `check_fit` raises the alarm where
    none does.  It depends on all of the prior, so that candidates that differ in what y does not
    see can differ in evidence too.

    Args:
        y: one measurement, or a batch of measurements of different images by the same instrument,
            whose log evidences are added up; as for `solve`.
        operator, prior, noise: as for `solve`; one of them a list or a dict.  A one-dimensional
            array of noise levels is a list.
        num_samples: walkers of each population; default 500, for a Gaussian prior 16, for which
            the walk is exact.
        steps: network evaluations a walker; default that of the walk, for a Gaussian prior 8.
        repeats: populations for each candidate, 2 or more.
        method: ``"particle"``, or ``ti.walks.Particle`` with its own settings.

    Returns:
        `.best`, `.probabilities`, `.log_evidence` and `.standard_error` by name,
        `.difference(a, b)`, `.undecided`; print it for a table.

    Raises:
        ValueError, TypeError: no list or several; anything that `solve` refuses, with the name of
            the candidate, before the first walk; candidates that observe different entries of y.
        FloatingPointError: an evidence is NaN.

    Cost: ``candidates * repeats`` walks.

    Examples:
        >>> found = ti.compare(y, operator, prior, noise=[0.1, 1.0], repeats=2)
        >>> found.best
        'noise 0.1'
    """
    kind, candidates = candidates_of(y, operator, prior, noise)
    repeats = count("compare", "repeats", repeats, least=2, need="2 populations or more")
    seed, show = checked_seed("compare", "seed", seed), flag("compare", "progress", progress)
    walk = Particle() if method == "particle" else method
    if not (isinstance(walk, Walk) and walk.is_population):
        raise TypeError(
            f"compare(method=): needs ti.walks.Particle(...), which estimates p(y), got {method!r}"
        )
    exact = all(isinstance(one.prior, Gaussian) for one in candidates)
    if num_samples is None:
        num_samples = _WALKERS_OF_GAUSSIAN if exact else _WALKERS
    if steps is None and exact:
        steps = _STEPS_OF_GAUSSIAN
    checked_runs(y, candidates, walk, num_samples, steps)
    settings = {"method": walk, "num_samples": num_samples, "steps": steps}
    settings["batch_size"] = batch_size
    return _compared(y, kind, candidates, repeats, seed, settings, show)


def _compared(
    y: Any,
    kind: str,
    candidates: Sequence[Candidate],
    repeats: int,
    seed: int,
    settings: dict[str, Any],
    show: bool,
) -> Comparison:
    estimates = torch.empty(len(candidates), repeats, dtype=torch.float64)
    first: list[Diagnostics] = []
    with notebook.progress_bar(
        total=estimates.numel(), disable=not show, unit="walk", desc="compare"
    ) as bar:
        for repeat in range(repeats):
            for place, one in enumerate(candidates):
                posterior = _solved(y, one, _seed_of(seed, repeat), repeat, settings)
                estimates[place, repeat] = _evidence(posterior, one)
                if repeat == 0:
                    first.append(posterior.diagnostics)
                bar.update()
    return Comparison(
        kind,
        tuple(one.name for one in candidates),
        estimates,
        tuple(float(one.chi_square.mean()) for one in first),
        tuple(bool(one.fits.all()) for one in first),
        tuple(one.verdict for one in first),
        settings["num_samples"],
    )


def _solved(y: Any, one: Candidate, seed: int, repeat: int, settings: dict[str, Any]) -> Posterior:
    """One walk; the numbers of a repeat are the same for all candidates."""
    with other_probes(repeat + 1), warnings.catch_warnings():
        # What does not fit is in the table.
        warnings.simplefilter("ignore", PosteriorWarning)
        try:
            return solve(y, one.operator, one.prior, noise=one.noise, seed=seed, **settings)
        except Exception as error:
            error.add_note(f"compare: while the candidate was {one.name!r}")
            raise


def _evidence(posterior: Posterior, one: Candidate) -> Tensor:
    """The log evidence of all measurements together, ``()``."""
    found = posterior.log_evidence.double().sum().cpu()
    if bool(found.isnan()):
        raise FloatingPointError(
            f"compare: the evidence of candidate {one.name!r} is NaN; its walk has left the range "
            "of the number type. Is it in the units of y?"
        )
    return found


def _seed_of(seed: int, repeat: int) -> int:
    """That of a repeat, which no other call of `compare` has by counting on."""
    return int(generator(("compare", seed, repeat)).integers(2**63))
