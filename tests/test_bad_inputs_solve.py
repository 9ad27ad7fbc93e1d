"""Bad inputs: the arguments of `solve`."""

import math

import numpy as np
import pytest
import torch

from tests.bad_inputs import (
    Y,
    exact,
    solve,
)

TABLE = [
    (
        lambda: solve(y="y.npy"),
        ("solve(y=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: solve(y=None),
        ("solve(y=): needs a tensor or an array of numbers, got NoneType"),
    ),
    (
        lambda: solve(y=Y.half()),
        (
            "solve: needs float32 or float64, got torch.float16; use .float(): sums over an image"
            " lose all digits in half precision"
        ),
    ),
    (
        lambda: solve(y=Y.bfloat16()),
        (
            "solve: needs float32 or float64, got torch.bfloat16; use .float(): sums over an "
            "image lose all digits in half precision"
        ),
    ),
    (
        lambda: solve(y=Y.long()),
        ("solve: needs float32 or float64, got torch.int64; convert it first, to the data's units"),
    ),
    (
        lambda: solve(y=(255 * Y.abs()).byte()),
        (
            "solve: needs float32 or float64, got torch.uint8; for a picture of 0 to 255, "
            "ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: solve(y=Y.to(torch.complex64)),
        (
            "solve: needs float32 or float64, got torch.complex64; real and imaginary parts are "
            "two channels"
        ),
    ),
    (
        lambda: solve(y=Y[:, 0, :7]),
        (
            "solve: Mask((1, 8, 8) -> (1, 8, 8)) gives measurements of shape (1, 8, 8); y must be"
            " one of them or (batch, 1, 8, 8), got (2, 7, 8)"
        ),
    ),
    (
        lambda: solve(y=Y[:, 0]),
        (
            "solve: Mask((1, 8, 8) -> (1, 8, 8)) gives measurements of shape (1, 8, 8); y must be"
            " one of them or (batch, 1, 8, 8), got (2, 8, 8); a batch without channels needs "
            "their axis too, such as x[:, None]"
        ),
    ),
    (
        lambda: solve(y=Y.movedim(1, -1).numpy()),
        (
            "solve: Mask((1, 8, 8) -> (1, 8, 8)) gives measurements of shape (1, 8, 8); y must be"
            " one of them or (batch, 1, 8, 8), got (2, 8, 8, 1); that looks like (height, width, "
            "channels): ti.as_image puts the channels first"
        ),
    ),
    (
        lambda: solve(y=Y[:0]),
        (
            "solve: Mask((1, 8, 8) -> (1, 8, 8)) gives measurements of shape (1, 8, 8); y must be"
            " one of them or (batch, 1, 8, 8), got (0, 1, 8, 8), a batch of none"
        ),
    ),
    (
        lambda: solve(y=Y * math.nan),
        (
            "solve: y holds 128 NaN or infinite entries of 128, the first at index (0, 0, 0, 0). "
            "Leave missing data out with ops.Mask, or repair them"
        ),
    ),
    (
        lambda: solve(y=np.array(["a"])),
        ("solve(y=): needs a tensor or an array of numbers, got an array of text"),
    ),
    (
        lambda: solve(y=np.array([{}], dtype=object)),
        ("solve(y=): needs a tensor or an array of numbers, got an array of object"),
    ),
    (
        lambda: solve(method="magic"),
        (
            "solve(method='magic'): choose 'auto', 'decoupled', 'langevin' or 'particle', or pass"
            " a walk such as ti.walks.Langevin(step_size=0.2)"
        ),
    ),
    (
        lambda: solve(method=7),
        (
            "solve(method=7): choose 'auto', 'decoupled', 'langevin' or 'particle', or pass a "
            "walk such as ti.walks.Langevin(step_size=0.2)"
        ),
    ),
    (
        lambda: solve(num_samples=0),
        ("solve(num_samples=0): needs at least one sample"),
    ),
    (
        lambda: solve(num_samples=2.0),
        ("solve(num_samples=2.0): needs at least one sample, a whole number"),
    ),
    (
        lambda: solve(num_samples=True),
        ("solve(num_samples=True): needs at least one sample, a whole number"),
    ),
    (
        lambda: solve(num_samples="16"),
        ("solve(num_samples='16'): needs at least one sample, a whole number"),
    ),
    (
        lambda: solve(steps=0),
        ("solve(steps=0): needs at least one network evaluation"),
    ),
    (
        lambda: solve(steps=-1),
        ("solve(steps=-1): needs at least one network evaluation"),
    ),
    (
        lambda: solve(steps=2.5),
        ("solve(steps=2.5): needs at least one network evaluation, a whole number"),
    ),
    (
        lambda: solve(seed=0.7),
        ("solve(seed=0.7): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed="a"),
        ("solve(seed='a'): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=2**64),
        ("solve(seed=18446744073709551616): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=-1),
        ("solve(seed=-1): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=True),
        ("solve(seed=True): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=None),
        ("solve(seed=None): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=[1, 2, 3]),
        ("solve(seed=): needs one integer, or one for each of 2 measurements, got 3"),
    ),
    (
        lambda: solve(seed=[1, 0.5]),
        ("solve(seed=0.5): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(batch_size=0),
        ("solve(batch_size=0): needs a positive number of walkers"),
    ),
    (
        lambda: solve(batch_size=1.5),
        ("solve(batch_size=1.5): needs a positive number of walkers, a whole number"),
    ),
    (
        lambda: solve(progress="yes"),
        ("solve(progress='yes'): needs True or False"),
    ),
    (
        lambda: solve(callback=3),
        ("solve(callback=): needs a function, got int"),
    ),
    (
        lambda: solve(y=Y.to_sparse()),
        ("solve(y=): needs a dense tensor of numbers, got a sparse tensor; use .to_dense()"),
    ),
    (
        lambda: solve(y=Y.to("meta")),
        (
            "solve(y=): is on the meta device, which holds no numbers; move it to the CPU "
            "or to an accelerator"
        ),
    ),
]


@pytest.mark.parametrize(("call", "sentence"), TABLE, ids=range(len(TABLE)))
def test_a_bad_input_gets_its_sentence(call, sentence):
    exact(call, sentence)


def test_no_row_is_lost():
    assert len(TABLE) >= 30
