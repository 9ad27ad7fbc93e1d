"""Data by seed, the training template, resuming, and a prior file made from a run."""

import pytest
import torch

import tweedie_inverse as ti
from tests.seeds import salted, torch_generator
from tweedie_inverse.datasets import registry as data
from tweedie_inverse.datasets.ellipses import EllipsePhantoms
from tweedie_inverse.datasets.photographs import HELD_OUT_PHOTOS, TRAINING_PHOTOS
from tweedie_inverse.datasets.slices import CTSlices, Ellipse
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.unet import Attention, UNet
from tweedie_inverse.priors.zoo import load_prior
from tweedie_inverse.training import noise_levels
from tweedie_inverse.training.config import TrainingConfig, learning_rate
from tweedie_inverse.training.export import export
from tweedie_inverse.training.objective import WEIGHTS, denoising_loss
from tweedie_inverse.training.rows import TRAINING_ROWS
from tweedie_inverse.training.trainer import load_trained, train

SMALL = TrainingConfig(
    seed=salted(0),
    data="phantoms",
    size=16,
    steps=6,
    batch=4,
    widths=(8, 16),
    blocks=(1, 1),
    warmup=2,
)


@pytest.mark.parametrize("name", ["phantoms", "slices", "leaves", "photos", "textures"])
def test_images_are_fixed_by_their_seed(name):
    images = data.dataset(name, 32)
    batch = images.images([3, 4, 5])
    assert batch.shape == (3, *images.shape)
    assert float(batch.min()) >= 0
    assert float(batch.max()) <= 1
    torch.testing.assert_close(images.images([4])[0], batch[1], rtol=0, atol=1e-5)
    assert float(batch.flatten(1).std(0).mean()) > 0.02


def test_held_out_photographs_are_not_trained_on():
    assert not set(TRAINING_PHOTOS) & set(HELD_OUT_PHOTOS)
    images = data.held_out("photos", 32, 5)
    assert images.shape == (5, 3, 32, 32)
    torch.testing.assert_close(data.held_out("photos", 32, 2, first=3), images[3:])
    with pytest.raises(ValueError, match="choose digits, leaves, phantoms"):
        data.dataset("faces")


def test_ellipses_cover_their_area():
    """A body alone: the image must integrate to its analytic area, edges included."""
    phantoms = EllipsePhantoms(64)
    centre, axes = torch.tensor([[[0.1, -0.05]]]), torch.tensor([[[0.6, 0.3]]])
    covered = phantoms._inside(centre, axes, torch.tensor([[0.4]])).sum() * (2 / 64) ** 2
    assert float(covered) == pytest.approx(3.14159 * 0.6 * 0.3, rel=0.005)


def test_a_mixture_has_its_shares_and_each_part_its_own_seeds():
    class Plain:
        shape = (1, 1, 1)

        def __init__(self, kind):
            self.kind = kind

        def images(self, seeds):
            return torch.tensor([[[[self.kind * 1e5 + seed]]] for seed in seeds])

    mixture = data.Mixture(tuple((share, Plain(k)) for k, share in enumerate((0.5, 0.3, 0.2))))
    found = mixture.images(range(1000)).flatten()
    assert torch.equal(found % 1e5, torch.arange(1000.0))
    counts = torch.bincount((found / 1e5).long())
    assert counts.tolist() == pytest.approx([500, 300, 200], abs=5)


