"""Bad inputs: instruments."""

import math

import pytest
import torch

from tests.bad_inputs import (
    MASK,
    S,
    exact,
)
from tweedie_inverse import operators as ops

TABLE = [
    (
        lambda: ops.Mask(2 * torch.ones(8, 8)),
        (
            "Mask: needs zeros and ones of shape (height, width), (channels, height, width) or "
            "(channels, depth, height, width), got shape (1, 8, 8) with values in "
            "[2.0, 2.0]; for one mask an image use ops.per_image([ops.Mask(m) for m in masks])"
        ),
    ),
    (
        lambda: ops.Mask(torch.ones(8, 8) * 1j),
        ("Mask(mask=): needs real numbers, got torch.complex64; the imaginary part would be lost"),
    ),
    (
        lambda: ops.Mask(torch.ones(2, 8, 8), channels=3),
        (
            "Mask(channels=3): the mask has shape (2, 8, 8); leave channels= out, or give one "
            "plane (height, width) for all of them"
        ),
    ),
    (
        lambda: ops.Mask(torch.ones(8, 8), channels=0),
        ("Mask(channels=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ops.Blur(torch.full((3, 3), math.nan), S),
        ("Blur(kernel=): holds 9 NaN or infinite entries of 9, the first at index (0, 0)"),
    ),
    (
        lambda: ops.Blur(1j * torch.ones(3, 3), S),
        (
            "Blur(kernel=): needs real numbers, got torch.complex64; the imaginary part would be "
            "lost"
        ),
    ),
    (
        lambda: ops.Blur(torch.ones(3, 3), (8, 8)),
        (
            "Blur: needs image_shape (channels, height, width) or (channels, depth, height, "
            "width), positive sizes without the batch axis, got (8, 8)"
        ),
    ),
    (
        lambda: ops.Blur(torch.ones(3, 3), S, padding="mirror"),
        (
            "Blur(padding='mirror'): choose one of 'circular', 'valid', 'zero', 'reflect' or "
            "'replicate'"
        ),
    ),
    (
        lambda: ops.MatrixOperator(torch.tensor([[1.0, math.inf]])),
        (
            "MatrixOperator(matrix=): holds 1 NaN or infinite entries of 2, the first at index "
            "(0, 1)"
        ),
    ),
    (
        lambda: ops.MatrixOperator(1j * torch.ones(2, 2)),
        (
            "MatrixOperator(matrix=): needs real numbers; ops.from_scipy takes a complex matrix, "
            "whose measurements are real parts, then imaginary parts"
        ),
    ),
    (
        lambda: ops.Downsampling(S, math.nan),
        ("Downsampling(factor=nan): needs a finite number"),
    ),
    (
        lambda: ops.Downsampling(S, 2, kernel="sinc"),
        ("Downsampling(kernel='sinc'): choose one of 'bicubic', 'lanczos' or 'block_mean'"),
    ),
    (
        lambda: ops.Tomography(S, 1j * torch.ones(3)),
        (
            "Tomography(angles=): needs real numbers, got torch.complex64; the imaginary part "
            "would be lost"
        ),
    ),
    (
        lambda: ops.Tomography(S, 2.5),
        ("Tomography(angles=): needs a count or a list of degrees, got ()"),
    ),
    (
        lambda: ops.Tomography(S, 4, detectors=0),
        ("Tomography(detectors=0): needs a positive count"),
    ),
    (
        lambda: ops.Tomography(S, True),
        ("Tomography(angles=True): needs at least one angle, a million at most, a whole number"),
    ),
    (
        lambda: ops.Tomography(S, 4, pixel_size="1 mm"),
        ("Tomography(pixel_size='1 mm'): needs a positive, finite length"),
    ),
    (
        lambda: ops.FourierSampling(torch.ones(8, 8), coils=torch.full((2, 8, 8), math.nan)),
        (
            "FourierSampling(coils=): holds 128 NaN or infinite entries of 128, the first at "
            "index (0, 0, 0)"
        ),
    ),
    (
        lambda: ops.FourierSampling(torch.ones(8, 8), real=1),
        ("FourierSampling(real=1): needs True or False"),
    ),
    (
        lambda: ops.PhaseRetrieval(S, oversampling=0.5),
        (
            "PhaseRetrieval: needs image_shape (channels, height, width) and oversampling of 1 or"
            " more, got (1, 8, 8) and 0.5"
        ),
    ),
    (
        lambda: ops.Quantization(S, 0.0),
        ("Quantization(step=0): needs a positive step, in units of x"),
    ),
    (
        lambda: ops.Clipping(S, low="a"),
        ("Clipping(low='a'): needs a number"),
    ),
    (
        lambda: ops.random_mask(S, 0),
        ("random_mask(keep=0): needs a share in (0, 1]"),
    ),
    (
        lambda: ops.random_mask(S, 0.5, seed=2**64),
        ("random_mask(seed=18446744073709551616): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ops.gaussian_kernel(1.0, 0),
        ("gaussian_kernel(size=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ops.gaussian_kernel(-1),
        ("gaussian_kernel(std=-1): needs a positive width in pixels"),
    ),
    (
        lambda: ops.motion_kernel(2),
        (
            "motion_kernel(size=2, length=0.6): needs 3 pixels or more a side, and a length in "
            "(0, 1] of them"
        ),
    ),
    (
        lambda: ops.radial_mask((8, 8), 0),
        ("radial_mask(spokes=0): needs at least one line"),
    ),
    (
        lambda: ops.Transmission(None, 10.0),
        ("Transmission(operator=): needs a linear operator, got NoneType"),
    ),
    (
        lambda: ops.Transmission(MASK, True),
        ("Transmission(photons=True): needs a number, got a truth value"),
    ),
    (
        lambda: ops.Blur(torch.zeros(3, 3), S),
        ("Blur(kernel=): has no entry other than 0, so that nothing is seen"),
    ),
    (
        lambda: ops.random_codes(2, (8, 8.0)),
        ("random_codes(size=(8, 8.0)): needs height and width, such as (64, 64)"),
    ),
    (
        lambda: ops.box_mask(S, (4, 4), corner=(1.0, 2)),
        ("box_mask(corner=1.0): needs a row and a column, a whole number"),
    ),
]


@pytest.mark.parametrize(("call", "sentence"), TABLE, ids=range(len(TABLE)))
def test_a_bad_input_gets_its_sentence(call, sentence):
    exact(call, sentence)


def test_no_row_is_lost():
    assert len(TABLE) >= 30
