"""The complete recipe with matrices that depend on the state, for a target whose score is known.

Ma, Chen and Fox 2015, equation 3; Pandey and Mandt 2023, equation 4:

    dz = [(D(z) + Q(z)) grad log p(z) + tau(z)] dt + sqrt(2 D(z)) dw
    tau_i = sum_j d/dz_j (D_ij + Q_ij)

leaves p as it is, for any positive semidefinite D and skew Q.  Without tau it does not.  No kernel
has a closed form here, so there is nothing to train a score on: this is a sampler of a given p.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# (batch, k) -> (batch, k, k), row by row.
MatrixField = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class StateDependent:
    """A diffusion with a given stationary density.

    Attributes:
        score: gradient of log p, ``(batch, k) -> (batch, k)``.
        diffusion: D(z), symmetric, positive semidefinite.
        rotation: Q(z), skew.
    """

    score: Callable[[Tensor], Tensor]
    diffusion: MatrixField
    rotation: MatrixField

    def correction(self, z: Tensor) -> Tensor:
        """tau ``(batch, k)``, by automatic differentiation."""

        def both(state: Tensor) -> Tensor:
            return (self.diffusion(state[None]) + self.rotation(state[None]))[0]

        slopes = torch.func.vmap(torch.func.jacfwd(both))(z)  # (batch, i, j, derivative by)
        return torch.einsum("bijj->bi", slopes)

    def drift(self, z: Tensor) -> Tensor:
        """``(D + Q) grad log p + tau``, ``(batch, k)``."""
        matrix = self.diffusion(z) + self.rotation(z)
        return (matrix @ self.score(z)[..., None])[..., 0] + self.correction(z)

    def step(self, z: Tensor, length: float, noise: Tensor) -> Tensor:
        """One Euler-Maruyama step over `length` of time; `noise` standard normal, like z."""
        spread = _root(2 * length * self.diffusion(z))
        return z + length * self.drift(z) + (spread @ noise[..., None])[..., 0]

    def refuse(self, z: Tensor) -> None:
        """Check D and Q at the states `z` ``(batch, k)``.

        Raises:
            ValueError: D is not positive semidefinite or Q not skew at one of them.
        """
        diffusion, rotation = self.diffusion(z), self.rotation(z)
        lowest = torch.linalg.eigvalsh((diffusion + diffusion.mT) / 2).amin(-1)
        scale = float(diffusion.abs().max())
        lopsided = (diffusion - diffusion.mT).abs().amax((-2, -1))
        bad = (lowest < -1e-9 * scale) | (lopsided > 1e-9 * scale)
        if bool(bad.any()):
            at = z[bad][0].tolist()
            raise ValueError(
                "StateDependent: D(z) must be symmetric and positive semidefinite; at z = "
                f"{at} its smallest eigenvalue is {float(lowest[bad][0]):.3g}"
            )
        bad = (rotation + rotation.mT).abs().amax((-2, -1)) > 1e-9 * max(
            1.0, float(rotation.abs().max())
        )
        if bool(bad.any()):
            raise ValueError(
                f"StateDependent: Q(z) must be skew, Q = -Q^T; at z = {z[bad][0].tolist()} it is "
                f"{rotation[bad][0].tolist()}"
            )


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root, which semidefinite matrices have too."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT
