"""`solve` as a deepinv `Reconstructor`, against closed forms and with deepinv's own tools."""

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import agreement, gaussian_posterior, random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

dinv = pytest.importorskip("deepinv")

SIZE, STD = 8, 0.1
FIELD = random_field(SIZE)
SHAPE = (1, SIZE, SIZE)
X = FIELD.draw(3, seed=4).float()
MASK = (normal((3,), SHAPE) > 0).float()
NOISE = dinv.physics.GaussianNoise(STD, rng=torch.Generator().manual_seed(1))
KERNEL = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16


def fourier_mask():
    mask = (normal((4,), (1, SIZE, SIZE)) > 0).float()
    mask[..., 0, 0] = 1
    return mask


PHYSICS = {
    "mask": dinv.physics.Inpainting(SHAPE, mask=MASK, noise_model=NOISE),
    "blur": dinv.physics.Blur(filter=KERNEL, padding="circular", noise_model=NOISE),
    "tomography": dinv.physics.Tomography(
        angles=6, img_width=SIZE, circle=False, normalize=False, noise_model=NOISE
    ),
    "stacked": dinv.physics.stack(
        dinv.physics.Inpainting(SHAPE, mask=MASK, noise_model=NOISE),
        dinv.physics.Inpainting(SHAPE, mask=1 - MASK, noise_model=NOISE),
    ),
    "ours": ops.to_deepinv(ops.Mask(MASK, noise=ops.GaussianNoise(STD))),
}


def flat(y):
    """The measurement of one image as a vector, in float64."""
    parts = y if not isinstance(y, torch.Tensor) else [y]
    return torch.cat([part.flatten() for part in parts]).double()


def matrix_of(physics):
    """``A`` from one call for each pixel, without this package."""
    units = torch.eye(SIZE**2).reshape(-1, 1, *SHAPE)
    return torch.stack([flat(physics.A(unit)) for unit in units], dim=1)


@pytest.mark.parametrize("name", PHYSICS)
def test_samples_of_every_physics_are_exact(name):
    """A Gaussian prior's posterior is known; what a physics hides tells nothing."""
    physics = PHYSICS[name]
    y = physics(X[:1])
    model = ti.deepinv_reconstructor(FIELD, returns="samples", num_samples=400, steps=10)
    samples = model(y, physics)
    assert samples.shape == (1, 400, *SHAPE)
    matrix, values = matrix_of(physics), flat(y)
    seen = matrix.abs().sum(1) > 0
    exact = gaussian_posterior(FIELD, ops.MatrixOperator(matrix[seen]), values[seen], STD)
    assert agreement(samples[0], exact).worst_z < 5


def test_complex_images_that_are_real():
    """Real and imaginary parts of the data have half the noise's variance each."""
    physics = dinv.physics.MRI(mask=fourier_mask(), img_size=(2, SIZE, SIZE), noise_model=NOISE)
    y = physics(torch.cat([X, torch.zeros_like(X)], 1))
    model = ti.deepinv_reconstructor(FIELD, num_samples=400, steps=10, real_images=True)
    mean, variance = model.sample(y[:1], physics)
    assert mean.shape == (1, 2, SIZE, SIZE)
    assert not mean[:, 1].any()
    assert not variance[:, 1].any()
    units = torch.cat([torch.eye(SIZE**2), torch.zeros(SIZE**2, SIZE**2)], 1)
    columns = physics.A(units.reshape(-1, 2, SIZE, SIZE)).flatten(1).mT
    seen = columns.abs().sum(1) > 0
    matrix, values = columns[seen].double(), y[0].flatten()[seen].double()
    exact = gaussian_posterior(FIELD, ops.MatrixOperator(matrix), values, STD)
    samples = model.posterior(y[:1], physics).samples[0]
    assert agreement(samples, exact).worst_z < 5
    with pytest.raises(ValueError, match="real_images=True takes them to be real"):
        ti.deepinv_reconstructor(FIELD)(y, physics)
    with pytest.raises(ValueError, match="leave real_images= out"):
        ti.deepinv_reconstructor(FIELD, real_images=True)(PHYSICS["mask"](X), PHYSICS["mask"])


