"""EDM, EDM2 and their baselines: conversion without running code, and the right numbers."""

import json
import math
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tweedie_inverse as ti
from tests.networks import (
    Malicious,
    deepinv_admunet,
    deepinv_ncsnpp,
    noisy,
    one_line,
    seeded,
)
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats import edm_convert
from tweedie_inverse.priors.formats.networks.edm import EDMArchitecture, edm_architecture_of
from tweedie_inverse.priors.formats.networks.edm2 import (
    EDM2Architecture,
    EDM2UNet,
    edm2_architecture_of,
)

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


def persistent_pickle(path, network, kind="EDMPrecond", inside="model", **settings):
    """Write a pickle with the globals of NVlabs' files; modules inside ModuleDict stay plain."""
    module = types.ModuleType("torch_utils.persistence")
    exec("def _reconstruct_persistent_obj(meta): raise SystemExit", vars(module))
    names = {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": module}
    names["torch_utils"].persistence = module
    outer = nn.Module()
    outer.add_module(inside, network)
    if kind == "iDDPMPrecond":
        outer.register_buffer("u", torch.tensor(iddpm_levels()))
    elif kind == "Precond":
        outer.logvar_linear = nn.Module()
        outer.logvar_linear.weight = nn.Parameter(torch.zeros(1, 2))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setitem(sys.modules, name, value)
        record = Persistent(outer, kind, img_resolution=16, label_dim=0, **settings)
        for part in ("enc", "dec"):
            inner = record.state["_modules"][inside].state["_modules"][part]
            plain = nn.ModuleDict()
            plain._modules = {name: Persistent(block, "UNetBlock") for name, block in inner.items()}
            record.state["_modules"][inside].state["_modules"][part] = plain
        encoder = Persistent(nn.Module(), "StandardRGBEncoder")
        path.write_bytes(pickle.dumps({"encoder": encoder, "ema": record, "loss_fn": None}))


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
    latent = {"encoder": {"scale": np.ones(4)}, "ema": None}
    (tmp_path / "latent.pkl").write_bytes(pickle.dumps(latent))
    with pytest.raises(pickle.UnpicklingError, match=r"refused numpy.*latent priors are not"):
        edm_convert._main(str(tmp_path / "latent.pkl"), str(tmp_path / "out.safetensors"))
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(ValueError, match="needs a pickle that exists") as e:
        formats.convert(tmp_path / "none.pkl", tmp_path / "out.safetensors")
    assert one_line(e)


# --- the baselines ------------------------------------------------------------------------------


def test_vp_baseline(tmp_path):
    """D = x - sigma F(x / sqrt(1 + sigma^2), 999 t), with the settings that the file tells."""
    pytest.importorskip("deepinv")
    network = seeded(lambda: deepinv_ncsnpp(model_type="ddpm"))
    x, t = noisy((1, 16, 16), 0.5), 0.3
    for settings, beta_d, first in (
        ({}, 19.9, 1e-5),
        ({"beta_d": 10.0, "epsilon_t": 0.01}, 10, 0.01),
    ):
        persistent_pickle(tmp_path / "vp.pkl", network, "VPPrecond", **settings)
        edm_convert._main(str(tmp_path / "vp.pkl"), str(tmp_path / "vp.safetensors"))
        prior = ti.load_prior(tmp_path / "vp.safetensors", value_range=(-1.0, 1.0))
        low, sigma, high = (
            math.sqrt(math.exp(beta_d * t**2 / 2 + 0.1 * t) - 1) for t in (first, t, 1.0)
        )
        output = network.forward_unet(x / (1 + sigma**2) ** 0.5, torch.full((2,), 999 * t))
        expected = x - sigma * output
        torch.testing.assert_close(prior.denoise(x, sigma), expected, rtol=1e-5, atol=1e-5)
        assert (prior.sigma_min, prior.sigma_max) == pytest.approx((low, high), rel=1e-3)


def test_ve_baseline(tmp_path):
    """D = x + sigma F(x, log(sigma / 2))."""
    pytest.importorskip("deepinv")
    network = seeded(lambda: deepinv_ncsnpp(model_type="ncsn"))
    persistent_pickle(tmp_path / "ve.pkl", network, "VEPrecond")
    edm_convert._main(str(tmp_path / "ve.pkl"), str(tmp_path / "ve.safetensors"))
    prior = ti.load_prior(tmp_path / "ve.safetensors", value_range=(-1.0, 1.0))
    x, sigma = noisy((1, 16, 16), 0.5), torch.tensor([0.5, 7.0])
    output = network.forward_unet(x, (0.5 * sigma).log())
    expected = x + sigma.reshape(-1, 1, 1, 1) * output
    torch.testing.assert_close(prior.denoise(x, sigma), expected, rtol=1e-5, atol=1e-5)
    assert (prior.sigma_min, prior.sigma_max) == (0.02, 100.0)
    settings = formats.EDM(sigma_min=0.1, sigma_max=20.0)
    narrow = ti.load_prior(tmp_path / "ve.safetensors", format=settings)
    assert (narrow.sigma_min, narrow.sigma_max) == (0.05, 10.0)  # in data units


def iddpm_levels(steps=1000):
    """u_0 > ... > u_M = 0 by the recursion of Karras et al. 2022, table 1."""
    bar = [math.sin(math.pi / 2 * j / steps / 1.008) ** 2 for j in range(steps + 1)]
    u = [0.0]
    for j in range(steps, 0, -1):
        u.append(math.sqrt((u[-1] ** 2 + 1) / max(bar[j - 1] / bar[j], 0.001) - 1))
    return u[::-1]


def test_iddpm_baseline(tmp_path):
    """D = x - sigma F(x / sqrt(1 + sigma^2), M - 1 - j) at sigma = u_j, half of the output."""
    pytest.importorskip("deepinv")
    network = seeded(lambda: deepinv_admunet(out_channels=2))
    persistent_pickle(tmp_path / "adm.pkl", network, "iDDPMPrecond")
    edm_convert._main(str(tmp_path / "adm.pkl"), str(tmp_path / "adm.safetensors"))
    prior = ti.load_prior(tmp_path / "adm.safetensors", value_range=(-1.0, 1.0))
    x, u = noisy((1, 16, 16), 0.5), iddpm_levels()
    for j in (1, 400, 990):
        output = network.forward_unet(x / (1 + u[j] ** 2) ** 0.5, torch.full((2,), 999.0 - j))
        difference = prior.denoise(x, u[j]) - (x - u[j] * output[:, :1])
        assert float(difference.abs().max()) < 1e-5 * max(1, u[j])
    assert (prior.sigma_min, prior.sigma_max) == pytest.approx((u[999], u[0]), rel=1e-6)


def test_preconditionings_are_told_or_given(tmp_path):
    from safetensors.torch import save_file

    pytest.importorskip("deepinv")
    state = {f"model.{n}": v for n, v in seeded(deepinv_ncsnpp).state_dict().items()}
    save_file(state, tmp_path / "ve.safetensors", {"edm": json.dumps({"class": "Strange"})})
    with pytest.raises(
        ValueError, match=r"preconditioning Strange is not known.*one of edm, vp, ve"
    ):
        ti.load_prior(tmp_path / "ve.safetensors")
    given = formats.EDM(preconditioning="ve")
    assert ti.load_prior(tmp_path / "ve.safetensors", format=given).coordinates == "ve"
    told = formats.describe(formats.source_of(tmp_path / "ve.safetensors"), given)
    assert (told["preconditioning"], told["sigma_max"]) == ("ve", 100.0)


# --- EDM2 ---------------------------------------------------------------------------------------

# Model channels of the published ImageNet-64 networks, and millions of parameters (table 5).
PUBLISHED_EDM2 = {"S": (192, 280), "M": (256, 498), "L": (320, 777), "XL": (384, 1119)}
SMALL_EDM2 = EDM2Architecture(
    16, 1, 3, widths=(64, 128), noise_features=64, embedding=128, blocks=1, attention_levels=(1,)
)


@pytest.mark.parametrize("name", PUBLISHED_EDM2)
def test_published_edm2_architectures_are_read_from_shapes(name):
    channels, millions = PUBLISHED_EDM2[name]
    widths = tuple(channels * m for m in (1, 2, 3, 4))
    expected = EDM2Architecture(64, 3, 1000, widths, channels, 4 * channels, 3, (2, 3))
    with torch.device("meta"):
        network = EDM2UNet(expected)
    assert edm2_architecture_of(network.state_dict()) == expected
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == millions


def edm2_by_formula(w, x, label, onehot, a):
    """The network from the paper's equations and its figure 21, for two levels, in float64."""

    def mp(x, name, gain=1.0):
        weight = w[f"{name}.weight"]
        rows = weight.flatten(1)
        unit = rows / (rows.norm(dim=1, keepdim=True) + 1e-4 * rows.shape[1] ** 0.5)
        if weight.ndim == 2:
            return gain * x @ unit.T
        return gain * F.conv2d(x, unit.reshape(weight.shape), padding=weight.shape[-1] // 2)

    def total(x, y, t):
        return ((1 - t) * x + t * y) / ((1 - t) ** 2 + t**2) ** 0.5

    def silu(x):
        return x * torch.sigmoid(x) / 0.596

    def pixel_norm(x):
        return x / (1e-4 + x.pow(2).mean(1, keepdim=True).sqrt())

    def block(x, name, encoder=False):
        skip = f"{name}.conv_skip.weight" in w
        if encoder:
            x = pixel_norm(mp(x, f"{name}.conv_skip") if skip else x)
        h = mp(silu(x), f"{name}.conv_res0")
        scale = 1 + mp(told, f"{name}.emb_linear", w[f"{name}.emb_gain"])
        h = mp(silu(h * scale[:, :, None, None]), f"{name}.conv_res1")
        x = mp(x, f"{name}.conv_skip") if skip and not encoder else x
        x = total(x, h, a.res_balance)
        if f"{name}.attn_qkv.weight" in w:
            x = total(x, attention(x, name), a.attn_balance)
        return x.clamp(-a.clip_act, a.clip_act)

    def attention(x, name):
        parts, size = mp(x, f"{name}.attn_qkv").flatten(2), a.channels_per_head
        heads = []
        for start in range(0, 3 * x.shape[1], 3 * size):
            q, k, v = (pixel_norm(parts[:, start + i : start + 3 * size : 3]) for i in range(3))
            weight = torch.softmax(q.mT @ k / size**0.5, dim=-1)
            heads.append(v @ weight.mT)
        return mp(torch.cat(heads, 1).reshape(x.shape), f"{name}.attn_proj")

    def concatenated(x, y, t):
        n, m = x.shape[1], y.shape[1]
        gain = ((n + m) / ((1 - t) ** 2 + t**2)) ** 0.5
        return torch.cat([gain * (1 - t) / n**0.5 * x, gain * t / m**0.5 * y], 1)

    waves = 2**0.5 * torch.cos(label[:, None] * w["emb_fourier.freqs"] + w["emb_fourier.phases"])
    of_class = mp(a.classes**0.5 * onehot, "emb_label")
    told = silu(total(mp(waves, "emb_noise"), of_class, a.label_balance))
    skips = [mp(torch.cat([x, torch.ones_like(x)], 1), "enc.16x16_conv")]
    skips.append(block(skips[-1], "enc.16x16_block0", encoder=True))
    skips.append(block(F.avg_pool2d(skips[-1], 2), "enc.8x8_down", encoder=True))
    skips.append(block(skips[-1], "enc.8x8_block0", encoder=True))
    h = block(block(skips[-1], "dec.8x8_in0"), "dec.8x8_in1")
    for name in ("dec.8x8_block0", "dec.8x8_block1"):
        h = block(concatenated(h, skips.pop(), a.concat_balance), name)
    h = block(h.repeat_interleave(2, 2).repeat_interleave(2, 3), "dec.16x16_up")
    for name in ("dec.16x16_block0", "dec.16x16_block1"):
        h = block(concatenated(h, skips.pop(), a.concat_balance), name)
    return mp(h, "out_conv", w["out_gain"])


def edm2_network(architecture=SMALL_EDM2):
    network = seeded(lambda: EDM2UNet(architecture))
    for name, value in network.named_parameters():
        if name.endswith("gain"):  # zero before training
            value.add_(0.7)
    return network


EDM2_SETTINGS = {
    "label_balance": 0.4, "concat_balance": 0.6, "res_balance": 0.35, "attn_balance": 0.2,
    "clip_act": 2.0, "channels_per_head": 32,
}  # fmt: skip


@pytest.mark.parametrize("settings", [{}, EDM2_SETTINGS])
def test_edm2_pickles_are_converted_and_denoise_by_the_papers_formulas(tmp_path, settings):
    network = edm2_network()
    persistent_pickle(tmp_path / "edm2.pkl", network, "Precond", "unet", sigma_data=0.4, **settings)
    edm_convert._main(str(tmp_path / "edm2.pkl"), str(tmp_path / "edm2.safetensors"))
    prior = ti.load_prior(
        tmp_path / "edm2.safetensors", format=formats.EDM(class_label=1), value_range=(-1.0, 1.0)
    )
    x, sigma = noisy((1, 16, 16), 0.5).double(), torch.tensor([0.3, 4.0]).double()
    column, one = sigma.reshape(-1, 1, 1, 1), torch.tensor([[0.0, 1.0, 0.0]]).double()
    total, weights = column**2 + 0.4**2, {n: v.double() for n, v in network.state_dict().items()}
    output = edm2_by_formula(
        weights, x / total.sqrt(), sigma.log() / 4, one, replace(SMALL_EDM2, **settings)
    )
    expected = 0.16 / total * x + 0.4 * column / total.sqrt() * output
    found = prior.denoise(x.float(), sigma.float()).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (prior.shape, prior.sigma_min, prior.sigma_max) == ((1, 16, 16), 0.002, 80.0)
    with pytest.raises(ValueError, match="has 3 classes"):
        ti.load_prior(tmp_path / "edm2.safetensors")


def test_edm2_keeps_magnitudes():
    """What the architecture is for; 1e-4 and the clipping are the only exceptions."""
    network = edm2_network(replace(SMALL_EDM2, widths=(128, 128)))
    x = normal((3,), (4, 1, 16, 16)).float()
    magnitudes = []
    for layer in [*network.enc.values(), *network.dec.values()]:
        layer.register_forward_hook(lambda m, i, out: magnitudes.append(float(out.square().mean())))
    for block in network.modules():
        if "emb_gain" in dict(block.named_parameters(recurse=False)):
            block.emb_gain.zero_()
    network(x, torch.linspace(-1, 1, 4), F.one_hot(torch.arange(4) % 3, 3).float())
    assert len(magnitudes) == 11
    assert all(0.7 < m < 1.4 for m in magnitudes), magnitudes


def test_latent_and_unusual_edm2_networks_are_told(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "edm2.safetensors"
    weights = {"unet.emb_fourier.freqs": torch.ones(3), "logvar_linear.weight": torch.ones(2)}
    weights["unet.out_conv.weight"] = torch.ones(4, 8, 3, 3)
    save_file(weights, path)
    with pytest.raises(ValueError, match="latent priors are not supported yet") as e:
        ti.load_prior(path)
    assert one_line(e)
    weights["unet.out_conv.weight"] = torch.ones(3, 8, 3, 3)
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"emb_noise.weight' is missing") as e:
        ti.load_prior(path)
    assert one_line(e)
    header = {"class": "Precond", "settings": {"resample_filter": [1, 3, 3, 1]}}
    save_file(weights, path, {"edm": json.dumps(header)})
    with pytest.raises(ValueError, match=r"resample_filter \[1, 3, 3, 1\] is not supported"):
        ti.load_prior(path)
