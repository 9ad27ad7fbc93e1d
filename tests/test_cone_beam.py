"""Cone, fan and parallel beam of diffct: against closed forms, ASTRA, our own scans, and solved."""

import math

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import Moments, agreement
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.runtime.digest import digest

diffct = pytest.importorskip("diffct")
NOISE = ops.GaussianNoise(0.1)


def cone(side, views=5, detector=(24, 20), turn=0.0, **settings):
    """Axis of rotation and source at 3 and the detector at 5 sides of the volume."""
    path = diffct.circular_trajectory_3d(
        views, sid=3.0 * side, sdd=5.0 * side, start_angle=turn, device="cpu"
    )
    settings = {"detector_spacing": (2.0, 2.5), "backend": "torch"} | settings
    return diffct.Projector(path, (side,) * 3, detector, **settings)


def chords(projector, centre, radius):
    """Lengths of rays in a ball at x, y, z, which are width, height and depth."""
    source, middle, across, down = (each.double() for each in projector._trajectory)
    columns, rows = projector.detector_shape
    places = [
        (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * spacing
        for n, spacing in zip((columns, rows), projector.detector_spacing, strict=True)
    ]
    pixel = (
        middle[:, None, None]
        + places[0][:, None, None] * across[:, None, None]
        + places[1][:, None] * down[:, None, None]
    )
    ray = pixel - source[:, None, None]
    ray = ray / ray.norm(dim=-1, keepdim=True)
    to_centre = torch.tensor(centre).double() - source[:, None, None]
    along = (to_centre * ray).sum(-1)
    squared = to_centre.square().sum(-1) - along.square()
    return 2 * (radius**2 - squared).clamp(min=0).sqrt()


def ball(side, centre, radius, fine=4):
    """The share of each voxel that is inside, ``(1, 1, depth, height, width)``."""
    place = (torch.arange(side * fine, dtype=torch.float64) + 0.5) / fine - side / 2
    x, y, z = centre
    squares = (place - z)[:, None, None] ** 2 + (place - y)[:, None] ** 2 + (place - x) ** 2
    inside = (squares < radius**2).double()[None, None]
    return torch.nn.functional.avg_pool3d(inside, fine)


def test_a_ball_is_seen_through_its_chords():
    projector = cone(48, detector_spacing=(4.0, 5.0))
    scan = ops.from_diffct(projector)
    assert scan.domain_shape == (1, 48, 48, 48)
    assert scan.range_shape == (1, 5, 24, 20)
    centre, radius = (6.0, -4.0, 8.0), 12.0
    seen = scan.forward(ball(48, centre, radius))
    expected = chords(projector, centre, radius)
    # Voxels have edges: 0.075, 0.032 and 0.020 for 24, 48 and 96 a side; half a voxel is 0.065.
    assert float((seen[0, 0] - expected).norm() / expected.norm()) < 0.05
    assert float(seen.sum()) == pytest.approx(float(expected.sum()), rel=0.003)
    assert seen.dtype == torch.float64


@pytest.mark.parametrize("precision", ["fast", "float64"])
def test_the_adjoint_is_the_adjoint(precision):
    scan = ops.from_diffct(cone(10, precision=precision))
    assert ops.adjoint_error(scan, dtype=torch.float32) < 1e-5
    if precision == "float64":
        assert ops.adjoint_error(scan) < 1e-12


def test_gradients_flow_through_both_products():
    scan = ops.from_diffct(cone(4, 2, (5, 4), precision="float64"))
    x = normal((1,), (2, *scan.domain_shape)).double().requires_grad_()
    y = normal((2,), (2, *scan.range_shape)).double()
    (scan.forward(x) * y).sum().backward()
    torch.testing.assert_close(x.grad, scan.adjoint(y))
    assert torch.autograd.gradcheck(
        lambda x: scan.forward(x).square().sum(), x[:1].detach().requires_grad_()
    )


def lines_of_astra(side, angles, detectors):
    """Lengths of rays in pixels; ASTRA counts angles from the other axis, and rows downwards."""
    astra = pytest.importorskip("astra")
    turned = np.array(angles) + np.pi / 2
    beam = astra.create_proj_geom("parallel", 1.0, detectors, turned)
    return ops.from_astra(beam, astra.create_vol_geom(side, side), projector="line")


def test_parallel_beam_is_that_of_astra_and_nearly_ours():
    angles = [0.1, 0.7, 1.9]
    path = diffct.circular_trajectory_2d_parallel(torch.tensor(angles), device="cpu")
    projector = diffct.Projector(path, (16, 16), (27,), beam="parallel", backend="torch")
    scan = ops.from_diffct(projector)
    assert scan.range_shape == (1, 3, 27)
    x = normal((3,), (2, 1, 16, 16))
    expected, found = lines_of_astra(16, angles, 27).forward(x), scan.forward(x.flip(-2))
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    ours = ops.Tomography((1, 16, 16), [math.degrees(angle) + 90 for angle in angles], 27)
    smooth = ops.Blur(ops.gaussian_kernel(2.0, 11), (1, 16, 16)).forward(x)
    expected, found = ours.forward(smooth), scan.forward(smooth.flip(-2))
    # Ours interpolates between pixels, which diffct does not.
    assert float((found - expected).norm() / expected.norm()) < 0.1


def test_parallel_beams_of_a_volume_are_slices():
    angles = [0.1, 0.8, 2.0]  # at 0 rays run along the borders of pixels
    path = diffct.circular_trajectory_3d_parallel(torch.tensor(angles), device="cpu")
    projector = diffct.Projector(path, (4, 16, 16), (27, 4), beam="parallel3d", backend="torch")
    scan = ops.from_diffct(projector)
    stack = ops.slicewise(lines_of_astra(16, angles, 27), 4)
    x = normal((4,), (1, 1, 4, 16, 16))
    found = scan.forward(x.flip(-2)).movedim(-1, 2)  # (batch, 1, rows, views, columns)
    expected = stack.forward(x)
    assert float((found - expected).norm() / expected.norm()) < 1e-4


def test_a_cone_beam_is_solved():
    side = 5
    scan = ops.from_diffct(cone(side, 3, (8, 6)), noise=NOISE)
    frequency = torch.meshgrid(*[torch.fft.fftfreq(side).double()] * 3, indexing="ij")
    spectrum = 0.05 / (0.05 + sum(f.square() for f in frequency))
    field = ti.priors.Gaussian(torch.zeros(1, side, side, side), power_spectrum=spectrum)
    y = scan.measure(field.draw(1, seed=1)[0], seed=2)
    posterior = ti.solve(y, scan, field, num_samples=800, steps=2)
    units = torch.eye(side**3, dtype=torch.float64).reshape(-1, *field.shape)
    covariance = field.moments()[1].apply(units).flatten(1)
    matrix = ops.dense_matrix(scan)
    seen = matrix @ covariance @ matrix.mT + 0.01 * torch.eye(len(matrix)).double()
    gain = torch.linalg.solve(seen, matrix @ covariance).mT
    exact = Moments(gain @ y.flatten().double(), covariance - gain @ matrix @ covariance)
    assert agreement(posterior.samples, exact).worst_z < 5


def test_scans_are_told_apart_and_described():
    first, same, turned = (ops.from_diffct(cone(6, turn=turn)) for turn in (0.0, 0.0, 0.2))
    assert digest(first) == digest(same) != digest(turned)
    first.forward(torch.ones(1, *first.domain_shape))
    assert digest(first) == digest(same)
    assert repr(first) == "from_diffct(cone, 5 views, (1, 6, 6, 6) -> (1, 5, 24, 20))"


def test_what_is_no_projector_is_refused():
    with pytest.raises(TypeError, match=r"needs a diffct\.Projector, .* got dict"):
        ops.from_diffct({"type": "cone"})
    spread = cone(6)
    spread.world_size = 2
    with pytest.raises(ValueError, match="spread over 2 processes"):
        ops.from_diffct(spread)
    unmatched = cone(6)
    back = unmatched.backproject
    unmatched.backproject = lambda y: 1.01 * back(y)
    with pytest.raises(ValueError, match=r"from_diffct: its adjoint is off by .*e-0[23], relative"):
        ops.from_diffct(unmatched)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*Grid size")
def test_cone_beam_on_the_gpu_is_that_of_the_cpu():
    pytest.importorskip("numba.cuda")
    scans = [ops.from_diffct(cone(16, backend=backend)) for backend in ("torch", "numba")]
    x = normal((1,), (2, 1, 16, 16, 16))
    expected, found = scans[0].forward(x), scans[1].forward(x.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
    assert ops.adjoint_error(scans[1], dtype=torch.float32, device="cuda") < 1e-4


@pytest.mark.gpu
def test_cone_beam_of_astra_is_that_of_diffct():
    """ASTRA's own back projection is not the adjoint and is refused; its projection agrees."""
    astra = pytest.importorskip("astra")
    if not astra.use_cuda():
        pytest.skip("no CUDA device")
    side, projector = 24, cone(24, detector_spacing=2.0)
    columns, rows = projector.detector_shape
    # ASTRA's source begins on the other side.
    angles = np.linspace(0, 2 * np.pi, 5, endpoint=False) + np.pi
    beam = astra.create_proj_geom("cone", 2.0, 2.0, rows, columns, angles, 72.0, 48.0)
    volume = astra.create_vol_geom(side, side, side)
    with pytest.raises(ValueError, match=r"its adjoint is off by .*ops\.from_diffct"):
        ops.from_astra(beam, volume)
    x = ball(side, (3.0, -2.0, 4.0), 6.0)
    number, seen = astra.create_sino3d_gpu(x[0, 0].float().numpy(), beam, volume)
    astra.data3d.delete(number)
    theirs = torch.from_numpy(seen.copy()).permute(1, 2, 0)  # (views, columns, rows)
    ours = ops.from_diffct(projector).forward(x.float())[0, 0]
    ways = [theirs.flip(axes) for axes in ((), (1,), (2,), (1, 2))]
    # Both see voxels: 0.051 at 24 a side, where half a voxel would be 0.13.
    assert min(float((one - ours).norm() / ours.norm()) for one in ways) < 0.08
