"""Diffusers schedulers rescaled to zero terminal signal (Lin et al. 2023, algorithm 1)."""

import pytest
import torch

from tweedie_inverse.priors.formats.diffusers_schedulers import noise_levels


def test_the_level_without_signal_is_left_out_and_the_others_are_those_computed_by_hand():
    """``alpha_bar = 0.9, 0.72, 0.432``; its roots less the last one, times 0.9486833 / 0.2914162.

    They become 0.9486833, 0.6226358 and 0, and ``sigma = sqrt(1 / root^2 - 1)``.
    """
    scheduler = {
        "_class_name": "DDIMScheduler",
        "trained_betas": [0.1, 0.2, 0.4],
        "rescale_betas_zero_snr": True,
    }
    found = noise_levels(scheduler, "test")
    expected = torch.tensor([1 / 3, 1.2567728]).double()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_it_is_the_schedulers_own_table():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        num_train_timesteps=50, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    )
    remaining = scheduler.alphas_cumprod.double()
    assert float(remaining[-1]) < 1e-12
    expected = ((1 - remaining) / remaining).sqrt()[:-1]
    found = noise_levels(dict(scheduler.config, _class_name="DDIMScheduler"), "test")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
