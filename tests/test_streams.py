"""Random numbers of walkers are a function of name, step and place, and standard normal."""

import math

import pytest
import torch

from tests.pretend_device import Elsewhere
from tweedie_inverse.numerics import random, streams
from tweedie_inverse.numerics.philox import philox, write_uniform
from tweedie_inverse.numerics.streams import Streams

FLOAT, DOUBLE = torch.zeros(()), torch.zeros((), dtype=torch.float64)
# Draws of all kinds: small, large, with a remainder, one number, and small ones after large ones.
SHAPES = [(7,), (), (2, 3, 50), (streams._LARGE,), (1,), (3, 5000), (streams._LARGE - 1,), (2,)]

ONES, ZERO = 0xFFFFFFFF, 0
# Counter, key and answer as the authors publish them (Random123, kat_vectors).
PUBLISHED = [
    ((ZERO,) * 4, (ZERO,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def named(walkers, *rest):
    return Streams([("test", *rest, walker) for walker in walkers])


@pytest.mark.parametrize(("counter", "key", "answer"), PUBLISHED)
def test_philox_gives_the_published_words(counter, key, answer):
    counter, key = (tuple(torch.full((1,), word) for word in words) for words in (counter, key))
    assert tuple(int(word) for word in philox(counter, key)) == answer


def test_words_of_shapes_that_broadcast_are_those_of_each_counter():
    place, name = torch.arange(5)[None], torch.tensor([3, 8])[:, None]
    zero = torch.zeros(1, 1, dtype=torch.int64)
    together = philox((place, zero, zero + 4, name), (name + 1, name + 2))
    for row in range(2):
        for column in range(5):
            one = [torch.tensor([int(n)]) for n in (column, 0, 4, name[row])]
            key = name[row] + 1, name[row] + 2
            alone = torch.stack(philox(tuple(one), key)).flatten()
            assert torch.equal(torch.stack(together)[:, row, column], alone)


def test_numbers_do_not_depend_on_company():
    together, alone = named(range(5), 0), named([3], 0)
    crowd = Streams([("test", 0, walker % 7) for walker in range(700)])
    for shape in SHAPES:
        found = alone.normal(shape, FLOAT)
        assert found.shape == (1, *shape)
        assert torch.equal(together.normal(shape, FLOAT)[3:4], found)
        assert torch.equal(crowd.normal(shape, FLOAT)[3:4], found)


def test_numbers_do_not_depend_on_what_is_made_at_once(monkeypatch):
    def drawn():
        own = named(range(3), 1)
        return [own.normal(shape, FLOAT) for shape in SHAPES]

    usual = drawn()
    monkeypatch.setattr(streams, "_BLOCKS_CPU", 17)
    monkeypatch.setattr(streams, "_AHEAD", 1)
    assert all(map(torch.equal, usual, drawn()))


def test_a_step_is_the_same_whatever_was_drawn_before():
    own = named(range(3), 1)
    first = own.at(4).normal((10,), FLOAT)
    own.normal((100,), FLOAT)
    step = own.at(4)
    assert torch.equal(step.normal((10,), FLOAT), first)
    assert not torch.equal(step.normal((10,), FLOAT), first)  # it goes on
    assert not torch.equal(own.at(5).normal((10,), FLOAT), first)
    assert not torch.equal(own.at(4).at(0).normal((10,), FLOAT), first)


def test_no_two_streams_share_numbers():
    keys = [("a",), ("b",), (0,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (-1,), (2**32,), (2**63,)]
    drawn = [Streams([key]).at(step).normal((64,), FLOAT)[0] for key in keys for step in (0, 1)]
    numbers = torch.cat(drawn)
    assert len(numbers.unique()) > len(numbers) - 3  # of 24 bits, chance repeats some


def test_the_salt_of_the_tests_changes_all(monkeypatch):
    usual = named([0]).normal((4,), FLOAT)
    monkeypatch.setattr(random, "SALT", random.SALT + "other")
    assert not torch.equal(named([0]).normal((4,), FLOAT), usual)


def test_single_and_double_precision_agree_to_rounding():
    for shape in SHAPES:
        single, double = named([0]).normal(shape, FLOAT), named([0]).normal(shape, DOUBLE)
        assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
        assert float((single - double).abs().max()) < 1e-4
        half = named([0]).normal(shape, FLOAT.bfloat16())
        assert torch.equal(half, single.bfloat16())


def _normal(numbers):
    """Whether even and odd moments of many numbers are those of a standard normal."""
    count = numbers.numel()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        variance = math.prod(range(1, 2 * power, 2)) - moment**2
        z = (float(numbers.pow(power).mean()) - moment) * math.sqrt(count / variance)
        assert abs(z) < 5, (power, z)


@pytest.mark.parametrize(("walkers", "count"), [(1, 400_000), (400, 1024), (20_000, 20)])
def test_numbers_are_standard_normal_and_independent(walkers, count):
    numbers = named(range(walkers), 5).at(3).normal((count,), DOUBLE)
    _normal(numbers)
    other = named(range(walkers), 5).at(4).normal((count,), DOUBLE)
    pairs = [(numbers, other), (numbers[:, 1:], numbers[:, :-1]), (numbers[:, 2:], numbers[:, :-2])]
    if walkers > 1:
        pairs += [(numbers[1:], numbers[:-1])]
    lanes = -(-count // 4)
    pairs += [(numbers[:, lanes:], numbers[:, :-lanes])]
    for one, two in pairs:
        for power in (1, 2):  # numbers, and their sizes
            a, b = one.pow(power) - (power - 1), two.pow(power) - (power - 1)
            z = float((a * b).mean()) * math.sqrt(a.numel()) / power
            assert abs(z) < 5


@pytest.mark.parametrize("like", [FLOAT, DOUBLE])
def test_uniform_numbers_lie_strictly_between_0_and_1(like):
    numbers = named(range(300)).uniform((1000,), like).double()
    assert 0 < float(numbers.min()) < 1e-3
    assert 1 - 1e-3 < float(numbers.max()) < 1
    expected = torch.arange(1, 5).double()
    powers = numbers.flatten()[:, None].pow(expected).mean(0)
    deviation = (1 / (2 * expected + 1) - (1 / (expected + 1)).square()).sqrt()
    assert float(((powers - 1 / (expected + 1)) / deviation).abs().max()) * math.sqrt(300_000) < 5
    words = tuple(torch.full((1, 1), word) for word in (0, 1, ONES - 1, ONES))
    out = torch.empty(1, 4, 1, dtype=like.dtype)
    write_uniform(words, out)
    assert float(out.min()) > 0
    assert float(out.max()) < 1


def test_numbers_on_a_device_are_made_there():
    own = named(range(4))
    here = [own.normal(shape, FLOAT) for shape in SHAPES]
    with Elsewhere() as device:
        like = FLOAT.to(device.device)
        own = named(range(4))
        own.normal((1,), like)
        device.clear()  # the names have been sent
        again = own.at(0)
        there = [again.normal(shape, like) for shape in SHAPES]
        assert not device.transfers
        assert not device.readbacks
        for one, other in zip(here, there, strict=True):
            assert other.device == device.device
            assert torch.equal(other.cpu(), one)
