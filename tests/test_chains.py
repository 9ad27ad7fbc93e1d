"""Diagnostics of Markov chains: equal to arviz, and right on chains that are known."""

import warnings

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse.numerics.random import normal


def autoregressive(memory, shape, key=1):
    """Chains with ``x' = memory x + sqrt(1 - memory^2) n`` along axis 1, stationary, unit std."""
    noise = normal(("chains", key), shape)
    x = [noise[:, 0]]
    for k in range(1, shape[1]):
        x.append(memory * x[-1] + (1 - memory**2) ** 0.5 * noise[:, k])
    return torch.stack(x, dim=1)


def cases():
    ties = autoregressive(0.6, (3, 50), 2).round()
    apart = autoregressive(0.0, (4, 101), 3) + torch.arange(4)[:, None]
    wider = autoregressive(0.0, (4, 100), 4) * torch.tensor([1.0, 1.0, 1.0, 4.0])[:, None]
    return {
        "independent": autoregressive(0.0, (4, 200)),
        "slow": autoregressive(0.95, (2, 301)),
        "alternating": autoregressive(-0.9, (3, 64)),
        "ties": ties,
        "apart": apart,
        "wider": wider,
        "heavy": autoregressive(0.3, (4, 80), 5) ** 3,
        "short": autoregressive(0.5, (2, 5), 6),
        "shortest": autoregressive(0.5, (2, 4), 7),
        "offset": 1e6 + 1e-3 * autoregressive(0.5, (2, 40), 8),
    }


@pytest.mark.parametrize("name", list(cases()))
def test_they_equal_arviz(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
        if hasattr(arviz, "Numba"):  # its compiled path fails with NumPy 2.4
            arviz.Numba.disable_numba()
    draws, array = cases()[name], cases()[name].numpy()
    pairs = [(ti.chains.r_hat(draws), arviz.rhat(array, method="rank"))]
    for of in ("bulk", "mean", "tail"):
        options = {"prob": (0.05, 0.95)} if of == "tail" else {}
        found = ti.chains.effective_sample_size(draws, of)
        pairs.append((found, arviz.ess(array, method=of, **options)))
    for q in (0.1, 0.5):
        found = ti.chains.effective_sample_size(draws, q)
        pairs.append((found, arviz.ess(array, method="quantile", prob=q)))
        found = ti.chains.standard_error(draws, q)
        pairs.append((found, arviz.mcse(array, method="quantile", prob=q)))
    pairs.append((ti.chains.standard_error(draws), arviz.mcse(array, method="mean")))
    pairs.append((ti.chains.effective_sample_size(draws, "std"), arviz.ess(array, method="sd")))
    if int(arviz.__version__.split(".")[0]) < 1:  # later ones take the effective size of the mean
        pairs.append((ti.chains.standard_error(draws, "std"), arviz.mcse(array, method="sd")))
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), rtol=1e-6)


def test_entries_are_judged_one_by_one():
    draws = torch.stack([autoregressive(m, (3, 60), 9) for m in (0.0, 0.5, 0.9, -0.5)], -1)
    together = draws.reshape(3, 60, 2, 2).float()
    for function in (ti.chains.r_hat, ti.chains.effective_sample_size, ti.chains.standard_error):
        found = function(together)
        assert found.shape == (2, 2)
        for k in range(4):
            expected = function(draws[..., k].float())
            torch.testing.assert_close(found.flatten()[k], expected)


def test_chains_with_a_known_memory():
    """Of an autoregressive chain the size is n (1 - memory) / (1 + memory)."""
    for memory in (0.0, 0.5, 0.8):
        draws = autoregressive(memory, (4, 1500, 16), 10)  # 16 entries, judged one by one
        expected = 6000 * (1 - memory) / (1 + memory)
        errors = ti.chains.standard_error(draws)
        for found, wanted in (
            (ti.chains.effective_sample_size(draws) / expected, 1.0),
            (errors * expected**0.5, 1.0),
        ):
            # The estimate is biased by up to one or two percent; its spread is that of the entries.
            z = (found.mean() - wanted) / (found.std() / 16**0.5 + 0.01)
            assert abs(float(z)) < 4
        # R-hat - 1 is about 2 / (size of a chain) of right chains.
        assert float((ti.chains.r_hat(draws) - 1).amax()) < 20 / (expected / 4)
        assert float((draws.mean((0, 1)) / errors).square().mean()) < 1 + 5 * (2 / 16) ** 0.5
    apart = autoregressive(0.0, (4, 500), 11) + torch.tensor([0.0, 0, 0, 1])[:, None]
    wider = autoregressive(0.0, (4, 500), 12) * torch.tensor([1.0, 1, 1, 3])[:, None]
    trend = autoregressive(0.0, (1, 500), 13) + torch.linspace(0, 2, 500)
    for wrong in (apart, wider, trend):
        assert float(ti.chains.r_hat(wrong)) > 1.05


def test_chains_that_stand_still():
    still = torch.ones(3, 20)
    assert ti.chains.r_hat(still).isnan()
    assert float(ti.chains.effective_sample_size(still)) == 60  # arviz says so, too


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ti.chains.r_hat(torch.ones(20)), r"got \(20,\); one chain alone is draws\[None\]"),
        (lambda: ti.chains.r_hat(torch.ones(2, 3)), r"with 4 draws or more, got \(2, 3\)"),
        (lambda: ti.chains.r_hat(torch.ones(2, 9) * torch.nan), "holds 18 NaN"),
        (lambda: ti.chains.effective_sample_size(torch.ones(2, 9), "median"), "choose one of"),
        (lambda: ti.chains.standard_error(torch.ones(2, 9), 5), "a probability between 0 and 1"),
        (lambda: ti.chains.standard_error(torch.ones(2, 9), "bulk"), "choose one of 'mean'"),
    ],
)
def test_what_is_no_chain_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