def test_deepinv_tests_it():
    """`deepinv.test`, whose PSNR is that of the posterior mean, computed here by hand."""
    physics = PHYSICS["mask"]
    y = physics(X)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=2)
    model = ti.deepinv_reconstructor(FIELD, num_samples=20, steps=5, seed=7)
    quietly = {"verbose": False, "show_progress_bar": False}
    with torch.random.fork_rng():  # its loader reads the global generator
        found = dinv.test(model, loader, physics, metrics=dinv.metric.MSE(), **quietly)
    assert model.seen == 3
    mean = ti.deepinv_reconstructor(FIELD, num_samples=20, steps=5)(y, physics, seed=7)
    assert found["MSE"] == pytest.approx(float((mean - X).square().mean()), rel=1e-5)


def test_one_sample_for_deepinvs_sampler():
    """Its mean and variance over calls are those of the posterior: calls are independent."""
    physics = PHYSICS["mask"]
    y = physics(X[:1])
    model = ti.deepinv_reconstructor(FIELD, returns="sample", steps=5)
    assert not torch.equal(model(y, physics), model(y, physics))
    assert torch.equal(model(y, physics, seed=3), model(y, physics, seed=3))
    sampler = dinv.sampling.DiffusionSampler(model, max_iter=20, clip=None, verbose=False)
    mean, variance = sampler(y, physics)
    seen = MASK.flatten() > 0
    matrix = torch.eye(SIZE**2).double()[seen]
    exact = gaussian_posterior(FIELD, ops.MatrixOperator(matrix), flat(y)[seen], STD)
    z = (mean.flatten() - exact.mean) / (exact.covariance.diag() / 20).sqrt()
    assert z.abs().max() < 5
    ratio = variance.flatten() / exact.covariance.diag()
    # The cube root of a chi-square is nearly normal, the chi-square of 19 is not.
    scatter = 2 / (9 * 19)
    assert ((ratio ** (1 / 3) - (1 - scatter)) / scatter**0.5).abs().max() < 5


def test_the_prior_stays_the_users_and_follows_y(monkeypatch):
    network = ti.load_prior("digits-32")
    model = ti.deepinv_reconstructor(network)
    assert list(model.parameters()) == []
    moved = []
    monkeypatch.setattr(type(network), "to", lambda self, device: moved.append(device) or self)
    for _ in range(2):
        model._prior_at(torch.zeros(1, device="meta"))
    assert moved == [torch.device("meta")]
    model._prior_at(torch.zeros(1))
    assert len(moved) == 1


def test_wrong_settings_are_refused():
    for settings, message in (
        ({"returns": "median"}, "choose one of 'mean', 'sample' or 'samples'"),
        ({"num_samples": 0}, "at least one sample"),
        ({"seed": -1}, "seed"),
        ({"real_images": 1}, "needs True or False"),
        ({"noise": "guess"}, "or 'estimate'"),
        ({"noise": -0.1}, "or 'estimate'"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            ti.deepinv_reconstructor(FIELD, **settings)
    silent = dinv.physics.Inpainting(SHAPE, mask=MASK)
    with pytest.raises(ValueError, match="the noise level is unknown"):
        ti.deepinv_reconstructor(FIELD)(silent(X), silent)
    uniform = dinv.physics.Inpainting(SHAPE, mask=MASK, noise_model=dinv.physics.UniformNoise(STD))
    with pytest.raises(ValueError, match="UniformNoise has no counterpart"):
        ti.deepinv_reconstructor(FIELD)(silent(X), uniform)
    for physics in (silent, uniform):
        model = ti.deepinv_reconstructor(FIELD, noise=STD, steps=3, num_samples=2)
        assert model(silent(X), physics).shape == X.shape


@pytest.mark.slow
def test_the_noise_is_drawn_where_that_is_asked_for():
    physics = PHYSICS["mask"]
    model = ti.deepinv_reconstructor(FIELD, noise="estimate", num_samples=8, steps=10)
    assert model.posterior(physics(X[:1]), physics).noise.std.shape == (1, 8)
