"""Pretrained networks in the formats people have: same numbers as the library they come from."""

import hashlib
import json
import os
import pickle
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import operators as ops
import tweedie_inverse as ti
from operators.random import normal
from tests.posteriors import agreement, gaussian_posterior
from tweedie_inverse.cli import main
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats import edm_convert
from tweedie_inverse.priors.formats.adm import adm_prior
from tweedie_inverse.priors.formats.adm_network import ADMUNet, Architecture, architecture_of
from tweedie_inverse.priors.formats.base import Target
from tweedie_inverse.priors.formats.diffusers_folder import diffusers_prior
from tweedie_inverse.priors.formats.edm import (
    EDMArchitecture,
    RawNetwork,
    edm_architecture_of,
    edm_prior,
)
from tweedie_inverse.priors.formats.ncsnpp_network import Architecture as NCSNppArchitecture
from tweedie_inverse.priors.formats.ncsnpp_network import NCSNpp
from tweedie_inverse.priors.formats.ncsnpp_network import (
    architecture_of as ncsnpp_architecture_of,
)
from tweedie_inverse.priors.formats.score_sde import ve_prior, vp_prior

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


def test_old_pipelines_in_one_folder(tmp_path):
    """As google/ddpm-cat-256 and its like are laid out."""
    diffusers = pytest.importorskip("diffusers")
    folder = save_pipeline(tmp_path, small_unet(), diffusers.DDPMScheduler())
    expected = ti.load_prior(folder)
    for file in [*folder.glob("*/*")]:
        file.rename(folder / file.name)
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
    x = noisy((1, 16, 16), 0.3)
    found = ti.load_prior(folder).denoise(x, 0.3)
    torch.testing.assert_close(found, expected.denoise(x, 0.3), rtol=0, atol=0)


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


# --- EDM --------------------------------------------------------------------------------------

# NVlabs' DDPM++, NCSN++ and ADM for 64x64 and 32x32 images.
PUBLISHED_EDM = {
    "cifar10-ddpmpp": ("ddpm", 32, 0, 9, 128, (2, 2, 2), 4, (16,)),
    "cifar10-ncsnpp-cond": ("ncsn", 32, 10, 9, 128, (2, 2, 2), 4, (16,)),
    "ffhq-ddpmpp": ("ddpm", 64, 0, 9, 128, (1, 2, 2, 2), 4, (16,)),
    "ffhq-ncsnpp": ("ncsn", 64, 0, 9, 128, (1, 2, 2, 2), 4, (16,)),
    "imagenet64-adm-cond": ("adm", 64, 1000, 0, 192, (1, 2, 3, 4), 3, (32, 16, 8)),
}


@pytest.mark.parametrize("name", PUBLISHED_EDM)
def test_published_edm_architectures_are_read_from_shapes(name):
    models = pytest.importorskip("deepinv.models")
    kind, size, labels, augment, channels, mult, blocks, attention = PUBLISHED_EDM[name]
    expected = EDMArchitecture(
        kind, size, 3, 3, labels, augment, channels, mult, 4, blocks, attention
    )
    settings = {k: v for k, v in vars(expected).items() if k != "kind"}
    with torch.device("meta"):
        if kind == "adm":
            network = models.ADMUNet(pretrained=None, **settings)
        else:
            network = models.NCSNpp(kind, pretrained=None, **settings)
    assert edm_architecture_of(network.state_dict()) == expected


class Persistent:
    """Pickled the way NVlabs' classes are: a record with their source, to be executed."""

    def __init__(self, module, kind, **settings):
        self.state = {
            "training": False,
            "_parameters": dict(module._parameters),
            "_buffers": dict(module._buffers),
            "_modules": {
                name: part if isinstance(part, nn.ModuleDict) else Persistent(part, "Part")
                for name, part in module._modules.items()
                if part is not None
            },
            "_init_kwargs": settings,
        }
        self.kind = kind

    def __reduce__(self):
        import torch_utils.persistence

        source = "open('executed', 'w')"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": self.kind}
        return torch_utils.persistence._reconstruct_persistent_obj, ({**meta, "state": self.state},)


