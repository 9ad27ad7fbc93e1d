"""Pretrained networks in the formats people have: same numbers as the library they come from."""

from pathlib import Path

import pytest
import torch

import tweedie_inverse as ti
from operators.random import normal
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.adm_network import ADMUNet, Architecture, architecture_of

GUIDE = Path(__file__).parent.parent / "docs" / "bring-your-network.md"


def seeded(make, seed=0):
    """Libraries draw initial weights from the global generator: lend them a copy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        with torch.no_grad():  # what starts at zero would hide mistakes
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return network.eval().requires_grad_(False)


def noisy(shape, sigma, count=2):
    """Images around 0.5, with noise."""
    clean = 0.5 + 0.2 * normal((1,), (count, *shape)).float()
    return clean + sigma * normal((2,), (count, *shape)).float()


# --- guided-diffusion / ADM -------------------------------------------------------------------

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


def adm(channels, mult, blocks, attention, classes, **others):
    settings = {"scale_shift_norm": True, "resampling": "block", "out_channels": 6, **others}
    return Architecture(3, settings.pop("out_channels"), channels, mult, blocks, attention,
                        classes=classes, **settings)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED_ADM)
def test_published_adm_architectures_are_read_from_shapes(name):
    expected = adm(*PUBLISHED_ADM[name])
    with torch.device("meta"):
        network = ADMUNet(expected)
    assert architecture_of(network.state_dict()) == expected


@pytest.mark.parametrize("resampling", ["block", "convolution", "pooling"])
@pytest.mark.parametrize("norm", [True, False])
def test_other_adm_architectures_are_read_from_shapes(resampling, norm):
    expected = adm(64, (1, 2, 2), 2, (1,), 0, resampling=resampling, scale_shift_norm=norm,
                   out_channels=3)  # fmt: skip
    with torch.device("meta"):
        network = ADMUNet(expected)
    assert architecture_of(network.state_dict()) == expected


def test_number_of_parameters_of_the_published_256_model():
    """552.8 million, Dhariwal and Nichol's 554M less rounding and class embedding."""
    with torch.device("meta"):
        network = ADMUNet(adm(*PUBLISHED_ADM["256x256_diffusion_uncond"]))
    assert sum(p.numel() for p in network.parameters()) == 552_814_086


SMALL_ADM = adm(64, (1, 2), 1, (1,), 0)


def save_adm(path, architecture=SMALL_ADM):
    network = seeded(lambda: ADMUNet(architecture))
    torch.save(network.state_dict(), path)
    return network


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
    architecture = adm(64, (1, 2), 1, (1,), 5, heads=4, new_attention_order=True)
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
    assert found == adm(*PUBLISHED_ADM["ffhq_10m"])
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


# --- diffusers --------------------------------------------------------------------------------


def small_unet(**others):
    import diffusers

    settings = {
        "sample_size": 16,
        "in_channels": 1,
        "out_channels": 1,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        **others,
    }
    return seeded(lambda: diffusers.UNet2DModel(**settings))


def save_pipeline(folder, unet, scheduler, pipeline="DDPMPipeline"):
    import diffusers

    getattr(diffusers, pipeline)(unet=unet, scheduler=scheduler).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_diffusers_pipelines_equal_diffusers(tmp_path, prediction, schedule):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        prediction_type=prediction, beta_schedule=schedule, clip_sample=False
    )
    unet = small_unet()
    prior = ti.load_prior(save_pipeline(tmp_path, unet, scheduler))
    t = 300
    bar = scheduler.alphas_cumprod.double()[t]
    sigma = float(((1 - bar) / bar).sqrt())
    x = noisy((1, 16, 16), sigma / 2)
    state = (2 * x - 1) * float(bar) ** 0.5
    output = unet(state, t).sample
    generator = torch.Generator().manual_seed(0)
    expected = scheduler.step(output, t, state, generator=generator).pred_original_sample
    difference = prior.denoise(x, sigma / 2) - (expected + 1) / 2
    assert float(difference.abs().max()) < 1e-5 * max(1, sigma)


def test_diffusers_score_sde_ve(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    unet = small_unet(time_embedding_type="fourier", center_input_sample=True)
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_max=50.0)
    save_pipeline(tmp_path, unet, scheduler, "ScoreSdeVePipeline")
    prior = ti.load_prior(tmp_path, value_range=(0.0, 255.0))
    x, sigma = noisy((1, 16, 16), 0.4), 0.4
    expected = x + sigma**2 * unet(x, torch.full((2,), sigma)).sample
    denoised = prior.denoise(255 * x, 255 * sigma) / 255
    torch.testing.assert_close(denoised, expected, rtol=1e-5, atol=1e-5)
    assert (prior.sigma_min, prior.sigma_max) == pytest.approx((2.55, 50 * 255))


