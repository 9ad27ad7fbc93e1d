"""Conformal intervals by class of pixel: a promise for each class, by labels or by the samples."""

import pytest
import torch

import tweedie_inverse as ti
from tests.seeds import salted
from tests.test_calibrate import NOISE, OPERATOR, SHAPE, WHITE
from tests.test_posterior import posterior
from tweedie_inverse.numerics.random import normal

# The left half of the images is sampled as it should be, the right half a third as wide.
LABELS = torch.tensor([0, 0, 1, 1]).expand(4, 4).clone()
NARROW = torch.tensor([1.0, 1.0, 1 / 3, 1 / 3])
TRUTHS, SAMPLES, NEW = 40, 9, 300


def uneven(y, count, seed):
    """The exact posterior of white images, too narrow in the right half."""
    variance = NOISE**2 / (1 + NOISE**2)
    noise = normal(("uneven", seed), (count, *SHAPE)).to(y)
    return y / (1 + NOISE**2) + variance**0.5 * NARROW.to(y) * noise


def by_spread(samples):
    """Pixels of much spread, class 1, and of little, class 0."""
    return (samples.std(0) > 0.3).long()


def calibrated(classes, **settings):
    return ti.calibrate(
        OPERATOR,
        WHITE,
        count=TRUTHS,
        num_samples=SAMPLES,
        sampler=uneven,
        seed=salted(0),
        power=False,
        classes=classes,
        **settings,
    )


@pytest.fixture(scope="module")
def new():
    """Truths ``(NEW, *SHAPE)`` and their posterior."""
    truths = normal(("new truths", salted(0)), (NEW, *SHAPE))
    y = OPERATOR.measure(truths, seed=salted(1))
    return truths, posterior(
        torch.stack([uneven(one, SAMPLES, salted(k)) for k, one in enumerate(y)])
    )


def shares(interval, truths):
    low, high = interval
    return ((truths >= low) & (truths <= high)).double()


def test_every_class_is_covered_as_often_as_promised(new, tmp_path):
    truths, plain = new
    calibration = calibrated(LABELS)
    calibration.save(tmp_path / "one.safetensors")
    found = ti.Calibration.load(tmp_path / "one.safetensors").recalibrated(plain)
    whole = shares(found.interval(0.9), truths)
    inside = shares(found.interval(0.9, classes=LABELS), truths)
    # The promise is 0.9 (n + 1) / n; between images the share of 8 pixels that do not depend on
    # each other varies by sqrt(0.09 / 8).
    wanted, error = 0.9 * (TRUTHS + 1) / TRUTHS, (0.09 / 8 * (1 / TRUTHS + 1 / NEW)) ** 0.5
    for half in (inside[..., :2], inside[..., 2:]):
        assert abs(float(half.mean()) - wanted) < 5 * error
    # One factor for all is too wide on the left and too narrow on the right.
    assert float(whole[..., :2].mean()) > 0.97
    assert float(whole[..., 2:].mean()) < 0.87
    one = found.interval(0.9, classes=LABELS)[0]
    alone = calibration.recalibrated(plain[3]).interval(0.9, classes=LABELS[None])[0]
    torch.testing.assert_close(one[3], alone)


def test_classes_of_the_samples(new):
    """Each class is counted where it is, and has a factor of its own."""
    truths, plain = new
    calibration = calibrated(by_spread)
    assert calibration.class_counts[:2].tolist() == [TRUTHS, TRUTHS]
    assert calibration.class_counts[2:].sum() == 0
    inside = shares(calibration.recalibrated(plain).interval(0.9, classes=by_spread), truths)
    labels = torch.stack([by_spread(one) for one in plain.samples])
    wanted, error = 0.9 * (TRUTHS + 1) / TRUTHS, (0.09 / 5 * (1 / TRUTHS + 1 / NEW)) ** 0.5
    for label in (0, 1):
        mine = labels == label
        each = (inside * mine).flatten(1).sum(1) / mine.flatten(1).sum(1)
        assert abs(float(each.mean()) - wanted) < 5 * error


def test_a_class_that_is_seldom_there_is_refused_at_high_levels():
    """Nine truths of 40 are bright: enough for level 0.9, too few for 0.95."""

    def bright(samples):
        return 2 * (samples.mean() > 5).long().expand(SHAPE)

    images = normal(("images", salted(0)), (TRUTHS, *SHAPE))
    images[:9] += 10
    calibration = calibrated(bright, images=images)
    assert calibration.class_counts[:3].tolist() == [TRUTHS - 9, 0, 9]
    found = calibration.recalibrated(posterior(uneven(images[:1] + 10, SAMPLES, salted(1))[None]))
    found.interval(0.9, classes=bright)
    with pytest.raises(
        ValueError, match="9 truths with pixels of class 2 are too few; it takes 19"
    ):
        found.interval(0.95, classes=bright)
    with pytest.raises(ValueError, match="not calibrated"):
        found.interval(0.9, classes=LABELS)
    with pytest.raises(ValueError, match="not both"):
        found.interval(0.9, of={"mean": bright}, classes=bright)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (torch.zeros(3, 3), r"of shape \(1, 4, 4\), got shape \(3, 3\)"),
        (LABELS + 0.5, "whole numbers from 0 to 15"),
        (LABELS - 1, "got values from -1 to 0"),
        (lambda samples: samples[:, 0], r"got shape \(9, 4, 4\)"),
        (lambda samples: 16 + by_spread(samples), "got values from 16"),
    ],
)
def test_wrong_classes_are_refused_before_the_first_solve(classes, message):
    with pytest.raises(ValueError, match=message):
        calibrated(classes)


def test_a_folder_of_other_classes_is_refused(tmp_path):
    calibrated(LABELS, folder=tmp_path)
    again = calibrated(LABELS, folder=tmp_path)
    assert again.class_counts.tolist()[:2] == [TRUTHS, TRUTHS]
    with pytest.raises(ValueError, match="other settings"):
        calibrated(1 - LABELS, folder=tmp_path)
