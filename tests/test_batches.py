"""Every measurement of a batch is judged by itself."""

import torch

import tweedie_inverse as ti
from tests.solve_problems import FIELD, MASK, Y
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional.problem import residual_chi_square


def test_chi_square_is_against_the_measurement_of_the_samples():
    """Against another one it would be of the size of the signal over the noise, squared."""
    posterior = ti.solve(Y, MASK, FIELD, num_samples=3, steps=5)
    found = posterior.diagnostics.residual_chi_square
    for index, samples in enumerate(posterior.samples):
        expected = residual_chi_square(samples, Y[[index]], MASK, MASK.noise)
        torch.testing.assert_close(found[index], expected)
    assert float(found.max()) < 5


def test_chi_square_is_by_the_operator_of_the_samples():
    """Each image has a mask of its own."""
    masks = torch.stack([ops.random_mask((1, 8, 8), 0.4, seed=seed) for seed in range(2)])
    operator = ops.per_image([ops.Mask(mask, noise=MASK.noise) for mask in masks])
    y = operator.measure(FIELD.draw(2, seed=1), seed=2)
    posterior = ti.solve(y, operator, FIELD, num_samples=3, steps=5)
    for index, samples in enumerate(posterior.samples):
        own = operator.select(index)
        expected = residual_chi_square(samples, y[[index]], own, MASK.noise)
        torch.testing.assert_close(posterior.diagnostics.residual_chi_square[index], expected)
