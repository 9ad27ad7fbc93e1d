"""What a network file cannot say: known of published networks, else warned about or asked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import adm_architecture, noisy, one_line, save_adm, seeded
from tests.test_formats_adm import PUBLISHED_ADM, WIDE
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.adm import levels_of
from tweedie_inverse.priors.formats.adm_published import OF_CONSISTENCY_MODELS, PUBLISHED
from tweedie_inverse.priors.formats.networks.adm import ADMUNet, Architecture
from tweedie_inverse.priors.formats.networks.edm import DeepinvCall
from tweedie_inverse.priors.formats.networks.edm2 import EDM2Architecture, EDM2UNet
from tweedie_inverse.priors.formats.networks.ncsnpp import Architecture as NCSNArchitecture
from tweedie_inverse.priors.formats.networks.ncsnpp import NCSNpp
from tweedie_inverse.priors.formats.reading.files import Checkpoint
from tweedie_inverse.priors.unet import UNet

IMPROVED = {"resampling": "convolution"}
# By the flags of their READMEs: shapes, size, schedule, steps, scale of the labels, heads (None:
# 64 channels each), new order.
FLAGS = {
    "64x64_diffusion": (64, "cosine", 1000, 1, None, True),
    "128x128_diffusion": (128, "vp-linear", 1000, 1, 4, False),
    "256x256_diffusion": (256, "vp-linear", 1000, 1, None, False),
    "256x256_diffusion_uncond": (256, "vp-linear", 1000, 1, None, False),
    "512x512_diffusion": (512, "vp-linear", 1000, 1, None, False),
    "lsun": (256, "vp-linear", 1000, 1, None, False),
    "ffhq_10m": (256, "vp-linear", 1000, 1, None, False),
    "imagenet64_uncond_100M_1500K": (64, "cosine", 4000, 0.25, 4, False),
    "cifar10_uncond_50M_500K": (32, "cosine", 4000, 0.25, 4, False),
    "imagenet64_cond_270M_250K": (64, "cosine", 4000, 1, 4, False),
    "lsun_uncond_100M_1200K_bs128": (256, "vp-linear", 1000, 1, 1, False),
}
OF_IMPROVED_DIFFUSION = {
    "imagenet64_uncond_100M_1500K": (128, (1, 2, 3, 4), 3, (2, 3), 0),
    "cifar10_uncond_50M_500K": (128, (1, 2, 2, 2), 3, (1, 2), 0),
    "imagenet64_cond_270M_250K": (192, (1, 2, 3, 4), 3, (2, 3), 1000),
    "lsun_uncond_100M_1200K_bs128": (128, WIDE, 2, (4,), 0),
}


def published(name):
    if name in PUBLISHED_ADM:
        return adm_architecture(*PUBLISHED_ADM[name])
    norm = not name.startswith("lsun")
    return adm_architecture(*OF_IMPROVED_DIFFUSION[name], **IMPROVED, scale_shift_norm=norm)


def told(architecture, settings=None):
    """What `info` says of a file with such weights, without any memory for them."""
    settings = formats.ADM() if settings is None else settings
    with torch.device("meta"):
        state = ADMUNet(architecture).state_dict()
    checkpoint = Checkpoint(Path("a.pt"), {}, {}, view=state)
    return settings.describe(formats.Source("a.pt", checkpoint=checkpoint))


@pytest.mark.parametrize("name", FLAGS)
def test_published_networks_are_known(name):
    rows = told(published(name))
    found = ("image_size", "schedule", "steps", "label_scale", "heads", "new_attention_order")
    assert tuple(rows[key] for key in found) == FLAGS[name]
    assert rows["head_channels"] == 64
    assert "not in the file" not in rows


@pytest.mark.parametrize(
    "change",
    [
        {"attention_levels": (2, 3)},
        {"resampling": "convolution"},
        {"scale_shift_norm": False},
        {"out_channels": 3},
        {"classes": 10},
        {"blocks": 3},
        {"in_channels": 1},
    ],
)
def test_one_difference_makes_another_network(change):
    """A key without it would read this one as the published one."""
    rows = told(replace(published("256x256_diffusion"), **change))
    for setting in ("heads=", "schedule=", "steps=", "label_scale=", "new_attention_order="):
        assert setting in rows["not in the file"]


def test_tables_are_complete():
    assert len(PUBLISHED) == len(FLAGS) - 1  # lsun has the shapes of 256x256_diffusion_uncond
    for shapes in OF_CONSISTENCY_MODELS:
        assert shapes not in PUBLISHED


SMALL = Architecture(1, 2, 32, (1, 2), 1, (1,), True, "convolution", heads=4)
ALL = formats.ADM(
    image_size=16,
    heads=4,
    schedule="cosine",
    steps=400,
    label_scale=2.5,
    new_attention_order=False,
    parameterization="epsilon",
    network_range=(-1.0, 1.0),
)


def test_a_network_of_ones_own_is_read_with_one_warning(tmp_path):
    """With 4 heads, as the training scripts have it, and labels rescaled to 1000."""
    network = save_adm(tmp_path / "own.pt", SMALL)
    with pytest.warns(formats.UnsaidWarning) as record:
        guessed = ti.load_prior(tmp_path / "own.pt", format=formats.ADM(image_size=16, steps=400))
    (warning,) = record
    text = str(warning.message)
    assert one_line_of(text)
    for setting in ("heads= (read as 4)", "schedule= (", "label_scale= (read as 2.5)",
                    "new_attention_order=", "parameterization=", "network_range="):  # fmt: skip
        assert setting in text
    assert "steps= (" not in text
    assert "image_size= (" not in text
    assert warning.filename == __file__
    prior = ti.load_prior(tmp_path / "own.pt", format=ALL)  # all said: no warning
    table = levels_of("cosine", 400)
    for t in (7, 250):
        sigma = float(table[t])
        x = noisy((1, 16, 16), sigma / 2)
        state = (2 * x - 1) / (1 + sigma**2) ** 0.5
        output = network(state, torch.full((2,), 2.5 * t))[:, :1]
        expected = (2 * x - sigma * output) / 2
        difference = float((prior.denoise(x, sigma / 2) - expected).abs().max())
        assert difference < 1e-5 * max(1, sigma)
    assert guessed.module.network.architecture.heads == 4
    assert guessed.module.label_scale == 2.5
    zero_one = replace(ALL, network_range=(0.0, 1.0), parameterization="x0")
    prior = ti.load_prior(tmp_path / "own.pt", format=zero_one)
    assert (prior.offset, prior.scale, prior.parameterization) == (0, 1, "x0")


def one_line_of(text):
    return len(text.splitlines()) == 1


def test_noise_levels_in_the_file_are_taken(tmp_path):
    """deepinv's DiffUNet keeps them among its weights, in single precision."""
    state = save_adm(tmp_path / "a.pt", SMALL).state_dict()
    silent = replace(ALL, schedule=None, steps=None)
    for levels in (levels_of("vp-linear"), levels_of("cosine", 50)):
        bar = 1 / (1 + levels**2)
        tables = {"sqrt_alphas_cumprod": bar.sqrt(), "sqrt_1m_alphas_cumprod": (1 - bar).sqrt()}
        torch.save({**state, **{n: v.float() for n, v in tables.items()}}, tmp_path / "a.pt")
        prior = ti.load_prior(tmp_path / "a.pt", format=silent)  # all said: no warning
        torch.testing.assert_close(prior.timesteps, levels, rtol=1e-3, atol=0)


