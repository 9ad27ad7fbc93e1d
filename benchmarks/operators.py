"""Speed of the tomography operator against other projectors, as ratios within one run.

    python -m benchmarks.operators                     two sizes on the CPU
    python -m benchmarks.operators --device cuda
    python -m benchmarks.operators --smoke             tiny, to see that it runs

Every projector maps the same images to the same parallel-beam sinogram.  They take turns, so that
a busy machine slows all of them, and the median of the turns is shown.  deepinv is asked for its
exact adjoint; ASTRA (GPL, optional: `pip install astra-toolbox`) runs its CPU `linear` projector
one image after the other, which is all it offers.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import operators as ops
from operators.projectors import MatrixFree, StoredMatrix
from operators.random import normal

# size of the image, angles, batch
SIZES = [(128, 60, 8), (256, 180, 16)]
SMOKE = [(16, 6, 2)]
# deepinv makes all angles' grids at once; beyond this many grid values it goes angle by angle.
GRID_LIMIT = 10**8
HEAD = (
    "| projector | build, s | forward, ms | adjoint, ms | both, ratio to ours | adjoint error "
    "| matrices, MiB |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Projector:
    """One contender: its two products, and what it holds in memory between calls."""

    name: str
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
    return Projector(
        f"ours, {storage}", operator.forward, operator.adjoint, seconds, projector.nbytes()
    )


def deepinv(size: int, angles: int, x: Tensor) -> Projector:
    from deepinv.physics import Tomography

    at_once = angles * 2 * size**2 * len(x) <= GRID_LIMIT
    start = time.perf_counter()
    physics = Tomography(
        angles,
        size,
        circle=False,
        adjoint_via_backprop=True,
        parallel_computation=at_once,
        normalize=False,
        device=x.device,
    )
    name = "deepinv" if at_once else "deepinv, angle by angle"
    return Projector(
        name,
        physics.A,
        physics.A_adjoint,
        time.perf_counter() - start,
        physics.radon.all_grids.nbytes,
    )


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

    return Projector("ASTRA, CPU linear", forward, adjoint, time.perf_counter() - start, None)


def contenders(size: int, angles: int, x: Tensor) -> Iterator[Projector | str]:
    """Those that are installed, ours first; a line of text for each that is not."""
    yield ours(size, angles, x, "matrix")
    yield ours(size, angles, x, "matrix-free")
    others = {"deepinv": deepinv} | ({"astra": astra} if x.device.type == "cpu" else {})
    for package, make in others.items():
        try:
            yield make(size, angles, x)
        except ImportError:
            yield f"{package}: skipped, it is not installed"


def compare(size: int, angles: int, batch: int, repeats: int, device: str) -> Iterator[str]:
    """One table: a projector a row."""
    x = normal((size,), (batch, 1, size, size)).float().to(device)
    yield f"\n{size}x{size}, {angles} angles, batch {batch}, float32, {device}\n"
    found = list(contenders(size, angles, x))
    yield from (f"{line}\n" for line in found if isinstance(line, str))
    projectors = [entry for entry in found if isinstance(entry, Projector)]
    data = [projector.forward(x) for projector in projectors]  # warm-up, too
    errors = [adjoint_error(projector, x, y) for projector, y in zip(projectors, data, strict=True)]
    times = torch.tensor(
        [
            [
                (seconds(projector.forward, x), seconds(projector.adjoint, y))
                for projector, y in zip(projectors, data, strict=True)
            ]
            for _ in range(repeats)
        ]
    ).median(0)[0]  # (projectors, 2)
    yield HEAD
    for projector, (forward, adjoint), error in zip(
        projectors, times.tolist(), errors, strict=True
    ):
        ratio = (forward + adjoint) / float(times[0].sum())
        size_text = "-" if projector.nbytes is None else f"{projector.nbytes / 2**20:.1f}"
        yield (
            f"| {projector.name} | {projector.build_seconds:.2f} | {1e3 * forward:.2f} "
            f"| {1e3 * adjoint:.2f} | {ratio:.1f} | {error:.0e} | {size_text} |"
        )


def seconds(product: Callable[[Tensor], Tensor], operand: Tensor) -> float:
    synchronize(operand)
    start = time.perf_counter()
    product(operand)
    synchronize(operand)
    return time.perf_counter() - start


def synchronize(like: Tensor) -> None:
    if like.device.type == "cuda":
        torch.cuda.synchronize(like.device)


def adjoint_error(projector: Projector, x: Tensor, y: Tensor) -> float:
    """``|<A x, y> - <x, A^T y>| / <A x, y>`` with ``y = A x``, summed in float64."""
    left = y.double().square().sum()
    right = (x.double() * projector.adjoint(y).double()).sum()
    return float((left - right).abs() / left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each projector")
    parser.add_argument("--sizes", type=int, nargs="+", help="image sizes, of those known")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    options = parser.parse_args()
    sizes = SMOKE if options.smoke else SIZES
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for size, angles, batch in sizes:
        if options.sizes is None or size in options.sizes:
            for line in compare(size, angles, batch, options.repeats, options.device):
                print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
