"""A shipped prior's name, or a path, wherever a prior is accepted."""

from pathlib import Path

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.evaluation.compare.candidates import candidates_of
from tweedie_inverse.phase_space import sample as phase_sample
from tweedie_inverse.priors.zoo import WEIGHTS_FOLDER

NAME = "digits-32"
PRIOR = ti.load_prior(NAME)
X = ti.sample(PRIOR, 2, steps=4, seed=1)
MASK = ops.Mask(torch.ones(1, 32, 32), noise=ops.GaussianNoise(0.1))
Y = MASK.measure(X[0], seed=2)
BOUND = ti.Bound(repeats=2, levels=2)
FEW = {"num_samples": 5, "steps": 2}

# Each is given a prior, and answers with something to compare.
CALLS = {
    "solve": lambda prior: ti.solve(Y, MASK, prior, num_samples=2, steps=3).samples,
    "iterate": lambda prior: next(ti.iterate(Y, MASK, prior, steps=3)).x,
    "sample": lambda prior: ti.sample(prior, 1, steps=2),
    "trajectory": lambda prior: next(ti.trajectory(prior, 1, steps=2)).x,
    "measure": lambda prior: ti.measure_denoising_error(prior, X, levels=2).variance,
    "estimate": lambda prior: ti.estimate_denoising_error(prior, 2, steps=3, levels=2).variance,
    "likelihood": lambda prior: ti.likelihood(prior, X[:1], method=BOUND).value,
    "reconstructor": lambda prior: ti.deepinv_reconstructor(prior, **FEW)(
        Y[None], ops.to_deepinv(MASK)
    ),
}


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("call", CALLS)
def test_a_name_is_the_prior(call):
    if call == "reconstructor":
        pytest.importorskip("deepinv")
    assert torch.equal(CALLS[call](NAME), CALLS[call](PRIOR))


def test_priors_are_compared_by_name():
    _, candidates = candidates_of(Y, MASK, [NAME, PRIOR.limited(sigma_max=20.0)], None)
    assert [one.name for one in candidates] == ["digits-32 #1", "digits-32 #2"]
    kind, candidates = candidates_of(Y, MASK, {"a": NAME, "b": PRIOR}, None)
    assert [one.name for one in candidates] == ["a", "b"]
    assert all(isinstance(one.prior, ti.priors.Prior) for one in candidates)
    assert kind == "prior"
    first, second = candidates_of(Y, MASK, NAME, [0.1, 0.2])[1]
    assert first.prior is second.prior


def test_a_path_is_one_too_and_each_call_has_its_own():
    path = WEIGHTS_FOLDER / f"{NAME}.safetensors"
    assert torch.equal(ti.sample(path, 1, steps=2), ti.sample(PRIOR, 1, steps=2))
    assert torch.equal(phase_sample("digits-32-psld", 1, steps=2).isfinite().all(), torch.tensor(1))


WRONG = {
    "solve": lambda prior: ti.solve(Y, MASK, prior),
    "sample": lambda prior: ti.sample(prior, 1),
    "trajectory": lambda prior: ti.trajectory(prior, 1),
    "calibrate": lambda prior: ti.calibrate(MASK, prior),
    "check_fit": lambda prior: ti.check_fit(Y, MASK, prior),
    "fit_reference": lambda prior: ti.fit_reference(MASK, prior),
    "check_prior": lambda prior: ti.check_prior(prior),
    "measure_denoising_error": lambda prior: ti.measure_denoising_error(prior, X),
    "estimate_denoising_error": lambda prior: ti.estimate_denoising_error(prior),
    "likelihood": lambda prior: ti.likelihood(prior, X),
    "compare": lambda prior: ti.compare(Y, MASK, prior, noise=[0.1, 0.2]),
}


@pytest.mark.parametrize("call", WRONG)
def test_an_unknown_name_gets_the_nearest(call):
    """Before any evaluation, in the name of the function that was called."""
    with pytest.raises(ValueError, match=call) as found:
        WRONG[call]("digit-32")
    assert f"{call}(prior='digit-32')" in str(found.value)
    assert "did you mean digits-32" in str(found.value)
    with pytest.raises(TypeError, match="or its name, got Identity"):
        WRONG[call](torch.nn.Identity())


def test_the_device_is_that_of_the_data(monkeypatch):
    """A name is loaded where y is: here a device that only says where it was asked for."""
    from tweedie_inverse.priors import named

    asked = []
    monkeypatch.setattr(named, "load_prior", lambda given, device: asked.append(device) or PRIOR)
    for like in (Y, Y.numpy(), None, Y.to("meta")):
        named.prior_of("f", Path("x"), like=like)
    assert [one.type for one in asked] == ["cpu", "cpu", "cpu", "meta"]


def test_load_prior_names_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean photo-64.*\? There are digits"):
        ti.load_prior("Photo64")
    with pytest.raises(ValueError, match=r"neither a shipped prior \(digits-32-psld, "):
        ti.load_prior("qqq")
