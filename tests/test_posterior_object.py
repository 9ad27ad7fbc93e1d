"""A posterior in daily use: its parts, its batches, its questions, its file."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.test_posterior import posterior
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.solving.origin import checksum

SHAPE = (1, 8, 8)
FIELD = random_field(8)
MASK = ops.Mask(ops.random_mask(SHAPE, 0.5), noise=ops.GaussianNoise(0.2))
Y = MASK.measure(FIELD.draw(3, seed=1), seed=2)
SOLVED = ti.solve(Y, MASK, FIELD, num_samples=5, steps=4, seed=7)
POPULATION = ti.solve(Y, MASK, FIELD, method="particle", num_samples=6, steps=4)


@pytest.mark.parametrize("found", [SOLVED, POPULATION], ids=["independent", "population"])
def test_a_batch_is_a_sequence_of_measurements(found):
    assert len(found) == 3
    assert [one.samples.shape for one in found] == [found.samples.shape[1:]] * 3
    assert torch.equal(found[-1].samples, found.samples[2])
    assert torch.equal(found[-1].diagnostics.expected, found.diagnostics.expected[2])
    assert torch.equal(found[1:].mean, found.mean[1:])
    assert len(found[1:]) == 2
    alone = found[1]
    assert len(alone) == 1
    assert alone[0] is alone
    assert torch.equal(alone.std, found.std[1])
    for wrong in (3, -4):
        with pytest.raises(IndexError, match="holds 3 measurement"):
            found[wrong]
    with pytest.raises(IndexError, match="one measurement; its samples are"):
        alone[:1]


@pytest.mark.parametrize("found", [SOLVED, POPULATION], ids=["independent", "population"])
def test_batches_can_be_taken_apart_and_put_together(found):
    again = ti.Posterior.concatenate([found[:1], found[1], found[2]])
    assert torch.equal(again.samples, found.samples)
    for name, tensor in found.diagnostics.tensors().items():
        assert torch.equal(again.diagnostics.tensors()[name], tensor), name
    assert again.stats.denoiser_calls == found.stats.denoiser_calls
    assert again.origin == found.origin
    with pytest.raises(ValueError, match="samples of one shape and number"):
        ti.Posterior.concatenate([SOLVED, POPULATION])
    with pytest.raises(ValueError, match="got none"):
        ti.Posterior.concatenate([])


def test_two_posteriors_are_equal_if_they_are_one():
    same = copy.copy(SOLVED)
    assert same != SOLVED
    assert SOLVED == SOLVED
    assert len({SOLVED, same}) == 2
    assert torch.equal(pickle.loads(pickle.dumps(SOLVED)).samples, SOLVED.samples)


def test_it_prints_in_a_line():
    text = repr(SOLVED)
    assert text.startswith("Posterior(5 samples of (1, 8, 8) for each of 3 measurements, decoupled")
    assert "consistent with the noise" in text
    for thing in (SOLVED, SOLVED[0], SOLVED.diagnostics, POPULATION.diagnostics.population):
        assert len(repr(thing)) < 200
    page = SOLVED[0]._repr_html_()
    assert "consistent with the noise" in page
    assert "data:image/png;base64," in page


def test_devices_and_arrays():
    assert SOLVED.to("cpu") is not SOLVED
    assert SOLVED.to("meta").samples.device.type == "meta"
    assert POPULATION.to("meta").diagnostics.population.weights.device.type == "meta"
    arrays = SOLVED.numpy()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    np.testing.assert_array_equal(arrays["samples"], SOLVED.samples.numpy())
    np.testing.assert_allclose(arrays["std"], SOLVED.samples.numpy().std(1, ddof=1), rtol=1e-6)
    assert {"mean", "residual_chi_square", "expected"} <= set(arrays)
    assert "population.weights" in POPULATION.numpy()


def test_questions_are_asked_of_every_sample():
    samples = normal((1,), (2, 40, 1, 3, 4))
    answer = posterior(samples)
    torch.testing.assert_close(
        answer.probability(lambda x: x > 0.5), (samples > 0.5).double().mean(1)
    )
    share = answer.probability(lambda x: x.mean((1, 2, 3)) > 0)
    torch.testing.assert_close(share, (samples.mean((2, 3, 4)) > 0).double().mean(1))
    lower, upper = answer.interval(0.5, of=lambda x: x[:, 0, :2].amax((1, 2)))
    maxima = samples[:, :, 0, :2].amax((2, 3))
    assert lower.shape == upper.shape == (2,)
    place = (41 * 0.25 - 0.5) / 40
    for end, q in ((lower, place), (upper, 1 - place)):
        expected = np.quantile(maxima.numpy(), q, axis=1, method="hazen")
        torch.testing.assert_close(end, torch.from_numpy(expected))
    torch.testing.assert_close(answer[0].interval(0.5)[0], answer.interval(0.5)[0][0])
    for level in (0.5, 0.9):  # by rank, and where there are too few samples for that
        one, both = (
            part.interval(level, of=lambda x: x.sum((1, 2, 3))) for part in (answer[0], answer)
        )
        torch.testing.assert_close(one[0], both[0][0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.probability(lambda x: x.mean((1, 2, 3))), "boolean values, such as lambda x"),
        (lambda p: p.probability(lambda x: x.mean() > 0), r"first axis is 15; it returned \(\)"),
        (lambda p: p.probability(lambda x: True), "it returned bool"),
        (
            lambda p: p.interval(0.9, of=lambda x: x[0]),
            r"first axis is 15; it returned \(1, 8, 8\)",
        ),
        (lambda p: p.interval(90), "share between 0 and 1"),
        (lambda p: p.interval(0), "share between 0 and 1"),
        (lambda p: p.quantile(-0.1), r"number in \[0, 1\]"),
        (lambda p: p.save("p.npz"), r"np.savez\(path, \*\*posterior.numpy\(\)\)"),
        (lambda p: p.save("p.h5"), r"ti\.io\.write\(path, posterior\.mean, like=data\)"),
        (lambda p: p.save("p.nc"), "'p.safetensors'"),
        (lambda p: p.save("p"), "'p.safetensors'"),
        (lambda p: p.plot(truth=torch.zeros(8, 8)), r"plot\(truth=\): needs shape \(1, 8, 8\)"),
    ],
)
def test_questions_that_have_no_answer_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(SOLVED)


def test_one_sample_has_no_spread():
    one = ti.solve(Y, MASK, FIELD, num_samples=1, steps=2)
    assert bool(one.std.isnan().all())
    assert all(bool(end.isnan().all()) for end in one.interval())
    assert torch.equal(one.quantile(0.05), one.samples[:, 0])
    assert torch.equal(one.mean, one.samples[:, 0])
    titles = [axis.get_title() for axis in one.plot().axes]
    assert not any("deviation" in title or "interval" in title for title in titles)


def test_a_file_says_where_its_samples_come_from(tmp_path):
    POPULATION.save(tmp_path / "a.safetensors")
    SOLVED[1].save(tmp_path / "b.safetensors")
    for name, expected in (("a", POPULATION), ("b", SOLVED[1])):
        again = ti.Posterior.load(tmp_path / f"{name}.safetensors")
        assert again.origin == expected.origin
        assert again.stats == expected.stats
        assert again.diagnostics.verdict == expected.diagnostics.verdict
        for key, tensor in expected.diagnostics.tensors().items():
            assert torch.equal(again.diagnostics.tensors()[key], tensor)
    origin = SOLVED.origin
    assert (origin.seed, origin.num_samples, origin.steps) == (7, 5, 4)
    assert origin.walk.startswith("Decoupled(rho=7.0")
    assert origin.noise == "GaussianNoise(0.2)"
    assert origin.prior == "Gaussian"
    assert set(origin.versions) == {"tweedie-inverse", "torch", "numpy"}
    # The header alone tells it to those who read safetensors without this package.
    from safetensors import safe_open

    with safe_open(tmp_path / "b.safetensors", framework="np") as file:
        notes = json.loads(file.metadata()["notes"])
    assert notes["origin"]["seed"] == 7
    assert notes["verdict"] == SOLVED[1].diagnostics.verdict


def test_files_that_are_no_posterior_are_refused(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "a.safetensors").write_text("nothing")
    save_file({"samples": Y}, tmp_path / "b.safetensors")
    for name, message in (("a", "no safetensors file"), ("b", "needs a file of posterior.save")):
        with pytest.raises(ValueError, match=message):
            ti.Posterior.load(tmp_path / f"{name}.safetensors")


def test_the_checksum_of_a_prior_follows_its_content():
    with torch.random.fork_rng(devices=[]):
        module = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1))
    prior = ti.priors.NetworkPrior(module, "x0", shape=SHAPE)
    before = checksum(prior)
    assert checksum(prior) == before
    assert checksum(ti.priors.NetworkPrior(copy.deepcopy(module), "x0", shape=SHAPE)) == before
    assert checksum(ti.priors.NetworkPrior(module, "x0", shape=SHAPE, offset=0.5)) != before
    counted = CountedPrior(prior)
    counted.count.calls += 1
    assert checksum(counted) == before
    with torch.no_grad():
        module[0].weight.mul_(2)
    assert checksum(prior) != before
    # What an exact prior remembers of earlier calls is no part of it.
    mixture = ti.priors.GaussianMixture(normal((1,), (2, 3)), torch.ones(2), 0.5)
    before = checksum(mixture)
    mixture.denoising_error(1.0)
    mixture.moments()
    assert checksum(mixture) == before
    field, used = random_field(8), random_field(8)
    used.denoise(torch.zeros(1, *SHAPE).double(), 1.0)
    used.denoising_error(1.0)
    assert checksum(field) == checksum(used)
