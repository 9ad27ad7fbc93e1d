"""The answer: samples of ``p(x | y)``, their summaries, and how they were made."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.resampling import systematic
from tweedie_inverse.runtime.atomic import replace
from tweedie_inverse.solving.plots import Summary, plot_posterior


@dataclass(frozen=True)
class Stats:
    """How the samples were made and what it cost.

    Attributes:
        method: walk that ran; `reason` says why it was chosen.
        steps: noise levels walked through.
        denoiser_calls: network evaluations a sample.
        operator_calls: applications of A or its adjoint a sample.
        seconds: wall-clock time.
        peak_memory: bytes on the accelerator; 0 on CPU.
        solver_error: worst error of the inner linear solves, in posterior standard deviations.
    """

    method: str
    reason: str
    steps: int
    denoiser_calls: float
    operator_calls: float
    seconds: float
    peak_memory: int = 0
    solver_error: float = 0.0


class Population(NamedTuple):
    """What a population of walkers went through; without `batch` when y came without one.

    Attributes:
        weights: ``(batch, num_samples)`` float64, sum 1.
        log_evidence: ``(batch,)``, estimate of ``log p(y)`` in nats: the probability density of
            the observed entries under prior and operator.  ``exp`` of it is unbiased for the
            walk's own prior, that of its discrete steps.  NaN where the measurements are too many
            for their determinant.
        effective_sizes: ``(batch, steps)``, effective number of walkers at each step, before
            resampling.
        resamplings: ``(batch,)``, how often the population was resampled.
        ancestors: ``(batch, num_samples)``, the walker of the start that each sample descends from.
    """

    weights: Tensor
    log_evidence: Tensor
    effective_sizes: Tensor
    resamplings: Tensor
    ancestors: Tensor


@dataclass(frozen=True)
class Diagnostics:
    """Signs of trouble.

    Attributes:
        residual_chi_square: ``(batch, num_samples)``, the mean squared standardized residual of
            the observed entries: ``|y - A x|^2 / std^2`` for Gaussian noise, Pearson's chi-square
            for counts; near 1 for samples of the posterior.
        effective_sample_size: ``(batch,)``, ``1 / sum(weights^2)``.
        population: of the particle walk; None for independent samples.
    """

    residual_chi_square: Tensor
    effective_sample_size: Tensor
    population: Population | None = None


@dataclass(frozen=True)
class Posterior:
    """Posterior samples in data units.

    Attributes:
        samples: ``(batch, num_samples, *shape)``; without `batch` when y came without one.
        weights: ``(batch, num_samples)``, non-negative, sum 1; equal for independent samples.
        diagnostics: residuals and effective sample size.
        stats: method, cost.
    """

    samples: Tensor
    weights: Tensor
    diagnostics: Diagnostics
    stats: Stats

    @property
    def log_evidence(self) -> Tensor:
        """Estimate of ``log p(y)`` in nats, ``(batch,)``; particle walk only.

        Its differences compare noise levels, operators and priors on the same y.
        """
        if self.diagnostics.population is None:
            raise AttributeError(
                f"log_evidence: the {self.stats.method} walk does not estimate it; use "
                "ti.solve(..., method='particle')"
            )
        return self.diagnostics.population.log_evidence

    def equally_weighted(self, count: int | None = None, *, seed: int = 0) -> Tensor:
        """Samples of equal weight, ``(batch, count, *shape)``, for functions without weights.

        Systematic resampling of each measurement by its own weights, so that heavy samples repeat.

        Args:
            count: samples of each measurement; default as many as there are.
            seed: of the random number that each measurement takes.
        """
        weights = self.weights.double().reshape(-1, self.weights.shape[-1])
        count = count or weights.shape[1]
        keys = [("equally weighted", seed, index) for index in range(len(weights))]
        uniform = torch.special.ndtr(torch.stack([normal(key, ()) for key in keys]))
        chosen = systematic(weights, uniform.to(weights), count)
        samples = self.samples.reshape(len(weights), -1, *self.mean.shape[self._axis :])
        rows = torch.arange(len(weights), device=chosen.device)[:, None]
        picked = samples[rows, chosen]
        return picked if self._axis else picked[0]

    @property
    def _axis(self) -> int:
        return self.weights.ndim - 1

    @property
    def mean(self) -> Tensor:
        """Posterior mean, ``(batch, *shape)``."""
        return (self._columns() * self.samples).sum(self._axis)

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of every pixel, unbiased for equal weights."""
        deviation = self.samples - self.mean.unsqueeze(self._axis)
        variance = (self._columns() * deviation.square()).sum(self._axis)
        lost = 1 - self._columns().square().sum(self._axis)
        return (variance / lost.clamp(min=torch.finfo(lost.dtype).tiny)).sqrt()

    def quantile(self, q: float | Tensor) -> Tensor:
        """Quantile of every pixel, ``(batch, *shape)``; linear between the samples.

        Sample k of n in increasing order stands at cumulative weight ``W_k - w_k / 2``; a single
        sample is every quantile.

        Args:
            q: in [0, 1], one for all measurements or ``(batch,)``.

        Raises:
            ValueError: q outside [0, 1].
        """
        axis, levels = self._axis, torch.as_tensor(q, dtype=torch.float64)
        if not bool(((levels >= 0) & (levels <= 1)).all()):
            raise ValueError(f"quantile(q={q}): needs a number in [0, 1]")
        values, order = self.samples.movedim(axis, -1).sort(dim=-1)
        if values.shape[-1] == 1:
            return values[..., 0]
        weights = self._columns().expand_as(self.samples).movedim(axis, -1).gather(-1, order)
        place = weights.cumsum(-1) - weights / 2
        levels = levels.to(place).reshape(-1, *[1] * (place.ndim - 1))
        level = levels.expand(*place.shape[:-1], 1).contiguous()
        right = torch.searchsorted(place, level).clamp(1, place.shape[-1] - 1)
        left = right - 1
        low, high = place.gather(-1, left), place.gather(-1, right)
        share = ((level - low) / (high - low).clamp(min=1e-30)).clamp(0, 1)
        return torch.lerp(values.gather(-1, left), values.gather(-1, right), share)[..., 0]

    @property
    def summary(self) -> Summary:
        """Samples, mean and std of the first measurement, for pictures."""
        tensors = (self.samples, self.mean, self.std)
        return Summary(*(tensor[0] if self._axis else tensor for tensor in tensors))

    def plot(self, path: str | Path | None = None, *, truth: Tensor | None = None):
        """Samples, mean and standard deviation of the first measurement; returns the figure.

        Args:
            path: where to save the picture.
            truth: ``(*shape)`` or ``(batch, *shape)``, where it is known.
        """
        if truth is not None and truth.ndim == self.mean.ndim and self._axis:
            truth = truth[0]
        return plot_posterior(self.summary, path, truth)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, in one stroke; `Posterior.load` reads it."""
        from safetensors.torch import save

        tensors = {
            "samples": self.samples.contiguous(),
            "weights": self.weights.contiguous(),
            "residual_chi_square": self.diagnostics.residual_chi_square.contiguous(),
            "effective_sample_size": self.diagnostics.effective_sample_size.contiguous(),
        }
        if self.diagnostics.population is not None:
            for name, tensor in self.diagnostics.population._asdict().items():
                tensors[f"population.{name}"] = tensor.clone()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        replace(Path(path), save(tensors, metadata={"stats": json.dumps(asdict(self.stats))}))

    @staticmethod
    def load(path: str | Path) -> "Posterior":
        """Read what `save` wrote."""
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            stats = Stats(**json.loads(file.metadata()["stats"]))
        names = [f"population.{name}" for name in Population._fields]
        diagnostics = Diagnostics(
            tensors["residual_chi_square"],
            tensors["effective_sample_size"],
            Population(*(tensors[name] for name in names)) if names[0] in tensors else None,
        )
        return Posterior(tensors["samples"], tensors["weights"], diagnostics, stats)

    def _columns(self) -> Tensor:
        missing = self.samples.ndim - self.weights.ndim
        return self.weights.reshape(*self.weights.shape, *[1] * missing)
