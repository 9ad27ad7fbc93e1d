"""What pixels do together: excursion sets, principal directions, differences of two posteriors."""

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.pretend_device import Elsewhere, device
from tests.test_posterior import STATS, posterior
from tests.test_queries import of_one
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.diagnostics import Diagnostics, Population

SIDE = 8
FIELD = random_field(SIDE)


def bump(count, key):
    """Draws of a hill in white noise: images ``(count, 1, 8, 8)``."""
    place = torch.arange(SIDE).double() - 3.5
    hill = 4 * torch.exp(-(place[:, None] ** 2 + place**2) / 20)
    return hill + normal(("bump", key), (count, 1, SIDE, SIDE))


def population(samples):
    """Each sample twice, as copies of one walker."""
    count = len(samples)
    chosen = torch.arange(count).repeat_interleave(2)
    one = torch.ones(2 * count)
    history = Population(one / one.sum(), one[0], one[None, 0], one[0], chosen, chosen)
    size = torch.tensor(float(count))
    diagnostics = Diagnostics(one, size, population=history)
    return ti.Posterior(samples.repeat_interleave(2, 0), diagnostics, STATS)


def coverage(make, count, level, repeats=30):
    """How often a fresh draw exceeds on the whole set, and its standard error, over many sets."""
    fresh, shares, sizes = bump(2000, 10**6), [], []
    for k in range(repeats):
        chosen = make(bump(count, 1 + k)).exceedance(0.5).excursion_set(level)
        shares.append((fresh[:, chosen] > 0.5).all(1).double().mean())
        sizes.append(chosen.sum())
    found = torch.stack(shares)
    assert float(torch.stack(sizes).double().mean()) > 0.5
    return float(found.mean()), float(found.std()) / repeats**0.5


@pytest.mark.parametrize("make", [of_one, population], ids=["independent", "population"])
def test_an_excursion_set_exceeds_as_a_whole_as_often_as_it_says(make):
    for count, level in ((40, 0.9), (24, 0.5)):
        found, error = coverage(make, count, level)
        # With n samples the level is met on average, and overshot by the last rank at most.
        assert level - 5 * error - 0.02 < found < level + 2 / count + 5 * error + 0.02


def test_pixels_one_by_one_say_less_than_together():
    found = of_one(bump(40, 3)).exceedance(0.5)
    torch.testing.assert_close(found.probability, (bump(40, 3) > 0.5).double().mean(0))
    assert bool((found.joint_probability <= 40 / 41 + 1e-9).all())
    likely = found.probability >= 0.9
    assert int(found.excursion_set(0.9).sum()) < int(likely.sum())
    assert bool((found.excursion_set(0.9) <= found.excursion_set(0.5)).all())
    batch = posterior(torch.stack([bump(40, 3), bump(40, 4)]))
    together = batch.exceedance(torch.full((1, SIDE, SIDE), 0.5))
    torch.testing.assert_close(together.joint_probability[0], found.joint_probability)
    with pytest.raises(ValueError, match=r"level=0.9\): needs 9 samples or more, got 5"):
        of_one(bump(5, 3)).exceedance(0.5).excursion_set()
    alone = of_one(bump(1, 3)).exceedance(0.5)
    assert bool(alone.joint_probability.isnan().all())


def test_directions_of_a_known_gaussian():
    """Of N(0, U diag(s^2) U') they are the columns of U, with standard deviations s."""
    sizes = torch.tensor([5.0, 3.0, 2.0, 1.0] + [0.3] * 8).double()
    basis = torch.linalg.qr(normal(("basis",), (12, 12))).Q
    samples = (normal(("law",), (2, 1500, 12)) * sizes) @ basis.T
    found = posterior(samples.reshape(2, 1500, 1, 3, 4)).principal_directions(3)
    assert found.directions.shape == (2, 3, 1, 3, 4)
    along = (found.directions.flatten(2) @ basis[:, :3]).abs()
    assert float(along.diagonal(dim1=1, dim2=2).min()) > 0.98
    for std in (found.std, found.sample_std):
        assert float((std / sizes[:3] - 1).abs().max()) < 5 / (2 * 1500) ** 0.5 + 0.01
    expected = sizes[:3].square() / sizes.square().sum()
    torch.testing.assert_close(found.share, expected.expand(2, 3), rtol=0.15, atol=0)
    inner = found.directions.flatten(2) @ found.directions.flatten(2).mT
    torch.testing.assert_close(inner, torch.eye(3).double().expand(2, 3, 3))
    largest = found.directions.flatten(2).gather(
        2, found.directions.flatten(2).abs().argmax(2, keepdim=True)
    )
    assert bool((largest > 0).all())


@pytest.mark.parametrize("make", [of_one, population], ids=["independent", "population"])
def test_few_samples_of_many_pixels_do_not_boast(make):
    """White noise has variance 1 along every direction; of 20 samples, 67 seems to be there."""
    found = [make(normal(("white", k), (20, 1, 20, 50))).principal_directions(3) for k in range(10)]
    held = torch.stack([one.std for one in found]).square()
    assert abs(float(held.mean()) - 1) < 5 * (2 / 20 / held.numel()) ** 0.5
    assert all(float(one.sample_std[0]) ** 2 > 30 for one in found)
    assert float(torch.stack([one.share for one in found]).mean()) < 2e-3