def test_slices_have_the_units_they_state():
    """Volume is kept by partly covered pixels: a size of image must not change what is in it."""
    fine, coarse = CTSlices(128).images(range(6)), CTSlices(64).images(range(6))
    shrunk = torch.nn.functional.avg_pool2d(fine, 2)
    # The texture is drawn anew for each size; edges are resolved differently.
    assert float((shrunk - coarse).square().mean().sqrt()) < 0.03
    means = (shrunk.mean(dim=(1, 2, 3)), coarse.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(*means, rtol=0.02, atol=0)
    corner = coarse[:, 0, :6, :6]
    assert float(corner.max()) == 0  # air
    soft = ((coarse > 0.4) & (coarse < 0.6)).double().mean()  # -200 to 200 HU
    assert 0.15 < float(soft) < 0.5


def test_an_ellipse_covers_its_area_and_a_tiny_one_somewhat_more():
    """On average over its place in a pixel (6.6 mm here); first-order edges blow up small ones."""
    scene = CTSlices(64)
    grid = (torch.arange(64) + 0.5) * scene.pixel_size - 210
    x, y = grid[None, None, :].expand(1, 64, 64), grid[None, :, None].expand(1, 64, 64)
    places = [(dx, dy) for dx in (0.0, 1.5, 3.0, 4.5) for dy in (0.0, 1.0, 3.0)]
    for a, b, excess in ((60.0, 30.0, 0.01), (20.0, 8.0, 0.05), (5.0, 4.0, 0.2), (1.5, 1.0, 0.4)):
        covered = [
            scene._cover(torch.tensor([Ellipse(*place, a, b, 0.4, 0.0)])[..., None, None], x, y)
            for place in places
        ]
        area = float(torch.stack(covered).sum()) / len(places) * scene.pixel_size**2
        assert 0.99 < area / (3.14159 * a * b) < 1 + excess


@pytest.mark.parametrize("name", noise_levels.NOISE_LEVELS)
def test_noise_levels_are_reproducible_and_in_range(name):
    levels = noise_levels.NOISE_LEVELS[name]
    draws = levels.sample(2000, torch_generator(1))
    assert torch.equal(draws, levels.sample(2000, torch_generator(1)))
    assert draws.shape == (2000,)
    assert draws.dtype == torch.float32
    # The ends are float64, the draws float32.
    assert levels.sigma_min <= float(draws.min()) * (1 + 1e-6)
    assert float(draws.max()) <= levels.sigma_max * (1 + 1e-6)
    assert float(draws.min()) < 0.2 < 1 < float(draws.max())


def test_ddpm_levels_are_those_of_the_schedule():
    table = noise_levels.Timesteps().table()
    torch.testing.assert_close(table.flip(0), ti.schedules.vp_linear(1000)[:-1])


class Network(torch.nn.Module):
    """Nonlinear in its input and its label, and remembers the label."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x, label):
        self.label = label
        return torch.tanh(self.gain * x + torch.sin(label.reshape(-1, 1, 1, 1)))


def ddpm_loss(network, x0, n, sigma, table):
    """``|| eps_theta(sqrt(abar) x0 + sqrt(1 - abar) n, t) - n ||^2`` (Ho et al. 2020, eq. 14)."""
    t = torch.searchsorted(table, sigma.flatten() * (1 - 1e-9)).double()
    abar = 1 / (1 + sigma**2)
    return network(abar.sqrt() * x0 + (1 - abar).sqrt() * n, t) - n


def v_loss(network, x0, n, sigma, table):
    """``|| v_theta(z_t, t) - (alpha n - sigma x0) ||^2`` (Salimans and Ho 2022, section 4)."""
    t = torch.searchsorted(table, sigma.flatten() * (1 - 1e-9)).double()
    alpha, std = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    return network(alpha * x0 + std * n, t) - (alpha * n - std * x0)


def score_matching(network, x0, n, sigma, table):
    """``|| s_theta(x, sigma) + (x - x0) / sigma^2 ||^2``, denoising score matching."""
    x = x0 + sigma * n
    return network(x, sigma.flatten()) + (x - x0) / sigma**2


def weighted_score_matching(network, x0, n, sigma, table):
    """The same times ``lambda(sigma) = sigma^2`` (Song and Ermon 2019, equation 6)."""
    return sigma * score_matching(network, x0, n, sigma, table)


def edm_loss(network, x0, n, sigma, table):
    """``lambda || D(x0 + sigma n) - x0 ||^2``, preconditioned (Karras et al. 2022, eq. 2, 7)."""
    data = 0.5
    total = sigma**2 + data**2
    skip, out, c_in = data**2 / total, sigma * data / total.sqrt(), 1 / total.sqrt()
    x = x0 + sigma * n
    denoised = skip * x + out * network(c_in * x, sigma.flatten().log() / 4)
    return total.sqrt() / (sigma * data) * (denoised - x0)


def flow_matching(network, x0, n, sigma, table):
    """``|| u_theta((1 - t) x0 + t n, t) - (n - x0) ||^2`` (Lipman et al. 2023)."""
    t = sigma / (1 + sigma)
    return network((1 - t) * x0 + t * n, t.flatten()) - (n - x0)


ORIGINAL_LOSSES = {
    "ddpm": ddpm_loss,
    "edm": edm_loss,
    "flow": flow_matching,
    "flow-logit-normal": flow_matching,
    "improved-ddpm": ddpm_loss,
    "ncsn": weighted_score_matching,
    "ncsn-printed": score_matching,
    "v": v_loss,
    "ve-sde": weighted_score_matching,
}


@pytest.mark.parametrize("name", TRAINING_ROWS)
def test_rows_of_the_template_are_the_methods_own_losses(name):
    """Image by image, at the row's own noise levels: a wrong weight or coordinate shows."""
    row = TRAINING_ROWS[name]
    levels = noise_levels.NOISE_LEVELS[row.noise_levels]
    table = levels.table() if isinstance(levels, noise_levels.Timesteps) else None
    count = 64
    sigma = levels.sample(count, torch_generator(1)).double()
    if table is not None:  # the draws are float32
        sigma = table[(sigma[:, None] - table).abs().argmin(1)]
    clean, noise = normal((1,), (count, 1, 3, 3)), normal((2,), (count, 1, 3, 3))
    network = Network()
    prior = ti.priors.NetworkPrior(network, row.parameterization, shape=(1, 3, 3), timesteps=table)
    template = denoising_loss(prior, clean, noise, sigma, WEIGHTS[row.weight])
    original = ORIGINAL_LOSSES[name](network, clean, noise, sigma.reshape(-1, 1, 1, 1), table)
    torch.testing.assert_close(template, original.square().mean((1, 2, 3)), rtol=1e-7, atol=0)


def test_a_row_trains_with_its_own_range(tmp_path):
    """Every row builds a network that can be sampled over the range it was trained on."""
    for name, row in TRAINING_ROWS.items():
        config = TrainingConfig(
            **{**SMALL.__dict__, **row._asdict(), "steps": 1, "batch": 2, "size": 8}
        )
        report = list(train(config, tmp_path / name, report_every=1))[-1]
        assert 0 < report.loss < float("inf")
        prior = load_trained(tmp_path / name)
        levels = noise_levels.NOISE_LEVELS[row.noise_levels]
        assert prior.sigma_min == levels.sigma_min * config.scale
        assert prior.sigma_max == levels.sigma_max * config.scale
        assert ti.sample(prior, 1, steps=2).shape == (1, 1, 8, 8)


def test_network_accepts_any_size_and_starts_as_zero():
    with torch.random.fork_rng(devices=[]):
        network = UNet(3, (8, 16, 16), (1, 1, 1))
    for size in ((16, 16), (17, 22)):
        out = network(torch.ones(2, 3, *size), torch.zeros(2))
        assert out.shape == (2, 3, *size)
        assert float(out.detach().abs().max()) == 0


def test_attention_lets_distant_places_see_each_other():
    """The norm, whose averages see everything too, is left out."""
    x = normal((1,), (1, 8, 32, 32)).float().requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(salted(0))
        attention = Attention(8)
        torch.nn.init.normal_(attention.last.weight)
    attention.norm = torch.nn.Identity()
    (gradient,) = torch.autograd.grad(attention(x, torch.zeros(1))[0, 0, 0, 0], x)
    assert bool((gradient[0, :, -1, -1] != 0).all())
    # No place is special: moving the places about moves the answer likewise.
    places = torch.randperm(32 * 32, generator=torch_generator(2))
    moved = x.flatten(2)[..., places].reshape(x.shape)
    answer = attention(x, torch.zeros(1)).flatten(2)[..., places].reshape(x.shape)
    torch.testing.assert_close(attention(moved, torch.zeros(1)), answer, rtol=1e-4, atol=1e-5)


def test_learning_rate_warms_up_and_cools_down():
    config = TrainingConfig(steps=1000, warmup=100, cooldown=0.3, rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.01)
    assert learning_rate(config, 500) == 1.0
    assert learning_rate(config, 850) == pytest.approx(0.5)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    straight = list(train(SMALL, tmp_path / "a", report_every=1, save_every=1))
    assert [report.step for report in straight] == [1, 2, 3, 4, 5, 6]
    broken = train(SMALL, tmp_path / "b", report_every=1, save_every=1)
    for _ in range(3):
        next(broken)
    broken.close()
    rest = list(train(SMALL, tmp_path / "b", report_every=1, save_every=1))
    assert [report.step for report in rest] == [4, 5, 6]
    for first, second in zip(
        load_trained(tmp_path / "a").module.parameters(),
        load_trained(tmp_path / "b").module.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(first, second)
    other = TrainingConfig(**{**SMALL.__dict__, "rate": 0.5})
    with pytest.raises(ValueError, match=r"other settings \(rate: 0.001 there, 0.5 now\)"):
        next(train(other, tmp_path / "a"))


def test_a_run_may_start_from_another_prior(tmp_path):
    colour = TrainingConfig(**{**SMALL.__dict__, "data": "leaves", "steps": 40, "rate": 3e-3})
    list(train(colour, tmp_path / "colour"))
    path = export(tmp_path / "colour", "colour", count=8)
    still = {"start": str(path), "steps": 1, "rate": 0.0, "first_image": 160}
    list(train(TrainingConfig(**{**SMALL.__dict__, **still}), tmp_path / "grey"))
    list(train(TrainingConfig(**{**colour.__dict__, **still}), tmp_path / "again"))
    parent, grey, again = (load_trained(tmp_path / name) for name in ("colour", "grey", "again"))
    x = normal((1,), (2, 1, 16, 16)).float()
    both = x.expand(-1, 3, -1, -1)
    expected = parent.denoise(both, 0.3)
    # Half precision in between.  A grey network answers with the average over the channels.
    torch.testing.assert_close(again.denoise(both, 0.3), expected, rtol=0, atol=5e-3)
    averaged = expected.mean(1, keepdim=True)
    torch.testing.assert_close(grey.denoise(x, 0.3), averaged, rtol=0, atol=5e-3)
    wide = TrainingConfig(**{**SMALL.__dict__, **still, "widths": (8, 24)})
    with pytest.raises(ValueError, match=r"its architecture is another, .* Use its widths"):
        next(train(wide, tmp_path / "wide"))
    attentive = TrainingConfig(**{**colour.__dict__, **still, "attention": True})
    list(train(attentive, tmp_path / "attentive"))
    seeing = load_trained(tmp_path / "attentive")
    torch.testing.assert_close(seeing.denoise(both, 0.3), expected, rtol=0, atol=5e-3)
    other = export(tmp_path / "attentive", "attentive", count=8)
    shipped = load_prior(other)
    assert not shipped.fully_convolutional
    bare = shipped.uncorrected()
    torch.testing.assert_close(bare.denoise(both, 0.3), expected, rtol=0, atol=5e-3)
    blind = TrainingConfig(**{**colour.__dict__, **still, "start": str(other)})
    with pytest.raises(ValueError, match=r"middle.1.norm.weight is \(16,\) there and None here"):
        next(train(blind, tmp_path / "blind"))
    vp = TrainingConfig(**{**SMALL.__dict__, **still, "parameterization": "epsilon"})
    with pytest.raises(ValueError, match="parameterization 'edm', this run of 'epsilon'"):
        next(train(vp, tmp_path / "vp"))
    card = " ".join(path.with_suffix(".md").read_text().split())
    assert "Seeds of the training images: 0 to 159" in card


def test_training_learns_and_exports_a_prior_that_solves(tmp_path):
    from tweedie_inverse import operators as ops

    config = TrainingConfig(**{**SMALL.__dict__, "steps": 120, "batch": 16, "rate": 3e-3})
    reports = list(train(config, tmp_path, report_every=20))
    assert reports[-1].loss < 0.7 * reports[0].loss
    path = export(tmp_path, "tiny", count=16)
    prior = load_prior(path)
    original = load_trained(tmp_path)
    x = data.dataset("phantoms", 16).images([1]) + 0.2 * normal((1,), (1, 1, 16, 16)).float()
    bare = prior.uncorrected()  # weights survive half precision
    torch.testing.assert_close(bare.denoise(x, 0.2), original.denoise(x, 0.2), rtol=0, atol=5e-3)
    assert prior.error_is_measured
    operator = ops.Mask(ops.random_mask((1, 16, 16), 0.5), noise=ops.GaussianNoise(0.1))
    posterior = ti.solve(operator.measure(x, seed=0), operator, prior, num_samples=2, steps=5)
    assert bool(posterior.samples.isfinite().all())
    card = " ".join(path.with_suffix(".md").read_text().split())
    for part in ("Seeds of the training images: 0 to 1919", "Licence", "| 120 |", "sigma"):
        assert part in card
