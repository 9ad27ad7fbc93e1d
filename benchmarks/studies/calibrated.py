"""Are the error bars of what ships right, and those of other methods? One table by `ti.calibrate`.

    python -m tweedie_inverse.benchmarks.studies.calibrated --folder kept
        our walk with every shipped prior
    python -m tweedie_inverse.benchmarks.studies.calibrated --cases field images ct --methods ours dps diffpir pigdm ddrm \
        --folder kept --figure coverage.png
        deepinv's samplers beside it, on the same truths and measurements
    python -m tweedie_inverse.benchmarks.studies.calibrated --own --folder kept
        truths that the network has drawn: what is wrong then is not that the prior does not fit

Truths are exact draws where the prior is written down, and else images of the kind that the network
was trained on, which it has never seen.  With a folder the same command goes on where it stopped.
"""  # noqa: E501

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import NOISE, SUITES
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.priors.base import Prior

OURS, PEERS = "ours", ("dps", "diffpir", "pigdm", "ddrm")
# Images from here on have not been used to measure a denoising error, nor by the suites.
FRESH = 30_000
# As many images are made whatever the count, since a kept folder is for one set of images.
MOST = 200
_KINDS = {
    "digits-32": "digits",
    "digits-32-psld": "digits",
    "phantom-64": "slices",
    "phantom-128": "slices",
    "photo-64": "photos",
    "texture-64": "textures",
}
COLUMNS = (
    "case",
    "method",
    "truths x samples",
    "evaluations",
    "verdict",
    "p",
    "coverage at 0.5",
    "widest interval",
    "spread over skill",
    "missing mass",
    "CRPS",
)


def _from_suite(suite: str, name: str, size: int) -> Callable[[], Task]:
    def make() -> Task:
        (task,) = (one for one in SUITES[suite].tasks(size, 1, "test") if one.name == name)
        return task

    return make


def _own(title: str, prior: str, make: Callable[[], ops.Operator], shape: tuple[int, ...]):
    return lambda: Task(title, title, prior, make(), torch.zeros(1, *shape))


def _mask(size: int) -> ops.Operator:
    shape = (1, size, size)
    return ops.Mask(ops.random_mask(shape, 0.3, seed=1), noise=NOISE(0.05))


# What is solved, by name: the tasks of the suites, and for the other shipped priors tasks alike.
CASES: dict[str, Callable[[], Task]] = {
    "field, inpainting": _from_suite("field", "random inpainting", 32),
    "field, blur": _from_suite("field", "blur", 32),
    "field, super-resolution": _from_suite("field", "super-resolution", 32),
    "field, CT": _from_suite("field", "sparse-view CT", 32),
    "images, inpainting": _from_suite("images", "random inpainting", 64),
    "images, blur": _from_suite("images", "Gaussian blur", 64),
    "ct, sparse view": _from_suite("ct", "sparse view", 64),
    "ct, limited angle": _from_suite("ct", "limited angle", 64),
    "texture-64, blur": _own(
        "blur",
        "texture-64",
        lambda: ops.Blur(ops.gaussian_kernel(1.5), (1, 64, 64), noise=NOISE(0.05)),
        (1, 64, 64),
    ),
    "digits-32, inpainting": _own("inpainting", "digits-32", lambda: _mask(32), (1, 32, 32)),
    "digits-32-psld, inpainting": _own(
        "inpainting", "digits-32-psld", lambda: _mask(32), (1, 32, 32)
    ),
    "phantom-128, sparse view": _own(
        "sparse view",
        "phantom-128",
        lambda: ops.Tomography((1, 128, 128), 20, noise=NOISE(0.5)),
        (1, 128, 128),
    ),
}
SHIPPED = (
    "digits-32, inpainting",
    "digits-32-psld, inpainting",
    "texture-64, blur",
    "images, inpainting",
    "images, blur",
    "ct, sparse view",
    "phantom-128, sparse view",
)


@dataclass(frozen=True)
class Peer:
    """A method of the suites as a sampler of `ti.calibrate`."""

    name: str
    method: Method
    task: Task
    prior: Prior

    @property
    def __name__(self) -> str:
        """With its settings, so that a kept folder tells them apart."""
        return f"{self.name}: {self.method!r}"

    def __call__(self, y: Tensor, count: int, seed: int) -> Tensor:
        """Samples ``(count, *shape)`` of the measurement `y`; each has a seed of its own."""
        seeds = [range(seed, seed + count)]
        return self.method.draw(y[None], self.task, self.prior, seeds, count)[0]


class Row(NamedTuple):
    """A line of the table; `calibration` is None where the method was refused, for a `reason`."""

    case: str
    method: str
    evaluations: int
    calibration: ti.Calibration | None
    reason: str = ""

    def cells(self) -> list[str]:
        """In the order of `COLUMNS`."""
        found = self.calibration
        if found is None:
            return [self.case, self.method, "", "", self.reason, *[""] * (len(COLUMNS) - 5)]
        levels, reached = found.coverage.levels, found.coverage.found
        middle = int((levels - 0.5).abs().argmin())
        half = f"{float(reached[middle]):.2f}"
        if abs(float(levels[middle]) - 0.5) > 0.01:
            half += f" (at {float(levels[middle]):.2f})"
        return [
            self.case,
            self.method,
            f"{found.count} x {found.num_samples}",
            str(self.evaluations),
            "passed" if found.passed else "failed",
            f"{found.p_value:.4f}",
            half,
            f"{float(reached[-1]):.2f} of {float(levels[-1]):.2f}",
            f"{found.scores['spread over skill']:.2f}",
            f"{found.scores['missing mass']:.2f}",
            f"{found.scores['crps']:.4f}",
        ]


