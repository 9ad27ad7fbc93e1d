"""EDM, EDM2 and their baselines: conversion without running code, and the right numbers."""

import json
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.networks import (
    Malicious,
    deepinv_admunet,
    deepinv_ncsnpp,
    noisy,
    one_line,
    seeded,
)
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats import edm_convert
from tweedie_inverse.priors.formats.edm_network import EDMArchitecture, edm_architecture_of

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
