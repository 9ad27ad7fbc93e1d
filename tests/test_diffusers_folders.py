"""Folders of diffusers as they occur: variants, shards, training runs, and what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import tweedie_inverse as ti
from tests.networks import noisy, one_line, save_pipeline, small_unet
from tweedie_inverse.priors import formats

diffusers = pytest.importorskip("diffusers")

STEM = "diffusion_pytorch_model"
SCHEDULER = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")


@pytest.fixture(scope="module")
def unets():
    """Raw and averaged."""
    return small_unet(), small_unet(center_input_sample=True)  # other weights, too


@pytest.fixture
def pipeline(tmp_path, unets):
    return save_pipeline(tmp_path / "ddpm", unets[0], SCHEDULER)


def weights_of(prior):
    return prior.module.unet.state_dict()


def same(prior, unet, dtype=torch.float32):
    """Whether the prior's network is this one, rounded to `dtype`."""
    return all(
        torch.equal(value, unet.state_dict()[name].to(dtype).float())
        for name, value in weights_of(prior).items()
    )


def sharded(folder, suffix="safetensors", variant="", parts=3):
    """Rewrite the weights in shards with an index, as diffusers names them."""
    state = load_file(folder / f"{STEM}.safetensors")
    (folder / f"{STEM}.safetensors").unlink()
    where, middle = {}, f".{variant}" if variant else ""
    for part in range(parts):
        name = f"{STEM}{middle}-{part + 1:05}-of-{parts:05}.{suffix}"
        names = list(state)[part::parts]
        write = save_file if suffix == "safetensors" else torch.save
        write({key: state[key] for key in names}, folder / name)
        where |= dict.fromkeys(names, name)
    index = folder / f"{STEM}.{suffix}.index{middle}.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index


@pytest.mark.parametrize(
    ("suffix", "variant"),
    [("safetensors", ""), ("safetensors", "fp16"), ("bin", "")],
)
def test_shards_are_put_together(pipeline, unets, suffix, variant):
    sharded(pipeline / "unet", suffix, variant)
    assert same(ti.load_prior(pipeline), unets[0])
    said = formats.describe(formats.source_of(pipeline))["weights"]
    assert "2 more shards" in said
    assert variant in said


def test_variants_are_taken_where_there_is_nothing_else(pipeline, unets):
    whole = pipeline / "unet" / f"{STEM}.safetensors"
    half = {name: value.half() for name, value in load_file(whole).items()}
    save_file(half, pipeline / "unet" / f"{STEM}.fp16.safetensors")
    assert same(ti.load_prior(pipeline), unets[0])  # full precision first
    whole.unlink()
    prior = ti.load_prior(pipeline)
    assert same(prior, unets[0], torch.float16)
    assert weights_of(prior)["conv_in.weight"].dtype == torch.float32
    assert "variant fp16" in formats.describe(formats.source_of(pipeline))["weights"]


@pytest.mark.parametrize("outside", ["../secret.safetensors", "/etc/passwd", "..", "a\\b"])
def test_an_index_names_no_files_outside_its_folder(pipeline, outside):
    index = sharded(pipeline / "unet")
    told = json.loads(index.read_text())
    told["weight_map"]["conv_in.weight"] = outside
    index.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="which is outside its folder") as e:
        ti.load_prior(pipeline)
    assert one_line(e)


def test_missing_and_double_shards_are_told(pipeline):
    sharded(pipeline / "unet")
    shards = sorted((pipeline / "unet").glob("*-of-*"))
    kept = shards[1].read_bytes()
    shards[1].unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of 3 shards, first .*00002-of-00003"):
        ti.load_prior(pipeline)
    shards[1].write_bytes(kept)
    save_file(load_file(shards[0]), shards[2])
    with pytest.raises(ValueError, match="once more, as another shard"):
        ti.load_prior(pipeline)


def training_run(folder, unets):
    for step in (500, 1500, 1000):
        for name, unet in zip(("unet", "unet_ema"), unets, strict=True):
            unet.save_pretrained(folder / f"checkpoint-{step}" / name)
        torch.save({}, folder / f"checkpoint-{step}" / "optimizer.bin")
    return folder