def persistent_pickle(path, network, kind="EDMPrecond"):
    """Write a pickle with the globals of NVlabs' files; modules inside ModuleDict stay plain."""
    module = types.ModuleType("torch_utils.persistence")
    exec("def _reconstruct_persistent_obj(meta): raise SystemExit", vars(module))
    names = {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": module}
    names["torch_utils"].persistence = module
    outer = nn.Module()
    outer.model = network
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setitem(sys.modules, name, value)
        record = Persistent(outer, kind, img_resolution=16, label_dim=0)
        for part in ("enc", "dec"):
            inner = record.state["_modules"]["model"].state["_modules"][part]
            plain = nn.ModuleDict()
            plain._modules = {name: Persistent(block, "UNetBlock") for name, block in inner.items()}
            record.state["_modules"]["model"].state["_modules"][part] = plain
        path.write_bytes(pickle.dumps({"ema": record, "loss_fn": None}))


@pytest.mark.parametrize("make", ["ncsn", "ddpm", "adm"])
def test_edm_pickles_are_converted_without_running_them(tmp_path, monkeypatch, make):
    pytest.importorskip("deepinv")
    settings = {"pixel_std": 0.5, "_was_trained_on_minus_one_one": True}
    if make == "adm":
        network = seeded(lambda: deepinv_admunet(**settings))
    else:
        network = seeded(lambda: deepinv_ncsnpp(model_type=make, **settings))
    persistent_pickle(tmp_path / "network.pkl", network)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "network.safetensors"
    if make == "ddpm":
        assert formats.convert("network.pkl", "network.safetensors") == out
    else:  # the same without the five seconds of a process of its own
        edm_convert._main("network.pkl", str(out))
    assert not Path("executed").exists()
    prior = ti.load_prior(out)
    x = noisy((1, 16, 16), 0.3)
    torch.testing.assert_close(prior.denoise(x, 0.3), network(x, 0.3), rtol=1e-5, atol=1e-5)
    torch.save(network.state_dict(), "deepinv.pt")  # deepinv's own file of the same network
    same = ti.load_prior("deepinv.pt").denoise(x, 0.3)
    torch.testing.assert_close(same, prior.denoise(x, 0.3), rtol=0, atol=0)


def test_edm_class_labels(tmp_path):
    pytest.importorskip("deepinv")
    network = seeded(lambda: deepinv_ncsnpp(label_dim=3))
    torch.save(network.state_dict(), tmp_path / "cond.pt")
    prior = ti.load_prior(tmp_path / "cond.pt", format=formats.EDM(class_label=1))
    x, label = noisy((1, 16, 16), 0.3), torch.tensor([0.1, -0.3])
    one = torch.tensor([[0.0, 1.0, 0.0]]).expand(2, -1)
    expected = network.forward_unet(x, label, class_labels=one)
    torch.testing.assert_close(prior.module(x, label), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="has 3 classes"):
        ti.load_prior(tmp_path / "cond.pt")


def test_the_converter_refuses_everything_else(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"ema": Malicious()}))
    with pytest.raises(pickle.UnpicklingError, match=r"refused (os|posix).makedirs"):
        edm_convert._main(str(tmp_path / "evil.pkl"), str(tmp_path / "out.safetensors"))
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(ValueError, match="needs a pickle that exists") as e:
        formats.convert(tmp_path / "none.pkl", tmp_path / "out.safetensors")
    assert one_line(e)


def test_edm2_and_other_preconditionings_are_told(tmp_path):
    from safetensors.torch import save_file

    for channels, message in ((3, "EDM2 networks are not"), (4, "latent priors are not")):
        weights = {"unet.emb_fourier.freqs": torch.ones(3), "logvar_linear.weight": torch.ones(2)}
        weights["unet.out_conv.weight"] = torch.ones(channels, 8, 3, 3)
        save_file(weights, tmp_path / "edm2.safetensors")
        with pytest.raises(ValueError, match=message):
            ti.load_prior(tmp_path / "edm2.safetensors")
    header = {"edm": json.dumps({"class": "VPPrecond"})}
    save_file({"model.map_layer0.weight": torch.ones(2, 2)}, tmp_path / "vp.safetensors", header)
    with pytest.raises(ValueError, match="VPPrecond is not supported"):
        ti.load_prior(tmp_path / "vp.safetensors")


# --- score_sde and PSLD -----------------------------------------------------------------------

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
    return NCSNppArchitecture(*settings, **others)


