"""What a walk costs beside its network: seconds and memory over the batch, as ratios in one run.

    python -m tweedie_inverse.benchmarks.studies.speed
        20-view CT of 64x64 phantoms, on the CPU
    python -m tweedie_inverse.benchmarks.studies.speed --device cuda --batches 1 16 256
    python -m tweedie_inverse.benchmarks.studies.speed --smoke
        tiny, to see that it runs
    python -m tweedie_inverse.benchmarks run speed --out results
        with records, as the other suites

Every row makes the same number of network evaluations; "network alone" makes them and nothing else.
Rows of a batch take turns, so that a busy machine slows all of them, and the fastest turn counts.

Each row has processes of its own.  On a CPU its memory is how far the process's high-water mark
rises in its first solve: that sees what torch's profiler does not, such as the work space of
convolutions, and no row inherits what another has left to the allocator.  On an accelerator it is
torch's own peak.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from tweedie_inverse.app.distributed import Place
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.harness.packages import require
from tweedie_inverse.benchmarks.harness.records import Store, Unit, provenance
from tweedie_inverse.benchmarks.harness.standalone import Request, of_tasks, show
from tweedie_inverse.benchmarks.harness.work_loop import Result, finish
from tweedie_inverse.benchmarks.methods.baselines import Baseline
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.problems.priors import checksum, load
from tweedie_inverse.benchmarks.problems.suites import ct
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.benchmarks.studies import overhead
from tweedie_inverse.numerics.schedules import karras
from tweedie_inverse.priors.counting import Count, CountedPrior

BARE = "network alone"
NAMES = (
    BARE,
    "decoupled",
    "langevin",
    "particle",
    "dps",
    "pigdm",
    "moment-matching",
    "diffpir",
)
BATCHES, STEPS, TURNS = (1, 4, 16), 20, 3


class Cell(NamedTuple):
    """One measurement: `batch` samples with `steps` evaluations each."""

    name: str
    batch: int
    steps: int
    device: str = "cpu"
    threads: int = 1


class Cost(NamedTuple):
    """Seconds and additional bytes of one solve, and what each sample cost."""

    seconds: float
    memory: int
    evaluations: float
    products: float


def measure(cell: Cell) -> Cost:
    """Measure in this process: memory in the first solve, time in a second one."""
    torch.set_num_threads(cell.threads)
    task = ct(64, 1, "test")[0]
    prior = CountedPrior(load(task.prior, cell.device))
    solve = _solve(cell, task, prior)
    before = _high_water(cell.device)
    solve()
    memory = _high_water(cell.device) - before
    prior.count = Count()
    begin = time.perf_counter()
    solve()
    seconds = time.perf_counter() - begin
    return Cost(seconds, memory, prior.calls / cell.batch, prior.vjps / cell.batch)


def _solve(cell: Cell, task: Task, prior: CountedPrior) -> Callable[[], None]:
    y = task.operator.measure(task.truths, seed=0).to(cell.device)
    seeds = [list(range(cell.batch))]

    @torch.no_grad()
    def bare() -> None:
        x = torch.zeros(cell.batch, *prior.shape, device=cell.device)
        for sigma in karras(cell.steps, prior.sigma_min, prior.sigma_max)[:-1].tolist():
            prior.denoise(x, sigma)
        _wait(cell.device)

    if cell.name == BARE:
        return bare
    method = replace(METHODS[cell.name], evaluations=cell.steps)
    if isinstance(method, Baseline):
        import deepinv  # noqa: F401  (so that the memory of its code is not counted)

    def sampled() -> None:
        method.draw(y, task, prior, seeds, cell.batch)
        _wait(cell.device)

    return sampled


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _high_water(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if not status.is_file():
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not getrusage on Linux: there a process begins with the mark of the one that started it.
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def apart(cell: Cell) -> Cost:
    """`measure` in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tweedie_inverse.benchmarks.studies.speed",
        "--cell",
        json.dumps(cell),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


class Table(NamedTuple):
    """Rows of one batch, which take turns; the first is the bare network."""

    units: tuple[Unit, ...]
    cells: tuple[Cell, ...]
    turns: int


def tables(
    request: Request, batches: Sequence[int] = BATCHES, steps: int = STEPS, turns: int = TURNS
) -> list[Table]:
    """One table for each batch size."""
    chosen, steps = request.methods or NAMES, min(steps, request.cap or steps)
    names = [BARE, *(name for name in NAMES if name in chosen and name != BARE)]
    if request.smoke:
        names, batches, steps, turns = names[:2], [1], 2, 1
    machine, threads = provenance(request.device)["machine"], torch.get_num_threads()
    found = []
    for batch in batches:
        cells = tuple(Cell(name, batch, steps, request.device, threads) for name in names)
        units = tuple(_unit(cell, turns, machine) for cell in cells)
        found.append(Table(units, cells, turns))
    return of_tasks(found, request.tasks)


def _unit(cell: Cell, turns: int, machine: str) -> Unit:
    settings = {"evaluations": cell.steps, "source": "the network and nothing else"}
    if cell.name != BARE:
        method = replace(METHODS[cell.name], evaluations=cell.steps)
        settings = {**asdict(method), "source": method.source}
    return Unit(
        suite="speed",
        task=f"batch {cell.batch}",
        problem=f"20-view CT, 64x64, the fastest of the turns; {machine}",
        image=0,
        method=cell.name,
        settings={**settings, "turns": turns},
        samples=cell.batch,
        seed=0,
        weights=checksum("phantom-64"),
    )


def measured(table: Table) -> list[Result]:
    """The fastest turn of every row."""
    costs = [[apart(cell) for cell in table.cells] for _ in range(table.turns)]
    best = [min(found, key=lambda cost: cost.seconds) for found in zip(*costs, strict=True)]
    return [
        Result(
            {
                "metrics": {},
                "cost": {
                    "evaluations": cost.evaluations,
                    "vector_jacobian_products": cost.products,
                },
                "run": {
                    "seconds": cost.seconds,
                    "ratio_to_network": cost.seconds / best[0].seconds,
                    "samples_per_second": cell.batch / cost.seconds,
                    "peak_memory": cost.memory,
                },
            }
        )
        for cell, cost in zip(table.cells, best, strict=True)
    ]


def record(
    request: Request,
    store: Store,
    *,
    place: Place | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """All tables, made by the first process alone: others would slow it down.

    First one row for each kind of instrument (`studies.overhead`), then one table for each batch
    size; methods other than the decoupled walk are in the latter only.
    """
    if place is not None and place.rank != 0:
        return
    instruments, batches = overhead.rows(request), tables(replace(request, tasks=()))
    of_tasks([*instruments, *batches], request.tasks)  # type: ignore[type-var]  # refuses names
    asked = lambda item: not request.tasks or item.units[0].task in request.tasks  # noqa: E731
    if not request.methods or overhead.METHOD in request.methods:
        instruments = [item for item in instruments if asked(item)]
        finish(instruments, overhead.result, store, request.device, log=log)
    finish([item for item in batches if asked(item)], measured, store, request.device, log=log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--steps", type=int, default=STEPS, help="network evaluations a sample")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--out", help="folder for the records; they go on there")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell is not None:
        print(json.dumps(measure(Cell(*json.loads(options.cell)))))
        return
    require(("deepinv",), "studies.speed")
    torch.set_num_threads(options.threads)
    request = Request(device=options.device, smoke=options.smoke)
    chosen = tables(request, options.batches, options.steps, options.turns)
    show("speed", partial(finish, chosen, measured, device=options.device), options.out)


if __name__ == "__main__":
    with endings():
        main()
