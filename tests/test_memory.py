"""A device that is out of memory: smaller parts, the same samples."""

import math
import weakref

import pytest
import torch

import tweedie_inverse as ti
from tests.registry import WALKS
from tests.solve_problems import FIELD, MASK, Y
from tweedie_inverse import phase_space
from tweedie_inverse.runtime.memory import in_parts


class Small(ti.priors.Prior):
    """A prior on an accelerator that holds so many images at once."""

    def __init__(self, limit):
        self.limit, self.tried, self.shape = limit, [], FIELD.shape
        self.centre, self.any_sigma = FIELD.centre, True
        self.sigma_min, self.sigma_max = FIELD.sigma_min, FIELD.sigma_max

    def denoise(self, x, sigma):
        self.tried.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return FIELD.denoise(x, sigma)

    def denoising_error(self, sigma):
        return FIELD.denoising_error(sigma)

    def moments(self):
        return FIELD.moments()

    error_is_measured = True


@pytest.mark.parametrize("walk", WALKS)
def test_out_of_memory_halves_the_batch_with_a_warning_and_changes_no_sample(walk):
    def run(prior, **options):
        return ti.solve(
            Y, MASK, prior, method=WALKS[walk](), num_samples=3, steps=4, seed=2, **options
        )

    small, seen = Small(4), []
    with pytest.warns(RuntimeWarning, match="out of memory with 15 samples at once; going on"):
        found = run(small, callback=lambda step: seen.append(step.walkers))
    expected = run(FIELD, batch_size=3)
    torch.testing.assert_close(found.samples, expected.samples, rtol=1e-10, atol=1e-10)
    assert max(small.tried[4:]) <= 4  # 2 and 1 before the walk, 15, 7, then 3 and no more
    assert found.stats.denoiser_calls == 4
    together = 15 if WALKS[walk]().is_population else 3  # there only the evaluations are split
    assert sorted(set(seen)) == [(first, first + together) for first in range(0, 15, together)]


@pytest.mark.parametrize("walk", WALKS)
def test_memory_for_not_one_sample_is_an_error(walk):
    with (
        pytest.warns(RuntimeWarning, match="going on with 1"),
        pytest.raises(torch.OutOfMemoryError, match="20 GiB"),
    ):
        ti.solve(Y[:1], MASK, Small(0), method=WALKS[walk](), num_samples=3, steps=4)


class Once(Small):
    """A prior whose accelerator runs out of memory at one evaluation, in the middle of a walk."""

    def __init__(self, at):
        super().__init__(math.inf)
        self.at = at

    def denoise(self, x, sigma):
        if len(self.tried) == self.at:
            self.tried.append(len(x))
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return super().denoise(x, sigma)


@pytest.mark.parametrize("walk", WALKS)
def test_the_cost_of_an_attempt_that_ran_out_of_memory_is_not_that_of_the_samples(walk):
    """The third of four evaluations fails: the two before it are behind no sample.

    Two more come before the walk.
    """
    settings = {"method": WALKS[walk](), "num_samples": 3, "steps": 4, "seed": 2}
    with pytest.warns(RuntimeWarning, match="out of memory with 15 samples"):
        found = ti.solve(Y, MASK, Once(2 + 2), **settings)
    expected = ti.solve(Y, MASK, FIELD, batch_size=7, **settings)
    assert found.stats.denoiser_calls == expected.stats.denoiser_calls == 4
    if not WALKS[walk]().is_population:  # whose parts are evaluations, so that A is applied as ever
        assert found.stats.operator_calls == expected.stats.operator_calls


class Walks(Small):
    """`Small` with the range of a prior that is sampled on its own."""

    def __init__(self, limit):
        super().__init__(limit)
        self.sigma_min, self.sigma_max = 0.02, 5.0


def test_samples_of_a_prior_survive_running_out_of_memory():
    with pytest.warns(RuntimeWarning, match="out of memory with 6 samples at once; going on"):
        found = ti.sample(Walks(4), 6, recipe="ddpm", steps=5, seed=1)
    expected = ti.sample(Walks(math.inf), 6, recipe="ddpm", steps=5, seed=1)
    torch.testing.assert_close(found, expected)
    with (
        pytest.warns(RuntimeWarning, match="going on with 1"),
        pytest.raises(torch.OutOfMemoryError, match="20 GiB"),
    ):
        ti.sample(Walks(0), 6, steps=5)


def test_samples_in_phase_space_survive_running_out_of_memory():
    process = phase_space.processes.psld()

    def run(limit):
        prior = phase_space.ExactPhaseSpace(Walks(limit), process, time_min=1e-3)
        return phase_space.sample(prior, 6, sampler="em", steps=5, seed=1)

    with pytest.warns(RuntimeWarning, match="out of memory with 6 samples at once; going on"):
        found = run(4)
    torch.testing.assert_close(found, run(math.inf))


@pytest.mark.parametrize("method", [ti.Bound(levels=3, repeats=2), ti.ProbabilityFlow(repeats=2)])
def test_likelihoods_survive_running_out_of_memory(method):
    images = FIELD.draw(6, seed=3)

    def run(limit):
        return ti.likelihood(Walks(limit), images, method=method, bin_width=0.1, seed=1)

    with pytest.warns(RuntimeWarning, match="out of memory with 6 samples at once; going on"):
        found = run(4)
    # The steps of the flow are adapted to the images that run together.
    torch.testing.assert_close(found.value, run(math.inf).value, rtol=1e-3, atol=1e-3)


def test_memory_for_not_one_group_is_an_error_without_repetitions():
    """Items that belong together are not tried again as they were."""
    tried = []

    def work(first, last):
        tried.append((first, last))
        raise torch.OutOfMemoryError

    with (
        pytest.warns(RuntimeWarning, match="going on with 4"),
        pytest.raises(torch.OutOfMemoryError),
    ):
        list(in_parts(9, 9, work, lambda first, size: first + max(1, size // 3) * 3))
    assert tried == [(0, 9), (0, 3)]


def test_a_failed_attempts_memory_is_free_when_the_next_begins():
    """An exception that is still being handled keeps every tensor of its frames."""
    alive = []

    def work(first, last):
        tensor = torch.zeros(last - first)
        assert all(reference() is None for reference in alive)
        alive.append(weakref.ref(tensor))
        if last - first > 2:
            raise torch.OutOfMemoryError
        return int(tensor.sum()) + last

    with pytest.warns(RuntimeWarning):
        assert list(in_parts(5, 5, work)) == [2, 4, 5]
