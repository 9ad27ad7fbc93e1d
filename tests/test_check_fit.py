"""The alarm for measurements that the prior would not make: its level, its sight, its file."""

import math

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.seeds import salted
from tweedie_inverse import operators as ops
from tweedie_inverse.app.check_command import FAILED
from tweedie_inverse.app.cli import main
from tweedie_inverse.evaluation.calibrate.samplers import Solving
from tweedie_inverse.evaluation.fit.judge import held_to_others, judge
from tweedie_inverse.evaluation.fit.layout import Layout
from tweedie_inverse.evaluation.fit.statistics import Statistics
from tweedie_inverse.evaluation.fit.truths import Truths
from tweedie_inverse.numerics.random import normal

SIZE, STD = 12, 0.3
SHAPE = (1, SIZE, SIZE)
FREQUENCY = torch.fft.fftfreq(SIZE, dtype=torch.float64)
SPECTRUM = (0.01 + FREQUENCY[:, None] ** 2 + FREQUENCY**2) ** -3
PRIOR = ti.priors.Gaussian(
    torch.zeros(SHAPE, dtype=torch.float64), power_spectrum=SPECTRUM / SPECTRUM.mean()
)
MASK = (torch.arange(SIZE * SIZE).reshape(SHAPE) % 3 > 0).double()
OPERATOR = ops.Mask(MASK, noise=ops.GaussianNoise(STD))


def references(**settings):
    settings = {"count": 39, "steps": 8, "seed": salted(0), **settings}
    return ti.fit_reference(settings.pop("operator", OPERATOR), PRIOR, **settings)


def of_the_prior(count, seed):
    return PRIOR.draw(count, seed=10**6 + salted(seed))


def measured(x, std=STD, seed=1):
    return ops.Mask(MASK, noise=ops.GaussianNoise(std)).measure(x, seed=salted(seed))


# The p-value.


def test_false_alarms_come_at_the_level_whatever_the_statistics():
    """Few rows, columns that depend on each other, of heavy tails, with ties and constants."""
    p_values, families = [], [[slice(0, 4), slice(4, 5)], [slice(5, 9)]]
    for k in range(250):
        values = normal(("dependent", salted(k)), (20, 9)).cumsum(1) ** 3
        values[:, 2], values[:, 6] = values[:, 2].round(), 1.0
        p_values.append(judge(values, families).p_value)
    found = torch.tensor(p_values)
    for level in (0.05, 0.25):
        expected = 250 * level
        alarms = int((found <= level + 1e-9).sum())
        assert abs(alarms - expected) < 4.5 * math.sqrt(expected * (1 - level))


def test_one_odd_row_is_found_however_odd():
    values = normal(("odd", salted(0)), (40, 6)).double()
    for size in (8.0, 1e12):
        values[0, 3] = size
        found = judge(values, [[slice(0, 2)], [slice(2, 6)]])
        assert found.p_value == found.p_values[1] == 1 / 40
        assert int(found.deviations.abs().argmax()) == 3
        # The other family does not hear of it.
        values[0, 3] = 0.0
        assert judge(values, [[slice(0, 2)], [slice(2, 6)]]).p_values[0] == found.p_values[0]


def test_deviations_are_those_from_all_others():
    values = normal(("others", salted(0)), (70, 3)).double()
    others = values[torch.arange(70) != 66]
    expected = (values[66] - others.mean(0)) / (others.std(0) * math.sqrt(1 + 1 / 69))
    torch.testing.assert_close(held_to_others(values)[66], expected)
    equal = torch.ones(5, 2).double()
    assert held_to_others(equal).eq(0).all()
    equal[0, 1] = 2
    assert float(held_to_others(equal)[0, 1]) > 1e6


# What is looked at.


