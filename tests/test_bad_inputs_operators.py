"""Bad inputs: operators in general, and noise models."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.bad_inputs import (
    IMAGE,
    MASK,
    MRI,
    NOISE,
    PICTURE,
    S,
    Y,
    exact,
    nonlinear,
)
from tweedie_inverse import operators as ops

TABLE = [
    (
        lambda: MASK.forward(IMAGE),
        (
            "Mask.forward: needs shape (batch, 1, 8, 8), got (1, 8, 8); a single one needs a "
            "batch axis too, such as x[None]"
        ),
    ),
    (
        lambda: MASK.forward(IMAGE[None].byte()),
        (
            "Mask.forward: needs float32 or float64, got torch.uint8; for a picture of 0 to 255, "
            "ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: MASK.forward(PICTURE),
        (
            "Mask.forward: needs float32 or float64, got torch.uint8; for a picture of 0 to 255, "
            "ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: MASK.measure(IMAGE[:, :7]),
        ("Mask.measure: needs images of shape (batch, 1, 8, 8), or one of them, got (1, 7, 8)"),
    ),
    (
        lambda: MASK.measure(IMAGE, seed=0.5),
        ("Mask.measure(seed=0.5): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: MASK.adjoint(IMAGE[None].half()),
        (
            "Mask.adjoint: needs float32 or float64, got torch.float16; use .float(): sums over "
            "an image lose all digits in half precision"
        ),
    ),
    (
        lambda: MRI.adjoint(np.zeros((1, 7, 8), complex)),
        ("FourierSampling.adjoint: needs shape (batch, 2, 8, 8), got (1, 7, 8)"),
    ),
    (
        lambda: ops.StructuredRandom(S, 0),
        ("StructuredRandom(measurements=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ops.GaussianNoise(True),
        ("GaussianNoise(std=True): needs a number, got a truth value"),
    ),
    (
        lambda: ops.GaussianNoise(1j),
        (
            "GaussianNoise(std=): needs real numbers, got torch.complex128; the imaginary part "
            "would be lost"
        ),
    ),
    (
        lambda: ops.GaussianNoise(0.0),
        (
            "GaussianNoise(std=0.0): needs a positive, finite standard deviation in units of y; "
            "for nearly noise-free data use a small one, such as 1e-3 of the data range"
        ),
    ),
    (
        lambda: ops.GaussianNoise("loud"),
        ("GaussianNoise(std=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ops.PoissonNoise(0),
        ("PoissonNoise(gain=0): needs a positive, finite number, in units of y"),
    ),
    (
        lambda: ops.PoissonNoise(np.ones(2)),
        (
            "PoissonNoise(gain=ndarray of shape (2,)): needs a positive, finite number, in units "
            "of y"
        ),
    ),
    (
        lambda: ops.PoissonGaussianNoise(1.0, math.nan),
        ("PoissonGaussianNoise(std=nan): needs a positive, finite number, in units of y"),
    ),
    (
        lambda: ops.DigitizedNoise(0.1, step="a"),
        ("DigitizedNoise(step='a'): needs a number"),
    ),
    (
        lambda: ops.scale(MASK, 0),
        ("scale(factor=0.0): needs a finite factor other than 0"),
    ),
    (
        lambda: ops.estimate_noise("y"),
        ("estimate_noise(y=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ops.LinearOperator.from_function(torch.abs, (1, 0, 8)),
        (
            "from_function(domain_shape=(1, 0, 8)): needs positive sizes, without the batch axis,"
            " such as (1, 64, 64)"
        ),
    ),
    (
        lambda: ops.LinearOperator.from_function(torch.abs, (1, 8.0, 8)),
        (
            "from_function(domain_shape=(1, 8.0, 8)): needs positive sizes, without the batch "
            "axis, such as (1, 64, 64)"
        ),
    ),
    (
        lambda: MASK.forward(Image.new("L", (8, 8))),
        (
            "Mask.forward(x=): got a picture of PIL; ti.as_image(array, value_range=(low, high)) "
            "makes an image of it"
        ),
    ),
    (
        lambda: ops.compose([MASK, MASK]),
        ("compose(operators=): needs operators, as in compose(A, B), got list"),
    ),
    (
        lambda: ops.stack(MASK, None),
        ("stack(operators=): needs operators, as in stack(A, B), got NoneType"),
    ),
    (
        lambda: ops.scale("A", 2.0),
        ("scale(operator=): needs a linear operator, got str"),
    ),
    (
        lambda: ops.scale(ops.Clipping(S), 2.0),
        (
            "scale(operator=): needs a linear operator, got Clipping((1, 8, 8) -> (1, 8, "
            "8)), which is not linear"
        ),
    ),
    (
        lambda: ops.transpose(ops.Clipping(S)),
        (
            "transpose(operator=): needs a linear operator, got Clipping((1, 8, 8) -> (1, "
            "8, 8)), which is not linear"
        ),
    ),
    (
        lambda: ops.per_image([MASK, 3]),
        ("per_image(operators=): needs a list of operators, got int"),
    ),
    (
        lambda: ops.adjoint_error(ops.Clipping(S)),
        (
            "adjoint_error(operator=): needs a linear operator, got Clipping((1, 8, 8) -> "
            "(1, 8, 8)), which is not linear"
        ),
    ),
    (
        lambda: ops.adjoint_error(MASK, dtype=torch.int64),
        ("adjoint_error(dtype=torch.int64): needs torch.float32 or torch.float64"),
    ),
    (
        lambda: ops.operator_norm(MASK, tolerance="a"),
        ("operator_norm(tolerance='a'): needs a number"),
    ),
    (
        lambda: ops.operator_norm(MASK, seed=-1),
        ("operator_norm(seed=-1): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ops.dense_matrix(ops.Mask(torch.ones(1, 200, 200))),
        (
            "dense_matrix: Mask((1, 200, 200) -> (1, 200, 200)) has 1.6e+09 entries, more "
            "than 1.1e+09; use forward and adjoint, or a smaller image"
        ),
    ),
    (
        lambda: ops.linearity_error(None),
        ("linearity_error(operator=): needs an operator, got NoneType"),
    ),
    (
        lambda: ops.from_pylops(np.ones((3, 3))),
        (
            "from_pylops: needs a PyLops operator, which has dims and dimsd; got ndarray. "
            "Other linear operators come in by from_scipy"
        ),
    ),
    (
        lambda: ops.from_scipy(np.ones((3, 64)) * math.nan),
        (
            "from_scipy(operator=): holds 192 NaN or infinite entries of 192, the first at "
            "index (0, 0)"
        ),
    ),
    (
        lambda: ops.from_scipy(np.ones((3, 64)), domain_shape=(1, 8.0, 8)),
        (
            "from_scipy(domain_shape=(1, 8.0, 8)): needs positive sizes, without the batch "
            "axis, such as (1, 64, 64)"
        ),
    ),
    (
        lambda: ops.Operator.from_function(3, S, range_shape=S),
        ("from_function(function=3): needs a function"),
    ),
    (
        lambda: ops.LinearOperator.from_function(torch.neg, S, adjoint="a"),
        ("from_function(adjoint='a'): needs a function"),
    ),
    (
        lambda: ops.Operator.from_function(torch.neg, (1, 2**40, 2**20), range_shape=S),
        (
            "from_function(domain_shape=(1, 1099511627776, 1048576)): more numbers than "
            "any memory holds"
        ),
    ),
    (
        lambda: ops.Demosaicing((3, 8, 8), pattern=3),
        (
            "Demosaicing(pattern=3): needs four letters out of R, G and B, row by row of a "
            "2x2 tile, such as 'RGGB'"
        ),
    ),
    (
        lambda: ops.GaussianNoise(0.1, basis="a"),
        ("GaussianNoise(basis=): needs a basis such as ops.spectral.Fourier(), got str"),
    ),
    (
        lambda: NOISE.sample("a"),
        ("sample(ax=): needs measurements (batch, ...) in a tensor of floats, got str"),
    ),
    (
        lambda: NOISE.sample(Y.long()),
        ("sample(ax=): needs measurements (batch, ...) in a tensor of floats, got torch.int64"),
    ),
    (
        lambda: NOISE.log_prob(Y, Y[..., :4]),
        (
            "GaussianNoise.log_prob(y, ax): needs measurements of one shape, got (2, 1, 8, "
            "8) and (2, 1, 8, 4)"
        ),
    ),
    (
        lambda: NOISE.scaled("a"),
        ("GaussianNoise.scaled(factor='a'): needs a number"),
    ),
    (
        lambda: MASK.forward(Y.to_sparse()),
        ("Mask.forward(x=): needs a dense tensor of numbers, got a sparse tensor; use .to_dense()"),
    ),
    (
        lambda: MASK.measure(Y.to("meta")),
        (
            "Mask.measure(x=): is on the meta device, which holds no numbers; move it to "
            "the CPU or to an accelerator"
        ),
    ),
    (
        lambda: MASK.measure(np.ma.masked_array(Y.numpy(), Y.numpy() > 0)),
        (
            "Mask.measure(x=): is a masked array, and a mask would be lost; fill it, and "
            "leave missing data out with ops.Mask"
        ),
    ),
    (
        lambda: MASK.measure(Y * math.nan),
        (
            "Mask.measure(x=): holds 128 NaN or infinite entries of 128, the first at "
            "index (0, 0, 0, 0)"
        ),
    ),
    (
        lambda: nonlinear(torch.sqrt).measure(-Y.abs() - 1),
        (
            "Function.forward() is not finite: it gave NaN at 128 of 128 entries, the "
            "first at index (0, 0, 0, 0), where its argument is -1.74; look for NaN in "
            "what it is made of: weights, a kernel, a matrix"
        ),
    ),
    (
        lambda: MASK.least_squares(Y, iterations=2.0),
        ("Mask.least_squares(iterations=2.0): needs a whole number of at least 1"),
    ),
]


@pytest.mark.parametrize(("call", "sentence"), TABLE, ids=range(len(TABLE)))
def test_a_bad_input_gets_its_sentence(call, sentence):
    exact(call, sentence)


def test_no_row_is_lost():
    assert len(TABLE) >= 50
