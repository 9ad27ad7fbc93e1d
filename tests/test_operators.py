"""Contract of every operator, and each against somebody else's implementation."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tweedie_inverse as ti
from tests.posteriors import agreement, gaussian_posterior
from tests.registry import OPERATORS
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]()


def images(operator, count=3):
    return normal((9,), (count, *operator.domain_shape))


def test_adjoint_and_linearity(operator):
    assert ops.adjoint_error(operator) < 1e-12
    assert ops.linearity_error(operator) < 1e-12


def test_adjoint_equals_autograd(operator):
    y = normal((8,), (2, *operator.range_shape))
    derived = ops.LinearOperator.adjoint(operator, y)
    torch.testing.assert_close(operator.adjoint(y), derived, rtol=1e-12, atol=1e-12)


def test_equals_its_dense_matrix(operator):
    x = images(operator)
    expected = x.flatten(1) @ ops.dense_matrix(operator).mT
    torch.testing.assert_close(operator.forward(x).flatten(1), expected, rtol=1e-12, atol=1e-12)
    norm = float(torch.linalg.matrix_norm(ops.dense_matrix(operator), 2))
    assert ops.operator_norm(operator, iterations=2000, tolerance=1e-9) == pytest.approx(
        norm, rel=1e-3
    )


def test_adjoint_in_single_precision(operator):
    assert ops.adjoint_error(operator, dtype=torch.float32) < 1e-5


def test_spectrum_is_the_singular_value_decomposition(operator):
    spectrum = operator.spectrum
    if spectrum is None:
        return
    x, y = images(operator), normal((8,), (3, *operator.range_shape))
    close = {"rtol": 1e-9, "atol": 1e-12}
    modes = spectrum.basis.transform(x)
    torch.testing.assert_close(spectrum.basis.inverse(modes), x, **close)
    torch.testing.assert_close(modes.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), **close)
    torch.testing.assert_close(
        spectrum.from_modes(spectrum.singular * modes), operator.forward(x), **close
    )
    back = spectrum.to_modes(y)
    torch.testing.assert_close(
        spectrum.basis.inverse(spectrum.singular * back), operator.adjoint(y), **close
    )
    torch.testing.assert_close(spectrum.to_modes(spectrum.from_modes(back)), back, **close)


def test_posterior_through_solve_is_the_closed_form(operator):
    """Every linear operator, on a dense Gaussian prior: mean and covariance by the textbook."""
    size = math.prod(operator.domain_shape)
    root = normal((11,), (size, size)) / size**0.5
    prior = ti.priors.Gaussian(
        normal((12,), operator.domain_shape), covariance=root @ root.mT + 0.1 * torch.eye(size)
    )
    y = operator.measure(prior.draw(1, seed=3)[0], seed=5)
    posterior = ti.solve(y, operator, prior, num_samples=1500, steps=4, seed=1)
    assert agreement(posterior.samples, gaussian_posterior(prior, operator, y, 0.1)).worst_z < 5


def test_batch_of_three_is_three_of_one(operator):
    x = images(operator)
    one_by_one = torch.cat([operator.forward(image[None]) for image in x])
    torch.testing.assert_close(operator.forward(x), one_by_one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_dtype_and_inputs(operator, dtype):
    x = images(operator).to(dtype)
    before = x.clone()
    y = operator.forward(x)
    assert y.dtype == dtype
    assert tuple(y.shape) == (3, *operator.range_shape)
    assert operator.adjoint(y).dtype == dtype
    assert torch.equal(x, before)


def test_wrong_shapes_and_types_are_refused(operator):
    with pytest.raises(ValueError, match=r"needs shape \(batch, "):
        operator.forward(images(operator)[0])
    with pytest.raises(ValueError, match=r"needs shape \(batch, "):
        operator.adjoint(normal((8,), (2, 1, *operator.range_shape)))
    with pytest.raises(TypeError, match="needs float32 or float64"):
        operator.forward(images(operator).int())


def test_measure_is_reproducible_and_independent_of_the_batch(operator):
    x = images(operator)
    y = operator.measure(x, seed=4)
    assert torch.equal(y, operator.measure(x, seed=4))
    assert not torch.equal(y, operator.measure(x, seed=5))
    torch.testing.assert_close(y[:1], operator.measure(x[:1], seed=4), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(y[0], operator.measure(x[0], seed=4), rtol=1e-12, atol=1e-12)
    noise = (y - operator.forward(x))[:, ...]
    seen = operator.observed if operator.observed is not None else torch.ones_like(y[0]).bool()
    values = noise[:, seen]
    z = (values.square().mean() / 0.1**2 - 1) / (2 / values.numel()) ** 0.5
    assert abs(float(z)) < 5


def test_least_squares_reproduces_the_data_of_consistent_problems(operator):
    y = operator.forward(images(operator))
    again = operator.forward(operator.least_squares(y, iterations=400))
    assert float((again - y).norm() / y.norm()) < 1e-3


class ScaledAdjoint(ops.MatrixOperator):
    """An adjoint too large by one part in a million."""

    def adjoint(self, y):
        return super().adjoint(y) * (1 + 1e-6)


def test_the_check_sees_an_adjoint_off_by_a_millionth():
    wrong = ScaledAdjoint(normal((2,), (7, 12)))
    assert ops.adjoint_error(wrong) == pytest.approx(1e-6, rel=0.01)


def test_forward_only_subclass_gets_its_adjoint():
    class Gradient(ops.LinearOperator):
        def __init__(self):
            super().__init__(domain_shape=(1, 5, 5), range_shape=(1, 5, 4))

        def forward(self, x):
            return x[..., 1:] - x[..., :-1]

    assert ops.adjoint_error(Gradient()) < 1e-12


def test_forward_outside_torch_is_told_to_write_an_adjoint():
    class Outside(ops.LinearOperator):
        def __init__(self):
            super().__init__(domain_shape=(3,), range_shape=(3,))

        def forward(self, x):
            return torch.from_numpy(2 * x.detach().numpy())

    with pytest.raises(TypeError, match="Write adjoint"):
        Outside().adjoint(torch.ones(1, 3))


PADDINGS = {
    "circular": "circular",
    "valid": "valid",
    "zero": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
}


@pytest.mark.parametrize("shape", [(5, 3), (4, 6)], ids=["odd", "even"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_blur_against_deepinv(padding, shape):
    deepinv = pytest.importorskip("deepinv")
    kernel, x = normal((1,), shape).float().abs(), normal((2,), (2, 3, 16, 13)).float()
    theirs = deepinv.physics.Blur(filter=kernel[None, None], padding=PADDINGS[padding]).A(x)
    ours = ops.Blur(kernel, (3, 16, 13), padding=padding).forward(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_more_operators_against_deepinv():
    physics = pytest.importorskip("deepinv").physics
    x = normal((2,), (2, 3, 16, 12)).float()
    kernel = normal((1,), (5, 3)).float().abs()
    colours = torch.eye(3)[..., None, None]
    weights = tuple(physics.Decolorize().A(colours).flatten().tolist())
    mask = ops.random_mask((3, 16, 12), 0.4)
    pairs = [
        (
            ops.Blur(kernel, (3, 16, 12)),
            physics.BlurFFT(img_size=(3, 16, 12), filter=kernel[None, None]),
        ),
        (
            ops.Downsampling((3, 16, 12), 2, boundary="circular"),
            physics.Downsampling(
                img_size=(3, 16, 12), factor=2, filter="bicubic", padding="circular"
            ),
        ),
        (ops.Greyscale((3, 16, 12), weights=weights), physics.Decolorize()),
        (ops.Mask(mask), physics.Inpainting(img_size=(3, 16, 12), mask=mask)),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.forward(x), theirs.A(x), rtol=1e-5, atol=1e-5)
    mosaic = physics.Demosaicing(img_size=(3, 16, 12)).A(x).sum(1, keepdim=True)
    ours = ops.Demosaicing((3, 16, 12), pattern="BGGR").forward(x)
    torch.testing.assert_close(ours, mosaic)


def test_mri_against_deepinv():
    physics = pytest.importorskip("deepinv").physics
    x, mask = normal((2,), (2, 2, 16, 13)).float(), ops.cartesian_mask((16, 13), 2)
    theirs = physics.MRI(mask=mask.float(), img_size=(2, 16, 13)).A(x)
    torch.testing.assert_close(ops.FourierSampling(mask).forward(x), theirs)
    coils = torch.complex(normal((4,), (3, 16, 13)), normal((5,), (3, 16, 13)))
    maps = coils[None].to(torch.complex64)
    theirs = physics.MultiCoilMRI(mask=mask.float(), coil_maps=maps, img_size=(2, 16, 13)).A(x)
    torch.testing.assert_close(ops.FourierSampling(mask, coils=coils).forward(x), theirs)


@pytest.mark.parametrize(("factor", "kernel"), [(2.5, "bicubic"), (1.7, "bicubic"), (3, "lanczos")])
def test_downsampling_by_any_factor_against_pillow(factor, kernel):
    from PIL import Image

    x = normal((3,), (30, 41)).float()
    ours = ops.Downsampling((1, 30, 41), factor, kernel=kernel).forward(x[None, None])[0, 0]
    theirs = Image.fromarray(x.numpy()).resize(
        (ours.shape[1], ours.shape[0]), getattr(Image, kernel.upper())
    )
    np.testing.assert_allclose(ours.numpy(), np.array(theirs), atol=2e-6)


def test_block_mean_by_any_factor_against_skimage():
    from skimage.transform import resize_local_mean

    x = normal((3,), (30, 41))
    ours = ops.Downsampling((1, 30, 41), 2.5, kernel="block_mean").forward(x[None, None])[0, 0]
    np.testing.assert_allclose(ours.numpy(), resize_local_mean(x.numpy(), ours.shape), atol=1e-12)


def test_blur_is_the_defining_sum():
    kernel, x = normal((1,), (3, 2)), normal((2,), (1, 1, 6, 5))
    expected = torch.zeros_like(x)
    for i in range(3):
        for j in range(2):
            expected += kernel[i, j] * x.roll((i - 1, j - 1), (2, 3))
    torch.testing.assert_close(ops.Blur(kernel, (1, 6, 5)).forward(x), expected)


def test_bicubic_against_torch():
    x = normal((2,), (2, 3, 24, 32))
    theirs = F.interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True)
    torch.testing.assert_close(ops.Downsampling((3, 24, 32), 4).forward(x), theirs)


def test_block_mean_against_torch():
    x = normal((2,), (2, 1, 12, 8))
    ours = ops.Downsampling((1, 12, 8), 4, kernel="block_mean").forward(x)
    torch.testing.assert_close(ours, F.avg_pool2d(x, 4))


def test_motion_kernel_is_a_connected_path():
    from skimage.measure import label

    kernel = ops.motion_kernel(25, seed=3)
    assert kernel.shape == (25, 25)
    assert float(kernel.sum()) == pytest.approx(1)
    assert float(kernel.min()) >= 0
    assert int(label((kernel > 0).numpy(), connectivity=2).max()) == 1
    rows, columns = (kernel.sum(axis).nonzero() for axis in (1, 0))
    extent = max(int(part.max() - part.min()) for part in (rows, columns))
    assert 0.6 * 24 - 1 <= extent <= 0.6 * 24 + 2
    assert torch.equal(kernel, ops.motion_kernel(25, seed=3))
    assert not torch.equal(kernel, ops.motion_kernel(25, seed=4))


def test_masks_have_the_shares_they_are_asked_for():
    mask = ops.cartesian_mask((16, 64), 4, centre=0.125, seed=1)
    assert int(mask[0].sum()) == 16
    assert bool((mask == mask[:1]).all())
    assert bool(mask[:, 28:36].all())
    radial = ops.radial_mask((33, 33), 4)
    assert bool(radial[16].all())
    assert bool(radial[:, 16].all())
    assert bool(radial.diagonal().all())
    box = ops.box_mask((3, 8, 9), (2, 4), corner=(1, 5))
    assert int((~box).sum()) == 3 * 8
    assert not bool(box[:, 1:3, 5:9].any())
    share = ops.random_mask((1, 100, 100), 0.3).double().mean()
    assert float(share) == pytest.approx(0.3, abs=0.02)


def test_the_default_seeds_of_mask_noise_and_truth_are_not_the_same_numbers():
    """All three with seed 0: the noise seen through the mask must not be all of one sign."""
    noise = ops.GaussianNoise(1.0)
    operator = ops.Mask(ops.random_mask((1, 64, 64), 0.5, seed=0), noise=noise)
    seen = operator.measure(torch.zeros(1, 64, 64).double(), seed=0)[operator.mask]
    assert abs(float(seen.mean())) < 5 / len(seen) ** 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.Blur(torch.ones(3, 3), (1, 8, 8), padding="same"), "choose one of"),
        (lambda: ops.Downsampling((1, 8, 8), 2, boundary="odd"), "choose one of"),
        (lambda: ops.FourierSampling(torch.zeros(4, 4)), "at least one 1"),
        (lambda: ops.FourierSampling(torch.ones(4, 4), coils=torch.ones(2, 3, 3)), "sensitivities"),
        (lambda: ops.StructuredRandom((1, 4, 4), 17), "1 to 16"),
        (lambda: ops.Greyscale((2, 4, 4)), "one weight a channel"),
        (lambda: ops.Demosaicing((3, 4, 4), pattern="RGBX"), "four letters"),
        (lambda: ops.Demosaicing((1, 4, 4)), r"needs \(3, height, width\)"),
        (lambda: ops.Mask(torch.ones(2, 1, 1, 4, 4)), "ops.per_image"),
        (lambda: ops.scale(OPERATORS["bicubic"](), 0.0), "other than 0"),
        (lambda: ops.per_image([OPERATORS["mask"](), OPERATORS["bicubic"]()]), "same domain_shape"),
        (
            lambda: ops.per_image([ops.Mask(torch.ones(4, 4))] * 2).forward(torch.ones(3, 1, 4, 4)),
            "batch of 3",
        ),
        (lambda: ops.motion_kernel(2), "3 pixels or more"),
        (lambda: ops.box_mask((1, 8, 8), (9, 2)), "does not lie inside"),
        (lambda: ops.cartesian_mask((8, 8), 0.5), "lower one of the two"),
        (lambda: ops.radial_mask((8, 8), 0), "at least one line"),
        (lambda: ops.GaussianNoise(0.0), "positive, finite"),
        (lambda: ops.GaussianNoise(-1.0), "positive, finite"),
        (lambda: ops.Mask(torch.zeros(4, 4)), "no pixel is observed"),
        (lambda: ops.Mask(torch.full((4, 4), 0.5)), "zeros and ones"),
        (lambda: ops.Blur(torch.ones(9, 9), (1, 8, 8)), "no larger than"),
        (lambda: ops.Downsampling((1, 10, 10), 12), "from 1 to the shorter side"),
        (lambda: ops.Downsampling((1, 8, 8), 4, kernel="nearest"), "choose one of"),
        (lambda: ops.MatrixOperator(torch.ones(3)), r"\(m, n\)"),
        (lambda: ops.MatrixOperator(torch.ones(3, 3), noise=0.1), "noise model"),
        (lambda: ops.MatrixOperator(torch.ones(3, 3)).measure(torch.ones(3)), "no noise model"),
        (lambda: OPERATORS["matrix"]().measure(torch.ones(5)), "needs images of shape"),
        (lambda: ops.random_mask((1, 4, 4), 0.0), "share in"),
        (lambda: ops.gaussian_kernel(0), "positive width"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