def test_diffusers_classes_and_old_names(tmp_path):
    """A class-conditional network, with the attention names of old files and half precision."""
    diffusers = pytest.importorskip("diffusers")
    unet = small_unet(num_class_embeds=4, out_channels=2)
    save_pipeline(tmp_path, unet, diffusers.DDIMScheduler(), "DDIMPipeline")
    file = tmp_path / "unet" / "diffusion_pytorch_model"
    old = {}
    for name, value in unet.state_dict().items():
        for new, was in ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."),
                         (".to_out.0.", ".proj_attn.")):  # fmt: skip
            name = name.replace(new, was)
        old[name] = value.half()
    torch.save(old, file.with_suffix(".bin"))
    file.with_suffix(".safetensors").unlink()
    prior = ti.load_prior(tmp_path, format=formats.Diffusers(class_label=2))
    x, t = noisy((1, 16, 16), 0.3), torch.full((2,), 100)
    expected = unet.half().float()(x, t, class_labels=torch.full((2,), 2)).sample[:, :1]
    torch.testing.assert_close(prior.module(x, t), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="has 4 classes"):
        ti.load_prior(tmp_path)


def test_diffusers_null_condition(tmp_path):
    diffusers = pytest.importorskip("diffusers")

    def make():
        return diffusers.UNet2DConditionModel(
            sample_size=16, in_channels=1, out_channels=1, layers_per_block=1,
            block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=6,
            attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip

    unet = seeded(make)
    unet.save_pretrained(tmp_path / "unet")
    diffusers.DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    x, t = noisy((1, 16, 16), 0.3), torch.full((2,), 100)
    for folder, condition in ((tmp_path / "unet", None), (tmp_path / "unet", torch.ones(3, 6))):
        prior = ti.load_prior(folder, format=formats.Diffusers(condition=condition))
        told = torch.zeros(1, 1, 6) if condition is None else condition[None]
        expected = unet(x, t, told.expand(2, -1, -1)).sample
        torch.testing.assert_close(prior.module(x, t), expected, rtol=1e-5, atol=1e-5)


def test_hub_ids_are_fetched_with_a_pinned_revision(tmp_path, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    import huggingface_hub

    folder = save_pipeline(tmp_path / "0123abc", small_unet(), diffusers.DDPMScheduler())
    asked = []

    def download(name, revision, allow_patterns):
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert ti.load_prior("owner/ddpm-small", revision="0123abc").shape == (1, 16, 16)
    with pytest.warns(UserWarning, match="revision='0123abc'"):
        ti.load_prior("owner/ddpm-small")
    assert asked == [("owner/ddpm-small", "0123abc"), ("owner/ddpm-small", None)]

    def offline(name, revision, allow_patterns):
        raise ConnectionError("no route to host\nand a page of advice")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ValueError, match=r"hub did not give it \(no route to host\); download"):
        ti.load_prior("owner/ddpm-small")


# --- networks in memory -----------------------------------------------------------------------


def deepinv_ncsnpp(**settings):
    from deepinv.models import NCSNpp

    return NCSNpp(
        img_resolution=16, in_channels=1, out_channels=1, augment_dim=0, model_channels=32,
        channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,), pretrained=None, **settings,
    )  # fmt: skip


def deepinv_admunet(**settings):
    from deepinv.models import ADMUNet

    return ADMUNet(
        img_resolution=16, in_channels=1, out_channels=1, model_channels=64, channel_mult=(1, 2),
        num_blocks=1, attn_resolutions=(8,), pretrained=None, **settings,
    )  # fmt: skip


class InnerNetwork(nn.Module):
    """Some network behind a preconditioning."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, noise, class_labels=None):
        return torch.tanh(self.layer(x)) * noise.reshape(-1, 1, 1, 1)


def test_deepinv_denoisers_equal_deepinv():
    models = pytest.importorskip("deepinv.models")
    networks = [
        seeded(lambda: models.DRUNet(1, 1, nc=(8, 8, 8, 8), nb=1, pretrained=None)),
        seeded(lambda: deepinv_ncsnpp(_was_trained_on_minus_one_one=True)),
        seeded(lambda: deepinv_admunet()),
        seeded(lambda: models.EDMPrecond(InnerNetwork())),
    ]
    x = noisy((1, 16, 16), 0.1)
    for network in networks:
        prior = ti.load_prior(network.eval(), format=formats.Deepinv(shape=(1, 16, 16)))
        assert prior.name == type(network).__name__
        torch.testing.assert_close(prior.denoise(x, 0.1), network(x, 0.1), rtol=1e-5, atol=1e-5)
        signed = ti.load_prior(
            network, format=formats.Deepinv(shape=(1, 16, 16)), value_range=(-1.0, 1.0)
        )
        torch.testing.assert_close(
            signed.denoise(2 * x - 1, 0.2), 2 * network(x, 0.1) - 1, rtol=1e-5, atol=1e-5
        )
    with pytest.raises(ValueError, match="does not tell the shape"):
        ti.load_prior(networks[0])
