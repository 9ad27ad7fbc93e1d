"""PSLD checkpoints as phase-space priors: conventions of the published networks, on a tiny one."""

from dataclasses import replace

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import seeded
from tests.test_formats_score_sde import TINY_NCSN
from tweedie_inverse import phase_space
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.phase_space import PSLD, PhaseSpaceNetwork
from tweedie_inverse.priors.formats.networks.ncsnpp import NCSNpp


def checkpoint(path, seen, returned):
    network = seeded(lambda: NCSNpp(replace(TINY_NCSN, in_channels=seen, out_channels=returned)))
    state = {f"ema_score_fn.{n}": v for n, v in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "callbacks": {}}, path)
    return network


def settings(**others):
    return PSLD(**{"gamma": 0.02, "image_size": 16, **others})


def test_position_and_momentum_in_the_published_convention(tmp_path):
    """Images on [-1, 1], both halves as channels, told t itself; score and x0 by the formulas."""
    network = checkpoint(tmp_path / "psld.ckpt", 2, 2)
    prior = ti.load_prior(tmp_path / "psld.ckpt", format=settings())
    assert isinstance(prior, PhaseSpaceNetwork)
    assert (prior.shape, prior.offset, prior.scale) == ((1, 16, 16), 0.5, 0.5)
    z, t = normal((1,), (3, 2, 1, 16, 16)).float(), 0.3
    with torch.no_grad():
        wanted = network(z.flatten(1, 2), torch.full((3,), t)).unflatten(1, (2, 1))
    torch.testing.assert_close(prior.epsilon(z, t), wanted)
    # Kernel of Gamma = 0.02, nu = 4.02, M = 1/4, beta = 8, kappa = 0.04 at t = 0.3, by hand.
    gamma, nu, b = 0.02, 4.02, 2.4
    decay = torch.tensor(-(nu + gamma) * b / 4).exp()
    mean = decay * torch.tensor([1 + (nu - gamma) / 4 * b, -b / 2])
    torch.testing.assert_close(prior.process.given_image(t).direction.float(), mean)
    factor = prior.process.given_image(t).factor.float()
    score = torch.einsum("ji,bjchw->bichw", -torch.linalg.inv(factor), wanted)
    torch.testing.assert_close(prior.phase_score(z, t), score, rtol=1e-4, atol=1e-5)


def test_networks_of_the_momentum_alone(tmp_path):
    network = checkpoint(tmp_path / "cld.ckpt", 2, 1)
    prior = ti.load_prior(tmp_path / "cld.ckpt", format=settings(gamma=0.0))
    z, t = normal((1,), (3, 2, 1, 16, 16)).float(), 0.3
    with torch.no_grad():
        wanted = network(z.flatten(1, 2), torch.full((3,), t))
    torch.testing.assert_close(prior.epsilon(z, t)[:, 1], wanted, rtol=1e-5, atol=1e-5)
    samples = phase_space.sample(prior, 2, steps=4)
    assert samples.shape == (2, 1, 16, 16)
    with pytest.raises(ValueError, match=r"as for gamma=0; got gamma=0\.02"):
        ti.load_prior(tmp_path / "cld.ckpt", format=settings())


def test_files_that_do_not_fit(tmp_path):
    checkpoint(tmp_path / "vp.ckpt", 1, 1)
    with pytest.raises(ValueError, match="sees twice the channels"):
        ti.load_prior(tmp_path / "vp.ckpt", format=settings())
    checkpoint(tmp_path / "psld.ckpt", 2, 2)
    with pytest.raises(ValueError, match="gamma= is missing"):
        ti.load_prior(tmp_path / "psld.ckpt", format="psld")
    with pytest.raises(ValueError, match="critical damping"):
        ti.load_prior(tmp_path / "psld.ckpt", format=settings(nu=0.02))
