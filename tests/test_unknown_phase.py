"""A smooth phase that is drawn with each sample: phase and image have their joint law."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.test_blind_blur import z_scores
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators.unknown_phase import Turned

SIDE, STD = 8, 0.1
SIZE = (SIDE, SIDE)
SPECTRUM = 0.5 * random_field(SIDE).covariance.variance
MAGNITUDES = ti.priors.Gaussian(
    torch.ones(1, *SIZE).double(), power_spectrum=SPECTRUM.reshape(SIZE)
)
PRIOR = ti.priors.Complex(MAGNITUDES, imaginary=0.15, width=1.0)
_COILS = torch.complex(normal((7,), (2, *SIZE)), normal((8,), (2, *SIZE)))
COILS = _COILS / _COILS.abs().square().sum(0).sqrt()
SCAN = ops.FourierSampling(ops.cartesian_mask(SIZE, 2), coils=COILS, noise=ops.GaussianNoise(STD))
UNKNOWN = ops.UnknownPhase(SCAN, degree=1, spread=1.0)


def simulated(count):
    """Images without their phase, phases, and measurements, all from the model."""
    mean, covariance = PRIOR.moments()
    images = mean + covariance.colour(normal(("images",), (count, *PRIOR.shape)))
    numbers = normal(("numbers",), (count, 3))
    numbers[:, 0] = 2 * math.pi * torch.special.ndtr(numbers[:, 0])
    phases = UNKNOWN.prior.maps(numbers)
    seen = [UNKNOWN.at(phase=one).forward(x[None]) for one, x in zip(phases, images, strict=True)]
    noise = STD * normal(("noise",), (count, *SCAN.range_shape))
    return images, phases, (torch.cat(seen) + noise) * SCAN.observed


@pytest.mark.parametrize("count", [25, pytest.param(100, marks=pytest.mark.slow)])
def test_truths_rank_among_the_samples_as_samples_do(count):
    """Of the phase, and of the image: a phase that is taken as known leaves its error out."""
    images, truths, y = simulated(count)
    few = ti.walks.UnknownInstrument(operator_moves=3, first_moves=8)
    found = ti.solve(y, UNKNOWN, PRIOR, num_samples=8, steps=3, method=few)
    assert found.stats.denoiser_calls == 3
    samples = found.parameters["phase"].samples
    assert samples.shape == (count, 8, *SIZE)
    # The constant is one of a circle.
    off = torch.polar(torch.ones_like(samples), samples - truths[:, None]).angle()
    zero = torch.zeros(count).double()
    whole, true = UNKNOWN.turned(found.samples, samples), UNKNOWN.turned(images, truths)
    asked = {
        "corner": (off[..., 0, 0], zero),
        "middle": (off[..., 4, 4], zero),
        "slope": (off[..., 4, 7] - off[..., 4, 0], zero),
        "magnitude": (whole[..., 3, 4].norm(dim=-1), true[..., 3, 4].norm(dim=-1)),
        "pixel": (whole[..., 0, 2, 5], true[..., 0, 2, 5]),
    }
    for name, (drawn, truth) in asked.items():
        assert max(map(abs, z_scores(drawn.double(), truth))) < 5, name
    # The data tell: to a twentieth of what is left open beforehand.
    assert float(off.std(1).mean()) < 0.1


def test_a_phase_of_many_turns_is_found():
    prior = ops.UnknownPhase(ops.FourierSampling(torch.ones(48, 40)), degree=3).prior
    assert prior.basis.shape == (10, 48, 40)
    numbers = normal((1,), (10,))
    numbers[1] = 6.0  # 12 radians at the edges, 2 turns to both sides
    image = torch.polar(0.5 + normal((2,), (48, 40)).square(), prior.maps(numbers))
    assert float((prior.fitted(image) - numbers).abs().max()) < 1e-6
    blank = prior.fitted(torch.zeros(48, 40, dtype=torch.complex64))
    assert not bool(blank.any())


def test_turned_operators_are_those_of_the_turned_image():
    phases = normal((3,), (2, *SIZE))
    x = normal((4,), (2, 2, *SIZE))
    both = Turned(SCAN, phases)
    single = torch.cat(
        [UNKNOWN.at(phase=p).forward(one[None]) for p, one in zip(phases, x, strict=True)]
    )
    torch.testing.assert_close(both.forward(x), single)
    whole = ti.as_complex(x) * torch.polar(torch.ones_like(phases), phases)
    torch.testing.assert_close(ti.as_complex(UNKNOWN.turned(x, phases)), whole)
    known = UNKNOWN.at(phase=phases[0])
    assert ops.adjoint_error(known) < 1e-12
    assert known.noise is SCAN.noise
    torch.testing.assert_close(known.normal(x), known.adjoint(known.forward(x)))


def test_a_sample_depends_on_no_other_and_is_kept(tmp_path):
    _, _, y = simulated(2)
    unknown = ops.UnknownPhase(SCAN, degree=2, spread=1.0)  # of 6 numbers
    settings = {"prior": PRIOR, "steps": 2, "noise": "estimate"}
    settings["method"] = ti.walks.UnknownInstrument(operator_moves=1, first_moves=4)
    both = ti.solve(y, unknown, num_samples=2, **settings)
    alone = ti.solve(y[0], unknown, num_samples=1, **settings)
    phase = both.parameters["phase"]
    assert torch.allclose(phase.samples[0, :1], alone.parameters["phase"].samples, atol=1e-6)
    assert phase.trace.shape == (2, 2, 2, *SIZE)
    assert phase.r_hat.shape == phase.is_told.shape == (2, *SIZE)
    assert bool(phase.is_told.all())
    assert both.noise.std.shape == (2, 2)
    assert both.instrument.start.shape == (2, 2, 4, 7)
    both.save(tmp_path / "both.safetensors")
    again = ti.Posterior.load(tmp_path / "both.safetensors")
    assert torch.equal(again.parameters["phase"].samples, phase.samples)
    assert len(phase.plot(index=1, truth=torch.zeros(SIZE)).axes) == 7  # 5 pictures, 2 scales


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.UnknownPhase("scan"), "a linear operator"),
        (lambda: ops.UnknownPhase(ops.Mask(torch.ones(1, 8, 8))), "complex images"),
        (lambda: ops.UnknownPhase(UNKNOWN), "without unknown numbers"),
        (lambda: ops.UnknownPhase(SCAN, degree=-1), "degree"),
        (lambda: ops.UnknownPhase(SCAN, degree=20), "at most 64"),
        (lambda: ops.UnknownPhase(SCAN, spread=0), "spread"),
        (lambda: UNKNOWN.at(phase=torch.zeros(3, 3)), r"one number or shape \(8, 8\)"),
        (lambda: UNKNOWN.turned(torch.zeros(2, 8, 8), torch.zeros(8, 7)), "phases of shape"),
        (lambda: UNKNOWN.forward(torch.zeros(1, 2, 8, 8)), r"at\(phase=...\)"),
    ],
)
def test_wrong_settings_are_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
