"""Instruments of ASTRA (Van Aarle et al. 2016) and mri-nufft, with adjoints that are held to it.

Both packages compute on arrays of their own, image by image, mostly in single precision; results
have the dtype and device of the tensor that came in, and gradients flow through both products.  An
adjoint that is not the adjoint would bend every draw, so it is compared on random numbers.

ASTRA is imported inside the function that needs it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import flag
from tweedie_inverse.numerics.autograd import linear_map
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.checks import refuse_unmatched
from tweedie_inverse.operators.noise.base import NoiseModel

Product = Callable[[np.ndarray], np.ndarray]


class Foreign(LinearOperator):
    """Products of arrays, one image at a time; made by `from_astra` and `from_mri_nufft`.

    Raises:
        ValueError: the second product is not the adjoint of the first.
    """

    def __init__(
        self,
        name: str,
        forward: Product,
        adjoint: Product,
        domain_shape: Sequence[int],
        range_shape: Sequence[int],
        noise: NoiseModel | None,
        *,
        settings: Any,
        is_complex: tuple[bool, bool] = (False, False),
        cure: str = "",
    ):
        super().__init__(domain_shape=domain_shape, range_shape=range_shape, noise=noise)
        self._name, self._products = name, (forward, adjoint)
        self.settings = settings  # what tells this instrument from another, for checksums
        self.domain_is_complex, self.range_is_complex = is_complex
        refuse_unmatched(name, self, cure)

    def forward(self, x: Tensor) -> Tensor:
        return linear_map(x, self._forward, self._adjoint)

    def adjoint(self, y: Tensor) -> Tensor:
        return linear_map(y, self._adjoint, self._forward)

    def _forward(self, x: Tensor) -> Tensor:
        return self._each(x, self._products[0], self.range_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._each(y, self._products[1], self.domain_shape)

    @staticmethod
    def _each(x: Tensor, product: Product, shape: tuple[int, ...]) -> Tensor:
        # Copies: foreign code may write to its argument, and its result to the next one's place.
        found = [np.array(product(one)) for one in x.detach().cpu().double().numpy().copy()]
        return torch.from_numpy(np.stack(found)).to(x).reshape(len(x), *shape)

    def __repr__(self) -> str:
        return f"{self._name}({self.domain_shape} -> {self.range_shape})"


def from_astra(
    projection: dict[str, Any],
    volume: dict[str, Any],
    *,
    projector: str | None = None,
    noise: NoiseModel | None = None,
) -> LinearOperator:
    """Projections of a geometry of ASTRA, in two or three dimensions.

    Two dimensions: images ``(1, rows, columns)``, measurements ``(1, angles, detectors)``.  Three
    dimensions, as cone beam: volumes ``(1, slices, rows, columns)``, measurements ``(1, detector
    rows, angles, detector columns)``; they need a CUDA device, which ASTRA has no CPU code for, and
    its back projection there is not the adjoint: `from_diffct` is for cone beam.

    Args:
        projection: of `astra.create_proj_geom`.
        volume: of `astra.create_vol_geom`.
        projector: ASTRA's name of the discretization, such as ``"line"``, ``"strip"``,
            ``"linear"`` or ``"cuda3d"``; default ``"strip"`` for two dimensions, with the suffix
            of the geometry, and ``"cuda3d"`` for three.  All of those that run on the CPU are
            matched: their adjoint is the transpose.

    Raises:
        ImportError: ASTRA is not installed.
        TypeError, ValueError: no geometries; three dimensions without CUDA; a projector that ASTRA
            does not know, or whose adjoint is not the adjoint.
    """
    try:
        import astra
    except ImportError as error:
        raise ImportError(
            "from_astra: needs ASTRA: pip install 'tweedie-inverse[ct]'" + f" ({error})"
        ) from error
    for name, given in (("projection", projection), ("volume", volume)):
        if not isinstance(given, dict) or (name == "projection" and "type" not in given):
            made = "create_proj_geom" if name == "projection" else "create_vol_geom"
            raise TypeError(
                f"from_astra({name}=): needs a geometry of ASTRA, which {made} makes, got "
                f"{type(given).__name__}"
            )
    kind = projection["type"]
    is_solid = "GridSliceCount" in volume
    if is_solid != (kind.startswith("parallel3d") or kind.startswith(("cone", "cyl_cone"))):
        raise ValueError(
            f"from_astra: a {kind!r} geometry and a volume of {3 if is_solid else 2} dimensions do "
            "not fit"
        )
    chosen = _projector(kind, is_solid) if projector is None else projector
    # Without a device ASTRA ends the whole program.
    if "cuda" in chosen and not astra.use_cuda():
        raise ValueError(
            f"from_astra(projector={chosen!r}): ASTRA sees no CUDA device here, and has no CPU "
            "code for three dimensions: ops.from_diffct has cone beam; slices of parallel beam are "
            "ops.slicewise(ops.Tomography(...), depth)"
        )
    try:
        number = astra.create_projector(chosen, projection, volume)
    except Exception as error:
        raise ValueError(
            f"from_astra(projector={chosen!r}): ASTRA refuses it for a {kind!r} geometry ({error})"
        ) from error
    matrix = astra.OpTomo(number)
    return Foreign(
        "from_astra",
        lambda x: matrix.FP(np.ascontiguousarray(x[0], dtype=np.float32)),
        lambda y: matrix.BP(np.ascontiguousarray(y[0], dtype=np.float32)),
        (1, *matrix.vshape),
        (1, *matrix.sshape),
        noise,
        settings=(chosen, projection, volume),
        cure="; take another projector: those on the CPU are matched, and for three dimensions "
        "ops.from_diffct is",
    )


def _projector(kind: str, is_solid: bool) -> str:
    if is_solid:
        return "cuda3d"
    return "strip_fanflat" if kind.startswith("fanflat") else "strip"


def from_mri_nufft(
    operator: Any, *, real: bool = False, noise: NoiseModel | None = None
) -> LinearOperator:
    """Non-Cartesian MRI: a Fourier operator of mri-nufft, of one coil or with sensitivities.

    Images are ``(2, *operator.shape)``, real and imaginary part, measurements ``(2, samples)``, or
    ``(2, coils, samples)``; complex arrays are taken as well.  The scale is that of mri-nufft.

    Args:
        operator: such as ``mrinufft.get_operator("finufft")(samples, shape, n_coils=8,
            smaps=maps, density=False)``.
        real: the image is real, ``(1, *operator.shape)``, as a prior of grey images needs it.

    Raises:
        TypeError: not such an operator.
        ValueError: density compensation, whose adjoint is none; several coils without
            sensitivities; several batches.
    """
    flag("from_mri_nufft", "real", real)
    needed = ("op", "adj_op", "shape", "n_samples", "n_coils", "cpx_dtype")
    if not all(hasattr(operator, name) for name in needed):
        raise TypeError(
            "from_mri_nufft: needs a Fourier operator of mri-nufft, such as mrinufft.get_operator("
            f"'finufft')(samples, shape), got {type(operator).__name__}"
        )
    if getattr(operator, "uses_density", False):
        raise ValueError(
            "from_mri_nufft: this operator compensates for the density of its samples, so that its "
            "adj_op is not the adjoint of op; make it with density=False"
        )
    if getattr(operator, "n_batchs", 1) != 1:
        raise ValueError("from_mri_nufft: needs an operator with n_batchs=1; batches come of y")
    coils, dtype = int(operator.n_coils), operator.cpx_dtype
    if coils > 1 and not getattr(operator, "uses_sense", False):
        raise ValueError(
            f"from_mri_nufft: {coils} coils need their sensitivities, smaps=; "
            "ops.estimate_coil_maps finds them in k-space that is sampled in the middle"
        )
    shape = tuple(int(n) for n in operator.shape)
    planes = (coils,) if coils > 1 else ()

    def forward(x: np.ndarray) -> np.ndarray:
        image = x[0] + 1j * (0 if real else x[1])
        y = np.asarray(operator.op(image.astype(dtype)))
        return np.stack([y.real, y.imag])

    def adjoint(y: np.ndarray) -> np.ndarray:
        image = np.asarray(operator.adj_op((y[0] + 1j * y[1]).astype(dtype)))
        return image.real if real else np.stack([image.real, image.imag])

    return Foreign(
        "from_mri_nufft",
        forward,
        adjoint,
        (1 if real else 2, *shape),
        (2, *planes, int(operator.n_samples)),
        noise,
        settings=[getattr(operator, name, None) for name in ("samples", "smaps", "norm_factor")],
        is_complex=(not real, True),
    )
