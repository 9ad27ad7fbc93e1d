"""Tweedie's relatives, covariances, random streams: plain formulas."""

import pytest
import torch

from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.numerics.krylov import conjugate_gradient
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines, Dense, Fourier, Pixels
from tweedie_inverse.priors import tweedie

X0, N = normal((1,), (4, 6)), normal((2,), (4, 6))


@pytest.mark.parametrize("level", [1e-3, 0.5, 30.0])
def test_every_parameterization_gives_back_the_clean_image(level):
    """With the exact x0 and noise known, each target must return x0: catches a swapped sign."""
    sigma = torch.tensor(level, dtype=torch.float64)
    x, a = X0 + sigma * N, (1 + sigma**2).sqrt()
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(tweedie.denoised_from_epsilon(x, N, sigma), X0, **close)
    torch.testing.assert_close(tweedie.denoised_from_score(x, -N / sigma, sigma), X0, **close)
    v = (N - sigma * X0) / a  # alpha n - sigma' x0 of the variance-preserving path
    torch.testing.assert_close(tweedie.denoised_from_v(x, v, sigma), X0, **close)
    torch.testing.assert_close(tweedie.denoised_from_flow(x, N - X0, sigma), X0, **close)


@pytest.mark.parametrize("name", ["score", "epsilon", "v", "flow"])
def test_round_trips(name):
    sigma = torch.tensor(0.7, dtype=torch.float64)
    there = getattr(tweedie, f"{name}_from_denoised")(X0 + sigma * N, X0, sigma)
    back = getattr(tweedie, f"denoised_from_{name}")(X0 + sigma * N, there, sigma)
    torch.testing.assert_close(back, X0)


def _bases():
    orthogonal = torch.linalg.qr(normal((3,), (60, 60))).Q
    mixing = torch.linalg.qr(normal((4,), (3, 3))).Q
    return {
        "pixels": Pixels(),
        "cosines": Cosines(),
        "mixed": Cosines(mixing),
        "fourier": Fourier(),
        "dense": Dense(orthogonal, (3, 4, 5)),
    }


@pytest.mark.parametrize("name", _bases())
def test_bases_are_orthonormal(name):
    basis, x, z = _bases()[name], normal((5,), (2, 3, 4, 5)), normal((6,), (2, 3, 4, 5))
    torch.testing.assert_close(basis.inverse(basis.transform(x)), x)
    product = (basis.transform(x) * basis.transform(z)).sum()
    torch.testing.assert_close(product, (x * z).sum())


def test_cosines_are_the_discrete_cosine_transform():
    from scipy.fft import dctn

    x = normal((7,), (1, 1, 6, 9))
    expected = torch.from_numpy(dctn(x[0, 0].numpy(), norm="ortho"))
    torch.testing.assert_close(Cosines().transform(x)[0, 0], expected)


def test_fourier_covariance_is_a_circular_convolution():
    spectrum = torch.fft.fft2(torch.fft.ifft2(normal((8,), (6, 6)).abs()).real).real + 3
    x = normal((9,), (1, 1, 6, 6))
    expected = torch.fft.ifft2(torch.fft.fft2(x) * spectrum).real
    torch.testing.assert_close(Covariance(Fourier(), spectrum).apply(x), expected)


def test_square_root_squared_is_the_covariance():
    covariance = Covariance(Cosines(), normal((1,), (1, 6, 6)).square())
    x = normal((9,), (2, 1, 6, 6))
    torch.testing.assert_close(covariance.colour(covariance.colour(x)), covariance.apply(x))
    torch.testing.assert_close(isotropic(4.0).apply(x), 4 * x)


def test_normal_numbers_differ_by_key_and_length_of_key():
    draws = [normal(key, (50,)) for key in [(0,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (-1,)]]
    for i, first in enumerate(draws):
        for second in draws[:i]:
            assert float((first - second).abs().max()) > 0.1


def test_conjugate_gradients_freeze_what_has_converged():
    """A system's solution must not depend on its neighbours, however ill-conditioned they are."""
    factor = normal((1,), (2, 30, 30))
    factor[1] *= torch.logspace(0, 2, 30).double()
    matrix = factor @ factor.mT + torch.eye(30).double()
    rhs = normal((2,), (2, 30))

    def solve(which, tolerance):
        return conjugate_gradient(
            lambda z: (matrix[which] @ z[..., None])[..., 0],
            rhs[which],
            tolerance=tolerance,
            max_iterations=500,
        )

    both, first = solve([0, 1], 1e-2), solve([0], 1e-2)
    assert both.iterations > first.iterations
    torch.testing.assert_close(both.solution[:1], first.solution, rtol=1e-9, atol=1e-9)
    exact = torch.linalg.solve(matrix, rhs)
    assert float((first.solution - exact[:1]).abs().max()) > 1e-6  # coarse: freezing shows
    torch.testing.assert_close(solve([0, 1], 1e-9).solution, exact, rtol=1e-5, atol=1e-6)
