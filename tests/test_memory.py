"""A device that is out of memory: smaller parts, the same samples."""

import weakref

import pytest
import torch

import tweedie_inverse as ti
from tests.registry import WALKS
from tests.solve_problems import FIELD, MASK, Y
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
    assert max(small.tried[2:]) <= 4  # 15, 7, then 3 and no more of the large ones
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
