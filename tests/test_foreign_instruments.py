"""ASTRA, mri-nufft and sigpy: against our own operators, and what is refused."""

import math

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import Moments, agreement, prior_covariance, random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.evaluation.calibration import crps
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.numerics.random import normal

ANGLES = [0.0, 20.0, 45.0, 100.0, 150.0]
NOISE = ops.GaussianNoise(0.1)


def astra_scan(side, kind="parallel", projector=None, **settings):
    astra = pytest.importorskip("astra")
    views = np.deg2rad(ANGLES)
    rest = (60.0, 30.0) if kind == "fanflat" else ()
    projection = astra.create_proj_geom(kind, 1.0, 45, views, *rest)
    volume = astra.create_vol_geom(side, side)
    return ops.from_astra(projection, volume, projector=projector, **settings)


@pytest.mark.parametrize(("projector", "most"), [("linear", 1e-5), ("strip", 0.05), (None, 0.05)])
def test_parallel_beam_of_astra_is_ours(projector, most):
    scan = astra_scan(32, projector=projector)
    assert ops.adjoint_error(scan, dtype=torch.float32) < 1e-5
    ours = ops.Tomography((1, 32, 32), ANGLES, 45)
    x = ops.Blur(ops.gaussian_kernel(1.0), (1, 32, 32)).forward(random_field(32).draw(2, seed=1))
    theirs, expected = scan.forward(x), ours.forward(x)
    assert float((theirs - expected).norm() / expected.norm()) < most


def test_fan_beam_of_astra_is_ours():
    scan = astra_scan(32, "fanflat")
    ours = ops.Tomography(
        (1, 32, 32), ANGLES, 45, geometry="fan", detector_spacing=1.0, source_distance=60.0,
        detector_distance=30.0,
    )  # fmt: skip
    x = ops.Blur(ops.gaussian_kernel(1.5), (1, 32, 32)).forward(random_field(32).draw(1, seed=1))
    expected = ours.forward(x)
    # A strip sees a pixel of the detector, a ray its middle; magnification makes strips narrower.
    assert float((scan.forward(x) - expected).norm() / expected.norm()) < 0.1


def test_a_scan_of_astra_is_solved():
    field = random_field(8)
    scan = astra_scan(8, noise=NOISE)
    y = scan.measure(field.draw(1, seed=1)[0], seed=2)
    posterior = ti.solve(y, scan, field, num_samples=800, steps=2)
    matrix, covariance = ops.dense_matrix(scan), prior_covariance(field)
    gain = (
        covariance
        @ matrix.mT
        @ torch.linalg.inv(matrix @ covariance @ matrix.mT + 0.01 * torch.eye(len(matrix)).double())
    )
    exact = Moments(gain @ y.flatten().double(), covariance - gain @ matrix @ covariance)
    assert agreement(posterior.samples, exact).worst_z < 5


def test_what_astra_cannot_do_is_said():
    astra = pytest.importorskip("astra")
    flat, solid = astra.create_vol_geom(8, 8), astra.create_vol_geom(8, 8, 8)
    beam = astra.create_proj_geom("cone", 1.0, 1.0, 8, 8, [0.0, 1.0], 20.0, 20.0)
    with pytest.raises(TypeError, match="a geometry of ASTRA, which create_proj_geom makes"):
        ops.from_astra("cone", solid)
    with pytest.raises(ValueError, match="a 'cone' geometry and a volume of 2 dimensions"):
        ops.from_astra(beam, flat)
    with pytest.raises(ValueError, match="ASTRA refuses it"):
        astra_scan(8, "fanflat", "line")
    if not astra.use_cuda():
        with pytest.raises(ValueError, match="sees no CUDA device here"):
            ops.from_astra(beam, solid)


@pytest.mark.gpu
def test_cone_beam_of_astra_has_an_adjoint():
    astra = pytest.importorskip("astra")
    if not astra.use_cuda():
        pytest.skip("no CUDA device")
    beam = astra.create_proj_geom("cone", 1.0, 1.0, 24, 24, np.linspace(0, 6, 10), 60.0, 20.0)
    scan = ops.from_astra(beam, astra.create_vol_geom(16, 16, 16), noise=NOISE)
    assert scan.domain_shape == (1, 16, 16, 16)
    assert scan.range_shape == (1, 24, 10, 24)


