"""Filtered backprojection: brightness of a disk, from any set of angles."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

# Ellipses: value, centre, semi-axes in halves of the smaller image side, and turn in degrees.
from tests.ellipses import DISK, phantom
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators.tomography.filtered_backprojection import view_weights

SCANS = {
    "parallel": {"angles": 120},
    "parallel-full-turn": {"angles": [2.5 * i + 0.5 for i in range(144)]},
    "parallel-uneven": {"angles": [180 * (i / 160) ** 1.5 for i in range(160)]},
    "parallel-fine-bins": {"angles": 120, "detector_spacing": 0.2, "pixel_size": 0.25},
    "fan": {"angles": 240, "geometry": "fan"},
    "fan-virtual-detector": {"angles": 240, "geometry": "fan", "detector_distance": 0},
    "fan-near-source": {
        "angles": 240,
        "geometry": "fan",
        "pixel_size": 0.5,
        "source_distance": 40.0,
        "detector_distance": 30.0,
    },
    "fan-short-scan": {"angles": [80 + 1.5 * i for i in range(144)], "geometry": "fan"},
    "fan-long-arc": {"angles": [-1.5 * i for i in range(200)], "geometry": "fan"},
}


@pytest.mark.parametrize("scan", SCANS)
def test_filtered_backprojection_of_a_disk(scan):
    operator = ops.Tomography((1, 80, 64), **SCANS[scan])
    x = phantom(80, 64, DISK).float()
    image = operator.pseudo_inverse(operator.forward(torch.cat([x, 3 * x])))
    torch.testing.assert_close(image[1], 3 * image[0], rtol=1e-4, atol=1e-4)
    # Two pixels from the edge, where the image is flat.
    inside = -F.max_pool2d(-x, 5, 1, 2) == 1
    outside = F.max_pool2d(x, 5, 1, 2) == 0
    assert float((image[:1][inside] - 1).abs().max()) < 0.02
    assert float(image[:1][inside].mean()) == pytest.approx(1, abs=1e-3)
    assert float(image[:1][outside].mean()) == pytest.approx(0, abs=1e-3)


def test_weights_of_irregular_angles():
    def degrees(angles, turn=180.0):
        weight = view_weights(torch.tensor(angles, dtype=torch.float64), turn)
        return weight.rad2deg().tolist()

    assert degrees([0.0, 45.0, 90.0, 135.0]) == pytest.approx([45.0] * 4)
    assert degrees([0.0, 10.0, 40.0, 90.0]) == pytest.approx([50.0, 20.0, 40.0, 70.0])
    # Opposite and repeated views share their arc, in any order.
    assert degrees([225.0, 0.0, 45.0, 90.0, 135.0, -180.0]) == pytest.approx(
        [22.5, 22.5, 22.5, 45.0, 45.0, 22.5]
    )
    # A missing wedge is not filled.
    assert degrees([0.0, 1.0, 2.0, 3.0]) == pytest.approx([1.0] * 4)
    assert degrees([358.0, 359.0, 0.0, 1.0], 360.0) == pytest.approx([1.0] * 4)
    assert degrees([7.0]) == pytest.approx([180.0])


UNEVEN = {
    "dense-and-sparse": np.r_[0:90:0.25, 90:180:2.0],
    "two-scans": np.r_[0:180:1.0, 0.01:180:1.0],
    "golden": np.arange(60) * 111.246,
    "a-gap": np.r_[0:100:1.0, 107:180:1.0],
    "a-wide-gap": np.r_[0:130:1.0],
    "two-gaps": np.r_[0:60:1.0, 90:150:1.0],
    "a-view-apart": np.r_[0:90:1.0, 135],
    "repeated": np.r_[0:180:3.0, 0:90:3.0, 0:30:3.0],
    "fan-dense-and-sparse": np.r_[0:180:1.0, 180:360:6.0],
    "fan-two-scans": np.r_[0:360:3.0, 0.01:360:3.0],
    "fan-short-two-scans": np.r_[10:230:2.0, 10.01:230:2.0],
    "fan-short-uneven": 220 * np.linspace(0, 1, 120) ** 2,
    "fan-short-with-a-gap": np.r_[0:100:1.0, 112:225:1.0],
}


@pytest.mark.parametrize("angles", UNEVEN)
def test_any_set_of_angles_gives_a_disk_its_brightness(angles):
    """Catches a gap that is taken for a missing wedge: brightness .56 and .10 for the first two."""
    beam = "fan" if angles.startswith("fan") else "parallel"
    operator = ops.Tomography((1, 56, 56), UNEVEN[angles].tolist(), geometry=beam)
    x = phantom(56, 56, DISK).float()
    image = operator.pseudo_inverse(operator.forward(x))
    inside = -F.max_pool2d(-x, 5, 1, 2) == 1
    assert float(image[inside].mean()) == pytest.approx(1, abs=2e-3)


def test_a_limited_arc_is_darker_by_what_is_missing():
    operator = ops.Tomography((1, 56, 56), np.r_[0:100:1.0].tolist())
    x = phantom(56, 56, DISK).float()
    image = operator.pseudo_inverse(operator.forward(x))
    assert float(image[-F.max_pool2d(-x, 5, 1, 2) == 1].mean()) == pytest.approx(
        100 / 180, abs=0.01
    )


def test_filtered_backprojection_has_a_gradient():
    operator = ops.Tomography((1, 8, 8), 6)
    y, z = normal((1,), (2, 1, *operator.range_shape))
    x = operator.pseudo_inverse(y.requires_grad_())
    (gradient,) = torch.autograd.grad(x, y, torch.ones_like(x))
    assert float((gradient * z).sum()) == pytest.approx(float(operator.pseudo_inverse(z).sum()))
