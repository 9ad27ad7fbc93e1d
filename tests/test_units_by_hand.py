"""Whole units of a suite whose answers are worked out here, in numpy: every number of every record.

Two images, two tasks that differ by nothing but their names, two methods.  The prior is white, the
instrument shows some of the pixels, so that the posterior is a Gaussian of its own in every pixel.
What a method was given is kept; the record of a unit must be that of its own image, measurement and
seeds, whether the images ran one by one or together.
"""

import math
from dataclasses import dataclass, replace
from itertools import combinations, count

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import norm
from skimage.metrics import structural_similarity

import tweedie_inverse as ti
from tests.test_metric_numbers import haarpsi
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.harness import runner, table
from tweedie_inverse.benchmarks.harness.plan import Plan
from tweedie_inverse.benchmarks.harness.records import Store, Unit, read, read_pictures
from tweedie_inverse.benchmarks.harness.runner import run
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.problems.task import Suite, Task

SHAPE, CENTRE, SPREAD, NOISE = (1, 16, 16), 0.5, 0.15, 0.1
SEEN = np.random.default_rng(1).random(SHAPE) < 0.6
TRUTHS = CENTRE + SPREAD * np.random.default_rng(2).standard_normal((2, *SHAPE))
# Student's t at 0.95 for 3 degrees of freedom, from any table.
STUDENT = 2.353363


def posterior(y):
    """Mean and variance of every pixel."""
    precision = 1 / SPREAD**2 + SEEN / NOISE**2
    return (CENTRE / SPREAD**2 + SEEN * y / NOISE**2) / precision, 1 / precision


def drawn(y, seeds, shift, width):
    """What the methods below return for one measurement."""
    mean, variance = posterior(y)
    noise = [np.random.default_rng(seed).standard_normal(SHAPE) for seed in seeds]
    return mean + shift + width * np.sqrt(variance) * np.stack(noise)


@dataclass(frozen=True)
class Exact(Method):
    """Draws of the posterior; `evaluations` calls of the prior, one of them with a gradient."""

    evaluations: int = 5
    shift: float = 0.0
    width: float = 1.0

    source = "worked out in the test"

    def draw(self, y, task, prior, seeds, together):
        GIVEN.append((self, y.numpy(), [list(mine) for mine in seeds], together))
        for measured, mine in zip(y, seeds, strict=True):
            x = measured.expand(len(mine), *SHAPE).clone().requires_grad_()
            for _ in range(self.evaluations):
                denoised = prior.denoise(x, 1.0)
            torch.autograd.grad(denoised.sum(), x)
        found = [
            drawn(measured, mine, self.shift, self.width)
            for measured, mine in zip(y.numpy(), seeds, strict=True)
        ]
        return torch.from_numpy(np.stack(found))


@dataclass(frozen=True)
class Narrow(Exact):
    """Shifted, and half as wide as the posterior."""

    evaluations: int = 2
    shift: float = 0.02
    width: float = 0.5


GIVEN, ASKED = [], []
METHODS = {"exact": Exact(), "narrow": Narrow()}


def tasks(size, images, split):
    ASKED.append((size, images, split))
    flat = torch.full((size, size), SPREAD**2, dtype=torch.float64)
    prior = ti.priors.Gaussian(torch.full(SHAPE, CENTRE).double(), power_spectrum=flat)
    operator = ops.Mask(torch.from_numpy(SEEN), noise=ops.GaussianNoise(NOISE))
    truths = torch.from_numpy(TRUTHS[:images])
    return [Task(name, "some pixels, noise 0.1", prior, operator, truths) for name in ("a", "b")]


SUITE = Suite("by-hand", "White images, some pixels seen", tasks, 16, 16, cap=3)
PLAN = Plan(SUITE, images=2, samples=4, pictures=2, keep_samples=True)


def image_of(y):
    """The number of the image that a measurement is of."""
    return int(np.argmin([np.abs(SEEN * (y - truth)).sum() for truth in TRUTHS]))


