"""The shipped priors: what their cards promise, on held-out images."""

import dataclasses
import json
import math

import pytest
import torch

import tweedie_inverse as ti
from tests.seeds import salted
from tweedie_inverse.benchmarks.studies.denoising import DATA
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import zoo
from tweedie_inverse.priors.formats.native import FORMAT

NAMES = sorted(DATA)
# The largest prior takes as long as all others together.
FAST = [
    pytest.param(name, marks=pytest.mark.slow if name == "phantom-128" else ()) for name in NAMES
]
PHASE_SPACE = ["digits-32-psld"]  # more of it in test_phase_training


def test_names_and_cards():
    cards = {card.name: card for card in ti.list_priors()}
    assert sorted(cards) == sorted([*NAMES, *PHASE_SPACE])
    assert sum(card.size for card in cards.values()) < 40e6
    for card in cards.values():
        assert card.value_range == (0.0, 1.0)
        text = (zoo.WEIGHTS_FOLDER / f"{card.name}.md").read_text()
        text = " ".join(text.split())
        for part in ("held out", "Licence", "Loss", "Noise levels", card.data.split(",")[0][1:]):
            assert part in text
        assert card.name in zoo.describe(card)
        assert f"size: {card.size / 1e6:.1f} MB" in zoo.describe(card)
        assert card.load_seconds is None or card.load_seconds > 0


def other_images(name, size, count):
    """Held-out images behind the 512 that the denoising errors were measured on."""
    return held_out(DATA[name], size, count, first=512 + salted(0) % 10_000)


def error_of_each(estimate, clean):
    return (estimate - clean).double().square().flatten(1).mean(1)


@pytest.mark.parametrize("name", FAST)
def test_denoises_held_out_images_at_every_level(name):
    """Better than the best linear shrinkage to the mean pixel, image by image on average.

    By a fifth where an image is seen through the noise at all; at sigma 15 little is.
    """
    prior = ti.load_prior(name)
    images = other_images(name, prior.shape[-1], 16 if prior.shape[-1] <= 64 else 4)
    spread = float((images - prior.centre).square().mean())
    for sigma in (0.02, 0.1, 0.5, 2.0, 15.0):
        clean = images[:4] if sigma <= 2 else images
        noisy = clean + sigma * normal((1,), clean.shape).float()
        shrunk = prior.centre + spread / (spread + sigma**2) * (noisy - prior.centre)
        reached = error_of_each(prior.denoise(noisy, sigma), clean)
        asked = error_of_each(shrunk, clean) * (0.8 if sigma <= 2 else 1)
        assert float((reached - asked).mean()) < 0


@pytest.mark.parametrize("name", FAST)
def test_denoising_error_matches_what_is_seen(name):
    """Trace of V against the squared error on fresh held-out images: a factor of 2 is refused.

    And where edges are seen, the covariance around an image explains its errors better than the
    average does, although it errs on the large side; that set aside, by a tenth of a nat a pixel.
    """
    prior = ti.load_prior(name)
    clean = other_images(name, prior.shape[-1], 16 if prior.shape[-1] <= 64 else 10)
    for sigma in (0.05, 0.3, 1.0):
        noisy = clean + sigma * normal((2,), clean.shape).float()
        denoised = prior.denoise(noisy, sigma)
        errors, average = (denoised - clean).double(), prior.denoising_error(sigma)
        seen, promised = error_of_each(denoised, clean), float(average.variance.mean())
        assert abs(float(seen.mean()) - promised) < 5 * float(seen.std()) / len(clean) ** 0.5
        if sigma < 0.1:
            around = prior.conditional_covariance(sigma, denoised)
            assert log_density(around, errors) > log_density(average, errors)
            assert best_density(around, errors) > best_density(average, errors) + 0.1


def log_density(covariance, errors):
    """Mean over the pixels, without the constant."""
    return -0.5 * sum(misfit_and_volume(covariance, errors))


def best_density(covariance, errors):
    """The same for the best multiple of the covariance."""
    misfit, volume = misfit_and_volume(covariance, errors)
    return -0.5 * (1 + math.log(misfit) + volume)


def misfit_and_volume(covariance, errors):
    log_volume = covariance.variance.log().mean()
    if covariance.scale is not None:
        log_volume = log_volume + 2 * covariance.scale.double().log().mean()
    return float(covariance.factor_inverse(errors).square().mean()), float(log_volume)


def test_photo_prior_takes_larger_images_and_phantom_prior_does_not():
    larger = ti.load_prior("photo-64").for_shape((3, 70, 96))
    assert larger.denoise(torch.zeros(1, 3, 70, 96), 0.1).shape == (1, 3, 70, 96)
    assert larger.denoising_error(0.1).variance.shape == (3, 70, 96)
    with pytest.raises(ValueError, match="images of shape"):
        ti.load_prior("phantom-64").for_shape((1, 128, 128))


def test_unknown_names_and_files_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"neither a shipped prior \(.*phantom-64, photo-64.*\)"):
        ti.load_prior("faces-256")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not this")
    with pytest.raises(ValueError, match="not a safetensors file"):
        ti.load_prior(broken)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a prior file of this package"):
        ti.load_prior(tmp_path / "other.safetensors")


def test_a_prior_file_keeps_its_transform(tmp_path):
    prior = ti.load_prior("photo-64")
    images, sigmas = held_out("photos", 64, 4), torch.tensor([0.1, 1.0]).double()
    error = ti.measure_denoising_error(prior, images, sigmas=sigmas, transform="fourier")
    settings = {"widths": (32, 64, 128, 160), "blocks": (1, 2, 2, 2), "data": "", "licence": ""}
    zoo.save_prior(
        tmp_path / "a.safetensors", prior.with_error(error), {**settings, "value_range": (0, 1)}
    )
    loaded = ti.load_prior(tmp_path / "a.safetensors")
    assert loaded.error.transform == "fourier"
    x = images[:1] + 0.3 * normal((3,), images[:1].shape).float()
    expected = prior.with_error(error).denoise(x, 0.3)
    torch.testing.assert_close(loaded.denoise(x, 0.3), expected, rtol=0, atol=5e-3)


def test_a_prior_file_says_how_long_it_takes_to_load(tmp_path, monkeypatch):
    path, found = tmp_path / "a.safetensors", zoo.inspect_prior("digits-32")
    settings = ("widths", "blocks", "classes", "data", "licence", "value_range")
    zoo.save_prior(path, ti.load_prior("digits-32"), {name: found[name] for name in settings})
    monkeypatch.setattr(zoo, "WEIGHTS_FOLDER", tmp_path)
    (card,) = ti.list_priors()
    assert card.load_seconds == zoo.inspect_prior(path)["load_seconds"] > 0
    assert f"loads in {card.load_seconds:g} s" in zoo.describe(card)
    silent = dataclasses.replace(card, load_seconds=None)
    assert "loads in" not in zoo.describe(silent)


def test_a_file_without_load_time_is_listed(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    header = {**zoo.inspect_prior("digits-32"), "format": FORMAT}
    header.pop("load_seconds")
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {"prior": json.dumps(header)})
    monkeypatch.setattr(zoo, "WEIGHTS_FOLDER", tmp_path)
    assert [card.load_seconds for card in ti.list_priors()] == [None]


def test_a_tiled_prior_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="has a TiledNetwork; save the prior"):
        zoo.save_prior(tmp_path / "a.safetensors", ti.load_prior("photo-64").tiled(), {})
