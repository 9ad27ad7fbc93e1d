"""Scans that are not aligned: centre of rotation, detector offset, angle offset, bin spacing."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.ellipses import DISK, phantom
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.origin import digest

SHAPE = (1, 40, 46)
MOVED = {"centre": (17.3, 25.1), "detector_offset": 1.7, "angle_offset": 12.5}
BEAMS = {
    "parallel": {"angles": 9, "detectors": 70, **MOVED},
    "parallel-units": {
        "angles": [0.0, 45.0, 100.0, -30.0],
        "detectors": 50,
        "pixel_size": 0.5,
        "detector_spacing": 0.8,
        **MOVED,
    },
    "fan": {"angles": 7, "detectors": 90, "geometry": "fan", **MOVED},
    "fan-units": {
        "angles": [0.0, 80.0, 190.0, 300.0],
        "detectors": 80,
        "geometry": "fan",
        "pixel_size": 0.5,
        "detector_spacing": 0.9,
        "source_distance": 30.0,
        "detector_distance": 22.0,
        **MOVED,
    },
}


@pytest.fixture(params=BEAMS)
def beam(request):
    return BEAMS[request.param]


def blob(shape, place, width):
    """A Gaussian of height 1 around (row, column), in pixels."""
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in shape[1:])
    square = (rows[:, None] - place[0]) ** 2 + (columns - place[1]) ** 2
    return torch.exp(-square / (2 * width**2))[None, None]


def integrals_of_blob(settings, place, width):
    """Its line integrals, by hand from the documented geometry, ``(angles, detectors)``.

    Catches a sign or a unit of any of the four settings, and offsets that the fan does not magnify.
    """
    size, given = settings.get("pixel_size", 1.0), settings["angles"]
    fan = settings.get("geometry") == "fan"
    turn = 360.0 if fan else 180.0
    degrees = np.arange(given) * turn / given if isinstance(given, int) else np.array(given)
    a = np.deg2rad(degrees + settings["angle_offset"])[:, None]
    (row, column), bins = settings["centre"], settings["detectors"]
    x, y = (place[1] - column) * size, (row - place[0]) * size  # from the axis, y up
    spacing = settings.get("detector_spacing", size)
    if fan:
        diagonal = size * math.hypot(*SHAPE[1:])
        source = settings.get("source_distance", 2 * diagonal)
        detector = settings.get("detector_distance", source)
        sine = diagonal / 2 / source
        shadow = 2 * (source + detector) * sine / math.sqrt(1 - sine**2)
        spacing = settings.get("detector_spacing", shadow / bins)
    t = (np.arange(bins) - (bins - 1) / 2) * spacing + settings["detector_offset"]
    along, across = x * np.cos(a) + y * np.sin(a), y * np.cos(a) - x * np.sin(a)
    if fan:  # from the source, the ray runs along (t, source + detector)
        distance = (along * (source + detector) - (across + source) * t) / np.hypot(
            t, source + detector
        )
    else:
        distance = along - t
    width = width * size
    return torch.tensor(math.sqrt(2 * math.pi) * width * np.exp(-(distance**2) / (2 * width**2)))


def test_line_integrals_of_a_blob(beam):
    operator = ops.Tomography(SHAPE, **beam)
    found = operator.forward(blob(SHAPE, (14.0, 27.0), 3.5))[0, 0]
    exact = integrals_of_blob(beam, (14.0, 27.0), 3.5)
    assert float((found - exact).abs().max() / exact.max()) < 0.01
    mass = (torch.arange(exact.shape[1]) * found).sum(1) / found.sum(1)
    expected = (torch.arange(exact.shape[1]) * exact).sum(1) / exact.sum(1)
    torch.testing.assert_close(mass, expected, rtol=0, atol=0.01)  # a hundredth of a bin


@pytest.mark.parametrize("storage", ["matrix", "matrix-free"])
def test_adjoint_and_both_storages(beam, storage):
    operator = ops.Tomography(SHAPE, storage=storage, **beam)
    assert ops.adjoint_error(operator) < 1e-12
    other = ops.Tomography(SHAPE, storage="matrix", **beam)
    x = normal((1,), (2, *SHAPE))
    torch.testing.assert_close(operator.forward(x), other.forward(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("geometry", ["parallel", "fan"])
def test_an_angle_offset_shifts_the_angles(geometry):
    x, degrees = normal((1,), (1, *SHAPE)), torch.tensor([3.0, 50.0, 170.0]).double()
    offset = ops.Tomography(SHAPE, degrees, geometry=geometry, angle_offset=-7.5)
    shifted = ops.Tomography(SHAPE, degrees - 7.5, geometry=geometry)
    assert torch.equal(offset.angles, shifted.angles)
    assert torch.equal(offset.forward(x), shifted.forward(x))


def test_a_centre_is_a_detector_offset_for_each_angle():
    """Parallel: ``columns cos a - rows sin a`` pixels at angle a, as the docstring says."""
    x, rows, columns = normal((1,), (1, *SHAPE)), -2.2, 1.6
    middle = ((SHAPE[1] - 1) / 2, (SHAPE[2] - 1) / 2)
    for degrees in (0.0, 35.0, 90.0, 200.0):
        a = math.radians(degrees)
        centred = ops.Tomography(
            SHAPE, [degrees], 70, pixel_size=0.5, centre=(middle[0] + rows, middle[1] + columns)
        )
        offset = 0.5 * (columns * math.cos(a) - rows * math.sin(a))
        other = ops.Tomography(SHAPE, [degrees], 70, pixel_size=0.5, detector_offset=offset)
        torch.testing.assert_close(centred.forward(x), other.forward(x), rtol=1e-9, atol=1e-9)


def test_whole_pixels_move_the_image_and_whole_bins_the_data():
    x = torch.zeros(1, *SHAPE, dtype=torch.float64)
    x[..., 10:25, 12:30] = normal((2,), (15, 18))
    middle = (SHAPE[1] - 1) / 2, (SHAPE[2] - 1) / 2
    for geometry in ("parallel", "fan"):
        aligned = ops.Tomography(SHAPE, 8, 80, geometry=geometry)
        centred = ops.Tomography(
            SHAPE, 8, 80, geometry=geometry, centre=(middle[0] + 3, middle[1] - 2)
        )
        torch.testing.assert_close(centred.forward(x.roll((3, -2), (2, 3))), aligned.forward(x))
        bin_ = aligned.geometry.detector_spacing
        offset = ops.Tomography(SHAPE, 8, 80, geometry=geometry, detector_offset=4 * bin_)
        torch.testing.assert_close(offset.forward(x)[..., :-4], aligned.forward(x)[..., 4:])


def test_against_the_shifts_of_skimage():
    """`iradon_sart` takes a shift of each projection, in pixels; the other sign does not fit."""
    from skimage.transform import iradon_sart

    side, offset = 61, 2.5
    x, degrees = phantom(side, side, DISK), np.arange(30) * 6.0
    scan = ops.Tomography((1, side, side), degrees, side, detector_offset=offset)
    data = np.ascontiguousarray(scan.forward(x)[0, 0].numpy().T)

    def error(shift):
        image = iradon_sart(data, degrees, projection_shifts=np.full(30, shift))
        return float((torch.tensor(image) - x[0, 0]).square().mean().sqrt())

    assert error(offset) < 0.08
    assert min(map(error, (-offset, 0.0, offset - 1.5, offset + 1.5))) > 0.12


@pytest.mark.parametrize("geometry", ["parallel", "fan"])
def test_filtered_backprojection_knows_the_alignment(geometry):
    """A disk has its brightness and its place; with the offset forgotten it has not."""
    turn = 360 if geometry == "fan" else 180
    shape, settings = (1, 64, 56), {"geometry": geometry, "detectors": 110, **MOVED}
    operator = ops.Tomography(shape, np.arange(0, turn, 1.5).tolist(), **settings)
    x = phantom(64, 56, DISK).float()
    y = operator.forward(x)
    image = operator.pseudo_inverse(y)
    inside, outside = -F.max_pool2d(-x, 5, 1, 2) == 1, F.max_pool2d(x, 5, 1, 2) == 0
    assert float((image[inside] - 1).abs().max()) < 0.03
    assert float(image[outside].mean()) == pytest.approx(0, abs=4e-3)
    forgotten = ops.Tomography(
        shape, operator.angles, 110, geometry=geometry, centre=MOVED["centre"]
    ).pseudo_inverse
    errors = [float((found - x).square().mean().sqrt()) for found in (image, forgotten(y))]
    assert errors[1] > 1.5 * errors[0]


def test_copies_pickles_digests_and_repr(beam):
    operator = ops.Tomography(SHAPE, **beam)
    x = normal((1,), (1, *SHAPE))
    for other in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert torch.equal(other.forward(x), operator.forward(x))
        assert digest(other) == digest(operator)
    for name, value in {"centre": (17.0, 25.0), "detector_offset": 0.0, "angle_offset": 0}.items():
        other = ops.Tomography(SHAPE, **{**beam, name: value})
        assert digest(other) != digest(operator)
        assert repr(other) != repr(operator)
    assert "centre=(17.3, 25.1), detector_offset=1.7, angle_offset=12.5, matrix)" in repr(operator)


def test_numbers_of_numpy_and_torch_are_welcome():
    x = normal((1,), (1, *SHAPE))
    plain = ops.Tomography(SHAPE, 4, 60, centre=(18.0, 21.5), detector_offset=0.5)
    for centre in (np.array([18.0, 21.5]), torch.tensor([18.0, 21.5]), [18, 21.5]):
        other = ops.Tomography(SHAPE, 4, 60, centre=centre, detector_offset=np.float32(0.5))
        assert torch.equal(other.forward(x), plain.forward(x))


def test_the_data_keep_their_shape_and_what_is_cut_is_said():
    """Parameters to be inferred must not change the shape of the data."""
    shape = ops.Tomography((1, 64, 64), 10).range_shape
    assert ops.Tomography((1, 64, 64), 10, centre=(29.0, 35.0)).range_shape == shape
    assert ops.Tomography((1, 64, 64), 10, detector_offset=-6.0).range_shape == shape
    for geometry in ("parallel", "fan"):
        with pytest.warns(UserWarning, match="misses parts of the image .* Say detectors="):
            ops.Tomography((1, 64, 64), 10, geometry=geometry, centre=(5.0, 31.5))
        with pytest.warns(UserWarning, match="misses parts of the image"):
            ops.Tomography((1, 64, 64), 10, geometry=geometry, detector_offset=40.0)
        ops.Tomography((1, 64, 64), 10, 91, geometry=geometry, detector_offset=40.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector_offset": math.nan}, r"detector_offset=nan\): needs a finite length"),
        ({"detector_offset": "1 mm"}, "needs a finite length"),
        ({"detector_offset": None}, "needs a finite length"),
        ({"detector_offset": [1.0, 2.0]}, "needs a finite length"),
        ({"angle_offset": math.inf}, r"angle_offset=inf\): needs a finite number of degrees"),
        ({"angle_offset": True}, "needs a finite number of degrees"),
        ({"centre": 3.0}, r"centre=3.0\): needs a row and a column, in pixels"),
        ({"centre": (1.0, 2.0, 3.0)}, "needs a row and a column"),
        ({"centre": (1.0, math.nan)}, "needs a row and a column"),
        ({"detector_spacing": 0}, r"detector_spacing=0\): needs a positive, finite length"),
        ({"detector_offset": 60.0}, "no ray meets the image; .* around 60, .* Check detector_off"),
        ({"centre": (500.0, 100.0)}, "no ray meets the image"),
        ({"detectors": 2, "detector_spacing": 200.0}, "no ray meets the image"),
        ({"centre": (31.0, 90.0), "geometry": "fan", "source_distance": 60.0}, "outside the image"),
    ],
)
def test_bad_alignment_is_refused(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.Tomography((1, 32, 32), 4, **{"detectors": 40, **settings})


@pytest.mark.parametrize("geometry", ["parallel", "fan"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_detector_that_sees_half_of_the_image(geometry, sign):
    """A full turn with an offset detector: the disk has its brightness, seen once or twice.

    Without weights it is .5 where opposite views do not see it.
    """
    x = phantom(64, 64, DISK).float()
    whole = ops.Tomography((1, 64, 64), 4, 110, geometry=geometry).geometry
    bins = 66
    operator = ops.Tomography(
        (1, 64, 64),
        np.arange(0, 360, 1.5).tolist(),
        bins,
        geometry=geometry,
        detector_spacing=whole.detector_spacing,
        detector_offset=sign * 22 * whole.detector_spacing,  # covers -11 to 55 bins
    )
    image = operator.pseudo_inverse(operator.forward(x))
    inside = -F.max_pool2d(-x, 5, 1, 2) == 1
    assert float((image[inside] - 1).abs().max()) < 0.03
    assert float(image[inside].mean()) == pytest.approx(1, abs=1e-3)
