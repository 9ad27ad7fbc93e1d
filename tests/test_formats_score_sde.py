"""score_sde and PSLD checkpoints: architectures from shapes, and the right numbers."""

import math
from dataclasses import replace

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import (
    noisy,
    seeded,
)
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.ncsnpp_shapes import architecture_of
from tweedie_inverse.priors.formats.networks.ncsnpp import Architecture, NCSNpp

# in, out, features, multipliers, blocks, attention levels, Fourier, and what else differs.
NCSN = {"fir": True, "pyramid_in": "residual"}
SKIPS = {"fir": True, "pyramid_in": "skip", "pyramid_out": "skip"}
PUBLISHED_NCSNPP = {
    "ve/cifar10_ncsnpp_continuous": (3, 3, 128, (1, 2, 2, 2), 4, (1,), True, NCSN),
    "ve/cifar10_ncsnpp_deep_continuous": (3, 3, 128, (1, 2, 2, 2), 8, (1,), True, NCSN),
    "vp/cifar10_ncsnpp_continuous": (3, 3, 128, (1, 2, 2, 2), 4, (1,), False, NCSN),
    "vp/cifar10_ddpmpp_continuous": (3, 3, 128, (1, 2, 2, 2), 4, (1,), False, {}),
    "vp/cifar10_ddpmpp_deep_continuous": (3, 3, 128, (1, 2, 2, 2), 8, (1,), False, {}),
    "ve/ffhq_256_ncsnpp_continuous": (3, 3, 128, (1, 1, 2, 2, 2, 2, 2), 2, (4,), True, SKIPS),
    "ve/ffhq_ncsnpp_continuous": (3, 3, 16, (1, 2, 4, 8, 16, 32, 32, 32), 1, (6,), True, SKIPS),
    "psld/cifar10-ablation": (6, 6, 128, (1, 2, 2, 2), 2, (1,), False, {}),
    "psld/cifar10-ablation-cld": (6, 3, 128, (1, 2, 2, 2), 2, (1,), False, {}),
    "psld/cifar10-ablation-vp": (3, 3, 128, (1, 2, 2, 2), 2, (1,), False, {}),
    "psld/cifar10-55m": (6, 6, 128, (2, 2, 2), 4, (1,), True, NCSN),
    "psld/cifar10": (6, 6, 128, (2, 2, 2), 8, (1,), True, NCSN),
    "psld/celeba64-ablation": (6, 6, 128, (1, 1, 2, 2, 2), 4, (2,), False, {}),
    "psld/celeba64": (6, 6, 128, (1, 2, 2, 2), 4, (2,), True, NCSN),
    "psld/afhq128-ablation": (6, 6, 128, (1, 2, 2, 2, 3), 2, (3,), False, {}),
    "psld/afhq128": (6, 3, 160, (1, 2, 2, 3, 3), 2, (3, 4), False, {}),
}
# Published or counted from the authors' code, in millions.
PARAMETERS = {
    "psld/cifar10-ablation": 39.397,
    "psld/cifar10-ablation-cld": 39.394,
    "psld/cifar10-ablation-vp": 39.390,
    "psld/cifar10": 97.628,
    "psld/celeba64-ablation": 66.722,
    "psld/celeba64": 62.769,
    "psld/afhq128-ablation": 65.817,
    "psld/afhq128": 128.449,
}


def ncsnpp(name):
    *settings, others = PUBLISHED_NCSNPP[name]
    return Architecture(*settings, **others)


@pytest.mark.parametrize("name", PUBLISHED_NCSNPP)
def test_published_ncsnpp_architectures_are_read_from_shapes(name):
    expected = ncsnpp(name)
    with torch.device("meta"):
        network = NCSNpp(expected)
    assert architecture_of(network.state_dict()) == expected
    if name in PARAMETERS:
        count = sum(p.numel() for p in network.parameters()) / 1e6
        assert count == pytest.approx(PARAMETERS[name], abs=6e-4)


