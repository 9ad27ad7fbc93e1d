"""guided-diffusion / ADM checkpoints: same numbers as the library they come from."""

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import (
    adm_architecture,
    noisy,
    save_adm,
    seeded,
)
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.networks.adm import ADMUNet, architecture_of

# The published commands: num_channels, channel multipliers of the image size, num_res_blocks,
# attention levels, classes; all with learned variance, scale-shift norm and residual resampling.
WIDE = (1, 1, 2, 2, 4, 4)
PUBLISHED_ADM = {
    "64x64_diffusion": (192, (1, 2, 3, 4), 3, (1, 2, 3), 1000),
    "128x128_diffusion": (256, (1, 1, 2, 3, 4), 2, (2, 3, 4), 1000),
    "256x256_diffusion": (256, WIDE, 2, (3, 4, 5), 1000),
    "256x256_diffusion_uncond": (256, WIDE, 2, (3, 4, 5), 0),
    "512x512_diffusion": (256, (0.5, 1, 1, 2, 2, 4, 4), 2, (4, 5, 6), 1000),
    "lsun": (256, WIDE, 2, (3, 4, 5), 0),
    "ffhq_10m": (128, WIDE, 1, (4,), 0),
}


@pytest.mark.parametrize("name", PUBLISHED_ADM)
def test_published_adm_architectures_are_read_from_shapes(name):
    expected = adm_architecture(*PUBLISHED_ADM[name])
    with torch.device("meta"):
        network = ADMUNet(expected)
    assert architecture_of(network.state_dict()) == expected


@pytest.mark.parametrize("resampling", ["block", "convolution", "pooling"])
@pytest.mark.parametrize("norm", [True, False])
def test_other_adm_architectures_are_read_from_shapes(resampling, norm):
    expected = adm_architecture(64, (1, 2, 2), 2, (1,), 0, resampling=resampling,
                                scale_shift_norm=norm, out_channels=3)  # fmt: skip
    with torch.device("meta"):
        network = ADMUNet(expected)
    assert architecture_of(network.state_dict()) == expected


def test_number_of_parameters_of_the_published_256_model():
    """552.8 million, Dhariwal and Nichol's 554M less rounding and class embedding."""
    with torch.device("meta"):
        network = ADMUNet(adm_architecture(*PUBLISHED_ADM["256x256_diffusion_uncond"]))
    assert sum(p.numel() for p in network.parameters()) == 552_814_086


def test_adm_file_is_denoised_with_the_noise_channels_alone(tmp_path):
    network = save_adm(tmp_path / "adm.pt")
    prior = ti.load_prior(tmp_path / "adm.pt", format=formats.ADM(image_size=16))
    table = ti.schedules.vp_linear_table()
    t = 400
    sigma = float(table[t])  # in network units; data are on [0, 1]
    x = noisy((3, 16, 16), sigma / 2)
    state = 2 * x - 1
    output = network(state / (1 + sigma**2) ** 0.5, torch.full((2,), t))
    expected = (state - sigma * output[:, :3] + 1) / 2
    torch.testing.assert_close(prior.denoise(x, sigma / 2), expected, rtol=1e-5, atol=1e-5)
    variance = prior.module.variance(state / (1 + sigma**2) ** 0.5, torch.full((2,), t))
    torch.testing.assert_close(variance, output[:, 3:], rtol=1e-5, atol=1e-5)
    assert prior.shape == (3, 16, 16)
    assert prior.sigma_max == pytest.approx(float(table[-1]) / 2)


def test_adm_class_label_and_head_settings(tmp_path):
    architecture = adm_architecture(64, (1, 2), 1, (1,), 5, heads=4, new_attention_order=True)
    network = save_adm(tmp_path / "adm.pt", architecture)
    settings = formats.ADM(image_size=16, class_label=3, heads=4, new_attention_order=True)
    prior = ti.load_prior(tmp_path / "adm.pt", format=settings)
    x, t = noisy((3, 16, 16), 0.3), torch.full((2,), 7.5)
    expected = network(x, t, torch.full((2,), 3))[:, :3]
    torch.testing.assert_close(prior.module(x, t), expected, rtol=1e-5, atol=1e-5)
    other = formats.ADM(image_size=16, class_label=3, head_channels=32)
    differs = ti.load_prior(tmp_path / "adm.pt", format=other).module(x, t)
    assert float((differs - expected).abs().max()) > 1e-3
    with pytest.raises(ValueError, match="needs class_label from 0 to 4, got class_label=None"):
        ti.load_prior(tmp_path / "adm.pt", format=formats.ADM(image_size=16))
    with pytest.raises(ValueError, match="image_size"):
        ti.load_prior(tmp_path / "adm.pt", format=formats.ADM(class_label=3))


def test_own_adm_network_equals_deepinvs():
    """The 93-million-parameter network of ffhq_10m.pt, by somebody else's code."""
    models = pytest.importorskip("deepinv.models")
    theirs = seeded(lambda: models.DiffUNet(pretrained=None))
    state = {k: v for k, v in theirs.state_dict().items() if "alphas_cumprod" not in k}
    found = architecture_of(state)
    assert found == adm_architecture(*PUBLISHED_ADM["ffhq_10m"])
    with torch.device("meta"):
        ours = ADMUNet(found)
    ours.load_state_dict(state, assign=True)
    x, t = noisy((3, 32, 32), 0.3, 1), torch.tensor([321])
    expected = theirs.forward_diffusion(x, t)
    torch.testing.assert_close(ours.eval()(x, t), expected, rtol=1e-5, atol=1e-5)
    prior = ti.load_prior(theirs, format=formats.Deepinv(shape=(3, 32, 32)))
    sigma = float(ti.schedules.vp_linear_table()[321])
    state_in = (2 * x - 1) / (1 + sigma**2) ** 0.5
    expected = (2 * x - 1 - sigma * theirs.forward_diffusion(state_in, t)[:, :3] + 1) / 2
    torch.testing.assert_close(prior.denoise(x, sigma / 2), expected, rtol=1e-5, atol=1e-5)
