"""diffusers pipelines as priors: same numbers as diffusers."""

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import (
    noisy,
    save_pipeline,
    seeded,
    small_unet,
)
from tests.seeds import torch_generator
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.diffusers_schedulers import noise_levels


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
    generator = torch_generator(0)
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


BETAS = {
    "linear": {"beta_schedule": "linear"},
    "scaled-linear": {"beta_schedule": "scaled_linear", "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "trained": {"trained_betas": [1e-4, 2e-3, 0.03, 0.4]},
    "no-signal-at-the-end": {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("DDPMScheduler", name) for name in BETAS),
        *(("EulerDiscreteScheduler", name) for name in BETAS if name != "sigmoid"),
    ],
)
def test_noise_levels_are_those_of_the_scheduler(kind, name):
    """Increasing, one a timestep: catches a level without signal that is dropped at the wrong end.

    The scheduler's own sums are float32, which is good to a few parts in ten thousand.
    """
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, kind)(**BETAS[name])
    levels = noise_levels(dict(scheduler.config) | {"_class_name": kind}, "test")
    bar = scheduler.alphas_cumprod.double()
    if name == "no-signal-at-the-end":
        bar = bar[:-1]
    assert levels.dtype == torch.float64
    assert levels.shape == bar.shape
    assert bool((levels.diff() > 0).all())
    torch.testing.assert_close(levels, ((1 - bar) / bar).sqrt(), rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"_class_name": "OurScheduler"}, "has no scheduler 'OurScheduler'"),
        ({"_class_name": "UNet2DModel"}, "has no scheduler 'UNet2DModel'"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "has no betas"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "strange"}, "strange"),
    ],
)
def test_schedulers_without_noise_levels_are_refused(scheduler, message):
    pytest.importorskip("diffusers")
    with pytest.raises(ValueError, match=message):
        noise_levels(scheduler, "test")