@pytest.mark.parametrize("name", PUBLISHED_NCSNPP)
def test_published_ncsnpp_architectures_are_read_from_shapes(name):
    expected = ncsnpp(name)
    with torch.device("meta"):
        network = NCSNpp(expected)
    assert ncsnpp_architecture_of(network.state_dict()) == expected
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
    expected = NCSNppArchitecture(
        1, 1, 8, (1, 2), 1, (1,), True, biggan, pyramid_in != "none" or pyramid_out != "none",
        pyramid_in, pyramid_out, concatenate,
    )  # fmt: skip
    network = seeded(lambda: NCSNpp(expected))
    assert ncsnpp_architecture_of(network.state_dict()) == expected
    x = noisy((1, 16, 16), 0.1)
    assert network(x, torch.tensor([0.1, 2.0])).shape == x.shape


SMALL_NCSN = NCSNppArchitecture(
    3, 3, 128, (1, 2), 1, (1,), True, True, True, "residual", "none", False
)


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


TINY_NCSN = NCSNppArchitecture(1, 1, 8, (1, 2), 1, (0,), True, True, True, "residual")


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
    with pytest.warns(UserWarning, match="sub-VP"):
        ti.load_prior(tmp_path / "vp.pth")
    prior = ti.load_prior(tmp_path / "vp.pth", format=formats.ScoreSDE(process="vp"))
    t = 0.4
    mean = torch.tensor(-0.25 * t**2 * 19.9 - 0.5 * t * 0.1).exp()  # Song's marginal_prob
    sigma = float((1 - mean**2).sqrt() / mean)
    x = noisy((1, 16, 16), sigma / 2)
    output = network(mean * (2 * x - 1), torch.full((2,), 999 * t))
    expected = ((2 * x - 1 - sigma * output) + 1) / 2
    torch.testing.assert_close(prior.denoise(x, sigma / 2), expected, rtol=1e-5, atol=1e-5)


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


class KarrasStyle(nn.Module):
    """D(x, sigma) on [-1, 1], sigma (batch,)."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, sigma):
        assert sigma.shape == (len(x),)
        return x - sigma.reshape(-1, 1, 1, 1) * torch.tanh(self.inner(x))


class KarrasWithDropout(nn.Module):
    """Left in training mode."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout()


class SmallStyle(nn.Module):
    """smalldiffusion's interface, with the sigma that `Scaled` needs."""

    input_dims = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, sigma, cond=None):
        return self.inner(x / (1 + sigma**2).sqrt())

    def predict_eps(self, x, sigma, cond=None):  # trained for v, as its PredV does
        a = (1 + sigma**2).sqrt()
        return (self(x, sigma) + sigma / a * x) / a


def test_k_diffusion_and_smalldiffusion_styles():
    network, x = seeded(KarrasStyle), noisy((1, 8, 8), 0.1)
    prior = ti.load_prior(network, format=formats.KDiffusion(shape=(1, 8, 8)))
    expected = (network(2 * x - 1, torch.full((2,), 0.2)) + 1) / 2
    torch.testing.assert_close(prior.denoise(x, 0.1), expected, rtol=1e-5, atol=1e-5)
    network = seeded(SmallStyle)
    prior = ti.load_prior(network, value_range=(-1.0, 1.0))  # recognised by predict_eps
    expected = x - 0.1 * network.predict_eps(x, torch.tensor(0.1))
    torch.testing.assert_close(prior.denoise(x, 0.1), expected, rtol=1e-5, atol=1e-5)
    assert prior.shape == (1, 8, 8)


# --- an exactly known denoiser in every convention gives the right posterior ------------------

MEAN, STD, SHAPE = 0.45, 0.2, (1, 4, 4)  # data units, images on [0, 1]
TABLE = ti.schedules.vp_linear_table()


