"""Projectors of diffct: parallel, fan and cone beam on any trajectory, on the CPU and on CUDA.

Their back projection is the exact transpose of the projection (Siddon's lengths of rays in voxels),
which a draw needs; the three-dimensional back projections of ASTRA and TIGRE are made for FDK and
are not.  Products are computed on the device of the tensor that comes in, in the projector's own
precision.
"""

from typing import Any

from torch import Tensor

from tweedie_inverse.numerics.autograd import linear_map
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.checks import refuse_unmatched
from tweedie_inverse.operators.noise.base import NoiseModel

# What is read from a projector; the trajectory tells one scan from another.
_NEEDED = ("project", "backproject", "volume_shape", "projection_shape", "beam", "_trajectory")


class Diffct(LinearOperator):
    """Products of a projector; made by `from_diffct`."""

    def __init__(self, projector: Any, noise: NoiseModel | None):
        super().__init__(
            domain_shape=(1, *projector.volume_shape),
            range_shape=(1, *projector.projection_shape),
            noise=noise,
        )
        self._projector = projector
        names = ("beam", "detector_spacing", "voxel_spacing")
        # What tells this instrument from another, for checksums.
        self.settings = [getattr(projector, name, None) for name in names]
        self.trajectory = [each.detach().cpu() for each in projector._trajectory]

    def forward(self, x: Tensor) -> Tensor:
        return linear_map(x, self._project, self._backproject)

    def adjoint(self, y: Tensor) -> Tensor:
        return linear_map(y, self._backproject, self._project)

    def _project(self, x: Tensor) -> Tensor:
        return self._projector.project(x.detach()).to(x)

    def _backproject(self, y: Tensor) -> Tensor:
        return self._projector.backproject(y.detach()).to(y)

    def __repr__(self) -> str:
        beam, views = self.settings[0], len(self.trajectory[0])
        return f"from_diffct({beam}, {views} views, {self.domain_shape} -> {self.range_shape})"


def from_diffct(projector: Any, *, noise: NoiseModel | None = None) -> LinearOperator:
    """A CT scan by diffct: ``diffct.Projector`` of any beam and trajectory, matched.

    Volumes are ``(1, depth, height, width)`` and measurements ``(1, views, columns, rows)`` of the
    detector for ``beam="cone"`` and ``"parallel3d"``; images ``(1, height, width)`` and ``(1,
    views, detectors)`` for ``"fan"`` and ``"parallel"``.  Line integrals are in the units of the
    trajectory and of ``voxel_spacing``.

    Args:
        projector: such as ``diffct.Projector(diffct.circular_trajectory_3d(60, sid=300.0,
            sdd=500.0, device="cpu"), volume_shape, detector_shape, detector_spacing=1.5)``; on a
            machine without CUDA it computes in torch, on the CPU.

    Raises:
        TypeError: no such projector.
        ValueError: one that is spread over processes, or whose products fail.
    """
    if not all(hasattr(projector, name) for name in _NEEDED):
        raise TypeError(
            "from_diffct: needs a diffct.Projector, of diffct 2 (pip install "
            f"'tweedie-inverse[ct]'), got {type(projector).__name__}"
        )
    if getattr(projector, "world_size", 1) != 1:
        raise ValueError(
            f"from_diffct: this projector is spread over {projector.world_size} processes; make it "
            "with distributed=False. Samples can be spread instead, by torchrun"
        )
    scan = Diffct(projector, noise)
    try:
        refuse_unmatched("from_diffct", scan)
    except RuntimeError as error:
        raise ValueError(
            f"from_diffct: its products fail ({error}); Projector(backend='torch') needs no CUDA"
        ) from error
    return scan
