"""Operators made of operators with one operator an image, and numbers that are truth values."""

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

SIZE, COUNT = 8, 3
SHAPE = (1, SIZE, SIZE)
NOISE = ops.GaussianNoise(0.1)
BLUR = ops.Blur(ops.gaussian_kernel(1.0), SHAPE)
MASKS = [ops.Mask(ops.random_mask(SHAPE, 0.5, seed=i)) for i in range(COUNT)]
EACH = ops.per_image(MASKS, noise=NOISE)
COMBINED = {
    "after": (ops.compose(EACH, BLUR), lambda mask: ops.compose(mask, BLUR)),
    "before": (ops.compose(BLUR, EACH, noise=NOISE), lambda mask: ops.compose(BLUR, mask)),
    "beside": (ops.stack(EACH, BLUR, noise=NOISE), lambda mask: ops.stack(mask, BLUR)),
    "scaled": (ops.scale(EACH, -2.0), lambda mask: ops.scale(mask, -2.0)),
    "transposed": (ops.transpose(EACH, noise=NOISE), ops.transpose),
    "nonlinear": (
        ops.compose(ops.Clipping(SHAPE, low=-0.5, high=0.5), EACH, noise=NOISE),
        lambda mask: ops.compose(ops.Clipping(SHAPE, low=-0.5, high=0.5), mask),
    ),
    "transmission": (
        ops.Transmission(EACH, 100.0, noise=NOISE),
        lambda mask: ops.Transmission(mask, 100.0),
    ),
}


@pytest.mark.parametrize("name", COMBINED)
def test_a_combination_selects_what_its_parts_select(name):
    """Catches a combination that drops the number of images: it would meet them one at a time."""
    combined, single = COMBINED[name]
    x = normal((1,), (COUNT, *SHAPE))
    assert combined.images == COUNT
    together = combined.forward(x)
    for index, mask in enumerate(MASKS):
        alone, expected = combined.select(index), single(mask)
        assert alone.images is None
        assert torch.equal(alone.forward(x[[index]]), together[[index]])
        assert torch.equal(expected.forward(x[[index]]), together[[index]])
        if expected.observed is not None:
            assert torch.equal(combined.observed[index], alone.observed)
            assert torch.equal(expected.observed, alone.observed)
    if isinstance(combined, ops.LinearOperator):
        assert ops.adjoint_error(combined) < 1e-12
        assert ops.linearity_error(combined) < 1e-12
        largest = max(ops.operator_norm(combined.select(index)) for index in range(COUNT))
        assert ops.operator_norm(combined) == pytest.approx(largest, rel=1e-2)


@pytest.mark.parametrize("name", ["after", "beside", "scaled"])
def test_solve_takes_a_combination_with_an_operator_for_each_image(name):
    """Every measurement is solved with its own mask: as it is when solved alone."""
    combined, _ = COMBINED[name]
    field = random_field(SIZE)
    y = combined.measure(field.draw(COUNT, seed=1), seed=2)
    options = {"num_samples": 2, "steps": 3}
    together = ti.solve(y, combined, field, seed=[4, 5, 6], **options)
    for index in range(COUNT):
        alone = ti.solve(
            y[index],
            combined.select(index),
            field,
            seed=[4 + index],
            noise=combined.noise,
            **options,
        )
        assert torch.equal(together.samples[index], alone.samples)


def test_different_numbers_of_images_are_refused():
    two = ops.per_image(MASKS[:2], noise=NOISE)
    for combine in (ops.compose, ops.stack):
        with pytest.raises(ValueError, match=r"each of \[2, 3\] images"):
            combine(EACH, two)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ops.GaussianNoise(True),
        lambda: ops.GaussianNoise(torch.ones(4) > 0),
        lambda: ops.PoissonNoise(True),
        lambda: ops.PoissonGaussianNoise(1.0, True),
        lambda: ops.DigitizedNoise(True),
        lambda: ops.DigitizedNoise(0.1, step=True),
        lambda: ops.scale(BLUR, True),
        lambda: ops.Blur(ops.gaussian_kernel(1.0), SHAPE, noise=True),
        lambda: ti.solve(torch.zeros(SHAPE), BLUR, random_field(SIZE), noise=True),
    ],
)
def test_a_truth_value_is_no_noise_level(make):
    with pytest.raises(TypeError, match=r"needs a n(umber|oise model)"):
        make()
