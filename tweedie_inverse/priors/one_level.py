"""A denoiser that was trained at one noise level, which no walk can be made of.

A walk goes from noise to an image through many levels, at all but one of which the network would be
wrong.  What it does at another level is not its answer at its own one, scaled: that would need a
set of images that contains them at every brightness.
"""

from torch import Tensor

from tweedie_inverse.boundary.contracts import Contract
from tweedie_inverse.priors.network import NetworkPrior

# Half the width, relative, of the range that stands for one level.
ONE_LEVEL = 1e-3


class OneLevelPrior(NetworkPrior):
    """A network whose `denoise` is right at one level, the middle of ``[sigma_min, sigma_max]``.

    `solve`, `sample` and the measuring of its errors refuse it.
    """

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        level = (self.sigma_min * self.sigma_max) ** 0.5
        raise ValueError(
            f"{self!r} was trained at one noise level, {level:.4g} in data units, and a walk needs "
            f"D(x, sigma) on a range of them. Use prior.denoise(x, {level:.4g}) by itself, or a "
            "network of many levels (FFDNet, DRUNet); if this one is blind to the level, give "
            "sigma_max= of its training in format="
        )