class Exact(nn.Module):
    """What a perfect network for Gaussian pixels would do; knows nothing of adapters.

    `sigma` of a label, the coordinates of the input and the kind of output are the convention's.
    """

    def __init__(self, output, *, coordinates="vp", label="timestep", signed=True, extra=False):
        super().__init__()
        self.output, self.coordinates, self.label, self.extra = output, coordinates, label, extra
        self.mean, self.std = (2 * MEAN - 1, 2 * STD) if signed else (MEAN, STD)
        self.unused = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, given, label, **others):
        sigma = {
            "timestep": lambda: ti.schedules.timestep_to_sigma(label, TABLE),
            "sigma": lambda: label,
            "time": lambda: label / (1 - label),
            "999 t": lambda: torch.expm1(0.1 * label / 999 + 9.95 * (label / 999) ** 2).sqrt(),
            "log": lambda: (4 * label).exp(),
        }[self.label]().reshape(-1, 1, 1, 1)
        total = (sigma**2 + 0.25).sqrt()
        x = (
            given
            * {"vp": (1 + sigma**2).sqrt(), "ve": 1, "flow": 1 + sigma, "edm": total}[
                self.coordinates
            ]
        )
        x0 = self.mean + self.std**2 / (self.std**2 + sigma**2) * (x - self.mean)
        n = (x - x0) / sigma
        output = {
            "x0": x0,
            "epsilon": n,
            "score": -n / sigma,
            "score times sigma": -n,
            "v": (n - sigma * x0) / (1 + sigma**2).sqrt(),
            "flow": n - x0,
            "edm": (x0 - 0.25 / total**2 * x) / (sigma * 0.5 / total),
        }[self.output]
        return torch.cat([output, torch.ones_like(output)], dim=1) if self.extra else output

    def predict_eps(self, x, sigma, cond=None):
        return self(x, sigma.flatten())

    def forward_unet(self, x, label, class_labels=None):  # EDM's, inside deepinv's networks
        return self(x, label)


class Centred(nn.Module):
    """The inside of a network that centres images on [0, 1] itself."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, label):
        return self.network((x + 1) / 2, label)


DDPM = {"_class_name": "DDPMScheduler", "beta_schedule": "linear"}
SONG = {"_class_name": "ScoreSdeVeScheduler", "sigma_max": 50.0}


def module_prior(output, coordinates, label):
    settings = formats.Module(
        shape=SHAPE, parameterization=output, timesteps=TABLE if label == "timestep" else None
    )
    return ti.load_prior(Exact(output, coordinates=coordinates, label=label), format=settings)


ADAPTERS = {
    "diffusers-epsilon": lambda: diffusers_prior(
        Exact("epsilon"), SHAPE, DDPM, "epsilon", Target()
    ),
    "diffusers-v": lambda: diffusers_prior(Exact("v"), SHAPE, DDPM, "v_prediction", Target()),
    "diffusers-sample": lambda: diffusers_prior(Exact("x0"), SHAPE, DDPM, "sample", Target()),
    "diffusers-ve": lambda: diffusers_prior(
        Exact("score", coordinates="ve", label="sigma", signed=False),
        SHAPE, SONG, "epsilon", Target(),
    ),
    "adm": lambda: adm_prior(Exact("epsilon", extra=True), SHAPE, Target()),
    "deepinv": lambda: ti.load_prior(
        Exact("x0", coordinates="ve", label="sigma", signed=False),
        format=formats.Deepinv(shape=SHAPE),
    ),
    "k-diffusion": lambda: ti.load_prior(
        Exact("x0", coordinates="ve", label="sigma"), format=formats.KDiffusion(shape=SHAPE)
    ),
    "smalldiffusion": lambda: ti.load_prior(
        Exact("epsilon", coordinates="ve", label="sigma"),
        format=formats.SmallDiffusion(shape=SHAPE),
    ),
    "edm": lambda: edm_prior(
        RawNetwork(Exact("edm", coordinates="edm", label="log"), 0, None),
        SHAPE, Target(), formats.EDM(),
    ),
    "score-sde-ve": lambda: ve_prior(
        Centred(Exact("score times sigma", coordinates="ve", label="sigma", signed=False)),
        SHAPE, (0.01, 50.0), Target(),
    ),
    "score-sde-vp": lambda: vp_prior(Exact("epsilon", label="999 t"), SHAPE, Target()),
    "module-x0": lambda: module_prior("x0", "ve", "sigma"),
    "module-epsilon": lambda: module_prior("epsilon", "vp", "timestep"),
    "module-v": lambda: module_prior("v", "vp", "timestep"),
    "module-score": lambda: module_prior("score", "ve", "sigma"),
    "module-flow": lambda: module_prior("flow", "flow", "time"),
    "module-edm": lambda: module_prior("edm", "edm", "log"),
}  # fmt: skip


class WithExactError(ti.priors.Prior):
    """The adapter's denoiser with the known error, so that the walk has nothing to estimate."""

    def __init__(self, adapted, exact):
        self.adapted, self.exact, self.shape, self.centre = adapted, exact, SHAPE, exact.centre
        self.sigma_min, self.sigma_max = max(adapted.sigma_min, 0.005), min(adapted.sigma_max, 20)

    def denoise(self, x, sigma):
        return self.adapted.denoise(x, sigma)

    def denoising_error(self, sigma):
        return self.exact.denoising_error(sigma)


