"""What goes in as arrays, what a user's functions are held to, and what that costs."""

import numpy as np
import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.registry import NONLINEAR, OPERATORS, PRIORS
from tweedie_inverse import operators as ops
from tweedie_inverse.boundary.arrays import tensor_of
from tweedie_inverse.numerics.random import normal

S = (1, 8, 8)
FIELD = random_field(8)
NOISE = ops.GaussianNoise(0.1)
MASK = ops.Mask(ops.random_mask(S, 0.5), noise=NOISE)
Y = MASK.measure(FIELD.draw(2, seed=1).float(), seed=2)


class Shrinking(nn.Module):
    """A sound network that counts its calls and the images in them."""

    def __init__(self):
        super().__init__()
        self.calls = self.images = 0
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, sigma):
        self.calls, self.images = self.calls + 1, self.images + len(x)
        return x / (1 + self.weight * sigma.reshape(-1, 1, 1, 1) ** 2)


def foreign(values):
    """The same numbers as an array of the other byte order, seen through a negative stride."""
    array = values.numpy()
    swapped = array.astype(array.dtype.newbyteorder(">"))
    return np.ascontiguousarray(swapped[::-1])[::-1]


def frozen(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-2],
        lambda a: a.T,
        lambda a: a.astype(">f4"),
        lambda a: np.asfortranarray(a),
        lambda a: frozen(a.copy()),
        lambda a: a.astype(np.longdouble),
        lambda a: a.astype(complex).astype(">c8"),
        lambda a: np.float32(a[0, 1]),
        lambda a: a.tolist(),
    ],
)
@pytest.mark.filterwarnings("error")
def test_arrays_become_tensors_with_the_same_numbers(view):
    array = view(np.arange(12.0).reshape(3, 4))
    found = tensor_of("f", "x", array)
    assert np.array_equal(found.numpy(), array)
    assert found.shape == np.shape(array)


@pytest.mark.parametrize("name", [*OPERATORS, *NONLINEAR])
def test_operators_take_arrays_of_any_order(name):
    operator = {**OPERATORS, **NONLINEAR}[name]()
    x = normal((1,), (2, *operator.domain_shape)).abs().float()
    ax = operator.forward(x)
    assert torch.equal(operator.forward(foreign(x)), ax)
    assert torch.equal(operator.measure(foreign(x), seed=1), operator.measure(x, seed=1))
    if isinstance(operator, ops.LinearOperator):
        assert torch.equal(operator.adjoint(foreign(ax)), operator.adjoint(ax))


@pytest.mark.parametrize("name", PRIORS)
def test_priors_take_arrays_of_any_order(name):
    prior = PRIORS[name]()
    x, sigma = normal((1,), (2, *prior.shape)), torch.tensor([0.3, 0.5]).double()
    assert torch.equal(prior.denoise(foreign(x), foreign(sigma)), prior.denoise(x, sigma))
    assert torch.equal(prior.score(foreign(x), np.float64(0.5)), prior.score(x, 0.5))


def test_solve_takes_arrays_and_numbers_of_numpy():
    expected = ti.solve(Y, MASK, FIELD, num_samples=3, steps=4, seed=5, noise=0.25)
    found = ti.solve(
        foreign(Y),
        ops.Mask(foreign(MASK.mask[0].double())),
        ti.priors.Gaussian(foreign(FIELD.mean), power_spectrum=foreign(FIELD.covariance.variance)),
        num_samples=np.int64(3),
        steps=np.int16(4),
        seed=np.uint64(5),
        noise=np.float32(0.25),
    )
    assert torch.equal(found.samples, expected.samples)


