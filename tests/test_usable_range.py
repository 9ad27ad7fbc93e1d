"""`check_prior` measures the range, names only what explains a failure, and mends the prior."""

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.test_check_prior import TABLE, Exact, images, truth, wrapped
from tweedie_inverse.numerics.random import normal

SHAPE = (1, 8, 8)


class Damaged(nn.Module):
    """An exact network that returns images too bright from some noise level on."""

    def __init__(self, from_sigma):
        super().__init__()
        self.network, self.from_sigma = Exact("x0", False), from_sigma

    def forward(self, x, sigma):
        wrong = (sigma > self.from_sigma).to(x).reshape(-1, 1, 1, 1)
        return self.network(x, sigma) + 3 * wrong


class OneLevel(nn.Module):
    """An exact network that believes each image to have one level of noise."""

    def __init__(self, level):
        super().__init__()
        self.network, self.level = Exact("x0", False), level

    def forward(self, x, sigma):
        return self.network(x, torch.full_like(sigma, self.level))


def finding(report, name):
    return next(one for one in report.findings if one.name == name)


def test_a_range_that_is_lost_fails_and_another_is_suggested():
    prior = wrapped("x0", module=Damaged(4.0))  # sigma 2 in data units
    report = ti.check_prior(prior, images())
    assert not report.passed
    assert not report.suspects
    assert [one.name for one in report.findings if not one.passed] == ["range"]
    low, high = report.usable
    assert low == prior.sigma_min
    assert 1 <= high <= 2
    assert f"prior.limited(sigma_max={high:.3g})" in finding(report, "range").text
    assert "mended_prior() is the prior in the range that is of use" in str(report)
    mended = report.mended_prior()
    assert (mended.sigma_min, mended.sigma_max) == (low, high)
    assert ti.check_prior(mended, images()).passed


def test_a_denoiser_for_one_level_is_called_so():
    report = ti.check_prior(wrapped("x0", module=OneLevel(0.2)), images())
    assert not report.passed
    assert not report.suspects
    assert "a denoiser for one noise level" in finding(report, "range").text
    if report.usable is not None:  # two levels or more that are nearly as good as at its own
        low, high = report.usable
        assert low <= 0.1 <= high  # 0.2 on [-1, 1]
    assert "one noise level" not in str(
        ti.check_prior(wrapped("x0", module=Damaged(4.0)), images())
    )