def truths(task: Task) -> Tensor | None:
    """Images that the network has not seen, ``(MOST, *shape)``; None where draws are exact."""
    kind = _KINDS.get(str(task.prior))
    if kind is None:
        return None
    return held_out(kind, task.operator.domain_shape[-1], MOST, first=FRESH)


def calibrated(
    case: str,
    method: str,
    count: int,
    num_samples: int,
    evaluations: int,
    folder: Path | None,
    own: bool = False,
) -> Row:
    """One line: `ti.calibrate` of a case by a method, `evaluations` of the network a sample.

    Args:
        own: truths are draws of the network's own sampler, so that the prior fits them.
    """
    task = CASES[case]()
    prior, peer = load(task.prior), None
    if method != OURS:
        settings = replace(METHODS[method], evaluations=evaluations)
        refused = settings.refuse(task)
        if refused is not None:
            return Row(case, method, evaluations, None, refused)
        peer = Peer(method, settings, task, prior)
    name = f"{case}-{method}-{evaluations}-{num_samples}".replace(", ", "-").replace(" ", "-")
    name += "-own" if own else ""
    try:
        found = ti.calibrate(
            task.operator,
            prior,
            count=count,
            num_samples=num_samples,
            images=None if own else truths(task),
            steps=evaluations,
            sampler=peer,
            power=False,
            folder=None if folder is None else folder / name,
        )
    except ValueError as error:
        if "NaN or infinity" not in str(error):
            raise
        return Row(case, method, evaluations, None, "diverged")
    return Row(case, method, evaluations, found)


def coverage_figure(rows: Sequence[Row], path: Path) -> None:
    """Coverage of pixel intervals, a panel for each case and a curve for each method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.calibration is not None]
    cases = list(dict.fromkeys(row.case for row in shown))
    across = math.ceil(math.sqrt(len(cases)))
    down = -(-len(cases) // across)
    figure = Figure(figsize=(3.6 * across, 3.4 * down), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).flat
    colours = {method: f"C{k}" for k, method in enumerate(dict.fromkeys(r.method for r in shown))}
    # Cases first, so that no panel is taken that has none.
    for case, axes in zip(cases, panels, strict=False):
        mine = [row for row in shown if row.case == case]
        for row in mine:
            curve = row.calibration.coverage  # type: ignore[union-attr]
            x, y = ([0, *column.tolist(), 1] for column in (curve.levels, curve.found))
            axes.plot(x, y, "o-", ms=3, lw=1.4, color=colours[row.method], label=row.method)
            if row.method == OURS:
                reach = (curve.high - curve.levels).tolist()
                low = [a - b for a, b in zip(x, [0, *reach, 0], strict=True)]
                high = [a + b for a, b in zip(x, [0, *reach, 0], strict=True)]
                axes.fill_between(x, low, high, color="0.85", lw=0)
        axes.plot([0, 1], [0, 1], color="k", lw=0.6)
        axes.set(title=case, xlabel="nominal coverage", ylabel="reached", xlim=(0, 1), ylim=(0, 1))
        axes.legend(fontsize=8)
    for axes in [*panels]:
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def rows_of(options: argparse.Namespace) -> Iterator[Row]:
    """All lines that were asked for, each as soon as it is known."""
    wanted = [name for name in CASES for start in options.cases if name.startswith(start)]
    for case in dict.fromkeys(wanted):
        count, samples = options.count, options.samples
        if options.exact and case.startswith("field"):
            count, samples = options.exact
        for method in options.methods:
            yield calibrated(
                case, method, count, samples, options.evaluations, options.folder, options.own
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cases",
        nargs="+",
        default=list(SHIPPED),
        help=f"names, or how they begin: {'; '.join(CASES)}; default: one of each shipped prior",
    )
    parser.add_argument("--methods", nargs="+", choices=[OURS, *PEERS], default=[OURS])
    parser.add_argument("--count", type=int, default=100, help=f"truths, at most {MOST}")
    parser.add_argument("--samples", type=int, default=15)
    parser.add_argument(
        "--exact",
        nargs=2,
        type=int,
        metavar=("COUNT", "SAMPLES"),
        help="truths and samples of the fields, whose prior costs no network",
    )
    parser.add_argument("--evaluations", type=int, default=20, help="of the network, a sample")
    parser.add_argument(
        "--own", action="store_true", help="truths are drawn by the network's own sampler"
    )
    parser.add_argument("--folder", type=Path, help="where finished truths are kept")
    parser.add_argument("--figure", type=Path, help="coverage curves, such as coverage.png")
    options = parser.parse_args()
    unknown = [one for one in options.cases if not any(n.startswith(one) for n in CASES)]
    if unknown:
        parser.error(f"no case begins with {', '.join(unknown)}; there are {'; '.join(CASES)}")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    rows = []
    for row in rows_of(options):
        rows.append(row)
        print(f"| {' | '.join(row.cells())} |", flush=True)
    if options.figure is not None:
        coverage_figure(rows, options.figure)
        print(f"figure: {options.figure.resolve()}")


if __name__ == "__main__":
    with endings():
        main()
