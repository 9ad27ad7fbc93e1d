"""Tomography against closed-form line integrals, other people's projectors and itself."""

import math

import numpy as np
import pytest
import torch

# Ellipses: value, centre, semi-axes in halves of the smaller image side, and turn in degrees.
from tests.ellipses import DISK, ELLIPSES, phantom, to_unit_disk
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators.tomography.projectors import matrix_bytes


def line_integrals(scan, ellipses=ELLIPSES):
    """Exact sinogram ``(angles, detectors)``, from the documented geometry by hand."""
    scale = min(scan.height, scan.width) / 2 * scan.pixel_size
    a = scan.angles.deg2rad()[:, None]
    t = (torch.arange(scan.detectors) - (scan.detectors - 1) / 2) * scan.detector_spacing
    if scan.source_distance is None:
        px, py, dx, dy = t * a.cos(), t * a.sin(), -a.sin() + 0 * t, a.cos() + 0 * t
    else:
        px, py = scan.source_distance * a.sin() + 0 * t, -scan.source_distance * a.cos() + 0 * t
        dx = -scan.detector_distance * a.sin() + t * a.cos() - px
        dy = scan.detector_distance * a.cos() + t * a.sin() - py
        length = (dx**2 + dy**2).sqrt()
        dx, dy = dx / length, dy / length
    total = torch.zeros_like(px)
    for ellipse in ellipses:
        (cx, cy) = ellipse[1]
        u, v = to_unit_disk(px - cx * scale, py - cy * scale, ellipse, scale)
        du, dv = to_unit_disk(dx, dy, ellipse, scale)
        square, mixed = du**2 + dv**2, u * du + v * dv
        chord = (mixed**2 - square * (u**2 + v**2 - 1)).clamp(min=0).sqrt()
        total += ellipse[0] * 2 * chord / square
    return total


def relative(got, expected):
    return float((got - expected).abs().mean() / expected.abs().mean())


BEAMS = {
    "parallel": {"angles": 60},
    "parallel-coarse-bins": {"angles": 60, "detectors": 50, "detector_spacing": 2.5},
    "fan": {"angles": 60, "geometry": "fan"},
    "fan-near-source": {
        "angles": [-170.0, -31.0, 0.0, 44.0, 45.0, 46.0, 90.0, 200.0, 371.0],
        "geometry": "fan",
        "detectors": 301,
        "pixel_size": 0.5,
        "source_distance": 60.0,
        "detector_distance": 20.0,
    },
}


@pytest.fixture(params=BEAMS)
def beam(request):
    return BEAMS[request.param]


@pytest.mark.parametrize("ellipses", [DISK, ELLIPSES], ids=["disk", "ellipses"])
def test_line_integrals_of_ellipses(beam, ellipses):
    operator = ops.Tomography((1, 160, 130), **beam)
    sinogram = operator.forward(phantom(160, 130, ellipses))[0, 0]
    exact = line_integrals(operator.geometry, ellipses)
    assert relative(sinogram, exact) < 0.005


def test_default_fan_sees_the_circle_around_the_image_and_no_more():
    scan = ops.Tomography((1, 30, 40), 4, geometry="fan", pixel_size=0.1).geometry
    assert (scan.source_distance, scan.detector_distance, scan.detectors) == (10.0, 10.0, 50)
    edge = scan.detectors * scan.detector_spacing / 2
    assert math.sin(math.atan(edge / 20.0)) * 10.0 == pytest.approx(2.5)


def test_detectors_follow_from_the_spacing():
    operator = ops.Tomography((1, 30, 40), 4, pixel_size=0.1, detector_spacing=0.2)
    assert operator.range_shape == (1, 4, 25)


