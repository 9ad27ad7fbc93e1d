"""A learned noise schedule against linear and cosine, at equal budget, on digits.

    python -m tweedie_inverse.benchmarks.studies.noise_schedule

The same network, batches and number of steps for every schedule, all trained on the continuous-time
bound.  "Variance": of the estimate that one random time a held-out image gives of its denoising
matching, in (nats per dimension)^2.  Bounds: bits per dimension of held-out digits with 17 grey
values, in T steps at even times of the schedule itself; lower is better.
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse.app.endings import endings
from tweedie_inverse.datasets.digits import Digits
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.numerics.schedules import from_table
from tweedie_inverse.numerics.timesteps import cosine_table, vp_linear_table
from tweedie_inverse.priors import NetworkPrior
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.learned_noise import (
    Curve,
    LearnedLevels,
    NoiseCurve,
    bound_loss,
    descend,
    even_times,
)
from tweedie_inverse.training.trainer import build_task

BUDGETS = (8, 32, 128)
CONFIG = TrainingConfig(
    data="digits", size=8, batch=64, widths=(16, 32), blocks=(1, 1), weight="inverse-square"
)
DATA = Digits()


@dataclass(frozen=True)
class TableCurve:
    """A fixed schedule in continuous time: log sigma linear between the entries of a table."""

    table: Tensor

    def at(self, t: Tensor) -> Curve:
        gamma = 2 * self.table.log().to(t)
        place = t * (len(gamma) - 1)
        left = place.floor().long().clamp(max=len(gamma) - 2)
        rise = gamma[left + 1] - gamma[left]
        return Curve(gamma[left] + (place - left) * rise, rise * (len(gamma) - 1))


def log_linear_table() -> Tensor:
    """The schedule that the learned one starts from."""
    return LearnedLevels().table()


FIXED = {"linear": vp_linear_table, "cosine": cosine_table, "log-linear": log_linear_table}


class Result:
    """A trained network with its schedule, judged on held-out digits."""

    def __init__(self, prior: NetworkPrior, curve: NoiseCurve, table: Tensor, images: Tensor):
        self.prior, self.curve, self.table, self.images = prior, curve, table, images
        prior.module.eval().requires_grad_(False)
        prior.sigma_min, prior.sigma_max = (float(table[i]) * prior.scale for i in (0, -1))

    def variance(self, repeats: int = 8, seed: int = 7) -> float:
        """Variance of the estimate with one uniform time, over times, images and noises."""
        generator, parts = torch.Generator().manual_seed(seed), []
        with torch.no_grad():
            for _ in range(repeats):
                noise = torch.randn(self.images.shape, generator=generator)
                t = torch.rand(len(self.images), generator=generator)
                loss = bound_loss(self.prior, self.curve, self.images, noise, t)
                parts.append(loss.matching)
        return float(torch.cat(parts).var())

    def bits(self, steps: int | None) -> float:
        """Bits per dimension of one of 17 grey values; None is continuous time."""
        schedule = from_table(self.table * self.prior.scale)
        levels = 32 if steps is None else min(steps - 1, 32)
        method = ti.Bound(
            steps=steps, schedule=schedule, levels=levels, repeats=2, time="stratified"
        )
        found = ti.likelihood(self.prior, self.images, method=method, seed=1)
        # The digits are already spread over bins of width 1 / 17.
        return float(found.bits_per_dimension.mean()) + math.log2(17)


def fit(name: str, steps: int, seed: int, images: Tensor, rate: float = 2e-3) -> Result:
    """Train with one schedule; every name sees the same batches, noises and times."""
    prior = build_task(TrainingConfig(**{**CONFIG.__dict__, "seed": seed})).prior
    learned = LearnedLevels() if name == "learned" else None
    optimizer = torch.optim.Adam(prior.module.parameters(), lr=rate, betas=(0.9, 0.99))
    if learned is not None:
        optimizer.add_param_group({"params": list(learned.parameters()), "lr": 1e-2})
    curve: NoiseCurve = learned if learned is not None else TableCurve(FIXED[name]())
    for step in range(steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        clean = DATA.images(range(step * CONFIG.batch, (step + 1) * CONFIG.batch))
        noise = torch.randn(clean.shape, generator=generator)
        t = even_times(len(clean), generator)
        optimizer.zero_grad(set_to_none=True)
        if learned is not None:
            descend(prior, learned, clean, noise, t)
        else:
            bound_loss(prior, curve, clean, noise, t).total.backward()
        torch.nn.utils.clip_grad_norm_(prior.module.parameters(), 1.0)
        remaining = (steps - step) / (0.3 * steps)
        optimizer.param_groups[0]["lr"] = rate * min(1.0, remaining)
        optimizer.step()
    table = learned.table() if learned is not None else FIXED[name]()
    return Result(prior, curve, table, images)


def compare(names: list[str], steps: int, seeds: int, count: int) -> Iterator[str]:
    """One row for each schedule and seed, then mean and standard deviation over the seeds."""
    images = DATA.images(range(HELD_OUT_SEED, HELD_OUT_SEED + count))
    budgets = " | ".join(f"T = {budget}" for budget in BUDGETS)
    yield f"{steps} training steps, {count} held-out digits\n"
    yield f"| schedule | seed | variance | {budgets} | continuous | sigma | training, s |"
    yield "|---" * (6 + len(BUDGETS)) + "|"
    for name in names:
        rows = []
        for seed in range(seeds):
            begin = time.monotonic()
            result = fit(name, steps, seed, images)
            seconds = time.monotonic() - begin
            row = [result.variance(), *(result.bits(budget) for budget in (*BUDGETS, None))]
            rows.append(row)
            ends = f"{float(result.table[0]):.4f} to {float(result.table[-1]):.0f}"
            cells = " | ".join(f"{value:.3f}" for value in row)
            yield f"| {name} | {seed} | {cells} | {ends} | {seconds:.0f} |"
        table = torch.tensor(rows)
        spread = table.std(0) if seeds > 1 else torch.zeros(table.shape[1])
        pairs = zip(table.mean(0).tolist(), spread.tolist(), strict=True)
        cells = " | ".join(f"{mean:.3f} +- {std:.3f}" for mean, std in pairs)
        yield f"| **{name}** | all | {cells} | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["learned", *FIXED]
    parser.add_argument("--schedules", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=100, help="held-out digits")
    options = parser.parse_args()
    for line in compare(options.schedules, options.steps, options.seeds, options.count):
        print(line, flush=True)


if __name__ == "__main__":
    with endings():
        main()
