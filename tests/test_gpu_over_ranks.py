"""One image over two processes that share a GPU, by gloo, is that of one process."""

import pytest
import torch

import tweedie_inverse as ti
from tests.over_ranks import SIZE, mask, measured, prior, raised, spawn
from tests.test_image_over_ranks import derivative, slices
from tweedie_inverse.runtime.ranks import join

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning"),
]
VOLUME = (1, 5, 8, 8)


def solved(given, operator, source="measured"):
    y = measured(operator).cuda()
    walk = ti.walks.Decoupled(error=source)
    return ti.solve(y, operator, given, method=walk, num_samples=2, steps=6, seed=5)


def results(spread):
    tiles = spread(prior().to("cuda"))
    volume = spread(slices(prior(pixels=10**6).to("cuda")))
    return {
        "measured": solved(tiles, mask()).samples.cpu(),
        "network": solved(tiles, mask(), "network").samples.cpu(),
        "volume": solved(volume, mask(VOLUME)).samples.cpu(),
        "derivative": derivative(tiles, "cuda").cpu(),
    }


def work(rank, folder):
    assert join("over_ranks", torch.device("cuda")).size == 2
    torch.save(results(lambda given: given.over_ranks()), folder / f"{rank}.pt")
    other = mask() if rank == 0 else mask(noise=0.2)
    said = raised(lambda: solved(prior().to("cuda").over_ranks(), other))
    (folder / f"said-{rank}").write_text(said)


def test_two_processes_on_one_gpu(tmp_path):
    spawn(work, 2, tmp_path)
    alone = results(lambda given: given)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, expected in alone.items():
            error = float((found[name] - expected).abs().max() / expected.std())
            assert error < 1e-3, name  # sums without a fixed order, ten bits in convolutions
        assert "RankError" in (tmp_path / f"said-{rank}").read_text()
    assert alone["measured"].shape == (2, *SIZE)