@pytest.mark.parametrize("biggan", [True, False])
@pytest.mark.parametrize("pyramid_in", ["none", "skip", "residual"])
@pytest.mark.parametrize("pyramid_out", ["none", "skip", "residual"])
@pytest.mark.parametrize("concatenate", [True, False])
def test_other_ncsnpp_architectures_run_and_are_read(biggan, pyramid_in, pyramid_out, concatenate):
    if concatenate and pyramid_in != "skip":
        return
    expected = Architecture(
        1, 1, 8, (1, 2), 1, (1,), True, biggan, pyramid_in != "none" or pyramid_out != "none",
        pyramid_in, pyramid_out, concatenate, rescale=biggan,
    )  # fmt: skip
    network = seeded(lambda: NCSNpp(expected))
    assert architecture_of(network.state_dict()) == expected
    x = noisy((1, 16, 16), 0.1)
    assert network(x, torch.tensor([0.1, 2.0])).shape == x.shape


SMALL_NCSN = Architecture(3, 3, 128, (1, 2), 1, (1,), True, True, True, "residual", "none", False)


@pytest.mark.parametrize("kind", ["ncsn", "ddpm"])
def test_own_ncsnpp_network_equals_deepinvs(kind):
    """deepinv's is EDM's rewriting of it: the same arithmetic under other names."""
    pytest.importorskip("deepinv")
    ours_is = SMALL_NCSN if kind == "ncsn" else replace(
        SMALL_NCSN, fourier=False, fir=False, pyramid_in="none"
    )  # fmt: skip
    ours = seeded(lambda: NCSNpp(ours_is))
    theirs = seeded(
        lambda: models_ncsnpp(kind, model_channels=128, channel_mult=(1, 2), num_blocks=1)
    )
    theirs.load_state_dict(as_edm(ours, theirs))
    x, label = noisy((3, 16, 16), 0.2), torch.tensor([0.3, 4.0])
    # Sines of large phases, and sums whose order depends on the number of threads.
    ours, theirs, x, label = ours.double(), theirs.double(), x.double(), label.double()
    expected = theirs.forward_unet(x, label.log() if kind == "ncsn" else label)
    torch.testing.assert_close(ours(x, label), expected, rtol=1e-5, atol=1e-5)


def models_ncsnpp(kind, **settings):
    from deepinv.models import NCSNpp

    return NCSNpp(
        kind, img_resolution=16, augment_dim=0, attn_resolutions=(8,), pretrained=None, **settings
    )


def as_edm(ours, theirs):
    """Our weights under EDM's names: both list the same modules in the same order."""
    flat = list(ours.all_modules)
    result = dict(theirs.state_dict())
    if ours.architecture.fourier:
        result["map_noise.freqs"] = flat.pop(0).W
    for name in ("map_layer0", "map_layer1"):
        layer = flat.pop(0)
        result[f"{name}.weight"], result[f"{name}.bias"] = layer.weight, layer.bias
    for part in ("enc", "dec"):
        for name, block in getattr(theirs, part).items():
            prefix, layer = f"{part}.{name}", flat.pop(0)
            if name.endswith(("conv", "norm")):
                pairs = {"": layer}
            elif "residual" in name:
                pairs = {"": layer.Conv2d_0}
            else:
                pairs = {"norm0": layer.GroupNorm_0, "conv0": layer.Conv_0, "affine": layer.Dense_0,
                         "norm1": layer.GroupNorm_1, "conv1": layer.Conv_1}  # fmt: skip
                if layer.skip:
                    pairs["skip"] = layer.Conv_2
                if block.num_heads:
                    attention = flat.pop(0)
                    pairs["norm2"] = attention.GroupNorm_0
                    many = [attention.NIN_0, attention.NIN_1, attention.NIN_2]
                    # EDM interleaves queries, keys and values channel by channel.
                    result[f"{prefix}.qkv.weight"] = torch.stack(
                        [f.W.mT for f in many], dim=1
                    ).flatten(0, 1)[:, :, None, None]  # fmt: skip
                    result[f"{prefix}.qkv.bias"] = torch.stack([f.b for f in many], 1).flatten()
                    result[f"{prefix}.proj.weight"] = attention.NIN_3.W.mT[:, :, None, None]
                    result[f"{prefix}.proj.bias"] = attention.NIN_3.b
            for key, layer in pairs.items():
                start = f"{prefix}.{key}." if key else f"{prefix}."
                result[start + "weight"], result[start + "bias"] = layer.weight, layer.bias
    assert not flat
    return result


