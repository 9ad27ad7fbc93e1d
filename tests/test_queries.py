"""Questions to a posterior: regions by mask, lists of quantiles, functionals with their errors."""

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.test_posterior import STATS, posterior
from tests.test_posterior_object import SOLVED
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.diagnostics import Diagnostics

MASK = torch.zeros(3, 4, dtype=torch.bool)
MASK[1:, 2:] = True
COLOUR = posterior(normal((1,), (2, 40, 3, 3, 4)))
GREY = posterior(normal((2,), (2, 40, 1, 3, 4)))


def of_one(samples):
    """One measurement, whatever the shape of its images."""
    size = torch.tensor(float(len(samples)))
    return ti.Posterior(samples, Diagnostics(torch.ones(len(samples)), size), STATS)


def test_a_mask_is_the_mean_over_its_region():
    for mask in (MASK, MASK.numpy(), MASK[None]):
        found = GREY.functional(mask).samples
        torch.testing.assert_close(found, GREY.samples[:, :, 0, 1:, 2:].mean((2, 3)))
    channels = COLOUR.functional(MASK).samples
    torch.testing.assert_close(channels, COLOUR.samples[..., 1:, 2:].mean((3, 4)))
    whole = MASK.expand(3, 3, 4).clone()
    whole[0] = False
    found = COLOUR.functional(whole).samples
    torch.testing.assert_close(found, COLOUR.samples[:, :, 1:, 1:, 2:].mean((2, 3, 4)))
    volume = of_one(normal((3,), (5, 1, 2, 3, 4)))
    assert volume.functional(MASK).samples.shape == (5, 2)
    assert volume.functional(MASK.expand(2, 3, 4)).samples.shape == (5,)
    assert of_one(normal((3,), (5, 7))).functional(torch.arange(7) > 3).samples.shape == (5,)
    assert of_one(normal((3,), (5, 3, 4))).functional(MASK).samples.shape == (5,)


def test_every_question_takes_a_mask():
    mean = GREY.samples[:, :, 0, 1:, 2:].mean((2, 3))
    same = GREY.interval(0.5, of=lambda x: x[:, 0, 1:, 2:].mean((1, 2)))
    for one, other in zip(GREY.interval(0.5, of=MASK), same, strict=True):
        torch.testing.assert_close(one, other)
    share = GREY.probability(lambda m: m > 0.1, of=MASK)
    torch.testing.assert_close(share, (mean > 0.1).double().mean(1))
    torch.testing.assert_close(GREY.exceedance(0.1, of=MASK).probability, share)
    expected = torch.from_numpy(np.quantile(mean.numpy(), 0.3, axis=1, method="hazen"))
    torch.testing.assert_close(GREY.quantile(0.3, of=MASK), expected)
    torch.testing.assert_close(GREY[1].quantile(0.3, of=MASK), expected[1])


def test_a_list_of_quantiles_has_an_axis_and_a_tensor_is_one_for_each():
    found = COLOUR.quantile([0.1, 0.5, 0.9])
    assert found.shape == (3, 2, 3, 3, 4)
    for k, q in enumerate((0.1, 0.5, 0.9)):
        torch.testing.assert_close(found[k], COLOUR.quantile(q))
    assert COLOUR.quantile((0.5,), of=MASK).shape == (1, 2, 3)
    assert COLOUR[0].quantile([0.1, 0.9]).shape == (2, 3, 3, 4)
    for each in (torch.tensor([0.2, 0.9]), np.array([0.2, 0.9])):
        own = COLOUR.quantile(each)
        torch.testing.assert_close(own[1], COLOUR.quantile(float(each[1]))[1])


def test_a_function_may_change_its_argument():
    before = GREY.samples.clone()

    def cut(x):
        x[:, :, 0] = 0
        return x.sum((1, 2, 3))

    torch.testing.assert_close(GREY.functional(cut).mean, before[..., 1:, :].sum((2, 3, 4)).mean(1))
    assert torch.equal(GREY.samples, before)


def test_answers_may_be_arrays_and_lists():
    """Of scipy, say, or of one image after the other."""
    expected = GREY.functional(lambda x: x.amax((1, 2, 3)))
    for largest in (
        lambda x: x.numpy().max((1, 2, 3)),
        lambda x: [float(one.max()) for one in x],
        lambda x: [one.max() for one in x],
    ):
        assert torch.equal(GREY.functional(largest).samples, expected.samples)
    share = GREY.probability(lambda x: x.numpy() > 0.5)
    torch.testing.assert_close(share, GREY.probability(lambda x: x > 0.5))


@pytest.mark.parametrize("law", ["normal", "uniform", "skewed"])
def test_monte_carlo_errors_are_those_of_repeated_runs(law):
    """2000 posteriors of 60 samples each: the scatter of their mean and std is as predicted."""
    samples = normal(("mcse", len(law)), (2000, 60, 1, 1, 1))
    samples = {"normal": samples, "uniform": torch.special.ndtr(samples), "skewed": samples.exp()}[
        law
    ]
    found = posterior(samples).functional(lambda x: x[:, 0, 0, 0])
    expected = {"normal": 1.0, "uniform": 1 / 12**0.5, "skewed": (np.e * (np.e - 1)) ** 0.5}[law]
    error = found.standard_error.square().mean().sqrt()
    assert float(found.mean.std() / error) == pytest.approx(1, abs=5 / 4000**0.5)
    if law == "skewed":  # its fourth moment is 8 orders above what 60 samples show
        return
    error = found.standard_error_of_std.square().mean().sqrt()
    assert float((found.std - expected).square().mean().sqrt() / error) == pytest.approx(1, abs=0.1)