def test_training_runs_give_the_average_of_their_newest_checkpoint(tmp_path, unets):
    run = training_run(tmp_path / "run", unets)
    with pytest.raises(ValueError, match=r"scheduler_config.json is missing.*scheduler=") as e:
        ti.load_prior(run)
    assert one_line(e)
    assert "scheduler=" in formats.describe(formats.source_of(run))["scheduler"]
    SCHEDULER.save_pretrained(tmp_path / "elsewhere")
    settings = [SCHEDULER, dict(SCHEDULER.config), tmp_path / "elsewhere"]
    settings[1]["_class_name"] = "DDPMScheduler"
    for given in settings:
        told = formats.Diffusers(scheduler=given)
        prior = ti.load_prior(run, format=told)
        assert same(prior, unets[1])
        bar = SCHEDULER.alphas_cumprod.double()[-1]
        assert float(prior.timesteps[-1]) == pytest.approx(
            float(((1 - bar) / bar).sqrt()), rel=0.02
        )
    assert same(ti.load_prior(run, format=told, weights="raw"), unets[0])
    assert same(ti.load_prior(run / "checkpoint-500", format=told, weights="unet"), unets[0])
    said = formats.describe(formats.source_of(run), told)["weights"]
    assert "the average in 'checkpoint-1500/unet_ema" in said
    assert "checkpoint-1500 is the newest of 3" in said
    assert "'unet' has the raw ones" in said
    with pytest.raises(ValueError, match=r"no such weights, found 'unet', 'unet_ema'"):
        ti.load_prior(run, format=told, weights="vae")
    SCHEDULER.save_pretrained(run / "scheduler")
    x = noisy((1, 16, 16), 0.3)
    torch.testing.assert_close(ti.load_prior(run).denoise(x, 0.3), prior.denoise(x, 0.3))


def test_an_average_that_was_never_updated_is_not_preferred(tmp_path, unets):
    run = training_run(tmp_path, unets)
    config = run / "checkpoint-1500" / "unet_ema" / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "decay": 0.9999, "optimization_step": 0}))
    settings = formats.Diffusers(scheduler=SCHEDULER)
    assert same(ti.load_prior(run, format=settings), unets[0])
    config.write_text(json.dumps({**told, "decay": 0.9999, "optimization_step": 9}))
    assert same(ti.load_prior(run, format=settings), unets[1])


def test_sizes_that_the_folder_does_not_say_are_asked(pipeline):
    config = pipeline / "unet" / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "sample_size": None}))
    with pytest.raises(ValueError, match=r"has no sample_size.*sample_size=") as e:
        ti.load_prior(pipeline)
    assert one_line(e)
    assert ti.load_prior(pipeline, format=formats.Diffusers(sample_size=8)).shape == (1, 8, 8)
    prior = ti.load_prior(
        pipeline, format=formats.Diffusers(sample_size=8, network_range=(0.0, 1.0))
    )
    assert (prior.offset, prior.scale) == (0, 1)


@pytest.mark.parametrize(
    "absurd",
    [
        {"block_out_channels": [10**7, 10**7]},
        {"layers_per_block": 10**6},
        {"block_out_channels": [8] * 100_000},
        {"num_class_embeds": 10**9},
        {"in_channels": 10**9, "out_channels": 10**9},
    ],
)
def test_absurd_configurations_build_nothing(pipeline, absurd):
    config = pipeline / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **absurd}))
    settings = formats.Diffusers(class_label=0 if "num_class_embeds" in absurd else None)
    with pytest.raises(ValueError, match=r"are not those of|weights (are missing|have another)"):
        ti.load_prior(pipeline, format=settings)


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, "3"])
def test_settings_that_are_none_are_told(pipeline, text):
    (pipeline / "unet" / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json (is no JSON|holds no settings)"):
        ti.load_prior(pipeline)


def test_other_folders_name_the_file_to_give(tmp_path):
    state = {"a.weight": torch.ones(2, 2)}
    lightning = tmp_path / "run" / "checkpoints"
    lightning.mkdir(parents=True)
    torch.save({"state_dict": state}, lightning / "epoch=3.ckpt")
    with pytest.raises(ValueError, match=r"of a Lightning run.*Give the file: .*epoch=3.ckpt") as e:
        ti.load_prior(tmp_path / "run")
    assert one_line(e)
    accelerate = tmp_path / "checkpoint_0"
    accelerate.mkdir()
    save_file(state, accelerate / "model.safetensors")
    for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        torch.save({}, accelerate / name)
    with pytest.raises(ValueError, match=r"accelerate run.* 1 file\(s\).*model.safetensors") as e:
        ti.load_prior(accelerate)
    assert one_line(e)
    shutil.rmtree(tmp_path / "run")
    accelerate.joinpath("model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"a folder without model_index\.json"):
        ti.load_prior(accelerate)


def test_a_hub_that_never_answers_is_given_up(monkeypatch):
    import socket
    import time

    import huggingface_hub

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "0.3")
        start = time.monotonic()
        with pytest.raises(ValueError, match=r"did not answer within 0.3 seconds.*pass its path"):
            ti.load_prior("nobody/ddpm-nowhere", revision="0" * 40)
        assert time.monotonic() - start < 30