@pytest.mark.parametrize(
    ("shape", "axes"), [((3, 16, 16), 2), ((2, 16), 1), ((16,), 1), ((1, 1), 0)]
)
def test_bands_hold_all_energy_but_the_mean_and_blocks_all_places(shape, axes):
    layout, x = Layout.of(shape), normal(("layout", salted(0)), (2, *shape)).double()
    assert len(layout.axes) == axes
    places = torch.bincount(layout.block.flatten())
    torch.testing.assert_close(
        layout.in_blocks(x) @ places.double() / places.sum(), x.flatten(1).mean(1)
    )
    if axes:
        count = torch.bincount(layout.band.flatten() + 1)
        centred = x - x.mean(layout.axes, keepdim=True)
        energy = layout.in_bands(x) @ count[1:].double() / layout.band.numel()
        torch.testing.assert_close(energy, centred.square().flatten(1).mean(1))
        wave = torch.cos(math.pi * torch.arange(16.0)).double().expand(1, *shape)
        assert layout.bands[int(layout.in_bands(wave).argmax())] == "high"


@pytest.mark.parametrize(
    "operator",
    [
        ops.Greyscale((3, 8, 8), noise=ops.GaussianNoise(0.1)),
        ops.FourierSampling(torch.ones(8, 8), noise=ops.GaussianNoise(0.1)),
        ops.MatrixOperator(torch.eye(5), noise=ops.GaussianNoise(0.1)),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_every_statistic_has_a_name_and_a_finite_number(operator):
    size = math.prod(operator.domain_shape)
    prior = ti.priors.Gaussian(torch.zeros(operator.domain_shape), torch.eye(size))
    statistics = Statistics(operator, operator.noise, prior, (0.1, 1.0))
    y = torch.zeros(2, *operator.range_shape)
    for one in statistics(y, torch.zeros(2, 3, *operator.domain_shape)):
        assert one.values.shape == (2, len(one.names))
        assert one.values.isfinite().all()


# The alarm.


@pytest.fixture(scope="module")
def reference():
    return references()


def test_measurements_of_the_prior_pass(reference):
    """Of twenty, more than seven alarms would be as rare as z = 5 with one set of references."""
    found = reference.check_each(measured(of_the_prior(20, 0)))
    assert sum(not report.passed for report in found) <= 7
    assert "could have made" in found[0].verdict or "ALARM" in str(found[0])


@pytest.mark.parametrize(
    ("y", "family"),
    [
        (measured(of_the_prior(1, 1)[0], std=2 * STD), "residual"),
        (measured(of_the_prior(1, 2)[0], std=STD / 3), "residual"),
        (measured(3 * of_the_prior(1, 3)[0]), "image"),
        (measured(torch.where(MASK.cumsum(-1) > 6, 6.0, of_the_prior(1, 4)[0])), "measurement"),
    ],
    ids=["noise told too low", "noise told too high", "other units", "an object"],
)
def test_what_does_not_fit_is_an_alarm(reference, y, family):
    report = reference.check(y)
    assert not report.passed
    assert report.p_values[family] <= 0.05
    assert report.worst[0].name in report.verdict
    assert report.worst[0].meaning in str(report)


def test_a_denoiser_that_is_off_is_seen_in_its_residuals():
    """A network at the wrong noise level: D(x, 3 sigma) of this prior is that of one of C / 9."""
    told = ti.priors.Gaussian(PRIOR.mean, power_spectrum=SPECTRUM / SPECTRUM.mean() / 9)
    found = ti.fit_reference(OPERATOR, told, count=39, steps=8, seed=salted(0))
    report = found.check(measured(of_the_prior(1, 5)[0]))
    assert not report.passed
    assert report.p_values["denoiser"] <= 0.05


def test_images_of_the_user_are_what_is_held_against():
    """A prior that does not fit at all: measurements like those of the images pass."""
    images = 3 * of_the_prior(45, 6) + 5
    own = references(images=images[:40], count=None)
    assert own.count == 40
    assert "images that were given" in repr(own)
    assert sum(not one.passed for one in own.check_each(measured(images[40:]))) <= 3
    assert not own.check(measured(of_the_prior(1, 7)[0])).passed


# The file, and the call.


def test_references_are_kept_and_added_to(tmp_path, reference, monkeypatch):
    file = tmp_path / "fit.safetensors"
    references(count=20, file=file)
    grown = references(file=file)
    torch.testing.assert_close(grown.values, reference.values, rtol=1e-9, atol=1e-9)
    y = measured(of_the_prior(1, 8)[0])
    assert grown.check(y).p_value == reference.check(y).p_value
    with pytest.raises(ValueError, match=r"other settings .*num_samples: 2 there, 3"):
        references(file=file, num_samples=3)
    walk, calls = Solving.__call__, []
    monkeypatch.setattr(Solving, "__call__", lambda *given: calls.append(1) or walk(*given))
    given = {"count": 39, "steps": 8, "seed": salted(0), "file": file}
    assert ti.check_fit(y, OPERATOR, PRIOR, **given).p_value == grown.check(y).p_value
    assert len(calls) == 2  # that of y, twice
    file.write_bytes(b"no references")
    with pytest.raises(ValueError, match="no safetensors file"):
        references(file=file)


def test_an_image_is_drawn_once(monkeypatch):
    """A network's sampler is asked for each of the references, and for none a second time."""
    drawn, own = [], Truths._drawn
    monkeypatch.setattr(
        Truths, "_drawn", lambda self, numbers: drawn.extend(numbers) or own(self, numbers)
    )
    references(count=19, steps=1)
    assert sorted(drawn) == list(range(19))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 18}, "19 references or more, got 18"),
        ({"count": 39, "level": 0.01}, r"needs 99 references or more, there are 39"),
        ({"images": torch.zeros(30, *SHAPE), "count": 31}, "there are 30 images"),
        ({"images": torch.zeros(5, *SHAPE)}, "19 references or more, got 5"),
        ({"images": torch.full((30, *SHAPE), torch.nan)}, "NaN"),
        ({"images": torch.ones(30, *SHAPE)}, "all of one value"),
        ({"y": torch.zeros(2, *SHAPE)}, "one measurement, got 2"),
        ({"y": torch.zeros(3)}, "measurements of shape"),
        ({"operator": ops.Mask(MASK)}, "noise level is unknown"),
    ],
    ids=str,
)
def test_what_cannot_be_judged_is_refused_before_a_walk(settings, message, monkeypatch):
    monkeypatch.setattr(Solving, "__call__", lambda *given: pytest.fail("a walk began"))
    settings = dict(settings)
    y, operator = settings.pop("y", torch.zeros(SHAPE)), settings.pop("operator", OPERATOR)
    with pytest.raises(ValueError, match=message):
        ti.check_fit(y, operator, PRIOR, **settings)


FILE = """
import torch
from tweedie_inverse import operators as ops
operator = ops.Mask(torch.ones(1, 12, 12), noise=ops.GaussianNoise(0.3))
"""


def test_the_command_ends_with_its_own_code(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tweedie_inverse.priors.zoo.load_prior", lambda name, **settings: PRIOR)
    x = of_the_prior(1, 9)
    np.save("odd.npy", (4 * x).numpy())
    start = ["check-fit", "odd.npy", "--operator", "mine.py:operator", "--prior", "any"]
    with pytest.raises(SystemExit) as ended:
        main([*start, "--count", "19", "--steps", "4", "--samples", "1"])
    assert ended.value.code == FAILED
    assert "check of fit: ALARM" in capsys.readouterr().out
    assert (tmp_path / "fit-references.safetensors").is_file()


def test_numbers_that_are_the_same_in_all_references_say_nothing():
    """Their mean is off by rounding, which must not count as a spread."""
    values = normal(("same",), (60, 6))
    values[:, 2] = 0.1
    values[:, 4] = 0.0
    found = judge(values, [[slice(0, 3), slice(3, 6)]])
    assert found.deviations.isfinite().all()
    assert found.p_value > 0
