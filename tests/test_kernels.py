"""Kernels with parameters: moments known in closed form, and nothing jumps."""

import math

import numpy as np
import pytest
import torch

from tweedie_inverse import operators as ops

LENGTHS, ANGLES = (0.0, 0.4, 3.0, 7.37, 10.0), (0.0, 17.0, 45.0, 90.0, 133.0, -60.0)


def moments(kernel):
    """Mean and covariance ``(2,)``, ``(2, 2)`` of (x, y), y up, around the pixel n // 2."""
    place = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    points = torch.stack([place.expand_as(kernel), -place[:, None].expand_as(kernel)], -1)
    mean = (kernel[..., None] * points).sum((0, 1))
    centred = points - mean
    return mean, torch.einsum("ij,ija,ijb->ab", kernel, centred, centred)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_moments_of_a_straight_motion(length, angle):
    """``length^2 / 12`` along the line.

    Bilinear weights keep means and mixed moments, and add the mean of f (1 - f) to a variance,
    with f the fraction of each point's coordinate: 0 across a motion along the grid.
    """
    kernel = ops.motion_kernel(length=length, angle=angle)
    assert len(kernel) == 2 * math.ceil(length / 2) + 1
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert float(kernel.min()) >= 0
    mean, covariance = moments(kernel)
    assert float(mean.abs().max()) < 1e-12
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    assert float(covariance[0, 1]) == pytest.approx(length**2 / 12 * cos * sin, abs=1e-12)
    s = length * ((np.arange(100_000) + 0.5) / 100_000 - 0.5)
    for place, slope in enumerate((cos, sin)):
        fraction = (s * slope) % 1.0 if abs(slope) > 1e-9 else 0 * s
        added = float((fraction * (1 - fraction)).mean())
        expected = length**2 / 12 * slope**2 + added
        assert float(covariance[place, place]) == pytest.approx(expected, abs=1e-6)
        assert added <= 0.25


def test_motion_along_the_grid_by_hand():
    row = torch.tensor([0.025, 0.175, 0.2, 0.2, 0.2, 0.175, 0.025]).double()
    expected = torch.zeros(7, 7).double()
    expected[3] = row
    torch.testing.assert_close(ops.motion_kernel(length=5, angle=0), expected)
    torch.testing.assert_close(ops.motion_kernel(7, length=5, angle=-90.0), expected.mT)
    one = torch.zeros(5, 5).double()
    one[2, 2] = 1
    assert torch.equal(ops.motion_kernel(5, length=0, angle=20), one)


def test_angles_turn_counter_clockwise():
    """45 degrees is from the lower left to the upper right, as for `Tomography`."""
    kernel = ops.motion_kernel(length=8, angle=45)
    assert float(kernel.flip(1).diagonal().sum()) > 3 * float(kernel.diagonal().sum())
    blob = ops.gaussian_kernel((3.0, 1.0), angle=45)
    assert float(blob.flip(1).diagonal().sum()) > 2 * float(blob.diagonal().sum())


def jump(function, start, end, steps):
    """The largest change of any entry, over the parameter's change."""
    values = np.linspace(start, end, steps)
    found = torch.stack([function(float(value)) for value in values])
    return float(found.diff(dim=0).abs().max()) / (values[1] - values[0])


def test_kernels_of_a_size_do_not_jump():
    """Halving the steps does not raise the slope: with a jump it would double."""
    paths = {
        "length": (lambda v: ops.motion_kernel(13, length=v, angle=30), 0.5, 11.0),
        "angle": (lambda v: ops.motion_kernel(13, length=9.5, angle=v), -100.0, 100.0),
        "through-0": (lambda v: ops.motion_kernel(9, length=5.0, angle=v), -0.5, 0.5),
        "width": (lambda v: ops.gaussian_kernel(v, 11), 0.6, 4.0),
        "anisotropy": (lambda v: ops.gaussian_kernel((2.0, v), 11, angle=20), 1.0, 3.0),
        "turn": (lambda v: ops.gaussian_kernel((2.0, 1.0), 11, angle=v), -90.0, 90.0),
    }
    for name, (function, start, end) in paths.items():
        coarse, fine = (jump(function, start, end, steps) for steps in (101, 201))
        assert fine < 1.3 * coarse, name


def test_the_moments_of_a_gaussian_with_two_widths():
    kernel = ops.gaussian_kernel((3.0, 1.2), 41, angle=30)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    axes = torch.tensor([[cos, -sin], [sin, cos]]).double()
    expected = axes @ torch.diag(torch.tensor([9.0, 1.44]).double()) @ axes.mT
    torch.testing.assert_close(moments(kernel)[1], expected, rtol=1e-6, atol=1e-6)
    assert ops.gaussian_kernel((1.0, 2.5), angle=0).shape == ops.gaussian_kernel(2.5).shape
    turned = ops.gaussian_kernel((2.0, 1.0), 15, angle=90)
    torch.testing.assert_close(turned, ops.gaussian_kernel((2.0, 1.0), 15).mT)
    round_ = ops.gaussian_kernel((1.5, 1.5), angle=33)
    assert torch.equal(round_, ops.gaussian_kernel(1.5))
    assert torch.equal(ops.gaussian_kernel(np.array([2.0, 1.0])), ops.gaussian_kernel((2, 1)))
    assert torch.equal(ops.gaussian_kernel(torch.tensor(1.5)), round_)


def test_a_blur_with_them_does_not_move_the_image():
    spot = torch.zeros(1, 1, 24, 24).double()
    spot[..., 12, 11] = 1
    for size in (9, 10):
        for kernel in (
            ops.motion_kernel(size, length=6.5, angle=25),
            ops.gaussian_kernel((1.0, 0.6), size, angle=25),
        ):
            y = ops.Blur(kernel, (1, 24, 24)).forward(spot)[0, 0]
            place = torch.arange(24).double()
            assert float((y.sum(1) * place).sum()) == pytest.approx(12, abs=1e-3)
            assert float((y.sum(0) * place).sum()) == pytest.approx(11, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.motion_kernel(), r"motion_kernel\(length=7.5, angle=30\), or a size"),
        (lambda: ops.motion_kernel(length=5.0), "or a size for a shake"),
        (lambda: ops.motion_kernel(15, length=5.0), "straight motion of so many pixels needs angl"),
        (lambda: ops.motion_kernel(angle=5.0), "needs length=, in pixels, and no seed"),
        (lambda: ops.motion_kernel(length=5.0, angle=3.0, seed=1), "no seed"),
        (lambda: ops.motion_kernel(length=-1.0, angle=3.0), r"length=-1\): needs a length in pix"),
        (lambda: ops.motion_kernel(length=math.nan, angle=3.0), "length in pixels, 0 or more"),
        (lambda: ops.motion_kernel(length=3.0, angle=math.inf), "number of degrees"),
        (lambda: ops.motion_kernel(7, length=6.1, angle=0.0), "may be 6 pixels .* size of 9"),
        (lambda: ops.motion_kernel(8, length=6.1, angle=0.0), "may be 6 pixels"),
        (lambda: ops.gaussian_kernel((1.0, 0.0)), "or two: along the angle and across it"),
        (lambda: ops.gaussian_kernel((1.0, 2.0, 3.0)), "along the angle and across it"),
        (lambda: ops.gaussian_kernel(2.0, angle=10), "a round kernel has no angle"),
        (lambda: ops.gaussian_kernel((2.0, 1.0), angle=math.nan), r"gaussian_kernel\(angle=nan"),
    ],
)
def test_bad_kernels_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