def test_forward_and_adjoint_scale_with_the_unit(beam):
    lengths = ("pixel_size", "detector_spacing", "source_distance", "detector_distance")
    operator = ops.Tomography((1, 20, 24), **beam)
    scan = operator.geometry
    doubled = {name: 2 * getattr(scan, name) for name in lengths[:2]}
    if scan.source_distance is not None:
        doubled |= {name: 2 * getattr(scan, name) for name in lengths[2:]}
    twice = ops.Tomography((1, 20, 24), **{**beam, "detectors": scan.detectors, **doubled})
    x = normal((1,), (2, 1, 20, 24))
    torch.testing.assert_close(twice.forward(x), 2 * operator.forward(x), rtol=1e-12, atol=1e-12)
    y = operator.forward(x)
    torch.testing.assert_close(twice.adjoint(y), 2 * operator.adjoint(y), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(twice.pseudo_inverse(2 * y), operator.pseudo_inverse(y))


def test_a_distant_fan_is_a_parallel_beam():
    x = phantom(40, 40)
    parallel = ops.Tomography((1, 40, 40), [0.0, 20.0, 120.0])
    fan = ops.Tomography(
        (1, 40, 40),
        [0.0, 20.0, 120.0],
        geometry="fan",
        detectors=parallel.range_shape[2],
        detector_spacing=1.0,
        source_distance=1e7,
        detector_distance=0,
    )
    torch.testing.assert_close(fan.forward(x), parallel.forward(x), rtol=1e-4, atol=1e-4)


# --- storage ---


def test_matrix_free_has_the_numbers_of_the_matrix(beam, monkeypatch):
    stored = ops.Tomography((1, 21, 26), storage="matrix", **beam)
    free = ops.Tomography((1, 21, 26), storage="matrix-free", **beam)
    x = normal((1,), (3, *stored.domain_shape))
    y = stored.forward(x)
    back = stored.adjoint(y)
    # Pieces of a few rays, so that the seams show.
    monkeypatch.setattr("tweedie_inverse.operators.tomography.joseph.CHUNK", 500)
    torch.testing.assert_close(free.forward(x), y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(free.adjoint(y), back, rtol=1e-12, atol=1e-12)
    assert ops.adjoint_error(free) < 1e-12


def test_matrix_is_valid_and_its_transpose_exact(beam, monkeypatch):
    monkeypatch.setattr("tweedie_inverse.numerics.sparse._CHUNK", 777)
    operator = ops.Tomography((1, 21, 26), **beam)
    matrix, back = operator.projector.pair(torch.float64, torch.device("cpu"))
    for part in (matrix, back):
        assert part.col_indices().dtype == torch.int32
        torch.sparse_csr_tensor(
            part.crow_indices(),
            part.col_indices(),
            part.values(),
            part.shape,
            check_invariants=True,
        )
    assert torch.equal(matrix.to_dense().mT, back.to_dense())


@pytest.mark.parametrize("storage", ["matrix", "matrix-free"])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_adjoint_error_in_both_precisions(beam, storage, dtype, error):
    operator = ops.Tomography((1, 40, 31), storage=storage, **beam)
    assert ops.adjoint_error(operator, dtype=dtype) < error


def test_memory_is_estimated_before_building(beam):
    operator = ops.Tomography((1, 90, 70), storage="matrix", **beam)
    operator.forward(torch.zeros(1, 1, 90, 70))
    assert matrix_bytes(operator.geometry) == pytest.approx(operator.projector.nbytes(), rel=0.1)


def test_a_large_scan_is_matrix_free_and_says_so():
    with pytest.warns(UserWarning, match=r"about 5\.\d* GiB .* storage='matrix-free'") as record:
        operator = ops.Tomography((1, 512, 512), 720)
    assert record[0].filename == __file__
    assert operator.storage == "matrix-free"
    assert repr(operator) == "Tomography((1, 512, 512) -> (1, 720, 725), parallel, matrix-free)"
    assert "fan, matrix)" in repr(ops.Tomography((1, 8, 8), 4, geometry="fan"))


@pytest.mark.parametrize("storage", ["matrix", "matrix-free"])
def test_derivatives_of_any_kind(storage):
    operator = ops.Tomography((1, 9, 8), 5, storage=storage)
    x, v = normal((1,), (2, 2, 1, 9, 8))
    value, tangent = torch.func.jvp(operator.forward, (x,), (v,))
    torch.testing.assert_close(value, operator.forward(x))
    torch.testing.assert_close(tangent, operator.forward(v))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(operator.forward(x).square().sum() / 2, x, create_graph=True)
    (product,) = torch.autograd.grad(gradient, x, v)
    torch.testing.assert_close(product, operator.adjoint(operator.forward(v)))


# --- against other people's projectors ---


def test_against_skimage():
    """Sizes where scikit-image's centre, pixel N // 2 of the padded image, is the image centre."""
    from skimage.transform import iradon, radon

    x, degrees = phantom(61, 61), np.arange(40) * 4.5
    operator = ops.Tomography((1, 61, 61), 40, detectors=87)
    y = operator.forward(x)
    theirs = torch.tensor(radon(x[0, 0].numpy(), degrees, circle=False).T)
    assert relative(theirs, y[0, 0]) < 0.002
    theirs = iradon(np.ascontiguousarray(y[0, 0].numpy().T), degrees, output_size=61, circle=False)
    torch.testing.assert_close(
        operator.pseudo_inverse(y)[0, 0], torch.tensor(theirs), rtol=1e-10, atol=1e-10
    )


def test_parallel_beam_against_deepinv():
    """Same angles; its sinogram is ours transposed, at the padded image's width.

    128: a size that deepinv pads evenly, so that the image centre stays the rotation centre.
    """
    deepinv = pytest.importorskip("deepinv")
    degrees, x = torch.arange(20) * 9.0, phantom(128, 128)
    physics = deepinv.physics.Tomography(
        degrees,
        128,
        circle=False,
        adjoint_via_backprop=True,
        normalize=False,
        dtype=torch.float64,
    )
    operator = ops.Tomography((1, 128, 128), degrees, detectors=182)
    y = operator.forward(x)
    assert relative(physics.A(x).mT, y) < 0.001
    assert relative(physics.A_adjoint(y.mT), operator.adjoint(y)) < 0.03


def test_fan_beam_against_deepinv():
    """Its angle 0 has the source at the left: ours less 90 degrees.

    It samples rays at unit steps in depth and not in length, so it gives our line integrals times
    the cosine of the fan angle, in pixels.  Its grid spans 181 pixel distances where it counts 182
    pixels, so its pixels are larger than asked by that ratio.
    """
    deepinv = pytest.importorskip("deepinv")
    degrees, x = torch.arange(20) * 18.0, phantom(128, 128)
    physics = deepinv.physics.Tomography(
        degrees,
        128,
        circle=False,
        normalize=False,
        fan_beam=True,
        fan_parameters={
            "pixel_spacing": 0.1,
            "source_radius": 25.6,
            "detector_radius": 19.2,
            "n_detector_pixels": 350,
            "detector_spacing": 0.1,
        },
        dtype=torch.float64,
    )
    pixel = 0.1 * 182 / 181
    operator = ops.Tomography(
        (1, 128, 128),
        degrees - 90,
        350,
        geometry="fan",
        pixel_size=pixel,
        detector_spacing=0.1,
        source_distance=25.6,
        detector_distance=19.2,
    )
    cosine = (operator.geometry.bins() / (25.6 + 19.2)).atan().cos()
    assert relative(pixel * physics.A(x).mT, operator.forward(x) * cosine) < 0.001


# --- refusals ---


def fan(**lengths):
    return ops.Tomography((1, 8, 8), 4, geometry="fan", **lengths)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.Tomography((3, 8, 8), 4), r"needs \(1, height, width\)"),
        (lambda: ops.Tomography((8, 8), 4), r"needs \(1, height, width\)"),
        (lambda: ops.Tomography((1, 0, 8), 4), r"needs \(1, height, width\)"),
        (lambda: ops.Tomography((1, 8, 8), 0), "at least one angle"),
        (lambda: ops.Tomography((1, 8, 8), []), "list of degrees"),
        (lambda: ops.Tomography((1, 8, 8), [[0.0]]), "list of degrees"),
        (lambda: ops.Tomography((1, 8, 8), [0.0, math.nan]), "finite degrees"),
        (lambda: ops.Tomography((1, 8, 8), 4, 0), "positive count"),
        (lambda: ops.Tomography((1, 8, 8), 4, 7.5), "positive count"),
        (lambda: ops.Tomography((1, 8, 8), 4, geometry="cone"), "'parallel' or 'fan'"),
        (lambda: ops.Tomography((1, 8, 8), 4, storage="disk"), "'matrix-free'"),
        (lambda: ops.Tomography((1, 8, 8), 4, pixel_size=0.0), "positive, finite length"),
        (lambda: ops.Tomography((1, 8, 8), 4, detector_spacing=-1.0), "positive, finite length"),
        (lambda: ops.Tomography((1, 8, 8), 4, source_distance=9.0), "geometry='fan'"),
        (lambda: ops.Tomography((1, 8, 8), 4, detector_distance=9.0), "geometry='fan'"),
        (lambda: fan(source_distance=5.6), "outside the image"),
        (lambda: fan(source_distance=9.0, pixel_size=2.0), "outside the image"),
        (lambda: fan(source_distance=math.inf), "positive, finite length"),
        (lambda: fan(detector_distance=-1.0), "0 or more"),
        (lambda: fan().forward(torch.zeros(1, 1, 8, 9)), r"shape \(batch, 1, 8, 8\)"),
        (lambda: fan().adjoint(torch.zeros(1, 1, 8, 8)), r"shape \(batch, 1, 4, 12\)"),
        (lambda: fan().pseudo_inverse(torch.zeros(4, 12)), r"shape \(batch, 1, 4, 12\)"),
        (lambda: fan().forward(torch.zeros(1, 1, 8, 8).int()), "float32 or float64"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
