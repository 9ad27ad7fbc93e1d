"""Phase space on digits: VP, CLD and PSLD side by side, guidance, inpainting.

    python -m tweedie_inverse.benchmarks.studies.phase_space --train FOLDER
        train the three networks, about 20 minutes
    python -m tweedie_inverse.benchmarks.studies.phase_space --runs FOLDER
        the comparison: figure and table
    python -m tweedie_inverse.benchmarks.studies.phase_space --table exact
        samplers on exact scores, exact laws
    python -m tweedie_inverse.benchmarks.studies.phase_space --table guidance inpainting
        on the shipped prior

The three networks have the same data (digits, 16x16), architecture (but for the channels of the
momentum), optimizer, batches and number of steps; only the process differs.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse import phase_space
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.studies.digit_features import Judge, Quality
from tweedie_inverse.benchmarks.studies.exact_laws import wasserstein
from tweedie_inverse.benchmarks.studies.phase_laws import last_variance, law_at_end
from tweedie_inverse.datasets.digits import Digits
from tweedie_inverse.phase_space import PhaseSpaceNetwork, grids
from tweedie_inverse.phase_space.classifier import train_phase_classifier
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.trainer import load_trained, train

PROCESSES = ("vp", "cld", "psld")
CONFIG = TrainingConfig(
    data="digits", size=16, steps=4500, batch=64, widths=(32, 64), blocks=(1, 2), cooldown=0.4
)
BUDGETS = (10, 20, 50)
# The name of a row, its sampler and its grid.
SAMPLERS: dict[str, tuple[str, str]] = {
    "em, quadratic": ("em", "quadratic"),
    "sscs, quadratic": ("sscs", "quadratic"),
    "gddim, quadratic": ("gddim", "quadratic"),
}
TOLERANCES = (1e-1, 1e-2)
SCALES = (0.0, 1.0, 2.0, 4.0)
CLASSIFIER_SCALES = (1.0, 5.0)


def train_all(folder: Path, steps: int) -> None:
    """The three networks, one after the other; run again to resume."""
    for process in PROCESSES:
        for progress in train(replace(CONFIG, process=process, steps=steps), folder / process):
            print(process, progress, flush=True)


class Run(NamedTuple):
    """One row of the comparison, as its file holds it."""

    process: str
    sampler: str
    evaluations: int
    quality: Quality


def compare(folder: Path, processes: list[str], count: int) -> Iterator[Run]:
    """Sample quality against evaluations; rows that ``quality.csv`` holds are not run again."""
    judge, table = Judge(CONFIG.size), folder / "quality.csv"
    known = {(run.process, run.sampler) for run in read_runs(folder)}
    if ("training digits", "") not in known:
        training = Digits(CONFIG.size).images(range(count))
        yield _keep(table, Run("training digits", "", 0, judge.quality(training)))
    for process in processes:
        prior = load_trained(folder / process)
        assert isinstance(prior, PhaseSpaceNetwork)
        for consistent in (False, True) if prior.process.phases > 1 else (False,):
            prior.consistent = consistent
            name = f"{process}, consistent" if consistent else process
            for label, (sampler, grid) in SAMPLERS.items():
                for budget in BUDGETS if (name, label) not in known else ():
                    samples = phase_space.sample(
                        prior, count, sampler=sampler, grid=grid, steps=budget, batch_size=128
                    )
                    yield _keep(table, Run(name, label, budget, judge.quality(samples)))
            for tolerance in TOLERANCES if (name, "ode") not in known else ():
                spent, samples = _flow(prior, count, tolerance)
                yield _keep(table, Run(name, "ode", spent, judge.quality(samples)))


def _flow(prior: PhaseSpaceNetwork, count: int, tolerance: float) -> tuple[int, Tensor]:
    """Samples of the adaptive flow, and how many evaluations a sample took."""
    flow = phase_space.AdaptiveFlow(tolerance)
    *_, last = phase_space.trajectory(prior, count, sampler=flow)
    return last.evaluations, last.x


def _keep(table: Path, run: Run) -> Run:
    with table.open("a", newline="") as file:
        csv.writer(file).writerow([*run[:3], *run.quality])
    return run


def read_runs(folder: Path) -> list[Run]:
    """The rows of a comparison so far."""
    table = folder / "quality.csv"
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return [
            Run(p, s, int(n), Quality(*map(float, numbers)))
            for p, s, n, *numbers in csv.reader(file)
        ]


def report(folder: Path, figure: Path | None) -> Iterator[str]:
    """The comparison as a table and a figure; a cell is the Frechet distance at so many
    evaluations, the last columns belong to the most."""
    runs = read_runs(folder)
    yield "| sampler | process | Frechet at (evaluations) | sliced W | precision | recall |"
    yield "|---|---|---|---|---|---|"
    for sampler in ("", *SAMPLERS, "ode"):
        for process in dict.fromkeys(run.process for run in runs if run.sampler == sampler):
            rows = [run for run in runs if (run.process, run.sampler) == (process, sampler)]
            cells = ", ".join(f"{r.quality.frechet:.3f} ({r.evaluations})" for r in rows)
            _, sliced, precision, recall = rows[-1].quality
            yield (
                f"| {sampler} | {process} | {cells.replace(' (0)', '')} | {sliced:.4f} "
                f"| {precision:.3f} | {recall:.3f} |"
            )
    if figure is not None:
        _draw(runs, figure)


def _draw(runs: list[Run], path: Path) -> None:
    import matplotlib.pyplot as plt

    labels = [*SAMPLERS, "ode"]
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.6), sharex=True, sharey=True)
    colours = {"vp": "C0", "cld": "C1", "psld": "C2"}
    floor = next(run.quality.frechet for run in runs if run.process == "training digits")
    for axis, label in zip(axes.flat, labels, strict=True):
        for name in dict.fromkeys(run.process for run in runs if run.sampler == label):
            rows = [run for run in runs if (run.process, run.sampler) == (name, label)]
            style = "o--" if "consistent" in name else "o-"
            x, y = [run.evaluations for run in rows], [run.quality.frechet for run in rows]
            axis.plot(x, y, style, color=colours[name.split(",")[0]], label=name)
        axis.axhline(floor, color="grey", ls=":", label="training digits")
        axis.set(title=label, xscale="log", yscale="log")
        axis.set_xticks(BUDGETS, [str(b) for b in BUDGETS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("Frechet distance, relative")
    for axis in axes[1]:
        axis.set_xlabel("network evaluations")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def exact_laws() -> Iterator[str]:
    """Samplers on Gaussian pixels with the exact score: their own law, no sampling error."""
    s = torch.tensor([1.0, 0.25, 0.03, 0.002], dtype=torch.float64)
    known = ti.phase_space.processes
    processes = {"vp": known.vp(), "cld": known.cld(), "psld": known.psld()}
    budgets = (20, 50, 100, 400)
    yield "| process | sampler | " + " | ".join(map(str, budgets)) + " |"
    yield "|---|---|" + "---|" * len(budgets)
    for name, process in processes.items():
        for sampler in ("em", "sscs", "gddim", "conjugate"):
            for grid in ("uniform", "quadratic"):
                cells = []
                for budget in budgets:
                    times = grids.GRIDS[grid](budget - 1, 1e-3)
                    law = law_at_end(phase_space.SAMPLERS[sampler], process, s, times)
                    error = wasserstein(last_variance(process, s, 1e-3, law), s)
                    cells.append(f"{error:.1e}")
                yield f"| {name} | {sampler}, {grid} | " + " | ".join(cells) + " |"


def guidance(each: int, steps: int, classifier_steps: int) -> Iterator[str]:
    """Samples of each class from the shipped prior, by both kinds of guidance."""
    prior = ti.load_prior("digits-32-psld")
    assert isinstance(prior, PhaseSpaceNetwork)
    judge, labels = Judge(32), torch.arange(10).repeat_interleave(each)
    begin = time.monotonic()
    classifier = train_phase_classifier(Digits(32), prior.process, steps=classifier_steps, width=16)
    minutes = (time.monotonic() - begin) / 60
    yield f"Judge: {judge.own:.3f} on held-out digits.  Classifier trained in {minutes:.0f} min."
    yield f"{each} samples a class, sscs, quadratic grid, {steps} steps.\n"
    yield "| guidance | scale | class accuracy | Frechet | precision | recall |"
    yield "|---|---|---|---|---|---|"
    guided = [
        *(
            ("classifier-free", scale, phase_space.classifier_free(prior, labels, scale))
            for scale in SCALES
        ),
        *(
            ("classifier", scale, phase_space.ClassifierGuided(prior, classifier, labels, scale))
            for scale in CLASSIFIER_SCALES
        ),
    ]
    for kind, scale, asked in guided:
        samples = phase_space.sample(asked, len(labels), steps=steps)
        q = judge.quality(samples)
        accuracy = judge.accuracy(samples, labels)
        yield (
            f"| {kind} | {scale:g} | {accuracy:.3f} | {q.frechet:.3f} | {q.precision:.3f} "
            f"| {q.recall:.3f} |"
        )


def inpainting(count: int, each: int, steps: int) -> Iterator[str]:
    """Lower halves from upper halves: replacement against the posterior walk."""
    prior = ti.load_prior("digits-32-psld")
    assert isinstance(prior, PhaseSpaceNetwork)
    judge = Judge(32)
    truth, labels = judge.images[:count], judge.labels[:count]
    mask = torch.ones(1, 32, 32)
    mask[:, 16:] = 0
    yield f"{count} held-out digits, {each} samples each, {steps} evaluations a sample.\n"
    yield "| method | class accuracy | RMS error of the mean | CRPS of hidden pixels |"
    yield "|---|---|---|---|"
    repeated = truth.repeat_interleave(each, 0)
    known = phase_space.Known(repeated, mask)
    samples = {
        "replacement, sscs": phase_space.sample(
            prior, len(repeated), known=known, steps=steps
        ).unflatten(0, (count, each))
    }
    operator = ops.Mask(mask, noise=ops.GaussianNoise(0.02))
    y = operator.measure(truth, seed=0)
    for method in ("decoupled", ti.walks.Decoupled(error="average")):
        label = method if isinstance(method, str) else "decoupled, plain denoising error"
        samples[f"solve, {label}"] = ti.solve(
            y, operator, prior, method=method, num_samples=each, steps=steps
        ).samples
    of_class = phase_space.classifier_free(prior, labels.repeat_interleave(each), 1.0)
    samples["replacement, class given"] = phase_space.sample(
        of_class, len(repeated), known=known, steps=steps
    ).unflatten(0, (count, each))
    yield f"| the truth | {judge.accuracy(truth, labels):.3f} | 0 | 0 |"
    for label, found in samples.items():
        accuracy = judge.accuracy(found.flatten(0, 1), labels.repeat_interleave(each))
        hidden = (found - truth[:, None])[..., 16:, :]
        error = float(hidden.mean(1).square().mean().sqrt())
        yield f"| {label} | {accuracy:.3f} | {error:.4f} | {_crps(found, truth):.4f} |"


def _crps(samples: Tensor, truth: Tensor) -> float:
    """CRPS of the hidden pixels, fair for a finite number of samples ``(count, each, *shape)``."""
    x, y = samples[..., 16:, :], truth[:, None, :, 16:, :]
    each = x.shape[1]
    between = (x[:, :, None] - x[:, None]).abs().sum((1, 2)) / (each * (each - 1))
    return float(((x - y).abs().mean(1) - between / 2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, metavar="FOLDER")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="trained by --train")
    parser.add_argument("--processes", nargs="*", choices=PROCESSES, default=list(PROCESSES))
    parser.add_argument("--table", nargs="+", choices=["exact", "guidance", "inpainting"])
    parser.add_argument("--figure", type=Path, help="where the comparison is drawn")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--training-steps", type=int, default=CONFIG.steps)
    parser.add_argument("--classifier-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=50, help="evaluations a sample")
    options = parser.parse_args()
    if options.train is not None:
        train_all(options.train, options.training_steps)
    tables: list[Iterator[str]] = []
    if options.runs is not None:
        for run in compare(options.runs, options.processes, options.samples):
            print(run, flush=True)
        tables.append(report(options.runs, options.figure))
    for name in options.table or []:
        match name:
            case "exact":
                tables.append(exact_laws())
            case "guidance":
                each = max(1, options.samples // 10)
                tables.append(guidance(each, options.steps, options.classifier_steps))
            case "inpainting":
                tables.append(inpainting(options.samples // 8, 8, options.steps))
    for table in tables:
        for line in table:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    with endings():
        main()
