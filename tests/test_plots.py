"""Pictures of posteriors show images of any range of values."""

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.test_posterior import STATS, posterior
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.plots import plot_problem


def shown(figure):
    """(title, what was drawn) of every panel with a picture."""
    return {axis.get_title(): axis.get_images()[0] for axis in figure.axes if axis.get_images()}


@pytest.mark.parametrize("offset", [-40.0, 0.0, 1000.0])
def test_truth_samples_and_mean_share_the_range_of_their_values(offset):
    answer = posterior(offset + normal((1,), (3, 1, 8, 8)))
    truth = offset + 6 * normal((2,), (1, 8, 8))
    images = torch.cat([answer.samples, truth[None]])
    expected = float(images.min()), float(images.max())
    for title, drawn in shown(answer.plot(truth=truth)).items():
        if title.startswith(("truth", "sample", "posterior mean")):
            assert drawn.get_clim() == pytest.approx(expected)


def test_colours_are_scaled_from_the_range_of_the_data():
    """Before, values outside [0, 1] were clipped: of these, all would have been black or white."""
    samples = -10 + 4 * normal((1,), (3, 3, 8, 8)).sigmoid()
    low, high = float(samples.min()), float(samples.max())
    drawn = shown(posterior(samples).plot())["posterior mean"].get_array()
    expected = (samples.mean(0) - low) / (high - low)
    torch.testing.assert_close(
        torch.as_tensor(drawn).double(), expected.permute(1, 2, 0), rtol=0, atol=1e-5
    )


def test_a_constant_image_can_be_drawn():
    for channels in (1, 3):
        posterior(torch.full((2, channels, 4, 4), 7.0)).plot()


def test_a_guess_does_not_stretch_the_range(tmp_path):
    """A pseudo-inverse may be a thousand times larger than the image behind it."""
    answer = posterior(normal((1,), (3, 1, 8, 8)))
    figure = plot_problem(
        answer.summary,
        tmp_path / "a.png",
        truth=answer.mean,
        measurement=-5 + 9 * normal((2,), (3, 4, 4)).sigmoid(),
        first_guess=1000 * answer.mean,
        title="",
    )
    expected = float(answer.samples.min()), float(answer.samples.max())
    panels = shown(figure)
    for title in ("truth", "pseudo-inverse", "sample 1", "posterior mean"):
        drawn = next(drawn for name, drawn in panels.items() if name.startswith(title))
        assert drawn.get_clim() == pytest.approx(expected)
    colours = panels["measurement"].get_array()
    assert float(colours.min()) == pytest.approx(0, abs=1e-5)
    assert float(colours.max()) == pytest.approx(1, abs=1e-5)


def solved(prior, operator, truth, **options):
    y = operator.measure(truth, seed=1)
    return y, ti.solve(y, operator, prior, num_samples=4, steps=3, **options)


def test_measurement_truth_and_interval_stand_beside_the_samples():
    """Any batch member, with its own data; PSNR in the prior's range, by hand."""
    prior, shape = random_field(16), (1, 16, 16)
    prior.value_range, prior.units = (-3.0, 3.0), "HU"
    mask = ops.Mask(ops.random_mask(shape, 0.5), noise=ops.GaussianNoise(0.2))
    x = prior.draw(2, seed=1)
    y, answer = solved(prior, mask, x)
    figure = answer.plot(measurement=y, truth=x, index=1)
    panels = shown(figure)
    expected = 10 * torch.log10(36 / (answer.mean[1] - x[1]).square().mean())
    assert f"posterior mean, {float(expected):.1f} dB" in panels
    drawn = torch.as_tensor(panels["measurement"].get_array()).double()
    torch.testing.assert_close(drawn, y[1, 0], rtol=0, atol=1e-6)
    lower, upper = answer.interval(0.9)
    (title,) = (name for name in panels if name.startswith("width of 90 % interval"))
    inside = ((x >= lower) & (x <= upper))[1].double().mean()
    assert title.endswith(f"holds {100 * float(inside):.0f} %")
    width = torch.as_tensor(panels[title].get_array()).double()
    torch.testing.assert_close(width, (upper - lower)[1, 0], rtol=0, atol=1e-5)
    assert panels["truth"].get_clim() == (-3, 3)
    labels = {axis.get_xlabel() for part in figure.axes for axis in part.child_axes}
    assert labels == {"HU", ""}
    for given in (y[1], y.numpy()):
        again = shown(answer.plot(measurement=given, index=1))["measurement"].get_array()
        torch.testing.assert_close(torch.as_tensor(again).double(), y[1, 0], rtol=0, atol=1e-6)
    with pytest.raises(IndexError, match=r"posterior\[2\]"):
        answer.plot(index=2)


def test_a_range_that_hardly_holds_the_values_is_not_used():
    prior = random_field(16)
    prior.value_range = (100.0, 101.0)
    mask = ops.Mask(torch.ones(1, 16, 16), noise=ops.GaussianNoise(0.2))
    with pytest.warns(ti.PosteriorWarning, match="outside the prior's value range"):
        _, answer = solved(prior, mask, prior.draw(1, seed=1)[0])
    low, high = shown(answer.plot())["posterior mean"].get_clim()
    drawn = torch.cat([answer.samples[:3], answer.mean[None]])  # what the panels show
    assert (low, high) == pytest.approx((float(drawn.min()), float(drawn.max())))


def test_complex_images_have_magnitude_and_phase():
    spectrum = random_field(16).covariance.variance
    mean = torch.stack([torch.ones(16, 16), torch.zeros(16, 16)]).double()
    prior = ti.priors.Gaussian(mean, power_spectrum=spectrum.reshape(16, 16))
    scanner = ops.FourierSampling(ops.radial_mask((16, 16), 8), noise=ops.GaussianNoise(0.05))
    x = prior.draw(1, seed=1)[0]
    y, answer = solved(prior, scanner, x)
    figure = answer.plot(measurement=y, truth=x)
    drawn = [(axis.get_title(), axis.get_images()[0]) for axis in figure.axes if axis.get_images()]
    value = torch.complex(*x.unbind(0))
    arrays = {title: torch.as_tensor(image.get_array()).double() for title, image in drawn[::-1]}
    torch.testing.assert_close(arrays["truth"], value.abs(), rtol=0, atol=1e-5)
    torch.testing.assert_close(arrays["phase"], value.angle(), rtol=0, atol=1e-5)
    assert [title for title, _ in drawn].count("phase") == 5
    seen = torch.complex(*y.unbind(0)).abs()
    data = arrays["measurement, log10 |y|"]
    torch.testing.assert_close(data[seen > 0], seen[seen > 0].log10(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(12,), (8, 8), (2, 8, 8), (4, 8, 8), (1, 3, 8, 8), (3, 3, 8, 8)])
def test_images_of_any_shape_are_drawn_in_their_notebook(shape):
    """Vectors, planes, complex images, other channels, volumes: with no global state touched."""
    import matplotlib.pyplot as plt

    answer = posterior_of(normal((1,), (3, *shape)))
    figure = answer.plot(truth=answer.mean)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def posterior_of(samples):
    """One measurement, whatever the shape of its images."""
    diagnostics = Diagnostics(torch.ones(len(samples)), torch.tensor(float(len(samples))))
    return ti.Posterior(samples, diagnostics, STATS)