@pytest.mark.parametrize("name", ADAPTERS)
def test_posterior_is_right_through_every_adapter(name):
    """Mean and variance along every axis; a factor 2 in sigma or range gives z of 20 and more."""
    exact = ti.priors.Gaussian(
        torch.full(SHAPE, MEAN).double(), covariance=STD**2 * torch.eye(16).double()
    )
    operator = ops.MatrixOperator(normal((2,), (6, 16)), noise=ops.GaussianNoise(0.1))
    operator = ops.compose(
        operator, ops.LinearOperator.from_function(lambda x: x.flatten(1), SHAPE)
    )
    y = operator.forward(exact.draw(1, seed=3)) + 0.1 * normal((4,), (1, 6))
    adapted = ADAPTERS[name]()
    x = exact.draw(2, seed=5) + 0.3 * normal((6,), (2, *SHAPE))
    torch.testing.assert_close(adapted.denoise(x, 0.3), exact.denoise(x, 0.3), rtol=1e-7, atol=1e-7)
    posterior = ti.solve(
        y, operator, WithExactError(adapted, exact),
        method="decoupled", num_samples=400, steps=8, noise=ops.GaussianNoise(0.1),
    )  # fmt: skip
    found = agreement(posterior.samples[0], gaussian_posterior(exact, operator, y[0], 0.1))
    assert found.worst_z < 5


# --- files that should not be loaded ----------------------------------------------------------


class Malicious:
    def __reduce__(self):
        return os.makedirs, ("should-not-exist",)


def one_line(excinfo):
    return len(str(excinfo.value).splitlines()) == 1


@pytest.mark.parametrize("zip_file", [True, False])
def test_malicious_pickles_are_refused(tmp_path, monkeypatch, zip_file):
    monkeypatch.chdir(tmp_path)
    content = {"time_embed.0.weight": torch.ones(1), "payload": Malicious()}
    torch.save(content, "evil.pt", _use_new_zipfile_serialization=zip_file)
    with pytest.raises(ValueError, match=r"would run code .*makedirs.*allow_arbitrary_code") as e:
        ti.load_prior("evil.pt")
    assert one_line(e)
    Path("evil.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="tweedie-inverse convert") as e:
        ti.load_prior("evil.pkl")
    assert one_line(e)
    assert not Path("should-not-exist").exists()


def test_whole_modules_need_the_dangerous_argument(tmp_path):
    network = seeded(KarrasStyle)
    torch.save(network, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="would run code"):
        ti.load_prior(tmp_path / "net.pt")
    prior = ti.load_prior(
        tmp_path / "net.pt", allow_arbitrary_code=True, format=formats.KDiffusion(shape=(1, 8, 8))
    )
    assert prior.name == "KarrasStyle"


def test_checksums(tmp_path):
    save_adm(tmp_path / "adm.pt")
    digest = hashlib.sha256((tmp_path / "adm.pt").read_bytes()).hexdigest()
    adm_16 = formats.ADM(image_size=16)
    assert ti.load_prior(tmp_path / "adm.pt", sha256=digest.upper(), format=adm_16)
    with pytest.raises(ValueError, match="has checksum") as e:
        ti.load_prior(tmp_path / "adm.pt", sha256=64 * "0", format=adm_16)
    assert one_line(e)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_files_are_told(tmp_path, suffix, share):
    from safetensors.torch import save_file

    path = tmp_path / f"adm{suffix}"
    network = save_adm(path)
    if suffix == ".safetensors":
        save_file(network.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="is truncated or n") as e:
        ti.load_prior(path)
    assert one_line(e)


def test_missing_weights_and_wrong_architectures_are_told(tmp_path):
    state = save_adm(tmp_path / "adm.pt").state_dict()
    for name in [name for name in state if "emb_layers" in name and "bias" in name]:
        del state[name]
    torch.save(state, tmp_path / "few.pt")
    with pytest.raises(ValueError, match=r"10 of \d+ weights are missing, first input_blocks") as e:
        ti.load_prior(tmp_path / "few.pt", format=formats.ADM(image_size=16))
    assert one_line(e)
    assert str(e.value).count("emb_layers") == 5
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"nor any other known format .*begins with layer.weight"):
        ti.load_prior(tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"time_embed.0.weight is missing"):
        ti.load_prior(tmp_path / "other.pt", format="adm")
    with pytest.raises(ValueError, match="must be one of tweedie-inverse, diffusers, adm"):
        ti.load_prior(tmp_path / "other.pt", format="pixelcnn")
    torch.save({"first_stage_model.a": torch.ones(2)}, tmp_path / "latent.pt")
    with pytest.raises(ValueError, match="latent priors are not supported yet"):
        ti.load_prior(tmp_path / "latent.pt")