def test_schedules_of_other_lengths():
    """improved-diffusion scales linear betas by 1000 / steps, which keeps their sum."""
    for steps in (1000, 4000):
        betas = torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64)
        bar = torch.cumprod(1 - betas, 0)
        expected = ((1 - bar) / bar).sqrt()
        torch.testing.assert_close(levels_of("vp-linear", steps), expected, rtol=1e-9, atol=0)
    assert len(levels_of("cosine", 4000)) == 4000
    with pytest.raises(ValueError, match="more than 20 steps"):
        levels_of("vp-linear", 20)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (replace(SMALL, in_channels=2, out_channels=1), "takes 2 channels and returns 1"),
        (replace(SMALL, in_channels=6, out_channels=6), "up-sampling network"),
        (replace(SMALL, in_channels=4, out_channels=8), "latent priors are not supported yet"),
    ],
)
def test_networks_that_are_no_priors_are_refused(tmp_path, architecture, message):
    save_adm(tmp_path / "a.pt", architecture)
    with pytest.raises(ValueError, match=message) as e:
        ti.load_prior(tmp_path / "a.pt", format=ALL)
    assert one_line(e)


def test_classifiers_and_odd_sizes_are_refused(tmp_path):
    state = save_adm(tmp_path / "a.pt", SMALL).state_dict()
    with pytest.raises(ValueError, match="a multiple of 2, got image_size=15"):
        ti.load_prior(tmp_path / "a.pt", format=replace(ALL, image_size=15))
    half = {name: value for name, value in state.items() if not name.startswith("output_blocks.")}
    torch.save(half, tmp_path / "classifier.pt")
    with pytest.raises(ValueError, match="as classifiers are"):
        ti.load_prior(tmp_path / "classifier.pt")


