"""The images behind the references: exact draws of the prior, its own samples, or the user's."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate.sources import Source
from tweedie_inverse.priors.analytic import Gaussian, GaussianMixture
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.runtime.digest import digest

# Evaluations for an image that the network's own sampler draws.
_STEPS = 50
# Images whose spread says at which noise levels the denoiser is looked at, and these levels in it.
_FEW, _LEVELS = 8, (0.05, 0.2, 0.8)


@dataclass(frozen=True)
class Truths:
    """Images by number, each fixed by the seed and its number.

    Attributes:
        prior: whose draws they are.
        images: ``(count, *shape)`` of the user instead; None for draws.
        seed: of the draws.
    """

    prior: Prior
    images: Tensor | None
    seed: int

    @property
    def is_exact(self) -> bool:
        """Whether they are exact draws of the prior."""
        return self._source.is_exact

    @property
    def _source(self) -> Source:
        return Source(self.prior, self.images, "check_fit truth", _STEPS)

    @property
    def dtype(self) -> torch.dtype:
        """Of the images: that of the user's or of the prior's exact draws, else float32."""
        if self.images is not None:
            return self.images.dtype
        if isinstance(self.prior, Gaussian):
            return self.prior.mean.dtype
        return self.prior.means.dtype if isinstance(self.prior, GaussianMixture) else torch.float32

    @property
    def words(self) -> str:
        """Where they come from, and what an alarm therefore means."""
        if self.images is not None:
            return "the images that were given"
        if self.is_exact:
            return "exact draws of the prior"
        return f"the network's own samples (ddim, {_STEPS} evaluations)"

    @property
    def identity(self) -> str:
        """For the file of a reference."""
        return self.words if self.images is None else f"{self.words}, {digest(self.images)}"

    def draw(self, numbers: Sequence[int]) -> Tensor:
        """Those of these numbers, ``(len(numbers), *shape)``, on the prior's device."""
        if self.images is not None:
            return self._drawn(numbers)
        # The first are asked for twice, and a network takes its time.
        return torch.cat(
            [self._first[k : k + 1] if k < _FEW else self._drawn([k]) for k in numbers]
        )

    @cached_property
    def _first(self) -> Tensor:
        return self._drawn(range(_FEW))

    def _drawn(self, numbers: Sequence[int]) -> Tensor:
        return self._source.draw(list(numbers), self.seed).to(self.prior.device)

    def levels(self) -> tuple[float, ...]:
        """Noise levels for the denoiser, small, middling and large beside the images' spread.

        Raises:
            ValueError: they have none.
        """
        spread = float(self.draw(range(_FEW)).double().std())
        if not spread > 0:
            raise ValueError("fit_reference: its images are all of one value, and tell nothing")
        found = [share * spread for share in _LEVELS]
        if not self.prior.any_sigma:
            low, high = self.prior.sigma_min, self.prior.sigma_max
            found = [min(max(level, low), high) for level in found]
        return tuple(dict.fromkeys(found))
