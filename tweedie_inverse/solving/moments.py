"""Mean and standard deviation of samples, of whatever they are."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class OfSamples(ABC):
    """What has `samples` along one axis.

    Attributes:
        samples: ``(batch, num_samples, ...)``; without `batch` where y came without one.
    """

    samples: Tensor

    @property
    @abstractmethod
    def _axis(self) -> int:
        """That of the samples."""

    @property
    def mean(self) -> Tensor:
        """Posterior mean, ``(batch, ...)``."""
        return self.samples.mean(self._axis)

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation, unbiased, ``(batch, ...)``; NaN for a single sample."""
        if self.samples.shape[self._axis] == 1:
            return torch.full_like(self.mean, torch.nan)
        return self.samples.std(self._axis)