def test_the_last_directions_have_no_held_out_variance():
    found = of_one(normal((5,), (4, 1, 3, 4))).principal_directions(3)
    assert found.std.isnan().tolist() == [False, False, True]
    assert found.sample_std.isfinite().all()
    assert "PrincipalDirections(3 of 4 samples" in repr(found)
    with pytest.raises(ValueError, match="three samples or more, got 2"):
        of_one(normal((5,), (2, 1, 3, 4))).principal_directions(1)


def test_a_difference_pairs_no_sample_with_the_one_of_its_number():
    """Shared random numbers would make before and after the same up to their means."""
    shared = normal(("shared",), (2, 30, 1, 3, 4))
    before, after = posterior(shared), posterior(shared + 2)
    found = after.difference(before)
    torch.testing.assert_close(found.mean, torch.full_like(found.mean, 2.0))
    ratio = found.std.square() / (2 * before.std.square())
    torch.testing.assert_close(ratio.mean(), torch.tensor(1.0).double(), rtol=0.1, atol=0)
    assert bool((found.sources[..., 0] != found.sources[..., 1]).all())
    torch.testing.assert_close(found.effective_sample_size, torch.full((2,), 30.0))
    region = torch.ones(3, 4, dtype=torch.bool)
    torch.testing.assert_close(
        after.difference(before, of=region).mean, torch.full((2,), 2.0).double()
    )


@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 3), (5, 2), (1, 6), (4, 9), (130, 16)])
def test_differences_of_any_numbers_of_samples(first, second):
    names = [of_one(torch.arange(n).double()[:, None] * s) for n, s in ((first, 1000), (second, 1))]
    found = names[0].difference(names[1])
    assert bool((found.sources[:, 0] != found.sources[:, 1]).all())
    expected = 1000 * found.sources[:, :1] - found.sources[:, 1:]
    torch.testing.assert_close(found.samples, expected.double())
    pairs = {tuple(pair) for pair in found.sources.tolist()}
    assert len(pairs) == len(found.samples)
    assert float(found.effective_sample_size) == min(first, second)


def test_two_solves_with_one_seed_are_told_apart():
    mask = ops.Mask(ops.random_mask((1, 8, 8), 0.5), noise=ops.GaussianNoise(0.3))
    x = FIELD.draw(1, seed=1)[0]
    before, after = (
        ti.solve(mask.measure(x + shift, seed=2), mask, FIELD, num_samples=64, steps=4)
        for shift in (0.0, 0.5)
    )
    found = after.difference(before)
    ratio = found.std.square() / (before.std.square() + after.std.square())
    assert float(ratio.mean()) == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match="two samples or more"):
        of_one(torch.ones(1, 4)).difference(of_one(torch.ones(1, 4)))


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 8, 8), (1, 3, 8, 8), (12,)])
def test_pictures_of_images_of_any_shape(shape, tmp_path):
    answer = of_one(normal((6,), (9, *shape)))
    figure = answer.exceedance(0.0).plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 2000
    assert titles(figure)[2:] == ["P(above 0)", "P(it and all likelier ones)"]
    figure = answer.principal_directions(1).plot()
    assert len(titles(figure)) == 4
    part = {(2, 8, 8): ", channel 0 of 2", (1, 3, 8, 8): ", slice 1"}.get(shape, "% of variance")
    assert titles(figure)[3].endswith(part)


def test_pictures_of_one_measurement_of_several():
    answer = posterior(normal((7,), (2, 6, 1, 4, 4)))
    for found in (answer.exceedance(0.5), answer.principal_directions(2)):
        found.plot(index=-1)
        with pytest.raises(IndexError, match="holds 2 measurement"):
            found.plot(index=2)
    with pytest.raises(ValueError, match="is no picture"):
        answer.exceedance(0.5, of=lambda x: x.amax((1, 2, 3))).plot()


@pytest.mark.parametrize("make", [of_one, population], ids=["independent", "population"])
def test_samples_on_a_device_give_the_same_answers(make):
    samples, shift = normal((8,), (12, 1, 4, 4)).float(), normal((9,), (1, 4, 4)).float()
    here, other = make(samples), make(samples + 1)
    mask = torch.arange(16).reshape(4, 4) % 3 == 0

    def answers(one, two):
        exceedance = one.exceedance(shift)
        directions, change = one.principal_directions(2), two.difference(one)
        region = one.functional(mask)
        return [
            exceedance.joint_probability,
            exceedance.excursion_set(0.5),
            directions.directions,
            directions.std,
            change.std,
            change.exceedance(0.5).joint_probability,
            *region.interval(0.8),
            region.standard_error,
            region.standard_error_of_std,
            region.quantile([0.1, 0.5]),
            one.probability(lambda x: x > 0.5),
        ]

    expected = answers(here, other)
    with Elsewhere():
        found = answers(here.to(device()), other.to(device()))
        for one, two in zip(found, expected, strict=True):
            assert one.device == device()
            torch.testing.assert_close(one.cpu(), two)
        here.to(device()).exceedance(0.5).plot()
        here.to(device()).principal_directions(1).plot()
        assert here.to(device()).to_xarray().samples.dtype == "float32"
