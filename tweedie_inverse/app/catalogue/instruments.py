"""The instruments by name: which options each takes, and how an operator is made of them.

`make` is given the shape of the image, the values of the options by keyword, and what else a row
of the table says.  Values are checked by their kind before, and by the operator itself after.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.app.catalogue.values import Stored
from tweedie_inverse.operators import LinearOperator, Operator

Values = Mapping[str, Any]
Shape = tuple[int, int, int]
# From the height and width of a measurement and the options to those of the image.
Sides = Callable[[tuple[int, int], Values], tuple[int, int] | None]


class Instrument(NamedTuple):
    """One row of the catalogue.

    Attributes:
        summary: what it measures.
        makes: names of `tweedie_inverse.operators` that it stands for.
        make: (image shape, values) to the operator, without a noise model.
        options: names of the options it takes.
        needs: groups of options; exactly one of each group must be given.
        example: of its options.
        sides: height and width of the image, as far as those of the measurement tell.
        of_measurement: values that the shape of a measurement tells, where they are not given.
        channels: how many the measurement has, for an image of so many; None is another layout.
        only_with: options that mean something only where one of some others is given.
        then_needs: options that need others beside them.
        hint: what a measurement of another shape may be.
    """

    summary: str
    makes: tuple[str, ...]
    make: Callable[[Shape, Values], Operator]
    options: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...]
    example: str
    sides: Sides = lambda sides, values: None
    of_measurement: Callable[[tuple[int, ...]], dict[str, Any]] = lambda shape: {}
    channels: Callable[[int], int] | None = None
    only_with: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    then_needs: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    hint: str = ""


def _plain(value: Any) -> Any:
    return value.tensor() if isinstance(value, Stored) else value


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _tomography(shape: Shape, values: Values) -> LinearOperator:
    settings = {name: _plain(value) for name, value in values.items()}
    return ops.Tomography(shape, **settings)


def _transmission(shape: Shape, values: Values) -> Operator:
    scan = {name: value for name, value in values.items() if name != "photons"}
    return ops.Transmission(_tomography(shape, scan), values["photons"])


def _kernel(values: Values) -> torch.Tensor:
    size = values.get("kernel_size")
    if "kernel" in values:
        kernel = values["kernel"].tensor()
        return kernel[0] if kernel.ndim == 3 and len(kernel) == 1 else kernel
    if "shake" in values:
        return ops.motion_kernel(15 if size is None else size, seed=values["shake"])
    if "length" in values:
        return ops.motion_kernel(size, length=values["length"], angle=values["angle"])
    width, across = values["width"], values.get("width_across")
    if across is None:
        return ops.gaussian_kernel(width, size)
    return ops.gaussian_kernel((width, across), size, angle=values.get("angle"))


def kernel_size(values: Values) -> int | None:
    """Side of a kernel that holds every number of the ranges, which its shape must not depend on.

    `values` has the upper ends.
    """
    if "kernel_size" in values or "kernel" in values or "shake" in values:
        return values.get("kernel_size")
    return int(_kernel({"angle": 0.0, **values}).shape[-1])


def _blur(shape: Shape, values: Values) -> LinearOperator:
    settings = _without_none(padding=values.get("padding"))
    return ops.Blur(_kernel(values), shape, **settings)


def _blurred_sides(sides: tuple[int, int], values: Values) -> tuple[int, int] | None:
    if values.get("padding") != "valid":
        return sides
    height, width = _kernel(values).shape[-2:]
    return sides[0] + height - 1, sides[1] + width - 1


def _blind_blur(shape: Shape, values: Values) -> LinearOperator:
    settings = dict(values)
    return ops.BlindBlur(shape, **_without_none(size=settings.pop("kernel_size", None)), **settings)


def _downsampling(shape: Shape, values: Values) -> LinearOperator:
    settings = _without_none(kernel=values.get("filter"), boundary=values.get("boundary"))
    return ops.Downsampling(shape, values["factor"], **settings)


def _enlarged(sides: tuple[int, int], values: Values) -> tuple[int, int] | None:
    factor = values["factor"]
    if factor != int(factor):
        return None  # several sizes have this small image
    return sides[0] * int(factor), sides[1] * int(factor)


def _mask(shape: Shape, values: Values) -> LinearOperator:
    if "mask" in values:
        mask = values["mask"].picture()
        mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
        return ops.Mask(mask, channels=shape[0])
    if "box" in values:
        return ops.Mask(ops.box_mask(shape, values["box"]))
    return ops.Mask(ops.random_mask(shape, values["keep"], seed=values.get("pattern_seed", 0)))


def _fourier(shape: Shape, values: Values) -> LinearOperator:
    size, seed = shape[1:], values.get("pattern_seed", 0)
    if "mask" in values:
        mask = values["mask"].picture()
        mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
    elif "spokes" in values:
        mask = ops.radial_mask(size, values["spokes"])
    else:
        centre = _without_none(centre=values.get("centre_share"))
        mask = ops.cartesian_mask(size, values["acceleration"], seed=seed, **centre)
    coils = values["coils"].tensor() if "coils" in values else None
    return ops.FourierSampling(mask, coils=coils, real=shape[0] == 1)


def _greyscale(shape: Shape, values: Values) -> LinearOperator:
    return ops.Greyscale(shape, **_without_none(weights=values.get("colour_weights")))


def _demosaicing(shape: Shape, values: Values) -> LinearOperator:
    return ops.Demosaicing(shape, **values)


def _structured_random(shape: Shape, values: Values) -> LinearOperator:
    return ops.StructuredRandom(shape, values["measurements"], seed=values.get("pattern_seed", 0))


def _phase_retrieval(shape: Shape, values: Values) -> Operator:
    settings = dict(values)
    count, seed = settings.pop("codes", None), settings.pop("pattern_seed", 0)
    if count is not None:
        settings["codes"] = ops.random_codes(count, shape[1:], seed=seed)
    return ops.PhaseRetrieval(shape, complex_image=shape[0] == 2, **settings)


def _unpadded(sides: tuple[int, int], values: Values) -> tuple[int, int] | None:
    found = [side / values.get("oversampling", 2.0) for side in sides]
    if any(side != int(side) for side in found):
        return None
    return int(found[0]), int(found[1])


def _clipping(shape: Shape, values: Values) -> Operator:
    return ops.Clipping(shape, **values)


def _quantization(shape: Shape, values: Values) -> Operator:
    return ops.Quantization(shape, values["step"])


def _matrix(shape: tuple[int, ...], values: Values) -> LinearOperator:
    found, columns = _matrix_of(values["matrix"]), math.prod(shape)
    if found.ndim != 2 or found.shape[1] != columns:
        raise ValueError(
            f"--matrix {values['matrix'].path}: has shape {tuple(found.shape)}, and images of "
            f"shape {shape} need (measurements, {columns})"
        )
    if len(shape) == 1 and isinstance(found, torch.Tensor):
        return ops.MatrixOperator(found)
    plain = found.numpy() if isinstance(found, torch.Tensor) else found
    return ops.from_scipy(plain, domain_shape=shape)


def _matrix_of(file: Stored) -> Any:
    """Dense as a tensor, sparse as scipy has it."""
    from scipy import sparse

    if file.path.suffix == ".npz" and file.key is None:
        try:
            return sparse.load_npz(file.path)
        except ValueError:  # an ordinary one
            pass
    return file.tensor()


def _same(sides: tuple[int, int], values: Values) -> tuple[int, int]:
    return sides


def _scan_of(shape: tuple[int, ...]) -> dict[str, Any]:
    if len(shape) < 2:
        return {}
    return {"angles": shape[-2], "detectors": shape[-1]}


def _count_of(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"measurements": shape[-1]} if shape else {}


def _all(channels: int) -> int:
    return channels


def _one(channels: int) -> int:
    return 1


_NO_IMAGE = (
    "A sinogram has a row for each angle and a column for each bin; a reconstructed image is none, "
    "and `simulate` makes one of it"
)
_SCAN = ("angles", "detectors", "geometry", "pixel-size", "detector-spacing", "source-distance",
         "detector-distance", "detector-offset", "centre", "angle-offset", "storage")  # fmt: skip
_KERNEL = ("width", "width-across", "length", "angle", "shake", "kernel", "kernel-size", "padding")

INSTRUMENTS: dict[str, Instrument] = {
    "tomography": Instrument(
        "line integrals of an image, a sinogram (angles, detectors)", ("Tomography",),
        _tomography, _SCAN, (), "--angles 30 --geometry fan",
        of_measurement=_scan_of, hint=_NO_IMAGE,
    ),
    "transmission": Instrument(
        "expected counts of X-rays behind an object, photons * exp(-line integral)",
        ("Transmission",), _transmission, (*_SCAN, "photons"), (("photons",),),
        "--angles 30 --photons 1e4 --noise poisson", of_measurement=_scan_of, hint=_NO_IMAGE,
    ),
    "blur": Instrument(
        "convolution with a Gaussian, a motion, or a kernel from a file",
        ("Blur", "gaussian_kernel", "motion_kernel"), _blur, _KERNEL,
        (("width", "length", "shake", "kernel"),), "--width 2", _blurred_sides, channels=_all,
        only_with={
            "width-across": ("width",),
            "angle": ("length", "width-across"),
            "kernel-size": ("width", "length", "shake"),
        },
        then_needs={"length": ("angle",)},
    ),
    "blind-blur": Instrument(
        "convolution with an unknown kernel, drawn with each sample", ("BlindBlur",), _blind_blur,
        ("kernel-size", "contrast", "smoothness", "centring"), (), "--kernel-size 15", _same,
        channels=_all,
    ),
    "downsampling": Instrument(
        "a smaller image of the same field", ("Downsampling",), _downsampling,
        ("factor", "filter", "boundary"), (("factor",),), "--factor 4", _enlarged, channels=_all,
    ),
    "mask": Instrument(
        "some pixels, zeros elsewhere", ("Mask", "random_mask", "box_mask"), _mask,
        ("mask", "keep", "box", "pattern-seed"), (("mask", "keep", "box"),),
        "--mask seen.png", _same, channels=_all, only_with={"pattern-seed": ("keep",)},
    ),
    "fourier-sampling": Instrument(
        "MRI: k-space where the mask is 1, origin in the centre",
        ("FourierSampling", "cartesian_mask", "radial_mask"), _fourier,
        ("mask", "acceleration", "centre-share", "spokes", "pattern-seed", "coils"),
        (("mask", "acceleration", "spokes"),), "--mask scan.npz:mask --coils scan.npz:coils", _same,
        only_with={"centre-share": ("acceleration",), "pattern-seed": ("acceleration",)},
    ),
    "greyscale": Instrument(
        "a grey image of a colour one", ("Greyscale",), _greyscale, ("colour-weights",), (), "",
        _same, channels=_one,
    ),
    "demosaicing": Instrument(
        "a raw camera image, one colour a pixel", ("Demosaicing",), _demosaicing, ("pattern",), (),
        "--pattern RGGB", _same, channels=_one,
    ),
    "structured-random": Instrument(
        "compressed sensing: random coefficients of a scrambled image", ("StructuredRandom",),
        _structured_random, ("measurements", "pattern-seed"), (), "--measurements 1000",
        of_measurement=_count_of,
    ),
    "phase-retrieval": Instrument(
        "magnitudes of an oversampled Fourier transform", ("PhaseRetrieval", "random_codes"),
        _phase_retrieval, ("oversampling", "codes", "pattern-seed", "intensity"), (),
        "--codes 4 --oversampling 1", _unpadded, only_with={"pattern-seed": ("codes",)},
    ),
    "clipping": Instrument(
        "values cut off at the ends of a range", ("Clipping",), _clipping, ("low", "high"), (),
        "--low 0 --high 0.8", _same, channels=_all,
    ),
    "quantization": Instrument(
        "values rounded to steps", ("Quantization",), _quantization, ("step",), (("step",),),
        "--step 0.1", _same, channels=_all,
    ),
    "matrix": Instrument(
        "products with a matrix from a file, of the image row by row",
        ("MatrixOperator", "from_scipy"), _matrix, ("matrix",), (("matrix",),),
        "--matrix system.npz",
    ),
}  # fmt: skip
