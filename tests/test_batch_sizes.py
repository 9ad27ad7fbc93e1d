"""Walkers that run together by default: what free memory holds, and no sample depends on it."""

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import seeded
from tweedie_inverse import operators as ops
from tweedie_inverse.priors import batches
from tweedie_inverse.priors.batches import IMAGE_BUFFERS, default_batch, kept_numbers
from tweedie_inverse.runtime import memory
from tweedie_inverse.runtime.live_memory import LiveBytes, peak_bytes

CPU = torch.device("cpu")
SHAPE = (1, 16, 16)
IMAGE = 16 * 16 * 4


class Wide(torch.nn.Module):
    """Holds 30 images for each one that it is given, and then as many again."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x, label):
        hidden = x.repeat(1, 30, 1, 1)
        return hidden.sin().mean(1, keepdim=True) * self.weight


def prior_of(**settings):
    return ti.priors.NetworkPrior(
        seeded(Wide), "x0", shape=SHAPE, sigma_min=0.05, sigma_max=5.0, **settings
    )


def test_live_bytes_are_those_of_tensors_that_are_alive_together():
    x = torch.ones(100)
    with LiveBytes() as live:
        y = x + 1  # 400 bytes
        z = y[:50].sin()  # a view, and 200
        del y
        kept = torch.zeros(10, dtype=torch.float64)  # 80
        del z
        x.add_(1)
    assert (live.now, live.peak) == (80, 680 - 80)
    assert len(kept) == 10


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_the_batch_is_what_memory_holds(factor, monkeypatch):
    """60 images of the network at its peak and the scaling of input and output, and the walk's."""
    monkeypatch.setattr(batches, "_FEW_NUMBERS", 0)
    monkeypatch.setattr(batches, "free_bytes", lambda device: int(factor * 20 * 100 * IMAGE))
    found = default_batch(prior_of(), torch.zeros(()), 10_000)
    room, walk = 0.4 * factor * 20 * 100, kept_numbers((1, 16, 16)) / 256
    assert int(room / (70 + walk)) <= found <= int(room / (60 + walk))
    assert default_batch(prior_of(), torch.zeros(()), 1) == batches.MOST_NUMBERS // 256


def test_nothing_is_tried_where_images_are_small_or_memory_is_not_known(monkeypatch):
    def tried(*given):
        raise AssertionError

    monkeypatch.setattr(batches, "_measured", tried)
    assert default_batch(prior_of(), torch.zeros(()), 4096) == 2**16
    monkeypatch.setattr(batches, "free_bytes", lambda device: None)
    assert default_batch(prior_of(), torch.zeros(()), 5000) == 2**16


def test_a_network_that_has_no_room_for_two_gets_one(monkeypatch):
    def short(*given):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(batches, "_FEW_NUMBERS", 0)
    monkeypatch.setattr(batches, "peak_bytes", short)
    assert default_batch(prior_of(), torch.zeros(()), 8) == 1


def test_what_was_measured_is_remembered_and_a_fixed_batch_counts_once(monkeypatch):
    monkeypatch.setattr(batches, "_FEW_NUMBERS", 0)
    monkeypatch.setattr(batches, "free_bytes", lambda device: 2**22)
    prior, seen = prior_of(), []
    monkeypatch.setattr(
        batches, "peak_bytes", lambda function, device: seen.append(function()) or 2**19
    )
    plain = default_batch(prior, torch.zeros(()), 10_000)
    assert default_batch(prior, torch.zeros(()), 500) == plain
    assert [len(one) for one in seen] == [2]
    fixed = prior.faster(compile="eager", batch=7)
    assert default_batch(fixed, torch.zeros(()), 10_000) > plain
    assert len(seen[-1]) == 7


def test_samples_do_not_depend_on_free_memory(monkeypatch):
    operator = ops.Mask(ops.random_mask(SHAPE, 0.5), noise=ops.GaussianNoise(0.2))
    y = operator.measure(torch.zeros(1, *SHAPE), seed=0)

    def solved():
        return ti.solve(y, operator, prior_of(), num_samples=6, steps=4)

    expected = solved()
    monkeypatch.setattr(batches, "_FEW_NUMBERS", 0)
    monkeypatch.setattr(batches, "free_bytes", lambda device: int(2.5 * 2.5 * 150 * IMAGE))
    assert default_batch(prior_of(), y, 6) in (2, 3, 4)
    found = solved()
    torch.testing.assert_close(found.samples, expected.samples)
    assert found.stats.denoiser_calls == expected.stats.denoiser_calls
    drawn = ti.sample(prior_of(), 6, steps=3)
    monkeypatch.undo()
    torch.testing.assert_close(drawn, ti.sample(prior_of(), 6, steps=3))


@pytest.mark.parametrize("text", ["", "MemAvailable:\n", "MemTotal: 5 kB\n", None])
def test_memory_that_is_not_told_is_not_guessed(text, tmp_path, monkeypatch):
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_LIMITS", ((tmp_path / "max", tmp_path / "current"),))
    assert memory.free_bytes(CPU) is None
    (tmp_path / "current").write_text("1000\n")
    (tmp_path / "max").write_text("max\n")
    assert memory.free_bytes(CPU) is None
    (tmp_path / "max").write_text("5000\n")
    assert memory.free_bytes(CPU) == 4000
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   3 kB\n")
    assert memory.free_bytes(CPU) == 3072
    assert memory.free_bytes(torch.device("meta")) is None


@pytest.mark.parametrize("name", ["mask", "super-resolution"])
def test_a_solve_keeps_the_stated_number_of_images(name):
    """Slope over the walkers, the forward pass included: a network of ten images is small."""
    shape = (1, 24, 24)
    noise = ops.GaussianNoise(0.05)
    operator = {
        "mask": lambda: ops.Mask(ops.random_mask(shape, 0.3), noise=noise),
        "super-resolution": lambda: ops.Downsampling(shape, 2, noise=noise),
    }[name]()
    prior = ti.priors.NetworkPrior(seeded(Wide), "x0", shape=shape, sigma_min=0.05, sigma_max=5.0)
    y = operator.measure(torch.zeros(1, *shape), seed=0)

    def peak(walkers):
        return peak_bytes(lambda: ti.solve(y, operator, prior, num_samples=walkers, steps=9), CPU)

    image = 24 * 24 * 4
    slope = (peak(12) - peak(6)) / (6 * image)
    x = torch.zeros(6, *shape)
    forward = peak_bytes(lambda: prior.denoise(x, 0.3), CPU) / (6 * image)
    assert 0 < slope - forward <= kept_numbers(shape) / (24 * 24)
    if name != "mask":  # each walker's block
        assert slope - forward <= IMAGE_BUFFERS