def label_times(kind, factor, **changes):
    """A network that takes `factor` times the usual label."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Exact(kind, kind == "epsilon")

        def forward(self, x, label):
            return self.network(x, label / factor)

    return wrapped(kind, module=Scaled(), **changes)


def residual():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Exact("x0", False)

        def forward(self, x, sigma):
            return x - self.network(x, sigma)

    return wrapped("x0", module=Residual())


def on_half():
    """A network for images on [-1/2, 1/2], given those on [0, 1]."""
    return wrapped("x0", network_range=(-0.5, 0.5), offset=0.0, scale=1.0)


class Flipped(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = Exact("x0", False)

    def forward(self, x, sigma):
        return -self.network(-x, sigma)


PLANTED = {
    "t, and takes t / 1000": (
        lambda: label_times("epsilon", 1 / 1000),
        "noise label: the network takes t / 1000",
    ),
    "t / 1000, and takes t": (
        lambda: label_times("epsilon", 1000.0),
        "noise label: it is told t / 1000, and takes t",
    ),
    "sigma, and takes it on [0, 255]": (
        lambda: label_times("x0", 255.0),
        "noise label: it is told sigma on [0, 1], and takes that on [0, 255]",
    ),
    "images on [0, 1] for [-1/2, 1/2]": (
        on_half,
        "range: it is given images on [0, 1] as if they were on [-0.5, 0.5]",
    ),
    "black for white": (
        lambda: wrapped("x0", module=Flipped()),
        "range: black and white are exchanged",
    ),
    "the noise": (residual, "parameterization: the network returns the noise, x - x0"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_mistakes_of_published_networks_are_named_and_mended(name):
    """Each was met in the wild; the mended prior must denoise as well as the exact one.

    It need not be the same one: 255 sigma is nearly t of a usual schedule where images are.
    """
    planted, mistake = PLANTED[name]
    report = ti.check_prior(planted(), images(64))
    assert not report.passed
    assert mistake in [one.mistake for one in report.suspects], str(report)
    clean = images(64)
    noisy = clean + 0.1 * normal(("mended",), clean.shape).to(clean)
    exact = (truth().denoise(2 * noisy - 1, 0.2) + 1) / 2
    mended = report.mended_prior().denoise(noisy, 0.1)
    errors = [float((x - clean).square().mean()) for x in (mended, exact)]
    assert errors[0] < 1.05 * errors[1]


def test_images_in_255ths_are_named_whatever_the_prior_works_on():
    """The prior is right and the images are not: a network on [-1, 1] must not hide that."""
    report = ti.check_prior(wrapped("x0"), 255 * images(64))
    expected = "range: it is given images on [0, 255] as if they were on [0, 1]"
    # For a Gaussian, the right shrinkage of noisy images in 255ths is nearly as good.
    assert expected in [one.mistake for one in report.suspects], str(report)


def test_two_mistakes_at_once_are_found_together():
    prior = wrapped("epsilon", shown="v", offset=0.0, scale=1.0)
    report = ti.check_prior(prior, images(64))
    assert len(report.suspects) == 1
    mistake = report.suspects[0].mistake
    assert "the network returns 'epsilon'" in mistake
    assert "images on [0, 1] as if they were on [-1, 1]" in mistake
    assert ti.check_prior(report.mended_prior(), images()).passed


def test_networks_that_refuse_other_labels_are_checked_all_the_same():
    """An embedding takes no fractions, which most of the mistakes would hand to it."""

    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Exact("epsilon", True)

        def forward(self, x, label):
            if label.is_floating_point() or int(label.max()) >= len(TABLE):
                raise IndexError("index out of range in self")
            return self.network(x, label)

    right = wrapped("epsilon", module=Embedded(), integer_labels=True)
    assert ti.check_prior(right, images()).passed
    wrong = wrapped("epsilon", module=Embedded(), integer_labels=True, offset=0.0, scale=1.0)
    report = ti.check_prior(wrong, images(64))
    assert "images on [0, 1] as if they were on [-1, 1]" in report.suspects[0].mistake


def test_a_network_without_memory_is_no_mistake():
    """Were it taken for an answer, whatever comes next would look better."""

    class Small(nn.Module):
        def __init__(self, calls):
            super().__init__()
            self.network, self.left = Exact("x0", False), calls

        def forward(self, x, label):
            self.left -= 1
            if self.left < 0:
                raise torch.OutOfMemoryError
            return self.network(x, label)

    enough = Small(10_000)
    ti.check_prior(wrapped("x0", module=enough), images())
    used = 10_000 - enough.left
    with pytest.raises(torch.OutOfMemoryError):  # among the last mistakes that are tried
        ti.check_prior(wrapped("x0", module=Small(used - 5)), images())


def test_a_bad_network_has_no_suspect():
    """Nothing that the user could undo would help, and none of it must be named."""

    class Bad(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Exact("x0", False)

        def forward(self, x, sigma):
            return self.network(x, sigma).roll((3, 2), (-1, -2))

    report = ti.check_prior(wrapped("x0", module=Bad()), images())
    assert not report.passed
    assert not report.suspects, str(report)
    assert "no suspect" in str(report)
    with pytest.raises(ValueError, match="names no mistake to undo"):
        report.mended_prior()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_exact_networks_on_small_images_pass(size):
    """A linear denoiser made of the same images beats an exact one on few and small ones."""
    means = torch.linspace(0.2, 0.8, 5)[:, None, None, None].expand(5, 1, size, size)
    exact = ti.priors.GaussianMixture(means.clone(), torch.ones(5) / 5, 0.1)

    class Network(nn.Module):
        def forward(self, x, sigma):
            return exact.denoise(x, sigma)

    prior = ti.priors.NetworkPrior(
        Network(), "x0", shape=(1, size, size), sigma_min=0.01, sigma_max=20
    )
    for seed in range(6):
        report = ti.check_prior(prior, exact.draw(64, seed=seed).float(), seed=seed)
        assert report.passed, f"seed {seed}\n{report}"


def test_a_prior_is_limited_within_its_range_only():
    prior = wrapped("epsilon")
    smaller = prior.limited(sigma_max=2.0)
    assert (smaller.sigma_min, smaller.sigma_max) == (prior.sigma_min, 2.0)
    assert prior.sigma_max == 40
    assert smaller.module is prior.module
    with pytest.raises(ValueError, match=r"outside the prior's range, sigma 0\.005 to 2"):
        smaller.limited(sigma_max=10.0)
    with pytest.raises(ValueError, match="needs sigma_min < sigma_max"):
        prior.limited(sigma_min=1.0, sigma_max=0.5)
    x = images(2)
    torch.testing.assert_close(smaller.denoise(x, 0.3), prior.denoise(x, 0.3))
    assert TABLE[-1] > 100  # the network's own table stays whole
