"""A calibration that stays with its prior: kept where it is true, dropped where not, and named."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.app.cli import main
from tweedie_inverse.app.equipment import load_operator
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.phase_space.native import save_phase_prior
from tweedie_inverse.priors import zoo
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.priors.scaling import GRID, Scaling
from tweedie_inverse.runtime.digest import digest

SHAPE = (1, 6, 6)
FIELD = random_field(6)
NOISE = ops.GaussianNoise(0.3)
MASK = ops.Mask(ops.random_mask(SHAPE, 0.5, seed=1), noise=NOISE)


def mean(x):
    return x.mean((1, 2, 3))


CALIBRATION = ti.calibrate(
    MASK, FIELD, count=20, num_samples=5, steps=3, power=False, statistics={"m": mean}
)  # fmt: skip
KEEPING = FIELD.with_calibration(CALIBRATION)
Y = MASK.measure(FIELD.draw(2, seed=1), seed=2)


def solved(prior=KEEPING, operator=MASK, **settings):
    return ti.solve(Y, operator, prior, **{"num_samples": 5, "steps": 3, **settings})


def test_a_posterior_is_recalibrated_by_what_its_prior_keeps(tmp_path):
    plain = solved()
    found, by_hand = plain.recalibrated(), CALIBRATION.recalibrated(solved(FIELD))
    for level in (0.5, 0.9):
        for a, b in zip(found.interval(level), by_hand.interval(level), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    named = repr(found)
    assert "from 20 truths: exact draws of the prior" in named
    assert f"{CALIBRATION.settings['operator']}; {CALIBRATION.settings['noise']}" in named
    assert "3 steps, 5 samples" in named
    assert found.interval(0.9, of={"m": mean})[0].shape == (2, 1)
    assert len(plain[0].recalibrated().interval()[0]) == 1
    joined = ti.Posterior.concatenate([plain[:1], plain[1:]])
    plain.save(tmp_path / "p.safetensors")
    for again in (joined, ti.Posterior.load(tmp_path / "p.safetensors")):
        assert repr(again.recalibrated()) == named
        torch.testing.assert_close(again.recalibrated().interval(), found.interval())
    assert "Gaussian" in repr(KEEPING.calibration)
    assert KEEPING.with_calibration(None).calibration == {} == FIELD.calibration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": FIELD}, "has no calibration of it as it is; make one"),
        ({"prior": KEEPING.limited(sigma_max=1.0)}, "has no calibration of it as it is"),
        ({"num_samples": 6}, "made with num_samples 6, where the calibration has 5; solve as"),
        ({"steps": 4}, "made with steps 4, where the calibration has 3"),
        ({"method": "langevin"}, "made with walk Langevin"),
        ({"noise": 0.2}, r"made with noise GaussianNoise\(0.2\)"),
        (
            # It prints as the calibration's does.
            {"operator": ops.Mask(ops.random_mask(SHAPE, 0.5, seed=2), noise=NOISE)},
            r"made with operator Mask\(\(1, 6, 6\) -> \(1, 6, 6\)\), [0-9a-f]{16}, where",
        ),
    ],
)
def test_other_posteriors_are_refused_in_a_sentence(change, message):
    posterior = solved(**change)
    with pytest.raises(ValueError, match=message):
        posterior.recalibrated()
    if "prior" not in change:
        with pytest.raises(ValueError, match=message.partition("; solve")[0]):
            CALIBRATION.recalibrated(posterior)


def test_a_calibration_of_another_prior_is_refused():
    with pytest.raises(ValueError, match="needs a calibration of this prior, got one of Gaussian"):
        random_field(8).with_calibration(CALIBRATION)
    with pytest.raises(TypeError, match=r"needs what ti.calibrate returns, or None, got int"):
        FIELD.with_calibration(3)


def test_a_given_sampler_says_nothing_of_solve():
    by_hand = ti.calibrate(
        MASK, FIELD, count=20, num_samples=5, power=False,
        sampler=lambda y, count, seed: normal(("x", seed), (count, *SHAPE)).to(y),
    )  # fmt: skip
    with pytest.raises(ValueError, match="where the calibration has the given sampler"):
        solved(FIELD.with_calibration(by_hand)).recalibrated()


def test_operators_are_known_by_the_code_of_their_functions():
    """And by what these were made with; two of the same code are the same."""

    def scaled(factor):
        return ops.Operator.from_function(lambda x: factor * x, SHAPE, noise=NOISE)

    square = ops.Operator.from_function(lambda x: x**2, SHAPE, noise=NOISE)
    assert digest(scaled(2.0)) == digest(scaled(2.0))
    assert len({digest(one) for one in (scaled(2.0), scaled(3.0), square)}) == 3
    first, second = (ops.from_scipy(factor * np.eye(4)) for factor in (1.0, 2.0))
    assert digest(first) == digest(ops.from_scipy(np.eye(4))) != digest(second)
    loud, quiet = (
        ops.stack(MASK, ops.Mask(MASK.mask, noise=n)) for n in (NOISE, NOISE.scaled(0.5))
    )
    assert digest(loud.noise) != digest(quiet.noise)


# Networks: the numbers are made up, since it is their keeping that is tested.


def scaling(prior, shape=None):
    """As if `prior` had been calibrated."""
    shape = tuple(shape or prior.shape)
    words = dict.fromkeys(("operator", "noise", "walk", "steps", "num_samples"), "")
    return Scaling(
        words, ("it", digest(prior.for_shape(shape).plain())), shape, "images", 20,
        torch.linspace(0, 1, len(GRID)).double(), normal(("s",), (20, 3)), {"a": (0, 3)},
        "labels", torch.full((2, len(GRID)), torch.nan), torch.tensor([3, 0]),
    )  # fmt: skip


def test_wrappers_keep_what_is_still_true_of_a_network():
    prior = ti.load_prior("photo-64")
    kept = prior.with_calibration(scaling(prior))
    fast = kept.faster(autocast="bf16", channels_last=True)
    # A prior that was calibrated while it was fast has the same numbers.
    assert prior.with_calibration(scaling(fast)).calibration
    assert prior.tiled().faster(channels_last=True).with_calibration(scaling(prior.tiled()))
    for one in (kept, fast, CountedPrior(kept), kept.with_error(prior.error)):
        assert len(one.calibration) == 1, one
    others = (
        kept.limited(sigma_max=5.0),
        kept.tiled(),
        kept.for_shape((3, 96, 64)),
        kept.uncorrected(),
        kept.with_error(dataclasses.replace(prior.error, gain=prior.error.gain * 0.9)),
        ti.load_prior("photo-64"),
    )
    for one in others:
        assert one.calibration == {}, one
    large = prior.with_calibration(scaling(prior, (3, 96, 64)))
    assert large.for_shape((3, 96, 64)).calibration


@pytest.mark.parametrize("name", ["digits-32", "digits-32-psld"])
def test_prior_files_keep_calibrations(name, tmp_path):
    path, about = tmp_path / "a.safetensors", zoo.inspect_prior(name)
    settings = ("widths", "blocks", "classes", "data", "licence", "value_range")
    save = save_phase_prior if "psld" in name else zoo.save_prior
    prior = ti.load_prior(name)
    made = scaling(prior)
    save(path, prior.with_calibration(made), {one: about[one] for one in settings})
    (again,) = ti.load_prior(path).calibration.values()
    assert again.notes() == {**made.notes(), "prior": again.prior}
    for key, tensor in made.tensors().items():
        torch.testing.assert_close(again.tensors()[key], tensor, rtol=0, atol=0, equal_nan=True)
    # A second one goes to the file as it is.
    second = dataclasses.replace(made, made_with={**made.made_with, "noise": "other"})
    second = dataclasses.replace(second, prior=again.prior)
    ti.priors.store_calibration(path, second)
    loaded = ti.load_prior(path)
    assert [one.made_with["noise"] for one in loaded.calibration.values()] == ["", "other"]
    ti.priors.store_calibration(path, second)  # in its own place
    assert len(ti.load_prior(path).calibration) == 2
    x = normal(("x",), (1, *prior.shape)).float()
    torch.testing.assert_close(loaded.denoise(x, 0.5), prior.denoise(x, 0.5))


def test_other_files_have_no_place_for_it(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="only prior files of this package have a place for it"):
        ti.priors.store_calibration(path, CALIBRATION)
    with pytest.raises(ValueError, match="there is no such file; a shipped prior"):
        ti.priors.store_calibration("digits-32", CALIBRATION)


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_the_command_keeps_it_in_the_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.safetensors"
    shutil.copy(zoo.WEIGHTS_FOLDER / "digits-32.safetensors", path)
    (tmp_path / "scan.py").write_text(
        "from tweedie_inverse import operators as ops\n"
        "operator = ops.Mask(ops.random_mask((1, 32, 32), 0.3, seed=1), "
        "noise=ops.GaussianNoise(0.1))\n"
    )
    np.save(tmp_path / "images.npy", held_out("digits", 32, 20).numpy())
    monkeypatch.setattr("tweedie_inverse.evaluation.calibrate.page._picture", lambda result: "")
    monkeypatch.chdir(tmp_path)
    start = ["calibrate", "mine.safetensors", "images.npy", "--operator", "scan.py:operator"]
    with pytest.raises(SystemExit):  # a prior of digits in two steps is no right sampler
        main([*start, "--count", "20", "--samples", "5", "--steps", "2", "--no-power", "--store"])
    assert "kept in:" in capsys.readouterr().out
    operator, _ = load_operator("scan.py:operator")
    y = operator.measure(held_out("digits", 32, 1, first=100)[0], seed=0)
    found = ti.solve(y, operator, ti.load_prior(path), num_samples=5, steps=2)
    assert "from 20 truths: images given by the user" in repr(found.recalibrated())
