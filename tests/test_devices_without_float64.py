"""Numbers are moved to the CPU before they become float64, which not every device has."""

import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.error.denoising_error import DenoisingError
from tweedie_inverse.priors.error.local_error import LocalError


class OnDevice(torch.Tensor):
    """A tensor that cannot become float64 where it is."""

    def double(self):
        raise TypeError("this device has no float64")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def on_device(x):
    return x.as_subclass(OnDevice)


def test_counts_are_drawn_from_rates_on_any_device():
    noise, ax = ops.PoissonNoise(0.5), torch.full((2, 1, 4, 4), 3.0)
    assert torch.equal(noise.sample(on_device(ax), seed=1).cpu(), noise.sample(ax, seed=1))


def test_a_denoiser_is_corrected_at_noise_levels_on_any_device():
    table = 0.1 + normal((1,), (3, 1, 4, 4)).abs().float()
    error = DenoisingError(
        torch.tensor([0.1, 1.0, 10.0]).double(),
        table,
        table,
        LocalError.same_everywhere(torch.ones(3)),
        torch.eye(1).double(),
    )
    x, denoised = normal((2,), (2, 2, 1, 4, 4)).float()
    sigma = torch.tensor([0.3, 2.0])
    corrected = error.correct(x, denoised, on_device(sigma)).as_subclass(torch.Tensor)
    assert torch.equal(corrected, error.correct(x, denoised, sigma))
