"""One image over several processes is that of one process, bit for bit, and errors are of all."""

import os
import shutil
import warnings

import pytest
import torch

import tweedie_inverse as ti
from tests.over_ranks import NETWORK, SIZE, Smoothing, mask, measured, prior, raised, solved, spawn
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import batches
from tweedie_inverse.runtime.ranks import Alone, Team
from tweedie_inverse.solving import checkpoint

VOLUME = (1, 5, 8, 8)
SOURCES = ("measured", "average", "network", "isotropic")


def slices(inner, **settings):
    settings = {"depth": 5, "correlation": 2.0, "together": 2, **settings}
    return ti.priors.Slices(inner.for_shape((1, 8, 8)), **settings)


def cases(spread):
    """What is solved, by name; `spread` is what becomes of a prior in the processes."""
    tiles, own = prior(), prior(pixels=10**6)
    volume, cube = mask(VOLUME), mask((1, 8, 8, 8))
    counted = ops.Mask(torch.ones(SIZE), noise=ops.PoissonNoise(0.1))
    kspace = ops.FourierSampling(
        ops.random_mask(SIZE, 0.5, seed=2)[0], noise=ops.GaussianNoise(0.1)
    )
    axes = ti.priors.Slices(own.for_shape((1, 8, 8)), depth=8, axes=(0, 1), together=3)
    walk = ti.walks.Decoupled
    return {
        **{source: (spread(tiles), None, {"method": walk(error=source)}) for source in SOURCES},
        "one tile": (spread(own), mask((1, 8, 8)), {}),
        "volume": (spread(slices(own)), volume, {}),
        "langevin": (spread(tiles), None, {"method": "langevin", "steps": 3}),
        "population": (spread(tiles), None, {"method": "particle", "num_samples": 6, "steps": 4}),
        "in parts": (spread(tiles), None, {"num_samples": 3, "batch_size": 2, "steps": 4}),
        "two axes": (spread(axes), cube, {"steps": 4}),
        "tiles of slices": (slices(spread(own)), volume, {"steps": 4}),
        "counts": (spread(tiles), counted, {"steps": 3}),
        "complex": (ti.priors.Complex(spread(tiles), phase=0.3, imaginary=0.1), kspace, {}),
        "unknown noise": (spread(tiles), None, {"noise": "estimate", "steps": 4}),
        "faster": (spread(tiles).faster(channels_last=True), None, {"steps": 4}),
    }


FEW = (*SOURCES, "one tile", "volume")


def results(spread, names):
    """Samples and evaluations by name."""
    found = {}
    for name in names:
        given, operator, settings = cases(spread)[name]
        posterior = solved(given, operator, **settings)
        found[name] = posterior.samples, posterior.stats.denoiser_calls
    return found


def derivative(given, device="cpu"):
    """Of the denoised image, backward, with a noise level for each image."""
    x = normal(("x",), (2, *SIZE)).float().to(device).requires_grad_()
    denoised = given.for_shape(SIZE).denoise(x, torch.tensor([0.1, 0.7]).to(device))
    weights = normal(("w",), x.shape).float().to(device)
    return torch.autograd.grad((denoised * weights).sum(), x)[0]


class Failing(Smoothing):
    """Raises `error` in its `call`-th call."""

    def __init__(self, call=0, error=None):
        super().__init__()
        self.load_state_dict(NETWORK.state_dict())
        self.left, self.error = call, error

    def forward(self, x, label):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return super().forward(x, label)


class FailingMask(ops.Mask):
    """Raises `error` in its `call`-th product."""

    left, error = 0, None

    def forward(self, x):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return super().forward(x)


def failing(rank, call, error):
    """A prior whose network fails in the second process."""
    return prior(Failing(call if rank == 1 else 0, error).eval()).over_ranks()


def failing_mask(rank, call, error):
    found = FailingMask(ops.random_mask(SIZE, 0.4, seed=1), noise=ops.GaussianNoise(0.1))
    found.left, found.error = call if rank == 1 else 0, error
    return found


def misuse(rank):
    """What processes say that do not make the same call, or one that cannot be spread."""
    spread = prior().over_ranks()
    return {
        "seed": raised(lambda: solved(spread, seed=rank)),
        "samples": raised(lambda: solved(spread, num_samples=1 + rank)),
        "steps": raised(lambda: solved(spread, steps=8 + 4 * rank)),
        "population": raised(
            lambda: solved(spread, method=ti.walks.Particle(communicator=ti.walks.ProcessGroup()))
        ),
        "twice": raised(lambda: spread.over_ranks()),
        "slices twice": raised(lambda: slices(spread).over_ranks()),
        "torch.func": raised(lambda: torch.func.jvp(
            lambda x: spread.for_shape(SIZE).denoise(x, 0.5), *[(torch.ones(1, *SIZE),)] * 2)),
    }  # fmt: skip