def nufft(samples, shape, **settings):
    mrinufft = pytest.importorskip("mrinufft")
    pytest.importorskip("finufft")
    return mrinufft.get_operator("finufft")(samples, shape=shape, density=False, **settings)


def grid(shape):
    """Every sample of a Cartesian k-space, in the units of mri-nufft: -pi to pi."""
    axes = [2 * np.pi * (np.arange(n) - n // 2) / n for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))


@pytest.mark.slow  # mri-nufft takes seconds to import
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("shape", [(8, 10), (6, 4, 8)])
def test_samples_on_the_grid_are_those_of_the_cartesian_scan(shape):
    coils = torch.complex(normal((1,), (3, *shape)), normal((2,), (3, *shape)))
    maps = coils.numpy().astype(np.complex128)
    operator = nufft(grid(shape), shape, n_coils=3, smaps=maps)
    scan = ops.from_mri_nufft(operator, noise=NOISE)
    assert ops.adjoint_error(scan, dtype=torch.float32) < 1e-5
    ours = ops.FourierSampling(torch.ones(shape), coils=coils)
    x = normal((3,), (2, *scan.domain_shape))
    expected = ours.forward(x).flatten(3)
    factor = 2 ** (-len(shape) / 2)  # its unitary transform is that of a grid twice as fine
    torch.testing.assert_close(scan.forward(x), factor * expected, rtol=1e-4, atol=1e-4)
    y = scan.measure(torch.complex(*x[0]))
    assert y.shape == (2, 3, math.prod(shape))


@pytest.mark.slow  # mri-nufft takes seconds to import
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_radial_samples_are_solved_for_a_complex_image():
    side = 8
    spokes = np.linspace(-np.pi, np.pi, 16, endpoint=False)[:, None]
    turn = np.linspace(0, np.pi, 7, endpoint=False)
    samples = np.concatenate([spokes * [np.cos(a), np.sin(a)] for a in turn])
    scan = ops.from_mri_nufft(nufft(samples, (side, side)), noise=ops.GaussianNoise(0.05))
    prior = ti.priors.Complex(random_field(side), phase=0.4, imaginary=0.1, width=1.0)
    x = prior.moments()[1].colour(normal((1,), (1, *prior.shape)))
    y = scan.measure(x[0], seed=1)
    posterior = ti.solve(y, scan, prior, num_samples=400, steps=2)
    matrix = ops.dense_matrix(scan)
    units = torch.eye(2 * side**2, dtype=torch.float64).reshape(-1, *prior.shape)
    covariance = prior.moments()[1].apply(units).flatten(1)
    seen = matrix @ covariance @ matrix.mT + 0.05**2 * torch.eye(len(matrix)).double()
    gain = torch.linalg.solve(seen, matrix @ covariance).mT
    exact = Moments(gain @ y.flatten().double(), covariance - gain @ matrix @ covariance)
    assert agreement(posterior.samples, exact).worst_z < 5
    assert ops.from_mri_nufft(nufft(samples, (side, side)), real=True).domain_shape == (
        1,
        side,
        side,
    )


@pytest.mark.slow  # mri-nufft takes seconds to import
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_operators_of_mri_nufft_that_have_no_adjoint_are_refused():
    samples = grid((12, 12))
    weighted = nufft(samples, (12, 12))
    weighted.density = np.ones(144)
    with pytest.raises(ValueError, match="density=False"):
        ops.from_mri_nufft(weighted)
    with pytest.raises(ValueError, match="4 coils need their sensitivities"):
        ops.from_mri_nufft(nufft(samples, (12, 12), n_coils=4))
    with pytest.raises(TypeError, match="needs a Fourier operator of mri-nufft"):
        ops.from_mri_nufft(ops.Mask(torch.ones(3, 3)))


def smooth_coils(side, count):
    """Sensitivities that fall off from places on a circle, with phases that turn slowly."""
    place = torch.linspace(-1, 1, side, dtype=torch.float64)
    rows, columns = place[:, None], place[None]
    turn = 2 * math.pi * torch.arange(count, dtype=torch.float64)[:, None, None] / count
    distance = (rows - 1.2 * turn.sin()) ** 2 + (columns - 1.2 * turn.cos()) ** 2
    phase = rows * turn.cos() - columns * turn.sin() + turn
    return torch.polar(torch.exp(-distance / 2), phase)


def test_coil_maps_are_found_in_the_middle_of_k_space():
    pytest.importorskip("sigpy")
    side, coils = 48, smooth_coils(48, 4)
    coils = coils / coils.abs().square().sum(0).sqrt()
    body = _body(side)
    scan = ops.FourierSampling(
        ops.cartesian_mask((side, side), 2, centre=0.45), coils=coils, noise=ops.GaussianNoise(1e-3)
    )
    y = scan.measure(torch.stack([body, torch.zeros_like(body)]), seed=1)
    for kspace in (y, torch.complex(y[0], y[1]).numpy()):
        maps = ops.estimate_coil_maps(kspace, calibration=20)
        inside = body > 0.1
        alike = (maps.conj() * coils).sum(0).abs()[inside]
        assert float(alike.min()) > 0.97


def _body(side):
    place = torch.linspace(-1, 1, side, dtype=torch.float64)
    radius = (place[:, None] / 0.8) ** 2 + (place / 0.65) ** 2
    return (radius < 1) * (0.6 + 0.3 * torch.cos(7 * place) * torch.sin(5 * place[:, None]))


def test_the_smooth_phase_is_found_in_a_measurement():
    side = 48
    place = torch.linspace(-1, 1, side, dtype=torch.float64)
    phase = 1.0 + 1.2 * place[:, None] - 0.8 * place**2
    image = torch.polar(_body(side), phase.expand(side, side))
    mask = ops.cartesian_mask((side, side), 3, centre=0.15)
    scan = ops.FourierSampling(mask, coils=smooth_coils(side, 4), noise=ops.GaussianNoise(0.01))
    found = ops.estimate_phase(scan.measure(image, seed=1), scan, width=3.0)
    wrong = torch.polar(torch.ones(side, side).double(), found - phase).angle()
    inside = _body(side) > 0.4
    assert float(wrong[inside].abs().mean()) < 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.estimate_coil_maps(torch.zeros(3, 8, 8)), "needs complex k-space"),
        (
            lambda: ops.estimate_coil_maps(torch.zeros(1, 8, 8).cfloat()),
            "of two coils or more",
        ),
        (
            lambda: ops.estimate_coil_maps(torch.zeros(3, 32, 32).cfloat()),
            "only 0% of the middle",
        ),
        (
            lambda: ops.estimate_coil_maps(torch.ones(3, 8, 8).cfloat()),
            "no wider than 8 samples",
        ),
        (
            lambda: ops.estimate_phase(torch.ones(1, 3, 3), ops.Mask(torch.ones(3, 3))),
            "needs an operator of complex images",
        ),
        (
            lambda: ops.estimate_phase(torch.ones(3), ops.FourierSampling(torch.ones(3, 3))),
            "needs one measurement of shape",
        ),
        (lambda: ti.as_complex(torch.zeros(3, 4, 4)), "needs two entries along that axis"),
        (lambda: ti.as_complex(torch.zeros(2, 4, 4).cfloat()), "needs real and imaginary parts"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_truth_may_be_complex():
    scan = ops.FourierSampling(torch.ones(6, 6), noise=NOISE)
    x = torch.complex(normal((1,), (6, 6)), normal((2,), (6, 6)))
    prior = ti.priors.Complex(random_field(6), imaginary=0.5)
    posterior = ti.solve(scan.measure(x, seed=1), scan, prior, num_samples=4, steps=2)
    parts = torch.stack([x.real, x.imag])
    torch.testing.assert_close(crps(posterior, x), crps(posterior, parts))
    assert float(psnr(posterior.samples, x)[0]) == float(psnr(posterior.samples, parts)[0])
    posterior.plot(truth=x)
    with pytest.raises(ValueError, match="needs the shape of the posterior's mean"):
        crps(posterior, x[:5])


def test_complex_numbers_of_samples():
    samples = normal((1,), (3, 2, 4, 5))
    found = ti.as_complex(samples.numpy())
    torch.testing.assert_close(found.real, samples[:, 0])
    torch.testing.assert_close(found.imag, samples[:, 1])
    assert ti.as_complex(normal((1,), (3, 2, 2, 4, 5)), axis=-4).shape == (3, 2, 4, 5)