def test_modules_of_other_channels_are_refused_at_loading():
    class Plain(torch.nn.Module):
        def __init__(self, channels, out):
            super().__init__()
            self.layer = torch.nn.Conv2d(channels, out, 3, padding=1)

        def forward(self, x, sigma):
            return self.layer(x)

    with pytest.raises(ValueError, match=r"returns \(1, 8, 8\) for an image of shape \(2, 8, 8\)"):
        ti.load_prior(seeded(lambda: Plain(2, 1)), format=formats.Module((2, 8, 8), "x0"))
    with pytest.raises(ValueError, match=r"does not take 1 channels, as images of shape"):
        ti.load_prior(seeded(lambda: Plain(3, 3)), format=formats.Module((1, 8, 8), "x0"))
    assert ti.load_prior(seeded(lambda: Plain(3, 3)), format=formats.Module((3, 8, 8), "x0"))


def test_edm_files_without_a_header_are_told(tmp_path):
    pytest.importorskip("deepinv")
    from tests.networks import deepinv_ncsnpp

    torch.save(seeded(lambda: deepinv_ncsnpp()).state_dict(), tmp_path / "edm.pt")
    with pytest.warns(formats.UnsaidWarning, match=r"preconditioning= \(read as 'edm'.*sigma_data"):
        ti.load_prior(tmp_path / "edm.pt")
    assert ti.load_prior(tmp_path / "edm.pt", format=formats.EDM(preconditioning="edm"))


NETWORKS = {
    "adm": lambda: ADMUNet(SMALL),
    "ncsnpp": lambda: NCSNpp(NCSNArchitecture(1, 1, 8, (1, 2), 1, (0,), False)),
    "ncsnpp-fourier": lambda: NCSNpp(NCSNArchitecture(1, 1, 8, (1, 2), 1, (0,), True)),
    "edm2": lambda: EDM2UNet(EDM2Architecture(16, 1, 0, (64, 64), 64, 16, 1, ())),
    "unet": lambda: UNet(1, (8, 8), (1, 1)),
    "edm": lambda: _deepinv("ddpm"),
    "edm-fourier": lambda: _deepinv("ncsn"),
}


def _deepinv(kind):
    pytest.importorskip("deepinv")
    from tests.networks import deepinv_ncsnpp

    return DeepinvCall(deepinv_ncsnpp(model_type=kind))


@pytest.mark.parametrize("name", NETWORKS)
def test_labels_are_embedded_in_float32_whatever_the_weights(name):
    """In bfloat16 timestep 701 is 700 or 704, another level altogether."""
    network = seeded(NETWORKS[name])
    told = []
    layers = {"adm": "time_embed.0", "edm2": "emb_noise", "unet": "embedding.mlp.0"}
    first = layers.get(name, "map_layer0")
    if name.startswith("ncsnpp"):
        first = f"all_modules.{int(name.endswith('fourier'))}"
    layer = network.get_submodule(first if not name.startswith("edm-") and name != "edm"
                                  else f"network.{first}")  # fmt: skip
    layer.register_forward_pre_hook(lambda module, given: told.append(given[0]))
    x, label = noisy((1, 16, 16), 0.3), torch.tensor([701.0, 3.0])
    network(x, label)
    network.bfloat16()
    output = network(x.bfloat16(), label)
    assert output.dtype == told[1].dtype == torch.bfloat16
    torch.testing.assert_close(told[1], told[0].bfloat16(), rtol=0, atol=0)
