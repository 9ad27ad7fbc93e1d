"""Files that should not be loaded, the guide, and the command line."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.networks import (
    KarrasStyle,
    KarrasWithDropout,
    Malicious,
    adm_architecture,
    one_line,
    save_adm,
    save_pipeline,
    seeded,
    small_unet,
)
from tweedie_inverse.app.cli import main
from tweedie_inverse.priors import formats

GUIDE = Path(__file__).parent.parent / "docs" / "bring-your-network.md"


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
    settings = formats.KDiffusion(shape=(1, 8, 8), sigma_max=80.0)
    prior = ti.load_prior(tmp_path / "net.pt", allow_arbitrary_code=True, format=settings)
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


def test_every_format_has_a_line_in_the_guide():
    text = GUIDE.read_text()
    for name in formats.FORMATS:
        assert f"`{name}`" in text


def test_info_and_solve_on_the_command_line(tmp_path, capsys):
    diffusers = pytest.importorskip("diffusers")
    save_adm(tmp_path / "adm.pt", adm_architecture(64, (1, 2, 3, 4), 1, (3,), 0))
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
        "from tweedie_inverse import operators as ops\n"
        "mask = ops.Mask(ops.random_mask((1, 16, 16), 0.5))\n"
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