def save_score_sde(path, network, sigmas):
    """Weights under ``module.``, a moving average of other values as a list."""
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    names = [n for n in state if not n.endswith("all_modules.0.W")]
    average = [1.1 * state[name] for name in names]
    ema = {"decay": 0.999, "num_updates": 5, "shadow_params": average}
    state = {"module.sigmas": sigmas, **state}
    torch.save({"optimizer": {}, "model": state, "ema": ema, "step": 7}, path)
    averaged = {
        n: 1.1 * v if n != "all_modules.0.W" else v for n, v in network.state_dict().items()
    }
    return averaged


TINY_NCSN = Architecture(1, 1, 8, (1, 2), 1, (0,), True, True, True, "residual")


def test_score_sde_ve_files(tmp_path):
    network = seeded(lambda: NCSNpp(TINY_NCSN))
    averaged = save_score_sde(tmp_path / "checkpoint_48.pth", network, torch.tensor([348.0, 0.01]))
    prior = ti.load_prior(tmp_path / "checkpoint_48.pth")
    assert (prior.shape, prior.sigma_max) == ((1, 16, 16), pytest.approx(348.0))
    x, sigma = noisy((1, 16, 16), 0.3), torch.full((2,), 0.3)
    settings = formats.ScoreSDE(moving_average=False)
    last = ti.load_prior(tmp_path / "checkpoint_48.pth", format=settings)
    torch.testing.assert_close(last.denoise(x, 0.3), x + 0.3 * network(2 * x - 1, sigma))
    network.load_state_dict(averaged)
    torch.testing.assert_close(prior.denoise(x, 0.3), x + 0.3 * network(2 * x - 1, sigma))


def test_score_sde_vp_files(tmp_path):
    network = seeded(lambda: NCSNpp(replace(TINY_NCSN, fourier=False)))
    averaged = save_score_sde(tmp_path / "vp.pth", network, torch.tensor([50.0, 0.01]))
    network.load_state_dict(averaged)
    with pytest.warns(UserWarning, match=r"sub-VP .*process='vp'\), 'subvp' or 've'"):
        ti.load_prior(tmp_path / "vp.pth")
    prior = ti.load_prior(tmp_path / "vp.pth", format=formats.ScoreSDE(process="vp"))
    t = 0.4
    mean = torch.tensor(-0.25 * t**2 * 19.9 - 0.5 * t * 0.1).exp()  # Song's marginal_prob
    sigma = float((1 - mean**2).sqrt() / mean)
    x = noisy((1, 16, 16), sigma / 2)
    output = network(mean * (2 * x - 1), torch.full((2,), 999 * t))
    expected = ((2 * x - 1 - sigma * output) + 1) / 2
    torch.testing.assert_close(prior.denoise(x, sigma / 2), expected, rtol=1e-5, atol=1e-5)


def test_score_sde_subvp_files(tmp_path):
    """x_t = alpha x0 + (1 - alpha^2) n: sigma and input differ from VP's at the same t."""
    network = seeded(lambda: NCSNpp(replace(TINY_NCSN, fourier=False)))
    network.load_state_dict(save_score_sde(tmp_path / "a.pth", network, torch.tensor([50.0, 0.01])))
    prior = ti.load_prior(tmp_path / "a.pth", format=formats.ScoreSDE(process="subvp"))
    for t in (0.1, 0.7):
        alpha = torch.tensor(-0.25 * t**2 * 19.9 - 0.5 * t * 0.1).double().exp().float()
        std = 1 - alpha**2  # Song's marginal_prob of the sub-VP process
        sigma = float(std / alpha)
        x = noisy((1, 16, 16), sigma / 2)
        state = alpha * (2 * x - 1)
        score = -network(state, torch.full((2,), 999 * t)) / std
        expected = (state + std**2 * score) / alpha  # Tweedie's formula
        difference = 2 * prior.denoise(x, sigma / 2) - 1 - expected
        assert float(difference.abs().max()) < 1e-5 * max(1, sigma)
    assert prior.sigma_max == pytest.approx(math.sinh(10.05 / 2))  # 2 sinh(B / 2) / 2