def test_wrong_folders_and_missing_configurations_are_told(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    (tmp_path / "README.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"a folder without model_index.json.*README.txt") as e:
        ti.load_prior(tmp_path)
    assert one_line(e)
    folder = save_pipeline(tmp_path / "ddpm", small_unet(), diffusers.DDPMScheduler())
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "vae": ["diffusers", "X"]}))
    with pytest.raises(ValueError, match="latent priors are not supported yet"):
        ti.load_prior(folder)
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(ValueError, match=r"scheduler_config.json is missing") as e:
        ti.load_prior(folder)
    assert one_line(e)
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config.json is missing"):
        ti.load_prior(folder)


def test_wrong_channels_and_half_precision_are_told(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    folder = save_pipeline(tmp_path, small_unet(out_channels=3), diffusers.DDPMScheduler())
    with pytest.raises(ValueError, match="takes 1 channels and returns 3"):
        ti.load_prior(folder)
    dropping = KarrasWithDropout()
    with pytest.raises(ValueError, match=r"drop is in training mode.* call .eval\(\) first"):
        ti.load_prior(dropping, format=formats.KDiffusion(shape=(1, 8, 8)))
    half = seeded(KarrasStyle).half()
    with pytest.raises(ValueError, match=r"inner.weight is in half precision on the CPU"):
        ti.load_prior(half, format=formats.KDiffusion(shape=(1, 8, 8)))


def test_every_code_block_of_the_guide_runs(tmp_path, monkeypatch):
    """In the order of the page, in one namespace."""
    pytest.importorskip("deepinv")
    pytest.importorskip("diffusers")
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec("\n".join(blocks), {"__name__": "guide"})


def test_every_format_has_a_line_in_the_guide():
    text = GUIDE.read_text()
    for name in formats.FORMATS:
        assert f"`{name}`" in text


def test_info_and_solve_on_the_command_line(tmp_path, capsys):
    diffusers = pytest.importorskip("diffusers")
    save_adm(tmp_path / "adm.pt", adm(64, (1, 2, 3, 4), 1, (3,), 0))
    main(["info", str(tmp_path / "adm.pt")])
    told = capsys.readouterr().out
    assert "format: adm" in told
    assert "channel_mult: (1, 2, 3, 4)" in told
    assert "image_size: 64" in told
    folder = save_pipeline(tmp_path / "ddpm", small_unet(), diffusers.DDPMScheduler())
    main(["info", str(folder)])
    assert "scheduler: DDPMScheduler" in capsys.readouterr().out
    main(["info", "phantom-64"])
    assert "format: tweedie-inverse" in capsys.readouterr().out
    (tmp_path / "op.py").write_text(
        "import operators as ops\nmask = ops.Mask(ops.random_mask((1, 16, 16), 0.5))\n"
    )
    np.save(tmp_path / "y.npy", np.zeros((1, 16, 16), dtype=np.float32))
    main(["solve", str(tmp_path / "y.npy"), "--operator", f"{tmp_path / 'op.py'}:mask", "--prior",
          str(folder), "--noise", "0.1", "--steps", "2", "--samples", "2",
          "--out", str(tmp_path / "posterior.safetensors")])  # fmt: skip
    assert (tmp_path / "posterior.safetensors").is_file()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["info", "op.py"], "truncated or no PyTorch file"),
        (["info", "nothing.pt"], "neither a shipped prior"),
        (["convert", "nothing.pkl", "out.safetensors"], "needs a pickle that exists"),
    ],
)
def test_wrong_commands_end_with_a_line(tmp_path, monkeypatch, capsys, command, message):
    monkeypatch.chdir(tmp_path)
    Path("op.py").write_text("x = 1")
    with pytest.raises(SystemExit):
        main(command)
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) == 1
