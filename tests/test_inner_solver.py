"""The iterative draw of the linear-Gaussian kernel: how exact it is, and what it costs."""

from dataclasses import replace

import pytest
import torch

from tests import registry
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional import linear_gaussian, systems
from tweedie_inverse.conditional.linear_gaussian import conditional_draw, pull_of_data
from tweedie_inverse.conditional.preconditioner import preconditioner
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.krylov import Systems, conjugate_gradient
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.secant import secant
from tweedie_inverse.numerics.spectral import Chained, Channels, Cosines, Fourier

SIDE, WALKERS = 32, 2
SHAPE = (3, SIDE, SIDE)
MIXING = torch.linalg.qr(normal((9,), (3, 3)))[0]
BASIS = Cosines(MIXING)
OPERATORS = {
    "random mask": ops.Mask(ops.random_mask(SHAPE, 0.3, seed=1)),
    "hole": ops.Mask(ops.box_mask(SHAPE, (12, 12))),
    "blur": ops.Blur(ops.gaussian_kernel(1.5), SHAPE),
}


@pytest.mark.parametrize("padding", ["circular", "zero"])
def test_the_normal_product_of_a_blur_is_both_products(padding):
    operator = ops.Blur(ops.motion_kernel(9), SHAPE, padding=padding)
    x = normal((1,), (WALKERS, *SHAPE))
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.forward(x)))