def test_score_sde_files_of_discrete_noise_levels(tmp_path):
    """The largest is number 0, and the output is divided by sigma."""
    network = seeded(lambda: NCSNpp(replace(TINY_NCSN, fourier=False)))
    sigmas = torch.logspace(math.log10(50), -2, 1000).double()
    network.load_state_dict(save_score_sde(tmp_path / "ve.pth", network, sigmas))
    prior = ti.load_prior(tmp_path / "ve.pth", format=formats.ScoreSDE(process="ve"))
    for label in (0, 300, 999):
        sigma = float(sigmas[label])
        x = noisy((1, 16, 16), sigma)
        score = network(2 * x - 1, torch.full((2,), label)) / sigma
        difference = prior.denoise(x, sigma) - (x + sigma**2 * score)
        assert float(difference.abs().max()) < 2e-5 * max(1, sigma)
    assert (prior.sigma_min, prior.sigma_max) == pytest.approx((0.01, 50.0))
    settings = formats.ScoreSDE(process="ve", sigma_max=20.0)
    assert ti.load_prior(tmp_path / "ve.pth", format=settings).timesteps[-1] == pytest.approx(20)
    settings = formats.ScoreSDE(process="vp", discrete=True)
    prior, table = ti.load_prior(tmp_path / "ve.pth", format=settings), ti.schedules.TABLES
    t, sigma = 400, float(table["vp-linear"]()[400])
    x = noisy((1, 16, 16), sigma / 2)
    output = network((2 * x - 1) / (1 + sigma**2) ** 0.5, torch.full((2,), t))
    expected = (2 * x - 1 - sigma * output + 1) / 2
    torch.testing.assert_close(prior.denoise(x, sigma / 2), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fourier", "settings", "message"),
    [
        (True, {"discrete": True}, r"discrete=True\) does not go with a Fourier embedding"),
        (False, {"process": "subvp", "discrete": True}, "does not go with sub-VP"),
        (False, {"process": "ve", "discrete": False}, r"leave out ScoreSDE\(discrete=False\)"),
    ],
)
def test_processes_that_do_not_suit_the_file_are_told(tmp_path, fourier, settings, message):
    network = seeded(lambda: NCSNpp(replace(TINY_NCSN, fourier=fourier)))
    save_score_sde(tmp_path / "a.pth", network, torch.tensor([50.0, 0.01]))
    with pytest.raises(ValueError, match=message):
        ti.load_prior(tmp_path / "a.pth", format=formats.ScoreSDE(**settings))


def test_the_older_ddpm_network_adds_without_rescaling(tmp_path):
    """Its shapes are those of an NCSN++ with DDPM blocks, which no published file has."""
    older = Architecture(1, 1, 8, (1, 2), 1, (0,), False, biggan=False, rescale=False)
    network = seeded(lambda: NCSNpp(older))
    torch.save({"model": network.state_dict()}, tmp_path / "ddpm.pth")
    x, label = noisy((1, 16, 16), 0.3), torch.tensor([3.0, 700.0])
    told = formats.ScoreSDE(process="vp", discrete=True)
    prior = ti.load_prior(tmp_path / "ddpm.pth", format=told)
    torch.testing.assert_close(prior.module(x, label), network(x, label))
    rescaled = ti.load_prior(tmp_path / "ddpm.pth", format=replace(told, skip_rescale=True))
    assert float((rescaled.module(x, label) - network(x, label)).abs().max()) > 1e-3


def test_blocks_without_rescaling_are_plain_sums():
    """A block whose last convolution is zero returns what it is given."""
    older = Architecture(1, 1, 8, (1, 2), 1, (), False, biggan=False, rescale=False)
    block = seeded(lambda: NCSNpp(older)).all_modules[3]
    block.Conv_1.weight.zero_()
    block.Conv_1.bias.zero_()
    x = normal((4,), (2, 8, 8, 8)).float()
    torch.testing.assert_close(block(x, torch.ones(2, 32)), x)


def test_psld_files_give_their_network(tmp_path):
    network = seeded(lambda: NCSNpp(replace(TINY_NCSN, in_channels=2, out_channels=2)))
    state = {f"ema_score_fn.{n}": v for n, v in network.state_dict().items()}
    state |= {f"score_fn.{n}": 2 * v for n, v in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "callbacks": {}}, tmp_path / "psld.ckpt")
    z, t = noisy((2, 16, 16), 0.3), torch.tensor([0.2, 0.9])
    loaded = formats.psld_network(tmp_path / "psld.ckpt")
    torch.testing.assert_close(loaded(z, t), network(z, t))
    with pytest.raises(ValueError, match="gamma= is missing"):
        ti.load_prior(tmp_path / "psld.ckpt")
