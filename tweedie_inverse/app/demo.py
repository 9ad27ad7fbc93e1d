"""Four inverse problems on images that no shipped prior was trained on, start to finish."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tweedie_inverse.app.example import PROBLEMS
from tweedie_inverse.evaluation.calibration import coverage, crps
from tweedie_inverse.evaluation.metrics import psnr, ssim
from tweedie_inverse.operators import LinearOperator
from tweedie_inverse.priors.zoo import load_prior
from tweedie_inverse.runtime.atomic import ready, replace
from tweedie_inverse.solving.plots import plot_problem
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.solver import solve


@dataclass(frozen=True)
class DemoProblem:
    """A named problem: which prior, which instrument, which held-out truth ``(*shape)``."""

    name: str
    title: str
    prior: str
    operator: LinearOperator
    truth: Tensor


@dataclass(frozen=True)
class DemoResult:
    """One row of the table; PSNR in dB, CRPS in data units."""

    name: str
    psnr_mean: float
    psnr_sample: float
    psnr_best_sample: float
    ssim_mean: float
    ssim_sample: float
    chi_square: float
    coverage: float
    crps: float
    evaluations: float
    seconds: float


def problems() -> list[DemoProblem]:
    """Sparse-view CT, inpainting, deblurring, super-resolution."""
    names = "ct", "inpainting", "deblurring", "super-resolution"
    chosen = ((name, PROBLEMS[name]) for name in names)
    return [
        DemoProblem(name, one.title, one.prior, one.make(), one.image()) for name, one in chosen
    ]


def run(
    folder: str | Path,
    *,
    num_samples: int = 8,
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
    tell: Callable[[str], None] = print,
) -> list[DemoResult]:
    """Solve every problem, write a picture of each and the table, and tell where they are."""
    folder = Path(folder).resolve()
    ready(folder / "table.md", *(folder / f"{problem.name}.png" for problem in problems()))
    results = []
    for problem in problems():
        tell(f"{problem.name}: {problem.title}")
        y = problem.operator.measure(problem.truth, seed=seed)
        posterior = solve(
            y,
            problem.operator,
            load_prior(problem.prior),
            num_samples=num_samples,
            steps=steps,
            seed=seed,
            progress=progress,
        )
        plot_problem(
            posterior.summary,
            folder / f"{problem.name}.png",
            truth=problem.truth,
            measurement=y,
            first_guess=problem.operator.least_squares(y[None], iterations=20)[0],
            title=problem.title,
        )
        results.append(score(problem.name, posterior, problem.truth))
    text = "\n".join([TABLE_HEAD, *map(table_row, results)])
    replace(folder / "table.md", f"{text}\n".encode())
    tell("\n" + text)
    tell(f"\nPictures and table.md are in {folder}")
    return results


def score(name: str, posterior: Posterior, truth: Tensor) -> DemoResult:
    """Metrics of one posterior without batch axis against the truth ``(*shape)``."""
    single, mean = psnr(posterior.samples, truth), posterior.mean[None]
    return DemoResult(
        name=name,
        psnr_mean=float(psnr(mean, truth)),
        psnr_sample=float(single[0]),
        psnr_best_sample=float(single.max()),
        ssim_mean=float(ssim(mean, truth)),
        ssim_sample=float(ssim(posterior.samples[:1], truth)),
        chi_square=float(posterior.diagnostics.residual_chi_square.mean()),
        coverage=float(coverage(posterior, truth)),
        crps=float(crps(posterior, truth)),
        evaluations=posterior.stats.denoiser_calls,
        seconds=posterior.stats.seconds,
    )


TABLE_HEAD = (
    "| problem | PSNR mean / sample / best | SSIM mean / sample | chi-square "
    "| 90 % coverage | CRPS | evaluations | seconds |\n|---|---|---|---|---|---|---|---|"
)


def table_row(r: DemoResult) -> str:
    """One line of markdown below `TABLE_HEAD`."""
    return (
        f"| {r.name} | {r.psnr_mean:.2f} / {r.psnr_sample:.2f} / {r.psnr_best_sample:.2f} "
        f"| {r.ssim_mean:.3f} / {r.ssim_sample:.3f} | {r.chi_square:.3f} "
        f"| {r.coverage:.3f} | {r.crps:.4f} | {r.evaluations:.0f} | {r.seconds:.1f} |"
    )