@pytest.mark.parametrize("coils", [None, 3])
def test_complex_arrays_are_channels_where_the_instrument_is_complex(coils):
    shape = (8, 7) if coils is None else (coils, 8, 7)
    maps = None if coils is None else torch.complex(normal((1,), shape), normal((2,), shape))
    operator = ops.FourierSampling(
        np.ones((8, 7)), coils=None if maps is None else maps.numpy(), noise=NOISE
    )
    image = torch.complex(normal((3,), (2, 8, 7)), normal((4,), (2, 8, 7)))
    channels = torch.stack([image.real, image.imag], 1)
    assert torch.equal(operator.forward(image.numpy()), operator.forward(channels))
    y = operator.forward(channels)
    seen = torch.complex(y[:, 0], y[:, 1])
    assert torch.equal(operator.adjoint(seen.numpy()), operator.adjoint(y))
    prior = ti.priors.Gaussian(torch.zeros(2, 8, 7), power_spectrum=torch.ones(8, 7))
    batch, single = (
        ti.solve(given, operator, prior, num_samples=2, steps=2).samples
        for given in (seen.numpy(), seen[0].numpy())
    )
    assert torch.equal(batch, ti.solve(y, operator, prior, num_samples=2, steps=2).samples)
    torch.testing.assert_close(single, batch[0])  # rounding knows the size of a batch


def test_a_scipy_operator_takes_complex_measurements():
    matrix = torch.complex(normal((1,), (3, 8)), normal((2,), (3, 8))).numpy()
    operator = ops.from_scipy(matrix)
    y = matrix @ normal((3,), (8,)).numpy()
    expected = operator.adjoint(torch.from_numpy(np.concatenate([y.real, y.imag]))[None])
    assert torch.equal(operator.adjoint(y[None]), expected)


def test_pictures_become_images():
    from PIL import Image

    picture = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    expected = torch.from_numpy(picture).permute(2, 0, 1) / 255
    for given in (picture, Image.fromarray(picture), expected.double()):
        known = {} if not isinstance(given, torch.Tensor) else {"input_range": (0, 1)}
        found = ti.as_image(given, value_range=(0, 1), **known)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            ti.as_image(given, value_range=(-1, 1), **known), 2 * expected - 1
        )
    assert ti.as_image(picture[..., 0] > 7, value_range=(0, 5)).unique().tolist() == [0, 5]
    square = np.zeros((3, 4, 3), np.uint8)
    assert ti.as_image(square, value_range=(0, 1), channels="last").shape == (3, 3, 4)
    assert ti.as_image(square, value_range=(0, 1), channels="first").shape == (3, 4, 3)


def test_the_check_costs_two_evaluations_once_a_network():
    network = Shrinking()
    prior = ti.priors.NetworkPrior(network, "x0", shape=S)
    first = ti.solve(Y, MASK, prior, num_samples=2, steps=5)
    assert network.calls <= 5 + 2
    assert network.images == 4 * first.stats.denoiser_calls + 3
    assert first.stats.denoiser_calls <= 5
    assert "; 3 evaluations before the walk" in first.stats.reason
    assert first.stats.guard_calls == 3
    before = network.images
    again = ti.solve(Y, MASK, prior, num_samples=2, steps=5)
    assert network.images - before == 4 * again.stats.denoiser_calls
    assert "before the walk" not in again.stats.reason
    assert again.stats.guard_calls == 0
    ti.sample(prior, 3, steps=5)
    assert network.images - before == 4 * again.stats.denoiser_calls + 3 * 5


def test_a_network_in_training_mode_is_left_as_it_is():
    """Where the mode makes no difference it is no fault, and nothing switches it."""
    network = Shrinking().train()
    ti.sample(ti.priors.NetworkPrior(network, "x0", shape=S).tiled(), 1, steps=2)
    assert network.training


