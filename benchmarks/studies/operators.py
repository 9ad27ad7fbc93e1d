"""Speed of the tomography operator against other projectors, as ratios within one run.

    python -m tweedie_inverse.benchmarks.studies.operators                     two sizes on the CPU
    python -m tweedie_inverse.benchmarks.studies.operators --device cuda
    python -m tweedie_inverse.benchmarks.studies.operators --smoke
        tiny, to see that it runs
    python -m tweedie_inverse.benchmarks run operators --out results
        with records, as the other suites

Every projector maps the same images to the same parallel-beam sinogram.  They take turns, so that
a busy machine slows all of them, and the median of the turns is shown.  deepinv is asked for its
exact adjoint; ASTRA (GPL, optional: `pip install astra-toolbox`) runs its CPU `linear` projector
one image after the other, which is all it offers.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse import operators as ops
from tweedie_inverse.app.distributed import Place
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.harness.records import Store, Unit, provenance
from tweedie_inverse.benchmarks.harness.standalone import Request, of_tasks, show
from tweedie_inverse.benchmarks.harness.work_loop import Result, finish
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators.checks import dot_test
from tweedie_inverse.operators.tomography.projectors import MatrixFree, StoredMatrix

# size of the image, angles, batch
SIZES = [(128, 60, 8), (256, 180, 16)]
SMOKE = [(16, 6, 2)]
# deepinv makes all angles' grids at once; beyond this many grid values it goes angle by angle.
GRID_LIMIT = 10**8
REPEATS = 5


@dataclass(frozen=True)
class Projector:
    """One projector: its two products, and what it keeps in memory between calls."""

    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    build_seconds: float
    nbytes: int | None


def ours(size: int, angles: int, x: Tensor, storage: str) -> Projector:
    """The first product builds the matrix, so it counts as building."""
    start = time.perf_counter()
    operator = ops.Tomography((1, size, size), angles, storage=storage)
    projector = operator.projector
    assert isinstance(projector, StoredMatrix | MatrixFree)
    if isinstance(projector, StoredMatrix):
        projector.pair(x.dtype, x.device)
    synchronize(x)
    seconds = time.perf_counter() - start
    return Projector(operator.forward, operator.adjoint, seconds, projector.nbytes())


def deepinv(size: int, angles: int, x: Tensor) -> Projector:
    from deepinv.physics import Tomography

    start = time.perf_counter()
    physics = Tomography(
        angles,
        size,
        circle=False,
        adjoint_via_backprop=True,
        parallel_computation=all_grids(size, angles, len(x)),
        normalize=False,
        device=x.device,
    )
    return Projector(
        physics.A,
        physics.A_adjoint,
        time.perf_counter() - start,
        physics.radon.all_grids.nbytes,
    )


def all_grids(size: int, angles: int, batch: int) -> bool:
    """Whether deepinv makes the grids of all angles at once."""
    return angles * 2 * size**2 * batch <= GRID_LIMIT


def astra(size: int, angles: int, x: Tensor) -> Projector:
    import astra as toolbox

    start = time.perf_counter()
    scan = ops.Tomography((1, size, size), angles, storage="matrix-free").geometry
    image = toolbox.create_vol_geom(size, size)
    rays = toolbox.create_proj_geom("parallel", 1.0, scan.detectors, scan.angles.deg2rad().numpy())
    projector = toolbox.OpTomo(toolbox.create_projector("linear", rays, image))
    shape = (1, angles, scan.detectors)

    def forward(x: Tensor) -> Tensor:
        return torch.stack([torch.from_numpy(projector.FP(image[0].numpy())) for image in x])[
            :, None
        ]

    def adjoint(y: Tensor) -> Tensor:
        return torch.stack(
            [torch.from_numpy(projector.BP(data.reshape(shape)[0].numpy())) for data in y]
        )[:, None]

    return Projector(forward, adjoint, time.perf_counter() - start, None)


# With the package that each needs; ours first: the others' times are ratios to it.
CONTENDERS: dict[str, tuple[str, Callable[[int, int, Tensor], Projector]]] = {
    "ours, matrix": ("operators", partial(ours, storage="matrix")),
    "ours, matrix-free": ("operators", partial(ours, storage="matrix-free")),
    "deepinv": ("deepinv", deepinv),
    "ASTRA, CPU linear": ("astra", astra),
}


class Table(NamedTuple):
    """Projectors that take turns, with one unit each."""

    units: tuple[Unit, ...]
    size: int
    angles: int
    batch: int
    repeats: int
    device: str


def tables(request: Request, repeats: int = REPEATS) -> list[Table]:
    """One table for each image size, with the projectors that are installed."""
    machine = provenance(request.device)["machine"]
    found = [
        _table(*scan, 1 if request.smoke else repeats, request.device, machine)
        for scan in (SMOKE if request.smoke else SIZES)
    ]
    return of_tasks(found, request.tasks)


def _table(size: int, angles: int, batch: int, repeats: int, device: str, machine: str) -> Table:
    units = tuple(
        Unit(
            suite="operators",
            task=f"{size}x{size}, {angles} angles, batch {batch}",
            problem=f"Parallel beam, float32, median of the turns; {machine}",
            image=0,
            method=name,
            settings={"turns": repeats, "source": "defaults; deepinv with its exact adjoint"}
            | ({"all_grids": all_grids(size, angles, batch)} if name == "deepinv" else {}),
            samples=batch,
            seed=0,
            weights="",
        )
        for name, (package, _) in CONTENDERS.items()
        if find_spec(package) and (device == "cpu" or "CPU" not in name)
    )
    return Table(units, size, angles, batch, repeats, device)


@torch.no_grad()
def measured(table: Table) -> list[Result]:
    """The timings of every projector."""
    size, angles = table.size, table.angles
    x = normal((size,), (table.batch, 1, size, size)).float().to(table.device)
    names = [unit.method for unit in table.units]
    projectors = {name: CONTENDERS[name][1](size, angles, x) for name in names}
    data = {name: projector.forward(x) for name, projector in projectors.items()}  # warm-up, too
    errors = {}
    for name, one in projectors.items():
        noise = normal((size, 1), data[name].shape).to(x)
        errors[name] = dot_test(one.forward, one.adjoint, x, noise).error
    turns = [
        [
            (seconds(projector.forward, x), seconds(projector.adjoint, data[name]))
            for name, projector in projectors.items()
        ]
        for _ in range(table.repeats)
    ]
    medians = torch.tensor(turns).median(0)[0].tolist()  # (projectors, 2)
    return [
        Result(
            {
                "metrics": {"adjoint_error": errors[name]},
                "cost": {},
                "run": {
                    "build_seconds": projector.build_seconds,
                    "forward_ms": 1e3 * forward,
                    "adjoint_ms": 1e3 * adjoint,
                    "ratio_to_ours": (forward + adjoint) / sum(medians[0]),
                    "matrices": projector.nbytes,
                },
            }
        )
        for (name, projector), (forward, adjoint) in zip(projectors.items(), medians, strict=True)
    ]


def seconds(product: Callable[[Tensor], Tensor], operand: Tensor) -> float:
    synchronize(operand)
    start = time.perf_counter()
    product(operand)
    synchronize(operand)
    return time.perf_counter() - start


def synchronize(like: Tensor) -> None:
    if like.device.type == "cuda":
        torch.cuda.synchronize(like.device)


def record(
    request: Request,
    store: Store,
    *,
    place: Place | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """All tables, made by the first process alone: others would slow it down."""
    if place is None or place.rank == 0:
        finish(tables(request), measured, store, request.device, log=log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="turns of each projector")
    parser.add_argument("--sizes", type=int, nargs="+", help="image sizes, of those known")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--out", help="folder for the records; they go on there")
    options = parser.parse_args()
    found = tables(Request(device=options.device, smoke=options.smoke), options.repeats)
    chosen = [one for one in found if options.sizes is None or one.size in options.sizes]
    show("operators", partial(finish, chosen, measured, device=options.device), options.out)


if __name__ == "__main__":
    with endings():
        main()
