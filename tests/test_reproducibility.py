"""Samples of `solve` depend on the seed, and not on batches, chunks or neighbours."""

import pytest
import torch

import tweedie_inverse as ti
from tests.registry import WALKS
from tests.solve_problems import FIELD, MASK, Y


@pytest.mark.parametrize("walk", WALKS)
def test_same_seed_same_bits(walk):
    def run(seed):
        return ti.solve(
            Y, MASK, FIELD, method=WALKS[walk](), num_samples=2, steps=4, seed=seed
        ).samples

    assert torch.equal(run(7), run(7))
    assert float((run(7) - run(8)).abs().max()) > 1e-3


@pytest.mark.parametrize("walk", WALKS)
def test_samples_do_not_depend_on_batch_or_chunk(walk):
    def run(y, **options):
        return ti.solve(y, MASK, FIELD, method=WALKS[walk](), num_samples=3, steps=5, **options)

    together = run(Y)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(run(Y[:1]).samples[0], together.samples[0], **close)
    for size in (1, 4):
        chunked = run(Y, batch_size=size)
        torch.testing.assert_close(chunked.samples, together.samples, **close)
        assert chunked.stats.denoiser_calls == together.stats.denoiser_calls


@pytest.mark.parametrize("walk", WALKS)
def test_a_seed_each_gives_each_measurement_what_it_gets_alone(walk):
    def run(y, seed):
        return ti.solve(y, MASK, FIELD, method=WALKS[walk](), num_samples=3, steps=4, seed=seed)

    together = run(Y[:2], [5, 9]).samples
    for index, seed in enumerate((5, 9)):
        alone = run(Y[index], seed).samples
        torch.testing.assert_close(together[index], alone, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="one for each of 2 measurements, got 3"):
        run(Y[:2], (1, 2, 3))


def test_fewer_samples_are_the_first_of_more():
    few = ti.solve(Y[0], MASK, FIELD, num_samples=2, steps=4).samples
    more = ti.solve(Y[0], MASK, FIELD, num_samples=6, steps=4).samples
    torch.testing.assert_close(more[:2], few, rtol=1e-10, atol=1e-10)