def failures(rank):
    """What both say where something fails in the second process."""
    return {
        "network": raised(lambda: solved(failing(rank, 20, ValueError("broken")))),
        "operator": raised(
            lambda: solved(prior().over_ranks(), failing_mask(rank, 9, ValueError("torn")))
        ),
    }


def short_of_memory(rank):
    """Samples where the second process runs out of memory, and sizes of batches."""
    spread, memory = prior().over_ranks(), torch.OutOfMemoryError("full")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        samples = [
            solved(failing(rank, 20, memory)).samples,
            solved(spread, failing_mask(rank, 9, memory)).samples,
        ]
    whole, kept = spread.for_shape(SIZE), (batches.free_bytes, batches._FEW_NUMBERS)
    batches.free_bytes, batches._FEW_NUMBERS = lambda device: 10**9 * (3 - rank), 0
    like = torch.zeros(1)
    found = {
        "samples": samples,
        "said": [str(one.message) for one in told],
        "batch": batches.default_batch(whole, like, 10**5),
        "own": batches._of_this_process(whole, like, 10**5),
    }
    batches.free_bytes, batches._FEW_NUMBERS = kept
    return found


def warned(rank):
    """What a process warns of: a bad verdict, and a network that is given all tiles at once."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        y = 100 * measured(mask())
        ti.solve(y, mask(), prior(pixels=10**6).over_ranks(), num_samples=2, steps=4)
    return [f"{one.category.__name__}: {one.message}" for one in told]


def kept(rank, folder):
    """A walk that stops after a step is kept by the first process, and both go on from it."""
    path, spread = folder / "walk", prior().over_ranks()

    def stop(step):
        if step.level.index == 2:
            raise ArithmeticError("stopped")

    every, checkpoint._EVERY = checkpoint._EVERY, 0.0
    stopped = raised(lambda: solved(spread, checkpoint=path, callback=stop))
    checkpoint._EVERY = every
    there = path.exists()
    torch.distributed.barrier()
    if rank == 0:
        shutil.copy(path, folder / "kept")
    torch.distributed.barrier()
    samples = solved(spread, checkpoint=path).samples
    own = raised(lambda: solved(spread, checkpoint=folder / f"walk-{rank}"))
    if rank == 0:
        shutil.copy(folder / "kept", folder / "of-the-first")
    torch.distributed.barrier()
    name = "of-the-first" if rank == 0 else "of-nobody"
    alone = raised(lambda: solved(spread, checkpoint=folder / name))
    return {"stopped": stopped, "there": there, "left": path.exists(), "samples": samples,
            "own": own, "alone": alone}  # fmt: skip


def rounded(rank):
    """The denoised image where the images of two processes differ by rounding, and by more."""
    whole = prior().over_ranks().for_shape(SIZE)
    x = normal(("x",), (1, *SIZE)).float()
    near = whole.denoise(x * (1 + 1e-6 * rank), 0.3)
    return near, raised(lambda: whole.denoise(x * (1 + 1e-2 * rank), 0.3))


class Gone(Smoothing):
    """The second process ends without a word."""

    def forward(self, x, label):
        if torch.distributed.get_rank() == 1:
            os._exit(0)
        return super().forward(x, label)


def over(given):
    return given.over_ranks()


def work(rank, folder):
    found = {
        "results": results(over, FEW),
        "derivative": derivative(prior().over_ranks()),
        "misuse": misuse(rank),
        "failures": failures(rank),
        "memory": short_of_memory(rank),
        "warned": warned(rank),
        "kept": kept(rank, folder),
        "rounded": rounded(rank),
    }
    torch.save(found, folder / f"{rank}.pt")
    gone = raised(lambda: solved(prior(network=Gone().eval()).over_ranks()))
    (folder / "gone").write_text(gone)


def all_cases(rank, folder):
    found = {"results": results(over, cases(over)), "derivative": derivative(prior().over_ranks())}
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found; they are started once, because that takes seconds."""
    folder = tmp_path_factory.mktemp("two")
    spawn(work, 2, folder)
    found = [torch.load(folder / f"{rank}.pt") for rank in range(2)]
    found[0]["folder"] = str(folder)
    found[0]["gone"] = (folder / "gone").read_text()
    return found


def assert_that_of_one(found, names):
    """Every process has the numbers of one."""
    for name, (samples, calls) in results(lambda given: given, names).items():
        for one in found:
            assert torch.equal(one["results"][name][0], samples), name
            assert one["results"][name][1] == calls, name
        assert float(samples.std()) > 0.01
    for one in found:
        torch.testing.assert_close(one["derivative"], derivative(prior()))


