"""What makes a process: checks of its matrices and times, with messages that say what fails."""

import torch
from torch import Tensor

# Relative size of what counts as rounding in a user's matrices.
_ROUNDING = 1e-9


def check_matrices(diffusion: Tensor, rotation: Tensor, stationary: Tensor, start: Tensor) -> None:
    """Refuse D, Q, S and the covariance at t = 0 that break a condition of the recipe."""
    size = stationary.shape
    named = {"diffusion": diffusion, "rotation": rotation, "stationary": stationary, "start": start}
    for label, matrix in named.items():
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape != size:
            raise ValueError(
                "LinearProcess: D, Q, S and start need one square shape (phases, phases); "
                f"{label} is {tuple(matrix.shape)}, stationary {tuple(size)}"
            )
        if not bool(matrix.isfinite().all()):
            raise ValueError(f"LinearProcess: {label} holds NaN or infinity: {rows(matrix)}")
    _refuse_indefinite("diffusion D", diffusion, "positive semidefinite", -_ROUNDING)
    _refuse_indefinite("stationary covariance S", stationary, "positive definite", 1e-12)
    _refuse_indefinite("start covariance", start, "positive semidefinite", -_ROUNDING)
    error = float((rotation + rotation.mT).abs().max())
    if error > _ROUNDING * max(1.0, float(rotation.abs().max())):
        raise ValueError(
            f"LinearProcess: rotation Q must be skew, Q = -Q^T, but Q + Q^T reaches {error:.3g}: "
            f"Q = {rows(rotation)}. A - A^T is skew for every A"
        )
    if bool(start[0].abs().max() > 0):
        raise ValueError(
            "LinearProcess: start is the covariance given the image, so that row and column 0 "
            f"must be 0; got {rows(start)}"
        )


def _refuse_indefinite(label: str, matrix: Tensor, kind: str, least: float) -> None:
    scale = max(float(matrix.abs().max()), 1e-300)
    asymmetry = float((matrix - matrix.mT).abs().max())
    smallest = float(torch.linalg.eigvalsh((matrix + matrix.mT) / 2).min())
    if asymmetry > _ROUNDING * scale or smallest < least * scale:
        raise ValueError(
            f"LinearProcess: {label} must be symmetric and {kind}; {rows(matrix)} has asymmetry "
            f"{asymmetry:.3g} and smallest eigenvalue {smallest:.3g}"
        )


def refuse_no_decay(caller: str, drift: Tensor) -> None:
    """Refuse a drift F with an eigenvalue that does not decay."""
    values = torch.linalg.eigvals(drift)
    slowest = float(values.real.max())
    if slowest > -1e-9 * max(1.0, float(values.abs().max())):
        raise ValueError(
            f"{caller}: the process does not forget its start: F = {rows(drift)} has an "
            f"eigenvalue with real part {slowest:.3g}, all must be negative. A D of 0 in every "
            "phase only rotates"
        )


def checked_time(t: float | Tensor) -> Tensor:
    """t in float64; refused outside (0, 1]."""
    t = float64(t)
    if not bool(((t > 0) & (t <= 1)).all()):
        bad = t[~((t > 0) & (t <= 1))] if t.ndim else t
        raise ValueError(
            f"LinearProcess: times lie in (0, 1], got {float(bad.flatten()[0]):.3g}. At t = 0 the "
            "state is the image itself and its law has no density; ask at a small positive time"
        )
    return t


def float64(value: float | Tensor) -> Tensor:
    """A tensor on the CPU, where kernels of a few numbers belong."""
    if isinstance(value, Tensor):  # moved first: not every device has float64
        return value.detach().cpu().double()
    return torch.as_tensor(value, dtype=torch.float64)


def rows(matrix: Tensor) -> str:
    """For messages."""
    return "[" + ", ".join(str([round(v, 6) for v in row]) for row in matrix.tolist()) + "]"