class Run:
    """Records of a plan, and what its methods were given: ``(y, seeds)`` by task, image, method."""

    def __init__(self, plan, folder):
        GIVEN.clear()
        run(plan, METHODS, Store(folder), log=lambda line: None)
        self.plan, self.folder, self.given = plan, folder, {}
        self.records = {
            (unit["task"], unit["image"], unit["method"]): record
            for record in read([folder])
            for unit in [record["unit"]]
        }
        # Packs come image by image; within them tasks in order, and for each the methods in order.
        for number, (method, measured, seeds, together) in enumerate(GIVEN):
            task = "ab"[number // len(METHODS) % 2]
            name = next(name for name in METHODS if type(METHODS[name]) is type(method))
            assert method == replace(METHODS[name], evaluations=min(METHODS[name].evaluations, 3))
            assert together == plan.limit
            for y, mine in zip(measured, seeds, strict=True):
                self.given[task, image_of(y), name] = y, mine

    def samples(self, key):
        """What the method returned for a unit, worked out from what it was given."""
        y, seeds = self.given[key]
        return drawn(y, seeds, METHODS[key[2]].shift, METHODS[key[2]].width)


@pytest.fixture(scope="module", params=[(4, None), (4, 64), (39, None)], ids=str)
def done(request, tmp_path_factory):
    """Four samples one by one and in packs of both images; 39 samples."""
    samples, together = request.param
    plan = replace(PLAN, samples=samples, together=together)
    return Run(plan, tmp_path_factory.mktemp("by-hand"))


KEYS = [(task, image, name) for task in "ab" for image in (0, 1) for name in METHODS]


def test_every_unit_has_its_own_measurement_and_seeds(done):
    """One noise for both methods; another one for every image and task, of the right size."""
    assert set(done.records) == set(done.given) == set(KEYS)
    noises, all_seeds = [], []
    for task, image, _ in KEYS[::2]:
        y, seeds = done.given[task, image, "exact"]
        other, others = done.given[task, image, "narrow"]
        assert np.array_equal(y, other)
        assert seeds == others
        assert len(seeds) == done.plan.samples
        all_seeds += seeds
        noises.append(((y - TRUTHS[image]) / NOISE)[SEEN])
        assert np.array_equal(y[~SEEN], np.zeros_like(y[~SEEN]))
    assert len(set(all_seeds)) == len(all_seeds)
    pixels = SEEN.sum()
    for noise in noises:
        assert abs(noise.mean()) * math.sqrt(pixels) < 5
        assert abs((noise**2).mean() - 1) * math.sqrt(pixels / 2) < 5
    for one, two in combinations(noises, 2):
        assert abs((one * two).mean()) * math.sqrt(pixels) < 5


def test_another_seed_has_other_measurements_and_samples(done, tmp_path):
    again = Run(replace(done.plan, seed=1), tmp_path)
    for key in KEYS:
        (y, seeds), (other, others) = done.given[key], again.given[key]
        first, second = (((one - TRUTHS[key[1]]) / NOISE)[SEEN] for one in (y, other))
        assert abs((first * second).mean()) * math.sqrt(SEEN.sum()) < 5
        assert not set(seeds) & set(others)


def test_a_suite_is_asked_for_the_plans_images(tmp_path):
    """Of its own size unless the plan says another, and of the plan's split."""
    plan = replace(PLAN, tasks=("b",), images=1)
    for asked in ({"split": "validation"}, {"size": 16, "split": "test"}):
        ASKED.clear()
        run(replace(plan, **asked), METHODS, Store(tmp_path), log=lambda line: None)
        assert [(16, 1, asked["split"])] == ASKED
    ASKED.clear()
    larger = replace(SUITE, size=24)
    with pytest.raises(ValueError, match="power_spectrum"):
        run(replace(plan, suite=larger), METHODS, Store(tmp_path), log=lambda line: None)
    run(replace(plan, suite=larger, size=16), METHODS, Store(tmp_path), log=lambda line: None)
    assert ASKED == [(24, 1, "test"), (16, 1, "test")]
    assert {record["unit"]["task"] for record in read([tmp_path])} == {"b"}


def psnr(x, truth):
    return -10 * math.log10(((x - truth) ** 2).mean())


def ssim(x, truth):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(x[0], truth[0], data_range=1.0, **options)


def perceived(x, truth):
    return haarpsi(x[0].clip(0, 1), truth[0].clip(0, 1))


def by_hand(samples, truth, y):
    """All metrics that do not depend on the harness's own exact draws."""
    count, mean = len(samples), samples.mean(0)
    pairs = list(combinations(samples, 2))
    if count == 4:
        reach = STUDENT * math.sqrt(1 + 1 / 4) * samples.std(0, ddof=1)
        lower, upper = mean - reach, mean + reach
    else:  # 39 samples: a twentieth of 40 gaps is 2 of them
        lower, upper = np.sort(samples, 0)[[1, 37]]
    errors = [np.abs(x - truth) for x in samples]
    return {
        "psnr_sample": np.mean([psnr(x, truth) for x in samples]),
        "psnr_mean": psnr(mean, truth),
        "psnr_best": max(psnr(x, truth) for x in samples),
        "ssim_sample": np.mean([ssim(x, truth) for x in samples]),
        "ssim_mean": ssim(mean, truth),
        "ssim_best": max(ssim(x, truth) for x in samples),
        "haarpsi_sample": np.mean([perceived(x, truth) for x in samples]),
        "haarpsi_mean": perceived(mean, truth),
        "crps": np.mean(errors) - np.mean([np.abs(a - b) for a, b in pairs]) / 2,
        "energy_score": (
            np.mean([np.linalg.norm(x - truth) for x in samples])
            - np.mean([np.linalg.norm(a - b) for a, b in pairs]) / 2
        )
        / 16,  # the root of the number of pixels
        "chi_square": (((samples - y) / NOISE) ** 2)[:, SEEN].mean(),
        "coverage": ((lower <= truth) & (truth <= upper)).mean(),
        "interval_width": (upper - lower).mean(),
        "rank_histogram": [
            int(((samples < truth).sum(0) == rank).sum()) for rank in range(count + 1)
        ],
    }


def test_every_metric_of_every_record_is_the_one_worked_out(done):
    for key in KEYS:
        found = dict(done.records[key]["metrics"])
        expected = by_hand(done.samples(key), TRUTHS[key[1]], done.given[key][0])
        distances = {"mean_error", "variance_ratio", "sliced_wasserstein"}
        learned = {"lpips_sample", "lpips_mean"}  # only where the weights are on the machine
        assert set(found) - learned == set(expected) | distances
        assert found.pop("rank_histogram") == expected.pop("rank_histogram")
        for name, value in expected.items():
            close = 1e-4 if name.startswith("haarpsi") else 1e-6
            assert found[name] == pytest.approx(value, rel=close), (key, name)


def sliced(a, b, rng):
    """Sliced W1 over 100 directions, by quantiles: `b` has a multiple of the samples of `a`."""
    directions = rng.standard_normal((a.shape[1], 100))
    directions /= np.linalg.norm(directions, axis=0)
    level = (np.arange(len(a) * len(b)) + 0.5) / (len(a) * len(b))
    places = [np.minimum((level * len(x)).astype(int), len(x) - 1) for x in (a, b)]
    ends = [np.sort(x @ directions, 0)[place] for x, place in zip((a, b), places, strict=True)]
    return np.abs(ends[0] - ends[1]).mean()


def test_distances_are_those_from_the_exact_posterior(done):
    """Taken from 256 draws of the posterior: the numbers scatter as those of other draws do."""
    rng = np.random.default_rng(3)
    for key in KEYS:
        found, samples = done.records[key]["metrics"], done.samples(key)
        mean, variance = posterior(done.given[key][0])
        total = variance.sum()
        error = ((samples.mean(0) - mean) ** 2).sum() / total
        ratio = samples.var(0, ddof=1).sum() / total
        # Both are over one estimate of the total variance, whose own error is known.
        scale = error / found["mean_error"]
        assert ratio / found["variance_ratio"] == pytest.approx(scale, rel=1e-6)
        deviation = math.sqrt(2 * (variance**2).sum() / 256) / total
        assert abs(scale - 1) < 5 * deviation
        replicas = [
            sliced(
                samples.reshape(len(samples), -1),
                (mean + np.sqrt(variance) * rng.standard_normal((256, *SHAPE))).reshape(256, -1),
                rng,
            )
            for _ in range(12)
        ]
        z = (found["sliced_wasserstein"] - np.mean(replicas)) / np.std(replicas, ddof=1)
        assert abs(z) < 8  # Student's t of 11 degrees of freedom, as unlikely as 5 of a normal


def test_costs_are_per_sample_and_times_per_measurement(done):
    packed = 2 if done.plan.together else 1
    for (task, image, name), record in done.records.items():
        unit, spent = record["unit"], record["run"]
        evaluations = {"exact": 3, "narrow": 2}[name]  # five are cut to the suite's three
        assert record["cost"] == {"evaluations": evaluations, "vector_jacobian_products": 1}
        assert record["warnings"] == []
        assert spent["measurements_together"] == packed
        samples = done.plan.samples
        assert spent["samples_together"] == min(samples * packed, done.plan.limit)
        assert spent["samples_per_second"] == pytest.approx(samples / spent["seconds"])
        assert 0 < spent["seconds"] < 60
        method = METHODS[name]
        assert unit == {
            "suite": "by-hand",
            "task": task,
            "problem": f"some pixels, noise 0.1; {SUITE.make(16, 2, '')[0].operator!r}; Gaussian; "
            "test",
            "image": image,
            "method": name,
            "settings": {
                "evaluations": evaluations,
                "shift": method.shift,
                "width": method.width,
                "source": "worked out in the test",
            },
            "samples": samples,
            "seed": 0,
            "weights": "Gaussian",
        }


@pytest.mark.parametrize("packed", [1, 2])
def test_seconds_are_a_measurements_share_of_its_pack(packed, tmp_path, monkeypatch):
    """By a clock that counts how often it is looked at: before a pack and after it."""
    monkeypatch.setattr(runner.time, "perf_counter", count().__next__)
    done = Run(replace(PLAN, together=4 * packed), tmp_path)
    for record in done.records.values():
        assert record["run"]["seconds"] == 1 / packed
        assert record["run"]["samples_per_second"] == 4 * packed


def test_samples_and_pictures_are_those_of_the_unit(done):
    pictures = read_pictures([done.folder])
    for key, record in done.records.items():
        name, samples = Unit(**record["unit"]).name, done.samples(key)
        kept = load_file(done.folder / "units" / f"{name}.safetensors")["samples"]
        np.testing.assert_allclose(kept.numpy(), samples, rtol=1e-12)
        shown = pictures[name]
        expected = (TRUTHS[key[1]], samples.mean(0), samples.std(0, ddof=1), samples[:2])
        for found, image in zip(shown, expected, strict=True):
            np.testing.assert_allclose(found.float().numpy(), image, atol=2e-3)


def test_the_reports_row_is_the_mean_of_both_images_and_half_their_difference(done):
    """The standard error of two numbers is half their difference."""
    found = table.rows(done.records.values())
    assert [(row.task, row.method) for row in found] == [
        (t, name) for t in "ab" for name in METHODS
    ]
    for row in found:
        keys = [(row.task, image, row.method) for image in (0, 1)]
        one, two = (by_hand(done.samples(k), TRUTHS[k[1]], done.given[k][0]) for k in keys)
        ranks = np.add(one.pop("rank_histogram"), two.pop("rank_histogram"))
        assert row.images == 2
        for name, value in one.items():
            assert row.cells[name].mean == pytest.approx((value + two[name]) / 2, rel=1e-4)
            half = abs(value - two[name]) / 2
            assert row.cells[name].error == pytest.approx(half, rel=1e-2, abs=1e-4)
        expected = np.abs(ranks / ranks.sum() - 1 / len(ranks)).sum()
        assert row.cells["unflatness"].mean == pytest.approx(expected)


def test_the_exact_method_is_calibrated_and_the_narrow_one_is_not(tmp_path):
    """So that the numbers above mean what they are called: coverage 0.9, and less than 0.7."""
    done = Run(replace(PLAN, samples=39), tmp_path)
    covered = {
        name: np.mean(
            [done.records[t, i, name]["metrics"]["coverage"] for t in "ab" for i in (0, 1)]
        )
        for name in METHODS
    }
    pixels = 4 * TRUTHS[0].size
    assert abs(covered["exact"] - 0.9) < 5 * math.sqrt(0.9 * 0.1 / pixels)
    # Half the width about a mean of 0.02 beside: the share of a Gaussian that lies within.
    reach = norm.ppf(0.95) / 2
    _, variance = posterior(TRUTHS[0])
    shift = 0.02 / np.sqrt(variance)
    share = (norm.cdf(shift + reach) - norm.cdf(shift - reach)).mean()
    assert abs(covered["narrow"] - share) < 5 * math.sqrt(share * (1 - share) / pixels)