def test_two_processes_make_the_image_of_one(two):
    assert_that_of_one(two, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_walk_is_that_of_one_process(size, tmp_path):
    """Three share what does not divide by three, and volumes of fewer parts."""
    spawn(all_cases, size, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    assert_that_of_one(found, cases(lambda given: given))


def test_calls_that_differ_are_refused(two):
    for one in two:
        said = one["misuse"]
        assert "different images" in said["seed"]
        assert "the same measurement, operator and seed" in said["seed"]
        assert "[(1, 1, 20, 13), (2, 1, 20, 13)]" in said["samples"]
        assert "different noise levels" in said["steps"]
        assert "cannot both be spread over the processes" in said["population"]
        assert "needs a prior in tiles, prior.tiled(), once" in said["twice"]
        assert "is over ranks already" in said["slices twice"]
        assert "no transforms of torch.func" in said["torch.func"]


def test_images_may_differ_by_rounding(two):
    """As where sums have no fixed order; every process has the same answer."""
    (near, said), (again, says) = (one["rounded"] for one in two)
    expected = prior().for_shape(SIZE).denoise(normal(("x",), (1, *SIZE)).float(), 0.3)
    torch.testing.assert_close(near, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(again, near, rtol=0, atol=1e-5)
    assert "they differ by 0.01 of the largest number" in said
    assert "they differ by 0.01 of the largest number" in says


def test_an_error_of_one_is_an_error_of_both(two):
    first, second = (one["failures"] for one in two)
    other = "RankError: process 2 of 2 has failed, so that all stop; its own message says why"
    assert first == {"network": other, "operator": other}
    assert second == {"network": "ValueError: broken", "operator": "ValueError: torn"}


def test_a_process_that_ends_does_not_leave_the_other_waiting(two):
    assert "RankError: process 1 of 2 has lost the others" in two[0]["gone"]


def test_both_take_smaller_parts_where_one_is_short_of_memory(two):
    expected = solved(prior()).samples
    own = [one["memory"]["own"] for one in two]
    assert own[1] < own[0]
    for one in two:
        memory = one["memory"]
        for samples in memory["samples"]:
            torch.testing.assert_close(samples, expected)
        assert len(memory["said"]) == 2
        assert all("going on with 1" in text for text in memory["said"])
        assert memory["batch"] == own[1]


def test_the_first_process_warns(two):
    first, second = (one["warned"] for one in two)
    assert second == []
    uneven, verdict = sorted(first, reverse=True)
    assert "PosteriorWarning: solve: the posterior cannot be trusted" in verdict
    assert "the busiest of 2 processes made 64 of 64 evaluations" in uneven


def test_a_walk_of_two_is_kept_once_and_taken_up_by_any_number(two):
    expected = solved(prior()).samples
    folder = two[0]["folder"]
    torch.testing.assert_close(solved(prior(), checkpoint=f"{folder}/kept").samples, expected)
    for one in two:
        found = one["kept"]
        assert "stopped" in found["stopped"]
        assert (found["there"], found["left"], found["own"]) == (True, False, "")
        torch.testing.assert_close(found["samples"], expected)
        assert "not all processes see" in found["alone"]


def test_a_single_process_is_told_how_to_start_several(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for given in (prior(), slices(prior())):
        with pytest.raises(ValueError, match="torchrun --nproc-per-node 2"):
            given.over_ranks()
    with pytest.raises(ValueError, match=r"needs a prior in tiles, prior.tiled\(\)"):
        ti.load_prior("phantom-64").over_ranks()
    with pytest.raises(ValueError, match=r"Gaussian.over_ranks\(\): tiles and slices"):
        ti.priors.Gaussian(torch.zeros(1, 4, 4), power_spectrum=torch.ones(4, 4)).over_ranks()


@pytest.mark.parametrize(
    ("config", "image", "row"),
    [
        ("cpu:gloo,cuda:gloo", "cpu", "cpu"),
        ("cuda:nccl", "cuda:1", "cuda:1"),
        ("cpu:gloo,cuda:nccl", "cuda:1", "cpu"),
    ],
)
def test_what_is_sent_lies_where_the_group_carries_it(config, image, row, monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_backend_config", lambda: config)
    team, cpu = Team(torch.device("cuda:1")), torch.device("cpu")
    assert str(team.carrier(torch.device("cuda:1"))) == image
    assert str(team.carrier(cpu)) == row


@pytest.mark.parametrize(("items", "size"), [(0, 3), (2, 4), (7, 3), (16, 4)])
def test_shares_are_consecutive_and_even(items, size, monkeypatch):
    monkeypatch.setattr(Alone, "size", size)
    shares = Alone().shares(items)
    assert [one for share in shares for one in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
