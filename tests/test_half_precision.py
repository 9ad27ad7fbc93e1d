"""A network in half precision is told its noise level, and mixed with its input, in float32."""

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tweedie_inverse.numerics.random import normal

TABLE = ti.schedules.vp_linear_table()
SIGMAS = (0.013, 0.3, 1.7, 39.0)


class Recording(nn.Module):
    """Answers with its input, and remembers what it was told; its weights are of a half type."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=dtype))
        self.labels = []

    def forward(self, x, label):
        assert x.dtype == self.weight.dtype
        self.labels.append(label)
        return x


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["epsilon", "edm", "flow", "score"])
@pytest.mark.parametrize("given", [torch.float64, torch.float32, torch.bfloat16])
def test_labels_are_not_rounded(kind, dtype, given):
    """Rounded to the type of the weights, a timestep of 999 would be up to six others'."""
    module = Recording(dtype)
    table = TABLE if kind == "epsilon" else None
    prior = ti.priors.NetworkPrior(
        module, kind, shape=(1, 2, 2), timesteps=table, offset=0.5, scale=0.5
    )
    x = normal((1,), (1, 1, 2, 2)).to(given)
    for sigma in SIGMAS:
        prior.denoise(x, sigma)
        exact = prior.label(torch.tensor([sigma / 0.5], dtype=torch.float64))
        spacing = torch.finfo(torch.float32).eps * float(exact.abs())
        assert module.labels[-1].dtype == torch.float32
        # Rounding of sigma and of a logarithm, which the interpolation in a table enlarges.
        assert (
            abs(float(module.labels[-1].double() - exact))
            <= (64 if table is not None else 4) * spacing
        )


def test_the_input_and_the_output_are_mixed_in_float32():
    """``D = x - sigma epsilon`` would lose all digits of x0 at large sigma in half precision."""

    class Zero(Recording):
        def forward(self, x, label):
            return 0 * super().forward(x, label)

    x = 50 * normal((1,), (1, 1, 8, 8)).float()
    for kind in ("epsilon", "score", "edm", "flow", "v"):
        found = [
            ti.priors.NetworkPrior(Zero(dtype), kind, shape=(1, 8, 8)).denoise(x, 50.0)
            for dtype in (torch.bfloat16, torch.float32)
        ]
        assert torch.equal(*found)