def covariance():
    """Of a natural image, larger at some places, each walker with its own."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    variance = 10 / (1 + rows**2 + columns**2).double()
    scale = (0.5 * normal((5,), (WALKERS, 1, SIDE, SIDE))).exp()
    return Covariance(BASIS, variance, scale)


def problem_of(name):
    operator, noise = OPERATORS[name], ops.GaussianNoise(0.05)
    return Problem(normal((2,), (WALKERS, *operator.range_shape)), operator, noise)


def drawn(problem, covariance, **settings):
    white = normal((3,), (WALKERS, *SHAPE)), normal((4,), problem.y.shape)
    mean = torch.zeros(WALKERS, *SHAPE).double()
    return conditional_draw(mean, covariance, problem, *white, **settings)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("noise_after", [3.0, 0.3])
def test_errors_of_a_draw_are_hidden_by_the_noise_that_follows(name, noise_after):
    """Also those of the lowest frequencies, whose variance is the largest.

    The residual alone says little about errors within a hole: judged by it, the walk's samples had
    four times the standard deviation that they should have there.
    """
    problem, v = problem_of(name), covariance()
    exact, rough = drawn(problem, v), drawn(problem, v, noise_after=noise_after)
    assert exact.error <= linear_gaussian._EXACT
    assert rough.error <= linear_gaussian.TOLERANCE
    if noise_after > 1:
        assert rough.iterations < exact.iterations
    error = BASIS.transform(rough.x - exact.x) / noise_after
    for part in (error, error[..., :4, :4]):
        assert float(part.square().mean().sqrt()) < 5 * linear_gaussian.TOLERANCE


@pytest.mark.parametrize("name", ["hole", "blur"])
def test_a_pull_is_a_secant_pair_and_a_start(name):
    problem, v = problem_of(name), covariance()
    pull = pull_of_data(torch.zeros(WALKERS, *SHAPE).double(), v, problem)
    torch.testing.assert_close(pull.change, v.apply(pull.direction))
    pair = secant(pull.direction, 0.5 * pull.change, pull.change, 1e9)
    changed = v.with_secant(pair.secant)
    alone, begun = drawn(problem, changed), drawn(problem, changed, start=pull.start)
    spread = 3 * linear_gaussian._EXACT * v.variance.max().sqrt()
    assert float((alone.x - begun.x).square().mean().sqrt()) < float(spread)


@pytest.mark.parametrize("own", [False, True], ids=["one for all", "each its own"])
@pytest.mark.parametrize("basis", [BASIS, Fourier(), Chained(Channels(MIXING), Fourier())])
def test_the_lowest_frequencies_of_a_mask_are_inverted_together(basis, own):
    """Where V has no scale the block is exact; frequencies of a Fourier basis are on both sides."""
    problem, variance = problem_of("hole"), covariance().variance
    if own:
        variance = variance * torch.tensor([1.0, 2.0]).double()[:, None, None, None]
    v = Covariance(basis, variance)
    near = preconditioner(problem, v, torch.zeros(WALKERS, *SHAPE).double())
    rows, columns = near.block.rows, near.block.columns
    low = torch.zeros(WALKERS, *SHAPE).double()
    low[..., rows, columns] = normal((7,), (WALKERS, 3, len(rows)))
    seen = problem.gaussian_noise.whiten(problem.forward(v.filter(low)))
    pulled = problem.adjoint(problem.gaussian_noise.whiten_transposed(seen))
    product = low + v.filter_transposed(pulled)
    found = near.apply(product)[..., rows, columns]
    torch.testing.assert_close(found, low[..., rows, columns])
    assert preconditioner(problem, v, low) is near


@pytest.mark.parametrize("name", OPERATORS)
def test_channels_that_are_measured_alike_are_solved_one_by_one(name):
    """The same draws as of whole images, whose channels the solver cannot tell apart."""
    problem, v = problem_of(name), covariance()
    assert isinstance(systems.made(problem, v, problem.y), systems.Planes)
    alone = drawn(problem, v)
    whole = drawn(problem, replace(v, scale=v.scale.expand(WALKERS, *SHAPE)))
    spread = 3 * linear_gaussian._EXACT * v.variance.max().sqrt()
    assert float((alone.x - whole.x).square().mean().sqrt()) < float(spread)


def test_systems_that_are_done_are_not_computed_any_more():
    factor = normal((1,), (4, 30, 30)) * torch.tensor([0, 0.1, 0.3, 1.0]).double()[:, None, None]
    matrix, rhs = factor @ factor.mT + torch.eye(30).double(), normal((2,), (4, 30))
    sizes = []

    def of(kept):
        def apply(z):
            sizes.append(len(z))
            return (matrix[kept] @ z[..., None])[..., 0]

        return Systems(apply, of=lambda again: of(kept[again]))

    settings = {"tolerance": 1e-8, "max_iterations": 100}
    found = conjugate_gradient(of(torch.arange(4)), rhs, **settings)
    torch.testing.assert_close(found.solution, torch.linalg.solve(matrix, rhs))
    assert float(found.residual.max()) <= 1e-8
    assert found.worst == float(found.residual.max())
    assert len(sizes) == found.iterations
    assert set(sizes) == {4, 2, 1}
    whole = conjugate_gradient(of(torch.arange(4))._replace(of=None), rhs, **settings)
    torch.testing.assert_close(found.solution, whole.solution, rtol=1e-10, atol=1e-10)
    assert whole.iterations == found.iterations


@pytest.mark.parametrize("name", registry.OPERATORS)
def test_operators_that_treat_channels_alike_commute_with_mixing(name):
    operator = registry.OPERATORS[name]()
    if not (isinstance(operator, ops.LinearOperator) and operator.treats_channels_alike):
        return
    x = normal((1,), (1, *operator.domain_shape))
    mixing = torch.linalg.qr(normal((2,), (x.shape[1],) * 2))[0]
    mixed = torch.einsum("kc,bc...->bk...", mixing, x)
    expected = torch.einsum("kc,bc...->bk...", mixing, operator.normal(x))
    torch.testing.assert_close(operator.normal(mixed), expected)


def test_a_scale_that_is_the_same_for_all_channels_needs_no_mixing():
    v, x = covariance(), normal((6,), (WALKERS, *SHAPE))
    expected = BASIS.transform(v.scale * BASIS.inverse(x))
    torch.testing.assert_close(v.scaled(x), expected)
    each = replace(v, scale=v.scale * torch.tensor([1.0, 2.0, 3.0]).double()[:, None, None])
    torch.testing.assert_close(each.scaled(x), BASIS.transform(each.scale * BASIS.inverse(x)))