def test_the_effective_size_of_a_population_is_what_counts():
    size = torch.tensor([3.0, 12.5]).double()
    found = posterior(GREY.samples, size).functional(MASK)
    torch.testing.assert_close(found.standard_error, found.std / size.sqrt())
    same = GREY.functional(MASK)
    assert bool((found.standard_error_of_std > same.standard_error_of_std).all())


def test_one_sample_has_no_errors():
    alone = of_one(normal((4,), (1, 1, 3, 4))).functional(MASK)
    assert alone.standard_error.isnan()
    assert alone.standard_error_of_std.isnan()
    assert alone.std.isnan()
    assert alone.interval()[0].isnan()
    assert "nan" in repr(alone)
    two = of_one(normal((4,), (2, 1, 3, 4))).functional(MASK)
    assert float(two.standard_error_of_std) > 0  # and not 0, as the fourth moment alone would say
    still = of_one(torch.ones(5, 1, 3, 4)).functional(MASK)
    assert float(still.standard_error_of_std) == 0


def test_rounding_is_no_mixing():
    """Sums that cancel to nothing differ by rounding between one batch and another."""
    answer = of_one(1000 + normal((5,), (30, 1, 32, 32)).float())
    answer.functional(lambda x: (x - x.mean((1, 2, 3), keepdim=True)).sum((1, 2, 3)))


def test_a_functional_prints_in_a_line():
    text = repr(SOLVED[0].functional(lambda x: x.mean((1, 2, 3))))
    assert text.startswith("Functional(5 samples: mean ")
    assert "+-" in text
    assert repr(SOLVED.functional()) == (
        "Functional(5 samples of (1, 8, 8) for each of 3 measurements)"
    )


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda p: p.interval(0.9, of=3),
            TypeError,
            r"interval\(of=\): needs a function of images .* or a boolean mask",
        ),
        (
            lambda p: p.interval(of=MASK.float()),
            TypeError,
            "boolean mask, got torch.float32; write",
        ),
        (lambda p: p.interval(of=MASK.T), ValueError, r"\(3, 3, 4\) or \(3, 4\), the same for all"),
        (lambda p: p.interval(of=MASK & False), ValueError, "holds no pixel"),
        (lambda p: p.functional(lambda x: x + 1j), TypeError, r"real values; it .*take \.abs"),
        (lambda p: p.functional(lambda x: x.log()), ValueError, "NaN or infinite for 80 of 80"),
        (lambda p: p.functional(lambda x: x - x.mean(0)), ValueError, "mixes the samples, or is"),
        (lambda p: p.functional(lambda x: x.mean((0, 1))), ValueError, "first axis is 80"),
        (lambda p: p.quantile([]), ValueError, "needs one number"),
        (lambda p: p.quantile([0.1, 2]), ValueError, r"quantile\(q=2\): needs numbers in \[0, 1\]"),
        (lambda p: p.quantile([[0.1]]), TypeError, r"needs numbers in \[0, 1\]"),
        (lambda p: p.quantile(torch.ones(3)), ValueError, "one for each of 2 measurements; a list"),
        (lambda p: p.quantile(True), ValueError, "needs a number in"),
        (lambda p: p.probability(MASK), TypeError, r"probability\(event\): needs a function of"),
        (lambda p: p.probability(lambda m: m, of=MASK), ValueError, "boolean values"),
        (lambda p: p.exceedance(torch.nan), ValueError, "NaN"),
        (lambda p: p.exceedance(True), TypeError, "needs a number, or an image"),
        (lambda p: p.exceedance(torch.zeros(2, 3, 3, 4)), ValueError, "not broadcast to one image"),
        (lambda p: p.principal_directions(0), ValueError, "from 1 to 36 directions, which 40"),
        (lambda p: p.principal_directions(37), ValueError, "from 1 to 36 directions, which 40"),
        (lambda p: p.difference(3), TypeError, "needs a posterior, as of ti.solve"),
        (lambda p: p.difference(GREY), ValueError, r"shape, \(2, 3, 3, 4\), got \(2, 1, 3, 4\)"),
        (lambda p: p.difference(p[0]), ValueError, r"posterior\[0\] is one of a batch"),
        (lambda p: p.export("a.npz"), ValueError, r"\.nc, \.h5 or \.tif; np\.savez"),
        (lambda p: p.export("a.safetensors"), ValueError, r"posterior\.save\(path\)"),
        (lambda p: p.export("a.nii"), ValueError, r"ti\.io\.write\(path, posterior\.mean"),
        (lambda p: p.export(3), TypeError, "needs a path"),
    ],
)
def test_what_is_no_question_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call(COLOUR)