@pytest.mark.parametrize("mode", [torch.inference_mode, lambda: torch.autocast("cpu")])
@pytest.mark.parametrize(
    "operator",
    [
        MASK,
        ops.LinearOperator.from_function(lambda x: x.cumsum(-1), S, noise=NOISE),
        ops.LinearOperator.from_function(
            lambda x: x.flatten(1) @ normal((5,), (64, 9)).to(x), S, noise=NOISE
        ),
        ops.Operator.from_function(torch.tanh, S, noise=NOISE),
    ],
)
def test_modes_round_about_change_nothing(operator, mode):
    """No gradient is missed under inference mode, and nothing is rounded under autocast."""
    x = FIELD.draw(2, seed=3).float()
    expected = ti.solve(operator.measure(x), operator, FIELD, num_samples=2, steps=3)
    with mode():
        found = ti.solve(operator.measure(x.clone()), operator, FIELD, num_samples=2, steps=3)
        if isinstance(operator, ops.LinearOperator):
            y = operator.forward(x)
            assert operator.adjoint(y).isfinite().all()
    assert torch.equal(found.samples, expected.samples)


def test_a_network_runs_under_the_callers_autocast():
    seen = []

    class Asking(Shrinking):
        def forward(self, x, sigma):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x, sigma)

    prior = ti.priors.NetworkPrior(Asking(), "x0", shape=S)
    with torch.autocast("cpu"):
        ti.solve(Y, MASK, prior, num_samples=1, steps=2)
    assert all(seen[2:])  # the first two are the check's own
    seen.clear()
    ti.solve(Y, MASK, prior, num_samples=1, steps=2)
    assert not any(seen)


def test_a_table_of_timesteps_is_the_trained_range():
    table = torch.tensor([0.5, 2.0, 9.0])
    prior = ti.priors.NetworkPrior(Shrinking(), "x0", shape=S, timesteps=table, scale=2.0)
    assert (prior.sigma_min, prior.sigma_max) == (1.0, 18.0)
    module = ti.priors.formats.Module(shape=S, parameterization="x0", timesteps=table)
    prior = ti.load_prior(Shrinking(), format=module)
    assert (prior.sigma_min, prior.sigma_max) == (0.25, 4.5)


def test_an_error_inside_a_network_names_the_network():
    class Narrow(Shrinking):
        def forward(self, x):
            return x

    prior = ti.priors.NetworkPrior(Narrow(), "x0", shape=S)
    with pytest.raises(TypeError) as caught:
        ti.solve(Y, MASK, prior, num_samples=1, steps=2)
    assert "the network Narrow of NetworkPrior" in caught.value.__notes__[0]
    assert "(2, 1, 8, 8), (2,)" in caught.value.__notes__[0]


def test_a_picture_takes_the_measurement_that_solve_took():
    scanner = ops.Tomography(S, 6, noise=NOISE)
    sinogram = np.zeros(scanner.range_shape[1:], np.float32)
    ti.solve(sinogram, scanner, FIELD, num_samples=2, steps=2).plot(measurement=sinogram)
    mri = ops.FourierSampling(torch.ones(8, 8), real=True, noise=NOISE)
    kspace = np.zeros((8, 8), complex)
    posterior = ti.solve(kspace, mri, FIELD, num_samples=2, steps=2)
    posterior.plot(measurement=kspace)
    with pytest.raises(ValueError, match="needs shape"):
        posterior.plot(measurement=kspace[:4])


def test_a_transposed_sinogram_and_radians_are_recognised():
    scanner = ops.Tomography(S, 6, noise=NOISE)
    with pytest.raises(ValueError, match="the other way round: transpose"):
        ti.solve(np.zeros(scanner.range_shape[:0:-1]), scanner, FIELD)
    with pytest.warns(UserWarning, match="rad2deg"):
        ops.Tomography(S, np.linspace(0, np.pi, 20, endpoint=False))


def test_half_precision_out_of_an_operator_is_refused():
    halved = ops.Operator.from_function(lambda x: x.half(), S, range_shape=S, noise=NOISE)
    with pytest.raises(TypeError, match=r"forward\(\): needs float32 or float64"):
        ti.solve(Y, halved, FIELD)
